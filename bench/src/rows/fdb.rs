//! The MAC table: lookups per second while a writer writes, compared with hashbrown, and updates
//! per second.
//!
//! Keys that are looked up always exist, and the sum of the results is compared with the expected
//! one. The writer changes other keys, so that the sum is exact while it writes. Rates refer to the
//! CPU time of the measured thread; the rate of the writer during lookups refers to wall-clock
//! time.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use vtep_dataplane::addr::{DomainId, HostMac, MacAddr, VtepId};
use vtep_dataplane::frame::BURST;
use vtep_dataplane::table::mac::{Destination, LookupResult, MacKey, MacReader, MacTable};

use super::random::Random;
use crate::clock::spent_ns;
use crate::cores;
use crate::row::{Bar, Effort, Failure, Measure, Plan, Spec};

/// Lookups during updates.
pub const LOOKUP: Spec = Spec {
    name: "fdb-lookup",
    measures: "batched lookups on one core, 1 M MACs, random keys, while the writer applies 100 k \
               updates/s",
    unit: "M lookups/s",
    bar: Bar::AtLeast(95.0),
    open: |effort| Ok(Box::new(Lookup::new(effort)?)),
};

/// Compared with a hash map.
pub const RATIO: Spec = Spec {
    name: "fdb-ratio",
    measures: "lookups of the MAC table / lookups of a hashbrown map behind the same batch \
               interface, no writer",
    unit: "x",
    bar: Bar::AtLeast(1.9),
    open: |effort| Ok(Box::new(Ratio::new(effort)?)),
};

/// Updates during lookups.
pub const UPDATE: Spec = Spec {
    name: "fdb-update",
    measures: "inserts, moves and deletes (a third each) by the control thread, 1 M MACs, a reader \
               running",
    unit: "M updates/s",
    bar: Bar::AtLeast(5.0),
    open: |effort| Ok(Box::new(Update::new(effort)?)),
};

/// Updates per second that the writer applies during lookups.
const WRITE_RATE: u64 = 100_000;

/// MACs that the writer changes, in addition to those that are looked up.
const CHANGING: usize = 65_536;

const DOMAIN: DomainId = DomainId(7);

/// The MAC of host number `host`: spread over the address space, distinct for distinct numbers.
pub(super) fn mac(host: usize) -> Result<HostMac, Failure> {
    // An odd factor permutes the 40 low bits; the first octet remains that of a local unicast
    // address.
    let low = (host as u64).wrapping_mul(0x9e_3779_b97f_4a7d) & 0xff_ffff_ffff;
    HostMac::new(MacAddr::from_bits(0x02 << 40 | low)).map_err(Failure::of("host"))
}

fn behind(host: usize) -> Destination {
    Destination::Vtep(VtepId((host % 1000) as u32 + 1))
}

/// The contribution of a destination to the sum.
#[inline]
fn worth(found: Option<Destination>) -> u64 {
    match found {
        Some(Destination::Vtep(id)) => u64::from(id.0),
        Some(Destination::Port(_)) | None => 1 << 40,
    }
}

/// A filled table, the keys to look up in random order, and the sum of their destinations.
struct Filled {
    table: MacTable,
    keys: Vec<MacKey>,
    sum: u64,
}

impl Filled {
    fn new(hosts: usize) -> Result<Self, Failure> {
        let mut table = MacTable::new(2 * (hosts + CHANGING));
        let mut keys = Vec::with_capacity(hosts);
        let mut sum = 0;
        for host in 0..hosts {
            let mac = mac(host)?;
            table
                .insert(DOMAIN, mac, behind(host))
                .map_err(Failure::of("filling the MAC table"))?;
            keys.push(MacKey::new(DOMAIN, mac.get()));
            sum += worth(Some(behind(host)));
        }
        Random(1).shuffle(&mut keys);
        Ok(Self { table, keys, sum })
    }

    /// Looks up every key, `rounds` times; returns millions per second.
    fn look_up(&self, reader: &mut MacReader, rounds: usize) -> Result<f64, Failure> {
        let mut found = [LookupResult::NONE; BURST];
        self.time(rounds, |burst| {
            reader.refresh();
            reader.lookup_burst(burst, &mut found[..burst.len()]);
            found[..burst.len()]
                .iter()
                .map(|found| worth(found.destination()))
                .sum()
        })
    }

    /// The same keys in a map.
    fn look_up_map(
        &self,
        map: &HashMap<MacKey, Destination>,
        rounds: usize,
    ) -> Result<f64, Failure> {
        let mut found = [None; BURST];
        self.time(rounds, |burst| {
            for (key, found) in burst.iter().zip(&mut found) {
                *found = map.get(key).copied();
            }
            found[..burst.len()].iter().map(|found| worth(*found)).sum()
        })
    }

    fn time(&self, rounds: usize, mut look: impl FnMut(&[MacKey]) -> u64) -> Result<f64, Failure> {
        let start = spent_ns();
        let mut sum = 0;
        for _ in 0..rounds {
            for burst in self.keys.chunks(BURST) {
                sum += look(black_box(burst));
            }
        }
        let spent = spent_ns() - start;
        let wanted = self.sum * rounds as u64;
        if sum != wanted {
            return Err(Failure::new(format!(
                "wrong lookup results: sum {sum}, must be {wanted}"
            )));
        }
        Ok((self.keys.len() * rounds) as f64 * 1e3 / spent as f64)
    }
}

/// Applies updates to hosts starting with `first`: a third each of inserts, moves and deletes, each
/// checked.
fn update(table: &mut MacTable, first: usize, step: u64) -> Result<(), Failure> {
    let host = first + (step / 3) as usize % CHANGING;
    let (mac, old, new) = (mac(host)?, behind(host), behind(host + 1));
    let (was, wanted) = match step % 3 {
        0 => (
            table
                .insert(DOMAIN, mac, old)
                .map_err(Failure::of("insert"))?,
            None,
        ),
        1 => (
            table
                .insert(DOMAIN, mac, new)
                .map_err(Failure::of("move"))?,
            Some(old),
        ),
        _ => (table.remove(DOMAIN, mac), Some(new)),
    };
    if was == wanted {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "update {step}: replaced {was:?}, must be {wanted:?}"
        )))
    }
}

struct Lookup {
    filled: Filled,
    rounds: usize,
    writes: Vec<f64>,
    step: u64,
}

impl Lookup {
    fn new(effort: Effort) -> Result<Self, Failure> {
        let filled = Filled::new(effort.pick(100_000, 1_000_000))?;
        Ok(Self {
            filled,
            rounds: effort.pick(10, 20),
            writes: Vec::new(),
            step: 0,
        })
    }
}

impl Measure for Lookup {
    fn once(&mut self) -> Result<f64, Failure> {
        let mut reader = self.filled.table.reader();
        let hosts = self.filled.keys.len();
        let Self {
            filled,
            rounds,
            step,
            ..
        } = self;
        // The reader needs the keys while the writer holds the table.
        let mut table = std::mem::replace(&mut filled.table, MacTable::new(1));
        let stop = AtomicBool::new(false);
        let (figure, written) = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                cores::pin(1);
                let start = Instant::now();
                let mut done = 0;
                while !stop.load(Relaxed) {
                    let due = start.elapsed().as_micros() as u64 * WRITE_RATE / 1_000_000;
                    while done < due {
                        update(&mut table, hosts, *step)?;
                        (done, *step) = (done + 1, *step + 1);
                    }
                    thread::sleep(Duration::from_micros(200));
                }
                Ok::<f64, Failure>(done as f64 / start.elapsed().as_secs_f64())
            });
            cores::pin(0);
            let figure = filled.look_up(&mut reader, *rounds);
            stop.store(true, Relaxed);
            (
                figure,
                writer
                    .join()
                    .unwrap_or_else(|_| Err(Failure::new("the writer panicked"))),
            )
        });
        filled.table = table;
        self.writes.push(written?);
        figure
    }

    fn plan(&self) -> Plan {
        Plan {
            warm_ups: 1,
            repetitions: 7,
        }
    }

    fn notes(&self) -> Vec<String> {
        let slowest = self.writes.iter().copied().fold(f64::INFINITY, f64::min);
        vec![
            format!(
                "{} MACs; the writer applied at least {slowest:.0} updates/s",
                self.filled.keys.len()
            ),
            "every lookup is checked by a sum; bounded by memory latency and bandwidth".to_owned(),
        ]
    }
}

struct Ratio {
    filled: Filled,
    map: HashMap<MacKey, Destination>,
    rounds: usize,
    last: (f64, f64),
}

impl Ratio {
    fn new(effort: Effort) -> Result<Self, Failure> {
        let filled = Filled::new(effort.pick(100_000, 1_000_000))?;
        let mut map = HashMap::with_capacity(filled.keys.len());
        filled.table.for_each(|key, to| {
            map.insert(key, to);
        });
        Ok(Self {
            filled,
            map,
            rounds: effort.pick(10, 10),
            last: (0.0, 0.0),
        })
    }
}

impl Measure for Ratio {
    fn once(&mut self) -> Result<f64, Failure> {
        cores::pin(0);
        let mut reader = self.filled.table.reader();
        let ours = self.filled.look_up(&mut reader, self.rounds)?;
        let map = self.filled.look_up_map(&self.map, self.rounds)?;
        self.last = (ours, map);
        Ok(ours / map)
    }

    fn plan(&self) -> Plan {
        Plan {
            warm_ups: 1,
            repetitions: 7,
        }
    }

    fn notes(&self) -> Vec<String> {
        let (ours, map) = self.last;
        vec![format!(
            "{} MACs; last: {ours:.1} M/s, hashbrown {map:.1} M/s",
            self.filled.keys.len()
        )]
    }
}

struct Update {
    filled: Filled,
    updates: u64,
    looked_up: u64,
}

impl Update {
    fn new(effort: Effort) -> Result<Self, Failure> {
        let filled = Filled::new(effort.pick(100_000, 1_000_000))?;
        Ok(Self {
            filled,
            updates: effort.pick(300_000, 6_000_000),
            looked_up: 0,
        })
    }
}

impl Measure for Update {
    fn once(&mut self) -> Result<f64, Failure> {
        let (stop, looked_up) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(0));
        let mut reader = self.filled.table.reader();
        let Filled { table, keys, .. } = &mut self.filled;
        let updates = self.updates;
        let spent = thread::scope(|scope| {
            scope.spawn(|| {
                cores::pin(1);
                let mut found = [LookupResult::NONE; BURST];
                for burst in keys
                    .chunks(BURST)
                    .cycle()
                    .take_while(|_| !stop.load(Relaxed))
                {
                    reader.refresh();
                    reader.lookup_burst(burst, &mut found[..burst.len()]);
                    black_box(&found);
                    looked_up.fetch_add(burst.len() as u64, Relaxed);
                }
            });
            cores::pin(0);
            let start = spent_ns();
            let done = (0..updates).try_for_each(|step| update(table, keys.len(), step));
            let spent = spent_ns() - start;
            stop.store(true, Relaxed);
            done.map(|()| spent)
        })?;
        self.looked_up = looked_up.into_inner();
        Ok(updates as f64 * 1e3 / spent as f64)
    }

    fn plan(&self) -> Plan {
        Plan {
            warm_ups: 1,
            repetitions: 5,
        }
    }

    fn notes(&self) -> Vec<String> {
        vec![format!(
            "what each update replaced is checked; {} lookups during the last run",
            self.looked_up
        )]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_distinct() {
        let mut macs: Vec<_> = (0..100_000).map(|host| mac(host).unwrap()).collect();
        macs.sort_unstable();
        macs.dedup();
        assert_eq!(macs.len(), 100_000);
    }

    #[test]
    fn a_wrong_find_is_a_failure() {
        let mut filled = Filled::new(64).unwrap();
        let mut reader = filled.table.reader();
        assert!(filled.look_up(&mut reader, 2).is_ok());
        filled.table.remove(DOMAIN, mac(3).unwrap());
        reader.refresh();
        assert!(filled.look_up(&mut reader, 2).is_err());
    }

    #[test]
    fn updates_come_in_threes() {
        let mut table = MacTable::new(16);
        for step in 0..9 {
            update(&mut table, 5, step).unwrap();
        }
        assert!(table.is_empty());
        assert!(update(&mut table, 5, 10).is_err());
    }
}
