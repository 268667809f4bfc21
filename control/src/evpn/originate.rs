//! Originated routes: a type 3 for each MAC-VRF, a type 2 for each local MAC, and one more for each
//! of its addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};
use vtep_dataplane::wire::nd::NdFlags;

use super::config::{EthernetTag, EvpnConfig};
use super::mac_vrf::MacVrf;
use super::targets;
use crate::bgp::Negotiated;
use crate::bgp::wire::{
    Attributes, Esi, EvpnRoute, ExtendedCommunity, InclusiveMulticast, MacIp, Pmsi, PmsiTunnel, Rd,
};
use crate::rib::{AdjRibOut, Mobility, NeighborId};

/// Mobility values of one MAC-VRF whose attributes are kept for reuse.
const ATTRIBUTE_SETS: usize = 1024;

/// What the routes of one MAC-VRF have in common.
#[derive(Debug)]
struct VrfRoutes {
    rd: Rd,
    vni: Vni,
    /// The Ethernet tag.
    tag: u32,
    /// Attributes of type 2 routes without mobility.
    attributes: Attributes,
    /// Announce the flags of addresses (RFC 9047).
    nd_flags: bool,
    /// Attributes of type 2 routes in use, by mobility and flags: routes with equal attributes share an
    /// UPDATE.
    by_mobility: HashMap<(bool, u32, Option<NdFlags>), Arc<Attributes>>,
}

impl VrfRoutes {
    /// Attributes of type 2 routes: the default gateway, the router's MAC and the like are never
    /// sent.
    fn new(vrf: &MacVrf, vtep: VtepAddr, local_as: u32) -> Self {
        let mut attributes = Attributes::local(vtep.get());
        attributes.extended = targets::exports(&vrf.config, local_as);
        attributes.extended.push(ExtendedCommunity::VXLAN);
        let vni = vrf.config.vni;
        Self {
            rd: vrf.rd,
            vni,
            tag: match vrf.config.tag {
                EthernetTag::Zero => 0,
                EthernetTag::Vni => vni.get(),
            },
            attributes,
            nd_flags: vrf.config.nd_flags,
            by_mobility: HashMap::new(),
        }
    }

    fn mac_ip(&self, mac: HostMac, ip: Option<IpAddr>) -> EvpnRoute {
        EvpnRoute::MacIp(MacIp {
            rd: self.rd,
            esi: Esi::ZERO,
            tag: self.tag,
            mac: mac.get(),
            ip,
            label: self.vni.get(),
            label2: None,
        })
    }

    fn mac_ip_attributes(&mut self, mobility: Mobility, nd: Option<NdFlags>) -> Arc<Attributes> {
        let nd = nd.filter(|_| self.nd_flags);
        let key = (mobility.sticky, mobility.sequence, nd);
        // Attributes of sequences no longer in use are not kept forever.
        if self.by_mobility.len() >= ATTRIBUTE_SETS && !self.by_mobility.contains_key(&key) {
            self.by_mobility.clear();
        }
        let Self {
            by_mobility,
            attributes,
            ..
        } = self;
        let attributes = by_mobility.entry(key).or_insert_with(|| {
            let mut attributes = attributes.clone();
            if mobility != Mobility::default() {
                attributes.extended.push(ExtendedCommunity::mac_mobility(
                    mobility.sticky,
                    mobility.sequence,
                ));
            }
            attributes.extended.extend(nd.map(ExtendedCommunity::nd));
            Arc::new(attributes)
        });
        attributes.clone()
    }

    fn inclusive_multicast(&self, originator: IpAddr) -> EvpnRoute {
        EvpnRoute::InclusiveMulticast(InclusiveMulticast {
            rd: self.rd,
            tag: self.tag,
            originator,
        })
    }

    /// Attributes of the type 3 route: ingress replication to this VTEP (RFC 8365 section 9).
    fn inclusive_multicast_attributes(&self, vtep: VtepAddr) -> Attributes {
        let pmsi = Pmsi {
            flags: 0,
            label: self.vni.get(),
            tunnel: PmsiTunnel::IngressReplication(Some(vtep.get())),
        };
        Attributes {
            pmsi: Some(pmsi),
            ..self.attributes.clone()
        }
    }
}

/// The routes of this VTEP, and which of them each peer has not received yet.
#[derive(Debug)]
pub(super) struct OriginatedRoutes {
    vtep: VtepAddr,
    local_as: u32,
    adj_rib_out: AdjRibOut,
    vrfs: BTreeMap<Vni, VrfRoutes>,
}

impl OriginatedRoutes {
    pub(super) fn new(config: &EvpnConfig) -> Self {
        Self {
            vtep: config.vtep,
            local_as: config.local_as,
            adj_rib_out: AdjRibOut::new(config.local_as),
            vrfs: BTreeMap::new(),
        }
    }

    /// Sets the AS for the routes of MAC-VRFs that are added from now on.
    pub(super) const fn set_local_as(&mut self, local_as: u32) {
        self.local_as = local_as;
        self.adj_rib_out.set_local_as(local_as);
    }

    /// Originates the type 3 route of a MAC-VRF. Routes of an earlier configuration must be
    /// withdrawn.
    pub(super) fn add_vrf(&mut self, vrf: &MacVrf) {
        let routes = VrfRoutes::new(vrf, self.vtep, self.local_as);
        let attributes = Arc::new(routes.inclusive_multicast_attributes(self.vtep));
        let route = routes.inclusive_multicast(self.vtep.get());
        self.adj_rib_out.set(route, &attributes);
        self.vrfs.insert(routes.vni, routes);
    }

    /// Withdraws the type 3 route of a MAC-VRF. Its type 2 routes must be withdrawn before.
    pub(super) fn remove_vrf(&mut self, vni: Vni) {
        if let Some(routes) = self.vrfs.remove(&vni) {
            let route = routes.inclusive_multicast(self.vtep.get());
            self.adj_rib_out.remove(&route);
        }
    }

    /// Originates one type 2 route of a local MAC: that with an address, whose flags may be known,
    /// or that without.
    pub(super) fn advertise(
        &mut self,
        vni: Vni,
        mac: HostMac,
        mobility: Mobility,
        address: Option<(IpAddr, Option<NdFlags>)>,
    ) {
        let Some(routes) = self.vrfs.get_mut(&vni) else {
            return;
        };
        let nd = address
            .filter(|(ip, _)| ip.is_ipv6())
            .and_then(|(_, nd)| nd);
        let attributes = routes.mac_ip_attributes(mobility, nd);
        let route = routes.mac_ip(mac, address.map(|(ip, _)| ip));
        self.adj_rib_out.set(route, &attributes);
    }

    /// Withdraws one type 2 route of a local MAC: that with `ip`, or that without an address.
    pub(super) fn withdraw(&mut self, vni: Vni, mac: HostMac, ip: Option<IpAddr>) {
        if let Some(routes) = self.vrfs.get(&vni) {
            self.adj_rib_out.remove(&routes.mac_ip(mac, ip));
        }
    }

    /// The originated routes after that with a key, with their attributes.
    pub(super) fn after(
        &self,
        key: Option<EvpnRoute>,
    ) -> impl Iterator<Item = &(EvpnRoute, Arc<Attributes>)> {
        self.adj_rib_out.routes_after(key)
    }

    /// The originated route with a key.
    pub(super) fn get(&self, key: &EvpnRoute) -> Option<&(EvpnRoute, Arc<Attributes>)> {
        self.adj_rib_out.get(key)
    }

    /// Their number.
    pub(super) fn len(&self) -> usize {
        self.adj_rib_out.len()
    }

    /// The session with a peer is established: it gets all routes.
    pub(super) fn peer_up(&mut self, id: NeighborId, negotiated: Arc<Negotiated>) {
        self.adj_rib_out.up(id, negotiated);
    }

    /// The session with a peer ended.
    pub(super) fn peer_down(&mut self, id: NeighborId) {
        self.adj_rib_out.down(id);
    }

    /// A peer requested all routes again (RFC 2918).
    pub(super) fn refresh(&mut self, id: NeighborId) {
        self.adj_rib_out.refresh(id);
    }

    /// As [`AdjRibOut::pump`].
    pub(super) fn pump(&mut self, id: NeighborId, sink: impl FnMut(&[u8]) -> bool) -> bool {
        self.adj_rib_out.pump(id, sink)
    }

    /// True if a peer has not received all routes yet.
    pub(super) fn has_pending(&self, id: NeighborId) -> bool {
        self.adj_rib_out.has_pending(id)
    }
}
