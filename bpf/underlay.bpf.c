// SPDX-License-Identifier: MIT OR GPL-2.0-only
// The programs of an underlay interface with packet sockets. Each device loads an instance of its own, with its own
// maps.
//
//   underlay_filter    of each socket: VXLAN to this VTEP, and nothing else
//   underlay_ingress   at tcx ingress: the same packets are dropped before the host's stack; packet sockets have them by
//                      then (net/core/dev.c, __netif_receive_skb_core: ptype_all before sch_handle_ingress)
#include "vxlan.h"

/* enum tcx_action_base (include/uapi/linux/bpf.h of Linux 6.6). */
#define TCX_NEXT (-1)
#define TCX_DROP 2

/* Packets that were dropped while no socket took them, of each CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} untaken SEC(".maps");

/* Not 0 while sockets take the packets; set by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} taken SEC(".maps");

/* Returns how many bytes the socket gets. */
SEC("socket")
int underlay_filter(struct __sk_buff *packet)
{
	return is_packet_vxlan(packet) ? -1 : 0;
}

SEC("tcx/ingress")
int underlay_ingress(struct __sk_buff *packet)
{
	__u32 zero = 0, *sockets;
	__u64 *counter;

	if (!is_packet_vxlan(packet))
		return TCX_NEXT;
	sockets = bpf_map_lookup_elem(&taken, &zero);
	counter = bpf_map_lookup_elem(&untaken, &zero);
	/* A program may be interrupted by one on the same CPU. */
	if (sockets && !*sockets && counter)
		__sync_fetch_and_add(counter, 1);
	return TCX_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
