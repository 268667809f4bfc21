//! The longest turn of the control thread, of the daemon itself with all that its neighbors,
//! clients and operator can do at once.
//!
//! ```text
//! sender    1 M routes, then some of them again and again --TCP--+
//! blocked   reads nothing, while all originated routes wait -----+
//! clients   four, all tables with full pages, 16 requests ahead -+--> Daemon: wait, turn
//! operator  VNIs with hosts deleted and added again -------------+
//! scrapes   /metrics, twice a second ----------------------------+
//! ```

mod clients;
mod neighbors;
mod site;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use vtep_control::config;
use vtep_control::daemon::{self, Daemon};
use vtep_control::iteration::{IterationPart, IterationTimes};

use self::site::Site;
use crate::row::{Bar, Effort, Failure, Measure, Plan, Spec};

/// The daemon's control thread.
pub const TURN: Spec = Spec {
    name: "control-turn",
    measures: "longest turn of the control thread: 1,000 ports, 10,000 VNIs, 1 M routes, a peer that \
               does not read, four clients that ask for everything",
    unit: "ms",
    bar: Bar::AtMost(50.0),
    open: |effort| Ok(Box::new(Longest::open(effort))),
};

/// How much there is of everything.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// Tenant interfaces, each with [`Self::vlans`] ports.
    interfaces: usize,
    vlans: usize,
    /// Hosts of each port, in the configuration.
    hosts: usize,
    /// Links that are not used.
    other_links: usize,
    vnis: usize,
    /// Type 2 routes of each VNI.
    routes: usize,
    /// How long everything happens at once, after the routes were loaded.
    window: Duration,
}

impl Scale {
    fn of(effort: Effort) -> Self {
        effort.pick(
            Self {
                interfaces: 4,
                vlans: 10,
                hosts: 20,
                other_links: 20,
                vnis: 200,
                routes: 20,
                window: Duration::from_secs(3),
            },
            Self {
                interfaces: 100,
                vlans: 10,
                hosts: 100,
                other_links: 1800,
                vnis: 10_000,
                routes: 100,
                window: Duration::from_secs(20),
            },
        )
    }
}

/// Time limit for loading the routes.
const PATIENCE: Duration = Duration::from_secs(300);

/// What happens at the moment.
const PHASES: [&str; 2] = ["while the routes are loaded", "afterwards"];

/// What the threads share.
#[derive(Debug, Default)]
struct Common {
    phase: AtomicUsize,
    done: AtomicBool,
}

/// Time that a thread was runnable but did not run, nanoseconds: the second figure of
/// /proc/thread-self/schedstat (Documentation/scheduler/sched-stats.rst). Other programs of a
/// shared machine cause it, not the work of the thread.
struct RunQueue(File);

impl RunQueue {
    fn open() -> Result<Self, Failure> {
        let path = "/proc/thread-self/schedstat";
        File::open(path).map(Self).map_err(Failure::of(path))
    }

    fn waited(&self) -> io::Result<Duration> {
        let mut text = [0; 64];
        let length = self.0.read_at(&mut text, 0)?;
        let text = String::from_utf8_lossy(&text[..length]);
        let figure = text
            .split_whitespace()
            .nth(1)
            .and_then(|figure| figure.parse().ok());
        Ok(Duration::from_nanos(figure.unwrap_or(0)))
    }
}

/// One iteration of the loop: a turn.
#[derive(Debug, Default, Clone, Copy)]
struct Iteration {
    /// How long it took, without the time that other programs had the core.
    took: Duration,
    times: IterationTimes,
}

impl fmt::Display for Iteration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.times.total();
        write!(f, "{:.1} ms", ms(self.took))?;
        write!(f, " (all {:.1}, CPU {:.1};", ms(total.wall), ms(total.cpu))?;
        for (part, spent) in IterationPart::ALL.into_iter().zip(self.times.parts) {
            let (wall, cpu) = (ms(spent.wall), ms(spent.cpu));
            write!(f, " {} {wall:.1}, CPU {cpu:.1};", part.word())?;
        }
        write!(f, ")")
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The turns of all phases.
#[derive(Debug, Default, Clone, Copy)]
struct Iterations {
    longest: [Iteration; PHASES.len()],
    count: [u64; PHASES.len()],
    wall: Duration,
    /// The longest CPU time of each part, in each phase.
    parts: [[Duration; IterationPart::ALL.len()]; PHASES.len()],
}

/// Runs the daemon until the phases are over.
fn serve(site: &Site, common: &Common) -> Result<Iterations, Failure> {
    let loaded = config::load(site.config()).map_err(|error| Failure::new(error.to_string()))?;
    daemon::lift_limits();
    let mut daemon =
        Daemon::start(&loaded.config, site.config()).map_err(Failure::of("starting the daemon"))?;
    let queue = RunQueue::open()?;
    let mut turns = Iterations::default();
    while !common.done.load(Relaxed) {
        daemon.wait().map_err(Failure::of("the daemon"))?;
        let phase = common.phase.load(Relaxed);
        let before = queue.waited().map_err(Failure::of("schedstat"))?;
        let start = Instant::now();
        let ended = daemon.turn();
        let wall = start.elapsed();
        let waited = queue.waited().map_err(Failure::of("schedstat"))?;
        let took = wall.saturating_sub(waited.saturating_sub(before));
        let times = *daemon.last_turn();
        if took > turns.longest[phase].took {
            turns.longest[phase] = Iteration { took, times };
        }
        turns.count[phase] += 1;
        turns.wall = turns.wall.max(wall);
        for (longest, spent) in turns.parts[phase].iter_mut().zip(times.parts) {
            *longest = spent.cpu.max(*longest);
        }
        if ended {
            return Err(Failure::new("interrupted"));
        }
    }
    daemon.stop().map_err(Failure::of("the daemon"))?;
    Ok(turns)
}

struct Longest {
    scale: Scale,
    notes: Vec<String>,
}

impl Longest {
    fn open(effort: Effort) -> Self {
        Self {
            scale: Scale::of(effort),
            notes: Vec::new(),
        }
    }

    /// Everything but the daemon: the phases, one after the other.
    fn drive(&self, site: &Site, common: &Common) -> Result<clients::Answered, Failure> {
        let scale = self.scale;
        clients::wait_ready(site)?;
        thread::scope(|scope| {
            let ending = &common.done;
            let sender = scope.spawn(|| site.within(|| neighbors::send(scale, ending)));
            let blocked = scope.spawn(|| site.within(|| neighbors::block(ending)));
            let clients: Vec<_> = (0..4)
                .map(|place| scope.spawn(move || clients::ask_for_everything(site, place, ending)))
                .collect();
            let operator = scope.spawn(|| clients::operate(site, scale, ending));
            let scrapes = scope.spawn(|| site.within(|| clients::scrape(ending)));
            let loaded = clients::wait_loaded(site, scale, PATIENCE, || {
                sender.is_finished() || blocked.is_finished()
            });
            common.phase.store(1, Relaxed);
            if loaded.is_ok() {
                thread::sleep(scale.window);
            }
            common.done.store(true, Relaxed);
            let panicked = |_| Failure::new("a thread of the bench panicked");
            let mut answered = clients::Answered::default();
            for client in clients {
                answered.add(client.join().map_err(panicked)??);
            }
            answered.changes = operator.join().map_err(panicked)??;
            scrapes.join().map_err(panicked)??;
            sender.join().map_err(panicked)??;
            blocked.join().map_err(panicked)??;
            loaded.map(|()| answered)
        })
    }
}

impl Measure for Longest {
    fn once(&mut self) -> Result<f64, Failure> {
        let (site, common) = (Site::new(self.scale)?, Common::default());
        let (turns, answered) = thread::scope(|scope| {
            let serving = scope.spawn(|| {
                let served = site.within(|| serve(&site, &common));
                common.done.store(true, Relaxed);
                served
            });
            let driven = self.drive(&site, &common);
            common.done.store(true, Relaxed);
            let served = serving
                .join()
                .unwrap_or_else(|_| Err(Failure::new("the daemon panicked")))?;
            Ok((served, driven?))
        })?;
        let longest = turns.longest.iter().zip(turns.count);
        self.notes = PHASES
            .iter()
            .zip(longest)
            .map(|(phase, (longest, count))| format!("last {phase}: {longest}, of {count} turns"))
            .collect();
        self.notes.push(format!(
            "last with the time that other programs had the core: {:.1} ms; {answered}",
            ms(turns.wall)
        ));
        for (phase, parts) in PHASES.iter().zip(turns.parts) {
            let parts = IterationPart::ALL.into_iter().zip(parts);
            let parts: Vec<_> = parts
                .map(|(part, cpu)| format!("{} {:.1}", part.word(), ms(cpu)))
                .collect();
            let parts = parts.join(", ");
            self.notes
                .push(format!("longest parts {phase}, CPU time in ms: {parts}"));
        }
        let longest = turns.longest.iter().map(|turn| turn.took).max();
        Ok(ms(longest.unwrap_or_default()))
    }

    fn plan(&self) -> Plan {
        Plan {
            warm_ups: 0,
            repetitions: 3,
        }
    }

    fn notes(&self) -> Vec<String> {
        let Scale {
            interfaces,
            vlans,
            hosts,
            other_links,
            vnis,
            routes,
            ..
        } = self.scale;
        let mut notes = self.notes.clone();
        notes.push(format!(
            "{interfaces} trunks with {vlans} ports of {hosts} hosts each, {other_links} other links, \
             {vnis} VNIs, {} type 2 routes, a tenth with an address",
            vnis * routes
        ));
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_happens_at_once() {
        let mut row = Longest::open(Effort::Quick);
        assert!(row.once().unwrap() > 0.0);
        assert!(row.notes()[1].contains("afterwards"), "{:?}", row.notes());
    }
}
