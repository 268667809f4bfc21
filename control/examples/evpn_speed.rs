//! Ingest and memory of a million type 2 routes: octets of UPDATEs to table changes, without sockets and tables.
//!
//! `cargo run --release -p vtep-control --example evpn_speed [routes] [ip]`

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use vtep_control::bgp::wire::{
    Attributes, Context, Decoder, Encoding, Esi, EvpnRoute, ExtendedCommunity, HEADER_LEN, MacIp, Rd, Update,
    announce, withdraw,
};
use vtep_control::bgp::{PeerConfig, negotiate};
use vtep_control::evpn::{Config, Instance, NeighborId, VniConfig};
use vtep_dataplane::addr::{MacAddr, Vni, VtepAddr};

/// VTEPs that the hosts are behind.
const VTEPS: u32 = 10;

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4096
}

fn route(number: u32, vtep: u32, with_ip: bool) -> EvpnRoute {
    let [_, b, c, d] = number.to_be_bytes();
    let ip = with_ip.then(|| IpAddr::V4(Ipv4Addr::new(10, b, c, d)));
    let rd = Rd::ipv4(Ipv4Addr::new(192, 0, 2, 10 + vtep as u8), 100);
    let mac = MacAddr([2, 0, 0, b, c, d]);
    EvpnRoute::MacIp(MacIp { rd, esi: Esi::ZERO, tag: 0, mac, ip, label: 100, label2: None })
}

fn messages(count: u32, with_ip: bool) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for vtep in 0..VTEPS {
        let mut attributes = Attributes::local(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10 + vtep as u8)));
        attributes.local_pref = Some(100);
        attributes.extended = vec![ExtendedCommunity::route_target(65000, 100), ExtendedCommunity::VXLAN];
        let routes = || (0..count).filter(|n| n % VTEPS == vtep).map(|n| route(n, vtep, with_ip));
        let encoding = Encoding { four_octet: true, limit: 4096 };
        assert!(announce(&attributes, routes(), encoding, |m| up.push(m.to_vec())));
        withdraw(routes(), 4096, |m| down.push(m.to_vec()));
    }
    (up, down)
}

fn feed(instance: &mut Instance, decoder: &mut Decoder, messages: &[Vec<u8>]) -> u64 {
    let (now, mut changes) = (Instant::now(), 0);
    for message in messages {
        let body = &message[HEADER_LEN..];
        let parts = decoder.decode(body).expect("made by us");
        instance.update(now, NeighborId(0), &Update::new(body, parts));
        instance.drain_changes(now, |_| changes += 1);
    }
    changes
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let count: u32 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let with_ip = arguments.next().is_some();
    let us = Ipv4Addr::new(192, 0, 2, 1);
    let vtep = VtepAddr::new(IpAddr::V4(us)).expect("a VTEP");
    let mut instance = Instance::new(Config::new(65000, us, vtep));
    let now = Instant::now();
    let vni = Vni::new(100).expect("a VNI");
    instance.vni_add(now, VniConfig::new(vni)).expect("added");
    let ours = PeerConfig::new(65000, us, 65000);
    let theirs = PeerConfig::new(65000, Ipv4Addr::new(192, 0, 2, 2), 65000);
    let agreed = Arc::new(negotiate(&ours, &theirs.open(false, false)).expect("agreed"));
    instance.neighbor_add(NeighborId(0), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)));
    instance.peer_up(now, NeighborId(0), &agreed);
    let mut decoder = Decoder::new(Context { four_octet: true, internal: true, add_path: false });

    let (up, down) = messages(count, with_ip);
    let rate = |start: Instant| f64::from(count) / start.elapsed().as_secs_f64() / 1e6;
    let before = resident();
    let start = Instant::now();
    let changes = feed(&mut instance, &mut decoder, &up);
    println!("ingest    {:7.2} M routes/s, {changes} changes", rate(start));
    let used = resident() - before;
    println!("memory    {:7.1} B a route, without the MAC table", used as f64 / f64::from(count));
    let start = Instant::now();
    feed(&mut instance, &mut decoder, &up);
    println!("again     {:7.2} M routes/s, nothing changes", rate(start));
    let tenth = down.len() / VTEPS as usize;
    let start = Instant::now();
    let changes = feed(&mut instance, &mut decoder, &down[..tenth]);
    println!("one VTEP  {:7.1} ms, {changes} changes", start.elapsed().as_secs_f64() * 1e3);
    let start = Instant::now();
    instance.peer_down(Instant::now(), NeighborId(0), false);
    println!("all       {:7.1} ms, {:?} left", start.elapsed().as_secs_f64() * 1e3, instance.totals());
}
