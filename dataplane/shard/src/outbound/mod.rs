//! Outbound `fetch`: one task per request, connections pooled per shard and origin.
//!
//! Owns names, addresses, TLS, the pool and the exchange with the origin. Does not own what the Worker makes of it, nor
//! redirects, which are the Worker's.
//!
//! *Bounds:* time to connect, time to a response head, stalls; idle connections per origin and in all; names resolved.
//! *Failures:* each ends its request with a text for the tenant; none ends the Worker.

mod dns;
mod exchange;
mod policy;
mod pool;
mod stream;
mod tls;

pub(crate) use tls::client_config;

use crate::cell::{FetchDelivery, WorkerCell};
use crate::origin::Passage;
use crate::shard::{Common, Shard};
use base::header::HeaderBlock;
use dns::Names;
use futures_lite::FutureExt;
use pool::Pool;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::task::Context;
use worker_api::event::{Event, FetchId, OutgoingBody};

/// An outbound request as the Worker asked for it.
pub(crate) struct FetchRequest {
    pub(crate) fetch: FetchId,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: HeaderBlock,
    pub(crate) body: OutgoingBody,
}

/// A shard's outbound side.
pub(crate) struct Outbound {
    pub(crate) pool: Pool,
    pub(crate) names: Names,
    pub(crate) tls: futures_rustls::TlsConnector,
    pub(crate) allow_private: bool,
}

impl Outbound {
    pub(crate) fn new(common: &Common) -> Outbound {
        Outbound {
            pool: Pool::new(),
            names: Names::new(),
            tls: futures_rustls::TlsConnector::from(common.tls.clone()),
            allow_private: common.config.allow_private_fetch,
        }
    }

    /// Forgets names and closes idle connections whose time is up.
    pub(crate) fn sweep(&self, shard: &Shard) {
        let now_ns = shard.clock.now_ns();
        self.names.sweep(now_ns);
        self.pool.sweep(now_ns);
        shard.metrics.fetch_connections_idle.set(self.pool.len() as u64);
    }
}

/// Why an outbound request failed before its response's head; shown to the tenant.
#[derive(Debug)]
pub(crate) struct FetchError(pub(crate) String);

impl From<&str> for FetchError {
    fn from(text: &str) -> FetchError {
        FetchError(text.to_owned())
    }
}

/// Who asked for an outbound request.
pub(crate) enum Asker {
    /// A Worker, with `fetch`.
    Worker(Rc<WorkerCell>, FetchId),
    /// A client whose Worker failed.
    Client(Rc<Passage>),
}

impl Asker {
    fn take(&self) -> FetchDelivery {
        match self {
            Asker::Worker(cell, fetch) => cell.take_fetch(*fetch),
            Asker::Client(passage) => passage.take_fetch(),
        }
    }

    fn tell(&self, shard: &Rc<Shard>, event: Event) {
        match self {
            Asker::Worker(cell, _) => cell.send(shard, event),
            Asker::Client(passage) => passage.answer(event),
        }
    }

    fn wait(&self, cx: &Context<'_>) {
        match self {
            Asker::Worker(cell, fetch) => cell.wait_fetch(*fetch, cx),
            Asker::Client(passage) => passage.wait_fetch(cx),
        }
    }

    /// Whether it may be answered by this very node.
    fn may_come_back(&self) -> bool {
        matches!(self, Asker::Worker(..))
    }
}

/// Carries out an outbound request of a Worker in a task of its own.
pub(crate) fn start(shard: &Rc<Shard>, cell: &Rc<WorkerCell>, request: FetchRequest) {
    spawn(shard, Asker::Worker(cell.clone(), request.fetch), request);
}

/// Carries out a client's own request in its Worker's place.
pub(crate) fn pass(shard: &Rc<Shard>, passage: &Rc<Passage>, request: FetchRequest) {
    spawn(shard, Asker::Client(passage.clone()), request);
}

fn spawn(shard: &Rc<Shard>, asker: Asker, request: FetchRequest) {
    shard.metrics.fetches.add(1);
    let shard = shard.clone();
    glommio::spawn_local(async move {
        // The Worker is told of nothing before this task has waited once: a task runs as soon as it is spawned.
        futures_lite::future::yield_now().await;
        let fetch = request.fetch;
        let run = AssertUnwindSafe(exchange::run(&shard, &asker, request)).catch_unwind();
        match run.await {
            Ok(Ok(())) => {}
            Ok(Err(FetchError(message))) => {
                shard.metrics.fetch_failures.add(1);
                asker.tell(&shard, Event::FetchFailed { fetch, message });
            }
            Err(panic) => shard.after_panic(panic.as_ref()),
        }
        if let Asker::Worker(cell, fetch) = asker {
            cell.detach_fetch(fetch);
        }
    })
    .detach();
}
