//! The program of a group of listening sockets (SO_REUSEPORT): a connection goes to the socket of the CPU that its packet is
//! on.
//!
//! A group has one program, and a socket can be in one map only. A node that takes another's place takes its sockets, too: where the map is
//! kept on bpffs, its program looks into the same one, and takes the other's place in one step; elsewhere the other [releases](Acceptor::release)
//! the sockets first, and connections are spread by their hash in between. None is lost either way: nothing is closed.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use aya::maps::{Array, MapData, MapError, PerCpuArray, ReusePortSockArray};
use aya::programs::SkReuseport;
use aya::{Ebpf, EbpfLoader};

use crate::abi::{AcceptTally, SEATS_MAX};
use crate::xdp::{Unavailable, chain};

/// The program of one group of sockets. It stays in force when this is dropped, until the sockets are closed.
pub struct Acceptor {
    _program: Ebpf,
    socks: ReusePortSockArray<MapData>,
    kept: bool,
    tallies: PerCpuArray<MapData, AcceptTally>,
}

impl Acceptor {
    /// Attaches the program to the group of `sockets`. Each comes with the CPU of its shard; where that is none, or a packet's CPU has
    /// no shard, connections are spread by their hash. `kept` is a file on bpffs for the map of sockets.
    pub fn attach<S: AsFd + AsRawFd>(
        sockets: &[(S, Option<u32>)],
        kept: Option<&Path>,
    ) -> Result<Acceptor, Unavailable> {
        let object = programs::ACCEPT.map_err(Unavailable::NotBuilt)?;
        let refused = |error: &dyn std::error::Error| Unavailable::Load(chain(error));
        let load = |kept: Option<&Path>| {
            let mut loader = EbpfLoader::new();
            if let Some(kept) = kept {
                loader.map_pin_path("socks", kept);
            }
            loader.load(object)
        };
        let (mut program, kept) = match (load(kept), kept) {
            (Ok(program), kept) => (program, kept.is_some()),
            // What is there may be another build's.
            (Err(_), Some(kept)) => {
                let _ = std::fs::remove_file(kept);
                (load(None).map_err(|error| refused(&error))?, false)
            }
            (Err(error), None) => return Err(refused(&error)),
        };
        let map = |program: &mut Ebpf, name: &'static str| {
            program.take_map(name).ok_or(Unavailable::Map(name, "is not in the object".to_owned()))
        };
        let wrong = |name: &'static str| move |error: aya::maps::MapError| Unavailable::Map(name, chain(&error));
        let mut socks: ReusePortSockArray<MapData> = map(&mut program, "socks")?.try_into().map_err(wrong("socks"))?;
        let mut seats: Array<MapData, u32> = map(&mut program, "seats")?.try_into().map_err(wrong("seats"))?;
        let tallies = map(&mut program, "accepted")?.try_into().map_err(wrong("accepted"))?;
        for (index, (socket, cpu)) in sockets.iter().enumerate().take(SEATS_MAX) {
            match socks.set(index as u32, socket, 0) {
                // The node before put it there.
                Err(MapError::SyscallError(error)) if kept && is_busy(&error.io_error) => {}
                set => set.map_err(wrong("socks"))?,
            }
            if let Some(cpu) = cpu.filter(|cpu| (*cpu as usize) < SEATS_MAX) {
                seats.set(cpu, index as u32 + 1, 0).map_err(wrong("seats"))?;
            }
        }
        seats.set(SEATS_MAX as u32, sockets.len().min(SEATS_MAX) as u32, 0).map_err(wrong("seats"))?;
        let accept: &mut SkReuseport = program
            .program_mut("accept")
            .and_then(|program| program.try_into().ok())
            .ok_or(Unavailable::Map("accept", "is not in the object".to_owned()))?;
        accept.load().map_err(|error| refused(&error))?;
        if let Some((socket, _)) = sockets.first() {
            accept.attach(socket).map_err(|error| refused(&error))?;
        }
        Ok(Acceptor { _program: program, socks, kept, tallies })
    }

    /// Takes the sockets out of a map that is not kept, so that another's program can have them.
    pub fn release(mut self) {
        let indices: Vec<u32> = if self.kept { Vec::new() } else { (0..SEATS_MAX as u32).collect() };
        for index in indices {
            // Most are empty.
            let _ = self.socks.clear_index(&index);
        }
    }

    /// By CPU: given to its socket, to another, taken over from a socket that closed, left to the kernel.
    pub fn tallies(&self) -> Vec<[u64; 4]> {
        let values = self.tallies.get(&0, 0).ok();
        let one = |tally: &AcceptTally| [tally.here, tally.elsewhere, tally.migrated, tally.none];
        values.map_or_else(Vec::new, |values| values.iter().map(one).collect())
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy
}
