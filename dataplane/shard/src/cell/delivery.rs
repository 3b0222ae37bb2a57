//! What lies in the mailbox of a request, or of an outbound one, between two looks at it.

use crate::canned::Canned;
use crate::link::{Link, SendBody};
use base::header::HeaderBlock;
use std::rc::Rc;
use worker_api::event::{BodyEvent, Failure};

/// The head of a Worker's response.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderBlock,
    pub(crate) body: SendBody,
}

/// What has come for a request since the last look.
#[derive(Default)]
pub(crate) struct Delivery {
    pub(crate) response: Option<Response>,
    pub(crate) body: Option<BodyEvent>,
    pub(crate) wants_body: bool,
    /// Its body goes there.
    pub(crate) body_to: Option<Rc<Link>>,
    pub(crate) cancels_body: bool,
    pub(crate) failure: Option<Failure>,
    /// The Worker did not start.
    pub(crate) refused: Option<Canned>,
    /// It failed so, and its origin is to answer.
    pub(crate) pass_through: Option<Failure>,
    /// Name and message of what it threw, for the Worker that called it.
    pub(crate) threw: Option<(String, String)>,
}

impl Delivery {
    pub(crate) fn is_empty(&self) -> bool {
        self.response.is_none()
            && self.body.is_none()
            && self.failure.is_none()
            && self.refused.is_none()
            && self.pass_through.is_none()
            && self.threw.is_none()
            && !self.wants_body
            && self.body_to.is_none()
            && !self.cancels_body
    }
}

/// What has come for an outbound request since the last look.
#[derive(Default)]
pub(crate) struct FetchDelivery {
    pub(crate) upload: Option<BodyEvent>,
    pub(crate) wants_body: bool,
    /// The response's body goes there.
    pub(crate) body_to: Option<Rc<Link>>,
    pub(crate) cancelled: bool,
}
