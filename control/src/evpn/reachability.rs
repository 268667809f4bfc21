//! Which VTEPs the underlay has a path to. A route to a VTEP without one is the last choice (RFC
//! 4271 section 9.1.2.1), and is selected again when a path returns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use vtep_dataplane::addr::VtepAddr;

/// What is known of VTEPs that the tables refer to.
#[derive(Debug, Default)]
pub(super) struct Reachability {
    pub(super) resolved: BTreeSet<VtepAddr>,
    /// VTEPs that never had a path, and until when one may come.
    pub(super) waiting: BTreeMap<VtepAddr, Instant>,
    pub(super) unreachable: BTreeSet<VtepAddr>,
    /// Unreachable VTEPs whose paths are followed although no table may refer to them.
    pub(super) watched: BTreeSet<VtepAddr>,
    pub(super) sweep: Option<Instant>,
}

impl Reachability {
    pub(super) fn is_unreachable(&self, vtep: VtepAddr) -> bool {
        !self.unreachable.is_empty() && self.unreachable.contains(&vtep)
    }

    /// When [`super::EvpnSpeaker::tick`] has work.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.values().copied().chain(self.sweep).min()
    }
}
