// SPDX-License-Identifier: MIT OR GPL-2.0-only
// The XDP programs of vtepd. Each device loads an instance of its own, with its own maps.
//
//   underlay      UDP to (local VTEP address, VXLAN port) -> the queue's AF_XDP socket; all else -> host stack,
//                 except the remaining buffers of a frame that the driver has split
//   tenant        every frame -> the queue's AF_XDP socket
//   tenant_tags   as tenant, and restores a VLAN tag that the driver has stripped into metadata
//
//   underlay_guard, tenant_guard   at tcx ingress: what should have gone to a socket, and that the driver passed by
//                 without running the XDP program, is dropped and counted too
//
// Each XDP program exists twice (NAME, NAME_b), with the same maps: replacing one by the other makes the driver install
// the program on queues that were added since (veth_set_channels leaves them without).
//
// A frame for a queue without a socket is dropped and counted: neither a tenant's frame nor VXLAN to this VTEP reaches
// the host stack. Packets that vtepd drops because they are fragmented, or have IP options or extension headers, go to
// the socket too, as far as the UDP header is in them: there they are counted by reason.
//
// The programs are loaded for frames of several buffers (BPF_F_XDP_HAS_FRAGS): data..data_end is the first buffer, in
// which drivers leave all headers. A packet whose headers extend beyond it goes to the host stack.
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "vxlan.h"

#define NULL ((void *)0)

/* enum tcx_action_base (include/uapi/linux/bpf.h of Linux 6.6). */
#define TCX_NEXT (-1)
#define TCX_DROP 2

#define BUFFER_UNIT 1024    /* receive buffers of drivers that split frames: igb, igc (SRRCTL.BSIZEPKT) */
#define STAMP 16            /* bytes of a buffer used by a receive time stamp (IGB_TS_HDR_LEN, IGC_TS_HDR_LEN) */

/* Receive queue -> socket. User space sets the size to the number of queues before loading. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

/* The longest frame that the MTU permits, bytes. 0: the driver never splits frames. User space sets it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} longest SEC(".maps");

struct queue {
	__u64 segments;  /* dropped: buffers of a frame that the driver has split */
	__u64 no_socket; /* dropped: frames while the queue had no socket, and those of `bypassed` */
	__u64 bypassed;  /* dropped: frames that the driver passed on without running the XDP program */
	__u32 continues; /* the frame in the last buffer continues in the next one of this queue */
	__u32 copies;    /* the socket is bound in copy mode; set by user space */
};

/* Receive queue -> its state; one CPU at a time polls a queue. User space sets the size, the same as for `sockets`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct queue);
} queues SEC(".maps");

static __always_inline struct queue *count_no_socket(__u32 number)
{
	__u32 first = 0;
	struct queue *queue = bpf_map_lookup_elem(&queues, &number);

	if (!queue)
		queue = bpf_map_lookup_elem(&queues, &first);
	/* Outside of native XDP several CPUs may receive frames of one queue. */
	if (queue)
		__sync_fetch_and_add(&queue->no_socket, 1);
	return queue;
}

/* Directs the frame to the socket of its queue. */
static __always_inline int to_socket(struct xdp_md *ctx)
{
	int action = bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP);

	if (action != XDP_REDIRECT)
		count_no_socket(ctx->rx_queue_index);
	return action;
}

/*
 * The state of a queue whose driver may split frames, else NULL. igb and igc run the program on each buffer without
 * checking whether it holds the end of a frame. Their devices receive frames longer than the MTU (igb_set_rx_mode:
 * RLPML is 9728 where buffers are large), so with a larger MTU elsewhere on the network a sender can place bytes of its
 * choice where a frame begins.
 */
static __always_inline struct queue *may_split(struct xdp_md *ctx, __u32 **max_frame)
{
	__u32 zero = 0, number = ctx->rx_queue_index;

	*max_frame = bpf_map_lookup_elem(&longest, &zero);
	if (!*max_frame || !**max_frame)
		return NULL;
	return bpf_map_lookup_elem(&queues, &number);
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

static __always_inline int redirect(struct xdp_md *ctx)
{
	struct source from = { .data = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };

	return is_vxlan(&from) ? to_socket(ctx) : XDP_PASS;
}

static __always_inline int underlay_input(struct xdp_md *ctx)
{
	__u32 *max_frame;
	struct queue *queue = may_split(ctx, &max_frame);
	int action;

	if (!queue)
		return redirect(ctx);
	if (queue->continues) {
		queue->continues = is_full(ctx, *max_frame);
		queue->segments++;
		return XDP_DROP;
	}
	action = redirect(ctx);
	/* In copy mode the driver reassembles a frame that is passed (igb_is_non_eop). */
	queue->continues = is_full(ctx, *max_frame) && !(queue->copies && action == XDP_PASS);
	return action;
}

/* True for every buffer of a frame that the driver has split, which is counted: the tenant's frame is not whole. */
static __always_inline int is_segment(struct xdp_md *ctx)
{
	__u32 *max_frame, full;
	struct queue *queue = may_split(ctx, &max_frame);

	if (!queue)
		return 0;
	full = is_full(ctx, *max_frame);
	if (!full && !queue->continues)
		return 0;
	queue->continues = full;
	queue->segments++;
	return 1;
}

static __always_inline int tenant_input(struct xdp_md *ctx)
{
	return is_segment(ctx) ? XDP_DROP : to_socket(ctx);
}

/* Linux 6.8; for programs that are bound to a device (Documentation/networking/xdp-rx-metadata.rst). */
extern int bpf_xdp_metadata_rx_vlan_tag(const struct xdp_md *ctx, __be16 *protocol, __u16 *tci) __ksym __weak;

/* veth and NICs that strip tags keep them in metadata, where an AF_XDP socket doesn't see them. */
static __always_inline int tenant_tags_input(struct xdp_md *ctx)
{
	struct vlan_header tag;
	__u16 tci = 0;
	__u8 macs[2 * ETH_ALEN];
	void *data, *end;

	if (is_segment(ctx))
		return XDP_DROP;
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
	return to_socket(ctx);
}

#define XDP_PROGRAM(name, input) \
	SEC("?xdp") int name(struct xdp_md *ctx) { return input(ctx); } \
	SEC("?xdp") int name##_b(struct xdp_md *ctx) { return input(ctx); }

XDP_PROGRAM(underlay, underlay_input)
XDP_PROGRAM(tenant, tenant_input)
XDP_PROGRAM(tenant_tags, tenant_tags_input)

/* `queue_mapping` of a received packet is the number of its queue plus 1, or 0. */
static __always_inline int drop_packet(struct __sk_buff *packet)
{
	__u32 number = packet->queue_mapping;
	struct queue *queue = count_no_socket(number ? number - 1 : 0);

	if (queue)
		__sync_fetch_and_add(&queue->bypassed, 1);
	return TCX_DROP;
}

/* TCX_NEXT: other programs decide. */
SEC("?tcx/ingress")
int underlay_guard(struct __sk_buff *packet)
{
	return is_packet_vxlan(packet) ? drop_packet(packet) : TCX_NEXT;
}

SEC("?tcx/ingress")
int tenant_guard(struct __sk_buff *packet)
{
	/* The host's own multicast, which it also receives (dev_loopback_xmit). */
	if (packet->pkt_type == PACKET_LOOPBACK)
		return TCX_NEXT;
	return drop_packet(packet);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
