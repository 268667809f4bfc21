//! The underlay against the real kernel, each test in two network namespaces of its own. Needs
//! root; fails without.
//!
//! ```text
//! near: code under test          far: VTEPs and gateways
//!   eth0 10.0.0.2/24 ─── veth ─── far0
//!   eth1 10.0.1.2/24 ─── veth ─── far1
//! ```

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use vtep_control::underlay::{ResolvedPath, Underlay, UnderlayConfig, UnderlayEvent};
use vtep_dataplane::addr::VtepAddr;

/// Time limit for what the kernel does within seconds, generous for a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Two namespaces joined by the veth pairs eth0-far0 and eth1-far1. Removed when dropped, also
/// after a panic.
struct Net {
    name: String,
}

impl Net {
    fn new(name: &str) -> Self {
        let net = Self {
            name: format!("ul-{}-{name}", std::process::id()),
        };
        for side in ["near", "far"] {
            run(&format!("ip netns add {}-{side}", net.name));
            net.ip(side, "link set lo up");
        }
        for number in 0..2 {
            let far = format!("{}-far", net.name);
            net.ip(
                "near",
                &format!("link add eth{number} type veth peer name far{number} netns {far}"),
            );
            net.ip("near", &format!("link set eth{number} up"));
            net.ip("far", &format!("link set far{number} up"));
            net.ip(
                "near",
                &format!("addr add 10.0.{number}.2/24 dev eth{number}"),
            );
            net.ip(
                "far",
                &format!("addr add 10.0.{number}.1/24 dev far{number}"),
            );
        }
        net.ip("near", "addr add 192.0.2.1/32 dev lo");
        net
    }

    fn ip(&self, side: &str, command: &str) {
        run(&format!("ip -n {}-{side} {command}", self.name));
    }

    /// The kernel's error when it does not support 802.1Q interfaces; `None` if it does.
    fn vlan_refusal(&self) -> Option<String> {
        let near = format!("{}-near", self.name);
        let words = [
            "-n", &near, "link", "add", "probe", "link", "eth0", "type", "vlan", "id", "8",
        ];
        let probe = Command::new("ip")
            .args(words)
            .output()
            .expect("iproute2 is installed");
        (!probe.status.success()).then(|| String::from_utf8_lossy(&probe.stderr).into_owned())
    }

    fn output(&self, side: &str, command: &str) -> String {
        run(&format!("ip -n {}-{side} {command}", self.name))
    }

    /// Runs `test` on a thread inside the near namespace.
    fn inside<T: Send>(&self, test: impl FnOnce(&Self) -> T + Send) -> T {
        let path = format!("/run/netns/{}-near", self.name);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let namespace = std::fs::File::open(path).expect("the namespace was created");
                rustix::thread::move_into_link_name_space(namespace.as_fd(), None)
                    .expect("this test needs root");
                test(self)
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for side in ["near", "far"] {
            let name = format!("{}-{side}", self.name);
            let gone = Command::new("ip").args(["netns", "del", &name]).status();
            assert!(
                gone.is_ok_and(|status| status.success()) || std::thread::panicking(),
                "{name} stays behind"
            );
        }
    }
}

fn run(command: &str) -> String {
    let words: Vec<_> = command.split_whitespace().collect();
    let output = Command::new(words[0])
        .args(&words[1..])
        .output()
        .expect("iproute2 is installed");
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// CPU time of this thread.
fn spent() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

fn config() -> UnderlayConfig {
    UnderlayConfig {
        devices: vec!["eth0".to_owned(), "eth1".to_owned()],
        local_v4: Some([192, 0, 2, 1].into()),
        local_v6: Some("2001:db8::2".parse().unwrap()),
        ttl: 64,
        df: true,
        udp_port: 4789,
    }
}

fn vtep(text: &str) -> VtepAddr {
    text.parse().unwrap()
}

/// The code under test with an event loop like the daemon's.
struct EventLoop {
    underlay: Underlay,
    poll: mio::Poll,
    seen: Vec<UnderlayEvent>,
}

impl EventLoop {
    fn new() -> Self {
        let mut underlay = Underlay::new(config()).expect("netlink answers");
        let poll = mio::Poll::new().unwrap();
        poll.registry()
            .register(&mut underlay, mio::Token(0), mio::Interest::READABLE)
            .unwrap();
        Self {
            underlay,
            poll,
            seen: Vec::new(),
        }
    }

    fn track(&mut self, text: &str) {
        self.underlay.track(vtep(text), Instant::now());
    }

    /// The VTEP events of one poll; link events arrive at any time.
    fn resolutions(&mut self) -> Vec<UnderlayEvent> {
        let mut changes = self.underlay.poll(Instant::now()).unwrap();
        changes.retain(|change| matches!(change, UnderlayEvent::Resolved(_)));
        changes
    }

    fn poll_once(&mut self, limit: Duration) {
        let wait = self
            .underlay
            .next_timeout(Instant::now())
            .unwrap_or(limit)
            .min(limit);
        self.poll
            .poll(&mut mio::Events::with_capacity(4), Some(wait))
            .unwrap();
        self.seen
            .extend(self.underlay.poll(Instant::now()).unwrap());
    }

    /// Polls until the VTEP's paths meet the condition.
    fn until(
        &mut self,
        text: &str,
        within: Duration,
        condition: impl Fn(&[ResolvedPath]) -> bool,
    ) -> Vec<ResolvedPath> {
        let start = Instant::now();
        loop {
            self.poll_once(Duration::from_millis(100));
            let paths = self.underlay.paths(vtep(text)).expect("it is tracked");
            if condition(paths) {
                return paths.to_vec();
            }
            let shown = self.underlay.show(Instant::now());
            assert!(start.elapsed() < within, "{text} is still {shown:#?}");
        }
    }

    /// Polls until such an event was reported.
    fn reported(&mut self, what: &str, wanted: impl Fn(&UnderlayEvent) -> bool) {
        let start = Instant::now();
        while !self.seen.iter().any(&wanted) {
            assert!(start.elapsed() < SOON, "{what}: not among {:#?}", self.seen);
            self.poll_once(Duration::from_millis(100));
        }
    }

    fn resolved(&mut self, text: &str) -> ResolvedPath {
        self.until(text, SOON, |paths| paths.len() == 1).remove(0)
    }

    /// Polls until the VTEP has no path, for this reason.
    fn unresolved(&mut self, text: &str, reason: &str) {
        let start = Instant::now();
        loop {
            self.poll_once(Duration::from_millis(100));
            let address: IpAddr = text.parse().unwrap();
            let shown = self.underlay.show(Instant::now());
            let row = shown
                .iter()
                .find(|row| row.vtep == address)
                .expect("it is tracked");
            if row.error.as_ref().map(ToString::to_string).as_deref() == Some(reason) {
                assert!(self.underlay.paths(vtep(text)).unwrap().is_empty());
                return;
            }
            assert!(start.elapsed() < SOON, "wanted {reason:?}, got {row:#?}");
        }
    }
}

fn mac_of(net: &Net, side: &str, link: &str) -> String {
    let shown = net.output(side, &format!("-br link show {link}"));
    shown
        .split_whitespace()
        .nth(2)
        .expect("a veth has a MAC")
        .to_owned()
}

#[test]
fn vteps_on_the_link_are_resolved_by_arp_and_nd() {
    Net::new("onlink").inside(|net| {
        net.ip("near", "addr add 2001:db8::2/64 dev eth0 nodad");
        net.ip("far", "addr add 2001:db8::1/64 dev far0 nodad");
        let mut events = EventLoop::new();
        events.track("10.0.0.1");
        events.track("2001:db8::1");
        let v4 = events.resolved("10.0.0.1");
        let v6 = events.resolved("2001:db8::1");
        assert_eq!(
            (&*v4.device, v4.max_frame, v4.fields.vlan),
            ("eth0", 1464, None)
        );
        assert_eq!((&*v6.device, v6.max_frame), ("eth0", 1444));
        for path in [v4, v6] {
            assert_eq!(
                path.fields.next_hop_mac.to_string(),
                mac_of(net, "far", "far0")
            );
            assert_eq!(
                path.fields.source_mac.to_string(),
                mac_of(net, "near", "eth0")
            );
        }
        let left = net.output("near", "neigh show nud permanent");
        assert_eq!(left.trim(), "", "no permanent entry remains");
    });
}

#[test]
fn a_moved_gateway_moves_the_path() {
    Net::new("gateway").inside(|net| {
        net.ip("near", "route add 203.0.113.0/24 via 10.0.0.1");
        let mut events = EventLoop::new();
        events.track("203.0.113.9");
        assert_eq!(&*events.resolved("203.0.113.9").device, "eth0");
        net.ip("near", "route replace 203.0.113.0/24 via 10.0.1.1");
        let moved = events.until("203.0.113.9", SOON, |paths| {
            paths.iter().any(|p| &*p.device == "eth1")
        });
        assert_eq!(moved.len(), 1);
        assert_eq!(
            moved[0].fields.next_hop_mac.to_string(),
            mac_of(net, "far", "far1")
        );
        net.ip("near", "-6 addr add 2001:db8::2/64 dev eth1 nodad");
        net.ip("far", "-6 addr add 2001:db8::1/64 dev far1 nodad");
        net.ip(
            "near",
            "route add 203.0.113.9/32 via inet6 2001:db8::1 dev eth1 mtu 1400",
        );
        events.until("203.0.113.9", SOON, |paths| {
            paths.iter().any(|p| p.max_frame == 1364)
        });
        net.ip("near", "route del 203.0.113.9/32");
        net.ip("near", "route del 203.0.113.0/24");
        events.unresolved("203.0.113.9", "no route to 203.0.113.9");
        net.ip("near", "route add blackhole 203.0.113.0/24");
        events.unresolved("203.0.113.9", "route to 203.0.113.9 is blackhole");
        net.ip("near", "link add other type bridge");
        net.ip("near", "link set other up");
        net.ip("near", "route replace 203.0.113.0/24 dev other");
        events.unresolved(
            "203.0.113.9",
            "route uses other, which is not in [vtep] underlay",
        );
        net.ip("near", "addr del 192.0.2.1/32 dev lo");
        events.unresolved(
            "203.0.113.9",
            "local VTEP address 192.0.2.1 is not on this host; add it to an interface",
        );
    });
}

#[test]
fn policy_rules_and_nexthop_objects_are_followed() {
    Net::new("rules").inside(|net| {
        net.ip("near", "route add 203.0.113.0/24 via 10.0.0.1");
        let mut events = EventLoop::new();
        events.track("203.0.113.9");
        assert_eq!(&*events.resolved("203.0.113.9").device, "eth0");
        net.ip("near", "nexthop add id 1 via 10.0.1.1 dev eth1");
        net.ip("near", "route add 203.0.113.0/24 table 100 nhid 1");
        net.ip("near", "rule add ipproto udp dport 4789 lookup 100");
        events.until("203.0.113.9", SOON, |paths| {
            paths.iter().any(|p| &*p.device == "eth1")
        });
        net.ip("near", "nexthop replace id 1 via 10.0.0.1 dev eth0");
        events.until("203.0.113.9", SOON, |paths| {
            paths.iter().any(|p| &*p.device == "eth0")
        });
    });
}

#[test]
fn two_nics_share_by_weight_until_one_goes_down() {
    Net::new("ecmp").inside(|net| {
        let hops = "nexthop via 10.0.0.1 dev eth0 weight 1 nexthop via 10.0.1.1 dev eth1 weight 3";
        net.ip("near", &format!("route add 203.0.113.0/24 {hops}"));
        let mut events = EventLoop::new();
        events.track("203.0.113.9");
        let both = events.until("203.0.113.9", SOON, |paths| paths.len() == 2);
        let weights: Vec<_> = both
            .iter()
            .map(|path| (&*path.device, path.weight))
            .collect();
        assert_eq!(weights, [("eth0", 1), ("eth1", 3)]);
        net.ip("far", "link set far1 down");
        assert_eq!(&*events.resolved("203.0.113.9").device, "eth0");
        net.ip("far", "link set far1 up");
        events.until("203.0.113.9", SOON, |paths| paths.len() == 2);
        net.ip("near", "link set eth0 down");
        assert_eq!(&*events.resolved("203.0.113.9").device, "eth1");
        events.reported(
            "eth0 is down",
            |change| matches!(change, UnderlayEvent::Link(c) if &*c.link.name == "eth0" && !c.link.up()),
        );
        net.ip("near", "link del eth1");
        events.unresolved("203.0.113.9", "no route to 203.0.113.9");
        events.reported(
            "eth1 is gone",
            |change| matches!(change, UnderlayEvent::Link(c) if &*c.link.name == "eth1" && !c.present),
        );
        assert!(events.underlay.link("eth1").is_none());
    });
}

/// A kernel without CONFIG_VLAN_8021Q, such as that of the project's test machine, has no such
/// interfaces: there the test verifies only that the kernel refuses to create one. How one is
/// handled is tested in src/underlay/resolve_tests.rs and links.rs, with messages as the kernel
/// encodes them.
#[test]
fn a_vlan_of_an_underlay_interface_is_a_tag_on_its_device() {
    Net::new("vlan").inside(|net| {
        if let Some(refusal) = net.vlan_refusal() {
            let kernel = ["Unknown device type", "Operation not supported"];
            assert!(
                kernel.iter().any(|words| refusal.contains(words)),
                "not for the lack of VLANs: {refusal}"
            );
            let mut events = EventLoop::new();
            events.track("10.0.0.1");
            assert_eq!(
                events.resolved("10.0.0.1").fields.vlan,
                None,
                "no VLAN, no tag"
            );
            return;
        }
        for (side, link, host) in [("near", "eth0", 2), ("far", "far0", 1)] {
            net.ip(side, &format!("link add v7 link {link} type vlan id 7"));
            net.ip(side, "link set v7 up");
            net.ip(side, &format!("addr add 10.7.0.{host}/24 dev v7"));
        }
        net.ip("near", "link set v7 address 02:00:00:00:07:07");
        let mut events = EventLoop::new();
        events.track("10.7.0.1");
        let path = events.resolved("10.7.0.1");
        assert_eq!((&*path.device, path.fields.vlan), ("eth0", Some(7)));
        assert_eq!(path.ifindex, events.underlay.link("eth0").unwrap().index);
        assert_eq!(path.fields.source_mac.to_string(), "02:00:00:00:07:07");
        net.ip("near", "link set eth0 mtu 1300");
        events.until("10.7.0.1", SOON, |paths| {
            paths.iter().any(|p| p.max_frame == 1264)
        });
    });
}

#[test]
fn a_neighbor_may_appear_change_its_mac_and_disappear() {
    Net::new("neighbor").inside(|net| {
        // Short timers: with its defaults, the kernel takes half a minute to notice a silent
        // change.
        for setting in [
            "base_reachable_time_ms=1000",
            "delay_first_probe_time=1",
            "retrans_time_ms=100",
        ] {
            let near = format!("{}-near", net.name);
            run(&format!(
                "ip netns exec {near} sysctl -qw net.ipv4.neigh.eth0.{setting}"
            ));
        }
        let mut events = EventLoop::new();
        events.track("10.0.0.5");
        events.unresolved("10.0.0.5", "neighbor 10.0.0.5 on eth0 is FAILED");
        net.ip("far", "addr add 10.0.0.5/24 dev far0");
        let first = events.resolved("10.0.0.5");
        // Without an announcement: the kernel must be made to probe.
        net.ip("far", "link set far0 address 02:00:00:00:00:99");
        let silent = Duration::from_secs(90);
        let changed = events.until("10.0.0.5", silent, |paths| {
            paths
                .iter()
                .any(|path| path.fields.next_hop_mac.to_string() == "02:00:00:00:00:99")
        });
        assert_ne!(changed[0].fields.next_hop_mac, first.fields.next_hop_mac);
        net.ip("far", "addr del 10.0.0.5/24 dev far0");
        events.until("10.0.0.5", silent, <[_]>::is_empty);
        events.unresolved("10.0.0.5", "neighbor 10.0.0.5 on eth0 is FAILED");
    });
}

#[test]
fn a_thousand_vteps_resolve_quickly_and_only_changes_are_reported() {
    Net::new("thousand").inside(|net| {
        net.ip("near", "route add 198.18.0.0/15 via 10.0.0.1");
        net.ip(
            "near",
            "neigh replace 10.0.0.1 dev eth0 lladdr 02:00:00:00:00:01 nud permanent",
        );
        net.ip(
            "near",
            "neigh replace 10.0.1.1 dev eth1 lladdr 02:00:00:00:01:01 nud permanent",
        );
        let mut events = EventLoop::new();
        let address = |n: u32| IpAddr::from((0xc612_0000_u32 + n).to_be_bytes());
        for n in 1..=1000 {
            events
                .underlay
                .track(VtepAddr::new(address(n)).unwrap(), Instant::now());
        }
        // The kernel's work is charged to this thread; the CPU time of other programs does not
        // count.
        let before = spent();
        let changes = events.resolutions();
        let took = spent() - before;
        println!("1000 VTEPs resolved in {took:?}");
        assert_eq!(changes.len(), 1000);
        assert!(
            changes
                .iter()
                .all(|change| matches!(change, UnderlayEvent::Resolved(r) if r.paths.len() == 1))
        );
        assert!(took < Duration::from_millis(50), "{took:?}");

        net.ip(
            "near",
            &format!("route add {}/32 via 10.0.1.1", address(500)),
        );
        net.ip("near", "route add 198.51.100.0/24 via 10.0.1.1");
        let changes = events.resolutions();
        assert_eq!(changes.len(), 1, "{changes:?}");
        let UnderlayEvent::Resolved(resolved) = &changes[0] else {
            panic!("{changes:?}")
        };
        assert_eq!(resolved.vtep.get(), address(500));
        assert_eq!(&*resolved.paths[0].device, "eth1");
        assert_eq!(
            events.underlay.next_timeout(Instant::now()),
            None,
            "nothing is left to do"
        );

        events
            .underlay
            .untrack(VtepAddr::new(address(500)).unwrap());
        let mut other = config();
        other.ttl = 33;
        events.underlay.set_config(other);
        assert_eq!(events.resolutions().len(), 999);
        assert_eq!(events.underlay.show(Instant::now()).len(), 999);
    });
}

/// BGP peers choose the number of VTEPs, and any change of a route concerns all of them: what one poll
/// looks up is bounded, and all have their turn, however often routes change.
#[test]
fn routes_are_looked_up_in_portions() {
    Net::new("portions").inside(|net| {
        net.ip("near", "route add 198.18.0.0/15 via 10.0.0.1");
        let permanent = "neigh replace 10.0.0.1 dev eth0 lladdr 02:00:00:00:00:01 nud permanent";
        net.ip("near", permanent);
        let mut events = EventLoop::new();
        let address = |n: u32| VtepAddr::new((0xc612_0000_u32 + n).to_be_bytes().into());
        for n in 1..=5000 {
            let vtep = address(n).unwrap();
            events.underlay.track(vtep, Instant::now());
        }
        for found in [2048, 2048, 904] {
            assert_eq!(events.resolutions().len(), found);
            let timeout = events.underlay.next_timeout(Instant::now());
            assert_eq!(timeout, Some(Duration::ZERO), "the rest is left");
            // All are marked again; those that were looked up before are not the first.
            net.ip("near", "route add 198.51.100.0/24 via 10.0.0.1");
            net.ip("near", "route del 198.51.100.0/24 via 10.0.0.1");
            net.ip("near", "rule add pref 99 to 198.51.100.0/24 table 7");
            net.ip("near", "rule del pref 99 to 198.51.100.0/24 table 7");
        }
        for _ in 0..4 {
            assert_eq!(events.resolutions().len(), 0, "nothing has changed");
        }
        assert_eq!(events.underlay.next_timeout(Instant::now()), None);
    });
}

#[test]
fn lost_events_lead_to_the_same_state() {
    Net::new("lost").inside(|net| {
        net.ip("near", "route add 203.0.113.0/24 via 10.0.0.1");
        let mut events = EventLoop::new();
        events.track("203.0.113.9");
        events.resolved("203.0.113.9");
        // Far more events than the socket's buffer holds while the socket is not read: the kernel
        // drops the last of them.
        let flood: String = (0..25_000)
            .map(|n| {
                format!(
                    "neigh replace 10.0.0.{} dev eth0 lladdr 02:00:00:00:{:02x}:{:02x} nud \
                     permanent\n",
                    10 + n % 200,
                    n / 200 % 256,
                    n % 200
                )
            })
            .collect();
        let file = std::env::temp_dir().join(format!("{}.batch", net.name));
        std::fs::write(
            &file,
            flood + "route replace 203.0.113.0/24 via 10.0.1.1\nlink add late type bridge\n",
        )
        .unwrap();
        let done = Command::new("ip")
            .args(["-n", &format!("{}-near", net.name), "-batch"])
            .arg(&file)
            .output()
            .unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        assert!(events.underlay.link("late").is_none());
        events.until("203.0.113.9", SOON, |paths| {
            paths.iter().any(|p| &*p.device == "eth1")
        });
        assert!(events.underlay.link("late").is_some());
        assert!(
            events.underlay.resyncs() > 0,
            "the flood was too small to lose events"
        );
    });
}
