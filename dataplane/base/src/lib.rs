//! Ids, limits and the header block: the words that every other crate of the data plane shares.
//!
//! *Invariant:* depends on no crate of ours and does no input or output; no clocks, no threads.

#![forbid(unsafe_code)]

pub mod header;
pub mod id;
pub mod limits;
pub mod package;
