//! Output to a tenant port: the only output for frames from the overlay, and one of two for frames
//! from tenants.

use super::cache::TxPort;
use super::context::BurstContext;
use super::meta::{DropScope, TxFrame};
use crate::addr::PortId;
use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory};
use crate::table::port::Role;
use crate::table::vni::Domain;
use crate::wire::vlan;

/// A frame that can only be sent to tenants.
#[derive(Debug)]
pub(super) struct TenantBoundFrame(Frame);

impl TxFrame for TenantBoundFrame {
    fn into_frame(self) -> Frame {
        self.0
    }
}

/// True when port `id` is the current path, and a frame of `len` bytes of `domain` may take it.
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

/// The port `id` for a frame of `len` bytes of `domain`. `None`: the drop has been counted.
///
/// The MAC table may be newer or older than the snapshot: a port of another domain, or on an
/// underlay device, counts as missing.
pub(super) fn find<'t, M: FrameMemory>(
    ctx: &BurstContext<'t, '_, M>,
    id: PortId,
    domain: &Domain,
    len: usize,
) -> Option<TxPort<'t>> {
    match lookup(ctx, id, domain) {
        Some(tx_port) if len <= usize::from(tx_port.port.max_frame) => Some(tx_port),
        found => count_undeliverable(ctx, id, domain, found),
    }
}

fn lookup<'t, M: FrameMemory>(
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

/// Counts the drop of a frame that can't be sent to port `id`. Always `None`.
#[cold]
fn count_undeliverable<'t, M: FrameMemory>(
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
        Some(tx_port) => ctx.count_drop_at(tx_port.device, DropReason::PortMtu, scope),
        None => ctx.count_drop(DropReason::PortDown, scope),
    }
    None
}

impl TenantBoundFrame {
    /// Restricts a frame to tenants: it can't be encapsulated any more.
    pub(super) const fn new(frame: Frame) -> Self {
        Self(frame)
    }

    /// A copy of the frame; `None` when chunks run out.
    pub(super) fn copy<M: FrameMemory>(&self, ctx: &mut BurstContext<'_, '_, M>) -> Option<Self> {
        ctx.copy(&self.0).map(Self)
    }

    /// Sends the frame to a port.
    #[inline(never)]
    pub(super) fn send<'t, M: FrameMemory>(
        self,
        ctx: &mut BurstContext<'t, '_, M>,
        tx_port: TxPort<'t>,
    ) {
        if ctx
            .tx_port
            .current()
            .is_none_or(|current| current.port.id != tx_port.port.id)
        {
            ctx.tx_port.switch(tx_port);
        }
        self.deliver(ctx);
    }

    /// Sends the frame to the current port, with the port's VLAN tag.
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

    /// Floods a frame from the overlay to all local ports of `domain`. The last one gets the frame
    /// itself.
    pub(super) fn flood<'t, M: FrameMemory>(
        self,
        ctx: &mut BurstContext<'t, '_, M>,
        domain: &'t Domain,
    ) {
        let mut last = None;
        for id in &domain.flood.ports {
            if let Some(tx_port) = find(ctx, *id, domain, self.0.len())
                && let Some(previous) = last.replace(tx_port)
            {
                match self.copy(ctx) {
                    Some(copy) => copy.send(ctx, previous),
                    None => ctx.count_drop(
                        DropReason::NoFrame,
                        DropScope {
                            port: Some(previous.port),
                            domain: Some(domain),
                            vtep: None,
                        },
                    ),
                }
            }
        }
        match last {
            Some(tx_port) => self.send(ctx, tx_port),
            None => ctx.pool.free(self.0),
        }
    }
}
