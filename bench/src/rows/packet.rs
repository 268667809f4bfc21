//! Small frames through an interface with packet sockets, against one with AF_XDP sockets, on the same
//! veth.
//!
//! ```text
//! generator -> tenant's veth -> vtepd -> underlay's veth -> sink      and back
//!              packet or xdp             xdp
//!              packet                    packet or xdp
//! ```

use std::time::Duration;

use crate::row::{Bar, Effort, Failure, Measure, Plan, Spec};
use crate::tables::{LOCAL, TENANT, UNDERLAY, VNI};
use crate::testbed::program::Daemon;
use crate::testbed::topology::{self, Direction, REMOTE};
use crate::testbed::trial::{Counted, ExpectedFrame, FORWARDER_CORE, GENERATOR_CORE, LinkTest};

/// From the tenant. `auto` chooses `packet` on veth, which may cost a fifth of the frames.
pub const RATIO: Spec = Spec {
    name: "packet-ratio",
    measures: "60 B frames from a tenant's veth into VXLAN, io = \"packet\" / io = \"xdp\"",
    unit: "x",
    bar: Bar::AtLeast(0.8),
    open: |effort| Ok(Box::new(Kinds::open(effort, Side::Tenant, Direction::Out)?)),
};

/// To the tenant.
pub const RATIO_DECAP: Spec = Spec {
    name: "packet-ratio-decap",
    measures: "60 B frames out of VXLAN to a tenant's veth, io = \"packet\" / io = \"xdp\"",
    unit: "x",
    bar: Bar::AtLeast(0.8),
    open: |effort| Ok(Box::new(Kinds::open(effort, Side::Tenant, Direction::In)?)),
};

/// From the tenant, by the underlay.
pub const UNDERLAY_RATIO: Spec = Spec {
    name: "underlay-ratio",
    measures: "60 B frames from a tenant's veth into VXLAN, underlay-io = \"packet\" / \"xdp\"",
    unit: "x",
    bar: Bar::AtLeast(0.8),
    open: |effort| {
        Ok(Box::new(Kinds::open(
            effort,
            Side::Underlay,
            Direction::Out,
        )?))
    },
};

/// To the tenant, by the underlay.
pub const UNDERLAY_RATIO_DECAP: Spec = Spec {
    name: "underlay-ratio-decap",
    measures: "60 B frames out of VXLAN to a tenant's veth, underlay-io = \"packet\" / \"xdp\"",
    unit: "x",
    bar: Bar::AtLeast(0.8),
    open: |effort| {
        Ok(Box::new(Kinds::open(
            effort,
            Side::Underlay,
            Direction::In,
        )?))
    },
};

/// Which interface is of the one kind or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Tenant,
    Underlay,
}

/// Ethernet's shortest frame, without the frame check sequence. Bytes.
const SIZE: usize = 60;

/// The two kinds, in the order in which they are measured.
const KINDS: [&str; 2] = ["packet", "xdp"];

struct Kinds {
    link_test: LinkTest,
    side: Side,
    effort: Effort,
    last: String,
}

/// The daemon on the topology of a test, with these values of `io` and `underlay-io`.
pub(super) fn daemon(
    link_test: &LinkTest,
    (port_io, underlay_io): (&str, &str),
) -> Result<Daemon, Failure> {
    let (from, to) = (topology::source()?, topology::destination()?);
    let config = format!(
        "[vtep]\naddress = \"{LOCAL}\"\nunderlay = [\"{UNDERLAY}\"]\ncores = [{FORWARDER_CORE}]\n\
         underlay-io = \"{underlay_io}\"\n[[vni]]\nid = {VNI}\nflood = [\"{REMOTE}\"]\n\
         [[vni.port]]\ninterface = \"{TENANT}\"\nio = \"{port_io}\"\nmacs = [\"{from}\"]\n\
         [[vni.fdb]]\nmac = \"{to}\"\nvtep = \"{REMOTE}\"\n"
    );
    Daemon::start(&link_test.topology.forwarder, &config)
}

impl Side {
    /// The kinds of port and underlay when this interface is of kind `io`.
    fn kinds(self, io: &str) -> (&str, &str) {
        match self {
            Self::Tenant => (io, "xdp"),
            Self::Underlay => ("packet", io),
        }
    }
}

impl Kinds {
    fn open(effort: Effort, side: Side, direction: Direction) -> Result<Self, Failure> {
        let (name, expected) = match (side, direction) {
            (Side::Tenant, Direction::Out) => ("kinds", ExpectedFrame::Vxlan),
            (Side::Tenant, Direction::In) => ("kinds-in", ExpectedFrame::Plain),
            (Side::Underlay, Direction::Out) => ("underlays", ExpectedFrame::Vxlan),
            (Side::Underlay, Direction::In) => ("underlays-in", ExpectedFrame::Plain),
        };
        let mut link_test = LinkTest::new(name, SIZE, direction)?;
        for io in KINDS {
            let _running = daemon(&link_test, side.kinds(io))?;
            link_test.check(expected)?;
        }
        Ok(Self {
            link_test,
            side,
            effort,
            last: String::new(),
        })
    }

    fn measure(&self, io: &str) -> Result<Counted, Failure> {
        let window = self
            .effort
            .pick(Duration::from_millis(500), Duration::from_secs(2));
        let _running = daemon(&self.link_test, self.side.kinds(io))?;
        self.link_test.measure(window)
    }
}

impl Measure for Kinds {
    fn once(&mut self) -> Result<f64, Failure> {
        let [packet, xdp] = KINDS.map(|io| self.measure(io));
        let (packet, xdp) = (packet?, xdp?);
        let text = |counted: &Counted| {
            let [arrived, offered] = [counted.arrived, counted.offered].map(|rate| rate / 1e3);
            format!("{arrived:.0} k/s of {offered:.0} k/s")
        };
        self.last = format!("last: packet {}, xdp {}", text(&packet), text(&xdp));
        Ok(packet.arrived / xdp.arrived)
    }

    fn plan(&self) -> Plan {
        Plan {
            warm_ups: self.effort.pick(0, 1),
            repetitions: self.effort.pick(1, 5),
        }
    }

    fn notes(&self) -> Vec<String> {
        vec![
            self.last.clone(),
            format!(
                "generator and sink on core {GENERATOR_CORE}, vtepd on core {FORWARDER_CORE}; every \
                 byte of 256 frames is checked first, of both kinds; bounded by the kernel"
            ),
        ]
    }
}
