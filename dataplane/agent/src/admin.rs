//! The admin listener: `GET /healthz`, `/readyz`, `/metrics` over HTTP/1.1 (hyper). For loopback: it asks for no password.
//!
//! Bounds: 32 connections at a time, 5 s for a request's head, 30 s for a connection, no request bodies. Runs on the agent's
//! thread, so `/healthz` answering means that the agent's loop turns.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use plane_abi::wire::Standing;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use crate::{AgentHandle, Hooks};

const CONNECTIONS_MAX: usize = 32;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// What the pages are made of.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) handle: AgentHandle,
    pub(crate) hooks: Hooks,
}

/// Never returns; cancelled at shutdown.
pub(crate) async fn serve(listener: TcpListener, pages: Pages) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let pages = Arc::new(pages);
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let pages = Arc::clone(&pages);
                tokio::spawn(async move {
                    // A client that breaks off is its own affair.
                    let _ = timeout(CONNECTION_TIMEOUT, connection(stream, pages)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept admin connections");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, pages: Arc<Pages>) -> Result<(), hyper::Error> {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = pages.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

impl Pages {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let (status, body) = match path {
            "/healthz" | "/readyz" | "/metrics" if method != Method::GET && method != Method::HEAD => {
                (StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned())
            }
            "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => match self.ready() {
                Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
                Err(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")),
            },
            "/metrics" => (StatusCode::OK, self.metrics()),
            _ => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let kind =
            if path == "/metrics" { "text/plain; version=0.0.4; charset=utf-8" } else { "text/plain; charset=utf-8" };
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        }
        response
    }

    fn ready(&self) -> Result<(), String> {
        if self.handle.plane.current().is_none() {
            return Err("no configuration yet".to_owned());
        }
        match self.handle.plane.standing() {
            Standing::Serving => (self.hooks.ready)(),
            Standing::Cordoned => Err("cordoned".to_owned()),
            Standing::Draining => Err("draining, by the operator".to_owned()),
        }
    }

    fn metrics(&self) -> String {
        let generation = self.handle.plane.current().map_or(0, |published| published.snapshot().generation());
        let mut text = self.handle.status.render(generation, self.handle.logs.dropped());
        text.push_str(&(self.hooks.metrics)());
        text
    }
}
