//! Output to a VTEP. Only frames from tenants can be encapsulated, so that a frame from the overlay
//! never returns to it (split horizon).

use super::cache::TxTunnel;
use super::context::BurstContext;
use super::cut::{Cut, Superframe, cut};
use super::ecn::OuterTos;
use super::encap::{self, PerPacketFields, PlainHeaderV4, PlainHeaderV6, RunHeader, Tail};
use super::meta::{Disposition, DropScope, FrameMeta, TenantFrame, TxFrame};
use super::parse::L3Info;
use super::stages::prefetch_headroom;
use super::superframe::WireSize;
use super::{flow, pmtu};
use crate::addr::VtepId;
use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory};
use crate::table::encapsulation::{PLAIN_V4, PLAIN_V6};
use crate::table::mac::{Destination, LookupResult, MacKey};
use crate::table::port::PortEntry;
use crate::table::vni::Domain;
use crate::table::vtep::{Adjacency, RemoteVtep};
use crate::table::{Settings, Snapshot};
use crate::wire::checksum::Sum;

/// An encapsulated frame from a tenant: the only kind of frame that can be sent to the underlay.
#[derive(Debug)]
pub(super) struct EncapsulatedFrame(Frame);

impl TxFrame for EncapsulatedFrame {
    fn into_frame(self) -> Frame {
        self.0
    }
}

impl FrameMeta {
    /// The fields of the outer header that depend on the frame and its VNI.
    #[inline(always)]
    pub(super) const fn per_packet_fields(
        &self,
        settings: &Settings,
        domain: &Domain,
    ) -> PerPacketFields {
        PerPacketFields {
            tos: OuterTos::new(settings.dscp).of(self.tos),
            source_port: flow::source_port(self.flow),
            vni: domain.vni.get(),
            flow_label: flow::label(self.flow),
            no_udp6_checksum: settings.udp6_zero_tx,
        }
    }
}

/// True when the frame takes the current path, as the frame before it did.
#[inline(always)]
pub(super) fn same_path<M: FrameMemory>(
    ctx: &BurstContext<'_, '_, M>,
    frame: &Frame,
    meta: &FrameMeta,
    (id, key): (VtepId, MacKey),
) -> bool {
    ctx.tx_tunnel.current().is_some_and(|current| {
        let hash = flow::path_hash(meta.flow);
        let path = if current.by_group {
            let selected = ctx.snapshot.vteps.select(id, hash);
            selected.and_then(|(_, path)| path)
        } else {
            current.vtep.path(hash)
        };
        meta.disposition == Disposition::Forward
            && current.id == id
            && current.domain.id == key.domain()
            && path.is_some_and(|path| std::ptr::eq(path, current.path))
            && frame.len() <= usize::from(current.path.max_frame)
    })
}

/// [`encapsulate`] for a run: the frames, from the first on, of one chunk, with headroom, and on the
/// current path, as [`same_path`] says. `ahead`: what is prefetched with each of them. Returns their
/// number.
#[inline(always)]
pub(super) fn encapsulate_run<M: FrameMemory>(
    ctx: &mut BurstContext<'_, '_, M>,
    frames: &mut [Frame],
    meta: &[FrameMeta],
    (keys, found): (&[MacKey], &[LookupResult]),
    ahead: &[*const u8],
) -> usize {
    let Some(&tunnel) = ctx.tx_tunnel.current() else {
        return 0;
    };
    match usize::from(tunnel.path.rewrite.size()) {
        PLAIN_V4 => write_run::<PlainHeaderV4, M>(ctx, &tunnel, frames, meta, (keys, found), ahead),
        PLAIN_V6 => write_run_v6(ctx, &tunnel, frames, meta, (keys, found), ahead),
        _ => 0,
    }
}

#[inline(never)]
fn write_run_v6<M: FrameMemory>(
    ctx: &mut BurstContext<'_, '_, M>,
    tunnel: &TxTunnel<'_>,
    frames: &mut [Frame],
    meta: &[FrameMeta],
    looked_up: (&[MacKey], &[LookupResult]),
    ahead: &[*const u8],
) -> usize {
    write_run::<PlainHeaderV6, M>(ctx, tunnel, frames, meta, looked_up, ahead)
}

/// [`encapsulate_run`] over `tunnel`, whose header is an `H`.
#[inline(always)]
fn write_run<H: RunHeader, M: FrameMemory>(
    ctx: &mut BurstContext<'_, '_, M>,
    tunnel: &TxTunnel<'_>,
    frames: &mut [Frame],
    meta: &[FrameMeta],
    (keys, found): (&[MacKey], &[LookupResult]),
    ahead: &[*const u8],
) -> usize {
    let settings = &ctx.snapshot.settings;
    let in_common = FrameMeta::DROPPED.per_packet_fields(settings, tunnel.domain);
    let header = H::new(&tunnel.path.rewrite, in_common);
    let has_one_path = !tunnel.by_group && tunnel.vtep.paths.len() == 1;
    let to = LookupResult::from(Destination::Vtep(tunnel.id));
    let outer_tos = OuterTos::new(settings.dscp);
    let (longest, mut bytes, mut count) = (usize::from(tunnel.path.max_frame), 0, 0);
    let looked_up = keys.iter().zip(found).zip(ahead);
    for ((frame, meta), ((key, found), ahead)) in frames.iter_mut().zip(meta).zip(looked_up) {
        prefetch_headroom(*ahead);
        // All of it, if the frame is plain.
        let len = frame.first().len();
        // Non-short-circuit: all hold for nearly every frame, so one branch suffices.
        let is_usual = frame.is_plain()
            & (len <= longest)
            & (*found == to)
            & (key.domain() == tunnel.domain.id)
            & (meta.disposition == Disposition::Forward);
        let id = (tunnel.id, *key);
        let takes_path = is_usual && (has_one_path || same_path(ctx, frame, meta, id));
        if !takes_path || frame.prepend(H::LEN as u16).is_err() {
            break;
        }
        let packet = ctx.pool.memory_mut().bytes_mut(frame);
        let fields = PerPacketFields {
            tos: outer_tos.of(meta.tos),
            ..meta.per_packet_fields(settings, tunnel.domain)
        };
        header.write(packet, Tail::default(), fields, ctx.identification);
        (bytes, count) = (bytes + len, count + 1);
    }
    let sent = ctx.out.push_run(tunnel.device.id, &mut frames[..count]);
    if sent < count {
        let scope = DropScope {
            port: None,
            domain: Some(tunnel.domain),
            vtep: Some(tunnel.vtep),
        };
        let refused = &mut frames[sent..count];
        bytes += refused.len() * H::LEN;
        bytes -= ctx.refuse(tunnel.device, refused, scope);
    }
    ctx.tx_tunnel.add_many(sent as u64, bytes as u64);
    count
}

/// Writes the outer header of the current path into the frame's headroom, and queues the frame.
#[inline(always)]
pub(super) fn encapsulate<M: FrameMemory>(
    ctx: &mut BurstContext<'_, '_, M>,
    frame: Frame,
    meta: &FrameMeta,
) {
    let Some(&TxTunnel {
        path,
        device,
        domain,
        vtep,
        ..
    }) = ctx.tx_tunnel.current()
    else {
        return ctx.drop_frame(frame, DropReason::NoAdjacency, DropScope::default());
    };
    let (inner_len, scope) = (
        frame.len(),
        DropScope {
            port: None,
            domain: Some(domain),
            vtep: Some(vtep),
        },
    );
    let fields = meta.per_packet_fields(&ctx.snapshot.settings, domain);
    match EncapsulatedFrame::prepend(ctx, frame, path, fields) {
        Ok(frame) => {
            if ctx.enqueue(device, frame, scope) {
                ctx.tx_tunnel.add(inner_len);
            }
        }
        Err(frame) => ctx.drop_frame(frame, DropReason::BadDescriptor, scope),
    }
}

/// Sends the segments of a superframe to a VTEP.
#[cold]
pub(super) fn cut_to_vtep<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    superframe: Superframe<'_>,
    meta: &FrameMeta,
    tunnel: TxTunnel<'t>,
) {
    let TxTunnel {
        vtep,
        path,
        device,
        domain,
        ..
    } = tunnel;
    let scope = DropScope {
        port: None,
        domain: Some(domain),
        vtep: Some(vtep),
    };
    let fields = meta.per_packet_fields(&ctx.snapshot.settings, domain);
    ctx.set_tx_tunnel(tunnel);
    let left = cut(ctx, superframe, scope, |ctx, segment| {
        let (len, chunks) = (segment.frame.len(), segment.chunks);
        match EncapsulatedFrame::prepend_summed(ctx, segment, path, fields) {
            Ok(packet) => {
                let sent = ctx.enqueue_to_vtep(device, (packet, chunks), domain, vtep);
                if sent {
                    ctx.tx_tunnel.add(len);
                }
                sent
            }
            Err(frame) => {
                ctx.drop_frame(frame, DropReason::BadDescriptor, scope);
                true
            }
        }
    });
    if left > 0 {
        ctx.count_refused(device, scope, left);
    }
}

/// Length and checksum of what follows a frame's first segment.
#[cold]
fn tail<M: FrameMemory>(ctx: &BurstContext<'_, '_, M>, frame: &Frame, path: &Adjacency) -> Tail {
    let (first, len) = (frame.first().len(), frame.len());
    let with_sum = path.rewrite.is_v6() && !ctx.snapshot.settings.udp6_zero_tx;
    let sum = if with_sum {
        ctx.pool.memory().sum(frame, first..len)
    } else {
        Sum::new()
    };
    Tail {
        len: len - first,
        sum,
    }
}

impl EncapsulatedFrame {
    /// Writes the outer header of `path` into the headroom of `frame`.
    ///
    /// # Errors
    /// The frame, when its headroom is too short.
    #[inline(always)]
    pub(super) fn prepend<M: FrameMemory>(
        ctx: &mut BurstContext<'_, '_, M>,
        mut frame: Frame,
        path: &Adjacency,
        fields: PerPacketFields,
    ) -> Result<Self, Frame> {
        if frame.prepend(path.rewrite.size()).is_err() {
            return Err(frame);
        }
        let tail = if frame.is_chained() {
            tail(ctx, &frame, path)
        } else {
            Tail::default()
        };
        Ok(Self::write(ctx, frame, tail, path, fields))
    }

    /// [`EncapsulatedFrame::prepend`] for a segment of a superframe, whose checksum is known.
    ///
    /// # Errors
    /// The frame, when its headroom is too short.
    #[inline]
    fn prepend_summed<M: FrameMemory>(
        ctx: &mut BurstContext<'_, '_, M>,
        Cut { mut frame, sum, .. }: Cut,
        path: &Adjacency,
        fields: PerPacketFields,
    ) -> Result<Self, Frame> {
        let (len, size) = (frame.len(), path.rewrite.size());
        if frame.prepend(size).is_err() {
            return Err(frame);
        }
        let packet = ctx.pool.memory_mut().bytes_mut(&mut frame);
        let header = &mut packet[..size.into()];
        let tail = Tail { len, sum };
        encap::write(header, tail, &path.rewrite, fields, ctx.identification);
        Ok(Self(frame))
    }

    /// Writes the outer header of `path` over the first bytes of `frame`, which are reserved for
    /// it.
    #[inline(always)]
    pub(super) fn write<M: FrameMemory>(
        ctx: &mut BurstContext<'_, '_, M>,
        mut frame: Frame,
        tail: Tail,
        path: &Adjacency,
        fields: PerPacketFields,
    ) -> Self {
        let packet = ctx.pool.memory_mut().bytes_mut(&mut frame);
        encap::write(packet, tail, &path.rewrite, fields, ctx.identification);
        Self(frame)
    }
}

impl TenantFrame {
    /// The path to a VTEP, or to a member of a group, with its device; `None` when there is none, or
    /// the frame does not fit.
    #[inline(always)]
    pub(super) fn lookup_tunnel<'t, M: FrameMemory>(
        &self,
        ctx: &BurstContext<'t, '_, M>,
        id: VtepId,
        domain: &'t Domain,
    ) -> Option<TxTunnel<'t>> {
        let longest = WireSize::of(ctx.pool.memory(), &self.frame).longest;
        let (vtep, path) = self.adjacency(ctx.snapshot, id, longest)?;
        let device = ctx.snapshot.ports.device(path.device)?;
        Some(TxTunnel {
            id,
            by_group: ctx.snapshot.vteps.get(id).is_none(),
            vtep,
            path,
            device,
            domain,
        })
    }

    /// A VTEP and the adjacency of this frame's flow; `None` when there is none, or the frame, of `len`
    /// bytes on the wire, does not fit.
    #[inline(always)]
    pub(super) fn adjacency<'t>(
        &self,
        snapshot: &'t Snapshot,
        id: VtepId,
        len: usize,
    ) -> Option<(&'t RemoteVtep, &'t Adjacency)> {
        let hash = flow::path_hash(self.meta.flow);
        let (vtep, path) = snapshot.vteps.select(id, hash)?;
        let path = path?;
        (len <= usize::from(path.max_frame)).then_some((vtep, path))
    }

    /// Parses the frame's L3 header again, for the slow path.
    pub(super) fn l3_info<M: FrameMemory>(&self, ctx: &BurstContext<'_, '_, M>) -> L3Info {
        L3Info::of_first(ctx.pool.memory().bytes(&self.frame), self.frame.len())
    }

    /// The path to a VTEP for this frame. `None`: the drop has been counted; if the frame is too
    /// long for the path and `report` is set, its sender has been sent an ICMP error.
    #[inline(never)]
    pub(super) fn find_tunnel<'t, M: FrameMemory>(
        &self,
        ctx: &mut BurstContext<'t, '_, M>,
        id: VtepId,
        domain: &'t Domain,
        report: bool,
    ) -> Option<TxTunnel<'t>> {
        if let Some(tunnel) = self.lookup_tunnel(ctx, id, domain) {
            return Some(tunnel);
        }
        let hash = flow::path_hash(self.meta.flow);
        let selected = ctx.snapshot.vteps.select(id, hash);
        let vtep = selected.map(|(vtep, _)| vtep);
        let scope = DropScope {
            port: ctx.snapshot.ports.port(self.meta.port),
            domain: Some(domain),
            vtep,
        };
        let WireSize {
            frames, longest, ..
        } = WireSize::of(ctx.pool.memory(), &self.frame);
        let count = |reason| ctx.count_drops_at(ctx.device, reason, scope, frames);
        match selected.and_then(|(_, path)| path) {
            None => count(DropReason::NoAdjacency),
            Some(path) if longest <= usize::from(path.max_frame) => count(DropReason::PortDown),
            Some(path) => {
                let unsegmented = |port: &PortEntry| port.is_unsegmented(longest);
                let reason = if scope.port.is_some_and(unsegmented) {
                    DropReason::Unsegmented
                } else {
                    DropReason::TooBig
                };
                count(reason);
                if report {
                    let l3 = self.l3_info(ctx);
                    pmtu::send_too_big(
                        ctx,
                        &self.frame,
                        l3,
                        (self.meta.port, domain),
                        path.max_frame,
                    );
                }
            }
        }
        None
    }

    /// Sends the frame to a VTEP.
    #[inline(never)]
    pub(super) fn send_to_vtep<'t, M: FrameMemory>(
        self,
        ctx: &mut BurstContext<'t, '_, M>,
        tunnel: TxTunnel<'t>,
    ) {
        if self.frame.has_offload() {
            ctx.cuts = Some(true);
            return cut_to_vtep(ctx, Superframe::Last(self.frame), &self.meta, tunnel);
        }
        ctx.set_tx_tunnel(tunnel);
        encapsulate(ctx, self.frame, &self.meta);
    }
}
