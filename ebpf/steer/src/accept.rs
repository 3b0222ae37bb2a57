//! The program of a group of listening sockets (SO_REUSEPORT): a connection goes to the socket of the CPU that its packet is
//! on.
//!
//! A group has one program. A new node's [`Acceptor`] replaces the old one's: from that moment connections go to the new node's
//! sockets, while those that wait at the old ones are taken from there, or taken over when they close.

use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{Array, MapData, PerCpuArray, ReusePortSockArray};
use aya::programs::SkReuseport;
use aya::{Ebpf, EbpfLoader};

use crate::abi::{AcceptTally, SEATS_MAX};
use crate::xdp::{Unavailable, chain};

/// The program of one group of sockets. It stays in force when this is dropped, until the sockets are closed.
pub struct Acceptor {
    _program: Ebpf,
    tallies: PerCpuArray<MapData, AcceptTally>,
}

impl Acceptor {
    /// Attaches the program to the group of `sockets`. Each comes with the CPU of its shard; where that is none, or a packet's CPU has
    /// no shard, connections are spread by their hash.
    pub fn attach<S: AsFd + AsRawFd>(sockets: &[(S, Option<u32>)]) -> Result<Acceptor, Unavailable> {
        let object = programs::ACCEPT.map_err(Unavailable::NotBuilt)?;
        let refused = |error: &dyn std::error::Error| Unavailable::Load(chain(error));
        let mut program = EbpfLoader::new().load(object).map_err(|error| refused(&error))?;
        let map = |program: &mut Ebpf, name: &'static str| {
            program.take_map(name).ok_or(Unavailable::Map(name, "is not in the object".to_owned()))
        };
        let wrong = |name: &'static str| move |error: aya::maps::MapError| Unavailable::Map(name, chain(&error));
        let mut socks: ReusePortSockArray<MapData> = map(&mut program, "socks")?.try_into().map_err(wrong("socks"))?;
        let mut seats: Array<MapData, u32> = map(&mut program, "seats")?.try_into().map_err(wrong("seats"))?;
        let tallies = map(&mut program, "accepted")?.try_into().map_err(wrong("accepted"))?;
        for (index, (socket, cpu)) in sockets.iter().enumerate().take(SEATS_MAX) {
            socks.set(index as u32, socket, 0).map_err(wrong("socks"))?;
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
        Ok(Acceptor { _program: program, tallies })
    }

    /// By CPU: given to its socket, to another, taken over from a socket that closed, left to the kernel.
    pub fn tallies(&self) -> Vec<[u64; 4]> {
        let values = self.tallies.get(&0, 0).ok();
        let one = |tally: &AcceptTally| [tally.here, tally.elsewhere, tally.migrated, tally.none];
        values.map_or_else(Vec::new, |values| values.iter().map(one).collect())
    }
}
