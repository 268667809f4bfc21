//! FRR: zebra and bgpd of a namespace (and mgmtd, which FRR 10 has), with a directory of their own,
//! as a route reflector or as the control plane of Linux.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::fabric::vtep4;
use crate::netns::{Netns, command, must, wait_for};
use crate::program::{Program, Scratch};
use crate::release::Release;
use crate::trixie;

/// The directory of FRR's daemons in Debian.
const DAEMONS: &str = "/usr/lib/frr";

/// Where Debian's FRR 10 keeps its sockets, below the root; with `-N NAME`, in a subdirectory NAME.
const STATE: &str = "run/frr";

/// Time limit for a vtysh command, seconds.
const LIMIT: u32 = 30;

/// FRR's daemons in one namespace.
#[derive(Debug)]
pub struct Frr {
    bgpd: Option<Program>,
    _zebra: Program,
    _mgmtd: Option<Program>,
    scratch: Scratch,
    /// The root directory of all its programs; `None` = that of this host.
    root: Option<&'static Path>,
    ns: String,
}

impl Frr {
    /// Starts FRR of the current [`Release`] with `config` as bgpd's configuration, and waits until
    /// bgpd answers.
    ///
    /// # Panics
    /// If it does not answer within 20 s, or rejects a line.
    #[must_use]
    pub fn start(ns: &Netns, config: &str) -> Self {
        Self::start_in(Release::current().root(), ns, config)
    }

    /// As [`Frr::start`], with FRR 10.3 of Debian 13.
    ///
    /// # Panics
    /// As [`Frr::start`], and if the root directory can't be created.
    #[must_use]
    pub fn start_10_3(ns: &Netns, config: &str) -> Self {
        Self::start_in(Some(trixie::root()), ns, config)
    }

    fn start_in(root: Option<&'static Path>, ns: &Netns, config: &str) -> Self {
        let scratch = root.map_or_else(
            || Scratch::new(ns),
            |root| Scratch::below(&root.join(STATE), ns),
        );
        let dir = scratch.path();
        std::fs::write(dir.join("bgpd.conf"), config)
            .expect("the scratch directory can be written");
        std::fs::write(dir.join("zebra.conf"), "").expect("the scratch directory can be written");
        // The daemons drop root privileges and run as the user frr.
        let own = ["chown", "-R", "frr:frr", &inside(root, dir)].map(str::to_owned);
        must(&command(LIMIT, &text(&in_root(root, &own))), "chown to frr");
        // Without mgmtd, zebra of FRR 10 fills its log with errors.
        let mgmtd = root.map(|_| launch(ns, root, dir, "mgmtd"));
        let mut zebra = launch(ns, root, dir, "zebra");
        let api = dir.join("zserv.api");
        zebra.wait_until("its API", 20, |_| api.exists());
        let bgpd = launch(ns, root, dir, "bgpd");
        let mut frr = Self {
            bgpd: Some(bgpd),
            _zebra: zebra,
            _mgmtd: mgmtd,
            scratch,
            root,
            ns: ns.name().to_owned(),
        };
        frr.wait_ready();
        frr
    }

    fn wait_ready(&mut self) {
        // zebra would answer commands that do not concern BGP.
        let words = self.words("show bgp vrfs");
        let bgpd = self.bgpd.as_mut().expect("it was just started");
        let answers = |_: &Program| command(LIMIT, &text(&words)).status.success();
        bgpd.wait_until("an answer to vtysh", 20, answers);
    }

    fn words(&self, line: &str) -> Vec<String> {
        let dir = inside(self.root, self.scratch.path());
        let vtysh = in_root(
            self.root,
            &["vtysh", "--vty_socket", &dir, "-c", line].map(str::to_owned),
        );
        [
            &["ip", "netns", "exec", &self.ns].map(str::to_owned)[..],
            &vtysh,
        ]
        .concat()
    }

    /// The output of `vtysh -c <line>`.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn show(&self, line: &str) -> String {
        must(&command(LIMIT, &text(&self.words(line))), line)
    }

    /// The output of `vtysh -c "<line> json"`.
    ///
    /// # Panics
    /// If it fails or does not print JSON.
    #[must_use]
    pub fn json(&self, line: &str) -> Value {
        let text = self.show(&format!("{line} json"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{line} json: {e}\n{text}"))
    }

    /// Applies configuration lines, after `configure terminal`.
    ///
    /// # Panics
    /// If one is rejected.
    pub fn configure(&self, lines: &[&str]) {
        let mut words = self.words("configure terminal");
        lines
            .iter()
            .for_each(|line| words.extend(["-c".to_owned(), (*line).to_owned()]));
        must(&command(LIMIT, &text(&words)), &lines.join("; "));
    }

    /// Sends SIGKILL to bgpd; zebra, and with it the state in the kernel, remains.
    ///
    /// # Panics
    /// If it is not running.
    pub fn kill(&mut self) {
        self.bgpd.take().expect("bgpd is running").kill();
    }

    /// Sends SIGTERM to bgpd: it notifies its neighbors.
    ///
    /// # Panics
    /// If it is not running, or does not end.
    pub fn stop(&mut self) {
        let mut bgpd = self.bgpd.take().expect("bgpd is running");
        bgpd.signal(Signal::TERM);
        bgpd.wait(10);
    }

    /// Starts bgpd again.
    ///
    /// # Panics
    /// If it does not answer within 20 s.
    pub fn restart(&mut self, ns: &Netns) {
        self.bgpd = Some(launch(ns, self.root, self.scratch.path(), "bgpd"));
        self.wait_ready();
    }

    /// Waits until the EVPN session with `neighbor` is established.
    ///
    /// # Panics
    /// If it is not within 20 s.
    pub fn established(&self, neighbor: u8) {
        let peer = vtep4(neighbor).to_string();
        wait_for(&format!("FRR's session with {peer}"), 20, || {
            let all = self.json("show bgp l2vpn evpn summary");
            (all["peers"][&peer]["state"] == "Established").then_some(())
        });
    }

    /// The VTEP behind which FRR has `mac` of `vni`; `None` if the MAC is not a remote one.
    #[must_use]
    pub fn remote_mac(&self, vni: u32, mac: &str) -> Option<String> {
        let all = self.json(&format!("show evpn mac vni {vni}"));
        all["macs"][mac]["remoteVtep"].as_str().map(str::to_owned)
    }

    /// Whether FRR has `mac` of `vni` as a local MAC.
    #[must_use]
    pub fn has_local_mac(&self, vni: u32, mac: &str) -> bool {
        self.json(&format!("show evpn mac vni {vni}"))["macs"][mac]["type"] == "local"
    }
}

fn text(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// `path` as seen by programs with the root directory `root`.
fn inside(root: Option<&Path>, path: &Path) -> String {
    let shown = root.map_or(path, |root| {
        path.strip_prefix(root).expect("it is below the root")
    });
    Path::new("/")
        .join(shown)
        .to_str()
        .expect("ASCII")
        .to_owned()
}

/// The command that runs `words` with the root directory `root`.
fn in_root(root: Option<&Path>, words: &[String]) -> Vec<String> {
    let change = root.map(|root| {
        [
            "chroot".to_owned(),
            root.to_str().expect("ASCII").to_owned(),
        ]
    });
    change
        .into_iter()
        .flatten()
        .chain(words.iter().cloned())
        .collect()
}

fn launch(ns: &Netns, root: Option<&Path>, dir: &Path, daemon: &str) -> Program {
    let at = |name: &str| inside(root, &dir.join(name));
    let program = format!("{DAEMONS}/{daemon}");
    let (config, api, pid) = (
        at(&format!("{daemon}.conf")),
        at("zserv.api"),
        at(&format!("{daemon}.pid")),
    );
    let socket = at("");
    // -P 0: no vty over TCP.
    let mut words = vec![
        &*program,
        "-z",
        &api,
        "-i",
        &pid,
        "--vty_socket",
        &socket,
        "-P",
        "0",
        "--log",
        "stdout",
    ];
    if root.is_some() {
        words.extend(["-N", ns.name()]);
    }
    // mgmtd has no configuration file.
    if dir.join(format!("{daemon}.conf")).exists() {
        words.extend(["-f", &config]);
    }
    Program::start_in(ns, root, dir, &words)
}

/// bgpd's configuration in AS `asn` with the EVPN family alone: `keys` for each neighbor (`X` is
/// replaced by its address), and `family` in the address family, once for each neighbor if a line
/// has an `X`.
fn speaker(
    number: u8,
    asn: u32,
    neighbors: &[(u8, u32)],
    keys: &[&str],
    family: &[&str],
) -> String {
    let mut lines = vec![
        format!("router bgp {asn}"),
        format!("bgp router-id {}", vtep4(number)),
        "no bgp default ipv4-unicast".to_owned(),
        "no bgp ebgp-requires-policy".to_owned(),
    ];
    for (neighbor, remote) in neighbors {
        let address = vtep4(*neighbor).to_string();
        lines.push(format!("neighbor {address} remote-as {remote}"));
        lines.push(format!("neighbor {address} timers 3 9"));
        lines.push(format!("neighbor {address} timers connect 1"));
        lines.extend(keys.iter().map(|key| key.replace('X', &address)));
    }
    lines.push("address-family l2vpn evpn".to_owned());
    for (neighbor, _) in neighbors {
        let address = vtep4(*neighbor).to_string();
        lines.push(format!("neighbor {address} activate"));
        lines.extend(
            family
                .iter()
                .filter(|key| key.contains('X'))
                .map(|key| key.replace('X', &address)),
        );
    }
    lines.extend(
        family
            .iter()
            .filter(|key| !key.contains('X'))
            .map(|key| (*key).to_owned()),
    );
    lines.push("exit-address-family\n".to_owned());
    lines.join("\n")
}

/// A route reflector of AS 65000 at 203.0.113.`number` for VTEPs at 203.0.113.N.
#[must_use]
pub fn reflector(number: u8, clients: &[u8]) -> String {
    let clients: Vec<_> = clients.iter().map(|client| (*client, 65000)).collect();
    speaker(
        number,
        65000,
        &clients,
        &[],
        &["neighbor X route-reflector-client"],
    )
}

/// As [`reflector`], with dynamic neighbors: clients from all of 203.0.113.0/24, not configured one
/// by one.
#[must_use]
pub fn dynamic_reflector(number: u8) -> String {
    [
        "router bgp 65000",
        &format!("bgp router-id {}", vtep4(number)),
        "no bgp default ipv4-unicast",
        "neighbor CLIENTS peer-group",
        "neighbor CLIENTS remote-as 65000",
        "neighbor CLIENTS timers 3 9",
        "bgp listen range 203.0.113.0/24 peer-group CLIENTS",
        "address-family l2vpn evpn",
        "neighbor CLIENTS activate",
        "neighbor CLIENTS route-reflector-client",
        "exit-address-family\n",
    ]
    .join("\n")
}

/// A VTEP of AS `asn` at 203.0.113.`number` that advertises all VNIs of the kernel to `neighbors`
/// (number and AS), with the additional lines `keys` for each neighbor, where `X` is replaced by
/// its address.
#[must_use]
pub fn vtep(number: u8, asn: u32, neighbors: &[(u8, u32)], keys: &[&str]) -> String {
    speaker(number, asn, neighbors, keys, &["advertise-all-vni"])
}
