//! iperf3 and arping as measurements, and the output of ping; echo.rs counts answers.

use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;

use crate::netns::{Netns, must};
use crate::program::Program;

/// The output of ping with `options`, regardless of its exit status.
#[must_use]
pub fn ping(from: &Netns, to: IpAddr, options: &str) -> String {
    let out = from.try_run(&format!("ping -n {options} {to}"));
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// The result of iperf3.
#[derive(Debug, Clone, Copy)]
pub struct Throughput {
    /// Received throughput, Mbit/s.
    pub mbps: f64,
    /// Retransmitted TCP segments.
    pub retransmits: u64,
}

/// Runs iperf3 over TCP for `seconds`: from `client` to the server at `address`, or in the reverse
/// direction if `reverse` is set.
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
    let direction: &[&str] = if reverse { &["-R"] } else { &[] };
    iperf3_with(client, server, address, dir, seconds, direction)
}

/// As [`iperf3`], with options of the client.
///
/// # Panics
/// As [`iperf3`].
#[must_use]
pub fn iperf3_with(
    client: &Netns,
    server: &Netns,
    address: IpAddr,
    dir: &Path,
    seconds: u32,
    options: &[&str],
) -> Throughput {
    let mut daemon = Program::start(server, dir, &["iperf3", "-s", "-1", "--forceflush"]);
    daemon.wait_for_output("Server listening", 10);
    let target = address.to_string();
    let time = seconds.to_string();
    let mut words = vec![
        "iperf3",
        "-J",
        "-c",
        &target,
        "-t",
        &time,
        "--connect-timeout",
        "15000",
    ];
    words.extend(options);
    let out = client.try_run_for(seconds + 60, &words);
    let result: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    assert!(
        result["error"].is_null(),
        "iperf3 to {address}: {}",
        result["error"]
    );
    must(&out, "iperf3");
    let end = &result["end"];
    Throughput {
        mbps: end["sum_received"]["bits_per_second"]
            .as_f64()
            .expect("iperf3's JSON")
            / 1e6,
        retransmits: end["sum_sent"]["retransmits"].as_u64().unwrap_or(0),
    }
}

/// The MAC (lower case) in the answer to an ARP request for `address`; `None` without an answer
/// within 3 s.
#[must_use]
pub fn arping(from: &Netns, address: IpAddr) -> Option<String> {
    let out = from.try_run(&format!("arping -I eth0 -c 1 -w 3 {address}"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let start = text.find('[')?;
    Some(text[start + 1..text[start..].find(']')? + start].to_lowercase())
}

/// Where programs are attached to an interface: `xdp`, `tcx/ingress`, `tcx/egress`.
///
/// # Panics
/// If there is no such interface.
#[must_use]
pub fn programs(ns: &Netns, interface: &str) -> Vec<String> {
    const TOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/programs.py");
    let xdp = ns.link(interface)["xdp"].is_object();
    let xdp = xdp.then(|| "xdp".to_owned());
    let tcx = ns.run(&format!("/usr/bin/python3 {TOOL} {interface}"));
    let hook = |line: &str| line.split_whitespace().next().map(str::to_owned);
    xdp.into_iter()
        .chain(tcx.lines().filter_map(hook))
        .collect()
}
