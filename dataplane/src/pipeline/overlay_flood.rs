//! What the overlay floods to the ports of a domain: bounded per iteration like the floods of tenants,
//! with which it shares the queue ([`super::flood_queue`]), and limited by the domain's storm limit.
//!
//! ```text
//! vxlan_input -> enqueue -> FloodQueue -> OverlayFlood::serve -> ports
//! ```

use super::context::BurstContext;
use super::flood_queue::{FloodSource, OverlayFlood, Pending, after};
use super::meta::{DropScope, TenantBoundFrame, TxFrame};
use super::port_output;
use crate::drop::DropReason;
use crate::frame::FrameMemory;
use crate::table::vni::Domain;

/// Queues a frame from the overlay to be flooded to all ports of `domain`. `scope`: what its drop
/// is counted for.
pub(super) fn enqueue<'t, M: FrameMemory>(
    frame: TenantBoundFrame,
    ctx: &mut BurstContext<'t, '_, M>,
    domain: &'t Domain,
    scope: DropScope<'_>,
) {
    let source = FloodSource::Overlay(domain.id);
    let reason = match &*domain.flood.ports {
        [] => DropReason::NoFloodTarget,
        _ if !ctx
            .limits
            .may_flood_overlay(domain.id, domain.storm, ctx.now_ns) =>
        {
            DropReason::Storm
        }
        // A single port, and no order to keep: as cheap as unicast.
        [one] if !ctx.floods.has_pending(source) => {
            return match port_output::find_for(ctx, *one, domain, frame.frame(), None) {
                Some(tx_port) => frame.send(ctx, tx_port),
                None => ctx.pool.free(frame.into_frame()),
            };
        }
        _ => {
            let flood = OverlayFlood {
                frame,
                origin: ctx.flood_origin(domain.id),
                last: None,
            };
            return ctx.queue_flood(source, Pending::Overlay(flood), scope);
        }
    };
    ctx.drop_frame(frame.into_frame(), reason, scope);
}

impl OverlayFlood {
    /// Serves up to `limit` ports; the last one gets the frame itself. Returns the number of ports,
    /// and the flood while it has others.
    pub(super) fn serve<M: FrameMemory>(
        mut self,
        ctx: &mut BurstContext<'_, '_, M>,
        limit: usize,
    ) -> (usize, Option<Pending>) {
        let snapshot = ctx.snapshot;
        let (Some(device), Some(domain)) = (
            snapshot.ports.device(self.origin.device),
            snapshot.vnis.domain(self.origin.domain),
        ) else {
            ctx.pool.free(self.frame.into_frame());
            return (0, None);
        };
        ctx.device = device;
        let ports = after(&domain.flood.ports, self.last);
        for (at, id) in ports.iter().take(limit).enumerate() {
            let Some(tx_port) = port_output::find_for(ctx, *id, domain, self.frame.frame(), None)
            else {
                continue;
            };
            if at + 1 == ports.len() {
                self.frame.send(ctx, tx_port);
                return (ports.len(), None);
            }
            match self.frame.copy(ctx) {
                Some(copy) => copy.send(ctx, tx_port),
                None => ctx.count_drop_at(
                    tx_port.device,
                    DropReason::NoFrame,
                    DropScope {
                        port: Some(tx_port.port),
                        domain: Some(domain),
                        vtep: None,
                    },
                ),
            }
        }
        if limit >= ports.len() {
            ctx.pool.free(self.frame.into_frame());
            return (ports.len(), None);
        }
        self.last = Some(ports[limit - 1]);
        (limit, Some(Pending::Overlay(self)))
    }
}
