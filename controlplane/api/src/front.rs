//! What clients reach, whichever process they ask: the API where this process leads, else the way to the one that does.
//!
//! A request that comes while nobody leads waits for who will, for at most `WAIT`. One that was handed on and got no answer
//! may have been done: it is 504, and not tried again. *Invariant:* a request is handed on once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use model::code;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tower::ServiceExt;

use crate::error::ApiError;

/// A request waits for a leader; longer than it takes to replace one.
const WAIT: Duration = Duration::from_secs(10);
/// Reaching the leader.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// After a leader that could not be reached, or without one, unless something changes earlier.
const AGAIN: Duration = Duration::from_millis(100);
/// Marks what one of our processes has handed on.
const FORWARDED: HeaderName = HeaderName::from_static("selvage-forwarded");

const _: () = assert!(WAIT.as_millis() > 2 * crate::election::PATIENCE.as_millis());

/// This process's part.
#[derive(Clone)]
pub(crate) enum Part {
    /// It leads: this answers.
    Leads(Router),
    /// Another leads, at this address; or nobody that is known.
    Follows(Option<Arc<str>>),
}

/// Answers for every process. Clones are the same.
#[derive(Clone)]
pub struct Front(Arc<watch::Sender<Part>>);

impl Front {
    pub(crate) fn new() -> Front {
        Front(Arc::new(watch::Sender::new(Part::Follows(None))))
    }

    pub(crate) fn set(&self, part: Part) {
        self.0.send_replace(part);
    }

    /// What to serve.
    pub fn router(&self) -> Router {
        let front = self.clone();
        let answer = tower::service_fn(move |request| {
            let front = front.clone();
            async move { Ok::<_, Infallible>(front.answer(request).await) }
        });
        Router::new().fallback_service(answer)
    }

    async fn answer(&self, request: Request) -> Response {
        let mut part = self.0.subscribe();
        let deadline = Instant::now() + WAIT;
        loop {
            let now = part.borrow_and_update().clone();
            match now {
                Part::Leads(router) => return router.oneshot(request).await.into_response(),
                // The process answers, whoever leads.
                Part::Follows(_) if request.uri().path() == "/healthz" => return "ok\n".into_response(),
                Part::Follows(Some(leader)) if !request.headers().contains_key(FORWARDED) => {
                    if let Ok(Ok(sender)) = timeout(CONNECT_TIMEOUT, connect(&leader)).await {
                        return hand_on(request, sender).await;
                    }
                }
                // Who handed it on took this process for the leader.
                Part::Follows(_) => {}
            }
            if Instant::now() >= deadline {
                return ApiError::try_again("no control plane leads just now").into_response();
            }
            // An error: this process is stopping, and the deadline ends the loop.
            let _ = timeout(AGAIN, part.changed()).await;
        }
    }
}

async fn connect(leader: &str) -> std::io::Result<SendRequest<Body>> {
    let stream = TcpStream::connect(leader).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    // Its errors are the request's too.
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok(sender)
}

/// The same request to the leader, and its answer as it comes.
async fn hand_on(mut request: Request, mut sender: SendRequest<Body>) -> Response {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    request.headers_mut().insert(FORWARDED, HeaderValue::from_static("1"));
    let mut response = match sender.send_request(request).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(%error, "the leader did not answer");
            let message = "the control plane that leads did not answer; it may still be done";
            return ApiError::new(StatusCode::GATEWAY_TIMEOUT, code::TRY_AGAIN, message).into_response();
        }
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = upgrade
    {
        let leader = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let (Ok(client), Ok(leader)) = (client.await, leader.await) {
                // However it ends, both ends are closed then.
                let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(leader)).await;
            }
        });
    }
    response.map(Body::new)
}
