/* From a frame to what the other parts want to know of it. Never looks past `data_end`: the verifier holds it.
 *
 * Up to two VLAN tags; IPv4 with options; up to six IPv6 extension headers; TCP, UDP and, in it, a QUIC header. Rules for
 * what is odd: no IP (ARP, LLDP, a third tag) is not ours and passes. IP that contradicts itself is dropped. A fragment has
 * no ports that could be trusted: it passes to the kernel, unless its source is denied. Other protocols pass.
 *
 * An ICMP error (a packet was too big, or met no way) comes from any router on the way, to whoever sent the packet that it quotes. It is read as if
 * it belonged to that packet's flow, so that of several nodes behind one VIP the one that has the connection hears of it. */
#pragma once

#include "abi.h"
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#define VLAN_TAGS_MAX 2
#define EXTENSIONS_MAX 6

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

enum parsed {
	PARSED_FLOW,     /* TCP or UDP with ports */
	PARSED_FRAGMENT,
	PARSED_OTHER,    /* not ours */
	PARSED_BAD,      /* `reason` says why */
};

struct packet {
	__u8 source[16];
	__u8 target[16];
	__u16 source_port;
	__u16 target_port;
	__u16 l3_at; /* offset of the IP header */
	__u16 l4_at;
	__u16 reason;
	__u8 family;
	__u8 protocol;
	__u8 tcp_flags;
	__u8 tcp_words;
	__u8 plain; /* no options, no extension headers */
	__u8 hop;   /* 0 from outside, 1 or 2 from another node: see balance.h */
	__u8 quic;  /* 1: `quic_slot` is there */
	__u8 quic_slot;
	__u8 quoted; /* the flow is that of a packet which an ICMP error quotes, seen from here */
	__u32 bytes;
};

struct vlan {
	__be16 tag;
	__be16 inner;
};

struct extension {
	__u8 next;
	__u8 words;
};

INLINE int bad(struct packet *p, __u16 reason)
{
	p->reason = reason;
	return PARSED_BAD;
}

/* A QUIC packet with a short header (RFC 8999 §5.2; the fixed bit of RFC 9000 §17.3.1 is set) carries the id that this node gave the
 * connection; its first byte is the slot. Long headers are hashed like any other: their id may be the client's own. */
INLINE void parse_quic(struct packet *p, void *at, void *end)
{
	__u8 *quic = at;
	if ((void *)(quic + 9) > end || (quic[0] & 0xc0) != 0x40)
		return;
	p->quic = 1;
	p->quic_slot = quic[1];
}

INLINE int parse_ports(struct packet *p, void *data, void *at, void *end, __u32 left)
{
	p->l4_at = at - data;
	if (p->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = at;
		if (left < sizeof(*tcp) || (void *)(tcp + 1) > end)
			return bad(p, REASON_TRUNCATED);
		p->source_port = tcp->source;
		p->target_port = tcp->dest;
		p->tcp_flags = ((__u8 *)tcp)[13];
		p->tcp_words = tcp->doff;
		if (tcp->doff < 5)
			return bad(p, REASON_HEADER);
		if (tcp->doff * 4u > left || at + tcp->doff * 4 > end)
			return bad(p, REASON_TRUNCATED);
		return PARSED_FLOW;
	}
	if (p->protocol == IPPROTO_UDP) {
		struct udphdr *udp = at;
		if (left < sizeof(*udp) || (void *)(udp + 1) > end)
			return bad(p, REASON_TRUNCATED);
		p->source_port = udp->source;
		p->target_port = udp->dest;
		if (ntohs(udp->len) < sizeof(*udp) || ntohs(udp->len) > left)
			return bad(p, REASON_LENGTH);
		parse_quic(p, udp + 1, end);
		return PARSED_FLOW;
	}
	return PARSED_OTHER;
}

/* Of the quoted packet at least the ports are there (RFC 792). It went the other way. */
INLINE int parse_quoted(struct packet *p, __u8 protocol, void *at, void *end)
{
	__be16 *ports = at;
	if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) || at + 8 > end)
		return PARSED_OTHER;
	p->protocol = protocol;
	p->target_port = ports[0];
	p->source_port = ports[1];
	p->tcp_flags = TCP_ACK;
	p->plain = 0;
	p->quoted = 1;
	return PARSED_FLOW;
}

INLINE int parse_icmp4(struct packet *p, void *at, void *end)
{
	__u8 *icmp = at;
	struct iphdr *ip = at + 8;
	if ((void *)(ip + 1) > end)
		return PARSED_OTHER;
	if (icmp[0] != 3 /* unreachable, too big */ && icmp[0] != 11 /* time exceeded */ && icmp[0] != 12)
		return PARSED_OTHER;
	if (ip->version != 4 || ip->ihl < 5 || (ip->frag_off & htons(0x1fff)))
		return PARSED_OTHER;
	__builtin_memcpy(p->source + 12, &ip->daddr, 4);
	__builtin_memcpy(p->target + 12, &ip->saddr, 4);
	return parse_quoted(p, ip->protocol, (void *)ip + ip->ihl * 4, end);
}

INLINE int parse_icmp6(struct packet *p, void *at, void *end)
{
	__u8 *icmp = at;
	struct ipv6hdr *ip = at + 8;
	if ((void *)(ip + 1) > end || icmp[0] == 0 || icmp[0] > 4 || ip->version != 6)
		return PARSED_OTHER;
	__builtin_memcpy(p->source, &ip->daddr, 16);
	__builtin_memcpy(p->target, &ip->saddr, 16);
	return parse_quoted(p, ip->nexthdr, ip + 1, end);
}

INLINE int parse_ipv4(struct packet *p, void *data, void *at, void *end)
{
	struct iphdr *ip = at;
	if ((void *)(ip + 1) > end)
		return bad(p, REASON_TRUNCATED);
	if (ip->version != 4 || ip->ihl < 5)
		return bad(p, REASON_HEADER);
	__u32 head = ip->ihl * 4;
	__u32 total = ntohs(ip->tot_len);
	p->family = 4;
	p->protocol = ip->protocol;
	p->plain = ip->ihl == 5;
	p->source[10] = p->source[11] = p->target[10] = p->target[11] = 0xff;
	__builtin_memcpy(p->source + 12, &ip->saddr, 4);
	__builtin_memcpy(p->target + 12, &ip->daddr, 4);
	if (total < head)
		return bad(p, REASON_LENGTH);
	/* Frames may be longer than their packet (padding), never shorter. */
	if (at + total > end)
		return bad(p, REASON_TRUNCATED);
	if (ip->frag_off & htons(0x3fff))
		return PARSED_FRAGMENT;
	if (at + head > end)
		return bad(p, REASON_TRUNCATED);
	if (ip->protocol == IPPROTO_ICMP)
		return parse_icmp4(p, at + head, end);
	return parse_ports(p, data, at + head, end, total - head);
}

INLINE int parse_ipv6(struct packet *p, void *data, void *at, void *end)
{
	struct ipv6hdr *ip = at;
	if ((void *)(ip + 1) > end)
		return bad(p, REASON_TRUNCATED);
	if (ip->version != 6)
		return bad(p, REASON_HEADER);
	p->family = 6;
	p->plain = 1;
	__builtin_memcpy(p->source, &ip->saddr, 16);
	__builtin_memcpy(p->target, &ip->daddr, 16);
	__u32 left = ntohs(ip->payload_len);
	__u8 next = ip->nexthdr;
	at = ip + 1;
	if (at + left > end)
		return bad(p, REASON_TRUNCATED);
#pragma unroll
	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		struct extension *extension = at;
		__u32 bytes;
		if (next == IPPROTO_FRAGMENT) {
			p->protocol = next;
			return PARSED_FRAGMENT;
		}
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS && next != 135 /* mobility */)
			break;
		p->plain = 0;
		if (left < 8 || at + 8 > end)
			return bad(p, REASON_TRUNCATED);
		bytes = (extension->words + 1u) * 8;
		next = extension->next;
		if (bytes > left)
			return bad(p, REASON_LENGTH);
		left -= bytes;
		at += bytes;
		if (at > end)
			return bad(p, REASON_TRUNCATED);
	}
	p->protocol = next;
	if (next == IPPROTO_FRAGMENT)
		return PARSED_FRAGMENT;
	if (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS || next == 135)
		return bad(p, REASON_HEADER); /* longer a chain than any sender has cause for */
	if (next == IPPROTO_ICMPV6)
		return parse_icmp6(p, at, end);
	return parse_ports(p, data, at, end, left);
}

INLINE int parse(struct packet *p, void *data, void *end)
{
	struct ethhdr *eth = data;
	if ((void *)(eth + 1) > end)
		return PARSED_OTHER;
	__be16 protocol = eth->h_proto;
	void *at = eth + 1;
#pragma unroll
	for (int i = 0; i < VLAN_TAGS_MAX; i++) {
		struct vlan *vlan = at;
		if (protocol != htons(ETH_P_8021Q) && protocol != htons(ETH_P_8021AD))
			break;
		if ((void *)(vlan + 1) > end)
			return PARSED_OTHER;
		protocol = vlan->inner;
		at = vlan + 1;
	}
	p->l3_at = at - data;
	if (protocol == htons(ETH_P_IP))
		return parse_ipv4(p, data, at, end);
	if (protocol == htons(ETH_P_IPV6))
		return parse_ipv6(p, data, at, end);
	return PARSED_OTHER;
}
