//! Tables that are read page by page while they change.
//!
//! ```text
//! test: show.* with `limit` and `after` ──> h1: vtepd ── eth0 ── fabric ── eth0 ── h9: bgp_peer.py
//!       vni.add, vni.del ─────────────────────┘
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};
use vtep_tests::fabric::{Fabric, vtep4};
use vtep_tests::netns::wait_for;
use vtep_tests::script::{Script, VXLAN, announce, mac_ip, withdraw};
use vtep_tests::site;
use vtep_tests::vtepd::Vtepd;

const NINE: [u8; 4] = [203, 0, 113, 9];
/// Type 1: 203.0.113.9:1.
const RD: [u8; 8] = [0, 1, 203, 0, 113, 9, 0, 1];

/// Hosts that are there all the time.
const HOSTS: usize = 2000;
/// Hosts that come and go.
const RESTLESS: usize = 400;
/// VNIs that are there all the time, beside VNI 100.
const VNIS: u32 = 1500;
/// Static VTEPs.
const VTEPS: usize = 600;
/// Routes in a message: the attribute of the fixture has at most 255 octets.
const ROUTES: usize = 5;

/// The number of a host in its MAC and address: those that come and go lie between the others.
fn place(host: usize) -> [u8; 2] {
    let place = if host < HOSTS {
        host * 2
    } else {
        (host - HOSTS) * 10 + 1
    };
    [(place >> 8) as u8, place as u8]
}

fn mac(host: usize) -> String {
    let [high, low] = place(host);
    format!("50:54:34:00:{high:02x}:{low:02x}")
}

fn nlri(host: usize) -> Vec<u8> {
    let [high, low] = place(host);
    let mac = [0x50, 0x54, 0x34, 0, high, low];
    mac_ip(RD, 0, mac, [10, 9, high, low], 100)
}

fn announced(hosts: impl Iterator<Item = usize>) -> Vec<u8> {
    let nlri: Vec<u8> = hosts.flat_map(nlri).collect();
    announce(
        &nlri,
        NINE,
        &[[0, 2, 0xfd, 0xe8, 0, 0, 0, 100], VXLAN],
        None,
    )
}

fn vtep(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(198, 18, (number >> 8) as u8, number as u8))
}

/// What changes between two pages.
struct Changes {
    peer: Script,
    step: usize,
}

impl Changes {
    /// Some hosts come, others go, and so does a VNI in the middle of the others.
    fn step(&mut self, vtepd: &Vtepd) {
        let first = HOSTS + self.step * ROUTES % RESTLESS;
        let hosts = first..first + ROUTES;
        let gone: Vec<u8> = hosts.clone().flat_map(nlri).collect();
        self.peer.send(&withdraw(&gone));
        self.peer.send(&announced(hosts));
        let before = HOSTS + (self.step + 7) * ROUTES % RESTLESS;
        let gone: Vec<u8> = (before..before + ROUTES).flat_map(nlri).collect();
        self.peer.send(&withdraw(&gone));
        let vni = 1001 + 2 * (self.step as u32 * 61 % VNIS);
        vtepd.done(&format!("vni add {vni}"));
        vtepd.done(&format!("vni del {vni}"));
        self.step += 1;
    }
}

/// Reads a table page by page, with changes in between. Returns the keys of all rows.
fn read(
    vtepd: &Vtepd,
    changes: &mut Changes,
    (method, params): (&str, &Value),
    key: impl Fn(&Value) -> String,
) -> Vec<String> {
    let (mut keys, mut after, mut pages) = (Vec::new(), Value::Null, 0);
    loop {
        let mut params = params.clone();
        params["limit"] = json!(97);
        if !after.is_null() {
            params["after"] = after;
        }
        let line = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = vtepd.request(&line.to_string());
        let rows = answer["result"]["rows"].as_array();
        let rows = rows.unwrap_or_else(|| panic!("{method}: {answer}"));
        assert!(rows.len() < 120, "{method}: {} rows", rows.len());
        keys.extend(rows.iter().map(&key));
        pages += 1;
        after = answer["result"]["next"].clone();
        if after.is_null() {
            assert!(pages > 5, "{method}: {pages} pages");
            return keys;
        }
        changes.step(vtepd);
    }
}

/// Each of `wanted` is there once, and nothing is there twice.
fn assert_complete(method: &str, keys: &[String], wanted: impl IntoIterator<Item = String>) {
    let different: BTreeSet<_> = keys.iter().cloned().collect();
    assert_eq!(different.len(), keys.len(), "{method}: rows are doubled");
    let missing: Vec<_> = wanted
        .into_iter()
        .filter(|key| !different.contains(key))
        .collect();
    assert!(missing.is_empty(), "{method}: missing {missing:?}");
}

fn text(row: &Value, fields: &[&str]) -> String {
    let parts = fields.iter().map(|field| match &row[*field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    parts.collect::<Vec<_>>().join(" ")
}

/// No row that is there all the time is missing or doubled, however the table changes between the
/// pages, in every table that is paged (finding C16).
#[test]
fn pages_are_complete_while_the_table_changes() {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let far = fabric.hypervisor(9);
    let vteps: Vec<_> = (0..VTEPS).map(vtep).collect();
    let mut config = site::bgp(1, 65000, &[(9, 65000)], "passive = true").vni(100, &vteps);
    for number in 0..VNIS {
        config = config.vni(1000 + 2 * number, &[]);
    }
    let vtepd = Vtepd::start(&ns, &config);
    let mut peer = Script::connect(&far, vtep4(1), 65000, vtep4(9));
    for first in (0..HOSTS + RESTLESS).step_by(ROUTES) {
        peer.send(&announced(first..first + ROUTES));
    }
    let macs = |vtepd: &Vtepd| vtepd.show("status")["tables"]["macs"].as_u64();
    wait_for("all hosts", 60, || {
        (macs(&vtepd) == Some((HOSTS + RESTLESS) as u64)).then_some(())
    });
    let mut changes = Changes { peer, step: 0 };
    let all = json!({});
    let only = json!({ "vni": 100 });
    let hosts = || (0..HOSTS).map(mac);
    for params in [&all, &only] {
        let keys = read(&vtepd, &mut changes, ("show.mac", params), |row| {
            text(row, &["mac"])
        });
        assert_complete("show.mac", &keys, hosts());
        assert!(keys.is_sorted());
        let keys = read(&vtepd, &mut changes, ("show.neighbors", params), |row| {
            text(row, &["ip", "mac"])
        });
        let wanted = (0..HOSTS).map(|host| {
            let [high, low] = place(host);
            format!("10.9.{high}.{low} {}", mac(host))
        });
        assert_complete("show.neighbors", &keys, wanted);
    }
    let from = json!({ "neighbor": vtep4(9) });
    for params in [&all, &only, &from, &json!({ "type": 2 })] {
        let route = |row: &Value| text(row, &["neighbor", "type", "rd", "mac", "originator"]);
        let keys = read(&vtepd, &mut changes, ("show.bgp.routes", params), route);
        let part = |host: usize| format!(" {} null", mac(host));
        let found: BTreeSet<_> = keys
            .iter()
            .flat_map(|key| {
                (0..HOSTS)
                    .step_by(37)
                    .filter(|host| key.ends_with(&part(*host)))
            })
            .collect();
        assert_eq!(found.len(), HOSTS.div_ceil(37), "{params}");
        assert_complete("show.bgp.routes", &keys, []);
        let of_peer = keys.iter().filter(|key| key.starts_with("203.0.113.9"));
        assert!(of_peer.count() >= HOSTS, "{params}");
    }
    for method in ["show.vni", "show.flood"] {
        let keys = read(&vtepd, &mut changes, (method, &all), |row| {
            text(row, &["vni"])
        });
        let wanted = (0..VNIS).map(|number| (1000 + 2 * number).to_string());
        assert_complete(method, &keys, wanted);
    }
    read_underlay(&vtepd, &mut changes, &vteps);
    vtepd.stop();
}

fn read_underlay(vtepd: &Vtepd, changes: &mut Changes, vteps: &[IpAddr]) {
    let all = json!({});
    let keys = read(vtepd, changes, ("show.underlay", &all), |row| {
        text(row, &["vtep", "via"])
    });
    let found: BTreeSet<_> = keys
        .iter()
        .filter_map(|key| key.split(' ').next()?.parse::<IpAddr>().ok())
        .collect();
    assert!(vteps.iter().all(|vtep| found.contains(vtep)), "{found:?}");
}
