//! The metrics that Prometheus scrapes agree with the output of `show`.
//!
//! ```text
//! t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h2: vtepd, BGP ── t12, t22
//! t12 ──┘     └─ 127.0.0.1:9464 ── scrape
//! ```

use std::io::{Read, Write};
use std::net::TcpStream;

use vtep_tests::echo::{assert_no_loss, lost};
use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::frame::plain;
use vtep_tests::link::{Host, ip4, mac};
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::site::{self, Site};
use vtep_tests::vtepd::{Config, Vtepd};
use vtep_tests::wire::{Kind, Raw};

/// The page at 127.0.0.1:9464 of `ns`.
fn scrape(ns: &Netns) -> String {
    let mut stream = ns
        .inside(|| TcpStream::connect("127.0.0.1:9464"))
        .expect("vtepd listens");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: vtepd\r\n\r\n")
        .expect("vtepd reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("vtepd answers");
    let (head, page) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(
        head.starts_with("HTTP/1.1 200 OK") && page.ends_with("# EOF\n"),
        "{answer}"
    );
    page.to_owned()
}

/// The value of one metric.
fn value(page: &str, name: &str) -> f64 {
    let number = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    number
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| panic!("no {name}:\n{page}"))
}

const METRICS: &str = "metrics = \"127.0.0.1:9464\"";

#[test]
fn a_scrape_reports_frames_drops_tables_and_workers() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let hosts = [11, 12].map(|number| Host::new(&ns, number));
    let config = Config::new(vtep4(1))
        .control(METRICS)
        .vni(100, &[])
        .port("t11", &[mac(11)])
        .port("t12", &[mac(12)])
        .raw("lock = true");
    let vtepd = Vtepd::start(&ns, &config);
    assert_no_loss((&hosts[0].ns, ip4(11)), (&hosts[1].ns, ip4(12)));
    let before = value(
        &scrape(&ns),
        "vtepd_port_rx_frames_total{port=\"t11\",vni=\"100\"}",
    );
    assert_eq!(lost(&hosts[0].ns, ip4(12), 100), 0);
    let mut forger = Raw::open(&hosts[1].ns, "eth0", Kind::Packet);
    forger.send(&plain(&mac(11), &mac(99), "forged"));
    vtepd.expect_drops("locked", 0, 1);
    // A page is cached for one second.
    wait_for("the counters", 5, || {
        let page = scrape(&ns);
        let frames = value(
            &page,
            "vtepd_port_rx_frames_total{port=\"t11\",vni=\"100\"}",
        );
        (frames >= before + 100.0 && value(&page, "vtepd_drops_total{reason=\"locked\"}") == 1.0)
            .then_some(())
    });
    let page = scrape(&ns);
    assert_eq!(value(&page, "vtepd_table_entries{table=\"macs\"}"), 2.0);
    assert_eq!(
        value(&page, "vtepd_device_up{device=\"t11\",role=\"tenant\"}"),
        1.0
    );
    assert_eq!(value(&page, "vtepd_degraded_reasons"), 0.0);
    assert!(value(&page, "vtepd_vni_rx_frames_total{vni=\"100\"}") >= 0.0);
    assert!(value(&page, "vtepd_worker_frames_total{worker=\"0\"}") >= 200.0);
    assert!(value(&page, "vtepd_worker_free_frames{worker=\"0\"}") > 0.0);
    // Each name has one HELP and one TYPE, each line has one number, and no line appears twice.
    let (comments, numbers): (Vec<_>, Vec<_>) =
        page.lines().partition(|line| line.starts_with('#'));
    let mut names: Vec<_> = numbers
        .iter()
        .map(|line| line.rsplit_once(' ').expect("name value").0)
        .collect();
    assert!(numbers.iter().all(|line| {
        line.rsplit(' ')
            .next()
            .is_some_and(|n| n.parse::<f64>().is_ok())
    }));
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "{page}");
    assert_eq!(comments.len() % 2, 1, "pairs and the EOF");
    // docs/metrics.md describes each metric.
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md"))
        .expect("docs/metrics.md is readable");
    for line in comments
        .iter()
        .filter_map(|line| line.strip_prefix("# TYPE "))
    {
        let name = line.split(' ').next().expect("a name");
        let described = docs.contains(&format!("`{name}")) || end_is_described(&docs, name);
        assert!(described, "{name} is not in docs/metrics.md");
    }
    vtepd.stop();
}

/// docs/metrics.md lists the suffixes that devices, ports, VNIs and VTEPs share only once:
/// `_rx_frames_total`.
fn end_is_described(docs: &str, name: &str) -> bool {
    ["device", "port", "vni", "vtep"].iter().any(|what| {
        name.strip_prefix(&format!("vtepd_{what}_"))
            .is_some_and(|end| docs.contains(&format!("`_{end}_total`")))
    })
}

#[test]
fn a_scrape_reports_bgp_sessions_and_an_address_in_use_is_an_error() {
    let fabric = Fabric::new(1600);
    let with = |_: &Netns| site::config(1, 65000, &site::internal(&[2]), "").control(METRICS);
    let sites = [
        Site::vtepd_with(&fabric, 1, with),
        Site::vtepd(&fabric, 2, &[1]),
    ];
    site::expect_full(&sites);
    wait_for("the session's metrics", 10, || {
        let page = scrape(&sites[0].ns);
        let up = page
            .contains("vtepd_bgp_session_state{neighbor=\"203.0.113.2\",state=\"Established\"} 1");
        (up && value(&page, "vtepd_bgp_routes_received{neighbor=\"203.0.113.2\"}") == 6.0
            && value(&page, "vtepd_vtep_up{vtep=\"203.0.113.2\"}") == 1.0)
            .then_some(())
    });
    // Each state has a value, so that a query for one finds it (finding O12).
    let page = scrape(&sites[0].ns);
    for (state, now) in [("Idle", 0.0), ("Connect", 0.0), ("Established", 1.0)] {
        let name = format!("vtepd_bgp_session_state{{neighbor=\"203.0.113.2\",state=\"{state}\"}}");
        assert_eq!(value(&page, &name), now, "{page}");
    }
    drop(sites);
    let ns = fabric.hypervisor(3);
    let _taken = ns
        .inside(|| std::net::TcpListener::bind("127.0.0.1:9464"))
        .expect("the address is free");
    let refused = Vtepd::try_start(&ns, &Config::new(vtep4(3)).control(METRICS));
    let error = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(
        error.contains("control.metrics: can't listen on 127.0.0.1:9464"),
        "{error}"
    );
}
