//! Load generator, peers and promises: everything behind `cargo xtask load-test` and `cargo xtask bench NAME`.
//!
//! *Invariant:* sends to loopback only (see [`load::target`]); names no crate of the node or the control plane except
//! in the `h1` bench and the program `selvage-cycles`, and drives both through their processes and sockets.

#![forbid(unsafe_code)]

pub mod checkout;
pub mod client;
pub mod command;
pub mod counter;
mod http1;
pub mod load;
pub mod machine;
mod origin;
pub mod peers;
pub mod process;
pub mod report;
pub mod stack;
