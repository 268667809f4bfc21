//! The EVPN speaker, which the daemon connects to sockets and tables. It only routes events to the
//! parts that decide: the MAC table, the neighbor table, the flood lists and the originated routes.

mod entries;
mod peers;
mod show;
mod update;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use self::peers::{PathPass, PeerState};
pub use self::show::{NeighborView, RouteNote, RouteView, VniView};
use self::update::LookupHints;
use super::change::TableChange;
use super::config::EvpnConfig;
use super::event::EvpnEvent;
use super::inclusive_multicast::FloodLists;
use super::mac_table::EvpnMacTable;
use super::neighbors::EvpnNeighborTable;
use super::shared::{ChangeCause, SharedState};
use crate::bgp::wire::{EvpnRoute, RouteChange};
use crate::rib::{BestPathChange, NeighborId, RouteKind};

/// MACs of changed VNIs that are evaluated again in one turn: some milliseconds.
const MACS_AT_ONCE: usize = 4096;

/// The EVPN speaker of one VTEP. See [`super`] for how it is used.
#[derive(Debug)]
pub struct EvpnSpeaker {
    shared: SharedState,
    macs: EvpnMacTable,
    neighbors: EvpnNeighborTable,
    flood_lists: FloodLists,
    /// VNIs whose configuration changed and whose flood lists and segments have to be evaluated
    /// again; their MACs are too, in portions.
    changed_vnis: BTreeSet<Vni>,
    /// MACs of changed VNIs that may still be evaluated in this turn.
    macs_left: usize,
    peers: BTreeMap<NeighborId, PeerState>,
    /// Passes over the paths of peers, and the route that the next portion of each begins at.
    passes: BTreeMap<(NeighborId, PathPass), u32>,
    /// Scratch buffer for the routes of one UPDATE; empty between calls.
    batch: Vec<(RouteChange, LookupHints)>,
}

impl EvpnSpeaker {
    /// A speaker without VNIs and peers.
    #[must_use]
    pub fn new(config: EvpnConfig) -> Self {
        Self {
            macs: EvpnMacTable::new(config.duplicate),
            shared: SharedState::new(config),
            neighbors: EvpnNeighborTable::default(),
            flood_lists: FloodLists::default(),
            changed_vnis: BTreeSet::new(),
            macs_left: MACS_AT_ONCE,
            peers: BTreeMap::new(),
            passes: BTreeMap::new(),
            batch: Vec::new(),
        }
    }

    /// The configuration that the speaker was created with.
    #[must_use]
    pub const fn config(&self) -> &EvpnConfig {
        &self.shared.config
    }

    /// Takes the table changes since the last call, to be applied in order.
    pub fn take_changes(&mut self, now: Instant) -> Vec<TableChange> {
        self.evaluate(now);
        std::mem::take(&mut self.shared.changes)
    }

    /// Passes the table changes since the last call to `apply`, in order, and keeps the buffer. Does
    /// a portion of all work that takes several: to be called once in each turn.
    pub fn drain_changes(&mut self, now: Instant, apply: impl FnOnce(&[TableChange])) {
        self.evaluate(now);
        self.drain_decided(apply);
    }

    /// As [`Self::drain_changes`], but evaluates only what changes of the configuration affect, as
    /// far as the portion of this turn is not used up: several changes may follow each other.
    pub fn drain_configured(&mut self, now: Instant, apply: impl FnOnce(&[TableChange])) {
        self.evaluate_changed_vnis(now);
        if self.shared.publish_segments() {
            self.macs.start_rescan(now);
        }
        self.drain_decided(apply);
    }

    /// As [`Self::drain_changes`], without evaluating anything.
    pub fn drain_decided(&mut self, apply: impl FnOnce(&[TableChange])) {
        apply(&self.shared.changes);
        self.shared.changes.clear();
    }

    /// Takes the events since the last call.
    pub fn take_events(&mut self) -> Vec<EvpnEvent> {
        std::mem::take(&mut self.shared.events)
    }

    /// When [`EvpnSpeaker::tick`] has work: `now` while work that is done in portions is left.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let paths = self.shared.reachability.poll_timeout();
        let is_evaluated = self.changed_vnis.is_empty() && self.macs.reevaluating().is_none();
        let portions = (self.has_passes() || !is_evaluated).then_some(now);
        let all = self.macs.poll_timeout().into_iter().chain(paths);
        all.chain(portions).min()
    }

    /// Does all work that is due.
    pub fn tick(&mut self, now: Instant) {
        self.macs.tick(&mut self.shared, now);
        if self.shared.expire_paths(now) {
            self.macs.start_rescan(now);
        }
        self.update_affected_neighbors(now);
    }

    /// Queues the table entry of a MAC again, which a full table has refused.
    pub fn retry_mac(&mut self, vni: Vni, mac: HostMac) {
        self.macs.reinstall(&mut self.shared, vni, mac);
    }

    /// Queues the neighbor entry of an address again, which a full table has refused.
    pub fn retry_address(&mut self, vni: Vni, ip: IpAddr) {
        self.neighbors
            .reinstall(&mut self.shared, &self.macs, vni, ip);
    }

    /// The underlay has paths to a VTEP, or has none, or (`None`) no longer follows it.
    pub fn vtep_resolved(&mut self, now: Instant, vtep: VtepAddr, resolved: Option<bool>) {
        if self.shared.vtep_resolved(now, vtep, resolved) {
            self.macs.start_rescan(now);
        }
    }

    /// Unfreezes a MAC that duplicate detection has frozen; its moves are forgotten. False if it is
    /// not frozen.
    pub fn unfreeze(&mut self, now: Instant, vni: Vni, mac: HostMac) -> bool {
        let frozen = self.macs.unfreeze(&mut self.shared, now, vni, mac);
        self.update_affected_neighbors(now);
        frozen
    }

    /// The frozen MACs, in no order.
    pub fn frozen(&self) -> impl Iterator<Item = (Vni, HostMac)> + '_ {
        self.macs.frozen()
    }

    /// Routes the change of a best path to the part that its route type concerns.
    fn best_path_changed(
        &mut self,
        now: Instant,
        change: BestPathChange,
        cause: ChangeCause,
        hint: Option<(Vni, u32)>,
    ) {
        match self.shared.rib.kind(change.id) {
            RouteKind::Mac | RouteKind::MacIpv4 | RouteKind::MacIpv6 => {
                self.mac_ip_changed(now, change, cause, hint);
            }
            RouteKind::Other => match self.shared.rib.key(change.id) {
                EvpnRoute::InclusiveMulticast(route) => {
                    self.flood_lists
                        .route_changed(&mut self.shared, &route, change);
                }
                EvpnRoute::EthernetAd(route) => self.shared.segment_route_changed(&route, change),
                // Held for `show bgp routes`; they change no table. Type 2 has kinds of its own.
                EvpnRoute::EthernetSegment(_) | EvpnRoute::IpPrefix(_) | EvpnRoute::MacIp(_) => {}
            },
        }
        if change.new.is_none() {
            self.shared.rib.free(change.id);
        }
    }

    /// Updates the neighbor entries that depend on what the MAC table has decided.
    #[inline]
    fn update_affected_neighbors(&mut self, now: Instant) {
        if self.macs.has_affected() {
            self.do_update_affected_neighbors(now);
        }
    }

    fn do_update_affected_neighbors(&mut self, now: Instant) {
        let affected = self.macs.take_affected();
        let (shared, macs) = (&mut self.shared, &mut self.macs);
        for (vni, mac, ip) in affected.released {
            self.neighbors.release(shared, macs, vni, (mac, ip));
        }
        for (vni, place) in affected.reselected {
            for id in macs.routes(place).collect::<Vec<_>>() {
                self.neighbors.reselect(shared, macs, now, vni, id, false);
            }
        }
    }

    /// A VNI was added, removed or changed: its routes are evaluated again.
    fn vni_changed(&mut self, vni: Vni) {
        self.changed_vnis.insert(vni);
        self.macs.begin_reevaluation(vni);
    }

    /// Evaluates the routes of VNIs again that were added, removed or changed: their MACs as far as
    /// the portion of this turn is not used up.
    fn evaluate_changed_vnis(&mut self, now: Instant) {
        let vnis = std::mem::take(&mut self.changed_vnis);
        for vni in &vnis {
            self.flood_lists.reevaluate(&mut self.shared, *vni);
        }
        if !vnis.is_empty() {
            self.shared.reevaluate_segments(&vnis);
        }
        while self.macs_left > 0
            && let Some(vni) = self.macs.reevaluating()
        {
            self.macs_left -= self.reevaluate_macs(now, vni, self.macs_left);
        }
    }

    fn reevaluate_macs(&mut self, now: Instant, vni: Vni, limit: usize) -> usize {
        let count = self.macs.reevaluate(&mut self.shared, now, vni, limit);
        self.update_affected_neighbors(now);
        count
    }

    /// True once the routes of a VNI that was added, removed or changed are evaluated.
    #[must_use]
    pub fn is_evaluated(&self, vni: Vni) -> bool {
        !self.changed_vnis.contains(&vni) && !self.macs.is_reevaluating(vni)
    }

    /// Evaluates all routes of a VNI at once.
    pub fn finish_evaluation(&mut self, now: Instant, vni: Vni) {
        self.macs_left = 0;
        self.evaluate_changed_vnis(now);
        self.reevaluate_macs(now, vni, usize::MAX);
    }

    /// Does what is done once for all changes since the last call.
    fn evaluate(&mut self, now: Instant) {
        self.macs_left = MACS_AT_ONCE;
        self.continue_passes(now);
        self.evaluate_changed_vnis(now);
        if self.shared.publish_segments() {
            self.macs.start_rescan(now);
        }
        self.macs.rescan(&mut self.shared, now);
        self.update_affected_neighbors(now);
        // What was selected again may have emptied groups, and refers to no others.
        self.shared.publish_segments();
    }
}
