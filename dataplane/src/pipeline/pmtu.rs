//! Path MTU discovery for tenants: when a packet does not fit the underlay, its sender is sent the
//! ICMP error that a router on the path would send: "fragmentation needed" (RFC 792, RFC 1191), or
//! ICMPv6 "packet too big" (RFC 4443 section 3.2).
//!
//! A VTEP has no address in the tenants' networks, so the source of the error is the packet's
//! destination. Senders that allow fragmentation are notified as well, since a VTEP doesn't
//! fragment.
//!
//! ```text
//! | MACs swapped | tags and EtherType unchanged | IP header | ICMP header | start of the packet |
//! ```

use super::context::BurstContext;
use super::meta::TenantBoundFrame;
use super::parse::{L3Info, Network, Part};
use super::port_output;
use crate::addr::PortId;
use crate::frame::{Frame, FrameMemory};
use crate::table::vni::Domain;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::{ethernet, icmp, ipv4, ipv6};

/// RFC 1812 section 4.3.2.5: errors are sent with precedence 6, internetwork control.
const TOS: u8 = 0xc0;

/// TTL or hop limit of errors (RFC 1700).
const HOP_LIMIT: u8 = 64;

/// Bytes of the IP and ICMP headers that precede the quoted packet.
const fn overhead(network: Network) -> usize {
    match network {
        Network::V6 => ipv6::LEN + icmp::LEN,
        _ => ipv4::LEN + icmp::LEN,
    }
}

/// Sends the error for `frame` to `port`, its ingress port, where one may be sent. `max_frame`: the
/// longest frame that fits, bytes.
#[cold]
pub(super) fn send_too_big<M: FrameMemory>(
    ctx: &mut BurstContext<'_, '_, M>,
    frame: &Frame,
    l3: L3Info,
    (port, domain): (PortId, &Domain),
    max_frame: u16,
) {
    if !may_be_sent(ctx.pool.memory().bytes(frame), l3)
        || !ctx.limits.may_send_error(port, ctx.now_ns)
    {
        return;
    }
    let max_packet = if l3.network == Network::V4 {
        icmp::MAX_V4
    } else {
        icmp::MAX_V6
    };
    let ip = usize::from(l3.ip);
    let present = ctx.pool.memory().bytes(frame).len();
    let quoted = (l3.end as usize).min(present) - ip;
    let len = ip + (quoted + overhead(l3.network)).min(max_packet);
    // Dropped and counted like any other frame when it can't be sent to the port.
    let Some(tx_port) = port_output::find(ctx, port, domain, len) else {
        return;
    };
    let Some(mut reply) = ctx.pool.alloc() else {
        return;
    };
    if reply
        .set_extent(reply.start(), len, ctx.pool.memory().chunk_size())
        .is_err()
    {
        return ctx.pool.free(reply);
    }
    let (from, to) = ctx
        .pool
        .memory_mut()
        .read_write(frame, frame.first(), &mut reply);
    write(from, l3, to, max_frame.saturating_sub(l3.ip));
    TenantBoundFrame::new(reply).send(ctx, tx_port);
}

/// No error is sent for an ICMP error, a later fragment, or a packet whose source or destination is
/// not a unicast address (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
fn may_be_sent(frame: &[u8], l3: L3Info) -> bool {
    let Some(transport) = l3.transport_range() else {
        return false;
    };
    let kind = frame
        .get(transport.start..transport.end.min(frame.len()))
        .and_then(|message| message.first().copied());
    let bytes = &frame[usize::from(l3.ip)..];
    let (between_hosts, about_error) = match l3.network {
        Network::Other => return false,
        Network::V4 => {
            let Some(header) = Ipv4::parse(bytes) else {
                return false;
            };
            let is_host = |a: std::net::Ipv4Addr| !matches!(a.octets()[0], 0 | 127 | 224..);
            let error = l3.protocol == ipv4::ICMP && kind.is_none_or(icmp::is_v4_error);
            (
                is_host(header.source()) && is_host(header.destination()),
                error,
            )
        }
        Network::V6 => {
            let Some(header) = Ipv6::parse(bytes) else {
                return false;
            };
            let is_host = |a: std::net::Ipv6Addr| {
                !a.is_multicast() && !a.is_unspecified() && !a.is_loopback()
            };
            let error = l3.protocol == ipv6::ICMP && kind.is_none_or(icmp::is_v6_error);
            (
                is_host(header.source()) && is_host(header.destination()),
                error,
            )
        }
    };
    between_hosts && !about_error && l3.part != Part::Later
}

/// Writes the whole report to `to`, which has its length.
fn write(frame: &[u8], l3: L3Info, to: &mut [u8], mtu: u16) {
    let ip = usize::from(l3.ip);
    let message = ip + overhead(l3.network) - icmp::LEN;
    to[..ip].copy_from_slice(&frame[..ip]);
    ethernet::swap_addresses(to);
    let quote = message + icmp::LEN;
    let quoted = to.len() - quote;
    to[quote..].copy_from_slice(&frame[ip..ip + quoted]);
    let payload_len = (to.len() - message) as u16;
    let (headers, body) = to.split_at_mut(message);
    let headers = &mut headers[ip..];
    match l3.network {
        Network::V6 => {
            let Some(old) = Ipv6::parse(&frame[ip..]) else {
                return;
            };
            let (source, destination) = (old.destination(), old.source());
            ipv6::Repr {
                payload_len,
                next_header: ipv6::ICMP,
                hop_limit: HOP_LIMIT,
                source,
                destination,
            }
            .emit(headers);
            icmp::emit_packet_too_big(body, mtu, &headers[8..ipv6::LEN]);
        }
        _ => {
            let Some(old) = Ipv4::parse(&frame[ip..]) else {
                return;
            };
            let (source, destination) = (old.destination(), old.source());
            ipv4::Repr {
                tos: TOS,
                payload_len,
                ttl: HOP_LIMIT,
                protocol: ipv4::ICMP,
                source,
                destination,
            }
            .emit(headers);
            icmp::emit_fragmentation_needed(body, mtu);
        }
    }
}
