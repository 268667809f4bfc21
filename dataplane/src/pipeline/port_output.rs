//! To a tenant port: the only way out for a frame from the overlay, and one of two for a frame from a tenant.

use super::cache::TxPort;
use super::context::BurstContext;
use super::meta::{DropScope, TxFrame};
use crate::addr::PortId;
use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory};
use crate::table::port::Role;
use crate::table::vni::Domain;
use crate::wire::vlan;

/// A frame that can only go to tenants.
#[derive(Debug)]
pub(super) struct TenantBoundFrame(Frame);

impl TxFrame for TenantBoundFrame {
    fn into_frame(self) -> Frame {
        self.0
    }
}

/// True when the frame before went to the port `id` and one of `len` bytes of `domain` may too.
#[inline(always)]
pub(super) fn same_path<M: FrameMemory>(
    ctx: &BurstContext<'_, '_, M>,
    id: PortId,
    domain: &Domain,
    len: usize,
) -> bool {
    ctx.tx_port.current().is_some_and(|TxPort { port, .. }| {
        port.id == id && port.domain == domain.id && len <= usize::from(port.max_frame)
    })
}

/// Finds the port `id` for a frame of `len` bytes of `domain`. `None`: the drop has been counted.
///
/// The MAC table may be newer or older than the snapshot: a port of another domain, or on an underlay device, is none.
pub(super) fn find<'t, M: FrameMemory>(
    ctx: &BurstContext<'t, '_, M>,
    id: PortId,
    domain: &Domain,
    len: usize,
) -> Option<TxPort<'t>> {
    match look(ctx, id, domain) {
        Some(exit) if len <= usize::from(exit.port.max_frame) => Some(exit),
        found => refuse(ctx, id, domain, found),
    }
}

fn look<'t, M: FrameMemory>(
    ctx: &BurstContext<'t, '_, M>,
    id: PortId,
    domain: &Domain,
) -> Option<TxPort<'t>> {
    let ports = &ctx.snapshot.ports;
    let port = ports.port(id).filter(|port| port.domain == domain.id)?;
    let device = ports
        .device(port.device)
        .filter(|device| device.role != Role::Underlay)?;
    Some(TxPort { port, device })
}

/// Counts why a frame can't leave by a port.
#[cold]
fn refuse<'t, M: FrameMemory>(
    ctx: &BurstContext<'t, '_, M>,
    id: PortId,
    domain: &Domain,
    found: Option<TxPort<'t>>,
) -> Option<TxPort<'t>> {
    let scope = DropScope {
        port: ctx.snapshot.ports.port(id),
        domain: Some(domain),
        vtep: None,
    };
    match found {
        Some(exit) => ctx.count_drop_at(exit.device, DropReason::PortMtu, scope),
        None => ctx.count_drop(DropReason::PortDown, scope),
    }
    None
}

impl TenantBoundFrame {
    /// From now on the frame is for tenants only.
    pub(super) const fn new(frame: Frame) -> Self {
        Self(frame)
    }

    /// A second frame with the same bytes; `None` when no chunk is free.
    pub(super) fn copy<M: FrameMemory>(&self, ctx: &mut BurstContext<'_, '_, M>) -> Option<Self> {
        ctx.copy(&self.0).map(Self)
    }

    /// Sends the frame to a port.
    #[inline(never)]
    pub(super) fn send<'t, M: FrameMemory>(
        self,
        ctx: &mut BurstContext<'t, '_, M>,
        exit: TxPort<'t>,
    ) {
        if ctx
            .tx_port
            .current()
            .is_none_or(|way| way.port.id != exit.port.id)
        {
            ctx.tx_port.switch(exit);
        }
        self.deliver(ctx);
    }

    /// Sends the frame to the port that is the way out now, with the port's VLAN tag.
    #[inline(always)]
    pub(super) fn deliver<M: FrameMemory>(mut self, ctx: &mut BurstContext<'_, '_, M>) {
        let Some(&TxPort { port, device }) = ctx.tx_port.current() else {
            return ctx.drop_frame(self.0, DropReason::PortDown, DropScope::default());
        };
        let scope = DropScope {
            port: Some(port),
            ..DropScope::default()
        };
        let len = self.0.len();
        if let Some(id) = port.vlan {
            if self.0.prepend(vlan::LEN as u16).is_err() {
                return ctx.drop_frame(self.0, DropReason::BadDescriptor, scope);
            }
            vlan::push(ctx.pool.memory_mut().bytes_mut(&mut self.0), id);
        }
        if ctx.enqueue(device, self, scope) {
            ctx.tx_port.add(len);
        }
    }

    /// Sends the frame to all local ports of `domain`: copies first, the frame itself last.
    pub(super) fn flood<'t, M: FrameMemory>(
        self,
        ctx: &mut BurstContext<'t, '_, M>,
        domain: &'t Domain,
    ) {
        let mut waiting = None;
        for id in &domain.flood.ports {
            if let Some(exit) = find(ctx, *id, domain, self.0.len())
                && let Some(before) = waiting.replace(exit)
            {
                match self.copy(ctx) {
                    Some(copy) => copy.send(ctx, before),
                    None => ctx.count_drop(
                        DropReason::NoFrame,
                        DropScope {
                            port: Some(before.port),
                            domain: Some(domain),
                            vtep: None,
                        },
                    ),
                }
            }
        }
        match waiting {
            Some(exit) => self.send(ctx, exit),
            None => ctx.pool.free(self.0),
        }
    }
}
