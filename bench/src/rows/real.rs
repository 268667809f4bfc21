//! Rows over real links: VXLAN forwarding against a bare AF_XDP forwarder, and against Linux.

use std::time::Duration;

use super::packet::daemon;
use crate::row::{Bar, Effort, Failure, Measure, Plan, Spec};
use crate::testbed::forwarder::{Forwarder, Work};
use crate::testbed::topology::{Direction, Steering};
use crate::testbed::trial::{Counted, ExpectedFrame, FORWARDER_CORE, GENERATOR_CORE, LinkTest};

/// Compared with bare AF_XDP.
pub const XSK: Spec = Spec {
    name: "xsk-ratio",
    measures: "VXLAN encapsulation over AF_XDP on veth / bare AF_XDP rx -> tx on the same link, 60 \
               B frames",
    unit: "x",
    bar: Bar::AtLeast(0.95),
    open: |effort| Ok(Box::new(Xsk::open(effort, Direction::Out)?)),
};

/// The same in the reverse direction.
pub const XSK_DECAP: Spec = Spec {
    name: "xsk-ratio-decap",
    measures: "VXLAN decapsulation over AF_XDP on veth / bare AF_XDP rx -> tx of the same packets, \
               60 B inner frames",
    unit: "x",
    bar: Bar::AtLeast(0.95),
    open: |effort| Ok(Box::new(Xsk::open(effort, Direction::In)?)),
};

/// Compared with the kernel.
pub const KERNEL: Spec = Spec {
    name: "kernel-ratio",
    measures: "VXLAN encapsulation over AF_XDP on veth / Linux bridge + vxlan, same topology, 60 B \
               frames",
    unit: "x",
    bar: Bar::AtLeast(2.0),
    open: |effort| Ok(Box::new(Kernel::open(effort, Ours::AfXdp)?)),
};

/// The daemon as it is without a setting: on veth it has packet sockets.
pub const KERNEL_DEFAULT: Spec = Spec {
    name: "kernel-ratio-default",
    measures: "the same by vtepd with io = \"auto\" and underlay-io = \"auto\" / Linux bridge + vxlan",
    unit: "x",
    bar: Bar::Report,
    open: |effort| Ok(Box::new(Kernel::open(effort, Ours::Daemon)?)),
};

/// What Linux is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ours {
    /// The daemon's worker over AF_XDP, in this process.
    AfXdp,
    /// The daemon.
    Daemon,
}

/// Ethernet's shortest frame, without the frame check sequence. Bytes.
const SIZE: usize = 60;

fn window(effort: Effort) -> Duration {
    effort.pick(Duration::from_millis(500), Duration::from_secs(2))
}

fn plan(effort: Effort) -> Plan {
    Plan {
        warm_ups: effort.pick(0, 1),
        repetitions: effort.pick(1, 5),
    }
}

/// Frames per second, in thousands.
fn thousands(rate: f64) -> String {
    format!("{:.0} k/s", rate / 1e3)
}

/// A trial with an AF_XDP forwarder.
struct Trial {
    counted: Counted,
    /// CPU time of its thread per frame that arrived, nanoseconds: in user space and in the kernel.
    user_ns: f64,
    kernel_ns: f64,
    modes: String,
}

impl Trial {
    fn run(link_test: &LinkTest, work: Work, window: Duration) -> Result<Self, Failure> {
        let forwarder = Forwarder::start(&link_test.topology, work, FORWARDER_CORE)?;
        let (before, arrived) = (forwarder.spent()?, link_test.arrived()?);
        let counted = link_test.measure(window)?;
        let (spent, frames) = (
            forwarder.spent()?.since(before),
            link_test.arrived()? - arrived,
        );
        let cost = |time: Duration| time.as_nanos() as f64 / frames as f64;
        let modes = forwarder.modes().join("; ");
        Ok(Self {
            counted,
            user_ns: cost(spent.user),
            kernel_ns: cost(spent.kernel),
            modes,
        })
    }
}

impl std::fmt::Display for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            counted,
            user_ns,
            kernel_ns,
            ..
        } = self;
        let (arrived, offered) = (thousands(counted.arrived), thousands(counted.offered));
        write!(
            f,
            "{arrived} (offered {offered}; {user_ns:.0} ns user + {kernel_ns:.0} ns kernel per \
             frame)"
        )
    }
}

fn cores() -> String {
    format!(
        "the kernel's generator, the forwarder's receive softirq and the sink's thread on core \
         {GENERATOR_CORE}; \
         forwarder (user, kernel's transmit) on core {FORWARDER_CORE}"
    )
}

struct Xsk {
    link_test: LinkTest,
    effort: Effort,
    last: String,
}

impl Xsk {
    fn open(effort: Effort, direction: Direction) -> Result<Self, Failure> {
        let (mut link_test, bare, vxlan) = match direction {
            Direction::Out => (
                LinkTest::new("xsk", SIZE, direction)?,
                ExpectedFrame::Plain,
                ExpectedFrame::Vxlan,
            ),
            Direction::In => (
                LinkTest::new("xsk-in", SIZE, direction)?,
                ExpectedFrame::Vxlan,
                ExpectedFrame::Plain,
            ),
        };
        for (work, arrive) in [(Work::Bare, bare), (Work::Vxlan, vxlan)] {
            let _running = Forwarder::start(&link_test.topology, work, FORWARDER_CORE)?;
            link_test.check(arrive)?;
        }
        Ok(Self {
            link_test,
            effort,
            last: String::new(),
        })
    }
}

impl Measure for Xsk {
    fn once(&mut self) -> Result<f64, Failure> {
        let window = window(self.effort);
        let bare = Trial::run(&self.link_test, Work::Bare, window)?;
        let vxlan = Trial::run(&self.link_test, Work::Vxlan, window)?;
        self.last = format!("last: bare {bare}, VXLAN {vxlan}; {}", vxlan.modes);
        Ok(vxlan.counted.arrived / bare.counted.arrived)
    }

    fn plan(&self) -> Plan {
        plan(self.effort)
    }

    fn notes(&self) -> Vec<String> {
        vec![
            self.last.clone(),
            cores(),
            "every byte of 256 frames is checked first; bounded by the kernel's veth and copy-mode \
             paths"
                .to_owned(),
        ]
    }
}

struct Kernel {
    linux: LinkTest,
    link_test: LinkTest,
    ours: Ours,
    effort: Effort,
    last: String,
}

impl Kernel {
    fn open(effort: Effort, ours: Ours) -> Result<Self, Failure> {
        let mut linux = LinkTest::new("linux", SIZE, Direction::Out)?;
        linux.topology.add_kernel_vtep()?;
        linux.check(ExpectedFrame::Vxlan)?;
        let mut link_test = LinkTest::new("ours", SIZE, Direction::Out)?;
        match ours {
            Ours::AfXdp => {
                let _running = Forwarder::start(&link_test.topology, Work::Vxlan, FORWARDER_CORE)?;
                link_test.check(ExpectedFrame::Vxlan)?;
            }
            Ours::Daemon => {
                let _running = daemon(&link_test, DEFAULT)?;
                link_test.check(ExpectedFrame::Vxlan)?;
            }
        }
        Ok(Self {
            linux,
            link_test,
            ours,
            effort,
            last: String::new(),
        })
    }
}

/// The cores that the sink is tried on. Each forwarder is measured with the better one, since two
/// cores do all the work for a frame.
const SINK_CORES: [usize; 2] = [GENERATOR_CORE, FORWARDER_CORE];

impl Kernel {
    /// The best of Linux: frames per second by steering, for the better core of the sink.
    fn best_of_linux(&self) -> Result<[f64; 3], Failure> {
        let mut best = [0.0f64; 3];
        let ways = [
            Steering::Inline,
            Steering::Rps(FORWARDER_CORE),
            Steering::Thread(FORWARDER_CORE),
        ];
        for (best, steering) in best.iter_mut().zip(ways) {
            self.linux.topology.steer_kernel(steering)?;
            for core in SINK_CORES {
                self.linux.sink_on(core)?;
                *best = best.max(self.linux.measure(window(self.effort))?.arrived);
            }
        }
        self.linux.topology.steer_kernel(Steering::Inline)?;
        Ok(best)
    }

    /// One trial of vtepd: frames per second that arrived, and a description.
    fn trial(&self) -> Result<(f64, String), Failure> {
        let window = window(self.effort);
        match self.ours {
            Ours::AfXdp => {
                let trial = Trial::run(&self.link_test, Work::Vxlan, window)?;
                Ok((trial.counted.arrived, trial.to_string()))
            }
            Ours::Daemon => {
                let _running = daemon(&self.link_test, DEFAULT)?;
                let Counted { arrived, offered } = self.link_test.measure(window)?;
                let [shown, offered] = [arrived, offered].map(thousands);
                Ok((arrived, format!("{shown} (offered {offered})")))
            }
        }
    }

    /// The best of vtepd, what it did, and the core of the sink.
    fn best_of_vtepd(&self) -> Result<(f64, String, usize), Failure> {
        let mut best = (0.0, String::new(), 0);
        for core in SINK_CORES {
            self.link_test.sink_on(core)?;
            let (arrived, shown) = self.trial()?;
            if arrived > best.0 {
                best = (arrived, shown, core);
            }
        }
        Ok(best)
    }
}

/// The values of `io` and `underlay-io` without a setting.
const DEFAULT: (&str, &str) = ("auto", "auto");

impl Measure for Kernel {
    fn once(&mut self) -> Result<f64, Failure> {
        let linux = self.best_of_linux()?;
        let (arrived, ours, sink) = self.best_of_vtepd()?;
        let [inline, steered, threaded] = linux.map(thousands);
        self.last = format!(
            "last: vtepd {ours}, sink on core {sink}; Linux {inline} on the generator's core, \
             {steered} steered to the \
             forwarder's core (RPS), {threaded} on it by threaded NAPI: the best counts",
        );
        Ok(arrived / linux.into_iter().fold(0.0, f64::max))
    }

    fn plan(&self) -> Plan {
        plan(self.effort)
    }

    fn notes(&self) -> Vec<String> {
        vec![
            self.last.clone(),
            format!(
                "{}; here the sink runs on core 0 or 1, whichever is better for each forwarder",
                cores()
            ),
            "every byte of 256 frames is checked first, of both; bounded by the kernel on both \
             sides"
                .to_owned(),
        ]
    }
}
