//! The WebSocket protocol (RFC 6455) without input and output: bytes in, messages out, and back.
//!
//! Owns frames, masks, fragments, UTF-8 as it comes, close codes, and the digest of the opening handshake. Does not own sockets,
//! time, the order of a closing handshake or HTTP's half of an opening one (`h1::upgrade`). Extensions are not spoken: a reserved
//! bit is a breach.
//!
//! *Invariants:* the same bytes give the same messages and the same breach however they are split; nothing here panics on bytes
//! from outside; a length that a peer claims costs no memory before its bytes come. *Bounds:* a message,
//! [`WEBSOCKET_MESSAGE_BYTES_MAX`](base::limits::WEBSOCKET_MESSAGE_BYTES_MAX); a control frame, 125 bytes.
//! *Failures:* a peer's fault is a [`Breach`] with the close code that RFC 6455 §7.4.1 names for it.
//! *Thread:* any; no state is shared.

#![forbid(unsafe_code)]

mod close;
mod decoder;
mod frame;
mod key;

pub use close::{CLOSE_REASON_BYTES_MAX, CloseCode, is_close_code};
pub use decoder::{Decoder, Incoming};
pub use frame::{FRAME_HEAD_BYTES_MAX, FrameHead, Opcode, Role, push_close, push_frame};
pub use key::{accept, is_key, nonce};

/// A peer's breach of the protocol: the connection fails with this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breach {
    /// For the close frame.
    pub code: CloseCode,
    /// What it was.
    pub text: &'static str,
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text)
    }
}

impl std::error::Error for Breach {}
