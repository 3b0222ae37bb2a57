/* The XDP program: parse, judge the source, find the node, answer floods, find the CPU.
 *
 * Only packets to served ports and VIPs are judged; everything else (other ports, ARP, ICMP but for errors about a VIP's packets, what cannot be
 * read) passes,
 * so that no rule from the control plane can lock an operator out. Only IP that contradicts itself is dropped for any port. */
#include "balance.h"
#include "flood.h"
#include "parse.h"
#include "source.h"
#include "spread.h"
#include "verdict.h"

INLINE int bad_flags(__u8 flags)
{
	if ((flags & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK)) == 0)
		return 1;
	return (flags & TCP_SYN) && (flags & (TCP_FIN | TCP_RST));
}

INLINE struct vip *find_vip(struct packet *p, struct cfg *c)
{
	if (!(c->flags & CFG_VIPS))
		return NULL;
	struct vip_key key = { .port = p->target_port, .protocol = p->protocol };
	__builtin_memcpy(key.address, p->target, 16);
	return bpf_map_lookup_elem(&vips, &key);
}

INLINE int judge(struct xdp_md *ctx, struct packet *p, struct cfg *c)
{
	struct port_key key = { .port = p->target_port, .protocol = p->protocol };
	struct vip *vip = find_vip(p, c);
	if (!vip && (p->quoted || !bpf_map_lookup_elem(&ports, &key)))
		return pass(p, REASON_NOT_OURS);
	/* An error about a packet is not judged: who sends it is no client. */
	if (!p->quoted && p->protocol == IPPROTO_TCP && bad_flags(p->tcp_flags))
		return drop(ctx, p, c, REASON_FLAGS);
	if (!p->quoted && spoofed(p))
		return drop(ctx, p, c, REASON_SPOOFED);
	if (!p->hop && !p->quoted) {
		/* The node that got it has judged it. */
		if ((c->flags & CFG_DENY) && denied(p))
			return drop(ctx, p, c, REASON_DENIED);
		if (c->flags & CFG_RATE) {
			__u32 reason = limited(p, c);
			if (reason)
				return drop(ctx, p, c, reason);
		}
	}
	if (vip) {
		int verdict = balance(ctx, p, c, vip);
		if (verdict != BALANCE_HERE)
			return verdict;
	}
	if (p->quoted)
		return pass(p, REASON_NOT_OURS);
	if (c->flags & CFG_COOKIES) {
		int verdict = flood(ctx, p, c);
		if (verdict != FLOOD_GO_ON)
			return verdict;
	}
	return spread(p, c);
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct cfg *c = bpf_map_lookup_elem(&cfg, &zero);
	if (!c)
		return XDP_PASS;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct packet p = {};
	p.bytes = end - data;
	switch (parse(&p, data, end)) {
	case PARSED_FLOW:
		p.hop = data + sizeof(struct ethhdr) <= end ? hop_of(data) : 0;
		return judge(ctx, &p, c);
	case PARSED_FRAGMENT:
		if ((c->flags & CFG_DENY) && denied(&p))
			return drop(ctx, &p, c, REASON_DENIED);
		return pass(&p, REASON_FRAGMENT);
	case PARSED_BAD:
		return drop(ctx, &p, c, p.reason);
	default:
		return pass(&p, REASON_NOT_OURS);
	}
}

char _license[] SEC("license") = "GPL";
