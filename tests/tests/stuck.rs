//! Ports that stop consuming take nothing from the others.
//!
//! ```text
//! t11, t12 ──┐
//! s0 .. s19 ─┤ h1: vtepd        s: veth set down, or without carrier
//! tap0 .. 9 ─┤                  tap: no program reads it
//! x0 .. x29 ─┘                  macvlan over a link that sends nothing
//! ```

use serde_json::Value;
use vtep_tests::echo::assert_no_loss;
use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::frame::plain;
use vtep_tests::link::{self, Host, mac};
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::topology::IO_KINDS;
use vtep_tests::vtepd::{Config, Vtepd};
use vtep_tests::wire::{Kind, Raw};

const BROADCAST: &str = "ff:ff:ff:ff:ff:ff";

/// Broadcasts sent while the ports are stuck. A loaded host may lose some before vtepd.
const FLOOD: u64 = 2000;

/// Broadcasts of which vtepd must have seen more.
const SEEN: u64 = 100;

struct Site {
    vtepd: Vtepd,
    hypervisor: Netns,
    hosts: [Host; 2],
    _fabric: Fabric,
}

impl Site {
    /// Two tenants, and more ports that `prepare` creates and names.
    fn new(io: &str, prepare: impl Fn(&Netns) -> Vec<String>) -> Self {
        let fabric = Fabric::new(1600);
        let hypervisor = fabric.hypervisor(1);
        let hosts = [11, 12].map(|number| Host::new(&hypervisor, number));
        let mut config = Config::new(vtep4(1)).io(io).vni(100, &[]);
        for host in &hosts {
            config = config.port(&host.port, &[host.mac()]);
        }
        for name in prepare(&hypervisor) {
            config = config.port(&name, &[]);
        }
        let vtepd = Vtepd::start(&hypervisor, &config);
        Self {
            vtepd,
            hypervisor,
            hosts,
            _fabric: fabric,
        }
    }

    fn port(&self, interface: &str) -> Value {
        let ports = self.vtepd.show("ports");
        let mut rows = ports["rows"].as_array().expect("rows").iter();
        let row = rows.find(|row| row["interface"] == interface);
        row.unwrap_or_else(|| panic!("{interface}: {ports}"))
            .clone()
    }

    fn expect_state(&self, interface: &str, state: &str) {
        wait_for(&format!("{interface} is {state}"), 10, || {
            (self.port(interface)["state"] == state).then_some(())
        });
    }

    fn frames_free(&self) -> u64 {
        let workers = self.vtepd.show("workers");
        workers["rows"][0]["frames_free"]
            .as_u64()
            .expect("a number")
    }

    fn lose_no_unicast(&self) {
        let [a, b] = &self.hosts;
        assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
    }
}

fn veths_and_taps(hypervisor: &Netns) -> Vec<String> {
    for number in 0..20 {
        hypervisor.ip(&format!("link add s{number} type veth peer name p{number}"));
        for end in ["s", "p"] {
            hypervisor.ip(&format!("link set {end}{number} addrgenmode none up"));
        }
    }
    (0..10).for_each(|number| link::tap(hypervisor, &format!("tap{number}")));
    let veths = (0..20).map(|number| format!("s{number}"));
    veths
        .chain((0..10).map(|number| format!("tap{number}")))
        .collect()
}

/// Interfaces whose packets wait below them, as behind a NIC that its peer has paused.
fn paused(hypervisor: &Netns) -> Vec<String> {
    hypervisor.ip("link add lower type veth peer name lowerp");
    hypervisor.ip("link set lower addrgenmode none up");
    hypervisor.ip("link set lowerp addrgenmode none up");
    hypervisor.run("tc qdisc add dev lower root tbf rate 8kbit burst 2kb limit 200mb");
    for number in 0..30 {
        hypervisor.ip(&format!(
            "link add x{number} link lower type macvlan mode private"
        ));
        hypervisor.ip(&format!("link set x{number} addrgenmode none up"));
    }
    (0..30).map(|number| format!("x{number}")).collect()
}

fn traffic(port: &Value, counter: &str) -> u64 {
    port[counter]
        .as_u64()
        .or_else(|| port["traffic"][counter].as_u64())
        .unwrap_or_else(|| panic!("{counter}: {port}"))
}

/// Ports that are down, have no carrier or no reader hold no chunks; their frames are counted as
/// `port-down` for the port, not as sent, and are not delivered when the link returns (finding D1).
#[test]
fn ports_without_a_link_take_no_chunks_from_the_others() {
    IO_KINDS.into_iter().for_each(ports_without_a_link_with);
}

fn ports_without_a_link_with(io: &str) {
    let site = Site::new(io, veths_and_taps);
    site.lose_no_unicast();
    for number in 0..10 {
        site.hypervisor.ip(&format!("link set s{number} down"));
        site.hypervisor
            .ip(&format!("link set p{} down", number + 10));
    }
    for port in ["s0", "s9", "s10", "s19", "tap0", "tap9"] {
        site.expect_state(port, "down");
    }
    let before = traffic(&site.port("s3"), "tx_frames");
    let mut tenant = Raw::open(&site.hosts[0].ns, "eth0", Kind::Packet);
    for _ in 0..FLOOD {
        tenant.send(&plain(BROADCAST, &mac(11), "while-stuck"));
    }
    for port in ["s3", "s13", "tap3"] {
        wait_for(&format!("the drops of {port}"), 30, || {
            (traffic(&site.port(port), "drops") > SEEN).then_some(())
        });
    }
    let shown = site.port("s3");
    assert_eq!(traffic(&shown, "tx_frames"), before, "{shown}");
    assert!(site.vtepd.drops("port-down") > SEEN * 25);
    assert!(site.frames_free() > 8000, "{}", site.frames_free());
    site.lose_no_unicast();

    let peer = Raw::open(&site.hypervisor, "p3", Kind::Packet);
    for number in 0..10 {
        site.hypervisor.ip(&format!("link set s{number} up"));
        site.hypervisor.ip(&format!("link set p{} up", number + 10));
    }
    for port in ["s3", "s13"] {
        site.expect_state(port, "up");
    }
    wait_for("broadcasts after the link has returned", 10, || {
        tenant.send(&plain(BROADCAST, &mac(11), "after-stuck"));
        (!peer.with_marker("after-stuck").is_empty()).then_some(())
    });
    assert!(peer.with_marker("while-stuck").is_empty());
    site.vtepd.stop();
}

/// Ports that have a link and send nothing hold a part of the chunks only, however many they are;
/// what they refuse is counted for the port (findings D1, N5).
#[test]
fn ports_that_send_nothing_leave_chunks_to_the_others() {
    IO_KINDS.into_iter().for_each(ports_that_send_nothing_with);
}

fn ports_that_send_nothing_with(io: &str) {
    let site = Site::new(io, paused);
    site.lose_no_unicast();
    let mut tenant = Raw::open(&site.hosts[0].ns, "eth0", Kind::Packet);
    let free = site.frames_free();
    let before = site.vtepd.drops("tx-full");
    wait_for("the rings are full", 60, || {
        for _ in 0..FLOOD {
            tenant.send(&plain(BROADCAST, &mac(11), "while-paused"));
        }
        (site.vtepd.drops("tx-full") > before + FLOOD).then_some(())
    });
    let shown = site.port("x3");
    assert!(traffic(&shown, "drops") > 0, "{shown}");
    assert!(site.frames_free() > 2000, "{}", site.frames_free());
    site.lose_no_unicast();
    // Their packets wait in `lower` for longer than closing their sockets may take. When these are gone,
    // all chunks are back but those that the busy port has got to receive into.
    for number in 0..30 {
        site.hypervisor.ip(&format!("link set x{number} down"));
    }
    site.expect_state("x29", "down");
    if io == "xdp" {
        wait_for("a queue that is not released", 20, || {
            site.vtepd
                .program
                .log()
                .contains("does not release")
                .then_some(())
        });
    }
    site.hypervisor.run("tc qdisc del dev lower root");
    wait_for("the chunks of the closed queues", 30, || {
        (site.frames_free() + 2048 >= free).then_some(())
    });
    site.vtepd.stop();
}

/// What the driver of a tap drops since its guest does not read is counted for the port and its VNI:
/// as many frames as the kernel counts for the interface (findings D18, N5).
#[test]
fn frames_that_a_stopped_guest_does_not_read_are_counted() {
    IO_KINDS
        .into_iter()
        .for_each(frames_that_a_guest_does_not_read);
}

fn frames_that_a_guest_does_not_read(io: &str) {
    let site = Site::new(io, |hypervisor| {
        link::tap(hypervisor, "tap0");
        vec!["tap0".to_owned()]
    });
    let guest = Raw::open(&site.hypervisor, "tap0", Kind::Tap);
    site.expect_state("tap0", "up");
    let counted = || {
        [
            traffic(&site.port("tap0"), "tx_frames"),
            site.vtepd.drops("tx-dropped"),
        ]
    };
    let in_kernel = || ["packets", "dropped"].map(|counter| kernel(&site, counter));
    // Both sides at one moment: the tenants' own stacks send now and then, too.
    let (before, kernel_before) = wait_for("a moment without frames", 10, || {
        let (before, kernel_before) = (counted(), in_kernel());
        (counted() == before).then_some((before, kernel_before))
    });
    guest.pause();
    let mut tenant = Raw::open(&site.hosts[0].ns, "eth0", Kind::Packet);
    wait_for("drops of the driver", 30, || {
        for _ in 0..200 {
            tenant.send(&plain(BROADCAST, &mac(11), "not-read"));
        }
        (site.vtepd.drops("tx-dropped") > 500).then_some(())
    });
    for by in ["port", "vni"] {
        let rows = site.vtepd.show(&format!("drops --by {by}")).to_string();
        assert!(rows.contains("tx-dropped"), "{by}: {rows}");
    }
    site.lose_no_unicast();
    guest.resume();
    wait_for("broadcasts once the guest reads again", 10, || {
        tenant.send(&plain(BROADCAST, &mac(11), "read-again"));
        (!guest.with_marker("read-again").is_empty()).then_some(())
    });
    // The kernel counts a frame of a tap when it is read.
    wait_for("the counters of vtepd and of the kernel agree", 10, || {
        let [sent, dropped] = [0, 1].map(|at| counted()[at] - before[at]);
        let [taken, lost] = [0, 1].map(|at| in_kernel()[at] - kernel_before[at]);
        // sendmmsg does not report the error that ends it after some frames: the frame it failed at is sent once more, and
        // the kernel counts it each time.
        let is_same = dropped == lost || (io == "packet" && dropped < lost);
        (is_same && sent == taken + dropped).then_some(())
    });
    site.vtepd.stop();
}

/// A counter of the kernel for what it sent on `tap0`.
fn kernel(site: &Site, counter: &str) -> u64 {
    let text = site.hypervisor.ip("-j -s link show tap0");
    let links: Value = serde_json::from_str(&text).expect("JSON");
    links[0]["stats64"]["tx"][counter]
        .as_u64()
        .expect("a number")
}
