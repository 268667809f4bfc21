//! Input from underlay devices. Frames from the overlay are never sent back to it (split horizon).
//!
//! ```text
//! parse: decap, VNI, source VTEP, validate, ECN -> lookup -> forward: port_output
//!                                                                    gro, for devices that take
//!                                                                    superframes -> port_output
//! ```

use std::net::IpAddr;
use std::ops::Range;

use super::cache::RxTunnel;
use super::context::BurstContext;
use super::decap::{self, InnerFrame, TunnelHeaders, VxlanPacket};
use super::meta::{DropScope, TenantBoundFrame};
use super::parse::{L3Info, Network};
use super::port_output;
use super::stages::{Addresses, Input};
use super::superframe::{self, WireSize};
use super::{checksum, ecn, overlay_flood, validate};
use crate::addr::{PortId, VtepAddr};
use crate::drop::DropReason;
use crate::frame::offload::{ChecksumState, Offload};
use crate::frame::{BURST, Frame, FrameMemory};
use crate::table::mac::{Destination, LookupResult, Lookups, MacKey};
use crate::table::vni::Domain;
use crate::table::vtep::RemoteVtep;
use crate::wire::ethernet::Ethernet;
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

    /// Compares packets with the headers of the tunnel of the one before, and removes these.
    #[inline(always)]
    fn parse_usual<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        lookups: &mut Lookups,
        frames: &mut [Frame],
        meta: &mut [DecapMeta<'t>; BURST],
        (addresses, first): (&Addresses, usize),
    ) -> usize {
        let Some(&RxTunnel {
            domain,
            headers: Some(headers),
            ..
        }) = ctx.rx_tunnel.current()
        else {
            return 0;
        };
        // A loop for each family, with constant offsets.
        let (tags, places) = (domain.pass_tags, (frames, meta, first));
        match headers {
            TunnelHeaders::V4(common) => strip_usual(ctx, lookups, places, addresses, |packet| {
                decap::inner_v4(&common, packet, tags)
            }),
            TunnelHeaders::V6(common, sum) => {
                strip_usual(ctx, lookups, places, addresses, |packet| {
                    decap::inner_v6((&common, sum), packet, tags)
                })
            }
        }
    }

    /// Removes the outer headers; the key is that of the inner frame.
    #[inline(never)]
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

    /// Delivers runs of frames to one port together.
    #[inline(always)]
    fn forward_all<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frames: &mut [Frame],
        meta: &[DecapMeta<'t>],
        (keys, found): (&[MacKey], &[LookupResult]),
        _addresses: &Addresses,
    ) {
        let mut at = 0;
        while at < frames.len() {
            let domains = meta[at..].iter().map(|meta| meta.domain);
            let run = port_output::deliver_run(ctx, &mut frames[at..], domains, &found[at..]);
            at += run;
            if run == 0 {
                Self::forward(ctx, frames[at].take(), &meta[at], keys[at], found[at]);
                at += 1;
            }
        }
    }
}

/// Removes the outer headers of packets of the current tunnel, from packet `first` on, in which
/// `inner_of` locates the inner frame. Returns their number.
#[inline(always)]
fn strip_usual<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    lookups: &mut Lookups,
    (frames, meta, first): (&mut [Frame], &mut [DecapMeta<'t>; BURST], usize),
    addresses: &Addresses,
    inner_of: impl Fn(&[u8]) -> Option<InnerFrame>,
) -> usize {
    let Some(&RxTunnel { domain, vtep, .. }) = ctx.rx_tunnel.current() else {
        return 0;
    };
    let (memory, macs, id) = (ctx.pool.memory(), ctx.macs, domain.id);
    let count = frames.len().min(BURST);
    let (mut at, mut bytes) = (first, 0);
    while at < count {
        addresses.prefetch_ahead(at);
        let frame = &mut frames[at];
        let Some(inner) = inner_of(memory.bytes(frame)).filter(|_| frame.is_plain()) else {
            break;
        };
        meta[at] = DecapMeta {
            domain: Some(domain),
            from: vtep,
        };
        frame.keep(inner.start, inner.len);
        macs.lookup_start(lookups, at, MacKey::of_bits(id, inner.destination));
        (at, bytes) = (at + 1, bytes + inner.len);
    }
    ctx.rx_tunnel.add_many((at - first) as u64, bytes as u64);
    at - first
}

/// Checks a packet and removes its outer headers. `scope`: filled in with what a drop is counted
/// for.
#[inline(always)]
fn decapsulate<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    frame: &mut Frame,
    scope: &mut DropScope<'t>,
) -> Result<(DecapMeta<'t>, MacKey), DropReason> {
    if frame.has_offload() {
        return decapsulate_offload(ctx, frame, scope);
    }
    if ctx.device.csum_incomplete {
        checksum::complete_vxlan(ctx.pool.memory_mut(), frame);
    }
    let bytes = ctx.pool.memory().bytes(frame);
    let header = Ethernet::parse(bytes).ok_or(DropReason::OuterTruncated)?;
    if !ctx.device.is_destination(header.destination()) {
        return Err(DropReason::OtherStation);
    }
    // Specialized for untagged outer IPv4, with constant offsets; the general version follows.
    let (memory, len) = (ctx.pool.memory(), frame.len());
    let sum = |range| Some(memory.sum(frame, range));
    match decap::parse_plain_v4(memory.bytes(frame), len, &ctx.snapshot.settings, sum) {
        Some(packet) => strip_outer(ctx, frame, packet?, scope, (0, 0)),
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
    let sum = |range| Some(memory.sum(frame, range));
    let packet = decap::parse(memory.bytes(frame), len, &ctx.snapshot.settings, sum)?;
    strip_outer(ctx, frame, packet, scope, (0, 0))
}

/// [`decapsulate`] for a packet whose sender left something to hardware, or whose checksum the kernel
/// has verified.
///
/// A superframe is one of the inner packet, as Linux' vxlan device sends it where the underlay takes
/// that: it stays one.
#[inline(never)]
fn decapsulate_offload<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    frame: &mut Frame,
    scope: &mut DropScope<'t>,
) -> Result<(DecapMeta<'t>, MacKey), DropReason> {
    let header = Ethernet::parse(ctx.pool.memory().bytes(frame));
    let header = header.ok_or(DropReason::OuterTruncated)?;
    if !ctx.device.is_destination(header.destination()) {
        return Err(DropReason::OtherStation);
    }
    let (memory, settings) = (ctx.pool.memory(), &ctx.snapshot.settings);
    let Offload {
        segmentation,
        checksum,
        ..
    } = memory.buffers().offload(frame);
    let inner_start = decap::inner_start(memory.bytes(frame)).ok_or(DropReason::OuterTruncated)?;
    // The partial checksum is that of the inner packet.
    let is_inner = matches!(checksum, ChecksumState::Partial { start, .. }
        if usize::from(start) >= usize::from(frame.start()) + inner_start);
    if segmentation.is_none() {
        if is_inner {
            superframe::receive(ctx.pool.memory_mut(), frame)?;
            return decapsulate_any(ctx, frame, scope);
        }
        memory.buffers().set_offload(frame, Offload::default());
    } else if !is_inner {
        return Err(DropReason::Unsegmentable);
    }
    let packet = decap::parse(
        ctx.pool.memory().bytes(frame),
        frame.len(),
        settings,
        |_| None,
    )?;
    if segmentation.is_none() {
        return strip_outer(ctx, frame, packet, scope, (0, 0));
    }
    // What is received beyond the one packet that is counted anyway.
    let WireSize { frames, bytes, .. } = WireSize::checked(ctx.pool.memory(), frame)?;
    let (more, bytes) = (frames - 1, bytes - frame.len() as u64);
    ctx.device.counters.row(ctx.worker).received(more, bytes);
    let inner = bytes - more * packet.inner.start as u64;
    let stripped = strip_outer(ctx, frame, packet, scope, (more, inner));
    stripped.inspect_err(|reason| ctx.count_drops_at(ctx.device, *reason, *scope, more))
}

/// Checks VNI, source VTEP and inner frame, and removes the outer headers. `more`: frames and bytes
/// that the packet stands for beyond itself.
#[inline(always)]
fn strip_outer<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    frame: &mut Frame,
    packet: VxlanPacket,
    scope: &mut DropScope<'t>,
    more: (u64, u64),
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
    ctx.rx_tunnel
        .add_many(1 + more.0, inner.len() as u64 + more.1);
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
    strip(ctx, frame, inner)?;
    let meta = DecapMeta {
        domain: Some(domain),
        from: vtep,
    };
    Ok((meta, key))
}

/// Removes what is outside of `inner`.
#[inline(always)]
fn strip<M: FrameMemory>(
    ctx: &mut BurstContext<'_, '_, M>,
    frame: &mut Frame,
    inner: Range<usize>,
) -> Result<(), DropReason> {
    ctx.pool.truncate(frame, inner.end);
    frame
        .trim_front(inner.start as u16)
        .map_err(|_| DropReason::OuterTruncated)
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
    let bytes = ctx.pool.memory().bytes(frame);
    let group = decap::group(bytes);
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
    // Where checksums are left to the device, every packet is looked at.
    let headers = Ethernet::parse(bytes)
        .filter(|_| group.is_none() && !ctx.device.csum_incomplete)
        .and_then(|header| {
            TunnelHeaders::new(header.destination(), source, vni, &snapshot.settings)
        });
    let origin = RxTunnel {
        source,
        to_group: group.is_some(),
        domain,
        vtep,
        headers,
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
            && !self.frame.has_offload()
            && port_output::same_path(ctx, port, domain, self.frame.len())
        {
            TenantBoundFrame::new(self.frame).deliver(ctx);
            return;
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
        match found.filter(|to| ctx.snapshot.vteps.is_reachable(*to)) {
            Some(Destination::Port(port)) => {
                match port_output::find_for(ctx, port, domain, &self.frame, None) {
                    Some(to) if to.device.superframes => join(ctx, port, self.frame),
                    Some(tx_port) => TenantBoundFrame::new(self.frame).send(ctx, tx_port),
                    None => ctx.pool.free(self.frame),
                }
            }
            Some(Destination::Vtep(_)) => {
                ctx.drop_frame(self.frame, DropReason::SplitHorizon, scope);
            }
            None => {
                overlay_flood::enqueue(TenantBoundFrame::new(self.frame), ctx, domain, scope);
            }
        }
    }
}

/// Sends the segments that are held, at the end of a burst.
#[inline(always)]
pub(super) fn finish<M: FrameMemory>(ctx: &mut BurstContext<'_, '_, M>) {
    if !ctx.gro.is_empty() {
        send_held(ctx);
    }
}

#[inline(never)]
fn send_held<M: FrameMemory>(ctx: &mut BurstContext<'_, '_, M>) {
    ctx.gro.finish(ctx.pool);
    send_ready(ctx);
}

/// Holds a segment for `port`, whose device takes superframes, or sends what can't be joined.
#[inline(never)]
fn join<M: FrameMemory>(ctx: &mut BurstContext<'_, '_, M>, port: PortId, frame: Frame) {
    ctx.gro.offer(ctx.pool, port, frame);
    send_ready(ctx);
}

/// Sends frames that no other segment can be joined to.
#[inline(never)]
fn send_ready<M: FrameMemory>(ctx: &mut BurstContext<'_, '_, M>) {
    while let Some((port, frame)) = ctx.gro.next_ready() {
        match port_output::get(ctx, port) {
            Some(to) => TenantBoundFrame::new(frame).send(ctx, to),
            None => ctx.drop_frame(frame, DropReason::PortDown, DropScope::default()),
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
