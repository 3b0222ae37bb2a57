//! What attackers send: shared by the tests here (short forms) and `cargo xtask bench hostile` (the long one).

pub mod requests;
pub mod workers;
