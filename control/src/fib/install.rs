//! Installs table changes of the EVPN speaker, in bursts.
//!
//! ```text
//! changes -> bursts (prefetch all keys) -> runs of one VNI and VTEP (one reference update) -> entries
//! ```

use vtep_dataplane::addr::{DomainId, HostMac, Vni, VtepAddr, VtepId};
use vtep_dataplane::frame::BURST;
use vtep_dataplane::table::mac::{Destination, MacKey};
use vtep_dataplane::table::neighbor::NeighborEntry;

use super::domains::EntryCounts;
use super::{Fib, FibError, MAX_NEIGHBORS};
use crate::bgp::wire::Esi;
use crate::evpn::{EntryOrigin, SegmentKey, TableChange};

/// What consecutive MAC changes have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MacRun {
    vni: Vni,
    /// `None`: the entries are removed.
    vtep: Option<(VtepAddr, Esi, EntryOrigin)>,
}

/// The run and the MAC of a change; `None` for changes of other tables.
const fn mac_change(change: &TableChange) -> Option<(MacRun, HostMac)> {
    match *change {
        TableChange::MacSet {
            vni,
            mac,
            vtep,
            esi,
            origin,
        } => Some((
            MacRun {
                vni,
                vtep: Some((vtep, esi, origin)),
            },
            mac,
        )),
        TableChange::MacDel { vni, mac } => Some((MacRun { vni, vtep: None }, mac)),
        _ => None,
    }
}

/// References to one VTEP that replaced or removed entries have released, not yet subtracted.
#[derive(Debug, Default)]
struct ReleasedVtep(Option<(VtepId, u32)>);

impl Fib {
    /// Installs the speaker's changes. Returns how many were not installed because a table is full.
    /// MAC entries are visible to workers at once, the rest after [`Self::commit`].
    pub fn install(&mut self, changes: &[TableChange]) -> u64 {
        let mut full = 0;
        for burst in changes.chunks(BURST) {
            self.prefetch(burst);
            let run = |change: &TableChange| mac_change(change).map(|(run, _)| run);
            for changes in burst.chunk_by(|one, other| run(one) == run(other)) {
                full += match run(&changes[0]) {
                    Some(run) => self.install_run(run, changes),
                    None => changes
                        .iter()
                        .filter(|change| self.install_other(change).is_err())
                        .count() as u64,
                };
            }
        }
        full
    }

    /// Prefetches the MAC entries of a burst, so that updates do not wait for memory one by one.
    fn prefetch(&self, burst: &[TableChange]) {
        let mut keys = [MacKey::default(); BURST];
        let mut count = 0;
        let mut last: Option<(Vni, DomainId)> = None;
        for (MacRun { vni, .. }, mac) in burst.iter().filter_map(mac_change) {
            if last.is_none_or(|(of, _)| of != vni) {
                last = self.domain_id(vni).map(|domain| (vni, domain));
            }
            if let Some((_, domain)) = last {
                keys[count] = MacKey::new(domain, mac.get());
                count += 1;
            }
        }
        self.macs.prefetch(&keys[..count]);
    }

    /// Installs a run of MAC changes; returns how many found the table full.
    fn install_run(&mut self, run: MacRun, changes: &[TableChange]) -> u64 {
        let Some(domain) = self.domain_id(run.vni) else {
            return 0;
        };
        let macs = changes.iter().filter_map(mac_change).map(|(_, mac)| mac);
        let mut released = ReleasedVtep::default();
        let mut counts = self.entry_counts(run.vni);
        let Some((vtep, esi, origin)) = run.vtep else {
            for mac in macs {
                self.refused.mac(run.vni, mac, false);
                let old = self.macs.remove(domain, mac);
                counts.count_mac(old, None);
                self.count_released(run.vni, &mut released, old);
            }
            self.set_entry_counts(run.vni, counts);
            self.flush_released(run.vni, released);
            return 0;
        };
        let count = changes.len() as u32;
        let group = self.group_id(run.vni, SegmentKey { esi, vtep });
        let id = match group {
            // A group has references of its own to its members.
            Some(id) => id,
            None => match self.add_vtep_refs(run.vni, vtep, count) {
                Ok(id) => id,
                Err(_) => {
                    macs.for_each(|mac| self.refused.mac(run.vni, mac, true));
                    return u64::from(count);
                }
            },
        };
        let (mut full, to) = (0, Destination::Vtep(id));
        for mac in macs {
            let inserted = if self.has_mac_space(origin, domain, mac) {
                self.macs.insert(domain, mac, to).ok()
            } else {
                None
            };
            self.refused.mac(run.vni, mac, inserted.is_none());
            match inserted {
                Some(old) => {
                    counts.count_mac(old, Some(to));
                    self.count_released(run.vni, &mut released, old);
                }
                None => full += 1,
            }
        }
        self.set_entry_counts(run.vni, counts);
        self.flush_released(run.vni, released);
        if full > 0 && group.is_none() {
            self.drop_vtep_refs(run.vni, vtep, full);
        }
        u64::from(full)
    }

    fn set_entry_counts(&mut self, vni: Vni, counts: EntryCounts) {
        if let Some(state) = self.domains.get_mut(&vni) {
            state.entries = counts;
        }
    }

    /// True if an entry of this origin may be added, or is there already.
    fn has_mac_space(&self, origin: EntryOrigin, domain: DomainId, mac: HostMac) -> bool {
        let known = || self.macs.reader().lookup(MacKey::new(domain, mac.get()));
        self.macs.len() < self.mac_space(origin) || known().is_some()
    }

    /// Counts the reference of a replaced or removed entry.
    fn count_released(&mut self, vni: Vni, released: &mut ReleasedVtep, old: Option<Destination>) {
        let Some(Destination::Vtep(id)) = old else {
            return;
        };
        match &mut released.0 {
            Some((last, count)) if *last == id => *count += 1,
            _ => self.flush_released(
                vni,
                std::mem::replace(released, ReleasedVtep(Some((id, 1)))),
            ),
        }
    }

    fn flush_released(&mut self, vni: Vni, released: ReleasedVtep) {
        if let Some((id, count)) = released.0 {
            self.drop_vtep_refs_by_id(vni, id, count);
        }
    }

    fn install_other(&mut self, change: &TableChange) -> Result<(), FibError> {
        match *change {
            TableChange::FloodAdd(vni, vtep) => self.add_flood(vni, vtep)?,
            TableChange::FloodDel(vni, vtep) => self.remove_flood(vni, vtep),
            TableChange::NeighborSet {
                vni,
                ip,
                mac,
                nd,
                origin,
            } => {
                let fits = origin != EntryOrigin::Evpn || self.has_neighbor_space(vni, ip);
                let entry = NeighborEntry { mac, nd };
                let full = FibError::NoId(MAX_NEIGHBORS, "neighbor entries of EVPN routes");
                let set = if fits {
                    self.set_neighbor(vni, ip, entry)
                } else {
                    Err(full)
                };
                self.refused.neighbor(vni, ip, set.is_err());
                set?;
            }
            TableChange::SegmentSet {
                vni,
                segment,
                ref members,
            } => self.set_group(vni, segment, members)?,
            TableChange::VtepWatch(vtep, on) => self.watch_vtep(vtep, on)?,
            TableChange::SegmentDel(vni, segment) => self.remove_group(vni, segment),
            TableChange::NeighborDel { vni, ip } => {
                self.refused.neighbor(vni, ip, false);
                self.remove_neighbor(vni, ip);
            }
            TableChange::MacSet { .. } | TableChange::MacDel { .. } => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use vtep_dataplane::addr::MacAddr;

    use super::super::tests::writer_with;
    use super::*;

    const LIMIT: usize = 12;

    fn writer() -> Fib {
        let mut tables = writer_with(LIMIT);
        for number in [1, 2] {
            tables.add_vni(vni(number), false).expect("space");
        }
        tables
    }

    fn vni(number: u32) -> Vni {
        Vni::new(number).expect("a VNI")
    }

    fn mac(number: u8) -> HostMac {
        HostMac::new(MacAddr([2, 0, 0, 0, 0, number])).expect("a MAC")
    }

    fn vtep(number: u8) -> VtepAddr {
        VtepAddr::new(std::net::IpAddr::from([203, 0, 113, number])).expect("a VTEP")
    }

    /// VNI 3 is not configured.
    fn change() -> impl Strategy<Value = TableChange> {
        (1..4_u32, 0..9_u8, prop::option::weighted(0.7, 1..4_u8)).prop_map(|(number, host, at)| {
            match at {
                Some(at) => {
                    let (vni, mac, vtep) = (vni(number), mac(host), vtep(at));
                    TableChange::MacSet {
                        vni,
                        mac,
                        vtep,
                        esi: Esi::ZERO,
                        origin: EntryOrigin::Evpn,
                    }
                }
                None => TableChange::MacDel {
                    vni: vni(number),
                    mac: mac(host),
                },
            }
        })
    }

    type Model = BTreeMap<(Vni, HostMac), VtepAddr>;

    /// Reference model: one change at a time. Returns how many were refused.
    fn model(entries: &mut Model, changes: &[TableChange]) -> u64 {
        let mut full = 0;
        for change in changes {
            match *change {
                TableChange::MacSet {
                    vni: of, mac, vtep, ..
                } if of != vni(3) => {
                    if entries.len() == LIMIT && !entries.contains_key(&(of, mac)) {
                        full += 1;
                    } else {
                        entries.insert((of, mac), vtep);
                    }
                }
                TableChange::MacDel { vni, mac } => drop(entries.remove(&(vni, mac))),
                _ => {}
            }
        }
        full
    }

    proptest! {
        #[test]
        fn bursts_equal_single_changes(
            bursts in prop::collection::vec(prop::collection::vec(change(), 0..150), 1..6),
        ) {
            let (mut tables, mut entries) = (writer(), Model::new());
            for changes in bursts {
                prop_assert_eq!(tables.install(&changes), model(&mut entries, &changes));
                tables.commit();
                let now = tables.current();
                prop_assert_eq!(tables.macs().len(), entries.len());
                let reader = tables.mac_reader();
                for ((vni, mac), vtep) in &entries {
                    let key = MacKey::new(tables.domain_id(*vni).expect("a VNI"), mac.get());
                    let id = now.vteps.by_address(*vtep).expect("a remote VTEP");
                    prop_assert_eq!(reader.lookup(key), Some(Destination::Vtep(id)));
                }
                for at in [1, 2, 3].map(vtep) {
                    let id = now.vteps.by_address(at);
                    prop_assert_eq!(id.is_some(), entries.values().any(|other| *other == at));
                    for number in [1, 2] {
                        let domain = now.vnis.by_vni(number).expect("a VNI");
                        let wanted = entries.iter().any(|((of, _), to)| *of == vni(number) && *to == at);
                        prop_assert_eq!(id.is_some_and(|id| domain.sources.contains(id)), wanted);
                    }
                }
            }
        }
    }
}
