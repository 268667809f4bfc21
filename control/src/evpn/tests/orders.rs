//! The tables follow from the routes that are held, in whatever order these came, changed and went:
//! after each step they equal those of a speaker that gets the same routes at once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::fixture::*;
use crate::bgp::wire::{Attributes, Esi, EthernetAd, EvpnRoute, ExtendedCommunity, MacIp};
use crate::evpn::{DuplicateConfig, EvpnConfig, LocalKind, LocalMac, MacVrfConfig, NeighborId};

/// VTEPs 2, 3 and 4; VTEP 9 announces all segments to exist, and no host.
const VTEPS: std::ops::Range<u8> = 2..5;

#[derive(Debug, Clone)]
enum Step {
    Announce(NeighborId, Route),
    Withdraw(NeighborId, Route),
    Down(NeighborId),
    /// The session ends and comes back with a part of its routes, chosen by the bits.
    Restart(NeighborId, u32),
    /// The peer sends a part of its routes again (RFC 7313).
    Refresh(NeighborId, u32),
    /// A host is here, and uses an address.
    Local(u8, LocalKind, u8),
    /// No host is here.
    NoLocal,
    Resolved(u8, bool),
    Vni(bool),
}

/// A route and what is announced with it. The key is all but `Host::esi`, `Host::sequence` and
/// `PerEs::single_active`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Route {
    PerEs {
        vtep: u8,
        esi: u8,
        single_active: bool,
    },
    PerEvi {
        vtep: u8,
        esi: u8,
    },
    Host {
        vtep: u8,
        number: u8,
        ip: Option<u8>,
        esi: u8,
        sequence: u32,
    },
}

fn esi(number: u8) -> Esi {
    match number {
        0 => Esi::ZERO,
        _ => Esi([3, 0x44, 0x38, 0x39, 0xff, 0xff, 1, 0, 0, number]),
    }
}

impl Route {
    fn key(self) -> Self {
        match self {
            Self::PerEs { vtep, esi, .. } => Self::PerEs {
                vtep,
                esi,
                single_active: false,
            },
            Self::Host {
                vtep, number, ip, ..
            } => Self::Host {
                vtep,
                number,
                ip,
                esi: 0,
                sequence: 0,
            },
            Self::PerEvi { .. } => self,
        }
    }

    /// Takes over the segment of a host from another of its routes. True if it had another one.
    fn take_segment(&mut self, from: Self) -> bool {
        match (self, from) {
            (
                Self::Host {
                    vtep, number, esi, ..
                },
                Self::Host {
                    vtep: same_vtep,
                    number: same,
                    esi: new,
                    ..
                },
            ) if (*vtep, *number) == (same_vtep, same) => std::mem::replace(esi, new) != new,
            _ => false,
        }
    }

    fn encoded(self) -> (Attributes, EvpnRoute) {
        let ad = |vtep, number, tag, label| {
            EvpnRoute::EthernetAd(EthernetAd {
                rd: rd(vtep),
                esi: esi(number),
                tag,
                label,
            })
        };
        match self {
            Self::PerEs {
                vtep,
                esi,
                single_active,
            } => {
                let mut attributes = attributes(vtep);
                let label = ExtendedCommunity([6, 1, single_active.into(), 0, 0, 0, 0, 0]);
                attributes.extended.push(label);
                (attributes, ad(vtep, esi, u32::MAX, 0))
            }
            Self::PerEvi { vtep, esi } => (attributes(vtep), ad(vtep, esi, 0, 100)),
            Self::Host {
                vtep,
                number,
                ip: address,
                esi: segment,
                sequence,
            } => {
                let route = MacIp {
                    ip: address.map(ip),
                    esi: esi(segment),
                    ..host(vtep, mac(number))
                };
                (moved(vtep, sequence), EvpnRoute::MacIp(route))
            }
        }
    }
}

fn route() -> impl Strategy<Value = Route> {
    let per_es = (VTEPS, 1..3_u8, any::<bool>());
    let host = (
        VTEPS,
        1..3_u8,
        prop::option::of(50..52_u8),
        0..3_u8,
        0..3_u32,
    );
    prop_oneof![
        1 => per_es.prop_map(|(vtep, esi, single_active)| Route::PerEs {
            vtep,
            esi,
            single_active
        }),
        1 => (VTEPS, 1..3_u8).prop_map(|(vtep, esi)| Route::PerEvi { vtep, esi }),
        2 => host.prop_map(|(vtep, number, ip, esi, sequence)| Route::Host {
            vtep,
            number,
            ip,
            esi,
            sequence
        }),
    ]
}

fn kind() -> impl Strategy<Value = LocalKind> {
    prop_oneof![Just(LocalKind::Attached), Just(LocalKind::Learned)]
}

fn step() -> impl Strategy<Value = Step> {
    let from = || prop_oneof![Just(ONE), Just(TWO)];
    prop_oneof![
        12 => (from(), route()).prop_map(|(from, route)| Step::Announce(from, route)),
        6 => (from(), route()).prop_map(|(from, route)| Step::Withdraw(from, route)),
        1 => from().prop_map(Step::Down),
        2 => (from(), any::<u32>()).prop_map(|(from, kept)| Step::Restart(from, kept)),
        1 => (from(), any::<u32>()).prop_map(|(from, kept)| Step::Refresh(from, kept)),
        2 => (1..3_u8, kind(), 50..52_u8).prop_map(|(n, kind, ip)| Step::Local(n, kind, ip)),
        2 => Just(Step::NoLocal),
        2 => (VTEPS, any::<bool>()).prop_map(|(vtep, up)| Step::Resolved(vtep, up)),
        1 => any::<bool>().prop_map(Step::Vni),
    ]
}

/// What is held and known.
#[derive(Debug, Clone)]
struct Held {
    routes: BTreeMap<(NeighborId, Route), Route>,
    down: BTreeSet<u8>,
    configured: bool,
    /// Hosts that may be here.
    local: BTreeSet<u8>,
}

impl Held {
    /// Removes routes of a peer, those whose bit is not set, and returns the others.
    fn keep(&mut self, from: NeighborId, bits: u32) -> Vec<Route> {
        let mut place = 0;
        self.routes.retain(|(id, _), _| {
            place += u32::from(*id == from);
            *id != from || bits >> (place % 32) & 1 == 1
        });
        let own = self.routes.iter().filter(|((id, _), _)| *id == from);
        own.map(|(_, route)| *route).collect()
    }
}

fn fixture() -> Fixture {
    let config = EvpnConfig {
        duplicate: DuplicateConfig {
            moves: 0,
            ..DuplicateConfig::default()
        },
        ..EvpnConfig::new(65000, std::net::Ipv4Addr::new(192, 0, 2, 1), vtep(1))
    };
    let mut fixture = Fixture::with(config, MacVrfConfig::new(vni(100)));
    for last in VTEPS {
        let now = fixture.now;
        fixture.speaker.vtep_resolved(now, vtep(last), Some(true));
    }
    for esi in [1, 2] {
        for id in [ONE, TWO] {
            announce(&mut fixture, id, existing(esi));
        }
    }
    fixture
}

/// The route of VTEP 9 for a segment.
fn existing(esi: u8) -> Route {
    Route::PerEs {
        vtep: 9,
        esi,
        single_active: false,
    }
}

fn announce(fixture: &mut Fixture, from: NeighborId, route: Route) {
    let (attributes, encoded) = route.encoded();
    fixture.announce(from, &attributes, &[encoded]);
}

/// A speaker that gets all routes at once.
fn at_once(held: &Held) -> Fixture {
    let mut fixture = fixture();
    for last in &held.down {
        let now = fixture.now;
        fixture.speaker.vtep_resolved(now, vtep(*last), Some(false));
    }
    if !held.configured {
        fixture.speaker.vni_del(fixture.now, vni(100));
    }
    for ((from, _), route) in &held.routes {
        announce(&mut fixture, *from, *route);
    }
    fixture.settle();
    fixture
}

fn announce_and_hold(fixture: &mut Fixture, held: &mut Held, from: NeighborId, route: Route) {
    held.routes.insert((from, route.key()), route);
    // A VTEP announces a host in all its routes with the same segment.
    let changed = held.routes.iter_mut().filter_map(|((id, _), other)| {
        let changed = other.take_segment(route);
        (changed || (*id, *other) == (from, route)).then_some((*id, *other))
    });
    for (id, other) in changed {
        announce(fixture, id, other);
    }
}

fn add_local(fixture: &mut Fixture, held: &mut Held, (number, kind): (u8, LocalKind), address: u8) {
    let now = fixture.now;
    let local = LocalMac {
        kind,
        ..LocalMac::default()
    };
    // Learning is refused where a sticky route has priority, or the VNI is unknown.
    let speaker = &mut fixture.speaker;
    if speaker
        .local_mac_add(now, vni(100), mac(number), local)
        .is_ok()
    {
        let _ = speaker.address_claim(now, vni(100), claim(mac(number), ip(address)));
        held.local.insert(number);
        // The owner of the ports writes the entry.
        fixture.tables.macs.remove(&(vni(100), mac(number)));
        fixture.tables.esis.remove(&(vni(100), mac(number)));
    }
}

fn apply(fixture: &mut Fixture, held: &mut Held, step: &Step) {
    let now = fixture.now;
    match *step {
        Step::Announce(from, route) => announce_and_hold(fixture, held, from, route),
        Step::Withdraw(from, route) => {
            fixture.withdraw(from, &[route.encoded().1]);
            held.routes.remove(&(from, route.key()));
        }
        Step::Down(from) => {
            fixture.speaker.peer_down(from, false);
            held.routes.retain(|(id, _), _| *id != from);
            for esi in [1, 2] {
                announce(fixture, from, existing(esi));
            }
        }
        Step::Restart(from, kept) => {
            fixture.speaker.peer_down(from, true);
            let up = negotiated_with(65000, 65000, if from == ONE { 201 } else { 202 });
            fixture.speaker.peer_up(now, from, &up);
            send_again(fixture, from, held.keep(from, kept));
            fixture.speaker.sweep_stale(from);
            fixture.speaker.end_of_rib(from);
        }
        Step::Refresh(from, kept) => {
            fixture.speaker.refresh_begun(from);
            send_again(fixture, from, held.keep(from, kept));
            fixture.speaker.refresh_ended(from);
        }
        Step::Local(number, kind, address) => add_local(fixture, held, (number, kind), address),
        Step::NoLocal => {
            for number in std::mem::take(&mut held.local) {
                fixture.speaker.local_mac_del(now, vni(100), mac(number));
            }
        }
        Step::Resolved(last, up) => {
            fixture.speaker.vtep_resolved(now, vtep(last), Some(up));
            if up {
                held.down.remove(&last);
            } else {
                held.down.insert(last);
            }
        }
        Step::Vni(on) => {
            if on {
                let added = MacVrfConfig::new(vni(100));
                fixture.speaker.vni_add(now, added).expect("added");
            } else {
                fixture.speaker.vni_del(now, vni(100));
            }
            held.configured = on;
            if !on {
                held.local.clear();
            }
        }
    }
    // A pass over all hosts may follow, and another one after it.
    for _ in 0..3 {
        fixture.settle();
    }
}

/// A peer sends routes again, in any order, and those of VTEP 9.
fn send_again(fixture: &mut Fixture, from: NeighborId, routes: Vec<Route>) {
    for route in [1, 2].map(existing).into_iter().chain(routes) {
        announce(fixture, from, route);
    }
}

/// What the tables say about hosts and addresses.
fn answers(fixture: &Fixture) -> (Vec<Vec<u8>>, AppliedTables) {
    let tables = AppliedTables {
        watched: BTreeSet::new(),
        ..fixture.tables.clone()
    };
    ([1, 2].map(|n| fixture.reach(mac(n))).to_vec(), tables)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// (findings C3 and C17)
    #[test]
    fn any_order_of_routes_leads_to_the_same_tables(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut fixture = fixture();
        let mut held = Held {
            routes: BTreeMap::new(),
            down: BTreeSet::new(),
            configured: true,
            local: BTreeSet::new(),
        };
        for (place, step) in steps.iter().enumerate() {
            apply(&mut fixture, &mut held, step);
            // Hosts that are here hide what routes say.
            if !held.local.is_empty() {
                continue;
            }
            let expected = at_once(&held);
            prop_assert_eq!(
                answers(&fixture), answers(&expected), "after step {}: {:?}", place, step
            );
        }
    }
}
