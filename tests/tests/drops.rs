//! Frames that a tenant may not send, counted by reason.
//!
//! ```text
//! t11: raw frames ── h1: vtepd ── eth0 ── fabric ── eth0 ── h9: raw frames
//! ```

use std::time::Instant;

use vtep_tests::frame::{plain, tagged};
use vtep_tests::link::mac;
use vtep_tests::netns::wait_for;
use vtep_tests::topology::RawPair;

/// Sends `frame` (which contains "dropped") and then a valid one; only the valid one may arrive,
/// and `reason` counts one.
fn dropped(pair: &mut RawPair, frame: &[u8], reason: &str) {
    let before = pair.vtepd.drops(reason);
    let marker = format!("after-{reason}-{before}");
    pair.tenant.send(frame);
    pair.tenant.send(&plain(&mac(12), &mac(11), &marker));
    assert_eq!(pair.peer.expect(&marker, 1).len(), 1);
    assert!(
        pair.peer.with_marker("dropped").is_empty(),
        "{reason}: it was forwarded"
    );
    pair.vtepd.expect_drops(reason, before, 1);
}

#[test]
fn invalid_tenant_frames_are_dropped_and_counted() {
    let mut pair = RawPair::new();
    dropped(
        &mut pair,
        &plain(&mac(12), "01:54:33:00:00:0b", "dropped"),
        "source-mac",
    );
    dropped(
        &mut pair,
        &plain(&mac(12), "00:00:00:00:00:00", "dropped"),
        "source-mac",
    );
    dropped(
        &mut pair,
        &plain("01:80:c2:00:00:00", &mac(11), "dropped"),
        "link-local-group",
    );
    dropped(
        &mut pair,
        &plain("01:80:c2:00:00:0e", &mac(11), "dropped"),
        "link-local-group",
    );
    dropped(
        &mut pair,
        &tagged(&plain(&mac(12), &mac(11), "dropped"), 7),
        "tagged",
    );
    dropped(&mut pair, &plain(&mac(11), &mac(11), "dropped"), "hairpin");
}

#[test]
fn a_locked_port_accepts_only_its_own_macs() {
    let mut pair = RawPair::with("", "lock = true");
    dropped(&mut pair, &plain(&mac(12), &mac(99), "dropped"), "locked");
}

#[test]
fn storm_control_limits_a_flood_before_replication() {
    let mut pair = RawPair::with("", "storm = { rate = 10, burst = 20 }");
    let start = Instant::now();
    for _ in 0..200 {
        pair.tenant
            .send(&plain("ff:ff:ff:ff:ff:ff", &mac(11), "storm-frame"));
    }
    pair.tenant
        .send(&plain(&mac(12), &mac(11), "unicast-passes"));
    assert_eq!(pair.peer.expect("unicast-passes", 1).len(), 1);
    // The burst, plus the rate for the time that it took. The tenant's kernel sends multicast too
    // (MLD): a few such frames consume tokens, or are among the dropped.
    let most = 20 + 10 * (start.elapsed().as_secs() + 1);
    let passed = pair.peer.with_marker("storm-frame").len() as u64;
    assert!(
        (10..=most).contains(&passed),
        "{passed} of 200 passed, at most {most} may"
    );
    let (dropped, ours) = (pair.vtepd.drops("storm"), 200 - passed);
    assert!(
        (ours..ours + 20).contains(&dropped),
        "{dropped} dropped, {ours} of them sent by the test"
    );
}

#[test]
fn learn_events_of_a_port_are_limited_and_its_frames_still_pass() {
    let mut pair = RawPair::with("", "learn-limit = 4");
    let held = |pair: &RawPair| {
        let ports = pair.vtepd.show("ports");
        let row = ports["rows"]
            .as_array()
            .expect("rows")
            .iter()
            .find(|row| row["interface"] == "t11");
        row.and_then(|row| row["events_suppressed"].as_u64())
            .unwrap_or_else(|| panic!("t11: {ports}"))
    };
    assert_eq!(held(&pair), 0);
    let mut round = 0;
    wait_for("learn events are suppressed", 10, || {
        round += 1;
        for host in 0..2000 {
            let source = format!("52:00:00:{round:02x}:{:02x}:{:02x}", host >> 8, host & 0xff);
            pair.tenant.send(&plain(&mac(12), &source, "invented"));
        }
        (held(&pair) > 0).then_some(())
    });
    assert!(pair.vtepd.done("show ports").contains("Suppressed"));
    pair.tenant
        .send(&plain(&mac(12), "52:00:00:ff:ff:ff", "still-passes"));
    assert_eq!(
        pair.peer.expect("still-passes", 1).len(),
        1,
        "the frames themselves are forwarded"
    );
    let rows = pair.vtepd.show("mac --vni 100")["rows"]
        .as_array()
        .map_or(0, Vec::len);
    assert_eq!(
        rows,
        2 + 4,
        "the configured host of the port, a static one, and the learn limit"
    );
}

#[test]
fn a_frame_without_an_adjacency_is_dropped_and_counted() {
    let mut pair = RawPair::new();
    pair.vtepd
        .done("fdb add 50:54:33:00:00:55 --vni 100 --vtep 198.51.100.7");
    let before = pair.vtepd.drops("no-adjacency");
    pair.tenant
        .send(&plain("50:54:33:00:00:55", &mac(11), "dropped"));
    pair.vtepd.expect_drops("no-adjacency", before, 1);
}
