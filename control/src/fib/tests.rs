//! Contents of the tables after changes, and when IDs are reused.

use vtep_dataplane::addr::{HostMac, MacAddr};
use vtep_dataplane::table::Dscp;
use vtep_dataplane::table::mac::{Destination, MacKey};

use super::*;
use crate::evpn::{EntryOrigin, TableChange};

fn writer() -> Fib {
    let settings = Settings {
        local_v4: Some([192, 0, 2, 1].into()),
        local_v6: None,
        udp_port: 4789,
        dscp: Dscp::Inherit,
        strict_reserved: false,
        udp6_zero_rx: false,
        udp6_zero_tx: false,
    };
    Fib::new(1, 100, settings)
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
