//! Work on many routes at once: it is divided into portions, one for each turn of the control thread.

use vtep_dataplane::addr::{HostMac, MacAddr};

use super::fixture::*;
use crate::bgp::wire::{EvpnRoute, MacIp};
use crate::evpn::config::MacVrfConfig;

/// The most MACs or paths of a portion.
const PORTION: usize = 4096;

const HOSTS: u64 = 10_000;

fn route(number: u64) -> EvpnRoute {
    let mac = HostMac::new(MacAddr::from_bits(0x0200_0000_0000 + number)).expect("a MAC");
    EvpnRoute::MacIp(host(2, mac))
}

impl Fixture {
    /// True while portions are left.
    fn is_busy(&self) -> bool {
        let due = self.speaker.poll_timeout(self.now);
        due.is_some_and(|at| at <= self.now)
    }

    /// MACs of routes in the table of the only VNI, as they are counted.
    fn remote_macs(&self) -> usize {
        let views = self.speaker.vni_views();
        views.map(|view| view.remote_macs as usize).sum()
    }

    /// Does one portion. Returns the number of table changes.
    fn portion(&mut self) -> usize {
        let changes = self.speaker.take_changes(self.now);
        let count = changes.len();
        changes
            .into_iter()
            .for_each(|change| self.tables.apply(change));
        count
    }
}

/// The MACs of a VNI that is removed go in portions. Routes that are withdrawn or announced
/// meanwhile, and the VNI when it is added again, lead to the same tables as without portions.
#[test]
fn the_macs_of_a_removed_vni_are_removed_in_portions() {
    // Changes of routes do a portion too.
    const HOSTS: u64 = 20_000;
    let mut fixture = Fixture::new();
    let all: Vec<_> = (0..HOSTS).map(route).collect();
    fixture.announce(ONE, &attributes(2), &all);
    fixture.speaker.vni_del(fixture.now, vni(100));
    assert!(!fixture.speaker.is_evaluated(vni(100)));
    assert!(fixture.portion() <= PORTION);
    // Some of those that are next, and some that are gone.
    let withdrawn: Vec<_> = [0, 1, 5000, 15_903, 15_904, 15_905, HOSTS as usize - 1]
        .map(|place| all[place])
        .into();
    fixture.withdraw(ONE, &withdrawn);
    fixture.announce(ONE, &attributes(2), &[route(HOSTS)]);
    let mut turns = 3;
    while fixture.is_busy() {
        assert!(fixture.portion() <= PORTION);
        turns += 1;
        assert!(turns < 10, "it ends");
    }
    assert!(turns >= 5, "{turns} turns");
    assert!(fixture.tables.macs.is_empty() && fixture.speaker.is_evaluated(vni(100)));
    let add = |fixture: &mut Fixture| {
        let config = MacVrfConfig::new(vni(100));
        fixture.speaker.vni_add(fixture.now, config).expect("added");
    };
    add(&mut fixture);
    while fixture.is_busy() {
        assert!(fixture.portion() <= PORTION);
    }
    assert_eq!(
        fixture.tables.macs.len(),
        HOSTS as usize + 1 - withdrawn.len()
    );
    // Again, and added before all are gone.
    fixture.speaker.vni_del(fixture.now, vni(100));
    assert!(fixture.portion() <= PORTION);
    add(&mut fixture);
    assert_eq!(fixture.remote_macs(), 0, "counted anew");
    while fixture.is_busy() {
        fixture.portion();
    }
    assert_eq!(
        fixture.tables.macs.len(),
        HOSTS as usize + 1 - withdrawn.len()
    );
    assert_eq!(fixture.remote_macs(), fixture.tables.macs.len());
}

/// Counts of moves that expire at the same time do so in portions.
#[test]
fn moves_that_expire_together_are_handled_in_portions() {
    let mut fixture = Fixture::new();
    let all: Vec<_> = (0..3000).map(route).collect();
    fixture.announce(ONE, &attributes(2), &all);
    for route in &all {
        let EvpnRoute::MacIp(MacIp { mac, .. }) = route else {
            panic!("{route:?}")
        };
        let mac = HostMac::new(*mac).expect("a MAC");
        let added = fixture
            .speaker
            .local_mac_add(fixture.now, vni(100), mac, LEARNED);
        added.expect("it moves here");
    }
    fixture.settle();
    fixture.now += fixture.speaker.config().duplicate.window;
    let mut turns = 0;
    while fixture.is_busy() {
        fixture.speaker.tick(fixture.now);
        turns += 1;
        assert!(turns < 10, "it ends");
    }
    assert_eq!(turns, 3);
}

/// Stale paths become the last choice in portions when the restart time is over (RFC 9494).
#[test]
fn stale_paths_become_long_lived_in_portions() {
    let mut fixture = Fixture::new();
    let all: Vec<_> = (0..HOSTS).map(route).collect();
    fixture.announce(ONE, &attributes(2), &all);
    // The other neighbor's routes of the same hosts lose by their sequence.
    let others: Vec<_> = (0..HOSTS)
        .map(|number| match route(number) {
            EvpnRoute::MacIp(of) => EvpnRoute::MacIp(MacIp { rd: rd(3), ..of }),
            other => other,
        })
        .collect();
    fixture.announce(ONE, &moved(2, 5), &all);
    fixture.announce(TWO, &attributes(3), &others);
    let behind = |fixture: &Fixture, last: u8| {
        let vteps = fixture.tables.macs.values();
        vteps.filter(|behind| **behind == vtep(last)).count()
    };
    assert_eq!(behind(&fixture, 2), HOSTS as usize);
    fixture.speaker.peer_down(ONE, true);
    fixture.settle();
    fixture.speaker.stale_long_lived(ONE);
    let mut turns = 0;
    while fixture.is_busy() {
        assert!(fixture.portion() <= PORTION);
        turns += 1;
        assert!(turns < 10, "it ends");
    }
    assert!(turns >= 3, "{turns} turns");
    assert_eq!(behind(&fixture, 3), HOSTS as usize);
}

/// A session with many routes ends: no turn removes them all, they count no longer, and what the
/// neighbor announces in its next session meanwhile stays (finding C13).
#[test]
fn the_routes_of_an_ended_session_are_removed_in_portions() {
    let mut fixture = Fixture::new();
    let all: Vec<_> = (0..HOSTS).map(route).collect();
    fixture.announce(ONE, &attributes(2), &all);
    // The other neighbor has some of them too.
    fixture.announce(TWO, &attributes(2), &all[..10]);
    assert_eq!(fixture.tables.macs.len(), HOSTS as usize);
    fixture.speaker.peer_down(ONE, false);
    assert_eq!(fixture.speaker.prefix_count(ONE), 0);
    assert!(
        fixture
            .views()
            .iter()
            .all(|view| view.neighbor == Some(TWO))
    );
    fixture
        .speaker
        .peer_up(fixture.now, ONE, &negotiated_with(65000, 65000, 201));
    // The first portion has not begun; the last route would be in the last one.
    let again = [all[0], all[HOSTS as usize - 1]];
    fixture.announce(ONE, &attributes(2), &again);
    let mut turns = 1;
    while fixture.is_busy() {
        let before = fixture.tables.macs.len();
        fixture.settle();
        assert!(before - fixture.tables.macs.len() <= PORTION);
        turns += 1;
        assert!(turns < 10, "it ends");
    }
    assert!(turns >= 3, "{turns} turns");
    assert_eq!(fixture.speaker.prefix_count(ONE), 2);
    assert_eq!(fixture.tables.macs.len(), 11);
    assert_eq!(fixture.speaker.route_count(), 11);
}
