/* Counting what became of packets, and telling user space of a sample of the drops. */
#pragma once

#include "maps.h"
#include "parse.h"

/* Referred to from nowhere: keeps the event's type in the object's BTF. */
struct drop_event *const drop_event_type __attribute__((used)) = 0;

INLINE void count(struct packet *p, __u32 reason)
{
	struct tally *tally = bpf_map_lookup_elem(&stats, &reason);
	if (tally) {
		tally->packets++;
		tally->bytes += p->bytes;
	}
}

INLINE int pass(struct packet *p, __u32 reason)
{
	count(p, reason);
	return XDP_PASS;
}

INLINE int drop(struct xdp_md *ctx, struct packet *p, struct cfg *c, __u32 reason)
{
	count(p, reason);
	if (bpf_get_prandom_u32() & c->sample_mask)
		return XDP_DROP;
	struct drop_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return XDP_DROP;
	event->time_ns = bpf_ktime_get_ns();
	__builtin_memcpy(event->source, p->source, 16);
	__builtin_memcpy(event->target, p->target, 16);
	event->source_port = p->source_port;
	event->target_port = p->target_port;
	event->reason = reason;
	event->protocol = p->protocol;
	event->family = p->family;
	event->bytes = p->bytes;
	event->interface = ctx->ingress_ifindex;
	/* User space looks at a timer's pace: waking it for each would cost more than the drop. */
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return XDP_DROP;
}
