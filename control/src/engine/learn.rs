//! Hosts learned from frames, on ports that allow it: limited, aged, and announced by EVPN. Also
//! events of lookup misses.

use std::time::Instant;

use hashbrown::HashMap;
use vtep_dataplane::addr::{DomainId, HostMac, MacAddr, PortId, Vni};
use vtep_dataplane::event::LearnEvent;

use super::Engine;
use crate::api::event as monitor;
use crate::config::{Learn, PortKey};
use crate::evpn::{LocalKind, LocalMac};

/// A learned host.
#[derive(Debug)]
struct LearnedHost {
    port: PortKey,
    seen: Instant,
}

/// All learned hosts.
#[derive(Debug, Default)]
pub(crate) struct LearnedHosts {
    hosts: HashMap<(Vni, HostMac), LearnedHost>,
    /// Number of hosts on each port.
    counts: HashMap<PortKey, u32>,
}

impl LearnedHosts {
    pub(crate) fn port(&self, vni: Vni, mac: HostMac) -> Option<&PortKey> {
        self.hosts.get(&(vni, mac)).map(|host| &host.port)
    }

    /// Seconds since a host was seen.
    pub(crate) fn age(&self, vni: Vni, mac: HostMac, now: Instant) -> Option<u64> {
        self.hosts
            .get(&(vni, mac))
            .map(|host| now.saturating_duration_since(host.seen).as_secs())
    }

    pub(crate) fn forget(&mut self, vni: Vni, mac: HostMac) -> bool {
        let Some(host) = self.hosts.remove(&(vni, mac)) else {
            return false;
        };
        if let Some(count) = self.counts.get_mut(&host.port) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&host.port);
            }
        }
        true
    }

    fn insert(&mut self, vni: Vni, mac: HostMac, port: &PortKey, now: Instant) {
        self.forget(vni, mac);
        self.hosts.insert(
            (vni, mac),
            LearnedHost {
                port: port.clone(),
                seen: now,
            },
        );
        *self.counts.entry(port.clone()).or_insert(0) += 1;
    }

    fn all(&self) -> Vec<(Vni, HostMac)> {
        self.hosts.keys().copied().collect()
    }
}

impl Engine {
    /// Handles a learn event or a miss of a worker.
    pub(super) fn learn_event(&mut self, event: LearnEvent, now: Instant) {
        match event {
            LearnEvent::MacSeen { port, mac, .. } => self.mac_seen(port, mac, now),
            LearnEvent::NeighborSeen { port, ip, mac, .. } => {
                self.mac_seen(port, mac, now);
                let Some((vni, _, _)) = self.learning_port(port) else {
                    return;
                };
                if self.learned.port(vni, mac).is_some()
                    && let Err(error) = self.evpn.speaker.local_address_add(vni, mac, ip)
                {
                    tracing::debug!(%error, %ip, "an address is not learned");
                }
            }
            LearnEvent::MacMiss { domain, mac } => self.missed(domain, Some(mac), None),
            LearnEvent::NeighborMiss { domain, ip } => self.missed(domain, None, Some(ip)),
        }
    }

    fn missed(&mut self, domain: DomainId, mac: Option<MacAddr>, ip: Option<std::net::IpAddr>) {
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

    /// VNI, key and learning settings of a port that learns.
    fn learning_port(&self, port: PortId) -> Option<(Vni, PortKey, Learn)> {
        let key = self.ports.by_id(port)?;
        let vni = self.config.port_vni(key)?;
        let learn = self.config.vnis().get(&vni)?.ports().get(key)?.learn?;
        Some((vni, key.clone(), learn))
    }

    fn mac_seen(&mut self, port: PortId, mac: HostMac, now: Instant) {
        let Some((vni, key, learn)) = self.learning_port(port) else {
            return;
        };
        if self
            .config
            .vnis()
            .get(&vni)
            .is_some_and(|content| content.local().contains_key(&mac))
        {
            return;
        }
        let known = self.learned.port(vni, mac);
        if known == Some(&key) {
            self.learned.insert(vni, mac, &key, now);
            return;
        }
        let elsewhere = self
            .evpn
            .speaker
            .mac(vni, mac)
            .is_some_and(|view| view.vtep.is_some());
        let moved = known.is_some() || elsewhere;
        if self.learned.counts.get(&key).copied().unwrap_or(0) >= learn.limit {
            return;
        }
        let local = LocalMac {
            kind: LocalKind::Learned,
            sticky: false,
        };
        if let Err(error) = self.evpn.speaker.local_mac_add(now, vni, mac, local) {
            tracing::debug!(%error, "a host is not learned");
            return;
        }
        // Install what EVPN withdraws for it first, then the local entry.
        self.install_routes(now);
        match self.fib.set_local_mac(vni, mac, port) {
            Ok(()) => {
                let event = if moved {
                    monitor::MacChange::Moved
                } else {
                    monitor::MacChange::Added
                };
                let view = self.evpn.speaker.mac(vni, mac);
                self.learned.insert(vni, mac, &key, now);
                let event = monitor::MacEvent {
                    event,
                    vni,
                    mac: mac.get(),
                    port: Some(key),
                    vtep: None,
                    sequence: view.map_or(0, |view| view.mobility.sequence),
                };
                self.events.push(monitor::ApiEvent::Mac(event));
            }
            Err(error) => {
                tracing::warn!(%error, "a host is not learned");
                self.evpn.speaker.local_mac_del(vni, mac);
            }
        }
    }

    /// Removes hosts that were not seen for the age of their port.
    pub(super) fn age_learned(&mut self, now: Instant) {
        let mut old = Vec::new();
        for ((vni, mac), host) in &self.learned.hosts {
            let age = self
                .config
                .vnis()
                .get(vni)
                .and_then(|c| c.ports().get(&host.port)?.learn);
            if age.is_none_or(|learn| now.saturating_duration_since(host.seen) >= learn.age) {
                old.push((*vni, *mac));
            }
        }
        for (vni, mac) in old {
            self.unlearn(vni, mac);
        }
    }

    /// Removes a learned host and withdraws its route.
    pub(super) fn unlearn(&mut self, vni: Vni, mac: HostMac) {
        if self.learned.forget(vni, mac) {
            self.fib.remove_mac(vni, mac);
            self.evpn.speaker.local_mac_del(vni, mac);
            let event = monitor::MacEvent {
                event: monitor::MacChange::Removed,
                vni,
                mac: mac.get(),
                port: None,
                vtep: None,
                sequence: 0,
            };
            self.events.push(monitor::ApiEvent::Mac(event));
        }
    }

    /// Removes the learned hosts that `selects` is true for.
    pub(super) fn unlearn_where(&mut self, selects: impl Fn(Vni, &PortKey) -> bool) {
        for (vni, mac) in self.learned.all() {
            if self
                .learned
                .port(vni, mac)
                .is_some_and(|port| selects(vni, port))
            {
                self.unlearn(vni, mac);
            }
        }
    }

    pub(super) fn learned_forget_all(&mut self) {
        self.unlearn_where(|_, _| true);
    }
}
