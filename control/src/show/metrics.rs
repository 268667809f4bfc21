//! The metrics page: the same live counters, tables and sessions as `show`. It never walks the MAC
//! or route tables: those may have millions of entries, and a scrape comes every few seconds.

use std::time::Instant;

use vtep_dataplane::drop::DropReason;
use vtep_dataplane::stats::Totals;

use crate::api::show::{PortState, XdpStatistics};
use crate::config::InterfaceName;
use crate::engine::{Engine, EngineView, NotLearned, PortUsage};
use crate::interfaces::{ManagedInterface, Purpose};
use crate::metrics::{Labels, MAX_ROWS, PageBuilder};

/// Reads one field.
pub(super) type Field<T> = fn(&T) -> u64;

/// Fields of [`Totals`]: the suffix of the name, the help text, the value.
const TRAFFIC: [(&str, &str, Field<Totals>); 5] = [
    ("rx_frames", "Frames received", |t| t.rx_frames),
    ("rx_bytes", "Bytes received", |t| t.rx_bytes),
    ("tx_frames", "Frames sent", |t| t.tx_frames),
    ("tx_bytes", "Bytes sent", |t| t.tx_bytes),
    ("drops", "Frames dropped, for any reason", Totals::dropped),
];

/// Counters of an AF_XDP socket (`struct xdp_statistics`, linux/if_xdp.h).
const SOCKET: [(&str, Field<XdpStatistics>); 6] = [
    ("rx-dropped", |s| s.rx_dropped),
    ("rx-invalid-descs", |s| s.rx_invalid_descs),
    ("tx-invalid-descs", |s| s.tx_invalid_descs),
    ("rx-ring-full", |s| s.rx_ring_full),
    ("rx-fill-ring-empty", |s| s.rx_fill_ring_empty_descs),
    ("tx-ring-empty", |s| s.tx_ring_empty_descs),
];

pub(super) fn one(name: &'static str, value: impl ToString) -> Labels {
    vec![(name, value.to_string())]
}

pub(super) fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

/// A value of each row.
pub(super) fn column<'a, T, V>(
    rows: &'a [(Labels, T)],
    value: impl Fn(&T) -> V + 'a,
) -> impl Iterator<Item = (Labels, V)> + 'a {
    rows.iter()
        .map(move |(labels, row)| (labels.clone(), value(row)))
}

/// One of the traffic counters of `rows`, as a metric that begins with `vtepd_<what>_`.
fn traffic(
    page: &mut PageBuilder,
    what: &str,
    which: usize,
    rows: impl Iterator<Item = (Labels, Totals)>,
) {
    let (end, help, value) = TRAFFIC[which];
    let samples = rows.map(|(labels, totals)| (labels, value(&totals)));
    page.counter(format!("vtepd_{what}_{end}"), help, samples);
}

/// A part of a page: what is read and encoded in one turn of the control thread.
#[derive(Debug, Clone, Copy)]
enum Part {
    Process,
    Devices,
    Ports(usize),
    Learning,
    Vnis(usize),
    VtepStates,
    Vteps(usize),
    Workers,
    Bgp,
}

impl Part {
    /// The part with a number.
    fn of(number: usize) -> Option<Self> {
        let families = || 0..TRAFFIC.len();
        [Self::Process, Self::Devices]
            .into_iter()
            .chain(families().map(Self::Ports))
            .chain([Self::Learning])
            .chain(families().map(Self::Vnis))
            .chain([Self::VtepStates])
            .chain(families().map(Self::Vteps))
            .chain([Self::Workers, Self::Bgp])
            .nth(number)
    }
}

/// The part of a page with a number; `None`: there are no more.
#[must_use]
pub fn metrics(engine: &Engine, part: usize, now: Instant) -> Option<String> {
    Part::of(part).map(|part| engine.view().metrics(part, now))
}

impl EngineView<'_> {
    fn metrics(&self, part: Part, now: Instant) -> String {
        let mut page = PageBuilder::default();
        match part {
            Part::Process => self.metrics_of_process(&mut page, now),
            Part::Devices => self.metrics_of_devices(&mut page),
            Part::Ports(which) => self.metrics_of_ports(&mut page, which),
            Part::Learning => self.metrics_of_learning(&mut page),
            Part::Vnis(which) => self.metrics_of_vnis(&mut page, which),
            Part::VtepStates => self.metrics_of_vtep_states(&mut page),
            Part::Vteps(which) => self.metrics_of_vteps(&mut page, which),
            Part::Workers => self.metrics_of_workers(&mut page),
            Part::Bgp => self.metrics_of_bgp(&mut page, now),
        }
        page.text()
    }

    fn metrics_of_process(&self, page: &mut PageBuilder, now: Instant) {
        let snapshot = self.fib.current();
        page.gauge(
            "vtepd_info",
            "The version",
            [(one("version", env!("CARGO_PKG_VERSION")), 1.0)],
        );
        let uptime = now.saturating_duration_since(self.started).as_secs_f64();
        page.gauge(
            "vtepd_uptime_seconds",
            "Time since vtepd was started",
            [(Vec::new(), uptime)],
        );
        self.metrics_of_turns(page);
        let degraded = self.degraded(now).len() as f64;
        let help = "Reasons why vtepd does not work as configured; `show status` lists them";
        page.gauge("vtepd_degraded_reasons", help, [(Vec::new(), degraded)]);
        let tables = [
            ("vnis", snapshot.vnis.iter().count()),
            ("ports", self.ports.len()),
            ("macs", self.fib.macs().len()),
            ("vteps", snapshot.vteps.iter().count()),
            ("neighbors", self.fib.neighbors().len()),
        ];
        let left_out = tables
            .iter()
            .filter(|(table, _)| !matches!(*table, "macs" | "neighbors"))
            .map(|(table, entries)| (one("table", table), entries.saturating_sub(MAX_ROWS) as f64));
        page.gauge(
            "vtepd_left_out",
            "Entries without metrics of their own, since there are too many",
            left_out,
        );
        let sizes = tables
            .iter()
            .map(|(table, entries)| (one("table", table), *entries as f64));
        page.gauge(
            "vtepd_table_entries",
            "Entries in the workers' tables",
            sizes,
        );
    }

    fn metrics_of_devices(&self, page: &mut PageBuilder) {
        let mut drops = Totals::default();
        let (mut up, mut rows, mut sockets) = (Vec::new(), Vec::new(), Vec::new());
        for (name, managed) in self.interfaces.all() {
            let totals = managed.totals();
            drops
                .drops
                .iter_mut()
                .zip(totals.drops)
                .for_each(|(sum, more)| *sum += more);
            let labels = one("device", name);
            up.push((
                self.role(name, managed),
                flag(self.port_state(name, managed).0 == PortState::Up),
            ));
            let statistics = XdpStatistics::from(managed.statistics());
            sockets.extend(SOCKET.map(|(event, value)| {
                (
                    [labels.clone(), one("event", event)].concat(),
                    value(&statistics),
                )
            }));
            rows.push((labels, totals));
        }
        page.gauge(
            "vtepd_device_up",
            "1 while frames can pass the interface",
            up,
        );
        for which in 0..TRAFFIC.len() {
            traffic(page, "device", which, rows.iter().cloned());
        }
        page.counter(
            "vtepd_device_socket_events",
            "The kernel's counters of AF_XDP sockets",
            sockets,
        );
        let all = DropReason::ALL
            .iter()
            .map(|why| (one("reason", why.name()), drops.drops[*why as usize]));
        page.counter(
            "vtepd_drops",
            "Frames dropped, by reason; each frame is counted once",
            all,
        );
    }

    fn role(&self, name: &InterfaceName, managed: &ManagedInterface) -> Labels {
        let role = if managed.purpose == Purpose::Underlay {
            "underlay"
        } else {
            "tenant"
        };
        vec![("device", name.to_string()), ("role", role.to_owned())]
    }

    fn metrics_of_ports(&self, page: &mut PageBuilder, which: usize) {
        let rows = self.ports.iter().take(MAX_ROWS).map(|(key, port)| {
            let managed = self.interfaces.get(&key.interface);
            let totals = managed.map(|managed| port.totals(key, managed));
            let labels = vec![("port", key.to_string()), ("vni", port.vni.to_string())];
            (labels, totals.unwrap_or_default())
        });
        if which > 0 {
            return traffic(page, "port", which, rows);
        }
        let rows: Vec<_> = rows.collect();
        traffic(page, "port", which, rows.iter().cloned());
        let held = rows
            .into_iter()
            .map(|(labels, totals)| (labels, totals.events_suppressed));
        page.counter(
            "vtepd_port_events_suppressed",
            "Events to the control thread suppressed by the limit of the port",
            held,
        );
    }

    fn metrics_of_vnis(&self, page: &mut PageBuilder, which: usize) {
        let vnis = self.fib.current().vnis.iter().take(MAX_ROWS);
        let rows = vnis.map(|vni| (one("vni", vni.vni), vni.counters.totals()));
        traffic(page, "vni", which, rows);
    }

    fn metrics_of_learning(&self, page: &mut PageBuilder) {
        let ports: Vec<_> = self
            .ports
            .iter()
            .take(MAX_ROWS)
            .map(|(key, port)| {
                let labels = vec![("port", key.to_string()), ("vni", port.vni.to_string())];
                (labels, self.learned.usage(key))
            })
            .collect();
        let of =
            |value: fn(&PortUsage) -> u32| column(&ports, move |usage| f64::from(value(usage)));
        page.gauge(
            "vtepd_port_learned_macs",
            "MACs learned from frames on the port",
            of(|usage| usage.macs),
        );
        page.gauge(
            "vtepd_port_learned_addresses",
            "Addresses learned from frames on the port",
            of(|usage| usage.addresses),
        );
        let refused = ports.iter().flat_map(|(labels, usage)| {
            let counts = NotLearned::ALL.iter().zip(usage.refused);
            counts
                .filter(|(_, count)| *count > 0)
                .map(|(why, count)| ([labels.clone(), one("reason", why.word())].concat(), count))
        });
        page.counter(
            "vtepd_port_learn_refused",
            "MACs and addresses that a limit, or another host, kept from being learned",
            refused,
        );
        let snapshot = self.fib.current();
        let vnis = snapshot.vnis.iter().take(MAX_ROWS);
        let addresses = vnis.map(|vni| {
            let addresses = self.learned.addresses_in(vni.vni);
            (one("vni", vni.vni), f64::from(addresses))
        });
        page.gauge(
            "vtepd_vni_learned_addresses",
            "Addresses learned from frames in the VNI",
            addresses,
        );
        page.counter(
            "vtepd_evpn_addresses_refused",
            "Addresses of routes that a local host or a static entry has, and keeps",
            [(Vec::new(), self.learned.routes_refused)],
        );
    }

    fn metrics_of_vteps(&self, page: &mut PageBuilder, which: usize) {
        let hops = self.fib.current().vteps.iter().take(MAX_ROWS);
        let rows = hops.map(|(_, hop)| (one("vtep", hop.vtep), hop.counters.totals()));
        traffic(page, "vtep", which, rows);
    }

    fn metrics_of_vtep_states(&self, page: &mut PageBuilder) {
        let hops = self.fib.current().vteps.iter().take(MAX_ROWS);
        let up = hops.map(|(_, hop)| (one("vtep", hop.vtep), flag(!hop.paths.is_empty())));
        page.gauge(
            "vtepd_vtep_up",
            "1 while at least one underlay path is usable",
            up,
        );
        page.gauge(
            "vtepd_path_mtus",
            "VTEPs whose path MTU a router has reported",
            [(Vec::new(), self.underlay.path_mtus() as f64)],
        );
        let errors = self.underlay.icmp_counts();
        let errors = [
            ("accepted", errors.accepted),
            ("ignored", errors.ignored),
            ("rate-limited", errors.rate_limited),
        ];
        page.counter(
            "vtepd_icmp_too_big",
            "ICMP errors received about packets that are too big",
            errors.map(|(result, count)| (one("result", result), count)),
        );
    }

    fn metrics_of_workers(&self, page: &mut PageBuilder) {
        let all: Vec<_> = self
            .workers
            .status()
            .map(|(id, _, view)| (one("worker", id.0), view))
            .collect();
        let count = |value: Field<vtep_dataplane::worker::WorkerStatusView>| column(&all, value);
        page.counter(
            "vtepd_worker_frames",
            "Frames that the worker processed",
            count(|view| view.frames),
        );
        page.counter(
            "vtepd_worker_iterations",
            "Iterations over all of its ports",
            count(|view| view.iterations),
        );
        page.counter(
            "vtepd_worker_busy_iterations",
            "Iterations that processed frames",
            count(|view| view.busy_iterations),
        );
        page.counter(
            "vtepd_worker_slept_nanoseconds",
            "Time asleep",
            count(|view| view.slept_ns),
        );
        page.counter(
            "vtepd_worker_removed_frames",
            "Frames dropped because their port, interface or VNI was removed while they waited",
            count(|view| view.removed),
        );
        page.gauge(
            "vtepd_worker_free_frames",
            "Free UMEM frames of the worker",
            column(&all, |view| view.free as f64),
        );
        let left = self.interfaces.frames_left().iter();
        let left = all
            .iter()
            .zip(left)
            .map(|((labels, _), left)| (labels.clone(), f64::from(*left)));
        page.gauge(
            "vtepd_worker_queue_frames_left",
            "UMEM frames that further queues of interfaces may take",
            left,
        );
    }
}
