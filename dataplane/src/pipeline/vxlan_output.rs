//! Output to a VTEP. Only frames from tenants can be encapsulated, so that a frame from the overlay
//! never returns to it (split horizon).

use super::cache::TxTunnel;
use super::context::BurstContext;
use super::encap::{self, PerPacketFields, Tail};
use super::meta::{Disposition, DropScope, FrameMeta, TenantFrame, TxFrame};
use super::parse::L3Info;
use super::{ecn, flow, pmtu};
use crate::addr::VtepId;
use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory};
use crate::table::mac::MacKey;
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
            tos: ecn::outer_tos(self.tos, settings.dscp),
            source_port: flow::source_port(self.flow),
            vni: domain.vni.get(),
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
        let path = current.vtep.path(flow::path_hash(meta.flow));
        meta.disposition == Disposition::Forward
            && current.id == id
            && current.domain.id == key.domain()
            && path.is_some_and(|path| std::ptr::eq(path, current.path))
            && frame.len() <= usize::from(current.path.max_frame)
    })
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
    /// The path to a VTEP with its device; `None` when there is none, or the frame does not fit.
    #[inline(always)]
    pub(super) fn lookup_tunnel<'t, M: FrameMemory>(
        &self,
        ctx: &BurstContext<'t, '_, M>,
        id: VtepId,
        domain: &'t Domain,
    ) -> Option<TxTunnel<'t>> {
        let (vtep, path) = self.adjacency(ctx.snapshot, id)?;
        let device = ctx.snapshot.ports.device(path.device)?;
        Some(TxTunnel {
            id,
            vtep,
            path,
            device,
            domain,
        })
    }

    /// A VTEP and the adjacency of this frame's flow; `None` when there is none, or the frame does
    /// not fit.
    #[inline(always)]
    pub(super) fn adjacency<'t>(
        &self,
        snapshot: &'t Snapshot,
        id: VtepId,
    ) -> Option<(&'t RemoteVtep, &'t Adjacency)> {
        let vtep = snapshot.vteps.get(id)?;
        let path = vtep.path(flow::path_hash(self.meta.flow))?;
        (self.frame.len() <= usize::from(path.max_frame)).then_some((vtep, path))
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
        let vtep = ctx.snapshot.vteps.get(id);
        let scope = DropScope {
            port: ctx.snapshot.ports.port(self.meta.port),
            domain: Some(domain),
            vtep,
        };
        match vtep.and_then(|vtep| vtep.path(flow::path_hash(self.meta.flow))) {
            None => ctx.count_drop(DropReason::NoAdjacency, scope),
            Some(path) if self.frame.len() <= usize::from(path.max_frame) => {
                ctx.count_drop(DropReason::PortDown, scope);
            }
            Some(path) => {
                ctx.count_drop(DropReason::TooBig, scope);
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
        ctx.set_tx_tunnel(tunnel);
        encapsulate(ctx, self.frame, &self.meta);
    }
}
