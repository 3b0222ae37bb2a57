//! Outbound `fetch`: one task per request, over HTTP/1.1 or, where the origin speaks it over TLS, HTTP/2. Connections are pooled by
//! origin, those that a shard does not want for a moment for all shards of the node.
//!
//! Owns names, addresses, TLS, the pool and the exchange with the origin. Does not own what the Worker makes of it, nor
//! redirects, which are the Worker's.
//!
//! *Bounds:* time to connect, time to a response head, stalls; idle connections per origin and in all; names resolved.
//! *Failures:* each ends its request with a text for the tenant; none ends the Worker.

mod dns;
mod exchange;
mod h2;
mod h2_exchange;
mod policy;
mod pool;
mod shelf;
mod stream;
mod target;
mod tls;
mod tls_socket;
mod websocket;

pub(crate) use shelf::Shelf;
pub(crate) use stream::OriginStream;
pub(crate) use tls::{Tls, client_config};

use crate::cell::{FetchDelivery, WorkerCell};
use crate::config::POOL_IDLE_PER_ORIGIN_MAX;
use crate::link::SendBody;
use crate::origin::Passage;
use crate::shard::{Common, Shard};
use base::header::HeaderBlock;
use dns::Names;
use futures_lite::FutureExt;
use pool::Pool;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use stream::Origin;
use worker_api::event::{Event, FetchId, MonotonicNs};

/// An outbound request as the Worker asked for it.
pub(crate) struct FetchRequest {
    pub(crate) fetch: FetchId,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: HeaderBlock,
    pub(crate) body: SendBody,
}

/// A shard's outbound side.
pub(crate) struct Outbound {
    pub(crate) pool: Pool,
    shelf: Arc<Shelf>,
    h2: h2::Connections,
    pub(crate) names: Names,
    pub(crate) tls: Tls,
    pub(crate) allow_private: bool,
}

impl Outbound {
    pub(crate) fn new(common: &Common) -> Outbound {
        Outbound {
            pool: Pool::new(),
            shelf: common.shelf.clone(),
            h2: h2::Connections::default(),
            names: Names::default(),
            tls: common.tls.clone(),
            allow_private: common.config.allow_private_fetch,
        }
    }

    /// Forgets names and closes idle connections whose time is up.
    pub(crate) fn sweep(&self, shard: &Shard) {
        let now_ns = shard.clock.now_ns();
        self.names.sweep(now_ns);
        self.pool.sweep(now_ns);
        self.h2.sweep(now_ns);
        let (connections, idle) = self.h2.count();
        shard.metrics.fetch_connections_h2.set(connections as u64);
        shard.metrics.fetch_connections_idle.set((self.pool.len() + idle) as u64);
        // One shard speaks for the node.
        if shard.index == 0 {
            self.shelf.sweep(now_ns);
            if let Some(len) = self.shelf.len() {
                shard.metrics.fetch_connections_shelved.set(len as u64);
            }
        }
    }

    /// Gives connections to the other shards that this one has not wanted for a moment. Called at each tick.
    pub(crate) fn share(&self, shard: &Shard, now_ns: MonotonicNs) {
        shard.metrics.fetch_connections_given.add(self.pool.share(&self.shelf, now_ns));
    }

    /// Takes a connection that any shard of the node may take.
    fn adopt(&self, shard: &Shard, origin: &Origin) -> Option<OriginStream> {
        for _ in 0..POOL_IDLE_PER_ORIGIN_MAX {
            if let Some(stream) = self.shelf.take(origin)?.adopt() {
                shard.metrics.fetch_connections_adopted.add(1);
                return Some(stream);
            }
        }
        None
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
        let upload = if let SendBody::Link { link, .. } = &request.body { Some(link.clone()) } else { None };
        let run = async {
            match &asker {
                Asker::Worker(cell, _) if h1::upgrade::names_websocket(&request.headers) => {
                    websocket::run(&shard, cell, request).await
                }
                _ => exchange::run(&shard, &asker, request).await,
            }
        };
        match AssertUnwindSafe(run).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(FetchError(message))) => {
                shard.metrics.fetch_failures.add(1);
                asker.tell(&shard, Event::FetchFailed { fetch, message });
            }
            Err(panic) => shard.after_panic(panic.as_ref()),
        }
        // Nobody at the other end of a link waits for what will not come.
        if let Some(link) = upload {
            link.leave();
        }
        if let Some(link) = asker.take().body_to {
            link.end(Err("the response is over".to_owned()));
        }
        if let Asker::Worker(cell, fetch) = asker {
            cell.detach_fetch(fetch);
        }
    })
    .detach();
}
