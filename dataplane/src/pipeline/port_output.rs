//! Output to a tenant port: the only output for frames from the overlay, and one of two for frames
//! from tenants.

use super::cache::TxPort;
use super::context::BurstContext;
use super::cut::{Superframe, cut};
use super::meta::{DropScope, TenantBoundFrame, TxFrame};
use super::superframe::WireSize;
use crate::addr::PortId;
use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory};
use crate::table::mac::{Destination, LookupResult};
use crate::table::port::{Device, PortEntry, Role};
use crate::table::vni::Domain;
use crate::wire::ethernet::Ethernet;
use crate::wire::vlan;

/// True when port `id` is the current path, and a frame of `len` bytes of `domain` from the overlay
/// takes it as it is: not where segments are joined.
#[inline(always)]
pub(super) fn same_path<M: FrameMemory>(
    ctx: &BurstContext<'_, '_, M>,
    id: PortId,
    domain: &Domain,
    len: usize,
) -> bool {
    ctx.tx_port.current().is_some_and(|to| {
        to.port.id == id && to.port.domain == domain.id && len <= usize::from(to.longest_plain)
    })
}

/// Sends a run of frames from the overlay to the current port: those, from the first on, of one
/// chunk that take it as they are, as [`same_path`] says, and get no VLAN tag. Returns their number.
#[inline(always)]
pub(super) fn deliver_run<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    frames: &mut [Frame],
    domains: impl Iterator<Item = Option<&'t Domain>>,
    found: &[LookupResult],
) -> usize {
    let Some(&TxPort {
        port,
        device,
        longest_plain,
    }) = ctx.tx_port.current()
    else {
        return 0;
    };
    if port.vlan.is_some() {
        return 0;
    }
    let to = LookupResult::from(Destination::Port(port.id));
    let (mut bytes, mut count) = (0, 0);
    for ((frame, domain), found) in frames.iter().zip(domains).zip(found) {
        let is_usual = frame.is_plain()
            & (frame.len() <= usize::from(longest_plain))
            & (*found == to)
            & domain.is_some_and(|domain| domain.id == port.domain);
        if !is_usual {
            break;
        }
        (bytes, count) = (bytes + frame.len(), count + 1);
    }
    let sent = ctx.out.push_run(device.id, &mut frames[..count]);
    if sent < count {
        let scope = to_port(ctx, port);
        bytes -= ctx.refuse(device, &mut frames[sent..count], scope);
    }
    ctx.tx_port.add_many(sent as u64, bytes as u64);
    count
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
        found => count_undeliverable(ctx, domain, found, 1),
    }
}

/// [`find`] for a frame, which may have a VLAN tag in addition where the domain passes tags. `from`:
/// its ingress port, if it is a tenant's.
pub(super) fn find_for<'t, M: FrameMemory>(
    ctx: &BurstContext<'t, '_, M>,
    id: PortId,
    domain: &Domain,
    frame: &Frame,
    from: Option<&PortEntry>,
) -> Option<TxPort<'t>> {
    let WireSize {
        longest, frames, ..
    } = WireSize::of(ctx.pool.memory(), frame);
    match lookup(ctx, id, domain) {
        Some(tx_port) if longest <= usize::from(tx_port.port.max_frame) => Some(tx_port),
        Some(tx_port) if fits_with_tag(ctx, tx_port.port, domain, (frame, longest)) => {
            Some(tx_port)
        }
        Some(tx_port)
            if tx_port.port.is_open() && from.is_some_and(|from| from.is_unsegmented(longest)) =>
        {
            let scope = DropScope {
                port: from,
                domain: Some(domain),
                vtep: None,
            };
            ctx.count_drops_at(ctx.device, DropReason::Unsegmented, scope, frames);
            None
        }
        found => count_undeliverable(ctx, domain, found, frames),
    }
}

/// True for a tagged frame of `len` bytes that is longer than the port's MTU by its tag only. Linux interfaces take
/// one tag more than their MTU (`is_skb_forwardable`, net/core/dev.c); a trunk's port adds its own.
#[cold]
fn fits_with_tag<M: FrameMemory>(
    ctx: &BurstContext<'_, '_, M>,
    port: &PortEntry,
    domain: &Domain,
    (frame, len): (&Frame, usize),
) -> bool {
    let header = Ethernet::parse(ctx.pool.memory().bytes(frame));
    domain.pass_tags
        && port.vlan.is_none()
        && port.is_open()
        && len <= usize::from(port.max_frame) + vlan::LEN
        && header.is_some_and(|header| vlan::is_tag(header.ethertype()))
}

fn lookup<'t, M: FrameMemory>(
    ctx: &BurstContext<'t, '_, M>,
    id: PortId,
    domain: &Domain,
) -> Option<TxPort<'t>> {
    get(ctx, id).filter(|to| to.port.domain == domain.id && to.device.role != Role::Underlay)
}

/// The port `id`, which is in the tables of the burst.
pub(super) fn get<'t, M: FrameMemory>(
    ctx: &BurstContext<'t, '_, M>,
    id: PortId,
) -> Option<TxPort<'t>> {
    let ports = &ctx.snapshot.ports;
    let port = ports.port(id)?;
    Some(TxPort::new(port, ports.device(port.device)?))
}

/// Counts the drop of `frames` frames that can't be sent to a port. Always `None`.
#[cold]
fn count_undeliverable<'t, M: FrameMemory>(
    ctx: &BurstContext<'t, '_, M>,
    domain: &Domain,
    found: Option<TxPort<'t>>,
    frames: u64,
) -> Option<TxPort<'t>> {
    let scope = DropScope {
        port: found.map(|tx_port| tx_port.port),
        domain: Some(domain),
        vtep: None,
    };
    let (device, reason) = match found {
        Some(tx_port) if tx_port.port.is_open() => (tx_port.device, DropReason::PortMtu),
        Some(tx_port) => (tx_port.device, DropReason::PortDown),
        None => (ctx.device, DropReason::PortDown),
    };
    ctx.count_drops_at(device, reason, scope, frames);
    None
}

/// Makes `tx_port` the current port.
fn set_current<'t, M>(ctx: &mut BurstContext<'t, '_, M>, tx_port: TxPort<'t>) {
    let current = ctx.tx_port.current();
    if current.is_none_or(|current| current.port.id != tx_port.port.id) {
        ctx.tx_port.switch(tx_port);
    }
}

/// Sends a copy of a superframe to a port: whole, or cut.
#[cold]
pub(super) fn send_copy<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    frame: &Frame,
    tx_port: TxPort<'t>,
) {
    let in_tunnel = WireSize::of(ctx.pool.memory(), frame).in_tunnel;
    if tx_port.device.superframes && !in_tunnel {
        match ctx.copy(frame) {
            Some(copy) => TenantBoundFrame::new(copy).send(ctx, tx_port),
            None => {
                let frames = ctx.frames_of(frame);
                let scope = to_port(ctx, tx_port.port);
                ctx.count_drops_at(tx_port.device, DropReason::NoFrame, scope, frames);
            }
        }
    } else {
        set_current(ctx, tx_port);
        cut_to(ctx, Superframe::Kept(frame), tx_port);
    }
}

/// Sends the segments of a superframe to the current port, `to`.
fn cut_to<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    superframe: Superframe<'_>,
    to: TxPort<'t>,
) {
    let scope = to_port(ctx, to.port);
    let left = cut(ctx, superframe, scope, |ctx, segment| {
        TenantBoundFrame::new(segment.frame).deliver(ctx)
    });
    if left > 0 {
        ctx.count_refused(to.device, scope, left);
    }
}

/// Drops are counted for the port and its domain.
fn to_port<'t, M>(ctx: &BurstContext<'t, '_, M>, port: &'t PortEntry) -> DropScope<'t> {
    DropScope {
        port: Some(port),
        domain: ctx.snapshot.vnis.domain(port.domain),
        vtep: None,
    }
}

impl TenantBoundFrame {
    /// A copy of the frame; `None` when chunks run out.
    pub(super) fn copy<M: FrameMemory>(&self, ctx: &mut BurstContext<'_, '_, M>) -> Option<Self> {
        ctx.copy(self.frame()).map(Self::new)
    }

    /// Sends the frame to a port.
    #[inline(never)]
    pub(super) fn send<'t, M: FrameMemory>(
        self,
        ctx: &mut BurstContext<'t, '_, M>,
        tx_port: TxPort<'t>,
    ) {
        set_current(ctx, tx_port);
        if self.frame().has_offload() {
            self.send_superframe(ctx, tx_port);
        } else {
            self.deliver(ctx);
        }
    }

    /// Sends a superframe to the current port, `to`: whole, or cut.
    #[cold]
    fn send_superframe<'t, M: FrameMemory>(
        self,
        ctx: &mut BurstContext<'t, '_, M>,
        to: TxPort<'t>,
    ) {
        let WireSize {
            frames,
            bytes,
            in_tunnel,
            ..
        } = WireSize::of(ctx.pool.memory(), self.frame());
        let cuts = !to.device.superframes || in_tunnel;
        ctx.cuts = Some(cuts);
        if cuts {
            return cut_to(ctx, Superframe::Last(self.into_frame()), to);
        }
        if self.enqueue(ctx, to.port, to.device) {
            ctx.tx_port.add_many(frames, bytes);
        }
    }

    /// Sends the frame to the current port, with the port's VLAN tag. True unless it was dropped.
    #[inline(always)]
    pub(super) fn deliver<M: FrameMemory>(self, ctx: &mut BurstContext<'_, '_, M>) -> bool {
        let Some(&TxPort { port, device, .. }) = ctx.tx_port.current() else {
            ctx.drop_frame(
                self.into_frame(),
                DropReason::PortDown,
                DropScope::default(),
            );
            return false;
        };
        let len = self.frame().len();
        let sent = self.enqueue(ctx, port, device);
        if sent {
            ctx.tx_port.add(len);
        }
        sent
    }

    /// Queues the frame for a port, with the port's VLAN tag. False: the drop has been counted.
    #[inline(always)]
    fn enqueue<'t, M: FrameMemory>(
        mut self,
        ctx: &mut BurstContext<'t, '_, M>,
        port: &'t PortEntry,
        device: &'t Device,
    ) -> bool {
        let scope = DropScope {
            port: Some(port),
            ..DropScope::default()
        };
        if let Some(id) = port.vlan {
            if self.frame_mut().prepend(vlan::LEN as u16).is_err() {
                ctx.drop_frame(self.into_frame(), DropReason::BadDescriptor, scope);
                return false;
            }
            vlan::push(ctx.pool.memory_mut().bytes_mut(self.frame_mut()), id);
        }
        ctx.enqueue_to_port(device, self, port)
    }
}
