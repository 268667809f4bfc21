//! BGP EVPN fills the tables: vtepd with vtepd, with FRR, and through route reflectors.
//!
//! ```text
//!   h250: FRR     h251: GoBGP                      route reflectors, in some of the scenarios
//!       └──────┬──────┘
//!            fabric
//!     ┌────────┼─────────────────┐
//! h1: vtepd   h2: vtepd or FRR  h3: FRR            iBGP in AS 65000, or eBGP
//!  ├─ t11      ├─ t12            ├─ t13            VNI 100
//!  └─ t21      └─ t22            └─ t23            VNI 200
//! ```

use vtep_tests::echo::{assert_no_loss, lost};
use vtep_tests::fabric::{Fabric, Underlay, vtep4, vtep6};
use vtep_tests::frame::plain;
use vtep_tests::frr::{self, Frr};
use vtep_tests::gobgp::Gobgp;
use vtep_tests::link::{ip4, mac};
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::on_each_release;
use vtep_tests::site::{self, Site, VNIS, expect_full};
use vtep_tests::tools::arping;
use vtep_tests::vtepd::Config;
use vtep_tests::wire::{Capture, Kind, Raw};

/// The tenants of each VNI reach one another, in all pairs of sites.
fn all_connected(sites: &[Site]) {
    for (i, a) in sites.iter().enumerate() {
        for b in &sites[i + 1..] {
            for place in 0..VNIS.len() {
                let [a, b] = [a, b].map(|site| &site.hosts[place]);
                assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
            }
        }
    }
}

#[test]
fn two_vtepd_peer_without_a_reflector() {
    let fabric = Fabric::new(1600);
    let sites = [Site::vtepd(&fabric, 1, &[2]), Site::vtepd(&fabric, 2, &[1])];
    expect_full(&sites);
    let mut wire = Capture::start(&fabric.ns, sites[0].ctl().dir(), "h1", "udp port 4789");
    all_connected(&sites);
    let asked = "vxlan && arp && eth.dst == ff:ff:ff:ff:ff:ff";
    assert_eq!(wire.count(asked), 0, "ARP requests on the underlay");
    wait_for("a type 3, and two type 2, for each of two VNIs", 10, || {
        let row = sites[0].ctl().show("bgp summary")["neighbors"][0].clone();
        (row["state"] == "Established" && row["routes_received"] == 6).then_some(())
    });
}

on_each_release! {
fn vtepd_and_frr_peer_without_a_reflector() {
    let fabric = Fabric::new(1600);
    let sites = [Site::vtepd(&fabric, 1, &[2]), Site::frr(&fabric, 2, &[1])];
    expect_full(&sites);
    wait_for("vtepd knows the address of FRR's tenant", 20, || {
        sites[0]
            .ctl()
            .show("neighbors")
            .to_string()
            .contains(&ip4(12).to_string())
            .then_some(())
    });
    let mut wire = Capture::start(&fabric.ns, sites[0].ctl().dir(), "h1", "udp port 4789");
    all_connected(&sites);
    assert_eq!(arping(&sites[0].hosts[0].ns, ip4(12)), Some(mac(12)));
    let asked = "vxlan && arp && eth.dst == ff:ff:ff:ff:ff:ff && arp.dst.proto_ipv4 in {192.0.2.11, 192.0.2.12}";
    assert_eq!(
        wire.count(asked),
        0,
        "ARP requests for known hosts on the underlay"
    );
}
}

/// vtepd at 1 and 2 and FRR at 3, clients of the reflectors that `start` creates; all tenants are
/// connected.
fn through_reflectors(
    numbers: &[u8],
    start: impl FnOnce(&Fabric) -> Vec<Reflector>,
) -> (Vec<Site>, Vec<Reflector>, Fabric) {
    let fabric = Fabric::new(1600);
    let reflectors = start(&fabric);
    let sites = vec![
        Site::vtepd(&fabric, 1, numbers),
        Site::vtepd(&fabric, 2, numbers),
        Site::frr(&fabric, 3, numbers),
    ];
    expect_full(&sites);
    all_connected(&sites);
    (sites, reflectors, fabric)
}

/// A reflector and its namespace.
enum Reflector {
    Frr(Box<Frr>, Netns),
    Gobgp(Gobgp, Netns),
}

const CLIENTS: [u8; 3] = [1, 2, 3];

fn frr_reflector(fabric: &Fabric) -> Reflector {
    let ns = fabric.hypervisor(250);
    let frr = Frr::start(&ns, &frr::reflector(250, &CLIENTS));
    Reflector::Frr(Box::new(frr), ns)
}

fn gobgp_reflector(fabric: &Fabric) -> Reflector {
    let ns = fabric.hypervisor(251);
    Reflector::Gobgp(Gobgp::reflector(&ns, 251, &CLIENTS), ns)
}

on_each_release! {
fn three_vteps_through_a_reflector_of_frr() {
    let _all = through_reflectors(&[250], |fabric| vec![frr_reflector(fabric)]);
}
}

on_each_release! {
fn three_vteps_through_a_reflector_of_gobgp() {
    let _all = through_reflectors(&[251], |fabric| vec![gobgp_reflector(fabric)]);
}
}

on_each_release! {
fn traffic_survives_the_loss_of_one_of_two_reflectors() {
    let both = |fabric: &Fabric| vec![frr_reflector(fabric), gobgp_reflector(fabric)];
    let (sites, mut reflectors, _fabric) = through_reflectors(&[250, 251], both);
    let none_lost = |what: &str| {
        let from = &sites[0].hosts[0].ns;
        let both = [12, 13].map(|number| lost(from, ip4(number), 200));
        assert_eq!(both, [0, 0], "of 200 requests each, while {what}");
    };
    let Reflector::Frr(frr, ns) = &mut reflectors[0] else {
        panic!("FRR is the first")
    };
    frr.kill();
    none_lost("FRR is dead");
    let down = || {
        let shown = sites[0].ctl().show("bgp summary");
        (shown["neighbors"][0]["state"] != "Established").then_some(())
    };
    wait_for("vtepd to detect it", 20, down);
    none_lost("vtepd knows that FRR is dead");
    expect_full(&sites);
    frr.restart(ns);
    for client in CLIENTS {
        frr.established(client);
    }
    // Each vtepd has the six routes of each of the two other sites again.
    wait_for("FRR's routes are back", 20, || {
        let all = |site: &Site| {
            site.ctl().show("bgp summary")["neighbors"][0]["routes_received"].as_u64() >= Some(12)
        };
        (all(&sites[0]) && all(&sites[1])).then_some(())
    });
    let Reflector::Gobgp(gobgp, ns) = reflectors.remove(1) else {
        panic!("GoBGP is the second")
    };
    gobgp.program.kill();
    none_lost("GoBGP is dead");
    drop(ns);
    expect_full(&sites);
    all_connected(&sites);
}
}

on_each_release! {
fn routes_of_a_withdrawn_vtep_are_removed_at_once() {
    let fabric = Fabric::new(1600);
    let mut sites = [Site::vtepd(&fabric, 1, &[2]), Site::frr(&fabric, 2, &[1])];
    expect_full(&sites);
    sites[1].bgpd().configure(&[
        "router bgp 65000",
        "address-family l2vpn evpn",
        "no advertise-all-vni",
    ]);
    for vni in VNIS {
        sites[0].expect_flood(vni, &[]);
    }
    for (vni, host) in VNIS.into_iter().zip(&sites[1].hosts) {
        assert_eq!(sites[0].ctl().mac(vni, &host.mac()), None);
    }
    sites[1].bgpd().configure(&[
        "router bgp 65000",
        "address-family l2vpn evpn",
        "advertise-all-vni",
    ]);
    expect_full(&sites);
    // A VNI that is removed from vtepd, and added again.
    let vtepd = sites[0].ctl();
    vtepd.done("vni del 200");
    sites[1].expect_flood(200, &[]);
    assert_eq!(sites[1].remote_mac(200, &mac(21)), None);
    sites[1].expect_mac(100, &mac(11), 1);
    vtepd.done("vni add 200");
    sites[1].expect_flood(200, &[1]);
    sites[0].expect_mac(200, &mac(22), 2);
    // A daemon that exits closes its session.
    sites[1].bgpd().stop();
    sites[0].expect_flood(100, &[]);
    assert_eq!(sites[0].ctl().mac(100, &mac(12)), None);
}
}

on_each_release! {
fn an_ebgp_session_uses_tcp_md5_and_ttl_security() {
    let fabric = Fabric::new(1600);
    let frr = frr::vtep(
        2,
        65002,
        &[(1, 65001)],
        &[
            "neighbor X password sesame",
            "neighbor X ttl-security hops 1",
        ],
    );
    let vtepd = |ns: &Netns| {
        let file = std::env::temp_dir().join(format!("{}.key", ns.name()));
        std::fs::write(&file, "sesame\n").expect("the temporary directory can be written");
        ns.run(&format!("chmod 600 {}", file.display()));
        site::config(
            1,
            65001,
            &[(2, 65002)],
            &format!("password-file = \"{}\"\nttl-security = 1", file.display()),
        )
    };
    let sites = [
        Site::vtepd_with(&fabric, 1, vtepd),
        Site::frr_with(&fabric, 2, &frr),
    ];
    expect_full(&sites);
    all_connected(&sites);
    let shown = sites[0].ctl().done("show bgp neighbor 203.0.113.2");
    assert!(
        shown.contains("TCP-MD5") && !shown.contains("sesame"),
        "{shown}"
    );
    let _ = std::fs::remove_file(std::env::temp_dir().join(format!("{}.key", sites[0].ns.name())));
}
}

on_each_release! {
/// FRR opens the connection to a passive vtepd with both; then the key changes, and is removed:
/// the listener follows (findings C5 and C6).
fn a_session_that_frr_opens_uses_the_current_key_and_ttl_security() {
    let fabric = Fabric::new(1600);
    let keys = [
        "neighbor X password sesame",
        "neighbor X ttl-security hops 1",
    ];
    let frr = frr::vtep(2, 65002, &[(1, 65001)], &keys);
    let key_file = |ns: &Netns| std::env::temp_dir().join(format!("{}.passive", ns.name()));
    let vtepd = |ns: &Netns| {
        let file = key_file(ns);
        std::fs::write(&file, "sesame\n").expect("the temporary directory can be written");
        ns.run(&format!("chmod 600 {}", file.display()));
        let keys = format!(
            "passive = true\nttl-security = 1\npassword-file = \"{}\"",
            file.display()
        );
        site::config(1, 65001, &[(2, 65002)], &keys)
    };
    let mut sites = [
        Site::vtepd_with(&fabric, 1, vtepd),
        Site::frr_with(&fabric, 2, &frr),
    ];
    expect_full(&sites);
    all_connected(&sites);
    let again = |sites: &mut [Site; 2], line: &str| {
        let established = |site: &Site| {
            let shown = site.ctl().show("bgp neighbor 203.0.113.2");
            (shown["state"] == "Established").then(|| shown["established"].as_u64())?
        };
        let before = established(&sites[0]).expect("it is established");
        sites[1].bgpd().configure(&["router bgp 65002", line]);
        sites[0].ctl().program.signal(rustix::process::Signal::HUP);
        wait_for(line, 40, || {
            (established(&sites[0]) > Some(before)).then_some(())
        });
        expect_full(sites);
    };
    let file = key_file(&sites[0].ns);
    std::fs::write(&file, "second\n").expect("the temporary directory can be written");
    again(&mut sites, "neighbor 203.0.113.1 password second");
    let config = sites[0].ctl().config();
    let text = std::fs::read_to_string(&config).expect("the configuration is readable");
    let without: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with("password-file"))
        .collect();
    std::fs::write(&config, without.join("\n")).expect("the scratch directory can be written");
    again(&mut sites, "no neighbor 203.0.113.1 password");
    let _ = std::fs::remove_file(file);
}
}

on_each_release! {
fn sessions_are_shut_down_enabled_and_cleared() {
    let fabric = Fabric::new(1600);
    let mut sites = [Site::vtepd(&fabric, 1, &[2]), Site::frr(&fabric, 2, &[1])];
    expect_full(&sites);
    let vtepd = sites[0].ctl();
    vtepd.done("bgp shutdown 203.0.113.2 --message maintenance");
    sites[0].expect_flood(100, &[]);
    sites[1].expect_flood(100, &[]);
    let state = |site: &Site| site.ctl().show("bgp summary")["neighbors"][0]["state"].clone();
    assert_eq!(state(&sites[0]), "Shutdown");
    let shown = sites[1].bgpd().show("show bgp neighbors 203.0.113.1");
    assert!(shown.contains("Administrative Shutdown"), "{shown}");
    let vtepd = sites[0].ctl();
    vtepd.done("bgp enable 203.0.113.2");
    expect_full(&sites);
    for soft in ["in", "out", "both"] {
        vtepd.done(&format!("bgp clear 203.0.113.2 --soft {soft}"));
        assert_eq!(lost(&sites[0].hosts[0].ns, ip4(12), 20), 0, "soft {soft}");
    }
    assert_eq!(state(&sites[0]), "Established");
    vtepd.done("bgp clear 203.0.113.2");
    wait_for("the session is back", 20, || {
        (state(&sites[0]) == "Established").then_some(())
    });
    expect_full(&sites);
}
}

/// Frames sent while a peer restarts, 5 ms apart.
const SENT: usize = 800;

on_each_release! {
fn a_peer_that_restarts_gracefully_loses_no_frame() {
    let fabric = Fabric::new(1600);
    let config = frr::vtep(
        2,
        65000,
        &[(1, 65000)],
        &[
            "bgp graceful-restart",
            "bgp graceful-restart preserve-fw-state",
        ],
    );
    let mut sites = [
        Site::vtepd(&fabric, 1, &[2]),
        Site::frr_with(&fabric, 2, &config),
    ];
    expect_full(&sites);
    let mut tenant = Raw::open(&sites[0].hosts[0].ns, "eth0", Kind::Packet);
    let receiver = Raw::open(&sites[1].hosts[0].ns, "eth0", Kind::Packet);
    let sender = std::thread::spawn(move || {
        for _ in 0..SENT {
            tenant.send(&plain(&mac(12), &mac(11), "while-away"));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    let Site {
        daemon: site::Daemon::Frr(frr),
        ns,
        ..
    } = &mut sites[1]
    else {
        panic!("site 2 is FRR's")
    };
    frr.kill();
    std::thread::sleep(std::time::Duration::from_secs(1));
    frr.restart(ns);
    frr.established(1);
    sender.join().expect("it only sends");
    assert_eq!(receiver.expect("while-away", SENT).len(), SENT);
    expect_full(&sites);
}
}

on_each_release! {
fn a_dual_stack_vtepd_exchanges_routes_with_frr_over_ipv4() {
    // FRR 8.4 resets a session at an IPv6 endpoint: with both families configured IPv4 is
    // announced.
    let fabric = Fabric::new(1600);
    let vtepd =
        |_: &Netns| site::config(1, 65000, &[(2, 65000)], "").both_families(Underlay::V6.vtep(1));
    let sites = [
        Site::vtepd_with(&fabric, 1, vtepd),
        Site::frr(&fabric, 2, &[1]),
    ];
    expect_full(&sites);
    all_connected(&sites);
}
}

/// vtepd at 1 and 2 over IPv6, each with `keys` for its neighbor; their tenants reach each other.
fn over_ipv6(keys: [&str; 2]) -> (Fabric, [Site; 2]) {
    let fabric = Fabric::new(1600);
    let vtepd = |number: u8, other: u8| {
        let peer = format!(
            "[[bgp.neighbor]]\naddress = \"{}\"\nremote-asn = 65000\nconnect-retry = 1\n{}",
            vtep6(other),
            keys[usize::from(number) - 1]
        );
        let config = Config::new(vtep6(number))
            .raw(&format!(
                "[bgp]\nasn = 65000\nrouter-id = \"{}\"\n{peer}",
                vtep4(number)
            ))
            .vni(100, &[])
            .port(&format!("t{}", number + 10), &[mac(number + 10)]);
        Site::vtepd_with(&fabric, number, |_| config)
    };
    let sites = [vtepd(1, 2), vtepd(2, 1)];
    for (site, other) in [(0, 2), (1, 1)] {
        wait_for("the other VTEP and its tenant are known", 20, || {
            let vtep = Some(vtep6(other).to_string());
            let known = sites[site].remote_mac(100, &mac(other + 10)) == vtep;
            (known && sites[site].flood(100).first() == vtep.as_ref()).then_some(())
        });
    }
    let [a, b] = [0, 1].map(|i: usize| &sites[i].hosts[0]);
    assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
    assert_no_loss((&a.ns, a.ip6()), (&b.ns, b.ip6()));
    (fabric, sites)
}

#[test]
fn two_vtepd_over_ipv6_alone() {
    let _ = over_ipv6([""; 2]);
}

/// A key over IPv6 is changed, removed and set again: the listener of the passive side follows
/// (finding C6).
#[test]
fn a_password_over_ipv6_is_the_present_one() {
    let scratch = std::env::temp_dir().join(format!("ipv6-{}.key", std::process::id()));
    let write = |password: &str| {
        std::fs::write(&scratch, password).expect("the temporary directory can be written");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&scratch, private).expect("it is ours");
    };
    write("first\n");
    let line = format!("password-file = \"{}\"\n", scratch.display());
    let (_fabric, sites) = over_ipv6([&format!("{line}passive = true"), &line]);
    for password in [Some("second\n"), None, Some("third\n")] {
        let established = |site: usize| {
            let other = vtep6(if site == 0 { 2 } else { 1 });
            let shown = sites[site].ctl().show(&format!("bgp neighbor {other}"));
            (shown["state"] == "Established").then(|| shown["established"].as_u64())?
        };
        let before = [0, 1].map(established);
        password.into_iter().for_each(write);
        for site in &sites {
            let file = site.ctl().config();
            let text = std::fs::read_to_string(&file).expect("the configuration is readable");
            let text = text.replace(&line, "");
            let with = format!("connect-retry = 1\n{line}");
            let text = match password {
                Some(_) => text.replace("connect-retry = 1\n", &with),
                None => text,
            };
            std::fs::write(&file, text).expect("the scratch directory can be written");
            site.ctl().program.signal(rustix::process::Signal::HUP);
        }
        for (site, before) in (0..).zip(before) {
            wait_for(&format!("a session with {password:?}"), 40, || {
                (established(site) > before).then_some(())
            });
        }
    }
    let _ = std::fs::remove_file(scratch);
}

/// The passive side sends with hop limit 255 too, and drops what comes from further away (finding
/// C5).
#[test]
fn two_vtepd_over_ipv6_with_ttl_security() {
    let _ = over_ipv6(["ttl-security = 1\npassive = true", "ttl-security = 1"]);
}

/// As over IPv6 (finding C5).
#[test]
fn two_vtepd_over_ipv4_with_ttl_security() {
    let fabric = Fabric::new(1600);
    let site = |number: u8, other: u8, keys: &str| {
        let config = site::config(number, 65000, &site::internal(&[other]), keys);
        Site::vtepd_with(&fabric, number, |_| config)
    };
    let sites = [
        site(1, 2, "ttl-security = 1\npassive = true"),
        site(2, 1, "ttl-security = 1"),
    ];
    expect_full(&sites);
    all_connected(&sites);
}
