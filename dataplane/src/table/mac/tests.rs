use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::next_array::CREATE_BATCH;
use super::*;
use crate::addr::{MacAddr, PortId, VtepId};

const SEED: Seed = Seed::new(0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344);

/// A table that starts with two buckets, so that it grows soon.
fn small(limit: usize) -> MacTable {
    MacTable::with_array(limit, Array::new(2, SEED))
}

/// The n-th host: adjacent ones differ in bridge domain or in the last octets, as real ones do.
fn host(n: u32) -> (DomainId, HostMac) {
    let mac = MacAddr::from_bits(0x5054_0000_0000 | u64::from(n / 3));
    (DomainId((n % 3) as u16), HostMac::new(mac).unwrap())
}

fn key(n: u32) -> MacKey {
    let (domain, mac) = host(n);
    MacKey::new(domain, mac.get())
}

fn insert(
    table: &mut MacTable,
    n: u32,
    to: Destination,
) -> Result<Option<Destination>, MacTableFull> {
    let (domain, mac) = host(n);
    table.insert(domain, mac, to)
}

fn remove(table: &mut MacTable, n: u32) -> Option<Destination> {
    let (domain, mac) = host(n);
    table.remove(domain, mac)
}

const fn vtep(id: u32) -> Destination {
    Destination::Vtep(VtepId(id))
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u32, Destination),
    Remove(u32),
}

fn op(hosts: u32) -> impl Strategy<Value = Op> {
    let to = prop_oneof![
        any::<u16>().prop_map(|id| Destination::Port(PortId(id))),
        (0..=Destination::MAX_ID).prop_map(|id| Destination::Vtep(VtepId(id))),
    ];
    prop_oneof![
        3 => (0..hosts, to).prop_map(|(n, to)| Op::Insert(n, to)),
        1 => (0..hosts).prop_map(Op::Remove),
    ]
}

/// Compares single lookups, bursts and the walk with the plain map.
fn check(table: &MacTable, reader: &MacReader, plain: &HashMap<MacKey, Destination>, hosts: u32) {
    let keys: Vec<_> = (0..hosts).map(key).collect();
    let mut found = vec![LookupResult::of(vtep(0).to_word()); keys.len() + 1];
    reader.lookup_burst(&keys, &mut found);
    for (key, found) in keys
        .iter()
        .zip(found.iter().map(|found| found.destination()))
    {
        assert_eq!(found, plain.get(key).copied(), "{key:?} in a burst");
        assert_eq!(reader.lookup(*key), found, "{key:?}");
    }
    let mut walked = HashMap::new();
    table.for_each(|key, to| assert_eq!(walked.insert(key, to), None, "{key:?} occurs twice"));
    assert_eq!(&walked, plain);
    assert_eq!(
        (table.len(), table.is_empty()),
        (plain.len(), plain.is_empty())
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 64 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn answers_as_a_plain_map_does(
        ops in prop::collection::vec(op(300), 1..if cfg!(miri) { 150 } else { 1500 }),
    ) {
        const LIMIT: usize = 200;
        let mut table = small(LIMIT);
        let mut reader = table.reader();
        let mut plain = HashMap::new();
        for (count, op) in ops.into_iter().enumerate() {
            match op {
                Op::Insert(n, to) => {
                    let wanted = if plain.len() == LIMIT && !plain.contains_key(&key(n)) {
                        Err(MacTableFull { limit: LIMIT })
                    } else {
                        Ok(plain.insert(key(n), to))
                    };
                    prop_assert_eq!(insert(&mut table, n, to), wanted);
                }
                Op::Remove(n) => prop_assert_eq!(remove(&mut table, n), plain.remove(&key(n))),
            }
            reader.refresh();
            if count % 100 == 0 {
                check(&table, &reader, &plain, 300);
            }
        }
        check(&table, &reader, &plain, 300);
    }
}

#[test]
fn a_full_table_still_moves_and_removes() {
    let mut table = small(3);
    for n in 0..3 {
        assert_eq!(insert(&mut table, n, vtep(n)), Ok(None));
    }
    assert_eq!(
        insert(&mut table, 3, vtep(3)),
        Err(MacTableFull { limit: 3 })
    );
    assert_eq!(table.reader().lookup(key(3)), None);
    assert_eq!(insert(&mut table, 0, vtep(9)), Ok(Some(vtep(0))));
    assert_eq!(remove(&mut table, 1), Some(vtep(1)));
    assert_eq!(insert(&mut table, 3, vtep(3)), Ok(None));
    assert_eq!(
        (0..4)
            .filter_map(|n| table.reader().lookup(key(n)))
            .collect::<Vec<_>>(),
        [9, 2, 3].map(vtep)
    );
}

#[test]
fn free_slots_are_not_entries() {
    let mut table = small(10);
    insert(&mut table, 0, vtep(1)).unwrap();
    let keys = [
        MacAddr::default(),
        MacAddr::BROADCAST,
        MacAddr([1, 0, 0, 0, 0, 0]),
    ]
    .map(|mac| MacKey::new(DomainId(0), mac));
    let mut found = [LookupResult::of(vtep(1).to_word()); 3];
    table.reader().lookup_burst(&keys, &mut found);
    assert_eq!(found.map(LookupResult::destination), [None; 3]);
    assert_eq!(keys.map(|key| table.reader().lookup(key)), [None; 3]);
}

#[test]
fn an_outgrown_array_lives_until_its_reader_refreshes() {
    let mut table = small(1000);
    let mut reader = table.reader();
    for n in 0..100 {
        insert(&mut table, n, vtep(n)).unwrap();
    }
    table.reclaim();
    assert_eq!(
        table.size().retired,
        1,
        "only the array that the reader holds"
    );
    assert_eq!(reader.lookup(key(99)), None, "not before the refresh");
    reader.refresh();
    assert_eq!(reader.lookup(key(99)), Some(vtep(99)));
    table.reclaim();
    assert_eq!(table.size().retired, 0);
    let size = table.size();
    assert_eq!(
        (size.entries, size.limit, size.bytes),
        (100, 1000, size.slots / 5 * 64)
    );
    assert!(
        (115..1000).contains(&size.slots),
        "{} slots for 100 entries",
        size.slots
    );
    assert!(
        (1..50).contains(&size.displaced),
        "{} of 100 entries not in their first bucket",
        size.displaced
    );
}

/// A table with millions of entries grows without a pause: no insertion creates or copies more than a
/// few buckets. Until all are copied, both arrays have every change, and the table is as it was.
#[test]
fn a_larger_array_is_filled_with_each_insertion_and_misses_no_change() {
    const LIMIT: usize = 2000;
    const HOSTS: u32 = if cfg!(miri) { 300 } else { 1500 };
    let mut table = MacTable::with_array(LIMIT, Array::new(FIRST_BUCKETS, SEED));
    let (mut plain, mut filling, mut creating) = (HashMap::new(), 0, 0);
    for n in 0..HOSTS {
        let before = table.arrays.current().buckets();
        let was_filling = table.larger.is_some();
        let created = table.next.as_ref().map_or(0, NextArray::created);
        insert(&mut table, n, vtep(n)).unwrap();
        if let Some(next) = &table.next {
            assert_eq!(next.created(), created + CREATE_BATCH);
            creating += 1;
        }
        plain.insert(key(n), vtep(n));
        let is_filled = was_filling && table.larger.is_none();
        assert_eq!(table.arrays.current().buckets() > before, is_filled, "{n}");
        if table.larger.is_some() {
            filling += 1;
            // Entries all over the array, whether copied or not.
            let (changed, gone) = (n * 7919 % 977 % n, n * 104_729 % 991 % n);
            if plain.contains_key(&key(changed)) {
                insert(&mut table, changed, vtep(n)).unwrap();
                plain.insert(key(changed), vtep(n));
            }
            if n % 4 == 0 {
                assert_eq!(remove(&mut table, gone), plain.remove(&key(gone)));
            }
        }
        if is_filled || n % 100 == 0 {
            check(&table, &table.reader(), &plain, HOSTS);
        }
    }
    // Fewer under miri, which inserts a fifth.
    assert!(filling > 10 && creating > 10, "{filling} {creating}");
    check(&table, &table.reader(), &plain, HOSTS);
}

#[test]
fn arrays_fill_to_seven_eighths_with_any_keys() {
    let buckets = if cfg!(miri) { 16 } else { 4096 };
    type Pattern = (&'static str, fn(u64) -> u64);
    let patterns: [Pattern; 6] = [
        ("MACs that count up", |n| 0x5054_0000_0000 + n),
        ("MACs that count up by 256", |n| 0x5054_0000_0000 + (n << 8)),
        ("MACs that count up from the third octet", |n| {
            0x5054_0000_0001 + (n << 16)
        }),
        ("one MAC in many domains", |n| n << 48 | 0x5054_0000_0001),
        ("some MACs in many domains", |n| {
            (n & 0xfff) << 48 | 0x5054_0000_0000 | n >> 12
        }),
        ("MACs from IPv4 addresses", |n| {
            0x0242_0a00_0001 + (n & 0xff) + (n >> 8 << 16)
        }),
    ];
    for (name, pattern) in patterns {
        for seed in (0..if cfg!(miri) { 1 } else { 8 })
            .map(|_| Seed::random())
            .chain([SEED])
        {
            let array = Array::new(buckets, seed);
            for n in 0..array.capacity() as u64 {
                assert!(
                    array.insert(pattern(n), n as u32),
                    "{name}: full at {n} of {} slots",
                    array.slots()
                );
            }
            assert!(
                (0..array.capacity() as u64).all(|n| array.lookup(pattern(n)) == Some(n as u32)),
                "{name}"
            );
        }
    }
}

#[test]
fn a_slot_that_cannot_be_freed_changes_nothing() {
    let array = Array::new(2, SEED);
    let all: Vec<_> = (1..=10).map(|n| (n, n as u32 * 7)).collect();
    assert!(all.iter().all(|(key, to)| array.insert(*key, *to)));
    assert!(!array.insert(11, 77));
    let mut there: Vec<_> = array.entries().collect();
    there.sort_unstable();
    assert_eq!(there, all);
    assert!(all.iter().all(|(key, to)| array.lookup(*key) == Some(*to)));
    assert_eq!(array.lookup(11), None);
}

/// Keys of the stress test that the writer never removes, and keys that it also removes.
const STAYING: u32 = 200;
const CHANGING: u32 = 400;

/// A destination that carries its key and the round that it was written in.
fn marked(n: u32, round: u32) -> Destination {
    vtep(n << 18 | round & 0x3_ffff)
}

/// One reader of the stress test: keys that stay are always found, and others only with their own
/// destinations.
fn read_until(stop: &AtomicBool, mut reader: MacReader) -> u64 {
    let keys: Vec<_> = (0..STAYING + CHANGING).map(key).collect();
    let mut found = vec![LookupResult::NONE; keys.len()];
    let mut hits = 0;
    while !stop.load(Ordering::Relaxed) {
        reader.refresh();
        reader.lookup_burst(&keys, &mut found);
        let found: Vec<_> = found.iter().map(|found| found.destination()).collect();
        for (n, found) in (0..).zip(&found) {
            match found {
                Some(Destination::Vtep(to)) => {
                    assert_eq!(to.0 >> 18, n, "the destination of another key");
                }
                Some(Destination::Port(port)) => panic!("{port:?} was never written"),
                None => assert!(n >= STAYING, "key {n} stays and was missed"),
            }
        }
        hits += found.iter().flatten().count() as u64;
    }
    hits
}

#[test]
fn readers_concurrent_with_a_busy_writer_see_only_what_was_written() {
    let time = Duration::from_millis(if cfg!(miri) { 1 } else { 1500 });
    let mut table = small(10_000);
    for n in 0..STAYING {
        insert(&mut table, n, marked(n, 0)).unwrap();
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let reader = table.reader();
                scope.spawn(|| read_until(&stop, reader))
            })
            .collect();
        let (end, mut random, mut round) = (Instant::now() + time, 1u64, 0u32);
        while !round.is_multiple_of(256) || Instant::now() < end {
            random = random
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            round = round.wrapping_add(1);
            let n = (random >> 33) as u32 % (STAYING + CHANGING);
            if n < STAYING || random >> 32 & 3 != 0 {
                insert(&mut table, n, marked(n, round)).unwrap();
            } else {
                remove(&mut table, n);
            }
            // Grow the array from time to time with hosts that no reader looks up.
            if round.is_multiple_of(1 << 16) && table.len() < 9_000 {
                let first = STAYING + CHANGING + round / (1 << 16) * 100;
                assert!((first..first + 100).all(|n| insert(&mut table, n, vtep(0)) == Ok(None)));
            }
        }
        stop.store(true, Ordering::Relaxed);
        let hits: u64 = readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum();
        assert!(hits > 0 || cfg!(miri));
    });
    assert_eq!(
        (0..STAYING)
            .filter(|n| table.reader().lookup(key(*n)).is_none())
            .count(),
        0
    );
}
