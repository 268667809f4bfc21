//! vtepd is killed and restarts: a peer that retains its routes (RFC 4724) loses none meanwhile,
//! and one that does not relearns all of them.
//!
//! ```text
//! t11, t21 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h2: vtepd or FRR ── t12, t22
//!                                    └────── eth0 ── h251: GoBGP, route reflector
//! ```

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use vtep_tests::echo::{Stream, assert_no_loss};
use vtep_tests::fabric::{Fabric, Underlay, vtep4};
use vtep_tests::gobgp::Gobgp;
use vtep_tests::netns::wait_for;
use vtep_tests::on_each_release;
use vtep_tests::site::{Daemon, Site, expect_full};
use vtep_tests::topology::{Pair, Peer};
use vtep_tests::vtepd::Vtepd;

/// How vtepd ends.
type End = fn(&mut Vtepd);

/// It is killed.
const KILLED: End = Vtepd::kill;

/// It is stopped for a restart.
const STOPPED: End = |vtepd| {
    vtepd.program.signal(Signal::TERM);
    assert!(vtepd.program.wait(10).success());
};

/// Ends the vtepd of `site` and starts it again a second later; `meanwhile` runs repeatedly on a
/// thread until the sessions are back.
fn restart(site: Site, end: End, meanwhile: impl Fn() + Send + Sync) -> Site {
    let Site {
        daemon: Daemon::Vtepd(mut vtepd),
        hosts,
        ns,
        number,
    } = site
    else {
        panic!("the site runs vtepd")
    };
    let over = AtomicBool::new(false);
    let vtepd = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            // Ends with the restart, or after a limit if the restart has failed.
            let most = Instant::now() + Duration::from_secs(120);
            while !over.load(Relaxed) && Instant::now() < most {
                meanwhile();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        end(&mut vtepd);
        std::thread::sleep(Duration::from_secs(1));
        let vtepd = vtepd.restart(&ns);
        wait_for("its BGP sessions", 20, || {
            let shown = vtepd.show("bgp summary");
            let mut all = shown["neighbors"].as_array().into_iter().flatten();
            all.all(|row| row["state"] == "Established").then_some(())
        });
        // At the End-of-RIB the peers remove routes that were not advertised again.
        std::thread::sleep(Duration::from_secs(1));
        over.store(true, Relaxed);
        if let Err(panic) = watcher.join() {
            std::panic::resume_unwind(panic);
        }
        vtepd
    });
    Site {
        daemon: Daemon::Vtepd(vtepd),
        hosts,
        ns,
        number,
    }
}

/// `other` still forwards to site 1.
fn keeps_site_1(other: &Site) {
    let vtep = vtep4(1).to_string();
    assert_eq!(
        other.remote_mac(100, "50:54:33:00:00:0b"),
        Some(vtep.clone()),
        "tenant 11"
    );
    assert!(
        other.flood(200).contains(&vtep),
        "the flood list of VNI 200"
    );
}

/// The routes of site 1 that `other` has marked as stale.
fn stale(other: &Site) -> usize {
    let routes = other.ctl().show("bgp routes");
    let rows = routes["rows"].as_array().cloned().unwrap_or_default();
    rows.iter().filter(|row| row["stale"] == true).count()
}

fn assert_connected(sites: &[Site; 2]) {
    let [a, b] = sites.each_ref().map(|site| &site.hosts[0]);
    assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
}

#[test]
fn vtepd_keeps_the_routes_of_a_vtepd_that_restarts() {
    let fabric = Fabric::new(1600);
    let [one, two] = [Site::vtepd(&fabric, 1, &[2]), Site::vtepd(&fabric, 2, &[1])];
    let sites = [one, two];
    expect_full(&sites);
    let [one, two] = sites;
    let one = restart(one, KILLED, || keeps_site_1(&two));
    let sites = [one, two];
    expect_full(&sites);
    wait_for("nothing is stale", 10, || {
        (stale(&sites[1]) == 0).then_some(())
    });
    assert_connected(&sites);
}

on_each_release! {
fn gobgp_keeps_and_reflects_the_routes_of_a_vtepd_that_restarts() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(251);
    let _gobgp = Gobgp::keeping_reflector(&ns, 251, &[1, 2]);
    let [one, two] = [
        Site::vtepd(&fabric, 1, &[251]),
        Site::vtepd(&fabric, 2, &[251]),
    ];
    let sites = [one, two];
    expect_full(&sites);
    let [one, two] = sites;
    let one = restart(one, KILLED, || keeps_site_1(&two));
    let sites = [one, two];
    expect_full(&sites);
    assert_connected(&sites);
}
}

on_each_release! {
/// A planned stop is a restart too, at a neighbor that keeps our routes but preserves nothing itself;
/// `bgp shutdown all` before the stop leaves for good (finding C11).
fn a_helper_keeps_the_routes_of_a_vtepd_that_is_stopped_until_it_leaves_for_good() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(251);
    let _gobgp = Gobgp::helping_reflector(&ns, 251, &[1, 2]);
    let [one, two] = [
        Site::vtepd(&fabric, 1, &[251]),
        Site::vtepd(&fabric, 2, &[251]),
    ];
    let sites = [one, two];
    expect_full(&sites);
    let shown = sites[0].ctl().done("show bgp neighbor 203.0.113.251");
    assert!(shown.contains("graceful restart (helper)"), "{shown}");
    let [one, two] = sites;
    let one = restart(one, STOPPED, || keeps_site_1(&two));
    let sites = [one, two];
    expect_full(&sites);
    assert_connected(&sites);
    let [one, two] = sites;
    one.ctl().done("bgp shutdown all --message leaving");
    two.expect_flood(100, &[]);
    wait_for("the tenant of site 1 is gone", 10, || {
        two.remote_mac(100, "50:54:33:00:00:0b").is_none().then_some(())
    });
    let Daemon::Vtepd(vtepd) = one.daemon else {
        panic!("the site runs vtepd")
    };
    vtepd.stop();
}
}

on_each_release! {
/// FRR 8.4 does not retain EVPN routes: `FOREACH_AFI_SAFI_NSF` in its bgpd/bgpd.h ends before that
/// family. It must recognize the restart of vtepd, and relearn all routes at once.
fn frr_relearns_all_routes_when_vtepd_restarts() {
    let fabric = Fabric::new(1600);
    let sites = [Site::vtepd(&fabric, 1, &[2]), Site::frr(&fabric, 2, &[1])];
    expect_full(&sites);
    let [one, two] = sites;
    let one = restart(one, KILLED, || ());
    let mut sites = [one, two];
    expect_full(&sites);
    // vtepd has signalled the restart, that its forwarding state was preserved, and End-of-RIB.
    wait_for("FRR recognizes the restart", 10, || {
        let shown = sites[1].bgpd().json("show bgp neighbors 203.0.113.1")["203.0.113.1"].clone();
        let restart = &shown["gracefulRestartInfo"];
        let preserved = shown["neighborCapabilities"]
            .to_string()
            .contains("\"preserved\":true");
        (restart["rBit"] == true && restart["endOfRibRecv"]["l2VpnEvpn"] == true && preserved)
            .then_some(())
    });
    assert_connected(&sites);
}
}

/// What a restart costs: no frame is forwarded between the end of the old process and the start of
/// the new one (finding O13: it is not without a gap). docs/guide.md has the figure.
#[test]
fn a_restart_interrupts_traffic_for_less_than_two_seconds() {
    let mut pair = Pair::new(Underlay::V4, Peer::Vtepd);
    let [a, b] = &pair.hosts;
    assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
    let stream = Stream::start(&a.ns, b.ip4(), Duration::from_millis(10));
    stream.expect_more(20);
    STOPPED(&mut pair.daemons[0]);
    let vtepd = pair.daemons.remove(0).restart(&pair.hypervisors[0]);
    vtepd.expect_up(&[Underlay::V4.vtep(2)]);
    stream.expect_more(100);
    let (sent, lost) = stream.stop();
    println!("restart: {lost} of {sent} lost, one every 10 ms");
    assert!((1..200).contains(&lost), "{lost} of {sent}");
    vtepd.stop();
}
