//! Random announcements and withdrawals, compared with a model that computes everything again each
//! time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::fixture::{AppliedTables, Fixture, ONE, TWO, host, ip, mac, moved, vni, vtep};
use crate::bgp::wire::{EvpnRoute, ExtendedCommunity, MacIp};
use crate::evpn::{DuplicateConfig, EntryOrigin, EvpnConfig, MacVrfConfig, NeighborId};

#[derive(Debug, Clone)]
enum ModelStep {
    Announce {
        from: NeighborId,
        vtep: u8,
        mac: u8,
        ip: Option<u8>,
        sequence: u32,
        sticky: bool,
        target: bool,
    },
    Withdraw {
        from: NeighborId,
        vtep: u8,
        mac: u8,
        ip: Option<u8>,
    },
    Down(NeighborId),
    Vni(bool),
}

fn neighbor() -> impl Strategy<Value = NeighborId> {
    prop_oneof![Just(ONE), Just(TWO)]
}

fn step() -> impl Strategy<Value = ModelStep> {
    let route = || (neighbor(), 1..5_u8, 1..4_u8, prop::option::of(100..103_u8));
    prop_oneof![
        8 => (route(), 0..4_u32, prop::bool::weighted(0.1), prop::bool::weighted(0.9)).prop_map(
            |((from, vtep, mac, ip), sequence, sticky, target)| {
                ModelStep::Announce { from, vtep, mac, ip, sequence, sticky, target }
            }
        ),
        5 => route().prop_map(|(from, vtep, mac, ip)| ModelStep::Withdraw { from, vtep, mac, ip }),
        1 => neighbor().prop_map(ModelStep::Down),
        1 => any::<bool>().prop_map(ModelStep::Vni),
    ]
}

fn steps() -> impl Strategy<Value = Vec<ModelStep>> {
    prop::collection::vec(step(), 1..60)
}

/// The fields of a path: usable, sticky, sequence.
type ModelPath = (bool, bool, u32);

#[derive(Default)]
struct ReferenceModel {
    paths: BTreeMap<(u8, u8, Option<u8>), BTreeMap<NeighborId, ModelPath>>,
    configured: bool,
}

impl ReferenceModel {
    /// Paths with the local next hop (VTEP 1) do not compete with others: all paths of a route have
    /// the same next hop here.
    fn best(paths: &BTreeMap<NeighborId, ModelPath>) -> Option<ModelPath> {
        // The lower neighbor address decides last: ONE is 201, TWO is 202.
        let rank =
            |(id, path): &(&NeighborId, &ModelPath)| ((path.1, path.2), std::cmp::Reverse(**id));
        paths.iter().max_by_key(rank).map(|(_, path)| *path)
    }

    fn tables(&self) -> AppliedTables {
        let mut tables = AppliedTables::default();
        let (mut macs, mut addresses) = (BTreeMap::new(), BTreeMap::new());
        for ((at, number, address), paths) in &self.paths {
            let Some((usable, sticky, sequence)) = Self::best(paths) else {
                continue;
            };
            if !usable || *at == 1 || !self.configured {
                continue;
            }
            let rank = (sticky, sequence, std::cmp::Reverse(*at));
            let best = macs.entry(*number).or_insert(rank);
            *best = rank.max(*best);
            if let Some(address) = address {
                let rank = (rank, std::cmp::Reverse(*number));
                let best = addresses.entry(*address).or_insert(rank);
                *best = rank.max(*best);
            }
        }
        for (number, (_, _, at)) in macs {
            tables.macs.insert((vni(100), mac(number)), vtep(at.0));
        }
        for (address, (_, number)) in addresses {
            tables.neighbors.insert(
                (vni(100), ip(address)),
                (mac(number.0), None, EntryOrigin::Evpn),
            );
        }
        tables
    }
}

fn route(vtep: u8, number: u8, address: Option<u8>) -> MacIp {
    MacIp {
        ip: address.map(ip),
        ..host(vtep, mac(number))
    }
}

fn apply(fixture: &mut Fixture, model: &mut ReferenceModel, step: &ModelStep) {
    match *step {
        ModelStep::Announce {
            from,
            vtep,
            mac,
            ip,
            sequence,
            sticky,
            target,
        } => {
            let mut attributes = moved(vtep, sequence);
            attributes.extended[2] = ExtendedCommunity::mac_mobility(sticky, sequence);
            if !target {
                attributes.extended[0] = ExtendedCommunity::route_target(65000, 999);
            }
            fixture.host(from, &attributes, route(vtep, mac, ip));
            let paths = model.paths.entry((vtep, mac, ip)).or_default();
            paths.insert(from, (target, sticky, sequence));
        }
        ModelStep::Withdraw {
            from,
            vtep,
            mac,
            ip,
        } => {
            fixture.withdraw(from, &[EvpnRoute::MacIp(route(vtep, mac, ip))]);
            if let Some(paths) = model.paths.get_mut(&(vtep, mac, ip)) {
                paths.remove(&from);
            }
        }
        ModelStep::Down(from) => {
            fixture.speaker.peer_down(from, false);
            model
                .paths
                .values_mut()
                .for_each(|paths| paths.retain(|id, _| *id != from));
        }
        ModelStep::Vni(true) => {
            fixture
                .speaker
                .vni_add(fixture.now, MacVrfConfig::new(vni(100)))
                .expect("added");
            model.configured = true;
        }
        ModelStep::Vni(false) => {
            fixture.speaker.vni_del(fixture.now, vni(100));
            model.configured = false;
        }
    }
    fixture.settle();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn tables_equal_the_model_after_each_step(steps in steps()) {
        let config = EvpnConfig {
            duplicate: DuplicateConfig { moves: 0, ..DuplicateConfig::default() },
            ..EvpnConfig::new(65000, std::net::Ipv4Addr::new(192, 0, 2, 1), vtep(1))
        };
        let mut fixture = Fixture::with(config, MacVrfConfig::new(vni(100)));
        let mut model = ReferenceModel { configured: true, ..ReferenceModel::default() };
        for step in &steps {
            apply(&mut fixture, &mut model, step);
            let expected = model.tables();
            prop_assert_eq!(&fixture.tables, &expected, "after {:?}", step);
            for id in [ONE, TWO] {
                let held = model.paths.values().filter(|paths| paths.contains_key(&id)).count();
                prop_assert_eq!(fixture.speaker.prefix_count(id), held);
            }
        }
        for id in [ONE, TWO] {
            fixture.speaker.peer_down(id, false);
        }
        fixture.settle();
        prop_assert_eq!(&fixture.tables, &AppliedTables::default());
        prop_assert_eq!(fixture.speaker.totals(), (0, 0, 0));
    }
}
