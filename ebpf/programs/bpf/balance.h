/* One VIP, many nodes. Any node may get a packet; its bucket of the Maglev table names the node that serves it, and those
 * that did before each of the last changes. Frames go on by layer 2, with the sender's address telling how far they came:
 *
 *   02:53:56:HOP:NODE:NODE    HOP 1: to the bucket's node, from whoever got it; HOP n + 1: to the one before HOP n's
 *
 * A packet that a node has no connection for goes on to the node that served its bucket before; the last one keeps it,
 * whatever it finds. Each hop is counted, so OWNERS are the most, whatever tables the nodes hold. Nothing grows, so frames need no larger MTU; the nodes share a
 * layer 2. A frame with such an address from elsewhere cannot come over a router. */
#pragma once

#include "flood.h"
#include "maps.h"
#include "parse.h"
#include "spread.h"
#include "verdict.h"

#define MARK_0 0x02
#define MARK_1 0x53
#define MARK_2 0x56

INLINE __u8 hop_of(struct ethhdr *eth)
{
	__u8 *mac = eth->h_source;
	if (mac[0] != MARK_0 || mac[1] != MARK_1 || mac[2] != MARK_2 || mac[3] > OWNERS)
		return 0;
	return mac[3];
}

INLINE int forward(struct xdp_md *ctx, struct packet *p, struct cfg *c, struct real *real, __u8 hop)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	__u8 source[6] = { MARK_0, MARK_1, MARK_2, hop, c->node >> 8, c->node & 0xff };
	__builtin_memcpy(eth->h_dest, real->mac, 6);
	__builtin_memcpy(eth->h_source, source, 6);
	count(p, hop == 1 ? REASON_FORWARDED : REASON_CHAINED);
	return XDP_TX;
}

/* Whether this node has the connection: its socket, or the cookie that it gave. */
INLINE int known(struct xdp_md *ctx, struct packet *p)
{
	struct bpf_sock *sk = lookup(ctx, p);
	if (!sk)
		return 0;
	if (sk->state != TCP_STATE_LISTEN) {
		bpf_sk_release(sk);
		return 1;
	}
	int answers = 0;
	struct headers h = {};
	__u32 tcp_bytes = tcp_bytes_of(p);
	if (p->plain && tcp_bytes && copy_headers(ctx, p, &h)) {
		__u32 ip_bytes = p->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
		answers = bpf_tcp_check_syncookie(sk, h.ip, ip_bytes, h.tcp, tcp_bytes) == 0;
	}
	bpf_sk_release(sk);
	return answers;
}

/* None for number 0. */
INLINE struct real *real_of(__u32 number)
{
	return number ? bpf_map_lookup_elem(&reals, &number) : NULL;
}

#define BALANCE_HERE (-1)

INLINE int balance(struct xdp_md *ctx, struct packet *p, struct cfg *c, struct vip *vip)
{
	if (p->hop >= OWNERS)
		return BALANCE_HERE;
	__u32 index = vip->pool * BUCKETS + flow_hash(p, c->balance_seed) % BUCKETS;
	struct bucket *bucket = bpf_map_lookup_elem(&buckets, &index);
	if (!bucket || !bucket->nodes[0])
		return drop(ctx, p, c, REASON_NO_NODE);
	struct real *current = real_of(bucket->nodes[0]);
	if (!current)
		return drop(ctx, p, c, REASON_NO_NODE);
	__u8 syn = (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	if (!current->here && p->hop == 0)
		return forward(ctx, p, c, current, 1);
	/* For this node; or sent here by one whose table is another: whoever has the connection keeps it. */
	if (p->protocol != IPPROTO_TCP || syn || (current->here && !bucket->nodes[1]))
		return BALANCE_HERE;
	__u32 hop = p->hop ? p->hop : 1;
	/* By this node's own table it would be the hop's; if it is not, the one that is may know more. */
	struct real *self = real_of(bucket->nodes[(hop - 1) & (OWNERS - 1)]);
	struct real *next = self && !self->here ? self : hop < OWNERS ? real_of(bucket->nodes[hop & (OWNERS - 1)]) : NULL;
	if (!next || next->here || known(ctx, p))
		return BALANCE_HERE;
	return forward(ctx, p, c, next, hop + 1);
}
