//! What clients reach, whichever process they ask: the API where this process leads, else the way to the one that does.
//!
//! A request that comes while nobody leads waits for who will, for at most `WAIT`. One that was handed on and got no answer
//! may have been done: it is 504, and not tried again. *Invariants:* a request is handed on once; who handed it on says which
//! address it came from, sealed with the key that all our processes have, and nobody else is believed.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
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
use plane_abi::seal::{self, Key};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tower::ServiceExt;

use crate::auth::Peer;
use crate::error::ApiError;

/// A request waits for a leader; longer than it takes to replace one.
const WAIT: Duration = Duration::from_secs(10);
/// Reaching the leader.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// After a leader that could not be reached, or without one, unless something changes earlier.
const AGAIN: Duration = Duration::from_millis(100);
/// Marks what one of our processes has handed on: the client's address, sealed.
const FORWARDED: HeaderName = HeaderName::from_static("selvage-forwarded");
/// What the address is sealed for.
const FORWARDED_FOR: &[u8] = b"selvage forwarded for";

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
pub struct Front {
    part: Arc<watch::Sender<Part>>,
    key: Key,
}

impl Front {
    /// `key` is one that all processes of the store have, and nobody else.
    pub(crate) fn new(key: Key) -> Front {
        Front { part: Arc::new(watch::Sender::new(Part::Follows(None))), key }
    }

    pub(crate) fn set(&self, part: Part) {
        self.part.send_replace(part);
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

    async fn answer(&self, mut request: Request) -> Response {
        if let Some(client) = request.headers().get(FORWARDED).and_then(|value| unsealed(&self.key, value)) {
            request.extensions_mut().insert(client);
        }
        let mut part = self.part.subscribe();
        let deadline = Instant::now() + WAIT;
        loop {
            let now = part.borrow_and_update().clone();
            match now {
                Part::Leads(router) => return router.oneshot(request).await.into_response(),
                // The process answers, whoever leads.
                Part::Follows(_) if request.uri().path() == "/healthz" => return "ok\n".into_response(),
                Part::Follows(Some(leader)) if !request.headers().contains_key(FORWARDED) => {
                    if let Ok(Ok(sender)) = timeout(CONNECT_TIMEOUT, connect(&leader)).await {
                        return hand_on(request, sender, &self.key).await;
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

fn sealed(key: &Key, client: Option<&Peer>) -> HeaderValue {
    let address = client.map_or(Ipv6Addr::UNSPECIFIED, |client| match client.0 {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    });
    let text = hex::encode(seal::seal_deterministic(key, FORWARDED_FOR, &address.octets()));
    HeaderValue::from_str(&text).expect("hex digits are visible ASCII")
}

/// None for what none of our processes has sealed.
fn unsealed(key: &Key, value: &HeaderValue) -> Option<Peer> {
    let opened = seal::open(key, FORWARDED_FOR, &hex::decode(value.as_bytes()).ok()?).ok()?;
    let octets: [u8; 16] = opened.try_into().ok()?;
    Some(Peer(IpAddr::from(octets).to_canonical()))
}

/// The same request to the leader, and its answer as it comes.
async fn hand_on(mut request: Request, mut sender: SendRequest<Body>, key: &Key) -> Response {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let client = sealed(key, request.extensions().get::<Peer>());
    request.headers_mut().insert(FORWARDED, client);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_believed_of_our_own_processes_alone() {
        let (ours, theirs) = (Key::from_bytes([1; 32]), Key::from_bytes([2; 32]));
        for text in ["192.0.2.7", "2001:db8::7"] {
            let address: IpAddr = text.parse().expect("an address");
            let value = sealed(&ours, Some(&Peer(address)));
            assert_eq!(unsealed(&ours, &value).map(|peer| peer.0), Some(address));
            assert!(unsealed(&theirs, &value).is_none());
        }
        for text in ["", "1", "c0000207", "192.0.2.7"] {
            assert!(unsealed(&ours, &HeaderValue::from_static(text)).is_none(), "{text:?}");
        }
    }
}
