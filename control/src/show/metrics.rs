//! The metrics page: the same live counters, tables and sessions as `show`. It never walks the MAC
//! or route tables: those may have millions of entries, and a scrape comes every few seconds.

use std::net::IpAddr;
use std::time::Instant;

use vtep_dataplane::drop::DropReason;
use vtep_dataplane::stats::Totals;

use crate::api::bgp::SessionState;
use crate::api::show::{PortState, XdpStatistics};
use crate::bgp::PeerStatus;
use crate::config::InterfaceName;
use crate::engine::{Engine, EngineView};
use crate::interfaces::{ManagedInterface, Purpose};
use crate::metrics::{Labels, MAX_ROWS, PageBuilder};

/// Reads one field.
type Field<T> = fn(&T) -> u64;

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

fn one(name: &'static str, value: impl ToString) -> Labels {
    vec![(name, value.to_string())]
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

/// Traffic counters of `rows`, as metrics that begin with `vtepd_<what>_`.
fn traffic(page: &mut PageBuilder, what: &str, rows: &[(Labels, Totals)]) {
    for (end, help, value) in TRAFFIC {
        let samples = rows
            .iter()
            .map(|(labels, totals)| (labels.clone(), value(totals)));
        page.counter(format!("vtepd_{what}_{end}"), help, samples);
    }
}

/// The page of a scrape.
#[must_use]
pub fn metrics(engine: &Engine, now: Instant) -> String {
    engine.view().metrics(now)
}

impl EngineView<'_> {
    fn metrics(&self, now: Instant) -> String {
        let mut page = PageBuilder::default();
        self.metrics_of_process(&mut page, now);
        self.metrics_of_devices(&mut page);
        self.metrics_of_tenants(&mut page);
        self.metrics_of_vteps(&mut page);
        self.metrics_of_workers(&mut page);
        self.metrics_of_bgp(&mut page, now);
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
        let degraded = self.degraded().len() as f64;
        let help = "Reasons why vtepd does not work as configured; `show status` lists them";
        page.gauge("vtepd_degraded_reasons", help, [(Vec::new(), degraded)]);
        let tables = [
            ("vnis", snapshot.vnis.iter().count()),
            ("ports", self.ports.iter().count()),
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
            let totals = managed.counters.totals();
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
            if let Some(open) = managed.open() {
                let statistics = XdpStatistics::from(self.interfaces.statistics(open));
                sockets.extend(SOCKET.map(|(event, value)| {
                    (
                        [labels.clone(), one("event", event)].concat(),
                        value(&statistics),
                    )
                }));
            }
            rows.push((labels, totals));
        }
        page.gauge(
            "vtepd_device_up",
            "1 while frames can pass the interface",
            up,
        );
        traffic(page, "device", &rows);
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

    fn metrics_of_tenants(&self, page: &mut PageBuilder) {
        let ports: Vec<_> = self
            .ports
            .iter()
            .take(MAX_ROWS)
            .map(|(key, port)| {
                (
                    vec![("port", key.to_string()), ("vni", port.vni.to_string())],
                    port.counters.totals(),
                )
            })
            .collect();
        traffic(page, "port", &ports);
        let held = ports
            .iter()
            .map(|(labels, totals)| (labels.clone(), totals.events_suppressed));
        page.counter(
            "vtepd_port_events_suppressed",
            "Events to the control thread suppressed by the limit of the port",
            held,
        );
        let snapshot = self.fib.current();
        let vnis = snapshot.vnis.iter().take(MAX_ROWS);
        let vnis: Vec<_> = vnis
            .map(|vni| (one("vni", vni.vni), vni.counters.totals()))
            .collect();
        traffic(page, "vni", &vnis);
    }

    fn metrics_of_vteps(&self, page: &mut PageBuilder) {
        let snapshot = self.fib.current();
        let hops = || snapshot.vteps.iter().take(MAX_ROWS);
        let up = hops().map(|(_, hop)| (one("vtep", hop.vtep), flag(!hop.paths.is_empty())));
        page.gauge(
            "vtepd_vtep_up",
            "1 while at least one underlay path is usable",
            up,
        );
        let rows: Vec<_> = hops()
            .map(|(_, hop)| (one("vtep", hop.vtep), hop.counters.totals()))
            .collect();
        traffic(page, "vtep", &rows);
    }

    fn metrics_of_workers(&self, page: &mut PageBuilder) {
        let all: Vec<_> = self
            .workers
            .status()
            .map(|(id, _, view)| (one("worker", id.0), view))
            .collect();
        let count = |value: Field<vtep_dataplane::worker::WorkerStatusView>| {
            all.iter()
                .map(move |(labels, view)| (labels.clone(), value(view)))
        };
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
        let free = all
            .iter()
            .map(|(labels, view)| (labels.clone(), view.free as f64));
        page.gauge(
            "vtepd_worker_free_frames",
            "Free UMEM frames of the worker",
            free,
        );
    }

    fn metrics_of_bgp(&self, page: &mut PageBuilder, now: Instant) {
        let all: Vec<_> = self
            .bgp
            .neighbors()
            .iter()
            .map(|(address, neighbor)| {
                let routes = self
                    .evpn
                    .id(*address)
                    .map_or(0, |id| self.evpn.speaker.prefix_count(id));
                (*address, neighbor.peer.status(), routes)
            })
            .collect();
        let states = all.iter().map(|(address, status, _)| {
            let state = format!("{:?}", SessionState::from(status));
            (
                [one("neighbor", address), one("state", state)].concat(),
                1.0,
            )
        });
        page.gauge("vtepd_bgp_session_state", "State of the session", states);
        let gauge = |value: &dyn Fn(usize) -> f64| -> Vec<_> {
            (0..all.len())
                .map(|place| (one("neighbor", all[place].0), value(place)))
                .collect()
        };
        let up = |place: usize| {
            let since = all[place].1.up_since;
            since.map_or(0.0, |since| {
                now.saturating_duration_since(since).as_secs_f64()
            })
        };
        page.gauge(
            "vtepd_bgp_session_uptime_seconds",
            "Time since it was established; 0 = down",
            gauge(&up),
        );
        let routes = |place: usize| all[place].2 as f64;
        page.gauge(
            "vtepd_bgp_routes_received",
            "Routes received from the neighbor",
            gauge(&routes),
        );
        count_messages(page, &all);
        let routes = self.evpn.speaker.route_count();
        page.gauge(
            "vtepd_evpn_routes",
            "EVPN routes of all neighbors",
            [(Vec::new(), routes as f64)],
        );
    }
}

/// Counters of the BGP sessions: neighbor, status, routes received.
fn count_messages(page: &mut PageBuilder, all: &[(IpAddr, PeerStatus, usize)]) {
    let count = |value: Field<PeerStatus>| {
        all.iter()
            .map(move |(address, status, _)| (one("neighbor", address), value(status)))
    };
    page.counter(
        "vtepd_bgp_established",
        "How often the session came up",
        count(|s| s.established),
    );
    page.counter(
        "vtepd_bgp_messages_received",
        "Messages received",
        count(|s| s.received),
    );
    page.counter(
        "vtepd_bgp_messages_sent",
        "Messages sent",
        count(|s| s.sent),
    );
    let help = "UPDATEs whose routes were treated as withdrawn (RFC 7606)";
    page.counter(
        "vtepd_bgp_treated_as_withdrawn",
        help,
        count(|s| s.treated_as_withdrawn),
    );
}
