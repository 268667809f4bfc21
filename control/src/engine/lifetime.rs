//! Entries with a lifetime, which a controller adds in response to a miss: they expire on their
//! own.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use vtep_dataplane::addr::{HostMac, Vni};

use super::Engine;
use crate::config::Change;

/// An entry with a lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ExpiringEntry {
    Fdb(Vni, HostMac),
    Neighbor(Vni, IpAddr),
}

/// Expiry times.
#[derive(Debug, Default)]
pub(super) struct Lifetimes {
    deadlines: HashMap<ExpiringEntry, Instant>,
}

impl Lifetimes {
    /// Updates the expiry times from an applied change.
    pub(super) fn track(&mut self, change: &Change, now: Instant) {
        let (entry, lifetime) = match change {
            Change::FdbAdd {
                vni, mac, lifetime, ..
            } => (ExpiringEntry::Fdb(*vni, *mac), *lifetime),
            Change::FdbDel { vni, mac } => (ExpiringEntry::Fdb(*vni, *mac), None),
            Change::NeighborAdd {
                vni, ip, lifetime, ..
            } => (ExpiringEntry::Neighbor(*vni, *ip), *lifetime),
            Change::NeighborDel { vni, ip } => (ExpiringEntry::Neighbor(*vni, *ip), None),
            Change::VniDel { vni: removed } => {
                self.deadlines.retain(|entry, _| {
                    let (ExpiringEntry::Fdb(vni, _) | ExpiringEntry::Neighbor(vni, _)) = entry;
                    vni != removed
                });
                return;
            }
            _ => return,
        };
        match lifetime {
            Some(lifetime) => drop(self.deadlines.insert(entry, now + lifetime)),
            None => drop(self.deadlines.remove(&entry)),
        }
    }

    /// Time until the next entry expires.
    pub(super) fn next_timeout(&self, now: Instant) -> Option<Duration> {
        self.deadlines
            .values()
            .min()
            .map(|at| at.saturating_duration_since(now))
    }
}

impl Engine {
    /// Removes expired entries.
    pub(super) fn expire_entries(&mut self, now: Instant) {
        let expired: Vec<_> = self
            .lifetimes
            .deadlines
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(entry, _)| *entry)
            .collect();
        for entry in expired {
            let change = match entry {
                ExpiringEntry::Fdb(vni, mac) => Change::FdbDel { vni, mac },
                ExpiringEntry::Neighbor(vni, ip) => Change::NeighborDel { vni, ip },
            };
            if let Err(error) = self.apply_batch(&[change], now) {
                tracing::error!(%error, "can't remove an expired entry");
                self.lifetimes.deadlines.remove(&entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_renewed_or_made_permanent_stays() {
        let (vni, mac) = (Vni::new(100).unwrap(), "02:00:00:00:00:01".parse().unwrap());
        let vtep = "203.0.113.9".parse().unwrap();
        let add = |seconds: Option<u64>| Change::FdbAdd {
            vni,
            mac,
            vtep,
            lifetime: seconds.map(Duration::from_secs),
        };
        let now = Instant::now();
        let mut lifetimes = Lifetimes::default();
        lifetimes.track(&add(Some(10)), now);
        assert_eq!(lifetimes.next_timeout(now), Some(Duration::from_secs(10)));
        lifetimes.track(&add(Some(60)), now);
        assert_eq!(lifetimes.next_timeout(now), Some(Duration::from_secs(60)));
        lifetimes.track(&add(None), now);
        assert_eq!(lifetimes.next_timeout(now), None);
        lifetimes.track(&add(Some(10)), now);
        lifetimes.track(&Change::VniDel { vni }, now);
        assert_eq!(lifetimes.next_timeout(now), None);
    }
}
