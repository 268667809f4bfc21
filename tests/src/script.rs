//! A scripted BGP peer, for speakers that cannot run here: the test writes every message
//! (tools/bgp_peer.py).

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::netns::{Netns, wait_for};
use crate::program::command_in;

const HELPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/bgp_peer.py");

/// Extended community: encapsulation VXLAN (RFC 8365 section 5.1.1).
pub const VXLAN: [u8; 8] = [3, 12, 0, 0, 0, 0, 0, 8];

/// A running peer.
#[derive(Debug)]
pub struct Script {
    child: Child,
    input: ChildStdin,
    output: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// Connects from `ns` to `address` as AS `asn`.
    ///
    /// # Panics
    /// If the session is not established within 10 s.
    #[must_use]
    pub fn connect(ns: &Netns, address: IpAddr, asn: u32, router_id: IpAddr) -> Self {
        let script = Self::start(ns, &address.to_string(), asn, router_id);
        wait_for("the scripted session", 10, || {
            script.printed("established").then_some(())
        });
        script
    }

    /// Waits in `ns` for connections, and serves them as AS `asn`.
    ///
    /// # Panics
    /// If it does not listen within 10 s.
    #[must_use]
    pub fn listen(ns: &Netns, asn: u32, router_id: IpAddr) -> Self {
        let script = Self::start(ns, "--listen", asn, router_id);
        wait_for("the scripted peer listens", 10, || {
            script.printed("listening").then_some(())
        });
        script
    }

    fn start(ns: &Netns, address: &str, asn: u32, router_id: IpAddr) -> Self {
        let words = [
            HELPER.to_owned(),
            address.to_owned(),
            asn.to_string(),
            router_id.to_string(),
        ];
        let mut all = vec!["/usr/bin/python3"];
        all.extend(words.iter().map(String::as_str));
        let mut child = command_in(ns, &all)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv (util-linux) is installed: run scripts/setup");
        let input = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let output = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&output);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                lines.lock().expect("no panic inside").push(line);
            }
        });
        Self {
            child,
            input,
            output,
        }
    }

    /// All events in order, each as the first two words of its line: `connected`, `message 1` for
    /// an OPEN, `established`, `closed`.
    ///
    /// # Panics
    /// Never: nothing panics while it holds the list.
    #[must_use]
    pub fn events(&self) -> Vec<String> {
        let lines = self.output.lock().expect("no panic inside");
        lines
            .iter()
            .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
            .collect()
    }

    /// Closes the newest connection.
    ///
    /// # Panics
    /// If the helper has exited.
    pub fn close(&mut self) {
        self.input.write_all(b"close\n").expect("bgp_peer.py runs");
    }

    /// Whether a line starting with `start` was printed: `message 3` for a NOTIFICATION, `closed`.
    ///
    /// # Panics
    /// Never: nothing panics while it holds the list.
    #[must_use]
    pub fn printed(&self, start: &str) -> bool {
        self.output
            .lock()
            .expect("no panic inside")
            .iter()
            .any(|line| line.starts_with(start))
    }

    /// Sends a complete message.
    ///
    /// # Panics
    /// If the helper has exited.
    pub fn send(&mut self, message: &[u8]) {
        let mut line: String = message.iter().map(|b| format!("{b:02x}")).collect();
        line.push('\n');
        self.input
            .write_all(line.as_bytes())
            .expect("bgp_peer.py runs");
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// An EVPN route: type, length, value (RFC 7432 section 7).
#[must_use]
pub fn route(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind, octet(value.len())], value].concat()
}

/// The NLRI of a MAC with its IPv4 address, ESI 0.
#[must_use]
pub fn mac_ip(rd: [u8; 8], tag: u32, mac: [u8; 6], ip: [u8; 4], label: u32) -> Vec<u8> {
    mac_with(rd, tag, mac, &ip, label)
}

/// The NLRI of a MAC with the octets of its IPv4 or IPv6 address, or without one, ESI 0.
#[must_use]
pub fn mac_with(rd: [u8; 8], tag: u32, mac: [u8; 6], ip: &[u8], label: u32) -> Vec<u8> {
    let value = [
        &rd[..],
        &[0; 10],
        &tag.to_be_bytes(),
        &[48],
        &mac,
        &[octet(8 * ip.len())],
        ip,
        &label.to_be_bytes()[1..],
    ];
    route(2, &value.concat())
}

/// The NLRI of an inclusive multicast route.
#[must_use]
pub fn imet(rd: [u8; 8], tag: u32, originator: [u8; 4]) -> Vec<u8> {
    route(
        3,
        &[&rd[..], &tag.to_be_bytes(), &[32], &originator].concat(),
    )
}

/// An iBGP UPDATE that advertises `nlri` with `next_hop`, the extended communities and, for type 3,
/// a `PMSI_TUNNEL` attribute for ingress replication with this label.
#[must_use]
pub fn announce(
    nlri: &[u8],
    next_hop: [u8; 4],
    communities: &[[u8; 8]],
    pmsi: Option<u32>,
) -> Vec<u8> {
    let mut attributes = attribute(0x40, 1, &[0]);
    attributes.extend(attribute(0x40, 2, &[]));
    attributes.extend(attribute(0x40, 5, &100_u32.to_be_bytes()));
    attributes.extend(attribute(
        0x80,
        14,
        &[&[0, 25, 70, 4][..], &next_hop, &[0], nlri].concat(),
    ));
    attributes.extend(attribute(0xc0, 16, &communities.concat()));
    if let Some(label) = pmsi {
        let value = [&[0, 6][..], &label.to_be_bytes()[1..], &next_hop].concat();
        attributes.extend(attribute(0xc0, 22, &value));
    }
    update(&attributes)
}

/// A NOTIFICATION 6/2 with a shutdown communication (RFC 9003).
#[must_use]
pub fn shutdown(text: &[u8]) -> Vec<u8> {
    let length = octet(22 + text.len());
    [
        &[0xff; 16][..],
        &[0, length, 3, 6, 2, octet(text.len())],
        text,
    ]
    .concat()
}

/// The UPDATE `message` without withdrawn IPv4 routes, with one more attribute: flags, type, value.
#[must_use]
pub fn with_attribute(message: &[u8], flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    update(&[&message[23..], &attribute(flags, kind, value)].concat())
}

/// An UPDATE that withdraws `nlri`.
#[must_use]
pub fn withdraw(nlri: &[u8]) -> Vec<u8> {
    update(&attribute(0x80, 15, &[&[0, 25, 70][..], nlri].concat()))
}

fn attribute(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    [&[flags, kind, octet(value.len())], value].concat()
}

fn update(attributes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(23 + attributes.len()).expect("a short message");
    let own = u16::try_from(attributes.len()).expect("a short message");
    [
        &[0xff; 16][..],
        &length.to_be_bytes(),
        &[2, 0, 0],
        &own.to_be_bytes(),
        attributes,
    ]
    .concat()
}

fn octet(length: usize) -> u8 {
    u8::try_from(length).expect("what the tests send is short")
}
