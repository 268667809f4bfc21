//! To a VTEP: only frames of tenants are encapsulated, so that no frame from the overlay goes back to it.

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

/// An encapsulated frame of a tenant. Nothing else can be sent to the underlay.
#[derive(Debug)]
pub(super) struct EncapsulatedFrame(Frame);

impl TxFrame for EncapsulatedFrame {
    fn into_frame(self) -> Frame {
        self.0
    }
}

impl FrameMeta {
    /// What the outer header has of the frame and its VNI.
    #[inline(always)]
    pub(super) const fn fields(&self, settings: &Settings, domain: &Domain) -> PerPacketFields {
        PerPacketFields {
            tos: ecn::outer_tos(self.tos, settings.dscp),
            source_port: flow::source_port(self.flow),
            vni: domain.vni.get(),
            no_udp6_checksum: settings.udp6_zero_tx,
        }
    }
}

/// True when the frame goes the same way as the one before it.
#[inline(always)]
pub(super) fn same_path<M: FrameMemory>(
    ctx: &BurstContext<'_, '_, M>,
    frame: &Frame,
    meta: &FrameMeta,
    (id, key): (VtepId, MacKey),
) -> bool {
    ctx.tx_tunnel.current().is_some_and(|way| {
        let path = way.vtep.path(flow::path_hash(meta.flow));
        meta.disposition == Disposition::Forward
            && way.id == id
            && way.domain.id == key.domain()
            && path.is_some_and(|path| std::ptr::eq(path, way.path))
            && frame.len() <= usize::from(way.path.max_frame)
    })
}

/// Puts the outer header of the way that is taken now before the frame, in its own headroom, and sends it to the underlay.
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
    let fields = meta.fields(&ctx.snapshot.settings, domain);
    match EncapsulatedFrame::prepend(ctx, frame, path, fields) {
        Ok(frame) => {
            if ctx.enqueue(device, frame, scope) {
                ctx.tx_tunnel.add(inner_len);
            }
        }
        Err(frame) => ctx.drop_frame(frame, DropReason::BadDescriptor, scope),
    }
}

/// What follows the first chunk of a frame.
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
    /// Puts the outer header of `path` before a frame, in its own headroom; gives the frame back when that is too short.
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

    /// Writes the outer header of `path` to the front of a frame, where there is room for it.
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
    /// The path to a VTEP for this frame, if it fits.
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

    /// A VTEP and the path to it, if the frame fits.
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

    /// What the frame carries: looked at once more, where it is not the usual.
    pub(super) fn packet<M: FrameMemory>(&self, ctx: &BurstContext<'_, '_, M>) -> L3Info {
        L3Info::of_first(ctx.pool.memory().bytes(&self.frame), self.frame.len())
    }

    /// Finds the path to a VTEP for this frame. `None`: the drop has been counted, and, if `report`, the tenant told
    /// when its packet is too long.
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
                    let packet = self.packet(ctx);
                    pmtu::send_too_big(
                        ctx,
                        &self.frame,
                        packet,
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
