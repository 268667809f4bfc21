//! What a tenant may not send, counted by reason.

use std::time::Instant;

use vtep_tests::frame::{plain, tagged};
use vtep_tests::link::mac;
use vtep_tests::netns::wait_for;
use vtep_tests::stage::Bench;

/// Sends `frame` (which holds "dropped") and then a good one; only the good one may arrive, and `reason` counts one.
fn dropped(bench: &mut Bench, frame: &[u8], reason: &str) {
    let before = bench.vtepd.drops(reason);
    let marker = format!("after-{reason}-{before}");
    bench.tenant.send(frame);
    bench.tenant.send(&plain(&mac(12), &mac(11), &marker));
    assert_eq!(bench.peer.expect(&marker, 1).len(), 1);
    assert!(
        bench.peer.with_marker("dropped").is_empty(),
        "{reason}: it came out"
    );
    bench.vtepd.expect_drops(reason, before, 1);
}

#[test]
fn frames_that_no_tenant_may_send_are_dropped_and_counted() {
    let mut bench = Bench::new();
    dropped(
        &mut bench,
        &plain(&mac(12), "01:54:33:00:00:0b", "dropped"),
        "source-mac",
    );
    dropped(
        &mut bench,
        &plain(&mac(12), "00:00:00:00:00:00", "dropped"),
        "source-mac",
    );
    dropped(
        &mut bench,
        &plain("01:80:c2:00:00:00", &mac(11), "dropped"),
        "link-local-group",
    );
    dropped(
        &mut bench,
        &plain("01:80:c2:00:00:0e", &mac(11), "dropped"),
        "link-local-group",
    );
    dropped(
        &mut bench,
        &tagged(&plain(&mac(12), &mac(11), "dropped"), 7),
        "tagged",
    );
    dropped(&mut bench, &plain(&mac(11), &mac(11), "dropped"), "hairpin");
}

#[test]
fn a_locked_port_takes_only_its_own_macs() {
    let mut bench = Bench::with("", "lock = true");
    dropped(&mut bench, &plain(&mac(12), &mac(99), "dropped"), "locked");
}

#[test]
fn a_flood_is_limited_before_it_is_replicated() {
    let mut bench = Bench::with("", "storm = { rate = 10, burst = 20 }");
    let start = Instant::now();
    for _ in 0..200 {
        bench
            .tenant
            .send(&plain("ff:ff:ff:ff:ff:ff", &mac(11), "storm-frame"));
    }
    bench
        .tenant
        .send(&plain(&mac(12), &mac(11), "unicast-passes"));
    assert_eq!(bench.peer.expect("unicast-passes", 1).len(), 1);
    // The burst, and the rate for as long as it took. The tenant's kernel multicasts too (MLD): a few of those take from
    // the bucket, or are among the dropped.
    let most = 20 + 10 * (start.elapsed().as_secs() + 1);
    let passed = bench.peer.with_marker("storm-frame").len() as u64;
    assert!(
        (10..=most).contains(&passed),
        "{passed} of 200 passed, at most {most} may"
    );
    let (dropped, ours) = (bench.vtepd.drops("storm"), 200 - passed);
    assert!(
        (ours..ours + 20).contains(&dropped),
        "{dropped} dropped, {ours} of them ours"
    );
}

#[test]
fn a_port_that_invents_hosts_is_held_back_and_its_frames_go_on() {
    let mut bench = Bench::with("", "learn-limit = 4");
    let held = |bench: &Bench| {
        let ports = bench.vtepd.show("ports");
        let row = ports["rows"]
            .as_array()
            .expect("rows")
            .iter()
            .find(|row| row["interface"] == "t11");
        row.and_then(|row| row["events_suppressed"].as_u64())
            .unwrap_or_else(|| panic!("t11: {ports}"))
    };
    assert_eq!(held(&bench), 0);
    let mut round = 0;
    wait_for("notices are held back", 10, || {
        round += 1;
        for host in 0..2000 {
            let source = format!("52:00:00:{round:02x}:{:02x}:{:02x}", host >> 8, host & 0xff);
            bench.tenant.send(&plain(&mac(12), &source, "invented"));
        }
        (held(&bench) > 0).then_some(())
    });
    assert!(bench.vtepd.done("show ports").contains("Suppressed"));
    bench
        .tenant
        .send(&plain(&mac(12), "52:00:00:ff:ff:ff", "goes-on"));
    assert_eq!(
        bench.peer.expect("goes-on", 1).len(),
        1,
        "the frames themselves pass"
    );
    let rows = bench.vtepd.show("mac --vni 100")["rows"]
        .as_array()
        .map_or(0, Vec::len);
    assert_eq!(
        rows,
        2 + 4,
        "the port's own host, a static one, and as many as the port may learn"
    );
}

#[test]
fn a_frame_for_which_there_is_no_path_is_counted() {
    let mut bench = Bench::new();
    bench
        .vtepd
        .done("fdb add 50:54:33:00:00:55 --vni 100 --vtep 198.51.100.7");
    let before = bench.vtepd.drops("no-adjacency");
    bench
        .tenant
        .send(&plain("50:54:33:00:00:55", &mac(11), "dropped"));
    bench.vtepd.expect_drops("no-adjacency", before, 1);
}
