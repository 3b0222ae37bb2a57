/* Who sent it: sources that cannot be, the deny list, and the limits of one source. */
#pragma once

#include "maps.h"
#include "parse.h"

#define SECOND_NS 1000000000ull

/* Sources from which no connection can come. Only TCP: a host without an address speaks UDP (DHCP) and ICMPv6. */
INLINE int spoofed(struct packet *p)
{
	if (p->protocol != IPPROTO_TCP)
		return 0;
	if (p->family == 4) {
		__u8 first = p->source[12];
		if (first == 0 || first == 127 || first >= 224)
			return 1;
	} else {
		__u64 *high = (__u64 *)p->source;
		__u32 *low = (__u32 *)(p->source + 8);
		if (p->source[0] == 0xff)
			return 1;
		/* ::, ::1 and IPv4 in disguise */
		if (*high == 0 && (low[0] == htonl(0xffff) || (low[0] == 0 && ntohl(low[1]) <= 1)))
			return 1;
	}
	__u64 *source = (__u64 *)p->source, *target = (__u64 *)p->target;
	return source[0] == target[0] && source[1] == target[1];
}

INLINE int denied(struct packet *p)
{
	struct deny *deny;
	if (p->family == 4) {
		struct deny4_key key = { .prefix_bits = 32 };
		__builtin_memcpy(key.address, p->source + 12, 4);
		deny = bpf_map_lookup_elem(&deny4, &key);
	} else {
		struct deny6_key key = { .prefix_bits = 128 };
		__builtin_memcpy(key.address, p->source, 16);
		deny = bpf_map_lookup_elem(&deny6, &key);
	}
	return deny && (!deny->expires_ns || deny->expires_ns > bpf_ktime_get_ns());
}

/* A leaky bucket as one time (GCRA): `*full_ns` is when it will be empty again; a packet adds `1/per_s`. Two CPUs that
 * update one source at once may lose one of the two: a limit is approximate by that, and costs no lock. */
INLINE int over(__u64 *full_ns, __u64 now, __u32 per_s, __u32 burst)
{
	__u64 cost = SECOND_NS / per_s;
	__u64 level = *full_ns > now ? *full_ns : now;
	if (level + cost > now + cost * burst)
		return 1;
	*full_ns = level + cost;
	return 0;
}

/* The limits of one source, /32 or /64. Gives the reason to drop, or 0. */
INLINE __u32 limited(struct packet *p, struct cfg *c)
{
	struct source source = {};
	__builtin_memcpy(source.address, p->source, 8);
	if (p->family == 4)
		__builtin_memcpy(source.address + 8, p->source + 8, 8);
	struct bucket_level *level = bpf_map_lookup_elem(&rate, &source);
	if (!level) {
		struct bucket_level fresh = {};
		bpf_map_update_elem(&rate, &source, &fresh, BPF_NOEXIST);
		level = bpf_map_lookup_elem(&rate, &source);
		if (!level)
			return 0;
	}
	__u64 now = bpf_ktime_get_ns();
	__u8 syn = p->protocol == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	if (c->packets_per_s && over(&level->packets_ns, now, c->packets_per_s, c->packets_burst))
		return REASON_RATE_PACKETS;
	if (syn && c->connections_per_s && over(&level->connections_ns, now, c->connections_per_s, c->connections_burst))
		return REASON_RATE_CONNECTIONS;
	return 0;
}
