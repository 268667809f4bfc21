// SPDX-License-Identifier: MIT OR GPL-2.0-only
// The XDP programs of vtepd. Each device loads an instance of its own, with its own maps.
//
//   underlay      UDP to (local VTEP address, VXLAN port) -> the queue's AF_XDP socket; all else -> host stack,
//                 except the remaining buffers of a frame that the driver has split
//   tenant        every frame -> the queue's AF_XDP socket; without a socket: drop, never the host stack
//   tenant_trunk  as tenant, and restores an 802.1Q tag that the driver has stripped into metadata
//
// They are loaded for frames of several buffers (BPF_F_XDP_HAS_FRAGS): data..data_end is the first buffer, in which
// drivers leave all headers. A packet whose headers extend beyond it goes to the host stack.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define NULL ((void *)0)
#define VLAN_TAGS 2         /* outer tags that are skipped: 802.1Q and 802.1ad */
#define IP_FRAGMENT 0x3fff  /* more-fragments flag and fragment offset (RFC 791 section 3.1) */
#define IPV4_MAPPED_AT 12   /* ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2) */

#define BUFFER_UNIT 1024    /* receive buffers of drivers that split frames: igb, igc (SRRCTL.BSIZEPKT) */
#define STAMP 16            /* bytes of a buffer used by a receive time stamp (IGB_TS_HDR_LEN, IGC_TS_HDR_LEN) */

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

/* Receive queue -> socket. User space sets the size to the number of queues before loading. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

/* The local VTEP endpoints. A map, not constants, so that they change while frames flow. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct endpoint);
	__type(value, __u8);
} endpoints SEC(".maps");

/* The longest frame that the MTU permits, bytes. 0: the driver never splits frames. User space sets it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} longest SEC(".maps");

struct split {
	__u64 dropped;
	__u32 continues; /* the frame in the last buffer continues in the next one of this queue */
	__u32 copies;    /* the socket is bound in copy mode; set by user space */
};

/* Receive queue -> its state; one CPU at a time polls a queue. User space sets the size, the same as for `sockets`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct split);
} splits SEC(".maps");

/*
 * The state of a queue whose driver may split frames, else NULL. igb and igc run the program on each buffer without
 * checking whether it holds the end of a frame. Their devices receive frames longer than the MTU (igb_set_rx_mode:
 * RLPML is 9728 where buffers are large), so with a larger MTU elsewhere on the network a sender can place bytes of its
 * choice where a frame begins.
 */
static __always_inline struct split *may_split(struct xdp_md *ctx, __u32 **max_frame)
{
	__u32 zero = 0, queue = ctx->rx_queue_index;

	*max_frame = bpf_map_lookup_elem(&longest, &zero);
	if (!*max_frame || !**max_frame)
		return NULL;
	return bpf_map_lookup_elem(&splits, &queue);
}

/*
 * A full buffer that is longer than any frame of this MTU does not hold the end of a frame. If a frame ends exactly
 * there, the next one of that queue is lost.
 */
static __always_inline int is_full(struct xdp_md *ctx, __u32 max_frame)
{
	__u32 length = (void *)(long)ctx->data_end - (void *)(long)ctx->data;

	return length > max_frame && (length % BUFFER_UNIT == 0 || (length + STAMP) % BUFFER_UNIT == 0);
}

static __always_inline int is_vlan(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

/* Fills `to`; true when the packet is a whole UDP datagram that may be VXLAN. */
static __always_inline int destination(void *data, void *end, struct endpoint *to)
{
	struct ethhdr *ethernet = data;
	struct udphdr *udp;
	void *next = ethernet + 1;
	__be16 protocol;

	if (next > end)
		return 0;
	protocol = ethernet->h_proto;
#pragma unroll
	for (int i = 0; i < VLAN_TAGS; i++) {
		struct vlan_header *tag = next;

		if (!is_vlan(protocol))
			break;
		next = tag + 1;
		if (next > end)
			return 0;
		protocol = tag->protocol;
	}
	if (protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = next;

		/* Options (IHL above 5) and fragments are left to the host stack. */
		if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl != 5 || ip->protocol != IPPROTO_UDP ||
		    (ip->frag_off & bpf_htons(IP_FRAGMENT)))
			return 0;
		to->address[10] = 0xff;
		to->address[11] = 0xff;
		__builtin_memcpy(to->address + IPV4_MAPPED_AT, &ip->daddr, 4);
		udp = (void *)(ip + 1);
	} else if (protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = next;

		/* Extension headers, fragments among them, are left to the host stack. */
		if ((void *)(ip + 1) > end || ip->version != 6 || ip->nexthdr != IPPROTO_UDP)
			return 0;
		__builtin_memcpy(to->address, &ip->daddr, 16);
		udp = (void *)(ip + 1);
	} else {
		return 0;
	}
	if ((void *)(udp + 1) > end)
		return 0;
	to->port = udp->dest;
	return 1;
}

static __always_inline int redirect(struct xdp_md *ctx)
{
	struct endpoint to = {};

	if (!destination((void *)(long)ctx->data, (void *)(long)ctx->data_end, &to) ||
	    !bpf_map_lookup_elem(&endpoints, &to))
		return XDP_PASS;
	return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
}

SEC("xdp")
int underlay(struct xdp_md *ctx)
{
	__u32 *max_frame;
	struct split *split = may_split(ctx, &max_frame);
	int action;

	if (!split)
		return redirect(ctx);
	if (split->continues) {
		split->continues = is_full(ctx, *max_frame);
		split->dropped++;
		return XDP_DROP;
	}
	action = redirect(ctx);
	/* In copy mode the driver reassembles a frame that is passed (igb_is_non_eop). */
	split->continues = is_full(ctx, *max_frame) && !(split->copies && action == XDP_PASS);
	return action;
}

SEC("xdp")
int tenant(struct xdp_md *ctx)
{
	return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP);
}

/* Linux 6.8; for programs that are bound to a device (Documentation/networking/xdp-rx-metadata.rst). */
extern int bpf_xdp_metadata_rx_vlan_tag(const struct xdp_md *ctx, __be16 *protocol, __u16 *tci) __ksym __weak;

/* veth and NICs that strip tags keep them in metadata, where an AF_XDP socket doesn't see them. */
SEC("?xdp")
int tenant_trunk(struct xdp_md *ctx)
{
	struct vlan_header tag;
	__u16 tci = 0;
	__u8 macs[2 * ETH_ALEN];
	void *data, *end;

	if (bpf_xdp_metadata_rx_vlan_tag(ctx, &tag.protocol, &tci) == 0) {
		if (bpf_xdp_adjust_head(ctx, -(int)sizeof(tag)))
			return XDP_DROP;
		data = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
		if (data + sizeof(tag) + sizeof(macs) > end)
			return XDP_DROP;
		__builtin_memcpy(macs, data + sizeof(tag), sizeof(macs));
		__builtin_memcpy(data, macs, sizeof(macs));
		/* The tag's EtherType precedes its TCI in the frame (IEEE 802.1Q clause 9.3). */
		((__be16 *)(data + sizeof(macs)))[0] = tag.protocol;
		((__be16 *)(data + sizeof(macs)))[1] = bpf_htons(tci);
	}
	return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
