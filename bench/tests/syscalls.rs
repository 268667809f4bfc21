//! A worker on real sockets makes at most one system call per batch and socket. Needs root and
//! strace.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use vtep_bench::testbed::forwarder::{Forwarder, Work};
use vtep_bench::testbed::topology::Direction;
use vtep_bench::testbed::trial::{ExpectedFrame, FORWARDER_CORE, LinkTest};

/// Frames that are forwarded under strace.
const FRAMES: u64 = 1_000_000;

/// The environment variable that passes the path of the report to this program, started again under
/// strace.
const ROLE: &str = "VTEP_BENCH_UNDER_STRACE";

/// Forwards [`FRAMES`] frames; writes the forwarder's thread ID, the frames and the iterations to
/// `report`.
fn forward(report: &str) {
    let mut link_test = LinkTest::new("strace", 60, Direction::Out).unwrap();
    let forwarder = Forwarder::start(&link_test.topology, Work::Vxlan, FORWARDER_CORE).unwrap();
    link_test.check(ExpectedFrame::Vxlan).unwrap();
    let before = link_test.arrived().unwrap();
    let mut arrived = 0;
    for _ in 0..240 {
        link_test.measure(Duration::from_millis(500)).unwrap();
        arrived = link_test.arrived().unwrap() - before;
        if arrived >= FRAMES {
            break;
        }
    }
    assert!(arrived >= FRAMES, "{arrived} frames in two minutes");
    fs::write(
        report,
        format!(
            "{} {arrived} {}",
            forwarder.thread_id(),
            forwarder.iterations()
        ),
    )
    .unwrap();
}

#[test]
fn one_system_call_per_batch_and_socket() {
    if let Ok(report) = std::env::var(ROLE) {
        return forward(&report);
    }
    let dir = std::env::temp_dir().join(format!("vtep-strace-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let (trace, report) = (dir.join("trace"), dir.join("report"));
    let output = Command::new("strace")
        .args(["-ff", "-qq", "-e", "trace=all", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "one_system_call_per_batch_and_socket"])
        .env(ROLE, &report)
        .output()
        .expect("strace: install it with scripts/setup");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let report = fs::read_to_string(&report).unwrap();
    let [thread, frames, iterations] = report.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{report:?}")
    };
    let (frames, iterations): (u64, u64) = (frames.parse().unwrap(), iterations.parse().unwrap());
    let calls = calls(Path::new(&format!("{}.{thread}", trace.display())));
    fs::remove_dir_all(&dir).unwrap();
    let [sent, woken, others] = calls;
    println!(
        "{frames} frames in {iterations} iterations: {sent} x sendto, {woken} x recvfrom, {others} \
         others"
    );
    // Two sockets, each with at most one batch per iteration.
    assert!(
        sent <= iterations,
        "{sent} calls to send in {iterations} iterations"
    );
    assert!(
        woken <= 2 * iterations,
        "{woken} calls to receive in {iterations} iterations"
    );
    // Opening the sockets, and sleep after 8 iterations without work: one call to sleep, and one to
    // clear the wake-up.
    assert!(others < 2000 + iterations / 4, "{others} other calls");
    assert!(
        sent + woken < frames / 8,
        "{} calls for {frames} frames",
        sent + woken
    );
}

/// System calls of a thread: to send, to receive, others.
fn calls(trace: &Path) -> [u64; 3] {
    let text = fs::read_to_string(trace).unwrap();
    let mut counted = [0; 3];
    for line in text.lines() {
        let kind = match line.split('(').next() {
            Some("sendto") => 0,
            Some("recvfrom") => 1,
            _ => 2,
        };
        counted[kind] += 1;
    }
    counted
}
