//! The origin in a Worker's place (`passThroughOnException`): a request whose handler failed before a response began goes to
//! its URL's own host, as if there were no Worker.
//!
//! [`Passage`] stands between the client's exchange and the outbound one: each sees of it what it would see of a Worker.
//!
//! **Never a loop.** A request does not pass to a host under the platform's own domain, behind which there is no origin; nor
//! when it bears our name in `CDN-Loop` (RFC 8586), so that two nodes do not send it to and fro; nor to an address of this
//! machine on the node's own port (`outbound::policy`). Then, and when the origin gives no response, the client gets the
//! answer it would have got without.
//!
//! *Bounds:* bodies go through a [`Link`] each way.

use crate::cell::{Delivery, FetchDelivery, Response, keep_waker, wake};
use crate::link::{Link, SendBody};
use crate::outbound::{self, FetchRequest};
use crate::shard::Shard;
use base::header::HeaderBlock;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Waker};
use worker_api::event::{Event, Failure, FetchId, IncomingBody, RequestHead};

/// What RFC 8586 calls the name of this network.
const CDN_NAME: &str = "selvage";
const CDN_LOOP: &[u8] = b"cdn-loop";

/// A request on its way to the origin, and the response on its way back.
pub(crate) struct Passage {
    state: RefCell<State>,
    /// How the Worker failed.
    why: Failure,
}

#[derive(Default)]
struct State {
    // For the client's exchange.
    response: Option<Response>,
    body_to: Option<Rc<Link>>,
    failed: bool,
    client: Option<Waker>,
    // For the outbound one.
    response_to: Option<Rc<Link>>,
    cancelled: bool,
    outbound: Option<Waker>,
}

/// Sends a request to its origin; none where it must not go.
pub(crate) fn pass(shard: &Rc<Shard>, head: &RequestHead, why: Failure) -> Option<Rc<Passage>> {
    if has_passed(&head.headers) || shard.is_platform_host(&head.url) {
        return None;
    }
    let mut headers = head.headers.clone();
    headers.push(CDN_LOOP, CDN_NAME.as_bytes());
    let length = head.headers.get(b"content-length").and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    let mut state = State::default();
    let body = match &head.body {
        IncomingBody::Empty | IncomingBody::Socket => SendBody::Empty,
        IncomingBody::Full(bytes) => SendBody::Full(bytes.clone()),
        IncomingBody::Stream => {
            let link = Link::new();
            state.body_to = Some(link.clone());
            SendBody::Link { link, length, bytes_max: u64::MAX }
        }
    };
    let passage = Rc::new(Passage { state: RefCell::new(state), why });
    shard.metrics.passed_through.add(1);
    let request = FetchRequest { fetch: FetchId(0), method: head.method.clone(), url: head.url.clone(), headers, body };
    outbound::pass(shard, &passage, request);
    Some(passage)
}

/// Whether this request came from a node of ours.
fn has_passed(headers: &HeaderBlock) -> bool {
    let names = |value: &[u8]| {
        let value = String::from_utf8_lossy(value).into_owned();
        value.split(',').any(|item| item.split(';').next().is_some_and(|name| name.trim() == CDN_NAME))
    };
    headers.iter().any(|(name, value)| name.eq_ignore_ascii_case(CDN_LOOP) && names(value))
}

/// The client's side.
impl Passage {
    pub(crate) fn take(&self) -> Delivery {
        let mut state = self.state.borrow_mut();
        Delivery {
            response: state.response.take(),
            body_to: state.body_to.take(),
            failure: std::mem::take(&mut state.failed).then_some(self.why),
            ..Delivery::default()
        }
    }

    pub(crate) fn send(&self, event: Event) {
        let mut state = self.state.borrow_mut();
        match event {
            Event::ClientGone { .. } => state.cancelled = true,
            _ => return,
        }
        wake(&mut state.outbound);
    }

    pub(crate) fn wait(&self, cx: &Context<'_>) {
        keep_waker(&mut self.state.borrow_mut().client, cx);
    }
}

/// The origin's side.
impl Passage {
    pub(crate) fn take_fetch(&self) -> FetchDelivery {
        let mut state = self.state.borrow_mut();
        FetchDelivery { body_to: state.response_to.take(), cancelled: state.cancelled, ..FetchDelivery::default() }
    }

    pub(crate) fn answer(&self, event: Event) {
        let mut state = self.state.borrow_mut();
        match event {
            Event::FetchResponse { status, headers, body, .. } => {
                let body = match body {
                    IncomingBody::Empty | IncomingBody::Socket => SendBody::Empty,
                    IncomingBody::Full(bytes) => SendBody::Full(bytes),
                    IncomingBody::Stream => {
                        let length = headers.get(b"content-length");
                        let length = length.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
                        let link = Link::new();
                        state.response_to = Some(link.clone());
                        SendBody::Link { link, length, bytes_max: u64::MAX }
                    }
                };
                state.response = Some(Response { status, headers, body });
            }
            Event::FetchFailed { .. } => state.failed = true,
            _ => return,
        }
        wake(&mut state.client);
    }

    pub(crate) fn wait_fetch(&self, cx: &Context<'_>) {
        keep_waker(&mut self.state.borrow_mut().outbound, cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_has_passed_is_known() {
        let check = |value: &str| has_passed(&[(&b"CDN-Loop"[..], value.as_bytes())].into_iter().collect());
        assert!(check("selvage") && check("other, selvage; v=1") && check(" selvage ;x"));
        assert!(!check("selvages") && !check("other") && !check("other; selvage"));
        assert!(!has_passed(&[(&b"X"[..], &b"selvage"[..])].into_iter().collect()));
    }
}
