//! TCP between tenants that keep their offloads, through vtepd and through Linux in turn.
//!
//! ```text
//! tcp-local     both tenants at one host       Linux: a bridge
//! tcp-tunnel    two hosts                      Linux: bridge and vxlan, at both
//! tcp-mixed     vtepd at one, Linux at the other, in both directions
//! ```
//!
//! The daemon runs as it does elsewhere: a process of its own, with the configuration's defaults.

use std::time::Duration;

use crate::row::{Bar, Effort, Failure, Measure, Plan, Spec};
use crate::testbed::streams::{Rate, Route};
use crate::testbed::tenants::{Attachment, Switch, Tenants, Wire, address};

/// What is built for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Local(Attachment),
    Tunnel,
    Mixed,
}

/// What a row compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Figure {
    /// vtepd's rate by Linux'.
    Rate,
    /// vtepd's CPU time by Linux', of the same bytes.
    Cost,
}

/// A row.
macro_rules! rows {
    ($($spec:ident $name:literal $path:expr, $flows:literal, $figure:expr, $bar:expr, $measures:literal)*) => {$(
        #[doc = $measures]
        pub const $spec: Spec = Spec {
            name: $name,
            measures: $measures,
            unit: "x",
            bar: $bar,
            open: |effort| Ok(Box::new(Comparison::open($name, $path, $flows, $figure, effort)?)),
        };
    )*};
}

rows! {
    LOCAL "tcp-local" Path::Local(Attachment::Veth), 1, Figure::Rate, Bar::AtLeast(0.6),
        "TCP between two tenants of one host on veth, default offloads, vtepd / Linux bridge"
    LOCAL_4 "tcp-local-4" Path::Local(Attachment::Veth), 4, Figure::Rate, Bar::AtLeast(0.6),
        "the same with 4 connections"
    LOCAL_TAP "tcp-local-tap" Path::Local(Attachment::Tap), 1, Figure::Rate, Bar::AtLeast(0.6),
        "TCP from a tap with virtio's default offloads to veth of one host, vtepd / Linux bridge"
    LOCAL_TAP_4 "tcp-local-tap-4" Path::Local(Attachment::Tap), 4, Figure::Rate, Bar::AtLeast(0.6),
        "the same with 4 connections"
    TUNNEL "tcp-tunnel" Path::Tunnel, 1, Figure::Rate, Bar::AtLeast(1.0),
        "TCP across two hosts, vtepd / Linux bridge + vxlan, underlay without tunnel offloads"
    TUNNEL_4 "tcp-tunnel-4" Path::Tunnel, 4, Figure::Rate, Bar::AtLeast(1.0),
        "the same with 4 connections"
    MIXED "tcp-mixed" Path::Mixed, 1, Figure::Rate, Bar::AtLeast(0.8),
        "TCP from vtepd to Linux, and back, the slower / Linux at both hosts, as in tcp-tunnel"
    COST_TUNNEL "tcp-cost-tunnel" Path::Tunnel, 1, Figure::Cost, Bar::AtMost(1.0),
        "CPU time of the machine a gigabyte in tcp-tunnel, vtepd / Linux"
    COST_LOCAL "tcp-cost-local" Path::Local(Attachment::Veth), 1, Figure::Cost, Bar::AtMost(2.0),
        "CPU time of the machine a gigabyte in tcp-local, vtepd / Linux"
}

/// The same path through Linux and through vtepd, both up; only one at a time carries traffic.
struct Comparison {
    linux: Tenants,
    vtepd: Tenants,
    /// Linux at both hosts of a tunnel whose underlay takes superframes: reported beside.
    offloads: Option<Tenants>,
    /// From and to.
    directions: &'static [[usize; 2]],
    flows: usize,
    figure: Figure,
    effort: Effort,
    last: String,
}

impl Comparison {
    fn open(
        name: &str,
        path: Path,
        flows: usize,
        figure: Figure,
        effort: Effort,
    ) -> Result<Self, Failure> {
        use Switch::{Linux, Vtepd};
        let tunnel =
            |kind: &str, switches, wire| Tenants::tunnel(&format!("{name}-{kind}"), switches, wire);
        let local = |kind: &str, switch, attachment| {
            Tenants::local(&format!("{name}-{kind}"), switch, attachment)
        };
        let (linux, vtepd, offloads) = match path {
            Path::Local(attachment) => {
                let linux = local("l", Linux, attachment)?;
                (linux, local("v", Vtepd, attachment)?, None)
            }
            Path::Tunnel | Path::Mixed => {
                let other = if path == Path::Mixed { Linux } else { Vtepd };
                (
                    tunnel("l", [Linux; 2], Wire::Plain)?,
                    tunnel("v", [Vtepd, other], Wire::Plain)?,
                    Some(tunnel("o", [Linux; 2], Wire::Offloads)?),
                )
            }
        };
        let both: &[_] = &[[0, 1], [1, 0]];
        let comparison = Self {
            linux,
            vtepd,
            offloads,
            directions: if path == Path::Mixed {
                both
            } else {
                &both[..1]
            },
            flows,
            figure,
            effort,
            last: String::new(),
        };
        for direction in comparison.directions {
            for tenants in [&comparison.linux, &comparison.vtepd] {
                route(tenants, *direction, flows).check()?;
            }
        }
        Ok(comparison)
    }

    fn measure(&self, tenants: &Tenants, direction: [usize; 2]) -> Result<Rate, Failure> {
        let window = self
            .effort
            .pick(Duration::from_millis(500), Duration::from_secs(3));
        route(tenants, direction, self.flows).measure(window)
    }
}

fn route(tenants: &Tenants, [from, to]: [usize; 2], flows: usize) -> Route<'_> {
    Route {
        from: tenants.tenant(from),
        to: tenants.tenant(to),
        address: address(to),
        flows,
    }
}

impl Measure for Comparison {
    fn once(&mut self) -> Result<f64, Failure> {
        let mut figures = Vec::new();
        let mut last = Vec::new();
        for direction in self.directions {
            let linux = self.measure(&self.linux, *direction)?;
            let vtepd = self.measure(&self.vtepd, *direction)?;
            let way = match direction {
                [0, _] => "",
                _ => "back: ",
            };
            last.push(format!("{way}vtepd {vtepd}, Linux {linux}"));
            if let Some(offloads) = &self.offloads {
                let offloads = self.measure(offloads, *direction)?;
                last.push(format!(
                    "Linux with an underlay that takes superframes {offloads}: {:.2} x",
                    vtepd.gbps / offloads.gbps
                ));
            }
            figures.push(match self.figure {
                Figure::Rate => vtepd.gbps / linux.gbps,
                Figure::Cost => vtepd.cost / linux.cost,
            });
        }
        self.last = format!("last: {}", last.join("; "));
        Ok(figures.into_iter().fold(f64::INFINITY, f64::min))
    }

    fn plan(&self) -> Plan {
        Plan {
            warm_ups: self.effort.pick(0, 1),
            repetitions: self.effort.pick(1, 5),
        }
    }

    fn notes(&self) -> Vec<String> {
        let drops = self.vtepd.drops().unwrap_or_else(|why| why.to_string());
        vec![
            self.last.clone(),
            format!("dropped by each vtepd: {drops}"),
            "24 MiB of each connection were compared first; senders, receivers and forwarders \
             share all cores, as the scheduler places them"
                .to_owned(),
        ]
    }
}
