//! scratch
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use vtep_dataplane::addr::*;
use vtep_dataplane::table::mac::*;
fn cpu() -> f64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}
fn main() {
    let only: Option<usize> = std::env::args().nth(1).map(|a| a.parse().unwrap());
    for n in [1000usize, 10_000, 100_000, 1_000_000] {
        if only.is_some_and(|o| o != n) {
            continue;
        }
        let mut t = MacTable::new(4 * n);
        let mut keys = vec![];
        for h in 0..n {
            let low = (h as u64).wrapping_mul(0x9e_3779_b97f_4a7d) & 0xff_ffff_ffff;
            let m = HostMac::new(MacAddr::from_bits(0x02 << 40 | low)).unwrap();
            t.insert(DomainId(7), m, Destination::NextHop(NextHopId((h % 1000) as u32 + 1))).unwrap();
            keys.push(MacKey::new(DomainId(7), m.get()));
        }
        let mut x = 1u64;
        for i in (1..n).rev() {
            x = x.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            keys.swap(i, ((x >> 32) as usize) % (i + 1));
        }
        let mut r = t.reader();
        let rounds = (4_000_000 / n).max(1);
        let mut best = f64::MAX;
        let mut found = [None; 64];
        let reps = if only.is_some() { 3 } else { 9 };
        for _ in 0..reps {
            let s = cpu();
            for _ in 0..rounds {
                for k in keys.chunks(64) {
                    r.refresh();
                    r.lookup_burst(k, &mut found[..k.len()]);
                    black_box(&found);
                }
            }
            let e = (cpu() - s) * 1e9 / (rounds * n) as f64;
            best = best.min(e);
        }
        let z = t.size();
        println!(
            "{n:8} {best:6.2} ns  {:6.1} M/s  displaced {:.3} load {:.2}",
            1e3 / best,
            z.displaced as f64 / n as f64,
            n as f64 / z.places as f64
        );
        if n == 1_000_000 {
            let s = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
            for l in s.lines().filter(|l| l.contains("AnonHuge") || l.starts_with("Rss")) {
                println!("{l}");
            }
        }
    }
}
