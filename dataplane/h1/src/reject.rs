//! Why a request's head is refused, and the status that says so.

use std::fmt;

/// A request that is answered with an error and ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// 400: not HTTP, or HTTP that two readers would read differently. The text is for logs and for the peer.
    Malformed(&'static str),
    /// 408: the head or the body did not come in time.
    Timeout,
    /// 413: the body is longer than the limit.
    BodyTooLarge,
    /// 414: the request target is longer than the limit.
    TargetTooLong,
    /// 417: an expectation other than `100-continue`.
    Expectation,
    /// 431: the head is longer than the limit or has too many fields.
    HeadTooLarge,
    /// 501: a method or transfer coding that this server does not have.
    NotImplemented(&'static str),
    /// 505: a version other than 1.0 and 1.1.
    Version,
}

impl Reject {
    /// Status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Reject::Malformed(_) => 400,
            Reject::Timeout => 408,
            Reject::BodyTooLarge => 413,
            Reject::TargetTooLong => 414,
            Reject::Expectation => 417,
            Reject::HeadTooLarge => 431,
            Reject::NotImplemented(_) => 501,
            Reject::Version => 505,
        }
    }

    /// One sentence for the body of the answer.
    pub fn text(self) -> &'static str {
        match self {
            Reject::Malformed(why) | Reject::NotImplemented(why) => why,
            Reject::Timeout => "the request did not arrive in time",
            Reject::BodyTooLarge => "the request body is too large",
            Reject::TargetTooLong => "the request target is too long",
            Reject::Expectation => "the expectation is not supported",
            Reject::HeadTooLarge => "the request head is too large",
            Reject::Version => "only HTTP/1.0 and HTTP/1.1 are supported",
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status(), self.text())
    }
}

impl std::error::Error for Reject {}
