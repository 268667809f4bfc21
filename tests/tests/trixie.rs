//! The routing daemons of Debian 13, where they differ from those of Debian 12.
//!
//! ```text
//!                  h250: FRR 10.3, route reflector, bgp listen range
//!                               │
//! t11, t21 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h2: vtepd ── t12, t22
//! ```

use std::time::Duration;

use vtep_tests::echo::assert_no_loss;
use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::frr::{self, Frr};
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::program::{Program, Scratch};
use vtep_tests::site::{self, Daemon, Site, expect_full};
use vtep_tests::vtepd::Vtepd;
use vtep_tests::wire::Capture;

/// The reflector's number.
const REFLECTOR: u8 = 250;

/// Runs `work`, and returns its result and how many TCP connections to the reflector each of sites
/// 1 and 2 has attempted until three seconds later: vtepd retries every second.
fn counting<T>(fabric: &Fabric, reflector: &Netns, work: impl FnOnce() -> T) -> (T, [usize; 2]) {
    let scratch = Scratch::new(reflector);
    let port = format!("h{REFLECTOR}");
    let mut wire = Capture::start(&fabric.ns, scratch.path(), &port, "tcp dst port 179");
    let done = work();
    std::thread::sleep(Duration::from_secs(3));
    let asked = "tcp.flags.syn == 1 && !tcp.analysis.retransmission";
    let all = wire.fields(asked, &["ip.src"]);
    (
        done,
        [1, 2].map(|number| {
            all.iter()
                .filter(|row| row[0] == vtep4(number).to_string())
                .count()
        }),
    )
}

/// Each site has installed the six routes of the other, one type 3 and two type 2 in each of two
/// VNIs, and their tenants reach each other in both VNIs.
fn all_connected(sites: &[Site; 2]) {
    for site in sites {
        wait_for(&format!("site {} has all routes", site.number), 20, || {
            let row = site.ctl().show("bgp summary")["neighbors"][0].clone();
            (row["state"] == "Established" && row["routes_installed"] == 6).then_some(())
        });
    }
    expect_full(sites);
    let [one, two] = sites;
    for (a, b) in one.hosts.iter().zip(&two.hosts) {
        assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
        assert_no_loss((&b.ns, b.ip4()), (&a.ns, a.ip4()));
    }
}

/// With `bgp listen range`, FRR 10.3 creates a neighbor from a connection, and deletes it with that
/// connection: if a second connection of the same client is open then, FRR accepts its routes and
/// never sends any (finding C21).
#[test]
fn dynamic_neighbors_of_frr_10_3_get_all_routes_over_one_connection_each() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(REFLECTOR);
    let frr = Frr::start_10_3(&ns, &frr::dynamic_reflector(REFLECTOR));
    let version = frr.show("show version");
    assert!(version.contains("FRRouting 10.3"), "{version}");
    let (sites, connections) = counting(&fabric, &ns, || {
        let sites = [1, 2].map(|number| Site::vtepd(&fabric, number, &[REFLECTOR]));
        all_connected(&sites);
        sites
    });
    assert_eq!(connections, [1, 1], "connections of each start");

    let (sites, connections) = counting(&fabric, &ns, || {
        let [one, two] = sites;
        let Site {
            daemon: Daemon::Vtepd(mut vtepd),
            hosts,
            ns,
            number,
        } = one
        else {
            panic!("the site runs vtepd")
        };
        vtepd.kill();
        let daemon = Daemon::Vtepd(vtepd.restart(&ns));
        let sites = [
            Site {
                daemon,
                hosts,
                ns,
                number,
            },
            two,
        ];
        all_connected(&sites);
        sites
    });
    assert_eq!(connections, [1, 0], "connections of the restart");

    let (_, connections) = counting(&fabric, &ns, || {
        sites[1]
            .ctl()
            .done(&format!("bgp clear {}", vtep4(REFLECTOR)));
        all_connected(&sites);
    });
    assert_eq!(connections, [0, 1], "connections after a clear");
}

/// BIRD 2.17 has no EVPN: the session can't come up, and vtepd says why (finding O1).
#[test]
fn a_peer_without_evpn_is_reported() {
    let fabric = Fabric::new(1600);
    let (ns, far) = (fabric.hypervisor(1), fabric.hypervisor(9));
    let root = vtep_tests::trixie::root();
    let scratch = Scratch::below(&root.join("tmp"), &far);
    let inside = |name: &str| format!("/tmp/{}/{name}", far.name());
    std::fs::write(
        scratch.path().join("bird.conf"),
        "router id 203.0.113.9;\nprotocol device { }\nprotocol bgp { local as 65000; \
         neighbor 203.0.113.1 as 65000; connect retry time 1; ipv4 { import none; export none; }; }\n",
    )
    .expect("the scratch directory can be written");
    let (config, socket) = (inside("bird.conf"), inside("bird.ctl"));
    let words = ["bird", "-f", "-c", &config, "-s", &socket];
    let _bird = Program::start_in(&far, Some(root), scratch.path(), &words);
    let vtepd = Vtepd::start(&ns, &site::bgp(1, 65000, &site::internal(&[9]), ""));
    wait_for("the reason", 20, || {
        let row = vtepd.show("bgp summary")["neighbors"][0].clone();
        let why = &row["not_established"];
        (why["cause"] == "open-failed" && why["reason"].to_string().contains("2/7")).then_some(())
    });
    let degraded = vtepd.show("status")["degraded"].to_string();
    assert!(degraded.contains("Unsupported Capability"), "{degraded}");
}
