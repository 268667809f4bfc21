//! State that all parts of the speaker work on: the RIB, the MAC-VRFs, the originated routes, and
//! the queues of table changes and events.

use super::change::TableChange;
use super::config::EvpnConfig;
use super::event::EvpnEvent;
use super::mac_vrf::MacVrfs;
use super::originate::OriginatedRoutes;
use crate::rib::{LocalIdentity, Rib};

/// State shared by the MAC table, the neighbor table and the flood lists.
#[derive(Debug)]
pub(super) struct SharedState {
    pub(super) config: EvpnConfig,
    pub(super) rib: Rib,
    pub(super) vrfs: MacVrfs,
    pub(super) originated: OriginatedRoutes,
    /// Table changes that the owner has not taken yet, in order.
    pub(super) changes: Vec<TableChange>,
    /// Events that the owner has not taken yet, in order.
    pub(super) events: Vec<EvpnEvent>,
}

impl SharedState {
    pub(super) fn new(config: EvpnConfig) -> Self {
        let mut own = config.own.clone();
        own.push(config.vtep);
        let local = LocalIdentity {
            asn: config.local_as,
            router_id: config.router_id,
            own,
        };
        Self {
            rib: Rib::new(local),
            vrfs: MacVrfs::new(config.router_id),
            originated: OriginatedRoutes::new(&config),
            changes: Vec::new(),
            events: Vec::new(),
            config,
        }
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
