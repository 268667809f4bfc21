//! A trial: the generator runs at full speed, and the kernel counts the frames that reach the sink.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vtep_bpf::generate::Generator;
use vtep_dataplane::afxdp::Program;
use vtep_dataplane::frame::BURST;

use super::link::{Link, send_only};
use super::net::{Namespace, pin_receivers};
use super::topology::{self, Direction, GENERATOR, SINK, Topology};
use crate::cores::pin;
use crate::row::Failure;
use crate::tables::{LOCAL, TENANT, VNI};
use crate::traffic::check::{Outer, check};
use crate::traffic::generate::{self, Pace, Sent};
use crate::traffic::sink::{self, Received};
use crate::traffic::template::Template;

/// Time for rings, caches and the core's clock to settle before counting starts.
const SETTLE: Duration = Duration::from_millis(300);

/// Frames that are compared byte by byte before anything is measured.
const CHECKED: u64 = 256;

/// Frames that are sent one at a time.
const LONE: u64 = 20;

/// The core of the generator, and by default of the sink. The receive path of the forwarder's
/// interface runs there as well.
pub const GENERATOR_CORE: usize = 0;
/// The core of the forwarder, vtepd or the kernel.
pub const FORWARDER_CORE: usize = 1;

/// What one trial counted.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// Frames per second that the generator sent.
    pub offered: f64,
    /// Frames per second that reached the sink.
    pub arrived: f64,
}

/// What frames must be at the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedFrame {
    /// Identical to what was sent.
    Plain,
    /// Encapsulated in VXLAN with the topology's VNI.
    Vxlan,
}

/// A topology whose sink has an AF_XDP socket. The socket is read when frames are checked;
/// otherwise its ring is full, so that the XDP program drops frames at minimal cost, the same for
/// every forwarder.
#[derive(Debug)]
pub struct LinkTest {
    /// The links.
    pub topology: Topology,
    sink: Link,
    /// The NAPI threads of the sink.
    receivers: Vec<i32>,
    size: usize,
    direction: Direction,
}

impl LinkTest {
    /// Creates a topology for inner frames of `size` bytes; `name` distinguishes those of one
    /// process.
    ///
    /// # Errors
    /// [`Failure`] if links or sockets can't be created.
    pub fn new(name: &str, size: usize, direction: Direction) -> Result<Self, Failure> {
        let topology = Topology::new(name)?;
        let (namespace, interface) = ends(&topology, direction)[1];
        let sink = namespace.within(|| Link::open(&[(interface, Program::Tenant)], 0))?;
        // Otherwise the sink's work would run in the context of its sender, and be measured with
        // it.
        let receivers = namespace.receive_on(interface, Some(GENERATOR_CORE))?;
        Ok(Self {
            topology,
            sink,
            receivers,
            size,
            direction,
        })
    }

    /// Makes the sink receive on `core` from now on; initially it is [`GENERATOR_CORE`].
    ///
    /// # Errors
    /// [`Failure`] if its threads have ended.
    pub fn sink_on(&self, core: usize) -> Result<(), Failure> {
        pin_receivers(&self.receivers, core)
    }

    /// Sends frames slowly and compares each one that arrives with what it must be.
    ///
    /// # Errors
    /// [`Failure`] with the first wrong frame, or the number of missing ones.
    pub fn check(&mut self, expected: ExpectedFrame) -> Result<(), Failure> {
        self.check_some(expected, CHECKED)
    }

    /// Sends frames one at a time, each after the previous one has arrived: none may wait for
    /// others to fill a batch.
    ///
    /// # Errors
    /// [`Failure`] with the first wrong frame, or if one did not arrive within 3 s.
    pub fn check_lone(&mut self, expected: ExpectedFrame) -> Result<(), Failure> {
        (0..LONE).try_for_each(|_| self.check_some(expected, 1))
    }

    fn check_some(&mut self, expected: ExpectedFrame, count: u64) -> Result<(), Failure> {
        let template = Template::new(&topology::shape(self.size, self.direction)?)?;
        let direction = self.direction;
        let ((forwarder, remote), (local, far)) = (
            topology::underlay_macs()?,
            (LOCAL.into(), topology::REMOTE.into()),
        );
        let (macs, addresses) = match direction {
            Direction::Out => ((forwarder, remote), (local, far)),
            Direction::In => ((remote, forwarder), (far, local)),
        };
        let outer = (expected == ExpectedFrame::Vxlan).then_some(Outer {
            macs,
            addresses,
            vni: VNI,
        });
        let Self { topology, sink, .. } = self;
        let mut burst = Vec::with_capacity(BURST);
        // The first call fills the fill ring; frames from before the check are discarded.
        while sink::receive(&mut sink.pool, &mut sink.ports[0], &mut burst, |_, _| ()) > 0 {}
        let never = AtomicBool::new(false);
        let pace = Pace {
            rate: Some(5000),
            count: Some(count),
            duration: None,
        };
        thread::scope(|scope| {
            let sending =
                scope.spawn(|| send(topology, direction, template.clone(), &pace, &never));
            let (mut right, mut wrong) = (0, None);
            let start = Instant::now();
            while right < count && wrong.is_none() && start.elapsed() < Duration::from_secs(3) {
                sink::receive(
                    &mut sink.pool,
                    &mut sink.ports[0],
                    &mut burst,
                    |frame, _| match check(frame, &template, outer.as_ref()) {
                        Ok(()) => right += 1,
                        Err(why) => wrong = wrong.take().or(Some(why)),
                    },
                );
                thread::yield_now();
            }
            sending
                .join()
                .unwrap_or_else(|_| Err(Failure::new("the generator panicked")))?;
            match wrong {
                Some(why) => Err(why),
                None if right < count => Err(Failure::new(format!(
                    "{right} of {count} frames were forwarded"
                ))),
                None => Ok(()),
            }
        })
    }

    /// Sends at full speed, and counts for `window`.
    ///
    /// # Errors
    /// [`Failure`] if the generator can't send.
    pub fn measure(&self, window: Duration) -> Result<Counted, Failure> {
        let template = Template::new(&topology::shape(self.size, self.direction)?)?;
        let (topology, direction, stop) = (&self.topology, self.direction, AtomicBool::new(false));
        thread::scope(|scope| {
            let sending = scope.spawn(|| flood(topology, direction, template, &stop));
            thread::sleep(SETTLE);
            let counted = self.count(window);
            stop.store(true, Relaxed);
            let offered = sending
                .join()
                .unwrap_or_else(|_| Err(Failure::new("the generator panicked")))?;
            Ok(Counted {
                offered,
                arrived: counted?,
            })
        })
    }

    /// Sends `rate` frames per second for `window`, and measures the latency of each to the sink.
    ///
    /// # Errors
    /// [`Failure`] if the generator can't send.
    pub fn time(&mut self, rate: u64, window: Duration) -> Result<Received, Failure> {
        let Self {
            topology,
            sink,
            size,
            direction,
            ..
        } = self;
        time(topology, sink, (*size, *direction), rate, window)
    }

    /// As [`LinkTest::time`], with a sink at the forwarder's interface: a single link without a
    /// forwarder.
    ///
    /// # Errors
    /// [`Failure`] if a socket can't be created, or the generator can't send.
    pub fn time_link(&self, rate: u64, window: Duration) -> Result<Received, Failure> {
        let mut near = self
            .topology
            .forwarder
            .within(|| Link::open(&[(TENANT, Program::Tenant)], 0))?;
        time(
            &self.topology,
            &mut near,
            (self.size, self.direction),
            rate,
            window,
        )
    }

    /// Frames that have reached the sink since it was created.
    ///
    /// # Errors
    /// [`Failure`] if the sink's interface does not exist any more.
    pub fn arrived(&self) -> Result<u64, Failure> {
        let (namespace, interface) = ends(&self.topology, self.direction)[1];
        namespace.received(interface)
    }

    fn count(&self, window: Duration) -> Result<f64, Failure> {
        let (before, start) = (self.arrived()?, Instant::now());
        thread::sleep(window);
        let (after, elapsed) = (self.arrived()?, start.elapsed());
        Ok((after - before) as f64 / elapsed.as_secs_f64())
    }
}

/// The first and the last interface on the path of the frames.
fn ends(topology: &Topology, direction: Direction) -> [(&Namespace, &'static str); 2] {
    let (tenant, remote) = ((&topology.generator, GENERATOR), (&topology.sink, SINK));
    match direction {
        Direction::Out => [tenant, remote],
        Direction::In => [remote, tenant],
    }
}

fn send(
    topology: &Topology,
    direction: Direction,
    mut template: Template,
    pace: &Pace,
    stop: &AtomicBool,
) -> Result<Sent, Failure> {
    let (namespace, interface) = ends(topology, direction)[0];
    namespace.within(|| {
        pin(GENERATOR_CORE);
        let mut link = Link::open(&[(interface, send_only())], 0)?;
        generate::run(
            &mut link.pool,
            &mut link.ports[0],
            &mut template,
            pace,
            stop,
        )
    })
}

/// How long the sink continues to receive after the generator has ended.
const LATE: Duration = Duration::from_millis(100);

/// Measures the latency of frames from the generator to `sink`, which sleeps until they arrive.
fn time(
    topology: &Topology,
    sink: &mut Link,
    (size, direction): (usize, Direction),
    rate: u64,
    window: Duration,
) -> Result<Received, Failure> {
    let template = Template::new(&topology::shape(size, direction)?)?;
    let pace = Pace {
        rate: Some(rate),
        count: None,
        duration: Some(window),
    };
    let never = AtomicBool::new(false);
    let mut burst = Vec::with_capacity(BURST);
    while sink::receive(&mut sink.pool, &mut sink.ports[0], &mut burst, |_, _| ()) > 0 {}
    let mut received = Received::default();
    thread::scope(|scope| {
        let sending = scope.spawn(|| send(topology, direction, template, &pace, &never));
        let mut ended: Option<Instant> = None;
        while ended.is_none_or(|ended| ended.elapsed() < LATE) {
            let count = |frame: &[u8], now| received.count(frame, now);
            if sink::receive(&mut sink.pool, &mut sink.ports[0], &mut burst, count) == 0 {
                let socket = sink.ports[0].as_fd();
                // An interrupted sleep is a short one.
                let _ = poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&NAP));
            }
            if ended.is_none() && sending.is_finished() {
                ended = Some(Instant::now());
            }
        }
        sending
            .join()
            .unwrap_or_else(|_| Err(Failure::new("the generator panicked")))
    })?;
    Ok(received)
}

/// The longest sleep of a sink.
const NAP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// The index of an interface in the caller's namespace.
fn index(interface: &str) -> Result<u32, Failure> {
    let any = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )
    .map_err(Failure::of("socket"))?;
    rustix::net::netdevice::name_to_index(any, interface).map_err(Failure::of(interface))
}

/// Frames per call of the kernel's generator: about a second. Many, since the kernel patches its
/// code before and after each call and waits about 10 ms until all cores see it
/// (kernel/bpf/dispatcher.c).
const CALL: u32 = 1_000_000;

/// Sends as fast as the kernel can, without an skb, until `stop` is set; returns frames per second.
/// The kernel runs its receive path after every 64 frames, so a core at its limit loses no frames,
/// but slows the generator down.
fn flood(
    topology: &Topology,
    direction: Direction,
    mut template: Template,
    stop: &AtomicBool,
) -> Result<f64, Failure> {
    let (namespace, interface) = ends(topology, direction)[0];
    let mut frame = vec![0; template.size()];
    template.write(&mut frame, 0);
    namespace.within(|| {
        pin(GENERATOR_CORE);
        let generating = || Failure::of("the kernel's generator");
        let mut generator = Generator::load(direction == Direction::In).map_err(generating())?;
        let index = index(interface)?;
        let (start, mut sent) = (Instant::now(), 0);
        while !stop.load(Relaxed) {
            generator.send(index, &frame, CALL).map_err(generating())?;
            sent += u64::from(CALL);
        }
        Ok(sent as f64 / start.elapsed().as_secs_f64())
    })
}

#[cfg(test)]
mod tests {
    use super::super::forwarder::{Forwarder, Work};
    use super::*;

    #[test]
    fn plain_and_encapsulated_frames_are_distinguished() {
        let mut link_test = LinkTest::new("trial", 60, Direction::Out).unwrap();
        let missing = link_test
            .check(ExpectedFrame::Plain)
            .unwrap_err()
            .to_string();
        assert!(missing.starts_with("0 of 256 frames"), "{missing}");
        let bare = Forwarder::start(&link_test.topology, Work::Bare, 1).unwrap();
        link_test.check(ExpectedFrame::Plain).unwrap();
        assert!(link_test.check(ExpectedFrame::Vxlan).is_err());
        drop(bare);
        let _vxlan = Forwarder::start(&link_test.topology, Work::Vxlan, 1).unwrap();
        link_test.check(ExpectedFrame::Vxlan).unwrap();
    }

    #[test]
    fn vxlan_packets_are_decapsulated() {
        let mut link_test = LinkTest::new("trial-in", 60, Direction::In).unwrap();
        let bare = Forwarder::start(&link_test.topology, Work::Bare, 1).unwrap();
        link_test.check(ExpectedFrame::Vxlan).unwrap();
        drop(bare);
        let _vxlan = Forwarder::start(&link_test.topology, Work::Vxlan, 1).unwrap();
        link_test.check(ExpectedFrame::Plain).unwrap();
    }
}
