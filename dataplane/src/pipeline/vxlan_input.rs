//! Frames from the overlay: they have no way back to it (split horizon).
//!
//! ```text
//! parse: decap, VNI, source VTEP, guard, ECN -> DecapsulatedFrame -> forward: local ports only
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

/// What the first stage found out of a packet, for the last one.
#[derive(Debug, Clone, Copy)]
pub(super) struct DecapMeta<'t> {
    /// The domain of its VNI; `None`: it was refused and counted.
    domain: Option<&'t Domain>,
    /// `None`: a VTEP that nobody has told of, by its VNI's group.
    from: Option<&'t RemoteVtep>,
}

impl DecapMeta<'_> {
    /// Of a packet that goes nowhere.
    pub(super) const NONE: Self = Self {
        domain: None,
        from: None,
    };
}

/// An inner frame, checked, without its outer headers.
#[derive(Debug)]
pub(super) struct DecapsulatedFrame<'t> {
    pub(super) frame: Frame,
    pub(super) meta: DecapMeta<'t>,
}

/// Packets of underlay devices.
pub(super) struct VxlanInput;

impl<'t> Input<'t> for VxlanInput {
    type FrameMeta = DecapMeta<'t>;
    const DROPPED: DecapMeta<'t> = DecapMeta::NONE;
    const PREPENDS: bool = false;

    /// Takes the outer headers off; the key is that of the inner frame.
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
                *meta = DecapMeta::NONE;
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

#[inline(always)]
fn decapsulate<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    frame: &mut Frame,
    scope: &mut DropScope<'t>,
) -> Result<(DecapMeta<'t>, MacKey), DropReason> {
    if ctx.device.csum_incomplete {
        checksum::complete_tunnelled(ctx.pool.memory_mut(), frame);
    }
    // Twice the same: once for what nearly all packets are, with offsets that the compiler knows.
    let (memory, len) = (ctx.pool.memory(), frame.len());
    let sum = |range| memory.sum(frame, range);
    match decap::parse_plain_v4(memory.bytes(frame), len, &ctx.snapshot.settings, sum) {
        Some(packet) => strip_outer(ctx, frame, packet?, scope),
        None => decapsulate_any(ctx, frame, scope),
    }
}

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

/// Checks where the packet comes from and what is in it, and takes the outer headers off.
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
    let same = |way: &&RxTunnel<'_>| {
        way.domain.vni.get() == vni && way.source == source && !to_group && !way.to_group
    };
    let RxTunnel { domain, vtep, .. } = match ctx.rx_tunnel.current().filter(same) {
        Some(way) => *way,
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

/// Whose packet it is: of a VTEP of its VNI, or of anybody if it came to the VNI's group.
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
    /// Sends the frame to the port that was found for its key, or to all local ports of the domain.
    #[inline(always)]
    pub(super) fn forward<M: FrameMemory>(
        self,
        ctx: &mut BurstContext<'t, '_, M>,
        found: LookupResult,
    ) {
        // Only MACs of hosts are ever found.
        if let (Some(port), Some(domain)) = (found.port(), self.meta.domain)
            && port_output::same_path(ctx, port, domain, self.frame.len())
        {
            return TenantBoundFrame::new(self.frame).deliver(ctx);
        }
        self.forward_slow(ctx, found.destination());
    }

    /// All but the usual.
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
                    Some(exit) => TenantBoundFrame::new(self.frame).send(ctx, exit),
                    None => ctx.pool.free(self.frame),
                }
            }
            Some(Destination::Vtep(_)) => {
                ctx.drop_frame(self.frame, DropReason::SplitHorizon, scope)
            }
            None if domain.flood.ports.is_empty() => {
                ctx.drop_frame(self.frame, DropReason::NoFloodTarget, scope)
            }
            None => TenantBoundFrame::new(self.frame).flood(ctx, domain),
        }
    }
}

/// Carries congestion from the outer to the inner header (RFC 6040). Frames other than IP have nowhere to say it, and no
/// sender that would listen: they pass, as on Linux.
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
