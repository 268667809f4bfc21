//! Tells a tenant that its packet is too long for the underlay, as a router on the way would: ICMP "fragmentation needed"
//! (RFC 792, RFC 1191), ICMPv6 "packet too big" (RFC 4443 section 3.2).
//!
//! A VTEP is no vtep for its tenants, so it has no address of its own there: the report comes from the packet's
//! destination. Tenants whose packets may be fragmented are told as well, since a VTEP doesn't fragment.
//!
//! ```text
//! | MACs swapped | tags and EtherType as they were | IP header | ICMP header | front of the packet |
//! ```

use super::context::BurstContext;
use super::parse::{L3Info, Network, Part};
use super::port_output::{self, TenantBoundFrame};
use crate::addr::PortId;
use crate::frame::{Frame, FrameMemory};
use crate::table::vni::Domain;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::{ethernet, icmp, ipv4, ipv6};

/// RFC 1812 section 4.3.2.5: errors are sent with precedence 6, internetwork control.
const TOS: u8 = 0xc0;

const HOP_LIMIT: u8 = 64;

/// The bytes that an report has around its quote.
const fn overhead(network: Network) -> usize {
    match network {
        Network::V6 => ipv6::LEN + icmp::LEN,
        _ => ipv4::LEN + icmp::LEN,
    }
}

/// Sends the report to the port that `frame` came from, if it may have one. `max_frame`: the longest frame that fits.
#[cold]
pub(super) fn send_too_big<M: FrameMemory>(
    ctx: &mut BurstContext<'_, '_, M>,
    frame: &Frame,
    packet: L3Info,
    (port, domain): (PortId, &Domain),
    max_frame: u16,
) {
    if !may_be_reported(ctx.pool.memory().bytes(frame), packet)
        || !ctx.limits.may_send_error(port, ctx.now_ns)
    {
        return;
    }
    let max_packet = if packet.network == Network::V4 {
        icmp::MAX_V4
    } else {
        icmp::MAX_V6
    };
    let ip = usize::from(packet.ip);
    let there = ctx.pool.memory().bytes(frame).len();
    let quoted = usize::from(packet.end).min(there) - ip;
    let len = ip + (quoted + overhead(packet.network)).min(max_packet);
    // Like any frame for this port, it is dropped and counted where it can't go.
    let Some(exit) = port_output::find(ctx, port, domain, len) else {
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
    write(from, packet, to, max_frame.saturating_sub(packet.ip));
    TenantBoundFrame::new(reply).send(ctx, exit);
}

/// RFC 1122 section 3.2.2, RFC 4443 section 2.4: no error icmp_errors an error, a later fragment, or what was sent to or
/// from anything but one host.
fn may_be_reported(frame: &[u8], packet: L3Info) -> bool {
    let Some(transport) = packet.transport_range() else {
        return false;
    };
    let kind = frame
        .get(transport.start..transport.end.min(frame.len()))
        .and_then(|message| message.first().copied());
    let bytes = &frame[usize::from(packet.ip)..];
    let (between_hosts, about_error) = match packet.network {
        Network::Other => return false,
        Network::V4 => {
            let Some(header) = Ipv4::parse(bytes) else {
                return false;
            };
            let is_host = |a: std::net::Ipv4Addr| !matches!(a.octets()[0], 0 | 127 | 224..);
            let error = packet.protocol == ipv4::ICMP && kind.is_none_or(icmp::is_v4_error);
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
            let error = packet.protocol == ipv6::ICMP && kind.is_none_or(icmp::is_v6_error);
            (
                is_host(header.source()) && is_host(header.destination()),
                error,
            )
        }
    };
    between_hosts && !about_error && packet.part != Part::Later
}

/// Writes the whole report to `to`, which has its length.
fn write(frame: &[u8], packet: L3Info, to: &mut [u8], mtu: u16) {
    let ip = usize::from(packet.ip);
    let message = ip + overhead(packet.network) - icmp::LEN;
    to[..ip].copy_from_slice(&frame[..ip]);
    ethernet::swap_addresses(to);
    let quote = message + icmp::LEN;
    let quoted = to.len() - quote;
    to[quote..].copy_from_slice(&frame[ip..ip + quoted]);
    let payload_len = (to.len() - message) as u16;
    let (headers, body) = to.split_at_mut(message);
    let headers = &mut headers[ip..];
    match packet.network {
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
