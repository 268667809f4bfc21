//! Input from underlay devices. Frames from the overlay are never sent back to it (split horizon).
//!
//! ```text
//! parse: decap, VNI, source VTEP, validate, ECN -> lookup -> forward: port_output
//! ```

use std::net::IpAddr;

use super::cache::RxTunnel;
use super::context::BurstContext;
use super::decap::{self, VxlanPacket};
use super::meta::DropScope;
use super::parse::{L3Info, Network};
use super::port_output::{self, TenantBoundFrame};
use super::stages::Input;
use super::{checksum, ecn, validate};
use crate::addr::VtepAddr;
use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory};
use crate::table::mac::{Destination, LookupResult, MacKey};
use crate::table::vni::Domain;
use crate::table::vtep::RemoteVtep;
use crate::wire::{ipv4, ipv6};

/// What `parse` found in a VXLAN packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct DecapMeta<'t> {
    /// The bridge domain of its VNI; `None`: it was dropped and counted.
    domain: Option<&'t Domain>,
    /// Its sender; `None`: an unknown VTEP, whose packet came to the VNI's multicast group.
    from: Option<&'t RemoteVtep>,
}

impl DecapMeta<'_> {
    /// The metadata of a packet that was dropped and counted.
    pub(super) const DROPPED: Self = Self {
        domain: None,
        from: None,
    };
}

/// A validated inner frame, without its outer headers.
#[derive(Debug)]
pub(super) struct DecapsulatedFrame<'t> {
    pub(super) frame: Frame,
    pub(super) meta: DecapMeta<'t>,
}

/// Underlay devices.
pub(super) struct VxlanInput;

impl<'t> Input<'t> for VxlanInput {
    type Meta = DecapMeta<'t>;
    const DROPPED: DecapMeta<'t> = DecapMeta::DROPPED;
    const PREPENDS: bool = false;

    /// Removes the outer headers; the key is that of the inner frame.
    #[inline(always)]
    fn parse<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frame: &mut Frame,
        meta: &mut DecapMeta<'t>,
    ) -> MacKey {
        let mut scope = DropScope::default();
        match decapsulate(ctx, frame, &mut scope) {
            Ok((found, key)) => {
                *meta = found;
                key
            }
            Err(reason) => {
                ctx.count_drop(reason, scope);
                *meta = DecapMeta::DROPPED;
                MacKey::default()
            }
        }
    }

    #[inline(always)]
    fn forward<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frame: Frame,
        &meta: &DecapMeta<'t>,
        _key: MacKey,
        found: LookupResult,
    ) {
        DecapsulatedFrame { frame, meta }.forward(ctx, found);
    }
}

/// Checks a packet and removes its outer headers. `scope`: filled in with what a drop is counted
/// for.
#[inline(always)]
fn decapsulate<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    frame: &mut Frame,
    scope: &mut DropScope<'t>,
) -> Result<(DecapMeta<'t>, MacKey), DropReason> {
    if ctx.device.csum_incomplete {
        checksum::complete_vxlan(ctx.pool.memory_mut(), frame);
    }
    // Specialized for untagged outer IPv4, with constant offsets; the general version follows.
    let (memory, len) = (ctx.pool.memory(), frame.len());
    let sum = |range| memory.sum(frame, range);
    match decap::parse_plain_v4(memory.bytes(frame), len, &ctx.snapshot.settings, sum) {
        Some(packet) => strip_outer(ctx, frame, packet?, scope),
        None => decapsulate_any(ctx, frame, scope),
    }
}

/// [`decapsulate`] for packets of any kind.
#[inline(never)]
fn decapsulate_any<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    frame: &mut Frame,
    scope: &mut DropScope<'t>,
) -> Result<(DecapMeta<'t>, MacKey), DropReason> {
    let (memory, len) = (ctx.pool.memory(), frame.len());
    let sum = |range| memory.sum(frame, range);
    let packet = decap::parse(memory.bytes(frame), len, &ctx.snapshot.settings, sum)?;
    strip_outer(ctx, frame, packet, scope)
}

/// Checks VNI, source VTEP and inner frame, and removes the outer headers.
#[inline(always)]
fn strip_outer<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    frame: &mut Frame,
    packet: VxlanPacket,
    scope: &mut DropScope<'t>,
) -> Result<(DecapMeta<'t>, MacKey), DropReason> {
    let VxlanPacket {
        source,
        to_group,
        vni,
        tos,
        inner,
    } = packet;
    let same = |current: &&RxTunnel<'_>| {
        current.domain.vni.get() == vni
            && current.source == source
            && !to_group
            && !current.to_group
    };
    let RxTunnel { domain, vtep, .. } = match ctx.rx_tunnel.current().filter(same) {
        Some(current) => *current,
        None => find_rx_tunnel(ctx, frame, (source, vni), scope)?,
    };
    (scope.domain, scope.vtep) = (Some(domain), vtep);
    ctx.rx_tunnel.add(inner.len());
    let bytes = ctx.pool.memory_mut().bytes_mut(frame);
    let end = inner.end.min(bytes.len());
    let bytes = bytes
        .get_mut(inner.start..end)
        .ok_or(DropReason::OuterTruncated)?;
    let key = MacKey::of_bits(
        domain.id,
        validate::inner(bytes, domain)?.destination_bits(),
    );
    if tos & ecn::MASK != 0 {
        combine_ecn(bytes, tos)?;
    }
    ctx.pool.truncate(frame, inner.end);
    frame
        .trim_front(inner.start as u16)
        .map_err(|_| DropReason::OuterTruncated)?;
    Ok((
        DecapMeta {
            domain: Some(domain),
            from: vtep,
        },
        key,
    ))
}

/// The VNI and the sender of a packet: a VTEP of the VNI, or any VTEP when the packet came to the
/// VNI's multicast group.
#[inline(never)]
fn find_rx_tunnel<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    frame: &Frame,
    (source, vni): (IpAddr, u32),
    scope: &mut DropScope<'t>,
) -> Result<RxTunnel<'t>, DropReason> {
    let snapshot = ctx.snapshot;
    let domain = snapshot.vnis.by_vni(vni).ok_or(DropReason::UnknownVni)?;
    scope.domain = Some(domain);
    let group = decap::group(ctx.pool.memory().bytes(frame));
    if group.is_some() && group != domain.group.map(VtepAddr::get) {
        return Err(DropReason::WrongDestination);
    }
    let from = snapshot
        .vteps
        .by_source(source)
        .filter(|from| domain.sources.contains(*from));
    if from.is_none() && (group.is_none() || VtepAddr::new(source).is_err()) {
        return Err(DropReason::UnknownVtep);
    }
    let vtep = from.and_then(|from| snapshot.vteps.get(from));
    let origin = RxTunnel {
        source,
        to_group: group.is_some(),
        domain,
        vtep,
    };
    ctx.rx_tunnel.switch(origin);
    Ok(origin)
}

impl<'t> DecapsulatedFrame<'t> {
    /// Sends the frame to the port of its key, or floods it to all local ports of the domain.
    #[inline(always)]
    pub(super) fn forward<M: FrameMemory>(
        self,
        ctx: &mut BurstContext<'t, '_, M>,
        found: LookupResult,
    ) {
        // The MAC table has unicast MACs only.
        if let (Some(port), Some(domain)) = (found.port(), self.meta.domain)
            && port_output::same_path(ctx, port, domain, self.frame.len())
        {
            return TenantBoundFrame::new(self.frame).deliver(ctx);
        }
        self.forward_slow(ctx, found.destination());
    }

    /// Slow path.
    #[inline(never)]
    fn forward_slow<M: FrameMemory>(
        self,
        ctx: &mut BurstContext<'t, '_, M>,
        found: Option<Destination>,
    ) {
        let Some(domain) = self.meta.domain else {
            return ctx.pool.free(self.frame);
        };
        let scope = DropScope {
            port: None,
            domain: Some(domain),
            vtep: self.meta.from,
        };
        match found {
            Some(Destination::Port(port)) => {
                match port_output::find(ctx, port, domain, self.frame.len()) {
                    Some(tx_port) => TenantBoundFrame::new(self.frame).send(ctx, tx_port),
                    None => ctx.pool.free(self.frame),
                }
            }
            Some(Destination::Vtep(_)) => {
                ctx.drop_frame(self.frame, DropReason::SplitHorizon, scope);
            }
            None if domain.flood.ports.is_empty() => {
                ctx.drop_frame(self.frame, DropReason::NoFloodTarget, scope);
            }
            None => TenantBoundFrame::new(self.frame).flood(ctx, domain),
        }
    }
}

/// Copies a congestion mark from the outer to the inner header (RFC 6040). Frames other than IP
/// can't carry it; they pass, as on Linux.
#[inline(never)]
fn combine_ecn(frame: &mut [u8], outer: u8) -> Result<(), DropReason> {
    let packet = L3Info::of(frame);
    if packet.network == Network::Other {
        return Ok(());
    }
    let tos = ecn::inner_tos(outer, packet.tos).ok_or(DropReason::EcnCongested)?;
    if tos != packet.tos {
        let header = &mut frame[usize::from(packet.ip)..];
        match packet.network {
            Network::V6 => ipv6::set_traffic_class(header, tos),
            _ => ipv4::set_tos(header, tos),
        }
    }
    Ok(())
}
