//! EVPN joined to the tables: what the instance says is written, what the configuration says is told to the instance.
//!
//! Local hosts, static entries and routes meet in one [`Instance`], which decides whose word counts: local truth, then
//! static configuration, then EVPN. Without `[bgp]` it decides between the first two.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::Engine;
use crate::api::event as monitor;
use crate::bgp::{DownReason, Output, Peer};
use crate::config::{self, Config, Port, PortKey, VniSettings};
use crate::evpn::{self, DuplicateConfig, Event, Instance, LocalKind, LocalMac, NeighborId};
use crate::speaker::transport::Routes;

/// The instance, and its neighbours' numbers.
#[derive(Debug)]
pub(super) struct Evpn {
    pub(super) instance: Instance,
    ids: BTreeMap<IpAddr, NeighborId>,
    next_id: u16,
    /// Sessions that came or went since the engine looked.
    pub(super) sessions: Vec<(IpAddr, Option<DownReason>)>,
}

impl Evpn {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            instance: Instance::new(instance_config(config)),
            ids: BTreeMap::new(),
            next_id: 0,
            sessions: Vec::new(),
        }
    }

    pub(super) fn neighbor_add(&mut self, address: IpAddr) {
        let id = NeighborId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.ids.insert(address, id);
        self.instance.neighbor_add(id, address);
    }

    pub(super) fn neighbor_remove(&mut self, address: IpAddr, now: Instant) {
        if let Some(id) = self.ids.remove(&address) {
            self.instance.neighbor_remove(now, id);
        }
    }

    /// The number of a neighbour.
    pub(super) fn id(&self, address: IpAddr) -> Option<NeighborId> {
        self.ids.get(&address).copied()
    }

    /// The neighbour with this number.
    pub(super) fn address(&self, id: NeighborId) -> Option<IpAddr> {
        self.ids.iter().find(|(_, other)| **other == id).map(|(address, _)| *address)
    }
}

impl Routes for Evpn {
    fn heard(&mut self, neighbor: IpAddr, output: Output<'_>, now: Instant) {
        match &output {
            Output::SessionUp(_) => self.sessions.push((neighbor, None)),
            Output::SessionDown { reason, .. } => self.sessions.push((neighbor, Some(reason.clone()))),
            _ => {}
        }
        if let Some(id) = self.id(neighbor) {
            self.instance.handle(now, id, &output);
        }
    }

    fn held(&self, neighbor: IpAddr) -> usize {
        self.id(neighbor).map_or(0, |id| self.instance.prefix_count(id))
    }

    fn speak(&mut self, neighbor: IpAddr, peer: &mut Peer, now: Instant) {
        if let Some(id) = self.id(neighbor) {
            self.instance.pump(now, id, peer);
        }
    }
}

/// Our address for others: that of IPv4 if there is one (FRR 8.4 resets the session at an IPv6 endpoint).
fn own_vtep(config: &Config) -> Option<VtepAddr> {
    config.vtep().addresses.iter().next()
}

fn instance_config(config: &Config) -> evpn::Config {
    let vtep = own_vtep(config).expect("a valid configuration has a VTEP address");
    let (asn, router_id) = config.bgp().map_or((0, Ipv4Addr::UNSPECIFIED), |bgp| (bgp.asn, bgp.router_id));
    let mut instance = evpn::Config::new(asn, router_id, vtep);
    instance.own = config.vtep().addresses.iter().collect();
    if let Some(bgp) = config.bgp() {
        instance.duplicate = DuplicateConfig {
            moves: u8::try_from(bgp.duplicates.moves).unwrap_or(u8::MAX),
            window: bgp.duplicates.window,
            recovery: bgp.duplicates.freeze,
        };
    }
    instance
}

fn vni_config(vni: Vni, settings: &VniSettings) -> evpn::VniConfig {
    let evpn = &settings.evpn;
    let mut all = evpn::VniConfig::new(vni);
    all.rd = evpn.rd;
    let import: Vec<_> = evpn.import.list.iter().copied().collect();
    if evpn.import.auto {
        all.import_also = import;
    } else {
        all.import = import;
    }
    all.export = evpn.export.list.iter().copied().collect();
    all.tag = match evpn.tag {
        config::Tag::Zero => evpn::EthernetTag::Zero,
        config::Tag::Vni => evpn::EthernetTag::Vni,
    };
    all.max_macs = settings.max_macs.unwrap_or(u32::MAX);
    all
}

impl Engine {
    /// Tells the instance of a VNI, new or changed.
    pub(super) fn evpn_vni(&mut self, vni: Vni, settings: &VniSettings, now: Instant) {
        if let Err(error) = self.evpn.instance.vni_add(now, vni_config(vni, settings)) {
            tracing::error!(%error, "the VNI is not announced");
        }
    }

    /// Tells the instance of a port's hosts: what is no longer there, and what is.
    pub(super) fn evpn_port(&mut self, vni: Vni, before: Option<&Port>, after: Option<&Port>, now: Instant) {
        let none = std::collections::BTreeSet::new();
        let macs = |port: Option<&Port>| port.map_or_else(|| none.clone(), |port| port.macs.clone());
        let ips = |port: Option<&Port>| {
            port.filter(|port| port.macs.len() == 1).map(|port| port.ips.clone()).unwrap_or_default()
        };
        for ip in ips(before).difference(&ips(after)) {
            self.evpn.instance.local_address_del(vni, *ip);
        }
        for mac in macs(before).difference(&macs(after)) {
            self.evpn.instance.local_mac_del(vni, *mac);
        }
        let Some(port) = after else { return };
        for mac in &port.macs {
            let local = LocalMac { kind: LocalKind::Attached, sticky: port.sticky };
            let told = self.evpn.instance.local_mac_add(now, vni, *mac, local);
            let told = told.and_then(|()| {
                ips(after).iter().try_for_each(|ip| self.evpn.instance.local_address_add(vni, *mac, *ip))
            });
            if let Err(error) = told {
                tracing::error!(%error, "a host is not announced");
            }
        }
    }

    /// Writes what the instance has decided since the last time into the tables.
    pub(super) fn carry(&mut self, now: Instant) {
        let mut full = 0u64;
        let tables = &mut self.tables;
        self.evpn.instance.drain_changes(now, |changes| full = tables.apply(changes));
        if full > 0 {
            self.not_installed += full;
            tracing::error!(entries = full, "tables are full: entries of EVPN routes are not installed");
        }
        for event in self.evpn.instance.take_events() {
            self.evpn_event(&event);
        }
        self.session_events();
    }

    fn session_events(&mut self) {
        for (neighbor, ended) in std::mem::take(&mut self.evpn.sessions) {
            let reason = ended.as_ref().map(ToString::to_string);
            match &reason {
                None => tracing::info!(%neighbor, "BGP session established"),
                Some(reason) => tracing::warn!(%neighbor, reason, "BGP session ended"),
            }
            let Some(known) = self.speaker.neighbors().get(&neighbor) else { continue };
            let state = (&known.peer.status()).into();
            self.news.push(monitor::Event::Bgp(monitor::BgpEvent { neighbor, state, reason }));
        }
    }

    fn evpn_event(&mut self, event: &Event) {
        use monitor::MacChange;
        let here = match *event {
            Event::Moved { vni, mac, to: None, .. } => self.port_of(vni, mac),
            _ => None,
        };
        let mut tell = |event, vni, mac: HostMac, vtep, sequence| {
            let (mac, port) = (mac.get(), here.clone());
            self.news.push(monitor::Event::Mac(monitor::MacEvent { event, vni, mac, port, vtep, sequence }));
        };
        match *event {
            // A host that is being learned has no port yet: who learns it tells.
            Event::Moved { to: None, .. } if here.is_none() => {}
            Event::Moved { vni, mac, to, sequence, .. } => tell(MacChange::Moved, vni, mac, to, sequence),
            Event::Contested { vni, mac, vtep, sequence } => {
                tracing::warn!(%vni, %mac, %vtep, sequence, "another VTEP claims a MAC that is attached here");
                tell(MacChange::Claimed, vni, mac, Some(vtep), sequence);
            }
            Event::LearnedGone { vni, mac, vtep } => {
                tell(MacChange::Moved, vni, mac, Some(vtep), 0);
                self.learned.forget(vni, mac);
            }
            Event::Frozen { vni, mac } => {
                tracing::warn!(%vni, %mac, "MAC moved too often: frozen where it is; `vtepctl mac unfreeze` frees it");
                tell(MacChange::Frozen, vni, mac, None, 0);
            }
            Event::Thawed { vni, mac } => tell(MacChange::Unfrozen, vni, mac, None, 0),
            Event::LimitReached { vni, limit } => {
                tracing::warn!(%vni, limit, "the VNI has as many MACs of EVPN as max-macs allows");
            }
            Event::EndpointMismatch { vni, endpoint, originator } => {
                tracing::warn!(%vni, %endpoint, %originator, "flooding to the tunnel endpoint of a type 3 route, which is not its originator");
            }
            Event::Looped { neighbor, routes } => {
                let neighbor = self.evpn.address(neighbor);
                tracing::debug!(?neighbor, routes, "our own routes came back: ignored");
            }
        }
    }

    /// Begins anew with other BGP settings: all that the configuration says is told again, and all sessions begin anew
    /// when the batch is made.
    pub(super) fn evpn_restart(&mut self, now: Instant) {
        for address in self.speaker.neighbors().keys().copied().collect::<Vec<_>>() {
            self.speaker.remove(address, &self.registry, &mut self.evpn, now);
            self.evpn.neighbor_remove(address, now);
        }
        self.learned_forget_all();
        self.carry(now);
        self.evpn = Evpn::new(&self.config);
        // The configuration may hold VNIs that later changes of the same batch bring: those tell the instance themselves,
        // and what it said now would find no table to stand in.
        let vnis = self.config.vnis().keys().copied();
        let vnis: Vec<_> = vnis.filter(|vni| self.tables.domain_id(*vni).is_some()).collect();
        for vni in vnis {
            let content = self.config.vnis()[&vni].clone();
            self.evpn_vni(vni, content.settings(), now);
            content.ports().values().for_each(|port| self.evpn_port(vni, None, Some(port), now));
            let instance = &mut self.evpn.instance;
            content.fdb().iter().for_each(|(mac, entry)| instance.static_mac_add(vni, *mac, entry.vtep));
            content.flood().iter().for_each(|vtep| instance.static_flood_add(vni, *vtep));
            if let Some(group) = content.group().and_then(|group| VtepAddr::group(group.get()).ok()) {
                instance.static_flood_add(vni, group);
            }
            let neighbors = content.neighbors().iter();
            neighbors.for_each(|(ip, entry)| instance.static_address_add(vni, *ip, entry.mac, false));
        }
        self.carry(now);
        self.session_starts.extend(self.config.bgp_neighbors().keys());
    }

    /// The port that a local MAC is behind, by configuration or learned.
    pub(super) fn port_of(&self, vni: Vni, mac: HostMac) -> Option<PortKey> {
        let configured = self.config.vnis().get(&vni).and_then(|content| content.local().get(&mac).cloned());
        configured.or_else(|| self.learned.port(vni, mac).cloned())
    }
}
