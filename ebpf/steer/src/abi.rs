//! Twins of the structures in `ebpf/programs/bpf/abi.h`. Sizes and offsets are asserted here, and a test compares names, sizes
//! and offsets with the BTF of the object that is loaded.
//!
//! Ports and addresses are in network order, IPv4 as ::ffff:a.b.c.d except in [`Deny4Key`]; times in nanoseconds of
//! CLOCK_MONOTONIC.

use aya::Pod;

/// Slots of the indirection table.
pub const SLOTS: usize = 256;
/// CPUs that a flow can be steered to.
pub const CPUS_MAX: usize = 64;
/// Entries of `reals`; the first is nobody.
pub const REALS_MAX: usize = 4096;
/// Maglev tables.
pub const POOLS_MAX: usize = 16;
/// Buckets of a Maglev table.
pub const BUCKETS: usize = 65_537;
/// Nodes of a bucket: now, and before each of the last changes.
pub const OWNERS: usize = 4;
const _: () = assert!(OWNERS == plane_abi::steering::CHANGES_MAX + 1);
/// Served ports.
pub const PORTS_MAX: usize = 64;
/// Listening sockets of a group.
pub const SEATS_MAX: usize = 256;
/// Kinds of outcome.
pub const REASONS: usize = 64;
/// Version of the layouts and of what the programs mean by them: pinned maps of another are not used.
pub const ABI: u32 = 1;

/// `cfg.flags`: spread flows over CPUs.
pub const CFG_STEER: u32 = 1;
/// Limit sources.
pub const CFG_RATE: u32 = 2;
/// Answer floods with SYN cookies.
pub const CFG_COOKIES: u32 = 4;
/// Look at the deny list.
pub const CFG_DENY: u32 = 8;
/// Look at the VIPs.
pub const CFG_VIPS: u32 = 16;
/// A QUIC connection id begins with its slot.
pub const CFG_QUIC: u32 = 32;

/// Declares a twin: fields with their offsets, and the size.
macro_rules! twin {
    ($(#[$doc:meta])* $name:ident = $c:literal, $size:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty = $at:literal,)+ }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)+ }

        const _: () = assert!(size_of::<$name>() == $size);
        $(const _: () = assert!(std::mem::offset_of!($name, $field) == $at);)+
        // All bytes belong to fields: nothing uninitialised goes to the kernel.
        const _: () = assert!($size == 0 $(+ size_of::<$type>())+);

        // SAFETY: `Pod` wants a type that can be copied byte for byte to the kernel and made from any bytes of it: `repr(C)`, whole
        // numbers and arrays of them only, and no padding, as asserted above.
        #[allow(unsafe_code)]
        unsafe impl Pod for $name {}

        impl $name {
            /// Name in C, size, and fields with their offsets: for the comparison with BTF.
            pub const LAYOUT: Layout = ($c, $size, &[$((stringify!($field), $at),)+]);
        }
    };
}

/// Name, size, fields.
pub type Layout = (&'static str, usize, &'static [(&'static str, usize)]);

twin! {
    /// The one entry of `cfg`.
    Cfg = "cfg", 44 {
        /// `CFG_*`.
        flags: u32 = 0,
        /// A drop is reported if a random number has none of these bits.
        sample_mask: u32 = 4,
        /// Chooses slots.
        flow_seed: u32 = 8,
        /// Chooses buckets; one for all nodes.
        balance_seed: u32 = 12,
        /// Of one source; 0 for no limit.
        packets_per_s: u32 = 16,
        /// At once.
        packets_burst: u32 = 20,
        /// Of one source; 0 for no limit.
        connections_per_s: u32 = 24,
        /// At once.
        connections_burst: u32 = 28,
        /// Of one CPU.
        syn_per_s: u32 = 32,
        /// This node's number in forwarded frames.
        node: u16 = 36,
        /// This interface's hardware address.
        mac: [u8; 6] = 38,
    }
}
twin! {
    /// A slot of the indirection table.
    Slot = "slot", 8 {
        /// Of flows that begin now.
        cpu: u32 = 0,
        /// Of flows that began before it first moved.
        origin: u32 = 4,
    }
}
twin! {
    /// What came through a slot, on one CPU.
    SlotLoad = "slot_load", 16 {
        /// Packets.
        packets: u64 = 0,
        /// TCP connections begun.
        flows: u64 = 8,
    }
}
twin! {
    /// Key of `deny4`, as aya's LPM key has it.
    Deny4Key = "deny4_key", 8 {
        /// How many bits count.
        prefix_bits: u32 = 0,
        /// The address.
        address: [u8; 4] = 4,
    }
}
twin! {
    /// Key of `deny6`.
    Deny6Key = "deny6_key", 20 {
        /// How many bits count.
        prefix_bits: u32 = 0,
        /// The address.
        address: [u8; 16] = 4,
    }
}
twin! {
    /// Value of both.
    Deny = "deny", 16 {
        /// 0 for never.
        expires_ns: u64 = 0,
        /// The operator's own number.
        reason: u32 = 8,
        /// Zero.
        zero: u32 = 12,
    }
}
twin! {
    /// Key of `rate`.
    Source = "source", 16 {
        /// The lower half is zero for IPv6.
        address: [u8; 16] = 0,
    }
}
twin! {
    /// Value of `rate`.
    BucketLevel = "bucket_level", 16 {
        /// When the bucket of packets will be empty.
        packets_ns: u64 = 0,
        /// When the bucket of connections will be empty.
        connections_ns: u64 = 8,
    }
}
twin! {
    /// Key of `ports`.
    PortKey = "port_key", 4 {
        /// Network order.
        port: u16 = 0,
        /// 6 or 17.
        protocol: u16 = 2,
    }
}
twin! {
    /// Key of `vips`.
    VipKey = "vip_key", 20 {
        /// The address.
        address: [u8; 16] = 0,
        /// Network order.
        port: u16 = 16,
        /// 6 or 17.
        protocol: u16 = 18,
    }
}
twin! {
    /// Value of `vips`.
    Vip = "vip", 8 {
        /// Its Maglev table.
        pool: u32 = 0,
        /// Zero.
        zero: u32 = 4,
    }
}
twin! {
    /// A bucket of a Maglev table.
    Bucket = "bucket", 8 {
        /// Indices into `reals`: who serves it, then who did before each of the last changes, newest first, each once; 0 ends them.
        nodes: [u16; OWNERS] = 0,
    }
}
twin! {
    /// A node.
    Real = "real", 8 {
        /// Its hardware address.
        mac: [u8; 6] = 0,
        /// 1 for this node.
        here: u16 = 6,
    }
}
twin! {
    /// What became of packets, on one CPU.
    Tally = "tally", 16 {
        /// Packets.
        packets: u64 = 0,
        /// Bytes of their frames.
        bytes: u64 = 8,
    }
}
twin! {
    /// One CPU's window of SYNs.
    Window = "window", 16 {
        /// When it began.
        began_ns: u64 = 0,
        /// SYNs in it.
        syns: u32 = 8,
        /// Windows left in which SYNs are answered with cookies.
        flood_until: u32 = 12,
    }
}
twin! {
    /// A sampled drop.
    DropEvent = "drop_event", 56 {
        /// When.
        time_ns: u64 = 0,
        /// From.
        source: [u8; 16] = 8,
        /// To.
        target: [u8; 16] = 24,
        /// Network order.
        source_port: u16 = 40,
        /// Network order.
        target_port: u16 = 42,
        /// Why.
        reason: u16 = 44,
        /// IP protocol.
        protocol: u8 = 46,
        /// 4, 6 or 0.
        family: u8 = 47,
        /// Of the frame.
        bytes: u32 = 48,
        /// Index of the interface.
        interface: u32 = 52,
    }
}
twin! {
    /// What the program of the sockets did, on one CPU.
    AcceptTally = "accept_tally", 32 {
        /// To the socket of this CPU.
        here: u64 = 0,
        /// This CPU has no socket.
        elsewhere: u64 = 8,
        /// Taken over from a socket that closed.
        migrated: u64 = 16,
        /// Left to the kernel.
        none: u64 = 24,
    }
}

/// The layouts of the XDP object.
pub const STEER_LAYOUTS: &[Layout] = &[
    Cfg::LAYOUT,
    Slot::LAYOUT,
    SlotLoad::LAYOUT,
    Deny4Key::LAYOUT,
    Deny6Key::LAYOUT,
    Deny::LAYOUT,
    Source::LAYOUT,
    BucketLevel::LAYOUT,
    PortKey::LAYOUT,
    VipKey::LAYOUT,
    Vip::LAYOUT,
    Bucket::LAYOUT,
    Real::LAYOUT,
    Tally::LAYOUT,
    Window::LAYOUT,
    DropEvent::LAYOUT,
];

/// The layouts of the sockets' object.
pub const ACCEPT_LAYOUTS: &[Layout] = &[AcceptTally::LAYOUT];
