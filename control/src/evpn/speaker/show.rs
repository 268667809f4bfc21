//! What `show` reads: every route with why it is, or is not, in the tables; every MAC with its
//! VTEP.

use std::net::IpAddr;
use std::sync::Arc;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};
use vtep_dataplane::wire::nd::NdFlags;

use super::EvpnSpeaker;
use crate::bgp::wire::{Attributes, Esi, EvpnRoute, ExtendedCommunity, Rd};
use crate::evpn::change::EntryOrigin;
use crate::evpn::config::TargetList;
use crate::evpn::import::vni_of;
use crate::evpn::mac_table::MacView;
use crate::evpn::segment::SegmentView;
use crate::evpn::status::RouteStatus;
use crate::evpn::{ethernet_segment, inclusive_multicast, neighbors, targets};
use crate::rib::{NeighborId, PathView, RouteId, RouteKind};

/// One path of a route.
#[derive(Debug, Clone)]
pub struct RouteView {
    /// The route, with the fields of this path that are not in its key.
    pub route: EvpnRoute,
    /// The peer that sent it; `None` for an originated route.
    pub neighbor: Option<NeighborId>,
    /// Its attributes; for an originated route without those that depend on the peer.
    pub attributes: Arc<Attributes>,
    /// The best path of its route.
    pub best: bool,
    /// The session of its peer ended, or the peer has not sent it again yet.
    pub stale: bool,
    /// Kept beyond the restart time (RFC 9494).
    pub long_lived: bool,
    /// Why it is, or is not, in the tables; `None` for an originated route.
    pub status: Option<RouteStatus>,
    /// The VNI that it belongs to, configured or not.
    pub vni: Option<Vni>,
    /// Something unusual about it that is of interest to an operator.
    pub note: Option<RouteNote>,
}

/// Something unusual about a route that is used nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteNote {
    /// Frames are replicated to the tunnel endpoint, which is not the originator.
    EndpointMismatch,
    /// The next hop has announced no type 3 route for the VNI: a reflector may have rewritten it.
    UnknownVtep,
    /// The neighbor entry of its address is that of another route, or a local or static one.
    OtherNeighborEntry,
    /// No host can have its address: the MAC is used, the address is not.
    InvalidAddress,
}

impl RouteNote {
    /// A stable kebab-case word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::EndpointMismatch => "endpoint-mismatch",
            Self::UnknownVtep => "unknown-vtep",
            Self::OtherNeighborEntry => "other-neighbor-entry",
            Self::InvalidAddress => "invalid-address",
        }
    }
}

/// What is held of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighborView {
    /// Its number.
    pub id: NeighborId,
    /// Routes held.
    pub routes: usize,
    /// Announcements ignored because of loops.
    pub looped: u64,
}

/// A VNI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VniView {
    /// The VNI.
    pub vni: Vni,
    /// Its route distinguisher.
    pub rd: Rd,
    /// Import targets.
    pub import: TargetList,
    /// Export targets.
    pub export: Vec<ExtendedCommunity>,
    /// MACs that routes have put into the table.
    pub remote_macs: u32,
    /// Local MACs.
    pub local_macs: usize,
    /// VTEPs in its flood list.
    pub vteps: usize,
}

fn own_view(route: &EvpnRoute, attributes: &Arc<Attributes>) -> RouteView {
    let label = match route {
        EvpnRoute::MacIp(r) => r.label,
        EvpnRoute::InclusiveMulticast(_) => attributes.pmsi.as_ref().map_or(0, |pmsi| pmsi.label),
        // Not originated.
        EvpnRoute::EthernetAd(_) | EvpnRoute::EthernetSegment(_) | EvpnRoute::IpPrefix(_) => 0,
    };
    RouteView {
        route: *route,
        neighbor: None,
        attributes: attributes.clone(),
        best: true,
        stale: false,
        long_lived: false,
        status: None,
        vni: Vni::new(label).ok(),
        note: None,
    }
}

/// Routes.
impl EvpnSpeaker {
    /// All paths of all routes of the peers, in no order.
    pub fn routes(&self) -> impl Iterator<Item = RouteView> + '_ {
        let rib = &self.shared.rib;
        rib.ids()
            .flat_map(move |id| rib.views(id).map(move |path| self.route_view(id, path)))
    }

    /// The number of slots of the routes of peers, used or free. A route keeps its slot.
    #[must_use]
    pub fn route_slots(&self) -> u32 {
        self.shared.rib.slots()
    }

    /// The key of the route in a slot, if it is in use.
    #[must_use]
    pub fn route_key(&self, slot: u32) -> Option<EvpnRoute> {
        let id = RouteId(slot);
        self.shared.rib.best(id)?;
        Some(self.shared.rib.key(id))
    }

    /// The senders of the paths of the route in a slot, with its VNI if it is wanted.
    pub fn paths_at(
        &self,
        slot: u32,
        key: &EvpnRoute,
        with_vni: bool,
    ) -> impl Iterator<Item = (NeighborId, Option<Vni>)> {
        self.shared.rib.views(RouteId(slot)).map(move |path| {
            let vni = with_vni.then(|| self.route_vni(RouteId(slot), &path, key));
            (path.from, vni.flatten())
        })
    }

    /// All paths of the route in a slot.
    pub fn routes_at(&self, slot: u32) -> impl Iterator<Item = RouteView> + '_ {
        let rib = &self.shared.rib;
        let used = (slot < rib.slots()).then_some(RouteId(slot));
        let used = used.filter(|id| rib.best(*id).is_some());
        used.into_iter()
            .flat_map(move |id| rib.views(id).map(move |path| self.route_view(id, path)))
    }

    /// The originated routes, in the order of their keys.
    pub fn own_routes(&self) -> impl Iterator<Item = RouteView> + '_ {
        self.own_routes_after(None)
    }

    /// The originated route with this key.
    #[must_use]
    pub fn own_route(&self, key: &EvpnRoute) -> Option<RouteView> {
        let (route, attributes) = self.shared.originated.get(key)?;
        Some(own_view(route, attributes))
    }

    /// The originated routes after that with a key, in the order of their keys.
    pub fn own_routes_after(&self, key: Option<EvpnRoute>) -> impl Iterator<Item = RouteView> + '_ {
        let routes = self.shared.originated.after(key);
        routes.map(|(route, attributes)| own_view(route, attributes))
    }

    /// The number of originated routes.
    #[must_use]
    pub fn own_route_count(&self) -> usize {
        self.shared.originated.len()
    }

    fn route_view(&self, id: RouteId, path: PathView) -> RouteView {
        let rib = &self.shared.rib;
        let route = rib.route(id, path.attrs, path.label);
        let attributes = rib.attributes().attributes(path.attrs).clone();
        let vni = self.route_vni(id, &path, &route);
        let status = self.status(id, &path, &route, vni);
        let note = self.note(id, &path, &route, vni);
        RouteView {
            note: note.filter(|_| status == RouteStatus::Installed),
            route,
            neighbor: Some(path.from),
            attributes,
            best: path.lost_at.is_none(),
            stale: path.stale,
            long_lived: path.long_lived,
            status: Some(status),
            vni,
        }
    }

    /// The VNI that a path belongs to, configured or not.
    fn route_vni(&self, id: RouteId, path: &PathView, route: &EvpnRoute) -> Option<Vni> {
        let rib = &self.shared.rib;
        match route {
            EvpnRoute::InclusiveMulticast(r) => {
                let attributes = rib.attributes().attributes(path.attrs);
                let request = inclusive_multicast::parse(r, attributes);
                request.ok().map(|request| request.vni)
            }
            EvpnRoute::MacIp(_) => vni_of(rib, id, path.label),
            EvpnRoute::EthernetAd(r) if !ethernet_segment::is_per_es(r) => {
                ethernet_segment::vni_of(r, path.label)
            }
            EvpnRoute::EthernetAd(_) | EvpnRoute::EthernetSegment(_) | EvpnRoute::IpPrefix(_) => {
                None
            }
        }
    }

    fn status(
        &self,
        id: RouteId,
        path: &PathView,
        route: &EvpnRoute,
        vni: Option<Vni>,
    ) -> RouteStatus {
        let usable = match route {
            EvpnRoute::InclusiveMulticast(r) => {
                inclusive_multicast::flood_entry(&self.shared, r, path.attrs).map(drop)
            }
            EvpnRoute::MacIp(r) => match (HostMac::new(r.mac), vni) {
                (Err(_), _) => Err(RouteStatus::NotUnicast),
                (Ok(_), None) => Err(RouteStatus::NoVni),
                (Ok(_), Some(vni)) => self.shared.usable(vni, path.attrs),
            },
            EvpnRoute::EthernetAd(r) => {
                ethernet_segment::status(&self.shared, r, path.attrs, path.label)
            }
            EvpnRoute::EthernetSegment(_) | EvpnRoute::IpPrefix(_) => {
                let info = self.shared.rib.attributes().path_info(path.attrs);
                Err(info
                    .ineligible
                    .map_or(RouteStatus::RouteType, RouteStatus::Ineligible))
            }
        };
        match (usable, path.lost_at, route) {
            (Err(status), ..) => status,
            (Ok(()), Some(step), _) => RouteStatus::NotBest(step),
            (Ok(()), None, EvpnRoute::MacIp(r)) => {
                let at = vni.zip(HostMac::new(r.mac).ok());
                at.map_or(RouteStatus::NoVni, |(vni, mac)| {
                    self.macs.status(&self.shared, vni, mac, path)
                })
            }
            (Ok(()), None, EvpnRoute::InclusiveMulticast(_)) => {
                if self.flood_lists.is_installed(id) {
                    RouteStatus::Installed
                } else {
                    RouteStatus::Pending
                }
            }
            (Ok(()), None, EvpnRoute::EthernetAd(_)) => RouteStatus::Installed,
            (Ok(()), None, EvpnRoute::EthernetSegment(_) | EvpnRoute::IpPrefix(_)) => {
                RouteStatus::RouteType
            }
        }
    }

    fn note(
        &self,
        id: RouteId,
        path: &PathView,
        route: &EvpnRoute,
        vni: Option<Vni>,
    ) -> Option<RouteNote> {
        let rib = &self.shared.rib;
        match route {
            EvpnRoute::InclusiveMulticast(r) => {
                let attributes = rib.attributes().attributes(path.attrs);
                let request = inclusive_multicast::parse(r, attributes).ok()?;
                request
                    .is_mismatch(r.originator)
                    .then_some(RouteNote::EndpointMismatch)
            }
            EvpnRoute::MacIp(_) if neighbors::has_invalid_address(rib, id) => {
                Some(RouteNote::InvalidAddress)
            }
            EvpnRoute::MacIp(_)
                if !self
                    .flood_lists
                    .has_route(vni?, self.shared.vtep_of(path.attrs)?) =>
            {
                Some(RouteNote::UnknownVtep)
            }
            EvpnRoute::MacIp(r) if r.ip.is_some() && !neighbors::is_installed(rib, id) => {
                Some(RouteNote::OtherNeighborEntry)
            }
            EvpnRoute::MacIp(_)
            | EvpnRoute::EthernetAd(_)
            | EvpnRoute::EthernetSegment(_)
            | EvpnRoute::IpPrefix(_) => None,
        }
    }

    /// What is held of a peer.
    #[must_use]
    pub fn neighbor(&self, id: NeighborId) -> NeighborView {
        NeighborView {
            id,
            routes: self.shared.rib.path_count(id),
            looped: self.shared.rib.looped_count(id),
        }
    }

    /// The number of type 2 routes with an address that no host can have.
    #[must_use]
    pub const fn invalid_address_count(&self) -> usize {
        self.neighbors.invalid_count()
    }

    /// The number of routes held.
    #[must_use]
    pub fn route_count(&self) -> usize {
        self.shared.rib.len()
    }

    /// The numbers of what is held: `(routes, type 2 routes, attribute sets)`.
    #[must_use]
    pub fn totals(&self) -> (usize, usize, usize) {
        let rib = &self.shared.rib;
        let mac_ip = rib.ids().filter(|id| rib.kind(*id) != RouteKind::Other);
        (rib.len(), mac_ip.count(), rib.attributes().count())
    }
}

/// VNIs and their entries.
impl EvpnSpeaker {
    /// All VNIs, in order.
    pub fn vni_views(&self) -> impl Iterator<Item = VniView> + '_ {
        self.shared.vrfs.iter().map(|(vni, vrf)| VniView {
            vni,
            rd: vrf.rd,
            import: vrf.config.import.clone(),
            export: targets::exports(&vrf.config, self.shared.config.local_as),
            remote_macs: self.macs.remote_count(vni),
            local_macs: self.macs.locals_of(vni).len(),
            vteps: self.flood_lists.list(vni).count(),
        })
    }

    /// The flood list of a VNI, in order: VTEPs with the number of their routes, and whether static
    /// configuration has them too.
    pub fn flood_list(&self, vni: Vni) -> impl Iterator<Item = (VtepAddr, u32, bool)> + '_ {
        self.flood_lists.list(vni)
    }

    /// The VTEPs that a MAC behind an Ethernet segment is reachable through.
    #[must_use]
    pub fn segment_members(&self, vni: Vni, mac: HostMac) -> Vec<VtepAddr> {
        self.macs.segment_members(&self.shared, vni, mac)
    }

    /// The Ethernet segments of other VTEPs from `from` on, in each VNI, in order.
    pub fn segments(&self, from: Esi) -> impl Iterator<Item = SegmentView> + '_ {
        self.shared.segment_views(from)
    }

    /// The MACs of a VNI in no order: local ones, static ones, and those of routes.
    pub fn macs(&self, vni: Vni) -> impl Iterator<Item = MacView> + '_ {
        self.macs.macs(&self.shared, vni)
    }

    /// The local and static MACs of a VNI, in no order. One may occur twice.
    pub fn own_macs(&self, vni: Vni) -> impl Iterator<Item = HostMac> + '_ {
        self.macs.own(vni)
    }

    /// The MACs of a VNI that routes announce, in no order.
    pub fn route_macs(&self, vni: Vni) -> impl Iterator<Item = HostMac> + '_ {
        self.macs.of_routes(vni)
    }

    /// The number of places of MACs that routes announce, used or free. A MAC keeps its place.
    #[must_use]
    pub fn mac_places(&self) -> u32 {
        self.macs.places()
    }

    /// The MAC at a place, if it is in use.
    #[must_use]
    pub fn mac_at(&self, place: u32) -> Option<(Vni, HostMac)> {
        self.macs.at(place)
    }

    /// One MAC, if it has an entry.
    #[must_use]
    pub fn mac(&self, vni: Vni, mac: HostMac) -> Option<MacView> {
        self.macs.mac(&self.shared, vni, mac)
    }

    /// The number of addresses that a local MAC claims; `None` if it is not local.
    #[must_use]
    pub fn address_count(&self, vni: Vni, mac: HostMac) -> Option<usize> {
        self.macs.claim_count(vni, mac)
    }

    /// The flags of advertisements for an address, if it has an entry and they are known.
    #[must_use]
    pub fn nd_flags(&self, vni: Vni, ip: IpAddr) -> Option<NdFlags> {
        let entry = self.neighbors.entry(&self.shared, &self.macs, vni, ip);
        entry.and_then(|(entry, _)| entry.nd)
    }

    /// The neighbor entry of an address: its MAC, and where the entry comes from.
    #[must_use]
    pub fn address(&self, vni: Vni, ip: IpAddr) -> Option<(HostMac, EntryOrigin)> {
        let entry = self.neighbors.entry(&self.shared, &self.macs, vni, ip);
        entry.map(|(entry, origin)| (entry.mac, origin))
    }
}
