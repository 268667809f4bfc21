//! The common fixture: a speaker with scripted neighbors, whose routes are encoded and decoded.
//!
//! ```text
//! VTEP 192.0.2.1 ---- reflector 192.0.2.201 (ONE)
//!                ---- reflector 192.0.2.202 (TWO)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};
use vtep_dataplane::wire::nd::NdFlags;

use crate::bgp::wire::{
    Attributes, DecodeContext, Decoder, Encoding, Esi, EvpnRoute, ExtendedCommunity, HEADER_LEN,
    InclusiveMulticast, MacIp, Pmsi, PmsiTunnel, Rd, UpdateMessage, announce, withdraw,
};
use crate::bgp::{Negotiated, PeerConfig, negotiate};
use crate::evpn::{
    AddressClaim, EntryOrigin, EvpnConfig, EvpnEvent, EvpnSpeaker, LocalKind, LocalMac,
    MacVrfConfig, NeighborId, RouteStatus, RouteView, SegmentKey, TableChange,
};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const ENCODING: Encoding = Encoding {
    four_octet: true,
    limit: 4096,
};
const INTERNAL: DecodeContext = DecodeContext {
    four_octet: true,
    internal: true,
    add_path: false,
};

pub(super) fn vni(number: u32) -> Vni {
    Vni::new(number).expect("a VNI")
}

pub(super) fn mac(last: u8) -> HostMac {
    format!("02:00:00:00:00:{last:02x}").parse().expect("a MAC")
}

pub(super) fn vtep(last: u8) -> VtepAddr {
    VtepAddr::new(ip(last)).expect("a VTEP")
}

/// 192.0.2.last
pub(super) fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

pub(super) fn rd(last: u8) -> Rd {
    Rd::ipv4(Ipv4Addr::new(192, 0, 2, last), 100)
}

/// A type 2 of VTEP `last` in VNI 100.
pub(super) fn host(last: u8, host: HostMac) -> MacIp {
    MacIp {
        rd: rd(last),
        esi: Esi::ZERO,
        tag: 0,
        mac: host.get(),
        ip: None,
        label: 100,
        label2: None,
    }
}

/// A type 3 of VTEP `last`.
pub(super) fn flood(last: u8) -> EvpnRoute {
    EvpnRoute::InclusiveMulticast(InclusiveMulticast {
        rd: rd(last),
        tag: 0,
        originator: ip(last),
    })
}

/// Attributes of a route of VTEP `last` in VNI 100.
pub(super) fn attributes(last: u8) -> Attributes {
    let mut attributes = Attributes::local(ip(last));
    attributes.local_pref = Some(100);
    attributes.extended = vec![
        ExtendedCommunity::route_target(65000, 100),
        ExtendedCommunity::VXLAN,
    ];
    attributes
}

pub(super) fn flood_attributes(last: u8) -> Attributes {
    flood_attributes_to(last, PmsiTunnel::IngressReplication(Some(ip(last))))
}

/// As [`flood_attributes`], with another tunnel.
pub(super) fn flood_attributes_to(last: u8, tunnel: PmsiTunnel) -> Attributes {
    let pmsi = Pmsi {
        flags: 0,
        label: 100,
        tunnel,
    };
    Attributes {
        pmsi: Some(pmsi),
        ..attributes(last)
    }
}

pub(super) fn moved(last: u8, sequence: u32) -> Attributes {
    let mut attributes = attributes(last);
    attributes
        .extended
        .push(ExtendedCommunity::mac_mobility(false, sequence));
    attributes
}

pub(super) fn sticky(last: u8) -> Attributes {
    let mut attributes = attributes(last);
    attributes
        .extended
        .push(ExtendedCommunity::mac_mobility(true, 0));
    attributes
}

pub(super) const ATTACHED: LocalMac = LocalMac {
    kind: LocalKind::Attached,
    sticky: false,
    anycast: false,
};
pub(super) const LEARNED: LocalMac = LocalMac {
    kind: LocalKind::Learned,
    sticky: false,
    anycast: false,
};

/// The tables that the changes result in.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct AppliedTables {
    pub(super) flood: BTreeSet<(Vni, VtepAddr)>,
    pub(super) macs: BTreeMap<(Vni, HostMac), VtepAddr>,
    pub(super) neighbors: BTreeMap<(Vni, IpAddr), (HostMac, Option<NdFlags>, EntryOrigin)>,
    pub(super) segments: BTreeMap<(Vni, SegmentKey), Vec<VtepAddr>>,
    /// The segment of MACs that are on one.
    pub(super) esis: BTreeMap<(Vni, HostMac), Esi>,
    pub(super) watched: BTreeSet<VtepAddr>,
}

impl AppliedTables {
    pub(super) fn apply(&mut self, change: TableChange) {
        match change {
            TableChange::FloodAdd(vni, vtep) => {
                assert!(
                    self.flood.insert((vni, vtep)),
                    "{vtep} is in the list already"
                );
            }
            TableChange::FloodDel(vni, vtep) => {
                assert!(self.flood.remove(&(vni, vtep)), "{vtep} is not in the list");
            }
            TableChange::MacSet {
                vni,
                mac,
                vtep,
                esi,
                ..
            } => {
                self.macs.insert((vni, mac), vtep);
                self.esis.remove(&(vni, mac));
                if esi != Esi::ZERO {
                    let segment = SegmentKey { esi, vtep };
                    assert!(self.segments.contains_key(&(vni, segment)));
                    self.esis.insert((vni, mac), esi);
                }
            }
            TableChange::MacDel { vni, mac } => {
                self.macs.remove(&(vni, mac));
                self.esis.remove(&(vni, mac));
            }
            TableChange::SegmentSet {
                vni,
                segment,
                members,
            } => {
                self.segments.insert((vni, segment), members);
            }
            TableChange::SegmentDel(vni, segment) => {
                let mut users = self
                    .esis
                    .iter()
                    .map(|(at, esi)| (at.0, *esi, self.macs[at]));
                let used = users.any(|user| user == (vni, segment.esi, segment.vtep));
                assert!(!used, "{segment:?} is in use");
                assert!(self.segments.remove(&(vni, segment)).is_some());
            }
            TableChange::VtepWatch(vtep, on) => {
                let changed = if on {
                    self.watched.insert(vtep)
                } else {
                    self.watched.remove(&vtep)
                };
                assert!(changed, "{vtep}");
            }
            TableChange::NeighborSet {
                vni,
                ip,
                mac,
                nd,
                origin,
            } => {
                self.neighbors.insert((vni, ip), (mac, nd, origin));
            }
            TableChange::NeighborDel { vni, ip } => {
                self.neighbors.remove(&(vni, ip));
            }
        }
    }
}

/// VTEP 192.0.2.1 with VNI 100 and two neighbors.
pub(super) struct Fixture {
    pub(super) now: Instant,
    pub(super) speaker: EvpnSpeaker,
    pub(super) tables: AppliedTables,
    pub(super) events: Vec<EvpnEvent>,
    decoder: Decoder,
}

pub(super) fn negotiated_with(local_as: u32, peer_as: u32, last: u8) -> Arc<Negotiated> {
    let ours = PeerConfig::new(local_as, Ipv4Addr::new(192, 0, 2, 1), peer_as);
    let theirs = PeerConfig::new(peer_as, Ipv4Addr::new(192, 0, 2, last), local_as);
    Arc::new(negotiate(&ours, &theirs.open(false, false)).expect("agreed"))
}

/// The neighbors of the fixture: reflectors.
pub(super) const ONE: NeighborId = NeighborId(0);
pub(super) const TWO: NeighborId = NeighborId(1);

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(
            EvpnConfig::new(65000, Ipv4Addr::new(192, 0, 2, 1), vtep(1)),
            MacVrfConfig::new(vni(100)),
        )
    }

    pub(super) fn with(config: EvpnConfig, vni: MacVrfConfig) -> Self {
        let now = Instant::now();
        let mut speaker = EvpnSpeaker::new(config);
        speaker.vni_add(now, vni).expect("added");
        for (id, last) in [(ONE, 201), (TWO, 202)] {
            speaker.neighbor_add(id, ip(last));
            speaker.peer_up(now, id, &negotiated_with(65000, 65000, last));
            speaker.end_of_rib(id);
        }
        let decoder = Decoder::new(INTERNAL);
        Self {
            now,
            speaker,
            tables: AppliedTables::default(),
            events: Vec::new(),
            decoder,
        }
    }

    pub(super) fn settle(&mut self) {
        for change in self.speaker.take_changes(self.now) {
            self.tables.apply(change);
        }
        self.events.extend(self.speaker.take_events());
    }

    /// A MAC that is attached here, and that VTEP 2 has claimed ten times.
    pub(super) fn contested() -> Self {
        let mut fixture = Self::new();
        fixture
            .speaker
            .local_mac_add(fixture.now, vni(100), mac(1), ATTACHED)
            .expect("local");
        for _ in 0..10 {
            let theirs = fixture.own_sequence(mac(1)).expect("announced") + 1;
            fixture.host(ONE, &moved(2, theirs), host(2, mac(1)));
            fixture.later(6 * SECOND);
        }
        fixture
    }

    pub(super) fn later(&mut self, time: Duration) {
        self.now += time;
        self.speaker.tick(self.now);
        self.settle();
    }

    pub(super) fn octets(&mut self, from: NeighborId, message: &[u8]) {
        self.octets_unsettled(from, message);
        self.settle();
    }

    pub(super) fn octets_unsettled(&mut self, from: NeighborId, message: &[u8]) {
        let body = &message[HEADER_LEN..];
        let parts = self.decoder.decode(body).expect("sound enough");
        self.speaker
            .update(self.now, from, &UpdateMessage::new(body, parts));
    }

    pub(super) fn announce(
        &mut self,
        from: NeighborId,
        attributes: &Attributes,
        routes: &[EvpnRoute],
    ) {
        let mut messages = Vec::new();
        assert!(announce(
            attributes,
            routes.iter().copied(),
            ENCODING,
            |m| messages.push(m.to_vec())
        ));
        for message in messages {
            self.octets(from, &message);
        }
    }

    pub(super) fn host(&mut self, from: NeighborId, attributes: &Attributes, route: MacIp) {
        self.announce(from, attributes, &[EvpnRoute::MacIp(route)]);
    }

    pub(super) fn withdraw(&mut self, from: NeighborId, routes: &[EvpnRoute]) {
        let mut messages = Vec::new();
        withdraw(routes.iter().copied(), 4096, |m| messages.push(m.to_vec()));
        for message in messages {
            self.octets(from, &message);
        }
    }

    /// The VTEP of a MAC of VNI 100 in the tables.
    pub(super) fn at(&self, mac: HostMac) -> Option<VtepAddr> {
        self.tables.macs.get(&(vni(100), mac)).copied()
    }

    /// The VTEPs that a MAC of VNI 100 is reachable through, by the last octets of their addresses.
    pub(super) fn reach(&self, mac: HostMac) -> Vec<u8> {
        let at = (vni(100), mac);
        let Some(vtep) = self.at(mac) else {
            return Vec::new();
        };
        let members = match self.tables.esis.get(&at) {
            Some(esi) => {
                let segment = SegmentKey { esi: *esi, vtep };
                self.tables.segments[&(vni(100), segment)].clone()
            }
            None => vec![vtep],
        };
        let last = |vtep: VtepAddr| match vtep.get() {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(v6) => v6.octets()[15],
        };
        members.into_iter().map(last).collect()
    }

    pub(super) fn views(&self) -> Vec<RouteView> {
        self.speaker.routes().collect()
    }

    /// The mobility sequence of the originated route for a MAC.
    pub(super) fn own_sequence(&self, mac: HostMac) -> Option<u32> {
        let ours =
            |view: &RouteView| matches!(view.route, EvpnRoute::MacIp(r) if r.mac == mac.get());
        let view = self.speaker.own_routes().find(ours)?;
        let mobility = view
            .attributes
            .extended
            .iter()
            .find_map(|c| c.as_mac_mobility());
        Some(mobility.map_or(0, |(_, sequence)| sequence))
    }
}

/// A host claims an address by an ARP message.
pub(super) fn claim(mac: HostMac, ip: IpAddr) -> AddressClaim {
    AddressClaim {
        mac,
        ip,
        router: false,
        nd: None,
    }
}

/// The status of each route of the neighbors.
pub(super) fn reasons(fixture: &Fixture) -> Vec<Option<RouteStatus>> {
    fixture.views().iter().map(|view| view.status).collect()
}
