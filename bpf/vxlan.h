/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Which packets are VXLAN to this VTEP: the same for XDP programs, for programs at tcx ingress and for the filters of
 * packet sockets. Each device has its own map of endpoints.
 */
#ifndef VTEP_VXLAN_H
#define VTEP_VXLAN_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define VLAN_TAGS 2         /* outer tags that are skipped: 802.1Q and 802.1ad */
#define IP_OFFSET 0x1fff    /* fragment offset (RFC 791 section 3.1) */
#define IPV6_OFFSET 0xfff8  /* fragment offset (RFC 8200 section 4.5) */
#define EXTENSIONS 4        /* IPv6 extension headers that are skipped */
#define IPV4_MAPPED_AT 12   /* ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2) */

/* The first bytes of an IPv6 extension header; those of a fragment header. */
struct extension {
	__u8 next;
	__u8 length; /* in units of 8 bytes, without the first 8 */
	__be16 offset;
	__u32 rest;
};

struct vlan_header {
	__be16 tci;
	__be16 protocol;
};

/* Network byte order; IPv4 addresses are IPv4-mapped. The Rust side builds the same 20 bytes. */
struct endpoint {
	__u8 address[16];
	__be16 port;
	__u16 zero;
};

/* The local VTEP endpoints. A map, not constants, so that they change while frames flow. User space sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct endpoint);
	__type(value, __u8);
} endpoints SEC(".maps");

/* Where the bytes of a packet are: a buffer of a driver, or a packet of the network stack, of which any part may be in
 * pages that programs can't access directly. */
struct source {
	void *data;
	void *end;
	struct __sk_buff *packet;
};

/* Copies `length` bytes from offset `at`. 0 on success. */
static __always_inline int load(const struct source *from, __u32 at, void *to, __u32 length)
{
	void *start = from->data + at;

	if (from->packet)
		return bpf_skb_load_bytes(from->packet, at, to, length);
	if (start + length > from->end)
		return -1;
	__builtin_memcpy(to, start, length);
	return 0;
}

static __always_inline int is_vlan(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

/*
 * Offset of the UDP header of a packet without extension headers; of one with them, if it is in this packet: a fragment
 * other than the first has none. 0: none. `at`: offset of what follows the IPv6 header.
 */
static __always_inline __u32 udp_of_ipv6(const struct source *from, __u32 at, __u8 protocol)
{
#pragma unroll
	for (int i = 0; i < EXTENSIONS; i++) {
		struct extension extension;

		if (protocol == IPPROTO_UDP)
			return at;
		if (load(from, at, &extension, sizeof(extension)))
			return 0;
		if (protocol == IPPROTO_FRAGMENT) {
			if (extension.offset & bpf_htons(IPV6_OFFSET))
				return 0;
			at += sizeof(extension);
		} else if (protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_DSTOPTS) {
			at += (extension.length + 1) * 8;
		} else {
			return 0;
		}
		protocol = extension.next;
	}
	return protocol == IPPROTO_UDP ? at : 0;
}

/* Fills `to`; true when the packet is UDP, or its first fragment. */
static __always_inline int destination(const struct source *from, struct endpoint *to)
{
	__u32 at = sizeof(struct ethhdr);
	struct udphdr udp;
	__be16 protocol;

	if (load(from, __builtin_offsetof(struct ethhdr, h_proto), &protocol, sizeof(protocol)))
		return 0;
#pragma unroll
	for (int i = 0; i < VLAN_TAGS; i++) {
		struct vlan_header tag;

		if (!is_vlan(protocol))
			break;
		if (load(from, at, &tag, sizeof(tag)))
			return 0;
		at += sizeof(tag);
		protocol = tag.protocol;
	}
	if (protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr ip;

		if (load(from, at, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5 || ip.protocol != IPPROTO_UDP ||
		    (ip.frag_off & bpf_htons(IP_OFFSET)))
			return 0;
		to->address[10] = 0xff;
		to->address[11] = 0xff;
		__builtin_memcpy(to->address + IPV4_MAPPED_AT, &ip.daddr, 4);
		at += ip.ihl * 4;
	} else if (protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip;

		if (load(from, at, &ip, sizeof(ip)) || ip.version != 6)
			return 0;
		__builtin_memcpy(to->address, &ip.daddr, 16);
		at = udp_of_ipv6(from, at + sizeof(ip), ip.nexthdr);
	} else {
		return 0;
	}
	if (!at || load(from, at, &udp, sizeof(udp)))
		return 0;
	to->port = udp.dest;
	return 1;
}

/* Whether the packet is VXLAN to this VTEP. */
static __always_inline int is_vxlan(const struct source *from)
{
	struct endpoint to = {};

	return destination(from, &to) && bpf_map_lookup_elem(&endpoints, &to);
}

/* One of the endpoints of IPv4, nearly always the only one: comparing takes less time than looking it up. */
struct first_endpoint {
	__be32 address;
	__be16 port;
	__u16 is_set;
};

/* Set by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct first_endpoint);
} first_endpoint SEC(".maps");

/* What most packets begin with, after the MAC addresses. */
struct plain_ipv4 {
	__u16 zero;
	__be16 protocol;
	struct iphdr ip;
	struct udphdr udp;
};

/* Bytes of it in the packet. */
#define PLAIN_IPV4 (sizeof(struct plain_ipv4) - sizeof(__u16))

/* The same of a packet of the network stack. Nearly all have neither tags nor options, and take one call instead of
 * one for each header. */
static __always_inline int is_packet_vxlan(struct __sk_buff *packet)
{
	struct source from = { .packet = packet };
	struct plain_ipv4 plain = {};
	struct first_endpoint *first;
	struct endpoint to = {};
	__u32 zero = 0;

	if (bpf_skb_load_bytes(packet, __builtin_offsetof(struct ethhdr, h_proto), &plain.protocol, PLAIN_IPV4) ||
	    plain.protocol != bpf_htons(ETH_P_IP) || plain.ip.version != 4 || plain.ip.ihl != 5)
		return is_vxlan(&from);
	if (plain.ip.protocol != IPPROTO_UDP || (plain.ip.frag_off & bpf_htons(IP_OFFSET)))
		return 0;
	first = bpf_map_lookup_elem(&first_endpoint, &zero);
	if (first && first->is_set && first->address == plain.ip.daddr && first->port == plain.udp.dest)
		return 1;
	to.address[10] = 0xff;
	to.address[11] = 0xff;
	__builtin_memcpy(to.address + IPV4_MAPPED_AT, &plain.ip.daddr, 4);
	to.port = plain.udp.dest;
	return bpf_map_lookup_elem(&endpoints, &to) != 0;
}

#endif
