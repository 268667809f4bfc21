//! The EVPN speaker, which the daemon connects to sockets and tables. It only routes events to the
//! parts that decide: the MAC table, the neighbor table, the flood lists and the originated routes.

mod entries;
mod peers;
mod show;
mod update;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni};

use self::peers::PeerState;
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

/// The EVPN speaker of one VTEP. See [`super`] for how it is used.
#[derive(Debug)]
pub struct EvpnSpeaker {
    shared: SharedState,
    macs: EvpnMacTable,
    neighbors: EvpnNeighborTable,
    flood_lists: FloodLists,
    /// VNIs whose configuration changed and whose routes have to be evaluated again.
    changed_vnis: BTreeSet<Vni>,
    peers: BTreeMap<NeighborId, PeerState>,
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
            peers: BTreeMap::new(),
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
        self.evaluate_changed_vnis(now);
        std::mem::take(&mut self.shared.changes)
    }

    /// Passes the table changes since the last call to `apply`, in order, and keeps the buffer.
    pub fn drain_changes(&mut self, now: Instant, apply: impl FnOnce(&[TableChange])) {
        self.evaluate_changed_vnis(now);
        apply(&self.shared.changes);
        self.shared.changes.clear();
    }

    /// Takes the events since the last call.
    pub fn take_events(&mut self) -> Vec<EvpnEvent> {
        std::mem::take(&mut self.shared.events)
    }

    /// When [`EvpnSpeaker::tick`] has work.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.macs.poll_timeout()
    }

    /// Does all work that is due.
    pub fn tick(&mut self, now: Instant) {
        self.macs.tick(&mut self.shared, now);
        self.update_affected_neighbors();
    }

    /// Unfreezes a MAC that duplicate detection has frozen; its moves are forgotten. False if it is
    /// not frozen.
    pub fn unfreeze(&mut self, now: Instant, vni: Vni, mac: HostMac) -> bool {
        let frozen = self.macs.unfreeze(&mut self.shared, now, vni, mac);
        self.update_affected_neighbors();
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
                // Held for `show bgp routes`; they change no table. Type 2 has kinds of its own.
                EvpnRoute::EthernetAd(_)
                | EvpnRoute::EthernetSegment(_)
                | EvpnRoute::IpPrefix(_)
                | EvpnRoute::MacIp(_) => {}
            },
        }
        if change.new.is_none() {
            self.shared.rib.free(change.id);
        }
    }

    /// Updates the neighbor entries that depend on what the MAC table has decided.
    #[inline]
    fn update_affected_neighbors(&mut self) {
        if self.macs.has_affected() {
            self.do_update_affected_neighbors();
        }
    }

    fn do_update_affected_neighbors(&mut self) {
        let affected = self.macs.take_affected();
        for (vni, ip) in affected.released {
            self.neighbors.remove_local(&mut self.shared, vni, ip);
        }
        for (vni, place) in affected.reselected {
            for id in self.macs.routes(place) {
                self.neighbors
                    .reselect(&mut self.shared, &self.macs, vni, id);
            }
        }
    }

    /// Evaluates the routes of VNIs again that were added, removed or changed.
    fn evaluate_changed_vnis(&mut self, now: Instant) {
        let vnis = std::mem::take(&mut self.changed_vnis);
        if vnis.is_empty() {
            return;
        }
        let is_changed = |vni| vnis.contains(&vni);
        self.macs.reevaluate(&mut self.shared, now, is_changed);
        self.update_affected_neighbors();
        self.flood_lists.reevaluate(&mut self.shared, &vnis);
    }
}
