//! State that all parts of the speaker work on: the RIB, the MAC-VRFs, the originated routes, and
//! the queues of table changes and events.

use super::change::TableChange;
use super::config::EvpnConfig;
use super::event::EvpnEvent;
use super::mac_vrf::MacVrfs;
use super::originate::OriginatedRoutes;
use super::reachability::Reachability;
use super::segment::EthernetSegments;
use crate::rib::{LocalIdentity, Rib};

/// State shared by the MAC table, the neighbor table and the flood lists.
#[derive(Debug)]
pub(super) struct SharedState {
    pub(super) config: EvpnConfig,
    pub(super) rib: Rib,
    pub(super) vrfs: MacVrfs,
    pub(super) segments: EthernetSegments,
    pub(super) reachability: Reachability,
    pub(super) originated: OriginatedRoutes,
    /// Table changes that the owner has not taken yet, in order.
    pub(super) changes: Vec<TableChange>,
    /// Events that the owner has not taken yet, in order.
    pub(super) events: Vec<EvpnEvent>,
}

impl SharedState {
    pub(super) fn new(config: EvpnConfig) -> Self {
        Self {
            rib: Rib::new(identity(&config)),
            vrfs: MacVrfs::new(config.router_id),
            segments: EthernetSegments::default(),
            reachability: Reachability::default(),
            originated: OriginatedRoutes::new(&config),
            changes: Vec::new(),
            events: Vec::new(),
            config,
        }
    }

    /// Sets another configuration of the same VTEP. The routes of MAC-VRFs are originated anew by
    /// the caller if the AS or the BGP identifier differ, and no peer may have routes then.
    pub(super) fn set_config(&mut self, config: EvpnConfig) {
        let known = (self.config.local_as, self.config.router_id);
        if known != (config.local_as, config.router_id) {
            self.rib.set_local(identity(&config));
            self.vrfs.set_router_id(config.router_id);
            self.originated.set_local_as(config.local_as);
        }
        self.config = config;
    }
}

/// What decides whether a path is eligible.
fn identity(config: &EvpnConfig) -> LocalIdentity {
    let mut own = config.own.clone();
    own.push(config.vtep);
    LocalIdentity {
        asn: config.local_as,
        router_id: config.router_id,
        own,
    }
}

/// Why the best path of a route changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeCause {
    /// A route was announced; `initial`: by a peer that is still sending its first full set.
    Announced { initial: bool },
    /// A route was withdrawn, or the configuration changed.
    Other,
}
