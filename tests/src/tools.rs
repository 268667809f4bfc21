//! ping, iperf3 and arping as measurements.

use crate::netns::{Netns, must};
use crate::program::Program;
use serde_json::Value;
use std::net::IpAddr;
use std::path::Path;

/// Sends `count` echo requests, 10 ms apart, and gives how many of them were lost, in per cent.
///
/// # Panics
/// If ping cannot run at all.
#[must_use]
pub fn ping_loss(from: &Netns, to: IpAddr, count: u32) -> f64 {
    let text = ping(from, to, &format!("-c {count} -i 0.01 -W 1"));
    let loss = text.split(',').find_map(|part| part.trim().strip_suffix("% packet loss"));
    loss.and_then(|l| l.parse().ok()).unwrap_or_else(|| panic!("no loss in ping's output:\n{text}"))
}

/// What ping prints with `options`, whatever comes back.
#[must_use]
pub fn ping(from: &Netns, to: IpAddr, options: &str) -> String {
    let out = from.try_run(&format!("ping -n {options} {to}"));
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// Pings both ways, 20 echo requests each; none may be lost.
///
/// # Panics
/// If one is lost.
pub fn assert_no_loss(a: (&Netns, IpAddr), b: (&Netns, IpAddr)) {
    // The first exchange may wait for neighbour discovery in the tenants and in the underlay.
    let _ = ping(a.0, b.1, "-c 1 -W 2");
    let there = ping_loss(a.0, b.1, 20);
    let back = ping_loss(b.0, a.1, 20);
    assert!(there == 0.0 && back == 0.0, "lost {there}% of pings to {}, {back}% to {}", b.1, a.1);
}

/// What iperf3 measured.
#[derive(Debug, Clone, Copy)]
pub struct Throughput {
    /// Received, in Mbit/s.
    pub mbps: f64,
    /// TCP segments sent again.
    pub retransmits: u64,
}

/// Runs iperf3 over TCP for `seconds`: from `client` to the server at `address`, or the other way if `reverse`.
///
/// # Panics
/// If the connection fails.
#[must_use]
pub fn iperf3(
    client: &Netns,
    server: &Netns,
    address: IpAddr,
    dir: &Path,
    seconds: u32,
    reverse: bool,
) -> Throughput {
    let mut daemon = Program::start(server, dir, &["iperf3", "-s", "-1", "--forceflush"]);
    daemon.wait_for_output("Server listening", 10);
    let target = address.to_string();
    let time = seconds.to_string();
    let mut words = vec!["iperf3", "-J", "-c", &target, "-t", &time, "--connect-timeout", "3000"];
    if reverse {
        words.push("-R");
    }
    let out = client.try_run_for(seconds + 15, &words);
    let result: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    assert!(result["error"].is_null(), "iperf3 to {address}: {}", result["error"]);
    must(&out, "iperf3");
    let end = &result["end"];
    Throughput {
        mbps: end["sum_received"]["bits_per_second"].as_f64().expect("iperf3's JSON") / 1e6,
        retransmits: end["sum_sent"]["retransmits"].as_u64().unwrap_or(0),
    }
}

/// Whether someone answers an ARP request for `address` within 3 s, and with which MAC (lower case).
#[must_use]
pub fn arping(from: &Netns, address: IpAddr) -> Option<String> {
    let out = from.try_run(&format!("arping -I eth0 -c 1 -w 3 {address}"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let start = text.find('[')?;
    Some(text[start + 1..text[start..].find(']')? + start].to_lowercase())
}
