//! Loads the eBPF programs of crate `programs`, attaches them, and is the only writer of their maps.
//!
//! | module | owns |
//! |---|---|
//! | [`xdp`] | the program at an interface: attached in the driver, else at the stack's door, else not at all, with a plain reason |
//! | [`accept`] | the program of a group of listening sockets |
//! | [`rules`] | a snapshot's rules in the kernel's terms, complete before anything is written |
//! | [`maglev`] | which node serves which bucket |
//! | [`slots`] | which slots move when CPUs are unequally loaded |
//! | [`abi`] | the maps' layouts, compared with the objects' own by a test |
//! | [`report`] | what happened, by reason and CPU |
//! | [`Wire`] | the far end of a veth pair, for tests |
//!
//! *Invariants:* rules are checked whole before the first write. Nothing here reads a packet. Names of maps and files are
//! constants. *Bounds:* those of `abi`. *Failures:* typed; the caller goes on serving without steering.
//! *Threads:* everything may be used from one thread at a time; calls into the kernel, some of which take milliseconds (a Maglev
//! table is 65,537 writes).

#![deny(unsafe_code)]

pub mod abi;
pub mod accept;
pub mod interface;
pub mod maglev;
pub mod report;
pub mod rules;
pub mod slots;
mod takers;
mod wire;
pub mod xdp;

pub use accept::Acceptor;
pub use report::{Mode, Report};
pub use wire::Wire;
pub use xdp::{Config, Steering, Unavailable};
