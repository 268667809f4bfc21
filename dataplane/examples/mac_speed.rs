//! Speed of the MAC table with 1 M entries: look-ups in bursts, without and beside a writer, and updates.
//! Run by `cargo run --release -p vtep-dataplane --example mac_speed`.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use vtep_dataplane::addr::{DomainId, HostMac, MacAddr, NextHopId};
use vtep_dataplane::table::mac::{Destination, MacKey, MacReader, MacTable};

const ENTRIES: u64 = 1_000_000;
const BURST: usize = 64;

fn host(n: u64) -> (DomainId, HostMac) {
    let mac = MacAddr::from_bits(0x5054_0000_0000 | n);
    (DomainId((n % 100) as u16), HostMac::new(mac).expect("the MAC is a host's"))
}

fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
    *random >> 32
}

/// Look-ups a second, over keys in random order, for `time`.
fn look_up(mut reader: MacReader, keys: &[MacKey], time: Duration) -> f64 {
    let (start, mut count, mut found) = (Instant::now(), 0, [None; BURST]);
    while start.elapsed() < time {
        for burst in keys[count % keys.len()..].chunks_exact(BURST).take(64) {
            reader.refresh();
            reader.lookup_burst(burst, &mut found);
            black_box(&found);
            count += BURST;
        }
    }
    count as f64 / start.elapsed().as_secs_f64()
}

/// One update of a random host: mostly moves, some removals and insertions.
fn update(table: &mut MacTable, random: &mut u64) {
    let (domain, mac) = host(next(random) % ENTRIES);
    let to = Destination::NextHop(NextHopId(next(random) as u32 >> 8));
    if next(random).is_multiple_of(4) {
        black_box(table.remove(domain, mac));
    } else {
        table.insert(domain, mac, to).expect("the table has room");
    }
}

fn main() {
    let (mut table, mut random) = (MacTable::new(4_000_000), 1);
    let start = Instant::now();
    for n in 0..ENTRIES {
        let (domain, mac) = host(n);
        table.insert(domain, mac, Destination::NextHop(NextHopId(n as u32))).expect("the table has room");
    }
    println!("insert     {:6.1} M/s, growth included", ENTRIES as f64 / start.elapsed().as_secs_f64() / 1e6);
    println!("           {:?}", table.size());
    let keys: Vec<_> = (0..8 << 20)
        .map(|_| host(next(&mut random) % ENTRIES))
        .map(|(domain, mac)| MacKey::new(domain, mac.get()))
        .collect();
    let time = Duration::from_secs(2);
    println!("look-up    {:6.1} M/s", look_up(table.reader(), &keys, time) / 1e6);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = table.reader();
        let (keys, stop) = (&keys, &stop);
        scope.spawn(move || {
            println!("look-up    {:6.1} M/s beside 100 k updates/s", look_up(reader, keys, time) / 1e6);
            stop.store(true, Ordering::Relaxed);
        });
        while !stop.load(Ordering::Relaxed) {
            (0..100).for_each(|_| update(&mut table, &mut random));
            thread::sleep(Duration::from_micros(930));
        }
    });
    thread::scope(|scope| {
        let reader = table.reader();
        let keys = &keys;
        let other = scope.spawn(move || look_up(reader, keys, time));
        let start = Instant::now();
        let mut count = 0;
        while start.elapsed() < time {
            (0..1000).for_each(|_| update(&mut table, &mut random));
            count += 1000;
        }
        let rate = f64::from(count) / start.elapsed().as_secs_f64() / 1e6;
        println!("update     {rate:6.1} M/s beside a reader");
        println!("look-up    {:6.1} M/s beside that writer", other.join().expect("the reader ends") / 1e6);
    });
    println!("           {:?}", table.size());
}
