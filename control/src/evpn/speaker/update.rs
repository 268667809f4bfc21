//! UPDATE messages -> RIB -> MAC table and neighbor table, in batches whose memory is prefetched.

use std::sync::Arc;
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni};

use super::EvpnSpeaker;
use crate::bgp::wire::{Attributes, EvpnRoute, RouteChange, UpdateMessage};
use crate::evpn::address::AddressError;
use crate::evpn::event::EvpnEvent;
use crate::evpn::import::vni_of;
use crate::evpn::mac_table::HashedMac;
use crate::evpn::neighbors;
use crate::evpn::shared::ChangeCause;
use crate::rib::{AttrId, BestPathChange, KeyLookup, NeighborId, RouteId};

/// Routes of a message between two prefetch steps for one of them: some microseconds of work, and
/// no more cache lines in flight than a core supports.
const PREFETCH_DISTANCE: usize = 8;

/// Routes between the first prefetch step for one and the work on it.
const PREFETCH_LEAD: usize = 4 * PREFETCH_DISTANCE;

/// Where a route and its MAC are, or would be. Hints: earlier routes of the message may have
/// changed that since.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LookupHints {
    route: Option<KeyLookup>,
    held: Option<RouteId>,
    mac: Option<(Vni, u32)>,
}

impl EvpnSpeaker {
    /// A peer announces and withdraws routes.
    pub fn update(&mut self, now: Instant, id: NeighborId, update: &UpdateMessage<'_>) {
        let peer = self.peers.get(&id);
        let initial = peer.is_some_and(|peer| peer.is_initial(now));
        let looped = self.shared.rib.looped_count(id);
        let mut batch = std::mem::take(&mut self.batch);
        let changes = update.changes();
        batch.extend(changes.map(|change| (change, LookupHints::default())));
        for step in 0..batch.len() + PREFETCH_LEAD {
            self.prefetch(&mut batch, step);
            let due = step.checked_sub(PREFETCH_LEAD).and_then(|at| batch.get(at));
            if let Some((change, hints)) = due {
                self.apply(now, id, change, update.attributes(), initial, *hints);
            }
        }
        batch.clear();
        self.batch = batch;
        let looped = self.shared.rib.looped_count(id) - looped;
        if looped > 0 {
            self.shared.events.push(EvpnEvent::Looped {
                neighbor: id,
                routes: looped as u32,
            });
        }
    }

    fn apply(
        &mut self,
        now: Instant,
        id: NeighborId,
        change: &RouteChange,
        attributes: Option<&Arc<Attributes>>,
        initial: bool,
        hints: LookupHints,
    ) {
        let rib = &mut self.shared.rib;
        let (change, cause) = match (change, attributes) {
            (RouteChange::Announce(route), Some(attributes)) => (
                rib.announce(id, route, attributes, hints.route),
                ChangeCause::Announced { initial },
            ),
            (RouteChange::Announce(route) | RouteChange::Withdraw(route), _) => {
                (rib.withdraw(id, route, hints.route), ChangeCause::Other)
            }
        };
        if let Some(change) = change {
            self.best_path_changed(now, change, cause, hints.mac);
        }
    }

    /// Prefetches what later routes of the batch will need, each in four steps with time between
    /// them: what one step has requested has arrived when the next one reads it. Processed one by
    /// one, each route would wait for each of its lookups. The results are kept as hints for the
    /// real lookups.
    fn prefetch(&mut self, batch: &mut [(RouteChange, LookupHints)], step: usize) {
        let place = |behind: usize| {
            step.checked_sub(behind * PREFETCH_DISTANCE)
                .filter(|at| *at < batch.len())
        };
        let places = [place(0), place(1), place(2), place(3)];
        let rib = &mut self.shared.rib;
        if let Some((change, hints)) = places[0].map(|at| &mut batch[at]) {
            hints.route = rib.prefetch(change.route());
        }
        if let Some((_, hints)) = places[1].map(|at| &mut batch[at]) {
            hints.held = hints.route.and_then(|lookup| rib.prefetch_route(&lookup));
        }
        if let Some((change, hints)) = places[2].map(|at| &mut batch[at])
            && let EvpnRoute::MacIp(route) = change.route()
        {
            let held = hints.held.and_then(|id| rib.last_label(id));
            hints.mac = Vni::new(held.unwrap_or(route.label)).ok().map(|vni| {
                let hash = self.macs.hash(vni, route.mac);
                self.macs.prefetch(hash);
                (vni, hash)
            });
        }
        if let Some((_, hash)) = places[3].and_then(|at| batch[at].1.mac) {
            self.macs.prefetch_entry(hash);
        }
    }

    /// The best path of a type 2 route changed. `hint` is the hash of its MAC in a VNI, usually its
    /// own.
    pub(super) fn mac_ip_changed(
        &mut self,
        now: Instant,
        change: BestPathChange,
        cause: ChangeCause,
        hint: Option<(Vni, u32)>,
    ) {
        let id = change.id;
        let shared = &mut self.shared;
        let Some(Ok(mac)) = shared.rib.mac(id).map(HostMac::new) else {
            return;
        };
        let old = change.old.and_then(|p| vni_of(&shared.rib, id, p.label));
        let new = change.new.and_then(|p| vni_of(&shared.rib, id, p.label));
        if let Some(vni) = old.filter(|_| old != new) {
            let mac = self.hashed(vni, mac, hint);
            let shared = &mut self.shared;
            self.neighbors.unlink(shared, &mut self.macs, now, vni, id);
            self.macs.route_removed(shared, now, mac, id, change.old);
            self.update_affected_neighbors(now);
        }
        let (Some(vni), Some(path)) = (new, change.new) else {
            return;
        };
        let mac = self.hashed(vni, mac, hint);
        let moved = old != new;
        if moved {
            self.neighbors.link(&self.shared.rib, vni, id);
            self.report_invalid_address(vni, mac.mac, id, path.attrs);
        }
        let best = (change, path);
        self.macs
            .route_changed(&mut self.shared, now, mac, best, moved, cause);
        self.update_affected_neighbors(now);
        let is_new = change.old.is_none() && cause == (ChangeCause::Announced { initial: false });
        self.neighbors
            .reselect(&mut self.shared, &mut self.macs, now, vni, id, is_new);
    }

    /// Reports a route that is used, but for its address.
    fn report_invalid_address(&mut self, vni: Vni, mac: HostMac, id: RouteId, attrs: AttrId) {
        let shared = &mut self.shared;
        if !neighbors::has_invalid_address(&shared.rib, id) || shared.usable(vni, attrs).is_err() {
            return;
        }
        let vtep = shared.vtep_of(attrs);
        if let Some(ip) = shared.rib.ip(id) {
            shared.events.push(EvpnEvent::AddressRefused {
                vni,
                ip,
                mac,
                vtep,
                error: AddressError::Invalid,
            });
        }
    }

    /// A MAC with its hash: that of the hint, if that is for this VNI.
    fn hashed(&self, vni: Vni, mac: HostMac, hint: Option<(Vni, u32)>) -> HashedMac {
        let hash = match hint {
            Some((hinted, hash)) if hinted == vni => hash,
            _ => self.macs.hash(vni, mac.get()),
        };
        HashedMac { vni, mac, hash }
    }
}
