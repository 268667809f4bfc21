//! Connects EVPN to the configuration and the FIB: configured entries go to the EVPN speaker, its
//! table changes are installed.
//!
//! Local hosts, static entries and routes meet in one [`EvpnSpeaker`], which decides which entry
//! wins: local hosts, then static configuration, then EVPN routes. Without `[bgp]` it decides
//! between the first two.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};

use super::Engine;
use super::event_log::EventLog;
use crate::api::event as monitor;
use crate::bgp::{DownReason, Peer, PeerOutput};
use crate::config::{self, Change, Config, Port, PortKey, VniSettings};
use crate::evpn::{self, DuplicateConfig, EvpnEvent, EvpnSpeaker, LocalKind, LocalMac, NeighborId};
use crate::fib::Retry;
use crate::speaker::transport::SessionHandler;

/// What happened to a session.
#[derive(Debug)]
pub(crate) enum SessionNews {
    /// It was established.
    Established,
    /// It ended.
    Ended(DownReason),
    /// An attempt to establish it failed.
    Failed(DownReason),
}

/// Refused entries that one turn installs again.
const RETRIES_AT_ONCE: usize = 4096;

/// The EVPN speaker, and the IDs of the BGP neighbors that feed it.
#[derive(Debug)]
pub(crate) struct EvpnSessions {
    pub(crate) speaker: EvpnSpeaker,
    ids: BTreeMap<IpAddr, NeighborId>,
    next_id: u16,
    /// What happened to sessions since the last poll.
    pub(crate) sessions: Vec<(IpAddr, SessionNews)>,
    log: EventLog,
}

impl EvpnSessions {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            speaker: EvpnSpeaker::new(speaker_config(config)),
            ids: BTreeMap::new(),
            next_id: 0,
            sessions: Vec::new(),
            log: EventLog::default(),
        }
    }

    /// Adds a neighbor, unless it is known.
    pub(crate) fn neighbor_add(&mut self, address: IpAddr) {
        if self.ids.contains_key(&address) {
            return;
        }
        let id = NeighborId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.ids.insert(address, id);
        self.speaker.neighbor_add(id, address);
    }

    pub(crate) fn neighbor_remove(&mut self, address: IpAddr) {
        if let Some(id) = self.ids.remove(&address) {
            self.speaker.neighbor_remove(id);
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
            PeerOutput::SessionUp(_) => {
                self.sessions.push((neighbor, SessionNews::Established));
            }
            PeerOutput::SessionDown { reason, .. } => {
                let ended = SessionNews::Ended(reason.clone());
                self.sessions.push((neighbor, ended));
            }
            PeerOutput::AttemptFailed(reason) => {
                let failed = SessionNews::Failed(reason.clone());
                self.sessions.push((neighbor, failed));
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

    fn advertise(&mut self, neighbor: IpAddr, peer: &mut Peer, now: Instant, octets: &mut usize) {
        if let Some(id) = self.id(neighbor) {
            let queue = |message: &[u8]| peer.send_within(now, message, octets);
            self.speaker.pump_messages(id, queue);
        }
    }
}

/// The local VTEP address to announce: IPv4 if there is one (FRR 8.4 resets the session on an IPv6
/// endpoint).
fn own_vtep(config: &Config) -> Option<VtepAddr> {
    config.vtep().addresses.iter().next()
}

pub(super) fn speaker_config(config: &Config) -> evpn::EvpnConfig {
    let vtep = own_vtep(config).expect("a valid configuration has a VTEP address");
    let (asn, router_id) = config
        .bgp()
        .map_or((0, Ipv4Addr::UNSPECIFIED), |bgp| (bgp.asn, bgp.router_id));
    let mut speaker = evpn::EvpnConfig::new(asn, router_id, vtep);
    speaker.own = config.vtep().addresses.iter().collect();
    if let Some(bgp) = config.bgp() {
        speaker.duplicate = DuplicateConfig {
            moves: u16::try_from(bgp.duplicates.moves).unwrap_or(u16::MAX),
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
    let targets = |targets: &config::RouteTargets| evpn::TargetList {
        automatic: targets.auto,
        list: targets.list.iter().copied().collect(),
    };
    all.import = targets(&settings.evpn.import);
    all.export = targets(&settings.evpn.export);
    all.tag = match evpn.tag {
        config::EthernetTagMode::Zero => evpn::EthernetTag::Zero,
        config::EthernetTagMode::Vni => evpn::EthernetTag::Vni,
    };
    all.max_macs = settings.max_macs.unwrap_or(u32::MAX);
    all.nd_flags = evpn.nd_flags;
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
                speaker.vni_del(now, *vni);
            }
            Change::PortAdd { vni, port } | Change::PortSet { vni, port } => {
                self.evpn_port(*vni, before, Some(port), now);
            }
            Change::FdbAdd { vni, mac, vtep, .. } => speaker.static_mac_add(*vni, *mac, *vtep),
            Change::FdbDel { vni, mac } => speaker.static_mac_del(*vni, *mac),
            Change::FloodAdd { vni, vtep } => speaker.static_flood_add(*vni, *vtep),
            Change::FloodDel { vni, vtep } => speaker.static_flood_del(*vni, *vtep),
            Change::NeighborAdd {
                vni,
                ip,
                mac,
                router,
                ..
            } => speaker.static_address_add(*vni, *ip, *mac, *router),
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
        let none = BTreeSet::new();
        let macs =
            |port: Option<&Port>| port.map_or_else(|| none.clone(), |port| port.macs.clone());
        let addresses = |port: Option<&Port>| -> BTreeSet<(HostMac, IpAddr)> {
            let single = port.filter(|port| port.macs.len() == 1);
            let of = |port: &Port| {
                let macs = port.macs.iter();
                macs.flat_map(|mac| port.ips.iter().map(|ip| (*mac, *ip)))
                    .collect()
            };
            single.map(of).unwrap_or_default()
        };
        for (mac, ip) in addresses(before).difference(&addresses(after)) {
            self.evpn.speaker.local_address_del(vni, *mac, *ip);
        }
        for mac in macs(before).difference(&macs(after)) {
            self.evpn.speaker.local_mac_del(now, vni, *mac);
            self.learned.forget(vni, *mac);
        }
        let Some(port) = after else { return };
        for mac in &port.macs {
            let local = LocalMac {
                kind: LocalKind::Attached,
                sticky: port.sticky,
                anycast: port.anycast,
            };
            let result = self.evpn.speaker.local_mac_add(now, vni, *mac, local);
            if let Err(error) = result {
                tracing::error!(%error, "a host is not announced");
            }
        }
        for (mac, ip) in addresses(after) {
            let added = self
                .evpn
                .speaker
                .local_address_add(vni, mac, ip, port.router);
            if let Err(error) = added {
                tracing::error!(%error, "an address is not announced");
            }
        }
    }

    /// Installs the table changes that the speaker has queued, does a portion of its work that takes
    /// several, and reports its events: once in each turn.
    pub(super) fn install_routes(&mut self, now: Instant) {
        let mut full = 0u64;
        self.retry_refused();
        let tables = &mut self.fib;
        self.evpn
            .speaker
            .drain_changes(now, |changes| full = tables.install(changes));
        self.count_not_installed(full, now);
        self.report_events(now);
        self.session_events(now);
    }

    /// Installs what changes of the configuration and of local hosts have led to, and reports the
    /// speaker's events.
    pub(super) fn install_configured(&mut self, now: Instant) {
        let mut full = 0u64;
        let tables = &mut self.fib;
        self.evpn
            .speaker
            .drain_configured(now, |changes| full = tables.install(changes));
        self.count_not_installed(full, now);
        self.report_events(now);
        self.remove_left_vnis();
        self.session_events(now);
    }

    /// Reports the speaker's events.
    pub(super) fn report_events(&mut self, now: Instant) {
        for event in self.evpn.speaker.take_events() {
            self.evpn_event(&event, now);
        }
    }

    /// Removes VNIs from the tables whose entries are gone.
    fn remove_left_vnis(&mut self) {
        let speaker = &self.evpn.speaker;
        let gone = self.fib.leaving().filter(|vni| speaker.is_evaluated(*vni));
        for vni in gone.collect::<Vec<_>>() {
            self.fib.remove_vni(vni);
        }
    }

    /// Removes a VNI from the tables that is about to be added again.
    pub(super) fn finish_leaving(&mut self, vni: Vni, now: Instant) {
        if self.fib.is_leaving(vni) {
            self.evpn.speaker.finish_evaluation(now, vni);
            self.install_decided(now);
            self.fib.remove_vni(vni);
        }
    }

    /// Installs what the speaker has decided already: before the entry of a local host is written,
    /// which a change from before would replace.
    pub(super) fn install_decided(&mut self, now: Instant) {
        let mut full = 0u64;
        let tables = &mut self.fib;
        self.evpn
            .speaker
            .drain_decided(|changes| full = tables.install(changes));
        self.count_not_installed(full, now);
    }

    fn count_not_installed(&mut self, full: u64, now: Instant) {
        if full > 0 {
            self.evpn.log.tables_full(full, now);
        }
    }

    /// Queues entries again that a full table has refused, if there is space for them by now.
    fn retry_refused(&mut self) {
        if self.fib.refused() == 0 {
            return;
        }
        let Retry { macs, neighbors } = self.fib.take_retries(RETRIES_AT_ONCE);
        for (vni, mac) in macs {
            self.evpn.speaker.retry_mac(vni, mac);
        }
        for (vni, ip) in neighbors {
            self.evpn.speaker.retry_address(vni, ip);
        }
    }

    fn evpn_event(&mut self, event: &EvpnEvent, now: Instant) {
        use monitor::MacChange;
        self.evpn.log.event(event, now);
        let here = match *event {
            EvpnEvent::Moved {
                vni, mac, to: None, ..
            } => self.port_of(vni, mac),
            _ => None,
        };
        let mut notify = |event, vni, mac: HostMac, vtep, sequence| {
            let (mac, port) = (mac.get(), here.clone());
            self.events.push(monitor::ApiEvent::Mac(monitor::MacEvent {
                port,
                vtep,
                sequence,
                ..monitor::MacEvent::new(event, vni, mac)
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
                ..
            } => {
                notify(MacChange::Claimed, vni, mac, Some(vtep), sequence);
            }
            // `Moved` follows, which is reported.
            EvpnEvent::LearnedGone { vni, mac, .. } => drop(self.learned.forget(vni, mac)),
            EvpnEvent::AddressMoved { .. } | EvpnEvent::AddressRefused { .. } => {
                self.address_event(event, now);
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

    /// Applies other `[bgp]` settings. Local hosts, their addresses and mobility sequences stay. With
    /// another AS or identifier, which are part of every session and route, all sessions end here
    /// and all routes are originated anew; each session decides whether the other settings reset it
    /// when the batch is complete.
    pub(super) fn bgp_settings_changed(&mut self, now: Instant) {
        let config = speaker_config(&self.config);
        let known = self.evpn.speaker.config();
        if (known.local_as, known.router_id) != (config.local_as, config.router_id) {
            self.bgp.end_sessions(&self.registry, &mut self.evpn, now);
            self.install_configured(now);
        }
        self.evpn.speaker.set_config(now, config);
        self.install_configured(now);
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
