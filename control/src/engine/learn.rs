//! Hosts learned from frames, on ports that allow it: limited, aged, and announced by EVPN. Also
//! events of lookup misses.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use vtep_dataplane::addr::{DomainId, HostMac, MacAddr, PortId, Vni};
use vtep_dataplane::event::LearnEvent;
use vtep_dataplane::wire::nd::NdFlags;

use super::Engine;
use super::learned::{Learned, NotLearned};
use crate::api::event as monitor;
use crate::config::{Learn, Port, PortKey};
use crate::evpn::{AddressClaim, EvpnEvent, LocalKind, LocalMac};

/// Hosts and addresses that one turn removes because of their age.
const AGED_AT_ONCE: usize = 512;

/// How long a learned address stays without an ARP or ND message.
fn address_age(port: &Port) -> Duration {
    port.learn.map_or(Learn::DEFAULT_AGE, |learn| learn.age)
}

impl Engine {
    /// Handles a learn event or a miss of a worker. `version`: of the snapshot that it was made
    /// under. An event about a port or a domain that is gone since is ignored: its ID may belong to
    /// another one.
    pub(super) fn learn_event(&mut self, version: u64, event: LearnEvent, now: Instant) {
        if !self
            .fib
            .is_valid_since(version, event.port(), event.domain())
        {
            return;
        }
        match event {
            LearnEvent::MacSeen { port, mac, .. } => self.mac_seen(port, mac, now),
            LearnEvent::NeighborSeen {
                port, ip, mac, nd, ..
            } => self.address_seen(port, (mac, ip), nd, now),
            LearnEvent::MacMiss { domain, mac } => self.missed(domain, Some(mac), None),
            LearnEvent::NeighborMiss { domain, ip } => self.missed(domain, None, Some(ip)),
        }
    }

    fn missed(&mut self, domain: DomainId, mac: Option<MacAddr>, ip: Option<IpAddr>) {
        if let Some(vni) = self
            .fib
            .current()
            .vnis
            .domain(domain)
            .map(|domain| domain.vni)
        {
            self.events
                .push(monitor::ApiEvent::Miss(monitor::MissEvent { vni, mac, ip }));
        }
    }

    /// VNI and configuration of a port.
    fn port_config(&self, port: PortId) -> Option<(Vni, &Port)> {
        let key = self.ports.by_id(port)?;
        let vni = self.config.port_vni(key)?;
        Some((vni, self.config.vnis().get(&vni)?.ports().get(key)?))
    }

    /// True if the configuration has the MAC on a port of the VNI.
    fn is_attached(&self, vni: Vni, mac: HostMac) -> bool {
        let content = self.config.vnis().get(&vni);
        content.is_some_and(|content| content.local().contains_key(&mac))
    }

    fn mac_seen(&mut self, id: PortId, mac: HostMac, now: Instant) {
        let Some((vni, port)) = self.port_config(id) else {
            return;
        };
        let (Some(learn), key) = (port.learn, port.key.clone()) else {
            return;
        };
        if self.is_attached(vni, mac) {
            return;
        }
        let known = self.learned.port(vni, mac);
        if known == Some(&key) {
            self.learned.mac_seen((vni, mac), &key, now, learn.age);
            return;
        }
        let elsewhere = self
            .evpn
            .speaker
            .mac(vni, mac)
            .is_some_and(|view| view.vtep.is_some());
        let moved = known.is_some() || elsewhere;
        if self.learned.usage(&key).macs >= learn.limit {
            let why = format!("the port has learned {} MACs (learn-limit)", learn.limit);
            return self.refused(vni, &key, (mac, None), NotLearned::LearnLimit, why, now);
        }
        let local = LocalMac {
            kind: LocalKind::Learned,
            ..LocalMac::default()
        };
        if let Err(error) = self.evpn.speaker.local_mac_add(now, vni, mac, local) {
            let why = error.to_string();
            return self.refused(vni, &key, (mac, None), NotLearned::Mac, why, now);
        }
        // Install what EVPN withdraws for it first, then the local entry.
        self.install_decided(now);
        self.report_events(now);
        if let Err(error) = self.fib.set_local_mac(vni, mac, id) {
            self.evpn.speaker.local_mac_del(now, vni, mac);
            self.learned.forget(vni, mac);
            let why = error.to_string();
            return self.refused(vni, &key, (mac, None), NotLearned::Mac, why, now);
        }
        self.learned.mac_seen((vni, mac), &key, now, learn.age);
        let view = self.evpn.speaker.mac(vni, mac);
        self.events.push(monitor::ApiEvent::Mac(monitor::MacEvent {
            port: Some(key),
            sequence: view.map_or(0, |view| view.mobility.sequence),
            ..monitor::MacEvent::new(
                if moved {
                    monitor::MacChange::Moved
                } else {
                    monitor::MacChange::Added
                },
                vni,
                mac.get(),
            )
        }));
    }

    /// A host announces an address: a learned host on a port that learns, or an attached one.
    fn address_seen(
        &mut self,
        id: PortId,
        (mac, ip): (HostMac, IpAddr),
        nd: Option<NdFlags>,
        now: Instant,
    ) {
        self.mac_seen(id, mac, now);
        let Some((vni, port)) = self.port_config(id) else {
            return;
        };
        let (key, age) = (port.key.clone(), address_age(port));
        let claim = AddressClaim {
            mac,
            ip,
            router: port.router,
            nd,
        };
        // Others may send with MACs of hosts that are not here.
        if !port.macs.contains(&mac) && self.learned.port(vni, mac) != Some(&key) {
            return;
        }
        let speaker = &self.evpn.speaker;
        let is_new =
            !self.learned.has_address(vni, mac, ip) && !speaker.is_attached_address(vni, mac, ip);
        if let Some((reason, why)) = is_new.then(|| self.address_limit(vni, &key, mac)).flatten() {
            return self.refused(vni, &key, (mac, Some(ip)), reason, why, now);
        }
        match self.evpn.speaker.address_claim(now, vni, claim) {
            Ok(LocalKind::Learned) => {
                self.learned.address_seen((vni, mac), ip, &key, now, age);
            }
            Ok(LocalKind::Attached) => {}
            Err(error) => {
                let why = error.to_string();
                self.refused(vni, &key, (mac, Some(ip)), NotLearned::Address, why, now);
            }
        }
    }

    /// The limit that keeps a host from having one more address.
    fn address_limit(&self, vni: Vni, key: &PortKey, mac: HostMac) -> Option<(NotLearned, String)> {
        let content = self.config.vnis().get(&vni)?;
        let port = content.ports().get(key)?;
        let limits = [
            (
                NotLearned::LearnAddresses,
                self.learned.addresses_of(vni, mac),
                port.learn_addresses,
                "MAC has learned addresses: {} (learn-addresses)",
            ),
            (
                NotLearned::PortAddresses,
                self.learned.usage(key).addresses,
                port.max_addresses,
                "port has learned addresses: {} (its max-addresses)",
            ),
            (
                NotLearned::VniAddresses,
                self.learned.addresses_in(vni),
                content.settings().max_addresses,
                "VNI has learned addresses: {} (its max-addresses)",
            ),
        ];
        let reached = limits.into_iter().find(|(_, used, limit, _)| used >= limit);
        reached.map(|(reason, _, limit, text)| {
            let why = format!("the {}", text.replace("{}", &limit.to_string()));
            (reason, why)
        })
    }

    /// Counts what a port is refused, and reports it to an operator.
    fn refused(
        &mut self,
        vni: Vni,
        key: &PortKey,
        (mac, ip): (HostMac, Option<IpAddr>),
        refusal: NotLearned,
        reason: String,
        now: Instant,
    ) {
        let Some(suppressed) = self.learned.refuse(key, refusal, now) else {
            return;
        };
        match ip {
            Some(ip) => {
                tracing::warn!(%vni, port = %key, %mac, %ip, reason, suppressed, "an address is not learned");
            }
            None => {
                tracing::warn!(%vni, port = %key, %mac, reason, suppressed, "a host is not learned");
            }
        }
        self.events.push(monitor::ApiEvent::Mac(monitor::MacEvent {
            port: Some(key.clone()),
            ip,
            reason: Some(reason),
            ..monitor::MacEvent::new(monitor::MacChange::Refused, vni, mac.get())
        }));
    }

    /// Reports that an address moved, or that another VTEP announces one that stays.
    pub(super) fn address_event(&mut self, event: &EvpnEvent, now: Instant) {
        let event = match *event {
            EvpnEvent::AddressMoved {
                vni,
                ip,
                from,
                to,
                vtep,
                sequence,
            } => {
                tracing::debug!(%vni, %ip, %from, %to, "an address moved to another MAC");
                monitor::MacEvent {
                    port: self.port_of(vni, to),
                    vtep,
                    sequence,
                    ip: Some(ip),
                    ..monitor::MacEvent::new(monitor::MacChange::AddressMoved, vni, to.get())
                }
            }
            EvpnEvent::AddressRefused {
                vni,
                ip,
                mac,
                vtep,
                error,
            } => {
                let Some(suppressed) = self.learned.refuse_route(now) else {
                    return;
                };
                let reason = error.to_string();
                tracing::warn!(%vni, %ip, %mac, ?vtep, reason, suppressed, "the address of a route is not used");
                monitor::MacEvent {
                    vtep,
                    ip: Some(ip),
                    reason: Some(reason),
                    ..monitor::MacEvent::new(monitor::MacChange::Refused, vni, mac.get())
                }
            }
            _ => return,
        };
        self.events.push(monitor::ApiEvent::Mac(event));
    }

    /// Removes hosts and addresses that were not seen for the age of their port.
    pub(super) fn age_learned(&mut self, now: Instant) {
        for old in self.learned.take_old(now, AGED_AT_ONCE) {
            match old {
                Learned::Mac(vni, mac) => self.unlearn(vni, mac, now),
                Learned::Address(vni, mac, ip) => {
                    self.learned.forget_address(vni, mac, ip);
                    let speaker = &mut self.evpn.speaker;
                    if !speaker.is_attached_address(vni, mac, ip) {
                        speaker.local_address_del(vni, mac, ip);
                    }
                }
            }
        }
    }

    /// Removes a learned host and withdraws its routes.
    pub(super) fn unlearn(&mut self, vni: Vni, mac: HostMac, now: Instant) {
        if self.learned.forget(vni, mac) {
            self.fib.remove_mac(vni, mac);
            self.evpn.speaker.local_mac_del(now, vni, mac);
            let removed = monitor::MacChange::Removed;
            let event = monitor::MacEvent::new(removed, vni, mac.get());
            self.events.push(monitor::ApiEvent::Mac(event));
        }
    }

    /// A port has other settings: hosts that it no longer learns go, others age as it says now.
    pub(super) fn learning_changed(&mut self, before: &Port, port: &Port, now: Instant) {
        if port.learn.is_none() {
            for (vni, mac) in self.learned.hosts_of(&port.key) {
                if self.learned.port(vni, mac).is_some() {
                    self.unlearn(vni, mac, now);
                }
            }
        }
        if address_age(before) != address_age(port) {
            self.learned.set_age(&port.key, now, address_age(port));
        }
    }

    /// Removes all hosts learned on a port.
    pub(super) fn unlearn_port(&mut self, port: &PortKey, now: Instant) {
        for (vni, mac) in self.learned.hosts_of(port) {
            self.unlearn(vni, mac, now);
        }
        self.learned.forget_port(port);
    }
}
