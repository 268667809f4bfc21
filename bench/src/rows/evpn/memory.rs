//! Memory use per route.

use std::fs;
use std::process::Command;

use super::hosts::Hosts;
use super::ingest::Feed;
use crate::row::{Bar, Effort, Failure, Measure, Plan, Spec};

/// RIB and MAC table.
pub const MEMORY: Spec = Spec {
    name: "evpn-memory",
    measures: "resident bytes per type 2 route in RIB and MAC table, 1 M routes",
    unit: "B/route",
    bar: Bar::AtMost(128.0),
    open: |effort| {
        Ok(Box::new(Memory {
            hosts: Hosts::of(effort).hosts,
        }))
    },
};

/// Runs in separate processes: otherwise memory freed by earlier rows would be reused and not be
/// counted.
struct Memory {
    hosts: usize,
}

impl Measure for Memory {
    fn once(&mut self) -> Result<f64, Failure> {
        let program = std::env::current_exe().map_err(Failure::of("the path of vtep-bench"))?;
        let output = Command::new(program)
            .args(["held", &self.hosts.to_string()])
            .output();
        let output = output.map_err(Failure::of("vtep-bench held"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let bytes: u64 = said.trim().parse().map_err(|_| {
            Failure::new(format!(
                "vtep-bench held: {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            ))
        })?;
        Ok(bytes as f64 / self.hosts as f64)
    }

    fn plan(&self) -> Plan {
        Plan {
            warm_ups: 0,
            repetitions: 3,
        }
    }

    fn notes(&self) -> Vec<String> {
        vec![format!(
            "{} routes; Rss of /proc/self/smaps_rollup before speaker and tables are created and \
             after the last route, in a \
             separate process; includes all memory that the allocator retains",
            self.hosts
        )]
    }
}

/// Loads `hosts` routes and returns the growth of this process, bytes.
///
/// # Errors
/// [`Failure`] if routes are missing in the end.
pub fn held(hosts: usize) -> Result<u64, Failure> {
    let hosts = Hosts {
        hosts,
        ..Hosts::of(Effort::Full)
    };
    let octets = hosts.all_announced()?;
    let before = resident()?;
    let mut feed = Feed::new(hosts.hosts)?;
    feed.take(&octets)?;
    let after = resident()?;
    feed.sink.check_all(hosts)?;
    Ok(after.saturating_sub(before))
}

/// Resident memory of this process, bytes; exact, while /proc/self/statm may be off by some pages.
fn resident() -> Result<u64, Failure> {
    const PATH: &str = "/proc/self/smaps_rollup";
    let text = fs::read_to_string(PATH).map_err(Failure::of(PATH))?;
    rss(&text).ok_or_else(|| Failure::new(format!("{PATH} has no Rss: {text:?}")))
}

fn rss(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rss_is_read_in_bytes() {
        let text = "00400000-7ffff000 ---p 00000000 00:00 0 [rollup]\nRss:                1556 kB\nPss: 3 kB\n";
        assert_eq!(rss(text), Some(1556 * 1024));
        assert_eq!(rss("Pss: 3 kB\n"), None);
        assert!(resident().unwrap() > 0);
    }

    #[test]
    fn routes_take_memory() {
        // The other tests of this process allocate meanwhile: measured in a process of its own.
        const ALONE: &str = "VTEP_BENCH_MEMORY_TEST";
        if std::env::var_os(ALONE).is_none() {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "rows::evpn::memory::tests::routes_take_memory"])
                .env(ALONE, "1")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                output.status.success() && text.contains("1 passed"),
                "{text}"
            );
            return;
        }
        let bytes = held(50_000).unwrap();
        assert!((1 << 20..64 << 20).contains(&bytes), "{bytes}");
    }
}
