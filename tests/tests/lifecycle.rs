//! Start, stop, crash and restart: vtepd leaves nothing behind.
//!
//! ```text
//! t11 ── h1: vtepd ── eth0 ── fabric ── eth0 ── h2: Linux ── t12      (h2 in two of the tests)
//! ```

use serde_json::Value;
use vtep_tests::echo::assert_no_loss;
use vtep_tests::fabric::{Fabric, Underlay, vtep4};
use vtep_tests::link::{Host, mac};
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::tools;
use vtep_tests::topology::{IO_KINDS, Pair, Peer};
use vtep_tests::vtepd::{Config, Vtepd, second_instance};

fn one_vtepd(io: &str) -> (Fabric, Netns, Host, Vtepd, [State; 2]) {
    let fabric = Fabric::new(1600);
    let ns = fabric.hypervisor(1);
    let host = Host::new(&ns, 11);
    let before = ["eth0", "t11"].map(|l| State::of(&ns, l));
    let vtepd = Vtepd::start(
        &ns,
        &Config::new(vtep4(1))
            .io(io)
            .vni(100, &[vtep4(2)])
            .port("t11", &[mac(11)]),
    );
    (fabric, ns, host, vtepd, before)
}

/// The state of an interface that must be restored: offloads, flags, MTU, queues, XDP program.
#[derive(Debug, PartialEq, Eq)]
struct State {
    offloads: String,
    channels: String,
    flags: Value,
    promiscuity: Value,
    mtu: Value,
    xdp: Value,
}

impl State {
    /// Waits for the carrier first: the kernel sets RUNNING shortly after the link is up.
    fn of(ns: &Netns, name: &str) -> Self {
        let link = wait_for(&format!("{name} is up"), 5, || {
            let link = ns.link(name);
            (link["operstate"] == "UP").then_some(link)
        });
        let [flags, promiscuity, mtu, xdp] =
            ["flags", "promiscuity", "mtu", "xdp"].map(|k| link[k].clone());
        let show = |what: &str| ns.run(&format!("ethtool {what} {name}"));
        Self {
            offloads: show("-k"),
            channels: show("-l"),
            flags,
            promiscuity,
            mtu,
            xdp,
        }
    }
}

/// The programs attached in the namespace, and the pins below /sys/fs/bpf with vtep in their name.
fn left_behind(ns: &Netns) -> Vec<String> {
    let programs = ["eth0", "t11"].map(|name| {
        let attached = tools::programs(ns, name).into_iter();
        attached.map(move |at| format!("program at {at} of {name}"))
    });
    let programs = programs.into_iter().flatten();
    let pins = ns.try_run("find /sys/fs/bpf -name *vtep*").stdout;
    let pins = String::from_utf8_lossy(&pins)
        .lines()
        .map(|p| format!("pin {p}"))
        .collect::<Vec<_>>();
    programs.chain(pins).collect()
}

#[test]
fn sigterm_restores_the_interfaces() {
    IO_KINDS.into_iter().for_each(sigterm_restores_them_with);
}

fn sigterm_restores_them_with(io: &str) {
    let (_fabric, ns, _host, vtepd, before) = one_vtepd(io);
    let underlay = tools::programs(&ns, "eth0");
    assert!(!underlay.is_empty(), "a program is attached");
    let first = if io == "xdp" { "xdp" } else { "tcx/ingress" };
    let tenants = tools::programs(&ns, "t11");
    assert!(
        tenants.contains(&first.to_owned()) && tenants.contains(&"tcx/egress".to_owned()),
        "{tenants:?}"
    );
    let socket = vtepd.socket();
    vtepd.stop();
    assert_eq!(["eth0", "t11"].map(|l| State::of(&ns, l)), before);
    assert_eq!(left_behind(&ns), Vec::<String>::new());
    assert!(!socket.exists(), "the control socket is removed");
}

#[test]
fn after_kill_nine_and_a_restart_nothing_is_left_and_traffic_flows() {
    let mut pair = Pair::new(Underlay::V4, Peer::Linux);
    let [a, b] = &pair.hosts;
    assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
    let mut vtepd = pair.daemons.remove(0);
    vtepd.kill();
    let ns = &pair.hypervisors[0];
    let vtepd = vtepd.restart(ns);
    assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
    vtepd.stop();
    assert_eq!(left_behind(ns), Vec::<String>::new());
    assert_eq!(ns.pids(), Vec::<u32>::new());
}

#[test]
fn kill_nine_alone_leaves_no_program_and_no_pin() {
    for io in IO_KINDS {
        let (_fabric, ns, _host, mut vtepd, _before) = one_vtepd(io);
        assert!(!left_behind(&ns).is_empty());
        vtepd.kill();
        wait_for("the kernel to detach the programs", 5, || {
            left_behind(&ns).is_empty().then_some(())
        });
    }
}

#[test]
fn a_second_instance_is_refused_and_does_not_affect_the_first() {
    let mut pair = Pair::new(Underlay::V4, Peer::Linux);
    let refused = second_instance(&pair.hypervisors[0], pair.vtepd());
    let error = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(
        error.contains("control.sock") && error.contains("another vtepd"),
        "{error}"
    );
    let [a, b] = &pair.hosts;
    assert_no_loss((&a.ns, a.ip4()), (&b.ns, b.ip4()));
    pair.daemons.drain(..).for_each(Vtepd::stop);
}
