/* Flow -> slot -> CPU. A slot that moves takes only flows that begin after: `flows` remembers those, and the others stay
 * where the slot was before it ever moved. What `flows` forgets is served all the same, by way of another CPU. */
#pragma once

#include "maps.h"
#include "parse.h"
#include "verdict.h"

INLINE __u32 mix(__u32 hash, __u32 word)
{
	hash ^= word;
	hash *= 0xcc9e2d51;
	hash = (hash << 15) | (hash >> 17);
	hash *= 0x1b873593;
	return hash ^ (hash >> 13);
}

INLINE __u32 flow_hash(struct packet *p, __u32 seed)
{
	__u32 *source = (__u32 *)p->source, *target = (__u32 *)p->target;
	__u32 hash = seed;
	if (p->family == 6) {
#pragma unroll
		for (int i = 0; i < 3; i++)
			hash = mix(mix(hash, source[i]), target[i] + i);
	}
	hash = mix(mix(hash, source[3]), target[3]);
	hash = mix(hash, (__u32)p->source_port << 16 | p->target_port);
	hash = mix(hash, p->protocol);
	/* Murmur's finish: every bit of the input reaches every bit of the slot. */
	hash ^= hash >> 16;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	hash *= 0xc2b2ae35;
	return hash ^ (hash >> 16);
}

INLINE int spread(struct packet *p, struct cfg *c)
{
	if (!(c->flags & CFG_STEER))
		return pass(p, REASON_HERE);
	__u32 hash = flow_hash(p, c->flow_seed);
	__u32 index = hash & (SLOTS - 1);
	if (p->quic && (c->flags & CFG_QUIC))
		index = p->quic_slot;
	struct slot *slot = bpf_map_lookup_elem(&indir, &index);
	if (!slot)
		return pass(p, REASON_HERE);
	__u8 begins = p->protocol == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	struct slot_load *load = bpf_map_lookup_elem(&slot_loads, &index);
	if (load) {
		load->packets++;
		load->flows += begins;
	}
	__u32 cpu = slot->cpu;
	if (slot->origin != slot->cpu && p->protocol == IPPROTO_TCP) {
		__u64 flow = (__u64)hash << 32 | flow_hash(p, ~c->flow_seed);
		if (begins) {
			bpf_map_update_elem(&flows, &flow, &cpu, BPF_ANY);
		} else {
			__u32 *began = bpf_map_lookup_elem(&flows, &flow);
			cpu = began ? *began : slot->origin;
		}
	}
	if (cpu == bpf_get_smp_processor_id())
		return pass(p, REASON_HERE);
	/* The flags are the verdict for a CPU that has no queue. */
	long verdict = bpf_redirect_map(&cpus, cpu, XDP_PASS);
	count(p, verdict == XDP_REDIRECT ? REASON_STEERED : REASON_HERE);
	return verdict;
}
