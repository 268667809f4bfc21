//! Entries with a lifetime, which a controller adds in response to a miss: they expire on their
//! own.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use vtep_dataplane::addr::{HostMac, MacAddr, Vni};

use super::Engine;
use super::deadlines::Deadlines;
use crate::config::Change;

/// Entries that one turn removes: each is a change of the configuration.
const EXPIRED_AT_ONCE: usize = 64;

/// An entry with a lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum ExpiringEntry {
    Fdb(Vni, HostMac),
    Neighbor(Vni, IpAddr),
}

/// Expiry times.
#[derive(Debug, Default)]
pub(super) struct Lifetimes {
    deadlines: Deadlines<ExpiringEntry>,
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
                let is_removed = |entry: &ExpiringEntry| {
                    let (ExpiringEntry::Fdb(vni, _) | ExpiringEntry::Neighbor(vni, _)) = entry;
                    vni == removed
                };
                if let Ok(first) = HostMac::new(MacAddr([0, 0, 0, 0, 0, 1])) {
                    let first = ExpiringEntry::Fdb(*removed, first);
                    self.deadlines.remove_from(first, is_removed);
                }
                let first = ExpiringEntry::Neighbor(*removed, Ipv4Addr::UNSPECIFIED.into());
                self.deadlines.remove_from(first, is_removed);
                return;
            }
            _ => return,
        };
        match lifetime {
            Some(lifetime) => self.deadlines.set(entry, now + lifetime),
            None => self.deadlines.remove(entry),
        }
    }

    /// Time until the next entry expires.
    pub(super) fn next_timeout(&self, now: Instant) -> Option<Duration> {
        let next = self.deadlines.next();
        next.map(|at| at.saturating_duration_since(now))
    }
}

impl Engine {
    /// Removes expired entries, so many at a time that other work does not wait long.
    pub(super) fn expire_entries(&mut self, now: Instant) {
        let due = self.lifetimes.deadlines.take_due(now, EXPIRED_AT_ONCE);
        let changes: Vec<_> = due
            .into_iter()
            .map(|entry| match entry {
                ExpiringEntry::Fdb(vni, mac) => Change::FdbDel { vni, mac },
                ExpiringEntry::Neighbor(vni, ip) => Change::NeighborDel { vni, ip },
            })
            .collect();
        // One batch: the tables are published once for all.
        if changes.is_empty() || self.apply_batch(&changes, now).is_ok() {
            return;
        }
        for change in &changes {
            if let Err(error) = self.apply_batch(std::slice::from_ref(change), now) {
                tracing::error!(%error, "can't remove an expired entry");
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
