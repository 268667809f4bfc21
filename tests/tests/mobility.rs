//! Hosts that appear, move and disappear: learned from frames, migrated, sticky; announced by FRR
//! and to FRR.
//!
//! ```text
//! t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h2: FRR ── t12
//! t30 ──┘                                             └── t30, at one site at a time
//! ```

use std::time::{Duration, Instant};

use vtep_tests::echo::lost;
use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::frame::plain;
use vtep_tests::link::{Host, ip4, mac};
use vtep_tests::netns::wait_for;
use vtep_tests::on_each_release;
use vtep_tests::site::{Site, expect_full};
use vtep_tests::wire::{Kind, Raw};

/// The tenant that moves between the sites.
const MOVER: u8 = 30;

/// vtepd at 1 and FRR at 2, and an interface of host 30 at each: it sends from one of them at a
/// time.
struct Fixture {
    sites: [Site; 2],
    movers: [Host; 2],
    senders: [Raw; 2],
    _fabric: Fabric,
}

impl Fixture {
    fn new(port: &str) -> Self {
        let fabric = Fabric::new(1600);
        let sites = [Site::vtepd(&fabric, 1, &[2]), Site::frr(&fabric, 2, &[1])];
        expect_full(&sites);
        let movers = [0, 1].map(|i: usize| {
            let host = Host::new(&sites[i].ns, MOVER);
            // It sends only what the test sends.
            host.ns.sysctl("net.ipv6.conf.eth0.disable_ipv6=1");
            host
        });
        sites[1].ns.ip("link set t30 master br100");
        sites[0]
            .ctl()
            .done(&format!("port add t30 --vni 100 {port}"));
        let senders = [0, 1].map(|i: usize| Raw::open(&movers[i].ns, "eth0", Kind::Packet));
        Self {
            sites,
            movers,
            senders,
            _fabric: fabric,
        }
    }

    /// Host 30 is at site `index`: at the other one it answers no request.
    fn place_at(&self, index: usize) {
        self.movers[1 - index].ns.ip("link set eth0 arp off");
        self.movers[index].ns.ip("link set eth0 arp on");
    }

    /// Sends a frame of host 30 at site `index`; returns the time.
    fn send_from(&mut self, index: usize) -> Instant {
        self.place_at(index);
        self.senders[index].send(&plain(&mac(11), &mac(MOVER), "here-i-am"));
        Instant::now()
    }

    /// Waits until the other site forwards to host 30 at site `index`; returns the time since
    /// `sent_at`.
    fn expect_at(&self, index: usize, sent_at: Instant) -> Duration {
        let (here, other) = (&self.sites[index], &self.sites[1 - index]);
        other.expect_mac(100, &mac(MOVER), here.number);
        sent_at.elapsed()
    }
}

on_each_release! {
fn a_host_moves_between_frr_and_vtepd_within_a_second_of_its_first_frame() {
    let mut fixture = Fixture::new("--learn-limit 16");
    let mut monitor = fixture.sites[0].ctl().monitor(&fixture.sites[0].ns, "mac");
    let sent_at = fixture.send_from(1);
    fixture.expect_at(1, sent_at);
    // On a busy machine, reading FRR's tables may take longer than the move: the fastest round
    // counts.
    let mut quickest = [Duration::MAX; 2];
    // A third round would make five moves, and freeze the MAC.
    for round in 0..2 {
        for index in [0, 1] {
            // A worker reports the same event at most once per second: a host that returns sooner has
            // to wait.
            std::thread::sleep(Duration::from_millis(1500));
            let sent_at = fixture.send_from(index);
            let took = fixture.expect_at(index, sent_at);
            println!("round {round}, to site {}: {took:?}", index + 1);
            quickest[index] = quickest[index].min(took);
            let host = &fixture.sites[1 - index].hosts[0];
            assert_eq!(
                lost(&host.ns, fixture.movers[index].ip4(), 10),
                0,
                "to site {}",
                index + 1
            );
        }
    }
    assert!(
        quickest.iter().all(|took| *took < Duration::from_secs(1)),
        "to site 1, to site 2: {quickest:?}"
    );
    // A move to a port is reported with the port and the sequence number that was advertised.
    monitor.wait_for_output(
        &format!("mac moved {} vni 100 at t30 sequence 1\n", mac(MOVER)),
        10,
    );
    assert!(!monitor.log().contains(" at - "), "{}", monitor.log());
    // Each move away is reported once, with the sequence number of the route.
    let away = format!("mac moved {} vni 100 at 203.0.113.2 sequence ", mac(MOVER));
    let log = monitor.log();
    let mut sequences = log.lines().filter_map(|line| line.strip_prefix(&away));
    assert!(sequences.clone().count() == 2 && sequences.all(|s| s != "0"), "{log}");
    let row = fixture.sites[0]
        .ctl()
        .mac(100, &mac(MOVER))
        .expect("host 30 is at site 2");
    assert!(row["sequence"].as_u64() >= Some(3), "{row}");
}
}

on_each_release! {
fn a_host_that_moves_too_often_is_frozen_until_an_operator_unfreezes_it() {
    let mut fixture = Fixture::new("--learn-limit 16");
    let mut monitor = fixture.sites[0].ctl().monitor(&fixture.sites[0].ns, "mac");
    let sent_at = fixture.send_from(1);
    fixture.expect_at(1, sent_at);
    for index in [0, 1, 0, 1] {
        std::thread::sleep(Duration::from_millis(1500));
        let sent_at = fixture.send_from(index);
        fixture.expect_at(index, sent_at);
    }
    // The fifth move in 180 s (RFC 7432 section 15.1): the MAC is frozen where it is.
    wait_for("the MAC is frozen", 10, || {
        fixture.send_from(0);
        std::thread::sleep(Duration::from_millis(500));
        monitor
            .log()
            .contains(&format!("mac frozen {} vni 100", mac(MOVER)))
            .then_some(())
    });
    let row = fixture.sites[0]
        .ctl()
        .mac(100, &mac(MOVER))
        .expect("host 30 is at site 2");
    assert!(
        row["flags"].to_string().contains("frozen") && row["vtep"] == "203.0.113.2",
        "{row}"
    );
    assert_eq!(
        fixture.sites[1].remote_mac(100, &mac(MOVER)),
        None,
        "the move was not advertised"
    );
    // Other hosts are not affected.
    assert_eq!(lost(&fixture.sites[0].hosts[0].ns, ip4(12), 20), 0);
    fixture.senders[0].send(&plain(&mac(11), &mac(31), "another-host"));
    fixture.sites[1].expect_mac(100, &mac(31), 1);
    fixture.sites[0]
        .ctl()
        .done(&format!("mac unfreeze {} --vni 100", mac(MOVER)));
    monitor.wait_for_output(&format!("mac unfrozen {} vni 100", mac(MOVER)), 10);
    wait_for("the MAC moves again", 10, || {
        fixture.send_from(0);
        std::thread::sleep(Duration::from_millis(500));
        (fixture.sites[1].remote_mac(100, &mac(MOVER)).as_deref() == Some("203.0.113.1"))
            .then_some(())
    });
    let row = fixture.sites[0]
        .ctl()
        .mac(100, &mac(MOVER))
        .expect("it is here");
    assert!(
        !row["flags"].to_string().contains("frozen") && row["port"] == "t30",
        "{row}"
    );
}
}

on_each_release! {
fn mac_move_takes_a_host_over_from_frr() {
    let mut fixture = Fixture::new("--mac 50:54:33:00:00:ee");
    let sent_at = fixture.send_from(1);
    fixture.expect_at(1, sent_at);
    let receiver = Raw::open(&fixture.sites[1].hosts[0].ns, "eth0", Kind::Packet);
    // A hypervisor stops the guest at its old place before it says where it is now.
    fixture.place_at(0);
    let before = Instant::now();
    fixture.sites[0].ctl().done(&format!(
        "mac move {} --vni 100 --interface t30 --ip 192.0.2.30",
        mac(MOVER)
    ));
    fixture.expect_at(0, before);
    let row = fixture.sites[0]
        .ctl()
        .mac(100, &mac(MOVER))
        .expect("it is here");
    assert_eq!(
        (row["port"].as_str(), row["sequence"].as_u64()),
        (Some("t30"), Some(1)),
        "{row}"
    );
    let announced = |frame: &Vec<u8>| frame[12..14] == [8, 6] && frame[28..32] == [192, 0, 2, 30];
    wait_for("site 2 receives the gratuitous ARP", 5, || {
        receiver.frames().iter().any(announced).then_some(())
    });
    assert_eq!(
        lost(&fixture.sites[1].hosts[0].ns, fixture.movers[0].ip4(), 10),
        0
    );
}
}

on_each_release! {
fn a_learned_host_is_announced_and_ages_out() {
    let mut fixture = Fixture::new("--learn-limit 1 --learn-age 10");
    let sent_at = fixture.send_from(0);
    fixture.expect_at(0, sent_at);
    let row = fixture.sites[0]
        .ctl()
        .mac(100, &mac(MOVER))
        .expect("it was learned");
    assert!(row["flags"].to_string().contains("learned"), "{row}");
    // The learn limit is enforced.
    fixture.senders[0].send(&plain(&mac(11), &mac(31), "one-too-many"));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(
        fixture.sites[0].ctl().mac(100, &mac(31)),
        None,
        "beyond the limit"
    );
    wait_for("it ages out", 20, || {
        fixture.sites[0]
            .ctl()
            .mac(100, &mac(MOVER))
            .is_none()
            .then_some(())
    });
    wait_for("FRR removes it", 10, || {
        fixture.sites[1]
            .remote_mac(100, &mac(MOVER))
            .is_none()
            .then_some(())
    });
}
}

on_each_release! {
fn a_sticky_host_stays() {
    let mut fixture = Fixture::new(&format!("--mac {} --sticky", mac(MOVER)));
    fixture.sites[1].expect_mac(100, &mac(MOVER), 1);
    let shown = fixture.sites[1]
        .bgpd()
        .show("show bgp l2vpn evpn route type macip");
    assert!(shown.contains("MM:0, sticky MAC"), "{shown}");
    for _ in 0..3 {
        fixture.senders[1].send(&plain(&mac(11), &mac(MOVER), "not-me"));
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(
        fixture.sites[1].remote_mac(100, &mac(MOVER)),
        Some(vtep4(1).to_string())
    );
    let row = fixture.sites[0]
        .ctl()
        .mac(100, &mac(MOVER))
        .expect("it is here");
    assert!(
        row["port"] == "t30" && row["flags"].to_string().contains("sticky"),
        "{row}"
    );
    assert_eq!(
        lost(&fixture.sites[1].hosts[0].ns, fixture.movers[0].ip4(), 10),
        0
    );
}
}

on_each_release! {
/// A host that came from FRR moves between two local ports, by `mac move` and by another
/// configuration of the ports, and is detached for a moment: its sequence stays, so that FRR takes
/// it back with the next one (finding C8).
fn the_sequence_survives_a_move_between_local_ports() {
    let mut fixture = Fixture::new("--mac 50:54:33:00:00:ee");
    let other = Host::new(&fixture.sites[0].ns, 40);
    let sent_at = fixture.send_from(1);
    fixture.expect_at(1, sent_at);
    let ctl = fixture.sites[0].ctl();
    ctl.done(&format!("port add {} --vni 100", other.port));
    let sequence = |fixture: &Fixture| {
        let row = fixture.sites[0].ctl().mac(100, &mac(MOVER));
        row.map(|row| (row["port"].clone(), row["sequence"].clone()))
    };
    for port in ["t30", "t40", "t30"] {
        let line = format!("mac move {} --vni 100 --interface {port}", mac(MOVER));
        fixture.sites[0].ctl().done(&line);
        assert_eq!(sequence(&fixture), Some((port.into(), 1.into())));
    }
    fixture.sites[1].expect_mac(100, &mac(MOVER), 1);
    let ctl = fixture.sites[0].ctl();
    ctl.done("port del t30 --vni 100");
    assert_eq!(sequence(&fixture), None);
    ctl.done(&format!("port add t30 --vni 100 --mac {}", mac(MOVER)));
    assert_eq!(sequence(&fixture), Some(("t30".into(), 1.into())));
    fixture.sites[1].expect_mac(100, &mac(MOVER), 1);
    // FRR accepts the host back only with a sequence above the one that it has seen.
    ctl.done("port del t30 --vni 100");
    ctl.done("port add t30 --vni 100 --learn-limit 4");
    let sent_at = fixture.send_from(1);
    fixture.expect_at(1, sent_at);
    std::thread::sleep(Duration::from_millis(1500));
    let sent_at = fixture.send_from(0);
    fixture.expect_at(0, sent_at);
}
}
