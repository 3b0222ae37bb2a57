/* SYN cookies under a flood. A CPU that saw more SYNs than `syn_per_s` in a window answers those of the next windows
 * itself, with a cookie of the listening socket's (RFC 4987 §3.6): no memory is kept for who never answers, and the kernel takes the
 * answer. The kernel makes a cookie only while the socket's queue of half-open connections is full, or always with
 * net.ipv4.tcp_syncookies = 2: until then SYNs go to the kernel. Answers that fit no cookie are dropped. Packets with IP options or extension headers go to the kernel. */
#pragma once

#include "maps.h"
#include "parse.h"
#include "verdict.h"

#define WINDOW_NS 100000000ull
#define WINDOWS_PER_S 10
#define FLOOD_WINDOWS 20 /* two seconds without a flood end it */
#define TCP_STATE_LISTEN 10
#define TCP_BYTES_MAX 60
#define SYNACK_BYTES 24 /* a TCP header with the option MSS */

/* Counts a SYN, if it is one; whether this CPU is flooded. */
INLINE int flooded(struct cfg *c, int syn)
{
	__u32 zero = 0;
	struct window *window = bpf_map_lookup_elem(&windows, &zero);
	if (!window)
		return 0;
	if (!syn)
		return window->flood_until > 0;
	__u64 now = bpf_ktime_get_ns();
	__u64 age = now - window->began_ns;
	if (age >= WINDOW_NS) {
		__u64 gone = age / WINDOW_NS;
		window->flood_until = window->flood_until > gone ? window->flood_until - gone : 0;
		window->began_ns = now;
		window->syns = 0;
	}
	window->syns++;
	if (window->syns > c->syn_per_s / WINDOWS_PER_S)
		window->flood_until = FLOOD_WINDOWS;
	return window->flood_until > 0;
}

INLINE struct bpf_sock *lookup(struct xdp_md *ctx, struct packet *p)
{
	struct bpf_sock_tuple tuple = {};
	if (p->family == 4) {
		__builtin_memcpy(&tuple.ipv4.saddr, p->source + 12, 4);
		__builtin_memcpy(&tuple.ipv4.daddr, p->target + 12, 4);
		tuple.ipv4.sport = p->source_port;
		tuple.ipv4.dport = p->target_port;
		return bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	__builtin_memcpy(tuple.ipv6.saddr, p->source, 16);
	__builtin_memcpy(tuple.ipv6.daddr, p->target, 16);
	tuple.ipv6.sport = p->source_port;
	tuple.ipv6.dport = p->target_port;
	return bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
}

struct headers {
	__u8 ip[sizeof(struct ipv6hdr)];
	__u32 tcp[TCP_BYTES_MAX / 4];
};

/* Bytes of the TCP header, between 20 and 60; 0 if it cannot be. The compiler must not compute it again after the
 * comparison: the verifier would not know of it. */
INLINE __u32 tcp_bytes_of(struct packet *p)
{
	__u32 bytes = p->tcp_words * 4u;
	asm volatile("" : "+r"(bytes));
	return bytes < sizeof(struct tcphdr) || bytes > TCP_BYTES_MAX ? 0 : bytes;
}

/* Copies IP and TCP headers out: the helpers want memory of a known size. 0 if the packet does not hold them. */
INLINE int copy_headers(struct xdp_md *ctx, struct packet *p, struct headers *h)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	void *ip = data + (p->l3_at & 63);
	if (p->family == 4) {
		if (ip + sizeof(struct iphdr) + sizeof(struct tcphdr) > end)
			return 0;
		__builtin_memcpy(h->ip, ip, sizeof(struct iphdr));
	} else {
		if (ip + sizeof(struct ipv6hdr) + sizeof(struct tcphdr) > end)
			return 0;
		__builtin_memcpy(h->ip, ip, sizeof(struct ipv6hdr));
	}
	__u32 *tcp = ip + (p->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
	for (int i = 0; i < TCP_BYTES_MAX / 4 && i < p->tcp_words; i++) {
		if ((void *)(tcp + i + 1) > end)
			return 0;
		h->tcp[i] = tcp[i];
	}
	return 1;
}

INLINE __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* The SYN becomes the answer, in place: addresses, ports and MACs change sides. */
INLINE int answer(struct xdp_md *ctx, struct packet *p, __u32 cookie, __u16 mss, __u32 seq)
{
	__u32 ip_bytes = p->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	__u32 l3 = p->l3_at & 63;
	int delta = (int)(l3 + ip_bytes + SYNACK_BYTES) - (int)p->bytes;
	if (bpf_xdp_adjust_tail(ctx, delta))
		return 0;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	void *at = data + l3;
	if ((void *)(eth + 1) > end)
		return 0;
	__u8 mac[6];
	__builtin_memcpy(mac, eth->h_source, 6);
	__builtin_memcpy(eth->h_source, eth->h_dest, 6);
	__builtin_memcpy(eth->h_dest, mac, 6);
	__u64 sum = 0;
	__u32 *tcp;
	__u32 *source = (__u32 *)p->source, *target = (__u32 *)p->target;
	if (p->family == 4) {
		struct iphdr *ip = at;
		tcp = (void *)(ip + 1);
		if ((void *)tcp + SYNACK_BYTES > end)
			return 0;
		__builtin_memcpy(&ip->saddr, p->target + 12, 4);
		__builtin_memcpy(&ip->daddr, p->source + 12, 4);
		ip->tos = 0;
		ip->id = 0;
		ip->frag_off = htons(0x4000);
		ip->ttl = 64;
		ip->tot_len = htons(sizeof(*ip) + SYNACK_BYTES);
		ip->check = 0;
		__u64 head = 0;
#pragma unroll
		for (int i = 0; i < 5; i++)
			head += ((__u32 *)ip)[i];
		ip->check = fold(head);
		sum = (__u64)source[3] + target[3];
	} else {
		struct ipv6hdr *ip = at;
		tcp = (void *)(ip + 1);
		if ((void *)tcp + SYNACK_BYTES > end)
			return 0;
		__builtin_memcpy(&ip->saddr, p->target, 16);
		__builtin_memcpy(&ip->daddr, p->source, 16);
		ip->payload_len = htons(SYNACK_BYTES);
		ip->hop_limit = 64;
#pragma unroll
		for (int i = 0; i < 4; i++)
			sum += (__u64)source[i] + target[i];
	}
	tcp[0] = (__u32)p->source_port << 16 | p->target_port; /* both in network order, little-endian words */
	tcp[1] = htonl(cookie);
	tcp[2] = htonl(seq + 1);
	tcp[3] = htonl(6u << 28 | (TCP_SYN | TCP_ACK) << 16 | 65535);
	tcp[4] = 0;
	tcp[5] = htonl(0x02040000u | mss);
	sum += htonl(IPPROTO_TCP) + (__u64)htonl(SYNACK_BYTES);
#pragma unroll
	for (int i = 0; i < SYNACK_BYTES / 4; i++)
		sum += tcp[i];
	tcp[4] = fold(sum);
	return 1;
}

#define FLOOD_GO_ON (-1)

/* A verdict, or FLOOD_GO_ON: the packet takes its usual way. */
INLINE int flood(struct xdp_md *ctx, struct packet *p, struct cfg *c)
{
	int syn = (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	if (p->protocol != IPPROTO_TCP || !flooded(c, syn) || !p->plain)
		return FLOOD_GO_ON;
	if (!syn && ((p->tcp_flags & (TCP_RST | TCP_SYN)) || !(p->tcp_flags & TCP_ACK)))
		return FLOOD_GO_ON;
	struct headers h = {};
	if (!copy_headers(ctx, p, &h))
		return FLOOD_GO_ON;
	__u32 ip_bytes = p->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	__u32 tcp_bytes = tcp_bytes_of(p);
	if (!tcp_bytes)
		return FLOOD_GO_ON;
	struct bpf_sock *sk = lookup(ctx, p);
	if (!sk)
		return FLOOD_GO_ON;
	if (sk->state != TCP_STATE_LISTEN) {
		bpf_sk_release(sk);
		return FLOOD_GO_ON;
	}
	if (!syn) {
		long bad_cookie = bpf_tcp_check_syncookie(sk, h.ip, ip_bytes, h.tcp, tcp_bytes);
		bpf_sk_release(sk);
		if (bad_cookie)
			return drop(ctx, p, c, REASON_COOKIE_BAD);
		count(p, REASON_COOKIE_GOOD);
		return FLOOD_GO_ON;
	}
	__s64 cookie = bpf_tcp_gen_syncookie(sk, h.ip, ip_bytes, h.tcp, tcp_bytes);
	bpf_sk_release(sk);
	/* Cookies may be switched off (net.ipv4.tcp_syncookies = 0). */
	if (cookie < 0)
		return FLOOD_GO_ON;
	if (!answer(ctx, p, (__u32)cookie, (__u16)(cookie >> 32), ntohl(h.tcp[1])))
		return XDP_DROP;
	count(p, REASON_COOKIE);
	return XDP_TX;
}
