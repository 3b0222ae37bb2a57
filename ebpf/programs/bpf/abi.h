/* The keys and values of every map that user space reads or writes. `ebpf/steer/src/abi.rs` has their twins, and a test
 * compares those with this object's BTF. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d; ports and addresses are in
 * network order; times are of CLOCK_MONOTONIC, in nanoseconds. */
#pragma once

#include "kernel.h"

#define SLOTS 256        /* of the indirection table */
#define CPUS_MAX 64      /* of the cpumap */
#define DENY_MAX 262144  /* prefixes, for each family */
#define RATE_MAX 262144  /* sources remembered */
#define FLOWS_MAX 65536  /* flows of slots that moved, remembered */
#define PORTS_MAX 64     /* served ports */
#define VIPS_MAX 512
#define POOLS_MAX 16     /* Maglev tables, two for each VIP group: one in use, one being written */
#define BUCKETS 65537    /* of a Maglev table; prime */
#define REALS_MAX 4096
#define OWNERS 4         /* of a bucket: now, and before each of the last changes */
#define SEATS_MAX 256
#define REASONS 64

/* What became of a packet. Below REASON_DROP it went on. */
enum reason {
	REASON_NOT_OURS = 0,
	REASON_HERE = 1,       /* its CPU is this one */
	REASON_STEERED = 2,    /* to another CPU */
	REASON_FORWARDED = 3,  /* to the node that its bucket names */
	REASON_CHAINED = 4,    /* to the node that its bucket named before */
	REASON_COOKIE = 5,     /* answered with a SYN cookie */
	REASON_FRAGMENT = 6,   /* passed: no ports to tell whose it is */
	REASON_COOKIE_GOOD = 7,/* an answer to a cookie, passed on */

	REASON_DROP = 16,
	REASON_TRUNCATED = 16, /* a header that the frame does not hold whole */
	REASON_LENGTH = 17,    /* a length that contradicts another */
	REASON_HEADER = 18,    /* a version, header length or chain of headers that cannot be */
	REASON_FLAGS = 19,     /* TCP flags that no stack sends */
	REASON_SPOOFED = 20,   /* a source that cannot be */
	REASON_DENIED = 21,
	REASON_RATE_PACKETS = 22,
	REASON_RATE_CONNECTIONS = 23,
	REASON_COOKIE_BAD = 24,
	REASON_NO_NODE = 25,   /* a VIP whose table is empty */
};

#define CFG_STEER 1    /* spread flows over CPUs */
#define CFG_RATE 2     /* limit sources */
#define CFG_COOKIES 4  /* answer with SYN cookies when a CPU sees more than syn_per_s */
#define CFG_DENY 8
#define CFG_VIPS 16
#define CFG_QUIC 32    /* a short header's connection id begins with its slot */

struct cfg {
	__u32 flags;
	__u32 sample_mask;      /* a drop is reported if a random number has none of these bits */
	__u32 flow_seed;        /* of this node: chooses slots */
	__u32 balance_seed;     /* of the fleet: chooses buckets; the same on every node */
	__u32 packets_per_s;    /* a source's; 0 for no limit */
	__u32 packets_burst;
	__u32 connections_per_s;
	__u32 connections_burst;
	__u32 syn_per_s;        /* a CPU's, beyond which SYNs are answered with cookies */
	__u16 node;             /* this node's number in forwarded frames */
	__u8 mac[6];
};

struct slot {
	__u32 cpu;    /* of flows that begin now */
	__u32 origin; /* of flows that began before the slot first moved */
};

struct slot_load {
	__u64 packets;
	__u64 flows;
};

struct deny4_key {
	__u32 prefix_bits;
	__u8 address[4];
};

struct deny6_key {
	__u32 prefix_bits;
	__u8 address[16];
};

struct deny {
	__u64 expires_ns; /* 0 for never */
	__u32 reason;     /* the operator's own number */
	__u32 zero;
};

struct source {
	__u8 address[16]; /* the lower half is zero for IPv6 */
};

struct bucket_level {
	__u64 packets_ns; /* time by which the bucket would be full */
	__u64 connections_ns;
};

struct port_key {
	__u16 port;
	__u16 protocol;
};

struct vip_key {
	__u8 address[16];
	__u16 port;
	__u16 protocol;
};

struct vip {
	__u32 pool; /* its Maglev table */
	__u32 zero;
};

struct bucket {
	__u16 nodes[OWNERS]; /* reals: who serves it, then who did before, newest first, each once; 0 ends them */
};

struct real {
	__u8 mac[6];
	__u16 here; /* this node itself */
};

struct tally {
	__u64 packets;
	__u64 bytes;
};

struct window {
	__u64 began_ns;
	__u32 syns;
	__u32 flood_until; /* windows left in which SYNs are answered with cookies */
};

struct drop_event {
	__u64 time_ns;
	__u8 source[16];
	__u8 target[16];
	__u16 source_port;
	__u16 target_port;
	__u16 reason;
	__u8 protocol;
	__u8 family; /* 4, 6 or 0 */
	__u32 bytes;
	__u32 interface;
};

/* Of the program that picks sockets. */
struct accept_tally {
	__u64 here;     /* to the socket of the CPU that the packet is on */
	__u64 elsewhere;/* that CPU has no socket */
	__u64 migrated; /* taken over from a socket that closed */
	__u64 none;     /* left to the kernel */
};
