//! Path caches: consecutive frames of a burst often take the same path, because tenants send trains
//! of frames. What was looked up for the first of them is used for the others, and all are counted
//! together, which saves accesses to the cache lines of the counters.

use std::net::IpAddr;
use std::ptr;

use super::decap::TunnelHeaders;
use crate::addr::{VtepId, WorkerId};
use crate::table::port::{Device, PortEntry};
use crate::table::vni::Domain;
use crate::table::vtep::{Adjacency, RemoteVtep};
use crate::wire::vlan;

/// The part of a path that a [`PathCache`] keeps.
pub(super) trait CachedPath {
    /// Counts `frames` frames of `bytes` bytes in total. Bytes are those of the tenants' frames,
    /// without VLAN tag and outer header.
    fn count(&self, worker: WorkerId, frames: u64, bytes: u64);
}

/// The path that was used last. Its frames are counted when the path changes, and when the cache is
/// dropped.
#[derive(Debug)]
pub(super) struct PathCache<P: CachedPath> {
    worker: WorkerId,
    current: Option<P>,
    frames: u64,
    bytes: u64,
}

impl<P: CachedPath> PathCache<P> {
    pub(super) const fn new(worker: WorkerId) -> Self {
        Self {
            worker,
            current: None,
            frames: 0,
            bytes: 0,
        }
    }

    /// The path that was used last.
    #[inline]
    pub(super) const fn current(&self) -> Option<&P> {
        self.current.as_ref()
    }

    /// Counts the frames of the current path, and makes `path` the current one.
    #[inline(never)]
    pub(super) fn switch(&mut self, path: P) {
        self.count();
        self.current = Some(path);
    }

    /// Adds one frame of `bytes` bytes to the current path.
    #[inline]
    pub(super) const fn add(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes as u64;
    }

    /// Adds frames of `bytes` bytes in total, or what a superframe is on the wire.
    pub(super) const fn add_many(&mut self, frames: u64, bytes: u64) {
        self.frames += frames;
        self.bytes += bytes;
    }

    fn count(&mut self) {
        let (frames, bytes) = (
            std::mem::take(&mut self.frames),
            std::mem::take(&mut self.bytes),
        );
        if let Some(path) = self.current.as_ref().filter(|_| frames > 0) {
            path.count(self.worker, frames, bytes);
        }
    }
}

impl<P: CachedPath> Drop for PathCache<P> {
    fn drop(&mut self) {
        self.count();
    }
}

/// Received from a port of a trunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct RxPort<'t>(pub(super) &'t PortEntry);

impl CachedPath for RxPort<'_> {
    fn count(&self, worker: WorkerId, frames: u64, bytes: u64) {
        self.0.counters.row(worker).received(frames, bytes);
    }
}

/// Received from a VTEP, in a VNI.
#[derive(Debug, Clone, Copy)]
pub(super) struct RxTunnel<'t> {
    /// The outer source address.
    pub(super) source: IpAddr,
    /// Whether the packets were sent to the VNI's multicast group, not to the local VTEP address.
    pub(super) to_group: bool,
    /// The VNI's domain.
    pub(super) domain: &'t Domain,
    /// `None`: an unknown VTEP that sends to the group.
    pub(super) vtep: Option<&'t RemoteVtep>,
    /// What the headers of its packets have in common; `None` to a group, and where every packet is
    /// looked at anyway.
    pub(super) headers: Option<TunnelHeaders>,
}

impl CachedPath for RxTunnel<'_> {
    fn count(&self, worker: WorkerId, frames: u64, bytes: u64) {
        self.domain.counters.row(worker).received(frames, bytes);
        if let Some(vtep) = self.vtep {
            vtep.counters.row(worker).received(frames, bytes);
        }
    }
}

/// Sent to a VTEP over one of its underlay paths, in a VNI.
#[derive(Debug, Clone, Copy)]
pub(super) struct TxTunnel<'t> {
    /// The row that a MAC entry refers to.
    pub(super) id: VtepId,
    /// The row is a group, and `vtep` one of its members.
    pub(super) by_group: bool,
    pub(super) vtep: &'t RemoteVtep,
    pub(super) path: &'t Adjacency,
    pub(super) device: &'t Device,
    pub(super) domain: &'t Domain,
}

impl TxTunnel<'_> {
    /// True for the same path in the same VNI, found by the same row.
    #[inline]
    pub(super) fn is_same(&self, other: &TxTunnel<'_>) -> bool {
        self.id == other.id && ptr::eq(self.path, other.path) && ptr::eq(self.domain, other.domain)
    }
}

impl CachedPath for TxTunnel<'_> {
    fn count(&self, worker: WorkerId, frames: u64, bytes: u64) {
        let headers = frames * u64::from(self.path.rewrite.size());
        self.device
            .counters
            .row(worker)
            .sent(frames, bytes + headers);
        self.domain.counters.row(worker).sent(frames, bytes);
        self.vtep.counters.row(worker).sent(frames, bytes);
    }
}

/// Sent to a tenant port.
#[derive(Debug, Clone, Copy)]
pub(super) struct TxPort<'t> {
    pub(super) port: &'t PortEntry,
    pub(super) device: &'t Device,
    /// Longest frame from the overlay that is sent at once; 0 where segments are joined first.
    pub(super) longest_plain: u16,
}

impl<'t> TxPort<'t> {
    pub(super) fn new(port: &'t PortEntry, device: &'t Device) -> Self {
        let longest_plain = if device.superframes {
            0
        } else {
            port.max_frame
        };
        Self {
            port,
            device,
            longest_plain,
        }
    }
}

impl CachedPath for TxPort<'_> {
    fn count(&self, worker: WorkerId, frames: u64, bytes: u64) {
        if !self.device.is_sent_by(worker) {
            // The worker that owns the queue counts what it accepts.
            return;
        }
        let tags = self.port.vlan.map_or(0, |_| frames * vlan::LEN as u64);
        self.device.counters.row(worker).sent(frames, bytes + tags);
        self.port.counters.row(worker).sent(frames, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Counters;

    struct Counted<'c>(&'c Counters);

    impl CachedPath for Counted<'_> {
        fn count(&self, worker: WorkerId, frames: u64, bytes: u64) {
            self.0.row(worker).sent(frames, bytes);
        }
    }

    #[test]
    fn each_path_counts_its_own_frames() {
        let (one, two) = (Counters::new(1), Counters::new(1));
        let mut cache = PathCache::new(WorkerId(0));
        for (path, frames) in [(&one, 2), (&two, 1), (&one, 1)] {
            cache.switch(Counted(path));
            (0..frames).for_each(|_| cache.add(100));
        }
        drop(cache);
        assert_eq!((one.totals().tx_frames, one.totals().tx_bytes), (3, 300));
        assert_eq!((two.totals().tx_frames, two.totals().tx_bytes), (1, 100));
    }
}
