//! Contents of the tables after changes, and when IDs are reused.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use vtep_dataplane::addr::{HostMac, MacAddr, PortId};
use vtep_dataplane::table::Dscp;
use vtep_dataplane::table::mac::{Destination, MacKey};

use super::*;
use crate::bgp::wire::{
    Attributes, DecodeContext, Decoder, Encoding, Esi, EthernetAd, EvpnRoute, ExtendedCommunity,
    HEADER_LEN, MacIp, Rd, UpdateMessage, announce, withdraw,
};
use crate::evpn::{EntryOrigin, EvpnConfig, EvpnSpeaker, MacVrfConfig, NeighborId, TableChange};

/// One worker's tables with `limit` entries at most.
pub(super) fn writer_with(limit: usize) -> Fib {
    let settings = Settings {
        local_v4: Some([192, 0, 2, 1].into()),
        local_v6: None,
        udp_port: 4789,
        dscp: Dscp::Inherit,
        strict_reserved: false,
        udp6_zero_rx: false,
        udp6_zero_tx: false,
    };
    Fib::new(1, limit, settings)
}

fn writer() -> Fib {
    writer_with(100)
}

fn vtep(n: u8) -> VtepAddr {
    format!("203.0.113.{n}").parse().unwrap()
}

fn vni(n: u32) -> Vni {
    Vni::new(n).unwrap()
}

fn mac(n: u8) -> HostMac {
    HostMac::new(MacAddr([2, 0, 0, 0, 0, n])).unwrap()
}

/// Sets the VTEP of a MAC; returns how many entries were refused.
fn point(tables: &mut Fib, vni: Vni, mac: HostMac, vtep: VtepAddr) -> u64 {
    tables.install(&[TableChange::MacSet {
        vni,
        mac,
        vtep,
        esi: crate::bgp::wire::Esi::ZERO,
        origin: EntryOrigin::Evpn,
    }])
}

#[test]
fn a_vtep_is_known_to_a_vni_as_long_as_something_leads_to_it() {
    let mut tables = writer();
    tables.add_vni(vni(100), false).unwrap();
    tables.add_flood(vni(100), vtep(9)).unwrap();
    assert_eq!(point(&mut tables, vni(100), mac(1), vtep(9)), 0);
    assert_eq!(point(&mut tables, vni(100), mac(2), vtep(9)), 0);
    tables.commit();
    assert_eq!(tables.vtep_tracking(), [VtepTracking::Track(vtep(9))]);
    let known = |tables: &Fib| {
        let now = tables.current();
        let domain = now.vnis.by_vni(100).unwrap();
        now.vteps
            .by_address(vtep(9))
            .is_some_and(|id| domain.sources.contains(id))
    };
    assert!(known(&tables));
    tables.remove_flood(vni(100), vtep(9));
    tables.remove_mac(vni(100), mac(1));
    tables.commit();
    assert!(known(&tables), "one MAC is left behind it");
    assert!(
        tables
            .current()
            .vnis
            .by_vni(100)
            .unwrap()
            .flood
            .vteps
            .is_empty()
    );
    assert_eq!(point(&mut tables, vni(100), mac(2), vtep(8)), 0);
    tables.commit();
    assert!(!known(&tables), "its last MAC has moved");
    assert_eq!(
        tables.vtep_tracking(),
        [VtepTracking::Track(vtep(8)), VtepTracking::Untrack(vtep(9))]
    );
}

/// Workers no longer know a VNI that is to be removed, whose entries can still be removed one by one.
#[test]
fn a_vni_leaves_before_its_entries_do() {
    let mut tables = writer();
    let domain = tables.add_vni(vni(100), false).unwrap();
    assert_eq!(point(&mut tables, vni(100), mac(1), vtep(1)), 0);
    tables.commit();
    tables.leave_vni(vni(100));
    tables.leave_vni(vni(200));
    assert!(tables.leaving().eq([vni(100)]), "the other does not exist");
    assert!(tables.commit());
    assert!(tables.current().vnis.by_vni(100).is_none());
    assert_eq!(tables.vnis_from(None).count(), 0);
    assert_eq!(tables.domain_id(vni(100)), Some(domain));
    let gone = [TableChange::MacDel {
        vni: vni(100),
        mac: mac(1),
    }];
    assert_eq!(tables.install(&gone), 0);
    assert!(tables.macs().is_empty());
    tables.remove_vni(vni(100));
    assert!(!tables.is_leaving(vni(100)));
    tables.commit();
    let again = tables.add_vni(vni(100), false).unwrap();
    assert_eq!(again, domain, "the number is free");
    tables.commit();
    assert!(tables.current().vnis.by_vni(100).is_some());
}

#[test]
fn a_removed_vni_leaves_no_entries() {
    let mut tables = writer();
    tables.add_vni(vni(100), false).unwrap();
    tables.add_vni(vni(200), false).unwrap();
    for n in 0..50 {
        assert_eq!(point(&mut tables, vni(100), mac(n), vtep(1)), 0);
        assert_eq!(point(&mut tables, vni(200), mac(n), vtep(2)), 0);
    }
    tables.add_flood(vni(100), vtep(3)).unwrap();
    assert_eq!(
        point(&mut tables, vni(100), mac(60), vtep(1)),
        1,
        "the table is full"
    );
    tables.remove_vni(vni(100));
    tables.commit();
    assert_eq!(tables.macs().len(), 50);
    assert!(tables.current().vnis.by_vni(100).is_none());
    assert_eq!(tables.current().vteps.iter().count(), 1);
    let reader = tables.mac_reader();
    let domain = tables.domain_id(vni(200)).unwrap();
    assert!(matches!(
        reader.lookup(MacKey::new(domain, mac(3).get())),
        Some(Destination::Vtep(_))
    ));
}

#[test]
fn an_id_is_quarantined_until_no_worker_can_mistake_it() {
    let mut tables = writer();
    let mut worker = tables.snapshots();
    tables.add_vni(vni(100), false).unwrap();
    assert_eq!(point(&mut tables, vni(100), mac(1), vtep(1)), 0);
    tables.commit();
    worker.refresh();
    let id = |tables: &Fib, n| tables.vtep_table.by_address(vtep(n)).unwrap();
    let first = id(&tables, 1);
    tables.remove_mac(vni(100), mac(1));
    assert_eq!(point(&mut tables, vni(100), mac(1), vtep(2)), 0);
    assert_ne!(id(&tables, 2), first, "not even published");
    tables.commit();
    assert_eq!(point(&mut tables, vni(100), mac(2), vtep(3)), 0);
    assert_ne!(
        id(&tables, 3),
        first,
        "the worker still has the old snapshot"
    );
    tables.commit();
    worker.refresh();
    tables.reclaim();
    assert_eq!(point(&mut tables, vni(100), mac(3), vtep(4)), 0);
    assert_eq!(id(&tables, 4), first);
}

#[test]
fn nothing_is_published_before_commit() {
    let mut tables = writer();
    tables.add_vni(vni(100), false).unwrap();
    assert!(tables.current().vnis.by_vni(100).is_none());
    assert!(tables.commit());
    assert!(tables.current().vnis.by_vni(100).is_some());
    assert!(!tables.commit());
}

/// A version names the meaning of an identifier, from its first row to its last (finding D2).
#[test]
fn an_id_that_is_used_again_is_valid_from_its_new_row_on_only() {
    let mut tables = writer();
    let before = tables.add_vni(vni(100), false).unwrap();
    tables.commit();
    let version = tables.current().version;
    assert!(tables.is_valid_since(version, None, before));
    tables.add_vni(vni(100), true).unwrap();
    tables.commit();
    assert!(tables.current().version > version);
    assert!(
        tables.is_valid_since(version, None, before),
        "another row of the same VNI"
    );
    tables.remove_vni(vni(100));
    tables.commit();
    assert!(tables.current().domain_of(version, before).is_none());
    let after = tables.add_vni(vni(999), false).unwrap();
    assert_eq!(after, before, "the number is used again");
    assert!(
        !tables.is_valid_since(version, None, after),
        "already before it is published"
    );
    tables.commit();
    assert!(tables.current().domain_of(version, after).is_none());
    assert!(
        tables
            .current()
            .domain_of(tables.current().version, after)
            .is_some()
    );
    assert!(tables.is_valid_since(tables.current().version, None, after));
}

/// (finding C18)
#[test]
fn evpn_leaves_space_to_local_hosts_and_refused_entries_are_retried() {
    let mut tables = writer();
    tables.add_vni(vni(100), false).unwrap();
    tables.reserve_for_local(16);
    let refused: u64 = (1..=20)
        .map(|number| point(&mut tables, vni(100), mac(number), vtep(9)))
        .sum();
    assert_eq!((refused, tables.refused(), tables.macs().len()), (6, 6, 14));
    assert_eq!(
        point(&mut tables, vni(100), mac(1), vtep(8)),
        0,
        "a change of one"
    );
    for number in [31, 32] {
        tables
            .set_local_mac(vni(100), mac(number), PortId(0))
            .unwrap();
    }
    let fixed = TableChange::MacSet {
        vni: vni(100),
        mac: mac(33),
        vtep: vtep(9),
        esi: crate::bgp::wire::Esi::ZERO,
        origin: EntryOrigin::Static,
    };
    assert_eq!(tables.install(&[fixed]), 0);
    assert_eq!(tables.take_retries(10), Retry::default(), "no space");
    let gone = |number| TableChange::MacDel {
        vni: vni(100),
        mac: mac(number),
    };
    assert_eq!(
        tables.install(&[gone(15), gone(1), gone(2), gone(31), gone(32), gone(33)]),
        0
    );
    assert_eq!(tables.refused(), 5, "one was withdrawn meanwhile");
    let Retry { macs, neighbors } = tables.take_retries(10);
    assert_eq!(macs, [(vni(100), mac(16)), (vni(100), mac(17))]);
    assert!(neighbors.is_empty());
    for (_, mac) in macs {
        assert_eq!(point(&mut tables, vni(100), mac, vtep(9)), 0);
    }
    assert_eq!((tables.refused(), tables.macs().len()), (3, 14));
    tables.remove_vni(vni(100));
    assert_eq!(tables.refused(), 0);
}

/// Passes an UPDATE to a speaker.
fn receive(speaker: &mut EvpnSpeaker, message: &[u8]) {
    let mut decoder = Decoder::new(DecodeContext {
        four_octet: true,
        internal: true,
        add_path: false,
    });
    let body = &message[HEADER_LEN..];
    let parts = decoder.decode(body).unwrap();
    let update = UpdateMessage::new(body, parts);
    speaker.update(Instant::now(), NeighborId(0), &update);
}

/// Routes of VTEP `last`.
fn send(speaker: &mut EvpnSpeaker, last: u8, routes: Vec<EvpnRoute>) {
    let mut attributes = Attributes::local(vtep(last).get());
    attributes.local_pref = Some(100);
    attributes.extended = vec![ExtendedCommunity::route_target(65000, 100)];
    let encoding = Encoding {
        four_octet: true,
        limit: 4096,
    };
    let sent = announce(&attributes, routes, encoding, |m| receive(speaker, m));
    assert!(sent);
}

/// Installs and publishes; returns the number of changes.
fn install(speaker: &mut EvpnSpeaker, tables: &mut Fib) -> usize {
    let mut count = 0;
    speaker.drain_changes(Instant::now(), |changes| {
        count = changes.len();
        assert_eq!(tables.install(changes), 0);
    });
    tables.commit();
    count
}

const ESI: Esi = Esi([3, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

fn rd(last: u8) -> Rd {
    Rd::ipv4(Ipv4Addr::new(203, 0, 113, last), 100)
}

fn ethernet_ad(last: u8, tag: u32, label: u32) -> EvpnRoute {
    EvpnRoute::EthernetAd(EthernetAd {
        rd: rd(last),
        esi: ESI,
        tag,
        label,
    })
}

fn shared_mac(number: u32) -> MacAddr {
    let [_, a, b, c] = number.to_be_bytes();
    MacAddr([2, 0, 1, a, b, c])
}

fn shared_host(number: u32) -> EvpnRoute {
    EvpnRoute::MacIp(MacIp {
        rd: rd(2),
        esi: ESI,
        tag: 0,
        mac: shared_mac(number),
        ip: None,
        label: 100,
        label2: None,
    })
}

/// (finding C17)
#[test]
fn a_vtep_leaves_a_segment_with_100_000_macs_within_50_ms() {
    const MACS: u32 = 100_000;
    let mut tables = Fib::new(1, 1 << 17, writer().settings);
    tables.add_vni(vni(100), false).unwrap();
    let own = EvpnConfig::new(65000, Ipv4Addr::new(203, 0, 113, 1), vtep(1));
    let mut speaker = EvpnSpeaker::new(own);
    let config = MacVrfConfig::new(vni(100));
    speaker.vni_add(Instant::now(), config).unwrap();
    speaker.neighbor_add(NeighborId(0), vtep(250).get());
    send(&mut speaker, 2, (0..MACS).map(shared_host).collect());
    for last in [2, 3] {
        let routes = vec![ethernet_ad(last, u32::MAX, 0), ethernet_ad(last, 0, 100)];
        send(&mut speaker, last, routes);
    }
    install(&mut speaker, &mut tables);
    let domain = tables.domain_id(vni(100)).unwrap();
    let reader = tables.mac_reader();
    let members = |tables: &Fib| {
        let found = [0, MACS - 1].map(|number| {
            let found = reader.lookup(MacKey::new(domain, shared_mac(number)));
            let Some(Destination::Vtep(id)) = found else {
                panic!("not a remote MAC: {found:?}");
            };
            tables.current().vteps.group(id).unwrap().members.len()
        });
        assert_eq!(found[0], found[1]);
        found[0]
    };
    assert_eq!(members(&tables), 2);
    let mut withdrawal = Vec::new();
    withdraw([ethernet_ad(2, u32::MAX, 0)], 4096, |m| {
        withdrawal = m.to_vec();
    });
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        receive(&mut speaker, &withdrawal);
        let changes = install(&mut speaker, &mut tables);
        fastest = fastest.min(start.elapsed());
        assert_eq!((changes, members(&tables)), (1, 1));
        send(&mut speaker, 2, vec![ethernet_ad(2, u32::MAX, 0)]);
        install(&mut speaker, &mut tables);
        assert_eq!(members(&tables), 2);
    }
    println!("{MACS} MACs left a VTEP in {fastest:?}");
    assert!(fastest < Duration::from_millis(50), "{fastest:?}");
}
