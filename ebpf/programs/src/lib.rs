//! The eBPF programs, compiled: bytes of ELF objects, or why there are none.
//!
//! Owns the C sources in `bpf/`, one header a concern; `bpf/abi.h` holds the layouts that user space shares. Does not load
//! anything: crate `steer` does.
//!
//! | object | program | what it does |
//! |---|---|---|
//! | [`STEER`] | `xdp` | reads a frame, judges its source, finds its node (VIPs), answers floods of SYNs, finds its CPU |
//! | [`ACCEPT`] | `sk_reuseport/migrate` | gives a connection to the listening socket of the CPU that its packet is on |
//! | [`PASS`] | `xdp` | nothing: the far end of a veth pair, in tests |

#![forbid(unsafe_code)]

/// An object's bytes, at a multiple of 8 as its reader wants them, or why this build has none.
pub type Object = Result<&'static [u8], &'static str>;

#[repr(C, align(8))]
#[allow(dead_code, reason = "a build without clang has no objects")]
struct Aligned<T: ?Sized>(T);

include!(concat!(env!("OUT_DIR"), "/objects.rs"));
