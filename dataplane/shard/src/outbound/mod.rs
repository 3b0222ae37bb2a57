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

use crate::cell::WorkerCell;
use crate::shard::{Common, Shard};
use base::header::HeaderBlock;
use dns::Names;
use futures_lite::FutureExt;
use pool::Pool;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
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

/// Carries out an outbound request in a task of its own.
pub(crate) fn start(shard: &Rc<Shard>, cell: &Rc<WorkerCell>, request: FetchRequest) {
    shard.metrics.fetches.add(1);
    let (shard, cell) = (shard.clone(), cell.clone());
    glommio::spawn_local(async move {
        // The Worker is told of nothing before this task has waited once: a task runs as soon as it is spawned.
        futures_lite::future::yield_now().await;
        let fetch = request.fetch;
        let run = AssertUnwindSafe(exchange::run(&shard, &cell, request)).catch_unwind();
        match run.await {
            Ok(Ok(())) => {}
            Ok(Err(FetchError(message))) => {
                shard.metrics.fetch_failures.add(1);
                cell.send(&shard, Event::FetchFailed { fetch, message });
            }
            Err(panic) => shard.after_panic(panic.as_ref()),
        }
        cell.detach_fetch(fetch);
    })
    .detach();
}
