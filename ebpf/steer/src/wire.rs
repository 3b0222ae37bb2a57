//! For tests and benches: a veth pair as a network card's wire.

use aya::Ebpf;
use aya::programs::Xdp;
use aya::programs::xdp::XdpMode;

use crate::Unavailable;

/// An end of a veth pair, for as long as this lives, that takes what an XDP program at the other end sends back. An end with no program
/// leaves such frames lying until something else comes.
pub struct Wire {
    _object: Ebpf,
}

impl Wire {
    /// At an interface of this thread's network namespace.
    pub fn new(interface: &str) -> Result<Wire, Unavailable> {
        let refused = |error: &dyn std::fmt::Display| Unavailable::Load(error.to_string());
        let bytes = programs::PASS.map_err(Unavailable::NotBuilt)?;
        let mut object = Ebpf::load(bytes).map_err(|error| refused(&error))?;
        let program = object.program_mut("pass").ok_or_else(|| refused(&"`pass` is not in its object"))?;
        let program: &mut Xdp = program.try_into().map_err(|error| refused(&error))?;
        program.load().map_err(|error| refused(&error))?;
        let attached = program.attach(interface, XdpMode::Driver);
        attached.map_err(|error| Unavailable::Attach(interface.to_owned(), error.to_string()))?;
        Ok(Wire { _object: object })
    }
}
