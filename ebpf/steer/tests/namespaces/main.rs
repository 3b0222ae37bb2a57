//! The programs at real interfaces: veth pairs between network namespaces, which the tests make and remove. Needs root; without it
//! every test says that it was skipped. All traffic stays inside those namespaces and is bounded in count and time.

mod net;
mod restart;
mod share;
mod vip;
