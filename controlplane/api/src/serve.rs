//! The HTTP/1.1 server of the API: accepts, bounds what a slow or idle peer can hold, and stops gracefully.
//!
//! *Bounds:* `CONNECTIONS_MAX` connections (the next waits in the kernel's queue), `HEAD_TIMEOUT` for a request's head and
//! between requests, `DRAIN_TIMEOUT` from the order to stop to the last connection's end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use crate::auth::Peer;

/// Open connections.
const CONNECTIONS_MAX: usize = 1024;
/// The head of a request, from the connection's start or the end of the request before.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// From the order to stop to the last connection's end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// After an `accept` that failed (no descriptors left, say).
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// All of a request's head, bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Stops the service when told to. Clones are the same order.
#[derive(Clone)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Default for Shutdown {
    fn default() -> Shutdown {
        Shutdown::new()
    }
}

impl Shutdown {
    /// An order that is not given yet.
    pub fn new() -> Shutdown {
        Shutdown(Arc::new(watch::Sender::new(false)))
    }

    /// Gives the order.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }
}

/// Serves until the order to stop, then lets requests that have begun end, and returns.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = stopping(shutdown.watch()) => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let (stream, peer, slot) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let router = router.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer);
            router.clone().oneshot(request)
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let stop = shutdown.watch();
        tokio::spawn(async move {
            let _slot = slot;
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stopping(stop) => {
                    // An exchange that has begun is finished; a connection without one is closed.
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "connection");
            }
        });
    }
    drop(listener);
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    if tokio::time::timeout(DRAIN_TIMEOUT, slots.acquire_many(all)).await.is_err() {
        tracing::warn!("connections were cut off");
    }
}

/// Resolves when the order to stop is given.
pub(crate) async fn stopping(mut stop: watch::Receiver<bool>) {
    // An error: whoever could give the order is gone, which ends the service too.
    let _ = stop.wait_for(|stopping| *stopping).await;
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, Peer, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((stream, Peer(address.ip()), slot))
}
