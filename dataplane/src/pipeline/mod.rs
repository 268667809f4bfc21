//! What happens to a frame, as pure functions: no I/O, no clock, no allocation, no `unsafe`.
//!
//! ```text
//! tenant port -> tenant_input -> lookup -> vxlan_output -> underlay
//!                                       -> port_output  -> tenant port
//!                                       -> flood        -> both
//! underlay    -> vxlan_input  -> lookup -> port_output  -> tenant port   (never to the underlay)
//! ```
//!
//! [`Pipeline`] is the entry point. It takes a burst of frames that one device received through
//! these nodes; each frame ends in a transmit queue, in the queue of floods, or is dropped, counted
//! with a [`crate::drop::DropReason`] and freed.
//!
//! - `stages`: runs a burst through parse, lookup and forward, with prefetching.
//! - `tenant_input`, `vxlan_input`: the two inputs; what parse and forward do. `access_input`: the
//!   first, for ports without checks of their own.
//! - `vxlan_output`, `port_output`, `flood`: the three outputs; `overlay_flood`: to ports only.
//! - `flood_copy`, `flood_writer`: the copies of a flooded frame for VTEPs.
//! - `encap`, `decap`, `ecn`, `flow`, `parse`, `plain`, `inner`, `checksum`, `validate`: headers.
//! - `segment`: cuts superframes into segments.
//! - `superframe`, `segment`, `cut`: frames that their sender left to be cut.
//! - `neigh_suppress`, `pmtu`: ARP and ND, and ICMP errors.
//! - `learn_event`, `rate_limit`: events for the control thread, and limits for each port.
//! - `gro`, `gro_headers`: joins TCP segments from the overlay into superframes.
//! - `meta`, `cache`, `context`: state of a frame, from frame to frame, and of a burst.
//! - `flood_queue`, `tx_queues`: state that is kept from burst to burst.
//!
//! Imports between these files form no circle. Frames of one flow keep their order.

mod access_input;
mod cache;
mod checksum;
mod context;
mod cut;
mod decap;
mod ecn;
mod encap;
pub mod flood;
mod flood_copy;
mod flood_queue;
mod flood_writer;
mod flow;
pub mod gro;
mod gro_headers;
mod inner;
pub mod learn_event;
mod meta;
mod neigh_suppress;
mod overlay_flood;
mod parse;
mod plain;
mod pmtu;
mod port_output;
mod rate_limit;
pub mod segment;
mod stages;
pub(crate) mod superframe;
mod tenant_input;
#[cfg(test)]
mod tests;
pub mod tx_queues;
mod validate;
mod vxlan_input;
mod vxlan_output;

use self::access_input::AccessInput;
use self::cache::PathCache;
use self::context::BurstContext;
use self::flood_queue::{FloodOrigin, FloodQueue, Pending};
use self::gro::Gro;
use self::learn_event::{LearnEvent, LearnEvents};
use self::meta::IngressPort;
use self::rate_limit::RateLimits;
use self::tenant_input::{OffloadInput, TenantInput};
use self::tx_queues::TxQueues;
use self::vxlan_input::VxlanInput;
use crate::addr::{DeviceId, PortId, WorkerId};
use crate::drop::DropReason;
use crate::frame::{BURST, Frame, FrameMemory, Pool};
use crate::table::Snapshot;
use crate::table::mac::{Lookups, MacKey, MacReader};
use crate::table::neighbor::NeighborReader;
use crate::table::port::{Device, Role};

/// The tables that are used for one burst.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'t> {
    /// Settings, VNIs, VTEPs, devices and ports.
    pub snapshot: &'t Snapshot,
    /// The MAC table.
    pub macs: &'t MacReader,
    /// The neighbor table (ARP and ND).
    pub neighbors: &'t NeighborReader,
}

/// The packet path of one worker, with the state that it keeps from burst to burst. Nothing is
/// allocated after [`Pipeline::new`].
#[derive(Debug)]
pub struct Pipeline {
    state: PipelineState,
    /// The version of the snapshot of the last burst.
    version: u64,
    removed: u64,
    cuts: Option<bool>,
    lookups: Lookups,
}

/// The part of the state that each burst borrows as a [`BurstContext`].
#[derive(Debug)]
struct PipelineState {
    worker: WorkerId,
    limits: RateLimits,
    identification: u16,
    events: LearnEvents,
    floods: FloodQueue,
    sources: Vec<(PortId, MacKey)>,
    gro: Gro,
}

impl PipelineState {
    fn context<'t, 'p, M>(
        &'p mut self,
        tables: Tables<'t>,
        now_ns: u64,
        device: &'t Device,
        pool: &'p mut Pool<M>,
        out: &'p mut TxQueues,
    ) -> BurstContext<'t, 'p, M> {
        BurstContext {
            snapshot: tables.snapshot,
            macs: tables.macs,
            neighbors: tables.neighbors,
            worker: self.worker,
            now_ns,
            device,
            access: match &device.role {
                Role::Access(id) => IngressPort::find(tables.snapshot, *id),
                Role::Trunk(_) | Role::Underlay => None,
            },
            pool,
            limits: &mut self.limits,
            events: &mut self.events,
            floods: &mut self.floods,
            sources: &mut self.sources,
            gro: &mut self.gro,
            identification: &mut self.identification,
            cuts: None,
            out,
            rx_port: PathCache::new(self.worker),
            rx_tunnel: PathCache::new(self.worker),
            tx_tunnel: PathCache::new(self.worker),
            tx_port: PathCache::new(self.worker),
        }
    }
}

impl Pipeline {
    /// The pipeline of `worker`, which writes that worker's row of all counters.
    #[must_use]
    pub fn new(worker: WorkerId) -> Self {
        Self {
            state: PipelineState {
                worker,
                limits: RateLimits::new(),
                // Spread out, so that workers that send to one VTEP use different values at any
                // time.
                identification: worker.0.wrapping_mul(0x2f1b),
                events: LearnEvents::new(),
                floods: FloodQueue::new(),
                sources: Vec::with_capacity(BURST),
                gro: Gro::new(),
            },
            version: 0,
            removed: 0,
            cuts: None,
            lookups: Lookups::default(),
        }
    }

    /// Consumes `frames`, which `device` received. Each frame is queued in `out`, waits for
    /// [`Pipeline::replicate`], or is freed to `pool` and counted with a
    /// [`crate::drop::DropReason`]. `now_ns`: nanoseconds of any monotonic clock.
    ///
    /// Counts frames and bytes that are received from, and queued for, devices, ports, VNIs and
    /// VTEPs. Byte counters of devices include all headers; all others count the tenant's frame
    /// without VLAN tag and outer header. A superframe counts as the segments that it stands for.
    pub fn burst<M: FrameMemory>(
        &mut self,
        tables: Tables<'_>,
        now_ns: u64,
        device: DeviceId,
        frames: &mut Vec<Frame>,
        pool: &mut Pool<M>,
        out: &mut TxQueues,
    ) {
        self.refresh(tables.snapshot, pool);
        self.cuts = None;
        let Some(device) = tables.snapshot.ports.device(device) else {
            // Just removed from the tables: its counters are gone.
            self.removed += frames.len() as u64;
            frames.drain(..).for_each(|frame| pool.free(frame));
            return;
        };
        let (bytes, has_offloads) = frames.iter().fold((0, false), |(bytes, has), frame| {
            (bytes + frame.len() as u64, has | frame.has_offload())
        });
        device
            .counters
            .row(self.state.worker)
            .received(frames.len() as u64, bytes);
        let mut ctx = self.state.context(tables, now_ns, device, pool, out);
        if let Some(ingress) = ctx.access {
            ingress
                .port
                .counters
                .row(ctx.worker)
                .received(frames.len() as u64, bytes);
        }
        while !frames.is_empty() {
            match device.role {
                Role::Underlay => {
                    stages::process::<VxlanInput, M>(&mut ctx, &mut self.lookups, frames);
                    vxlan_input::finish(&mut ctx);
                }
                Role::Access(_) | Role::Trunk(_) => {
                    if has_offloads {
                        stages::process::<OffloadInput, M>(&mut ctx, &mut self.lookups, frames);
                    } else if ctx.access.is_some_and(AccessInput::applies) {
                        stages::process::<AccessInput, M>(&mut ctx, &mut self.lookups, frames);
                    } else {
                        stages::process::<TenantInput, M>(&mut ctx, &mut self.lookups, frames);
                    }
                    ctx.notify_sources();
                }
            }
        }
        self.cuts = ctx.cuts;
    }

    /// Whether the last superframe of the last burst for one receiver was cut; `None` if there was none.
    #[inline]
    #[must_use]
    pub const fn cuts(&self) -> Option<bool> {
        self.cuts
    }

    /// Continues to flood pending frames, to up to [`flood::COPIES_PER_ITERATION`] receivers with those
    /// of the floods that were served at once since the last call. The worker calls it once per
    /// iteration, after all ports. Returns the number of receivers served in the iteration; fewer than
    /// the maximum means that no flood is pending any more.
    pub fn replicate<M: FrameMemory>(
        &mut self,
        tables: Tables<'_>,
        now_ns: u64,
        pool: &mut Pool<M>,
        out: &mut TxQueues,
    ) -> usize {
        self.refresh(tables.snapshot, pool);
        let at_once = self.state.floods.end_iteration();
        let first = self.state.floods.first_device();
        match first.and_then(|id| tables.snapshot.ports.device(id)) {
            Some(device) => {
                let mut ctx = self.state.context(tables, now_ns, device, pool, out);
                flood::replicate(&mut ctx, at_once)
            }
            None => 0,
        }
    }

    /// Drops what belongs to an earlier snapshot, when `snapshot` is a newer one: identifiers may
    /// have another meaning in it.
    #[inline]
    fn refresh<M: FrameMemory>(&mut self, snapshot: &Snapshot, pool: &mut Pool<M>) {
        if self.version != snapshot.version {
            self.revalidate(snapshot, pool);
        }
    }

    #[cold]
    fn revalidate<M: FrameMemory>(&mut self, snapshot: &Snapshot, pool: &mut Pool<M>) {
        self.state.limits.forget(&snapshot.since, self.version);
        self.version = snapshot.version;
        let (worker, removed) = (self.state.worker, &mut self.removed);
        let is_valid = |flood: &Pending| {
            let origin = flood.origin();
            snapshot.device_of(origin.version, origin.device).is_some()
                && snapshot.domain_of(origin.version, origin.domain).is_some()
                && flood
                    .port()
                    .is_none_or(|port| snapshot.port_of(origin.version, port).is_some())
        };
        self.state.floods.retain(is_valid, |flood| {
            *removed += 1;
            count_removed(snapshot, worker, &flood);
            flood.free(pool);
        });
    }

    /// Frees all pending floods to `pool`, before the worker ends.
    pub fn close<M: FrameMemory>(&mut self, pool: &mut Pool<M>) {
        self.state.floods.clear(pool);
    }

    /// The next event of the last burst for the control thread; `None` when there are no more. Must
    /// be drained after each burst, because events that are left take the space of later ones.
    #[inline]
    pub fn next_event(&mut self) -> Option<LearnEvent> {
        self.state.events.next()
    }

    /// Frames that were received from, or waited for, a device, port or VNI that was removed
    /// meanwhile. Those whose device is still there are counted as [`DropReason::Removed`] too.
    #[must_use]
    pub const fn removed(&self) -> u64 {
        self.removed
    }
}

/// Counts a flood that is not valid any more for those of its rows that are still there.
fn count_removed(snapshot: &Snapshot, worker: WorkerId, flood: &Pending) {
    let &FloodOrigin {
        version,
        device,
        domain,
    } = flood.origin();
    let counters = [
        snapshot.device_of(version, device).map(|d| &d.counters),
        snapshot.domain_of(version, domain).map(|d| &d.counters),
        flood
            .port()
            .and_then(|port| snapshot.port_of(version, port))
            .map(|port| &port.counters),
    ];
    for counters in counters.into_iter().flatten() {
        counters.row(worker).dropped(DropReason::Removed);
    }
}
