//! HTTP/1.1 (RFC 9112) without input and output: bytes in, messages out, for a server and for a client.
//!
//! Owns the grammar of heads and bodies, the framing of both directions and the rules for keeping a connection.
//! Does not own sockets, clocks, buffers or the order of things on a connection: its caller does.
//!
//! The parser is `httparse` behind a stricter gate of our own. Everything that two implementations are known to read
//! differently is refused rather than repaired: a bare LF, `Content-Length` beside `Transfer-Encoding`, a repeated
//! `Content-Length`, a transfer coding other than `chunked`, folded lines, white space before a colon, several `Host`
//! fields, control characters.
//!
//! *Invariants:* the same bytes give the same events however they are split; nothing here panics on bytes from
//! outside; what is written never contains a byte that would end a field or a head early.
//! *Bounds:* those of [`base::limits`]: head, fields, target, body, chunk lines.
//! *Failures:* a peer's fault is a [`Reject`] (of a request's head) or an error of its own type; the connection ends.
//! *Thread:* any; no state is shared.

#![forbid(unsafe_code)]

pub mod body;
pub mod client;
pub mod date;
mod field;
mod framing;
pub mod reject;
pub mod request;
pub mod response;
pub mod scan;
pub mod status;
pub mod upgrade;

pub use field::is_hop_by_hop;
pub use framing::Framing;
pub use reject::Reject;
