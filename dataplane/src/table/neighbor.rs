//! The neighbor table: (bridge domain, IP address) -> MAC. Workers answer ARP and ND from it (RFC
//! 9161).
//!
//! The table is split into many small shards by a hash of the key. A shard is a sorted array that
//! never changes: the writer copies it with one entry added, removed or replaced, and swaps the
//! copy in.
//!
//! ```text
//! key --hash--> slot --one pointer--> [ entry entry entry ... ]   sorted, immutable
//!                         ^ writer: copy, change, swap
//! ```
//!
//! Why not the buckets of the MAC table ([`super::mac`]): an IPv6 key and its MAC have 200 bits,
//! which no single store writes, and a lookup is needed once per ARP or ND request, not once per
//! frame. A copied shard can't be torn, needs no `unsafe`, and its cost is bounded: with 1 M
//! entries a shard has 61, about 1.6 KB to copy for one update.
//!
//! Readers never wait: they load the pointer of the shard and search it. The writer keeps each
//! replaced shard until it is the last holder, as in [`super::publish`], so that no reader ever
//! frees memory.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::addr::{DomainId, HostMac};
use crate::wire::nd::NdFlags;

/// Number of shards: 128 KiB of pointers, and short shards for a million entries.
const SHARDS: usize = if cfg!(miri) { 1 << 6 } else { 1 << 14 };

/// The neighbor entry of a tenant's IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NeighborEntry {
    /// Its MAC.
    pub mac: HostMac,
    /// The flags of advertisements for it, if they are known; if not, workers don't answer for an
    /// IPv6 address: a host that receives an advertisement of its default router without the
    /// Router flag stops using that router (RFC 4861 section 7.2.5). Of no meaning for IPv4.
    pub nd: Option<NdFlags>,
}

impl NeighborEntry {
    /// A host that is not a router, with the Override flag set.
    #[must_use]
    pub const fn host(mac: HostMac) -> Self {
        Self {
            mac,
            nd: Some(NdFlags::HOST),
        }
    }
}

/// The table has reached its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the neighbor table is full: {limit} entries; remove some or raise the limit")]
pub struct NeighborTableFull {
    /// Maximum number of entries.
    pub limit: usize,
}

type NeighborKey = (DomainId, IpAddr);
type Shard = Vec<(NeighborKey, NeighborEntry)>;

#[derive(Debug)]
struct Shards {
    /// Keyed by a secret, so that tenants that choose their addresses can't fill one shard.
    hasher: RandomState,
    all: Box<[ArcSwap<Shard>]>,
}

impl Shards {
    fn of(&self, key: &NeighborKey) -> &ArcSwap<Shard> {
        &self.all[self.hasher.hash_one(key) as usize % SHARDS]
    }
}

/// The write side.
#[derive(Debug)]
pub struct NeighborTable {
    shards: Arc<Shards>,
    /// Replaced shards that a reader may still search.
    retired: Vec<Arc<Shard>>,
    len: usize,
    limit: usize,
}

/// A read side; each worker has its own.
#[derive(Debug, Clone)]
pub struct NeighborReader {
    shards: Arc<Shards>,
}

impl NeighborTable {
    /// An empty table for at most `limit` entries.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        // Each has an empty shard of its own: a shared one would never have a last holder.
        let all = (0..SHARDS)
            .map(|_| ArcSwap::from_pointee(Shard::new()))
            .collect();
        let shards = Arc::new(Shards {
            hasher: RandomState::new(),
            all,
        });
        Self {
            shards,
            retired: Vec::new(),
            len: 0,
            limit,
        }
    }

    /// Inserts or replaces an entry; returns the previous one.
    ///
    /// # Errors
    /// [`NeighborTableFull`] when the table holds `limit` entries; nothing changes.
    pub fn insert(
        &mut self,
        domain: DomainId,
        ip: IpAddr,
        neighbor: NeighborEntry,
    ) -> Result<Option<NeighborEntry>, NeighborTableFull> {
        let key = (domain, ip);
        let old = self.shards.of(&key).load_full();
        match find(&old, &key) {
            Ok(at) if old[at].1 == neighbor => Ok(Some(neighbor)),
            Ok(at) => {
                let mut next = Shard::clone(&old);
                next[at].1 = neighbor;
                let before = old[at].1;
                drop(old);
                self.replace(&key, next);
                Ok(Some(before))
            }
            Err(_) if self.len >= self.limit => Err(NeighborTableFull { limit: self.limit }),
            Err(at) => {
                let mut next = Shard::with_capacity(old.len() + 1);
                next.extend_from_slice(&old[..at]);
                next.push((key, neighbor));
                next.extend_from_slice(&old[at..]);
                drop(old);
                self.replace(&key, next);
                self.len += 1;
                Ok(None)
            }
        }
    }

    /// Removes an entry; returns it.
    pub fn remove(&mut self, domain: DomainId, ip: IpAddr) -> Option<NeighborEntry> {
        let key = (domain, ip);
        let old = self.shards.of(&key).load_full();
        let at = find(&old, &key).ok()?;
        let gone = old[at].1;
        let next = [&old[..at], &old[at + 1..]].concat();
        drop(old);
        self.replace(&key, next);
        self.len -= 1;
        Some(gone)
    }

    /// Removes all entries of a domain. Walks the whole table.
    pub fn remove_domain(&mut self, domain: DomainId) {
        let mut gone = Vec::new();
        self.for_each(|of, ip, _| {
            if of == domain {
                gone.push(ip);
            }
        });
        for ip in gone {
            self.remove(domain, ip);
        }
    }

    fn replace(&mut self, key: &NeighborKey, next: Shard) {
        self.retired.push(self.shards.of(key).swap(Arc::new(next)));
        self.reclaim();
    }

    /// Frees replaced shards that no reader searches any more. Every change does so too.
    pub fn reclaim(&mut self) {
        self.retired.retain(|old| Arc::strong_count(old) > 1);
    }

    /// The entry of an address, if there is one.
    #[must_use]
    pub fn get(&self, domain: DomainId, ip: IpAddr) -> Option<NeighborEntry> {
        self.shards.lookup(domain, ip)
    }

    /// Number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True when the table has no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Calls `visit` with every entry, in no particular order.
    pub fn for_each(&self, mut visit: impl FnMut(DomainId, IpAddr, NeighborEntry)) {
        for shard in 0..Self::SHARDS {
            self.for_each_of(shard, &mut visit);
        }
    }

    /// Number of shards. An entry stays in its shard, so a pass over all of them sees each entry
    /// that is there all the time, even if the table changes between two shards.
    pub const SHARDS: usize = SHARDS;

    /// Calls `visit` with every entry of a shard, below [`Self::SHARDS`].
    pub fn for_each_of(
        &self,
        shard: usize,
        mut visit: impl FnMut(DomainId, IpAddr, NeighborEntry),
    ) {
        let shard = self.shards.all[shard].load();
        for ((domain, ip), neighbor) in shard.iter() {
            visit(*domain, *ip, *neighbor);
        }
    }

    /// A new read side.
    #[must_use]
    pub fn reader(&self) -> NeighborReader {
        NeighborReader {
            shards: self.shards.clone(),
        }
    }
}

fn find(shard: &Shard, key: &NeighborKey) -> Result<usize, usize> {
    shard.binary_search_by(|(stored, _)| stored.cmp(key))
}

impl Shards {
    fn lookup(&self, domain: DomainId, ip: IpAddr) -> Option<NeighborEntry> {
        let key = (domain, ip);
        let shard = self.of(&key).load();
        find(&shard, &key).ok().map(|at| shard[at].1)
    }
}

impl NeighborReader {
    /// Looks up one address; a change is seen at once.
    #[must_use]
    pub fn lookup(&self, domain: DomainId, ip: IpAddr) -> Option<NeighborEntry> {
        self.shards.lookup(domain, ip)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;
    use crate::addr::MacAddr;

    const DOMAIN: DomainId = DomainId(7);

    fn neighbor(n: u32) -> NeighborEntry {
        let mac = HostMac::new(MacAddr::from_bits(0x0200_0000_0000 + u64::from(n))).unwrap();
        let flags = NdFlags {
            router: n & 1 == 1,
            overrides: n.is_multiple_of(3),
        };
        NeighborEntry {
            mac,
            nd: (!n.is_multiple_of(5)).then_some(flags),
        }
    }

    fn ip(n: u32) -> IpAddr {
        if n.is_multiple_of(2) {
            Ipv4Addr::from(n).into()
        } else {
            Ipv6Addr::from(u128::from(n) << 64 | 1).into()
        }
    }

    #[test]
    fn behaves_like_a_map() {
        let (mut table, mut map) = (NeighborTable::new(2000), HashMap::new());
        let mut random = 1u32;
        for _ in 0..if cfg!(miri) { 300 } else { 20_000 } {
            random = random.wrapping_mul(0x9e37_79b1).wrapping_add(12345);
            let (key, domain) = (random >> 8 & 0x3ff, DomainId((random >> 20 & 1) as u16));
            if random >> 28 < 6 {
                assert_eq!(
                    table.remove(domain, ip(key)),
                    map.remove(&(domain, ip(key)))
                );
            } else {
                let value = neighbor(random >> 10);
                assert_eq!(
                    table.insert(domain, ip(key), value).unwrap(),
                    map.insert((domain, ip(key)), value)
                );
            }
            assert_eq!(table.len(), map.len());
        }
        let reader = table.reader();
        map.iter().for_each(|((domain, ip), value)| {
            assert_eq!(reader.lookup(*domain, *ip), Some(*value));
        });
        table.remove_domain(DomainId(0));
        map.retain(|(domain, _), _| domain.0 == 1);
        let mut seen = HashMap::new();
        table.for_each(|domain, ip, value| {
            seen.insert((domain, ip), value);
        });
        assert_eq!(seen, map);
        assert!(table.retired.is_empty() && table.len() == map.len());
    }

    #[test]
    fn a_full_table_accepts_changes_but_no_new_entries() {
        let mut table = NeighborTable::new(2);
        assert!(table.is_empty());
        table.insert(DOMAIN, ip(0), neighbor(0)).unwrap();
        table.insert(DOMAIN, ip(1), neighbor(1)).unwrap();
        assert_eq!(
            table.insert(DOMAIN, ip(2), neighbor(2)),
            Err(NeighborTableFull { limit: 2 })
        );
        assert_eq!(
            table.insert(DOMAIN, ip(1), neighbor(5)),
            Ok(Some(neighbor(1)))
        );
        assert_eq!(table.get(DOMAIN, ip(1)), Some(neighbor(5)));
        assert_eq!(table.get(DomainId(8), ip(1)), None);
    }

    #[test]
    fn readers_see_the_old_or_the_new_entry_and_miss_none() {
        let rounds = if cfg!(miri) { 30 } else { 20_000 };
        let mut table = NeighborTable::new(100);
        for n in 0..50 {
            table.insert(DOMAIN, ip(n), neighbor(n)).unwrap();
        }
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let reader = table.reader();
                scope.spawn(|| {
                    let reader = reader;
                    let mut last = 0;
                    while !done.load(Relaxed) {
                        for n in 0..50 {
                            let found = reader
                                .lookup(DOMAIN, ip(n))
                                .expect("it is there all the time");
                            let version = (found.mac.get().to_bits() - 0x0200_0000_0000) as u32;
                            assert_eq!(version % 50, n, "the value of another key");
                            assert_eq!(found, neighbor(version), "a torn value");
                            last = last.max(version);
                        }
                        assert_eq!(reader.lookup(DOMAIN, ip(99)), None);
                    }
                });
            }
            for round in 1..rounds {
                let n = round % 50;
                table.insert(DOMAIN, ip(n), neighbor(round)).unwrap();
                table
                    .insert(DOMAIN, ip(50 + n % 49), neighbor(round))
                    .unwrap();
                table.remove(DOMAIN, ip(50 + n % 49)).unwrap();
            }
            done.store(true, Relaxed);
        });
        table.reclaim();
        assert!(table.retired.is_empty());
    }
}
