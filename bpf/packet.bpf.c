// SPDX-License-Identifier: MIT OR GPL-2.0-only
// The tcx programs that keep the interface of a packet port from the host. Each device loads an instance of its own,
// with its own maps.
//
//   packet_ingress   what the tenant sends is dropped before the host's stack: packet sockets have it by then
//                    (net/core/dev.c, __netif_receive_skb_core: ptype_all before sch_handle_ingress)
//   packet_egress    what the host sends is dropped before the tenant: our sockets pass it by with PACKET_QDISC_BYPASS
//                    (net/packet/af_packet.c, packet_xmit), but for superframes, which the kernel may have to cut: they have
//                    a mark
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <bpf/bpf_helpers.h>

/* enum tcx_action_base (include/uapi/linux/bpf.h of Linux 6.6). */
#define TCX_NEXT (-1)
#define TCX_PASS 0
#define TCX_DROP 2

/* The counts, of each CPU. The Rust side has the same numbers. */
#define UNTAKEN 0 /* frames of the tenant while no socket took them */
#define HOST 1    /* frames of the host */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} dropped SEC(".maps");

/* Not 0 while sockets take the tenant's frames; set by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} taken SEC(".maps");

/* The mark of superframes that we send, or 0; set by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} superframe SEC(".maps");

static __always_inline void count(__u32 what)
{
	__u64 *counter = bpf_map_lookup_elem(&dropped, &what);

	/* A program may be interrupted by one on the same CPU. */
	if (counter)
		__sync_fetch_and_add(counter, 1);
}

SEC("tcx/ingress")
int packet_ingress(struct __sk_buff *packet)
{
	__u32 zero = 0, *sockets = bpf_map_lookup_elem(&taken, &zero);

	/* The host's own multicast, which it also receives (dev_loopback_xmit). Sockets don't. */
	if (packet->pkt_type == PACKET_LOOPBACK)
		return TCX_NEXT;
	if (sockets && !*sockets)
		count(UNTAKEN);
	return TCX_DROP;
}

SEC("tcx/egress")
int packet_egress(struct __sk_buff *packet)
{
	__u32 zero = 0, *mark = bpf_map_lookup_elem(&superframe, &zero);

	if (mark && *mark && packet->mark == *mark)
		return TCX_PASS;
	count(HOST);
	return TCX_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
