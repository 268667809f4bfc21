//! Connects EVPN to the configuration and the FIB: configured entries go to the EVPN speaker, its
//! table changes are installed.
//!
//! Local hosts, static entries and routes meet in one [`EvpnSpeaker`], which decides which entry
//! wins: local hosts, then static configuration, then EVPN routes. Without `[bgp]` it decides
//! between the first two.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::Engine;
use crate::api::event as monitor;
use crate::bgp::{DownReason, Peer, PeerOutput};
use crate::config::{self, Change, Config, Port, PortKey, VniSettings};
use crate::evpn::{self, DuplicateConfig, EvpnEvent, EvpnSpeaker, LocalKind, LocalMac, NeighborId};
use crate::speaker::transport::SessionHandler;

/// The EVPN speaker, and the IDs of the BGP neighbors that feed it.
#[derive(Debug)]
pub(crate) struct EvpnSessions {
    pub(crate) speaker: EvpnSpeaker,
    ids: BTreeMap<IpAddr, NeighborId>,
    next_id: u16,
    /// Sessions that were established or ended since the last poll.
    pub(crate) sessions: Vec<(IpAddr, Option<DownReason>)>,
}

impl EvpnSessions {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            speaker: EvpnSpeaker::new(speaker_config(config)),
            ids: BTreeMap::new(),
            next_id: 0,
            sessions: Vec::new(),
        }
    }

    pub(crate) fn neighbor_add(&mut self, address: IpAddr) {
        let id = NeighborId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.ids.insert(address, id);
        self.speaker.neighbor_add(id, address);
    }

    pub(crate) fn neighbor_remove(&mut self, address: IpAddr, now: Instant) {
        if let Some(id) = self.ids.remove(&address) {
            self.speaker.neighbor_remove(now, id);
        }
    }

    /// The ID of a neighbor.
    pub(crate) fn id(&self, address: IpAddr) -> Option<NeighborId> {
        self.ids.get(&address).copied()
    }

    /// The neighbor with this ID.
    pub(crate) fn address(&self, id: NeighborId) -> Option<IpAddr> {
        self.ids
            .iter()
            .find(|(_, other)| **other == id)
            .map(|(address, _)| *address)
    }
}

impl SessionHandler for EvpnSessions {
    fn on_output(&mut self, neighbor: IpAddr, output: PeerOutput<'_>, now: Instant) {
        match &output {
            PeerOutput::SessionUp(_) => self.sessions.push((neighbor, None)),
            PeerOutput::SessionDown { reason, .. } => {
                self.sessions.push((neighbor, Some(reason.clone())));
            }
            _ => {}
        }
        if let Some(id) = self.id(neighbor) {
            self.speaker.handle(now, id, &output);
        }
    }

    fn route_count(&self, neighbor: IpAddr) -> usize {
        self.id(neighbor)
            .map_or(0, |id| self.speaker.prefix_count(id))
    }

    fn advertise(&mut self, neighbor: IpAddr, peer: &mut Peer, now: Instant) {
        if let Some(id) = self.id(neighbor) {
            self.speaker.pump(now, id, peer);
        }
    }
}

/// The local VTEP address to announce: IPv4 if there is one (FRR 8.4 resets the session on an IPv6
/// endpoint).
fn own_vtep(config: &Config) -> Option<VtepAddr> {
    config.vtep().addresses.iter().next()
}

fn speaker_config(config: &Config) -> evpn::EvpnConfig {
    let vtep = own_vtep(config).expect("a valid configuration has a VTEP address");
    let (asn, router_id) = config
        .bgp()
        .map_or((0, Ipv4Addr::UNSPECIFIED), |bgp| (bgp.asn, bgp.router_id));
    let mut speaker = evpn::EvpnConfig::new(asn, router_id, vtep);
    speaker.own = config.vtep().addresses.iter().collect();
    if let Some(bgp) = config.bgp() {
        speaker.duplicate = DuplicateConfig {
            moves: u8::try_from(bgp.duplicates.moves).unwrap_or(u8::MAX),
            window: bgp.duplicates.window,
            recovery: bgp.duplicates.freeze,
        };
    }
    speaker
}

fn vni_config(vni: Vni, settings: &VniSettings) -> evpn::MacVrfConfig {
    let evpn = &settings.evpn;
    let mut all = evpn::MacVrfConfig::new(vni);
    all.rd = evpn.rd;
    let import: Vec<_> = evpn.import.list.iter().copied().collect();
    if evpn.import.auto {
        all.import_also = import;
    } else {
        all.import = import;
    }
    all.export = evpn.export.list.iter().copied().collect();
    all.tag = match evpn.tag {
        config::EthernetTagMode::Zero => evpn::EthernetTag::Zero,
        config::EthernetTagMode::Vni => evpn::EthernetTag::Vni,
    };
    all.max_macs = settings.max_macs.unwrap_or(u32::MAX);
    all
}

impl Engine {
    /// Passes a configuration change on to the EVPN speaker, if it concerns the content of a VNI.
    /// `before` is the port that a [`Change::PortSet`] replaces. Live changes, the start and a
    /// restart of BGP all come through here.
    pub(super) fn apply_to_evpn(&mut self, change: &Change, before: Option<&Port>, now: Instant) {
        let speaker = &mut self.evpn.speaker;
        match change {
            Change::VniAdd { vni, settings } | Change::VniSet { vni, settings } => {
                if let Err(error) = speaker.vni_add(now, vni_config(*vni, settings)) {
                    tracing::error!(%error, "the VNI is not announced");
                }
            }
            Change::VniDel { vni } => {
                speaker.statics_del(*vni);
                speaker.vni_del(*vni);
            }
            Change::PortAdd { vni, port } | Change::PortSet { vni, port } => {
                self.evpn_port(*vni, before, Some(port), now);
            }
            Change::FdbAdd { vni, mac, vtep, .. } => speaker.static_mac_add(*vni, *mac, *vtep),
            Change::FdbDel { vni, mac } => speaker.static_mac_del(*vni, *mac),
            Change::FloodAdd { vni, vtep } => speaker.static_flood_add(*vni, *vtep),
            Change::FloodDel { vni, vtep } => speaker.static_flood_del(*vni, *vtep),
            Change::NeighborAdd { vni, ip, mac, .. } => {
                speaker.static_address_add(*vni, *ip, *mac, false);
            }
            Change::NeighborDel { vni, ip } => speaker.static_address_del(*vni, *ip),
            Change::GroupAdd { vni, group } => {
                if let Ok(group) = VtepAddr::group(group.get()) {
                    speaker.static_flood_add(*vni, group);
                }
            }
            Change::GroupDel { vni, group } => {
                if let Ok(group) = VtepAddr::group(group.get()) {
                    speaker.static_flood_del(*vni, group);
                }
            }
            _ => {}
        }
    }

    /// Updates the speaker's local hosts from the old and new state of a port.
    pub(super) fn evpn_port(
        &mut self,
        vni: Vni,
        before: Option<&Port>,
        after: Option<&Port>,
        now: Instant,
    ) {
        let none = std::collections::BTreeSet::new();
        let macs =
            |port: Option<&Port>| port.map_or_else(|| none.clone(), |port| port.macs.clone());
        let ips = |port: Option<&Port>| {
            port.filter(|port| port.macs.len() == 1)
                .map(|port| port.ips.clone())
                .unwrap_or_default()
        };
        for ip in ips(before).difference(&ips(after)) {
            self.evpn.speaker.local_address_del(vni, *ip);
        }
        for mac in macs(before).difference(&macs(after)) {
            self.evpn.speaker.local_mac_del(vni, *mac);
        }
        let Some(port) = after else { return };
        for mac in &port.macs {
            let local = LocalMac {
                kind: LocalKind::Attached,
                sticky: port.sticky,
            };
            let result = self.evpn.speaker.local_mac_add(now, vni, *mac, local);
            let result = result.and_then(|()| {
                ips(after)
                    .iter()
                    .try_for_each(|ip| self.evpn.speaker.local_address_add(vni, *mac, *ip))
            });
            if let Err(error) = result {
                tracing::error!(%error, "a host is not announced");
            }
        }
    }

    /// Installs the table changes that the speaker has queued, and reports its events.
    pub(super) fn install_routes(&mut self, now: Instant) {
        let mut full = 0u64;
        let tables = &mut self.fib;
        self.evpn
            .speaker
            .drain_changes(now, |changes| full = tables.install(changes));
        if full > 0 {
            self.not_installed += full;
            tracing::error!(
                entries = full,
                "tables are full: entries of EVPN routes are not installed"
            );
        }
        for event in self.evpn.speaker.take_events() {
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
            let Some(known) = self.bgp.neighbors().get(&neighbor) else {
                continue;
            };
            let state = (&known.peer.status()).into();
            self.events.push(monitor::ApiEvent::Bgp(monitor::BgpEvent {
                neighbor,
                state,
                reason,
            }));
        }
    }

    fn evpn_event(&mut self, event: &EvpnEvent) {
        use monitor::MacChange;
        log(event);
        let here = match *event {
            EvpnEvent::Moved {
                vni, mac, to: None, ..
            } => self.port_of(vni, mac),
            _ => None,
        };
        let mut notify = |event, vni, mac: HostMac, vtep, sequence| {
            let (mac, port) = (mac.get(), here.clone());
            self.events.push(monitor::ApiEvent::Mac(monitor::MacEvent {
                event,
                vni,
                mac,
                port,
                vtep,
                sequence,
            }));
        };
        match *event {
            // A host that is being learned has no port yet: `learn` reports it.
            EvpnEvent::Moved { to: None, .. } if here.is_none() => {}
            EvpnEvent::Moved {
                vni,
                mac,
                to,
                sequence,
                ..
            } => notify(MacChange::Moved, vni, mac, to, sequence),
            EvpnEvent::Contested {
                vni,
                mac,
                vtep,
                sequence,
            } => {
                notify(MacChange::Claimed, vni, mac, Some(vtep), sequence);
            }
            EvpnEvent::LearnedGone { vni, mac, vtep } => {
                notify(MacChange::Moved, vni, mac, Some(vtep), 0);
                self.learned.forget(vni, mac);
            }
            EvpnEvent::Frozen { vni, mac } => {
                notify(MacChange::Frozen, vni, mac, None, 0);
            }
            EvpnEvent::Unfrozen { vni, mac } => notify(MacChange::Unfrozen, vni, mac, None, 0),
            EvpnEvent::LimitReached { .. } | EvpnEvent::EndpointMismatch { .. } => {}
            EvpnEvent::Looped { neighbor, routes } => {
                let neighbor = self.evpn.address(neighbor);
                tracing::debug!(
                    ?neighbor,
                    routes,
                    "ignored routes that this router originated"
                );
            }
        }
    }

    /// Starts over with other BGP settings: everything in the configuration is announced again, and
    /// all sessions start when the batch is complete.
    pub(super) fn evpn_restart(&mut self, now: Instant) {
        for address in self.bgp.neighbors().keys().copied().collect::<Vec<_>>() {
            self.bgp
                .remove_neighbor(address, &self.registry, &mut self.evpn, now);
            self.evpn.neighbor_remove(address, now);
        }
        self.learned_forget_all();
        self.install_routes(now);
        self.evpn = EvpnSessions::new(&self.config);
        // VNIs that later changes of the same batch add are not in the FIB yet: those changes are
        // passed to the speaker when they are applied.
        let vnis = self.config.vnis().iter();
        let known = vnis.filter(|(vni, _)| self.fib.domain_id(**vni).is_some());
        let changes: Vec<_> = known
            .flat_map(|(vni, content)| config::vni_content(*vni, content))
            .collect();
        for change in changes {
            self.apply_to_evpn(&change, None, now);
        }
        self.install_routes(now);
        self.session_starts
            .extend(self.config.bgp_neighbors().keys());
    }

    /// The port that a local MAC is behind, by configuration or learned.
    pub(super) fn port_of(&self, vni: Vni, mac: HostMac) -> Option<PortKey> {
        let configured = self
            .config
            .vnis()
            .get(&vni)
            .and_then(|content| content.local().get(&mac).cloned());
        configured.or_else(|| self.learned.port(vni, mac).cloned())
    }
}

/// Logs what an operator has to know of an event.
fn log(event: &EvpnEvent) {
    match *event {
        EvpnEvent::Contested {
            vni,
            mac,
            vtep,
            sequence,
        } => {
            tracing::warn!(%vni, %mac, %vtep, sequence, "another VTEP claims a MAC that is attached here");
        }
        EvpnEvent::Frozen { vni, mac } => tracing::warn!(
            %vni,
            %mac,
            "duplicate MAC: moved too often and is frozen; `vtepctl mac unfreeze` releases it"
        ),
        EvpnEvent::LimitReached { vni, limit } => {
            tracing::warn!(%vni, limit, "the VNI has reached max-macs; further EVPN MACs are not installed");
        }
        EvpnEvent::EndpointMismatch {
            vni,
            endpoint,
            originator,
        } => tracing::warn!(
            %vni,
            %endpoint,
            %originator,
            "the tunnel endpoint of a type 3 route differs from its originator; flooding to the \
             endpoint"
        ),
        EvpnEvent::Moved { .. }
        | EvpnEvent::LearnedGone { .. }
        | EvpnEvent::Unfrozen { .. }
        | EvpnEvent::Looped { .. } => {}
    }
}
