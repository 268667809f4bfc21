//! What was learned from frames: MACs with their ports, addresses of hosts, how much of each limit
//! is in use, and what was refused.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use vtep_dataplane::addr::{HostMac, Vni};

use super::deadlines::Deadlines;
use crate::config::PortKey;
use crate::notices::Notices;

/// Something learned, which ages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Learned {
    Mac(Vni, HostMac),
    Address(Vni, HostMac, IpAddr),
}

/// Why something is not learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotLearned {
    /// The port has as many MACs as `learn-limit` allows.
    LearnLimit,
    /// The MAC is that of a static entry, sticky or a gateway's elsewhere, frozen, or its table is
    /// full.
    Mac,
    /// The MAC has as many addresses as `learn-addresses` allows.
    LearnAddresses,
    /// The port has as many addresses as its `max-addresses` allows.
    PortAddresses,
    /// The VNI has as many addresses as its `max-addresses` allows.
    VniAddresses,
    /// Another host has the address and keeps it.
    Address,
}

impl NotLearned {
    /// All, in the order of their counters.
    pub const ALL: [Self; 6] = [
        Self::LearnLimit,
        Self::Mac,
        Self::LearnAddresses,
        Self::PortAddresses,
        Self::VniAddresses,
        Self::Address,
    ];

    /// A stable kebab-case word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::LearnLimit => "learn-limit",
            Self::Mac => "mac",
            Self::LearnAddresses => "learn-addresses",
            Self::PortAddresses => "port-max-addresses",
            Self::VniAddresses => "vni-max-addresses",
            Self::Address => "address",
        }
    }
}

/// A host with a learned MAC, or an attached host with learned addresses.
#[derive(Debug)]
struct LearnedHost {
    port: PortKey,
    /// The MAC itself is configured.
    attached: bool,
    seen: Instant,
    addresses: BTreeSet<IpAddr>,
}

/// The use of one port.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PortUsage {
    /// Learned MACs.
    pub(crate) macs: u32,
    /// Learned addresses.
    pub(crate) addresses: u32,
    /// What was refused, in the order of [`NotLearned::ALL`].
    pub(crate) refused: [u64; NotLearned::ALL.len()],
}

/// A port with learned hosts, or where hosts were refused.
#[derive(Debug, Default)]
struct LearningPort {
    hosts: BTreeSet<(Vni, HostMac)>,
    usage: PortUsage,
    notices: Notices,
}

/// All that was learned.
#[derive(Debug, Default)]
pub(crate) struct LearnedHosts {
    /// In a tree, as there may be a million: a hash table would move them all when it grows.
    hosts: BTreeMap<(Vni, HostMac), LearnedHost>,
    ports: HashMap<PortKey, LearningPort>,
    /// Number of learned addresses in each VNI.
    vnis: HashMap<Vni, u32>,
    ages: Deadlines<Learned>,
    /// Addresses of routes that were refused because a local host or a static entry has them.
    pub(crate) routes_refused: u64,
    route_notices: Notices,
}

/// Reads.
impl LearnedHosts {
    /// The port of a learned MAC.
    pub(crate) fn port(&self, vni: Vni, mac: HostMac) -> Option<&PortKey> {
        let host = self.hosts.get(&(vni, mac)).filter(|host| !host.attached);
        host.map(|host| &host.port)
    }

    /// Seconds since a learned MAC was seen.
    pub(crate) fn age(&self, vni: Vni, mac: HostMac, now: Instant) -> Option<u64> {
        let host = self.hosts.get(&(vni, mac)).filter(|host| !host.attached);
        host.map(|host| now.saturating_duration_since(host.seen).as_secs())
    }

    /// The use of a port.
    pub(crate) fn usage(&self, port: &PortKey) -> PortUsage {
        self.ports
            .get(port)
            .map_or_else(PortUsage::default, |port| port.usage)
    }

    /// The number of addresses learned in a VNI.
    pub(crate) fn addresses_in(&self, vni: Vni) -> u32 {
        self.vnis.get(&vni).copied().unwrap_or(0)
    }

    /// The number of addresses learned for a MAC.
    pub(crate) fn addresses_of(&self, vni: Vni, mac: HostMac) -> u32 {
        let host = self.hosts.get(&(vni, mac));
        host.map_or(0, |host| host.addresses.len() as u32)
    }

    /// True if the address was learned for the MAC.
    pub(super) fn has_address(&self, vni: Vni, mac: HostMac, ip: IpAddr) -> bool {
        let host = self.hosts.get(&(vni, mac));
        host.is_some_and(|host| host.addresses.contains(&ip))
    }

    /// The hosts of a port.
    pub(super) fn hosts_of(&self, port: &PortKey) -> Vec<(Vni, HostMac)> {
        let port = self.ports.get(port);
        port.map_or_else(Vec::new, |port| port.hosts.iter().copied().collect())
    }
}

/// Changes.
impl LearnedHosts {
    /// A learned MAC was seen on a port. Its addresses stay when it moves.
    pub(super) fn mac_seen(
        &mut self,
        (vni, mac): (Vni, HostMac),
        port: &PortKey,
        now: Instant,
        age: Duration,
    ) {
        self.place(vni, mac, port, false, now);
        self.ages.set(Learned::Mac(vni, mac), now + age);
    }

    /// A learned MAC is configured for a port from now on: its addresses stay.
    pub(super) fn attach(&mut self, vni: Vni, mac: HostMac, port: &PortKey, now: Instant) {
        if self.hosts.contains_key(&(vni, mac)) {
            self.place(vni, mac, port, true, now);
            self.ages.remove(Learned::Mac(vni, mac));
            self.forget_without_addresses(vni, mac);
        }
    }

    /// An address of a host was seen.
    pub(super) fn address_seen(
        &mut self,
        (vni, mac): (Vni, HostMac),
        ip: IpAddr,
        port: &PortKey,
        now: Instant,
        age: Duration,
    ) {
        if !self.hosts.contains_key(&(vni, mac)) {
            self.place(vni, mac, port, true, now);
        }
        if let Some(host) = self.hosts.get_mut(&(vni, mac))
            && host.addresses.insert(ip)
        {
            *self.vnis.entry(vni).or_default() += 1;
            let port = self.ports.entry(host.port.clone()).or_default();
            port.usage.addresses += 1;
        }
        self.ages.set(Learned::Address(vni, mac, ip), now + age);
    }

    /// Sets the port of a host, and counts it there.
    fn place(&mut self, vni: Vni, mac: HostMac, port: &PortKey, attached: bool, now: Instant) {
        if let Some(host) = self.hosts.get_mut(&(vni, mac))
            && host.port == *port
            && host.attached == attached
        {
            host.seen = now;
            return;
        }
        let addresses = self
            .take(vni, mac)
            .map_or_else(BTreeSet::new, |host| host.addresses);
        let learning = self.ports.entry(port.clone()).or_default();
        learning.hosts.insert((vni, mac));
        learning.usage.macs += u32::from(!attached);
        learning.usage.addresses += addresses.len() as u32;
        let host = LearnedHost {
            port: port.clone(),
            attached,
            seen: now,
            addresses,
        };
        self.hosts.insert((vni, mac), host);
    }

    /// Removes a host from its port; its addresses are counted in the VNI still.
    fn take(&mut self, vni: Vni, mac: HostMac) -> Option<LearnedHost> {
        let host = self.hosts.remove(&(vni, mac))?;
        if let Some(port) = self.ports.get_mut(&host.port) {
            port.hosts.remove(&(vni, mac));
            port.usage.macs -= u32::from(!host.attached);
            port.usage.addresses -= host.addresses.len() as u32;
        }
        Some(host)
    }

    /// Forgets a host with its addresses. True if its MAC was learned.
    pub(crate) fn forget(&mut self, vni: Vni, mac: HostMac) -> bool {
        let Some(host) = self.take(vni, mac) else {
            return false;
        };
        self.ages.remove(Learned::Mac(vni, mac));
        for ip in &host.addresses {
            self.ages.remove(Learned::Address(vni, mac, *ip));
        }
        self.uncount(vni, host.addresses.len() as u32);
        !host.attached
    }

    /// Forgets one address of a host.
    pub(super) fn forget_address(&mut self, vni: Vni, mac: HostMac, ip: IpAddr) {
        if let Some(host) = self.hosts.get_mut(&(vni, mac))
            && host.addresses.remove(&ip)
        {
            if let Some(port) = self.ports.get_mut(&host.port) {
                port.usage.addresses -= 1;
            }
            self.ages.remove(Learned::Address(vni, mac, ip));
            self.uncount(vni, 1);
            self.forget_without_addresses(vni, mac);
        }
    }

    /// An attached host is of interest only while it has learned addresses.
    fn forget_without_addresses(&mut self, vni: Vni, mac: HostMac) {
        let host = self.hosts.get(&(vni, mac));
        if host.is_some_and(|host| host.attached && host.addresses.is_empty()) {
            self.take(vni, mac);
        }
    }

    fn uncount(&mut self, vni: Vni, addresses: u32) {
        if let Some(count) = self.vnis.get_mut(&vni) {
            *count -= addresses;
            if *count == 0 {
                self.vnis.remove(&vni);
            }
        }
    }

    /// Forgets the counters of a port without hosts.
    pub(super) fn forget_port(&mut self, port: &PortKey) {
        self.ports.remove(port);
    }

    /// Gives what was learned on a port another age, counted from now.
    pub(super) fn set_age(&mut self, port: &PortKey, now: Instant, age: Duration) {
        for (vni, mac) in self.hosts_of(port) {
            let host = &self.hosts[&(vni, mac)];
            if !host.attached {
                self.ages.set(Learned::Mac(vni, mac), now + age);
            }
            for ip in &host.addresses {
                self.ages.set(Learned::Address(vni, mac, *ip), now + age);
            }
        }
    }

    /// Takes at most `limit` of what is too old.
    pub(super) fn take_old(&mut self, now: Instant, limit: usize) -> Vec<Learned> {
        self.ages.take_due(now, limit)
    }

    /// When something is too old next.
    pub(super) fn next_age(&self) -> Option<Instant> {
        self.ages.next()
    }

    /// Counts a refusal. `Some`: report it, with how many reports about the port were suppressed
    /// since the last one.
    pub(super) fn refuse(
        &mut self,
        port: &PortKey,
        refusal: NotLearned,
        now: Instant,
    ) -> Option<u64> {
        let port = self.ports.entry(port.clone()).or_default();
        port.usage.refused[refusal as usize] += 1;
        port.notices.allow(now)
    }

    /// Counts the refusal of a route's address; as [`Self::refuse`].
    pub(super) fn refuse_route(&mut self, now: Instant) -> Option<u64> {
        self.routes_refused += 1;
        self.route_notices.allow(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str) -> PortKey {
        PortKey {
            interface: name.parse().expect("a name"),
            vlan: None,
        }
    }

    fn at(vni: u32, n: u8) -> (Vni, HostMac) {
        let mac = vtep_dataplane::addr::MacAddr([2, 0, 0, 0, 0, n]);
        (
            Vni::new(vni).expect("a VNI"),
            HostMac::new(mac).expect("unicast"),
        )
    }

    const AGE: Duration = Duration::from_secs(10);

    /// The counts that limits are checked against are exact, whatever happens to hosts (finding
    /// C1).
    #[test]
    fn counts_follow_moves_attachments_and_ageing() {
        let (mut learned, now) = (LearnedHosts::default(), Instant::now());
        let (a, b) = (port("a"), port("b"));
        let (vni, mac) = at(100, 1);
        let counts = |learned: &LearnedHosts, port: &PortKey| {
            let usage = learned.usage(port);
            let hosts = learned.hosts_of(port).len();
            (usage.macs, usage.addresses, hosts)
        };
        learned.mac_seen((vni, mac), &a, now, AGE);
        for last in [1, 2, 2] {
            let ip = IpAddr::from([192, 0, 2, last]);
            learned.address_seen((vni, mac), ip, &a, now, AGE);
        }
        assert_eq!(
            (counts(&learned, &a), learned.addresses_in(vni)),
            ((1, 2, 1), 2)
        );
        learned.mac_seen((vni, mac), &b, now + AGE / 2, AGE);
        assert_eq!(
            (counts(&learned, &a), counts(&learned, &b)),
            ((0, 0, 0), (1, 2, 1))
        );
        learned.attach(vni, mac, &a, now);
        assert_eq!(
            (counts(&learned, &a), counts(&learned, &b)),
            ((0, 2, 1), (0, 0, 0))
        );
        assert_eq!(
            (learned.port(vni, mac), learned.addresses_of(vni, mac)),
            (None, 2)
        );
        // Addresses age by themselves.
        for old in learned.take_old(now + AGE, 9) {
            let Learned::Address(vni, mac, ip) = old else {
                panic!("{old:?}")
            };
            learned.forget_address(vni, mac, ip);
        }
        assert_eq!(
            (counts(&learned, &a), learned.addresses_in(vni)),
            ((0, 0, 0), 0)
        );
        assert_eq!((learned.next_age(), learned.hosts.len()), (None, 0));
        // A MAC goes with its addresses.
        learned.mac_seen((vni, mac), &a, now, AGE);
        learned.address_seen((vni, mac), [192, 0, 2, 9].into(), &a, now, AGE);
        assert!(learned.forget(vni, mac));
        assert_eq!(
            (counts(&learned, &a), learned.next_age()),
            ((0, 0, 0), None)
        );
    }

    #[test]
    fn all_are_counted_and_some_are_reported() {
        let (mut learned, now) = (LearnedHosts::default(), Instant::now());
        let mut reported = |after| {
            let at = now + Duration::from_secs(after);
            (0..100)
                .filter_map(|_| learned.refuse(&port("a"), NotLearned::LearnAddresses, at))
                .count()
        };
        assert_eq!([reported(0), reported(59), reported(60)], [10, 0, 10]);
        let refused = learned.usage(&port("a")).refused;
        assert_eq!(refused[NotLearned::LearnAddresses as usize], 300);
        for (index, refusal) in NotLearned::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
        }
    }
}
