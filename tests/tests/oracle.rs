//! Linux as the reference: the same crafted packets go to a Linux VXLAN device and to vtepd.
//!
//! ```text
//! t11 ── h1: Linux, then vtepd ── eth0 ── fabric ── eth0 ── h9: crafted packets
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use vtep_tests::cases::{self, Case, Outcome};
use vtep_tests::config::each_underlay;
use vtep_tests::craft::Packet;
use vtep_tests::fabric::{Fabric, Underlay};
use vtep_tests::frame::plain;
use vtep_tests::link::{Host, mac};
use vtep_tests::linux_vtep::LinuxVtep;
use vtep_tests::netns::Netns;
use vtep_tests::vtepd::{Config, Vtepd};
use vtep_tests::wire::{Kind, Raw};

/// A VTEP under test at hypervisor 1 with tenant 11, and a sender at hypervisor 9.
struct Fixture {
    _fabric: Fabric,
    hypervisor: Netns,
    sender: Netns,
    tenant: Host,
}

impl Fixture {
    fn new() -> Self {
        let fabric = Fabric::new(1600);
        let (hypervisor, sender) = (fabric.hypervisor(1), fabric.hypervisor(9));
        let tenant = Host::new(&hypervisor, 11);
        Self {
            _fabric: fabric,
            hypervisor,
            sender,
            tenant,
        }
    }

    /// Sends every case of `underlay`, and returns the outcome of each.
    fn run_cases(&self, underlay: Underlay) -> Vec<(Case, Outcome)> {
        let (to, from) = (self.hypervisor.mac("eth0"), self.sender.mac("eth0"));
        let cases: Vec<Case> = cases::all(&to, &from)
            .into_iter()
            .filter(|c| c.underlay == underlay)
            .collect();
        let receiver = Raw::open(&self.tenant.ns, "eth0", Kind::Packet);
        let mut sender = Raw::open(&self.sender, "eth0", Kind::Packet);
        cases
            .iter()
            .flat_map(|c| &c.packets)
            .for_each(|p| sender.send(p));
        let last = plain(&mac(11), &mac(12), "the-last-one");
        let sentinel = match underlay {
            Underlay::V4 => Packet::v4(&to, &from, last),
            Underlay::V6 => Packet::v6(&to, &from, last),
        };
        sender.send(&sentinel.bytes());
        let _ = receiver.expect("the-last-one", 1);
        // Frames that the kernel is still processing on another core.
        std::thread::sleep(Duration::from_millis(500));
        let frames = receiver.frames();
        cases
            .into_iter()
            .map(|c| (c.clone(), c.outcome(&frames)))
            .collect()
    }
}

/// Descriptions of the cases whose outcome is not `expected`.
fn mismatches(results: &[(Case, Outcome)], expected: impl Fn(&Case) -> Outcome) -> Vec<String> {
    let wrong = results.iter().filter(|(case, got)| *got != expected(case));
    wrong
        .map(|(case, got)| format!("{}: {got:?}, expected {:?}", case.name, expected(case)))
        .collect()
}

#[test]
fn linux_behaves_as_listed() {
    for underlay in [Underlay::V4, Underlay::V6] {
        let fixture = Fixture::new();
        let _vtep = LinuxVtep::new(&fixture.hypervisor, 100, underlay.vtep(1))
            .port(&fixture.tenant.port)
            .fdb(&mac(12), underlay.vtep(9))
            .flood(underlay.vtep(9));
        let wrong = mismatches(&fixture.run_cases(underlay), |case| case.linux);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn vtepd_behaves_as_listed_and_counts_each_drop() {
    each_underlay(|| {
        for underlay in [Underlay::V4, Underlay::V6] {
            let fixture = Fixture::new();
            let config = Config::new(underlay.vtep(1))
                .vni(100, &[underlay.vtep(9)])
                .port(&fixture.tenant.port, &[mac(11)])
                .fdb(&mac(12), underlay.vtep(9));
            let vtepd = Vtepd::start(&fixture.hypervisor, &config);
            let results = fixture.run_cases(underlay);
            let wrong = mismatches(&results, |case| case.vtepd);
            assert!(wrong.is_empty(), "{wrong:#?}");
            let reasons: BTreeSet<&str> =
                results.iter().filter_map(|(case, _)| case.reason).collect();
            let expected: Vec<(&str, usize)> = reasons
                .iter()
                .map(|r| {
                    (
                        *r,
                        results
                            .iter()
                            .filter(|(case, _)| case.reason == Some(r))
                            .count(),
                    )
                })
                .collect();
            let counted: Vec<(&str, usize)> = reasons
                .iter()
                .map(|r| (*r, usize::try_from(vtepd.drops(r)).expect("a few")))
                .collect();
            assert_eq!(counted, expected, "{underlay:?}");
            vtepd.stop();
        }
    });
}

#[test]
fn each_difference_from_linux_is_documented() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/linux-differences.md");
    let text = std::fs::read_to_string(page).expect("docs/linux-differences.md is readable");
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let written: BTreeSet<&str> = rows.collect();
    let all = cases::all(&mac(1), &mac(2));
    let differ: BTreeSet<&str> = all
        .iter()
        .filter(|c| c.linux != c.vtepd)
        .map(|c| c.name)
        .collect();
    assert_eq!(written, differ);
    assert!(all.len() >= 40, "{} cases", all.len());
}
