//! What happens to a frame, as pure functions: no I/O, no clock, no allocation, no `unsafe`.
//!
//! ```text
//! TenantFrame  -> guard -> classify -> lookup -> encapsulate | deliver | flood   (may go to the overlay)
//! DecapsulatedFrame -> decap -> guard    -> lookup -> deliver | flood to local ports  (has no way back to the overlay)
//! ```
//!
//! [`Pipeline`] is the way in: it runs these stages over a burst. [`crate::drop`] names why frames are dropped.
//!
//! A burst of frames of one device, through all stages.
//!
//! ```text
//! frames --> parse (parse, check, hash) --> look the key up --> pass (resolve, write) --> queues
//!                                                                        \-> pool, counted
//! ```
//!
//! Frames for everybody wait until all ports are served (replicate.rs). Frames take their steps in groups (burst.rs), and
//! memory is asked for before it is looked at, so that cache misses overlap. Frames of one flow keep their order.

mod cache;
mod checksum;
mod context;
mod decap;
mod ecn;
mod encap;
pub mod flood;
mod flood_queue;
mod flow;
pub mod learn_event;
mod meta;
mod neigh_suppress;
mod parse;
mod pmtu;
mod port_output;
mod rate_limit;
mod stages;
mod tenant_input;
#[cfg(test)]
mod tests;
pub mod tx_queues;
mod validate;
mod vxlan_input;
mod vxlan_output;

use self::cache::PathCache;
use self::context::BurstContext;
use self::flood_queue::FloodQueue;
use self::learn_event::{LearnEvent, LearnEvents};
use self::meta::IngressPort;
use self::rate_limit::RateLimits;
use self::tenant_input::TenantInput;
use self::tx_queues::TxQueues;
use self::vxlan_input::VxlanInput;
use crate::addr::{DeviceId, PortId, WorkerId};
use crate::frame::{BURST, Frame, FrameMemory, Pool};
use crate::table::Snapshot;
use crate::table::mac::{Lookup, MacKey, MacReader};
use crate::table::neighbor::NeighborReader;
use crate::table::port::{Device, Role};

/// The tables that hold for one burst.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'t> {
    /// All but the two below.
    pub snapshot: &'t Snapshot,
    /// The MAC table.
    pub macs: &'t MacReader,
    /// The neighbour table.
    pub neighbors: &'t NeighborReader,
}

/// What a worker keeps from burst to burst: token buckets, and room for look-ups. Nothing is allocated after
/// [`Pipeline::new`].
#[derive(Debug)]
pub struct Pipeline {
    state: PipelineState,
    unknown_devices: u64,
    queries: [Lookup; BURST],
}

/// What the turns use, one after the other.
#[derive(Debug)]
struct PipelineState {
    worker: WorkerId,
    limits: RateLimits,
    identification: u16,
    events: LearnEvents,
    floods: FloodQueue,
    sources: Vec<(PortId, MacKey)>,
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
            identification: &mut self.identification,
            out,
            rx_port: PathCache::new(self.worker),
            rx_tunnel: PathCache::new(self.worker),
            tx_tunnel: PathCache::new(self.worker),
            tx_port: PathCache::new(self.worker),
        }
    }
}

impl Pipeline {
    /// The pipeline of one worker, whose rows of all counters it writes.
    #[must_use]
    pub fn new(worker: WorkerId) -> Self {
        Self {
            state: PipelineState {
                worker,
                limits: RateLimits::new(),
                // Workers that send to one VTEP should not use the same numbers at the same time.
                identification: worker.0.wrapping_mul(0x2f1b),
                events: LearnEvents::new(),
                floods: FloodQueue::new(),
                sources: Vec::with_capacity(BURST),
            },
            unknown_devices: 0,
            queries: [Lookup::NONE; BURST],
        }
    }

    /// Consumes `frames`, which `device` received: each ends in `out`, or in `pool` and is counted with a
    /// [`crate::drop::DropReason`], or waits for [`Pipeline::replicate`]. `now_ns`: any clock that doesn't go back.
    ///
    /// Counts what is received from, and queued for, devices, ports, VNIs and VTEPs; bytes of devices are those of whole
    /// frames, all others those of the tenant's frame without VLAN tag and outer header.
    pub fn burst<M: FrameMemory>(
        &mut self,
        tables: Tables<'_>,
        now_ns: u64,
        device: DeviceId,
        frames: &mut Vec<Frame>,
        pool: &mut Pool<M>,
        out: &mut TxQueues,
    ) {
        let Some(device) = tables.snapshot.ports.device(device) else {
            // Removed from the tables a moment ago: there is no row to count in.
            self.unknown_devices += frames.len() as u64;
            frames.drain(..).for_each(|frame| pool.free(frame));
            return;
        };
        let bytes = frames.iter().map(|frame| frame.len() as u64).sum();
        device
            .counters
            .row(self.state.worker)
            .received(frames.len() as u64, bytes);
        let mut ctx = self.state.context(tables, now_ns, device, pool, out);
        if let Some(member) = ctx.access {
            member
                .port
                .counters
                .row(ctx.worker)
                .received(frames.len() as u64, bytes);
        }
        while !frames.is_empty() {
            match device.role {
                Role::Underlay => {
                    stages::process::<VxlanInput, M>(&mut ctx, &mut self.queries, frames)
                }
                Role::Access(_) | Role::Trunk(_) => {
                    stages::process::<TenantInput, M>(&mut ctx, &mut self.queries, frames);
                    ctx.notify_sources();
                }
            }
        }
    }

    /// Goes on flooding the frames that wait for it, with up to [`flood::COPIES_PER_ITERATION`] receivers: once a ctx, when all ports were
    /// served. Returns how many receivers it served: less than that means that nothing waits.
    pub fn replicate<M: FrameMemory>(
        &mut self,
        tables: Tables<'_>,
        now_ns: u64,
        pool: &mut Pool<M>,
        out: &mut TxQueues,
    ) -> usize {
        match self.state.floods.first_device(tables.snapshot, pool) {
            Some(device) => {
                flood::replicate(&mut self.state.context(tables, now_ns, device, pool, out))
            }
            None => 0,
        }
    }

    /// Gives the chunks of all frames that wait back to `pool`: the worker ends.
    pub fn close<M: FrameMemory>(&mut self, pool: &mut Pool<M>) {
        self.state.floods.clear(pool);
    }

    /// What the control thread should know of the last burst, until there is no more. To be asked after each burst: what
    /// is left fills the room of the next one.
    #[inline]
    pub fn next_event(&mut self) -> Option<LearnEvent> {
        self.state.events.next()
    }

    /// Frames of devices that the tables did not have (any more).
    #[must_use]
    pub const fn unknown_devices(&self) -> u64 {
        self.unknown_devices
    }
}
