//! The MAC table: (bridge domain, MAC) -> local port or next hop. One writer, readers that never wait.
//!
//! Interim: a map that is copied on write, behind the interface that stays.

use crate::addr::{DomainId, HostMac, MacAddr, NextHopId, PortId};
use arc_swap::ArcSwap;
use hashbrown::HashMap;
use std::sync::Arc;

/// What a MAC is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A tenant port of this VTEP.
    Port(PortId),
    /// A remote VTEP.
    NextHop(NextHopId),
}

/// A key: 16 bits of bridge domain, 48 bits of MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacKey(u64);

impl MacKey {
    /// The key to look up a frame's destination; any MAC, though only those of hosts are ever found.
    #[inline]
    #[must_use]
    pub const fn new(domain: DomainId, mac: MacAddr) -> Self {
        Self((domain.0 as u64) << 48 | mac.to_bits())
    }

    /// The bridge domain.
    #[must_use]
    pub const fn domain(self) -> DomainId {
        DomainId((self.0 >> 48) as u16)
    }

    /// The MAC address.
    #[must_use]
    pub const fn mac(self) -> MacAddr {
        MacAddr::from_bits(self.0)
    }
}

/// The table is as large as it may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the MAC table is full: {limit} entries")]
pub struct Full {
    /// The most entries that it may hold.
    pub limit: usize,
}

/// The writing end.
#[derive(Debug)]
pub struct MacTable {
    shared: Arc<ArcSwap<HashMap<MacKey, Destination>>>,
    limit: usize,
}

/// A reading end; each worker has its own.
#[derive(Debug, Clone)]
pub struct MacReader {
    shared: Arc<ArcSwap<HashMap<MacKey, Destination>>>,
}

impl MacTable {
    /// An empty table for at most `limit` entries.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { shared: Arc::default(), limit }
    }

    /// Inserts or moves; returns what was there.
    ///
    /// # Errors
    /// [`Full`] when `limit` entries are there; nothing changes.
    pub fn insert(
        &mut self,
        domain: DomainId,
        mac: HostMac,
        to: Destination,
    ) -> Result<Option<Destination>, Full> {
        let mut map = HashMap::clone(&self.shared.load());
        let key = MacKey::new(domain, mac.get());
        if map.len() >= self.limit && !map.contains_key(&key) {
            return Err(Full { limit: self.limit });
        }
        let old = map.insert(key, to);
        self.shared.store(Arc::new(map));
        Ok(old)
    }

    /// Removes; returns what was there.
    pub fn remove(&mut self, domain: DomainId, mac: HostMac) -> Option<Destination> {
        let mut map = HashMap::clone(&self.shared.load());
        let old = map.remove(&MacKey::new(domain, mac.get()));
        self.shared.store(Arc::new(map));
        old
    }

    /// Entries held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.load().len()
    }

    /// True when no entry is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `visit` with every entry, in no order.
    pub fn for_each(&self, mut visit: impl FnMut(MacKey, Destination)) {
        self.shared.load().iter().for_each(|(key, to)| visit(*key, *to));
    }

    /// A new reading end.
    #[must_use]
    pub fn reader(&self) -> MacReader {
        MacReader { shared: self.shared.clone() }
    }
}

impl MacReader {
    /// Takes up a grown table, if there is one. Once a turn: between two calls a reader sees every change of entries
    /// at once, and memory that it may still read is not freed.
    #[inline]
    pub fn refresh(&mut self) {}

    /// Looks one key up.
    #[inline]
    #[must_use]
    pub fn lookup(&self, key: MacKey) -> Option<Destination> {
        self.shared.load().get(&key).copied()
    }

    /// Looks up `keys` together (they are prefetched first): `found[i]` is for `keys[i]`.
    ///
    /// # Panics
    /// If `found` is shorter than `keys`.
    #[inline]
    pub fn lookup_burst(&self, keys: &[MacKey], found: &mut [Option<Destination>]) {
        for (key, found) in keys.iter().zip(found) {
            *found = self.lookup(*key);
        }
    }
}
