//! How long frames still leave for the old VTEP or path after a failover.

use std::time::{Duration, Instant};

use vtep_dataplane::addr::MacAddr;
use vtep_dataplane::stats::FloodCounters;

use super::hosts::Hosts;
use super::ingest::Feed;
use crate::cores;
use crate::row::{Bar, Effort, Failure, Measure, Plan, Spec};
use crate::tables::TableSpec;

/// A VTEP is withdrawn, and the path of another changes.
pub const FAILOVER: Spec = Spec {
    name: "failover",
    measures: "a VTEP with 100 k MACs is withdrawn, or its path changes: until no worker uses the \
               old one; the longer time",
    unit: "ms",
    bar: Bar::AtMost(50.0),
    open: |effort| Ok(Box::new(Failover::open(effort)?)),
};

/// MACs behind each VTEP.
const MACS: usize = 100_000;

struct Failover {
    hosts: Hosts,
    feed: Feed,
    up: Vec<u8>,
    down: Vec<u8>,
    runs: u8,
    withdrawn: Vec<Duration>,
    rerouted: Vec<Duration>,
}

impl Failover {
    fn open(effort: Effort) -> Result<Self, Failure> {
        let vteps = effort.pick(2, 10);
        let hosts = Hosts {
            hosts: vteps * MACS,
            vteps,
        };
        let mut feed = Feed::new(hosts.hosts)?;
        feed.take(&hosts.all_announced()?)?;
        feed.sink.check_all(hosts)?;
        let (up, down) = (hosts.announced(0)?, hosts.withdrawn(0)?);
        Ok(Self {
            hosts,
            feed,
            up,
            down,
            runs: 0,
            withdrawn: Vec::new(),
            rerouted: Vec::new(),
        })
    }

    /// The first VTEP is withdrawn, then advertised again.
    fn withdraw(&mut self) -> Result<Duration, Failure> {
        let start = Instant::now();
        self.feed.take(&self.down)?;
        let taken = start.elapsed();
        self.feed.sink.check(self.hosts, 0, true)?;
        self.feed.sink.check(self.hosts, 1, false)?;
        self.feed.take(&self.up)?;
        self.feed.sink.check_all(self.hosts)?;
        Ok(taken)
    }

    /// The next hop of the second VTEP changes.
    fn reroute(&mut self) -> Result<Duration, Failure> {
        let sink = &mut self.feed.sink;
        let vtep = Hosts::vtep(1)?;
        let mac = |last| MacAddr([2, 0, 0, 0, 0x20, last]);
        let spec = TableSpec {
            underlay_mac: mac(0),
            next_hop_mac: mac(self.runs),
            vteps: Vec::new(),
            multi_buffer: true,
        };
        let paths = spec
            .remote_vtep(Hosts::address(1).into(), &FloodCounters::new(1))?
            .paths;
        let before = sink.seen().vteps.by_address(vtep);
        let wanted = paths.clone();
        let start = Instant::now();
        sink.tables.set_paths(vtep, paths);
        sink.tables.commit();
        sink.refresh();
        let taken = start.elapsed();
        let id = sink.seen().vteps.by_address(vtep);
        let now = id.and_then(|id| sink.seen().vteps.get(id));
        if id != before || now.is_none_or(|hop| hop.paths != wanted) {
            return Err(Failure::new(format!(
                "{vtep} was {before:?}, is {id:?}: {now:?}"
            )));
        }
        // The entries still refer to the same VTEP: none of them was written.
        sink.check(self.hosts, 1, false)?;
        Ok(taken)
    }
}

impl Measure for Failover {
    fn once(&mut self) -> Result<f64, Failure> {
        cores::pin(0);
        self.runs = self.runs.wrapping_add(1);
        let (withdrawn, rerouted) = (self.withdraw()?, self.reroute()?);
        self.withdrawn.push(withdrawn);
        self.rerouted.push(rerouted);
        Ok(withdrawn.max(rerouted).as_secs_f64() * 1e3)
    }

    fn plan(&self) -> Plan {
        Plan {
            warm_ups: 1,
            repetitions: 9,
        }
    }

    fn notes(&self) -> Vec<String> {
        let longest = |all: &[Duration]| {
            all.iter()
                .max()
                .map_or(f64::NAN, |most| most.as_secs_f64() * 1e3)
        };
        let (withdrawn, rerouted) = (longest(&self.withdrawn), longest(&self.rerouted));
        vec![
            format!(
                "{} MACs of {} VTEPs; wall-clock time from the first octet of the \
                 UPDATEs that withdraw a VTEP's routes; \
                 longest {withdrawn:.1} ms",
                self.hosts.hosts, self.hosts.vteps
            ),
            format!(
                "a change of path is one write to the VTEP table, none to the MAC table; longest \
                 {rerouted:.3} ms"
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vtep_is_withdrawn_and_restored_and_another_rerouted() {
        let hosts = Hosts {
            hosts: 2000,
            vteps: 2,
        };
        let mut feed = Feed::new(hosts.hosts).unwrap();
        feed.take(&hosts.all_announced().unwrap()).unwrap();
        let (up, down) = (hosts.announced(0).unwrap(), hosts.withdrawn(0).unwrap());
        let (withdrawn, rerouted) = (Vec::new(), Vec::new());
        let mut failover = Failover {
            hosts,
            feed,
            up,
            down,
            runs: 0,
            withdrawn,
            rerouted,
        };
        for runs in 1..4 {
            assert!(failover.once().unwrap() > 0.0);
            assert_eq!(
                (failover.withdrawn.len(), failover.rerouted.len()),
                (runs, runs)
            );
        }
        // The wrong hosts are advertised again, which must be detected.
        failover.up.clear();
        assert!(failover.once().is_err());
    }
}
