// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Generates frames for benchmarks, by BPF_PROG_RUN in live-frame mode (Documentation/bpf/bpf_prog_run.rst): the kernel
// builds a frame from the caller's bytes, and XDP_TX sends it on the interface without an skb. Each frame gets the next
// UDP source port; the UDP checksum must be 0.
//
//   plain    Ethernet, IPv4 without options, UDP
//   vxlan    such a frame as the outer and as the inner frame of VXLAN: both UDP headers get the port
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define UDP_SOURCE (14 + 20)
#define INNER 50
#define FIRST_PORT 49152
#define FLOWS 64 /* a power of two */

__u32 sequence;

static __always_inline int set_source_port(struct xdp_md *ctx, int offset, __u32 number)
{
	__u8 *start = (__u8 *)(long)ctx->data + offset;

	if (start + UDP_SOURCE + 2 > (__u8 *)(long)ctx->data_end)
		return XDP_DROP;
	*(__be16 *)(start + UDP_SOURCE) = bpf_htons(FIRST_PORT + number % FLOWS);
	return XDP_TX;
}

SEC("xdp")
int plain(struct xdp_md *ctx)
{
	return set_source_port(ctx, 0, sequence++);
}

SEC("xdp")
int vxlan(struct xdp_md *ctx)
{
	set_source_port(ctx, 0, sequence);
	return set_source_port(ctx, INNER, sequence++);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
