//! FRR: zebra and bgpd of a namespace (and mgmtd, which FRR 10 has), with a directory of their own, as a route reflector or as
//! Linux' control plane.

use crate::fabric::vtep4;
use crate::netns::{Netns, command, must, wait_for};
use crate::program::{Program, Scratch};
use crate::trixie;
use rustix::process::Signal;
use serde_json::Value;
use std::path::Path;

/// Where Debian has FRR's daemons.
const DAEMONS: &str = "/usr/lib/frr";

/// Where FRR 10 of Debian keeps its sockets, below the root: those of the daemons with `-N NAME` in a directory NAME.
const STATE: &str = "run/frr";

/// What is asked of vtysh may take so many seconds.
const LIMIT: u32 = 30;

/// FRR's daemons in one namespace.
#[derive(Debug)]
pub struct Frr {
    bgpd: Option<Program>,
    _zebra: Program,
    _mgmtd: Option<Program>,
    scratch: Scratch,
    /// The root directory of all its programs; `None` = this host's.
    root: Option<&'static Path>,
    ns: String,
}

impl Frr {
    /// Starts both with `config` as bgpd's configuration, and waits until bgpd answers.
    ///
    /// # Panics
    /// If it does not answer within 20 s, or refuses a line.
    #[must_use]
    pub fn start(ns: &Netns, config: &str) -> Self {
        Self::start_in(None, ns, config)
    }

    /// As [`Frr::start`], with FRR 10.3 of Debian 13.
    ///
    /// # Panics
    /// As [`Frr::start`], and if the root can't be made.
    #[must_use]
    pub fn start_10_3(ns: &Netns, config: &str) -> Self {
        Self::start_in(Some(trixie::root()), ns, config)
    }

    fn start_in(root: Option<&'static Path>, ns: &Netns, config: &str) -> Self {
        let scratch = root.map_or_else(|| Scratch::new(ns), |root| Scratch::below(&root.join(STATE), ns));
        let dir = scratch.path();
        std::fs::write(dir.join("bgpd.conf"), config).expect("the scratch directory can be written");
        std::fs::write(dir.join("zebra.conf"), "").expect("the scratch directory can be written");
        // The daemons give up root for the user frr.
        let own = ["chown", "-R", "frr:frr", &inside(root, dir)].map(str::to_owned);
        must(&command(LIMIT, &text(&in_root(root, &own))), "chown to frr");
        // Without it zebra of FRR 10 fills its log with errors.
        let mgmtd = root.map(|_| launch(ns, root, dir, "mgmtd"));
        let mut zebra = launch(ns, root, dir, "zebra");
        let api = dir.join("zserv.api");
        zebra.wait_until("its API", 20, |_| api.exists());
        let bgpd = launch(ns, root, dir, "bgpd");
        let mut frr =
            Self { bgpd: Some(bgpd), _zebra: zebra, _mgmtd: mgmtd, scratch, root, ns: ns.name().to_owned() };
        frr.wait_ready();
        frr
    }

    fn wait_ready(&mut self) {
        // zebra would answer for both what is not of BGP.
        let words = self.words("show bgp vrfs");
        let bgpd = self.bgpd.as_mut().expect("it was just started");
        let answers = |_: &Program| command(LIMIT, &text(&words)).status.success();
        bgpd.wait_until("vtysh is answered", 20, answers);
    }

    fn words(&self, line: &str) -> Vec<String> {
        let dir = inside(self.root, self.scratch.path());
        let vtysh = in_root(self.root, &["vtysh", "--vty_socket", &dir, "-c", line].map(str::to_owned));
        [&["ip", "netns", "exec", &self.ns].map(str::to_owned)[..], &vtysh].concat()
    }

    /// What `vtysh -c <line>` prints.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn show(&self, line: &str) -> String {
        must(&command(LIMIT, &text(&self.words(line))), line)
    }

    /// What `vtysh -c "<line> json"` prints.
    ///
    /// # Panics
    /// If it fails or prints no JSON.
    #[must_use]
    pub fn json(&self, line: &str) -> Value {
        let text = self.show(&format!("{line} json"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{line} json: {e}\n{text}"))
    }

    /// Applies configuration lines, from `configure terminal` on.
    ///
    /// # Panics
    /// If one is refused.
    pub fn configure(&self, lines: &[&str]) {
        let mut words = self.words("configure terminal");
        lines.iter().for_each(|line| words.extend(["-c".to_owned(), (*line).to_owned()]));
        must(&command(LIMIT, &text(&words)), &lines.join("; "));
    }

    /// SIGKILL to bgpd; zebra, and with it what is in the kernel, stays.
    ///
    /// # Panics
    /// If it is dead already.
    pub fn kill(&mut self) {
        self.bgpd.take().expect("bgpd runs").kill();
    }

    /// SIGTERM to bgpd: it tells its neighbours.
    ///
    /// # Panics
    /// If it is dead already, or does not end.
    pub fn stop(&mut self) {
        let mut bgpd = self.bgpd.take().expect("bgpd runs");
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

    /// The VTEP that FRR has `mac` of `vni` at; `None` if it is no remote one.
    #[must_use]
    pub fn remote_mac(&self, vni: u32, mac: &str) -> Option<String> {
        let all = self.json(&format!("show evpn mac vni {vni}"));
        all["macs"][mac]["remoteVtep"].as_str().map(str::to_owned)
    }

    /// Whether FRR has `mac` of `vni` as a local one.
    #[must_use]
    pub fn has_local_mac(&self, vni: u32, mac: &str) -> bool {
        self.json(&format!("show evpn mac vni {vni}"))["macs"][mac]["type"] == "local"
    }
}

fn text(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// `path` as programs with the root directory `root` see it.
fn inside(root: Option<&Path>, path: &Path) -> String {
    let shown = root.map_or(path, |root| path.strip_prefix(root).expect("it is below the root"));
    Path::new("/").join(shown).to_str().expect("ASCII").to_owned()
}

/// The command that runs `words` with the root directory `root`.
fn in_root(root: Option<&Path>, words: &[String]) -> Vec<String> {
    let change = root.map(|root| ["chroot".to_owned(), root.to_str().expect("ASCII").to_owned()]);
    change.into_iter().flatten().chain(words.iter().cloned()).collect()
}

fn launch(ns: &Netns, root: Option<&Path>, dir: &Path, daemon: &str) -> Program {
    let at = |name: &str| inside(root, &dir.join(name));
    let program = format!("{DAEMONS}/{daemon}");
    let (config, api, pid) = (at(&format!("{daemon}.conf")), at("zserv.api"), at(&format!("{daemon}.pid")));
    let socket = at("");
    // -P 0: no terminal over TCP.
    let mut words =
        vec![&*program, "-z", &api, "-i", &pid, "--vty_socket", &socket, "-P", "0", "--log", "stdout"];
    if root.is_some() {
        words.extend(["-N", ns.name()]);
    }
    // mgmtd has none.
    if dir.join(format!("{daemon}.conf")).exists() {
        words.extend(["-f", &config]);
    }
    Program::start_in(ns, root, dir, &words)
}

/// bgpd's configuration in AS `asn` with the EVPN family alone: `keys` for each neighbour (`X` stands for its address), and
/// `family` in the address family, for each neighbour where there is an `X`.
fn speaker(number: u8, asn: u32, neighbors: &[(u8, u32)], keys: &[&str], family: &[&str]) -> String {
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
        lines.extend(family.iter().filter(|key| key.contains('X')).map(|key| key.replace('X', &address)));
    }
    lines.extend(family.iter().filter(|key| !key.contains('X')).map(|key| (*key).to_owned()));
    lines.push("exit-address-family\n".to_owned());
    lines.join("\n")
}

/// A route reflector of AS 65000 at 203.0.113.`number` for VTEPs at 203.0.113.N.
#[must_use]
pub fn reflector(number: u8, clients: &[u8]) -> String {
    let clients: Vec<_> = clients.iter().map(|client| (*client, 65000)).collect();
    speaker(number, 65000, &clients, &[], &["neighbor X route-reflector-client"])
}

/// As [`reflector`], with clients that it does not know before they connect: all of 203.0.113.0/24.
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

/// A VTEP of AS `asn` at 203.0.113.`number` that announces all VNIs of the kernel to `neighbors` (number and AS), with
/// more lines for each neighbour, where `X` stands for its address.
#[must_use]
pub fn vtep(number: u8, asn: u32, neighbors: &[(u8, u32)], keys: &[&str]) -> String {
    speaker(number, asn, neighbors, keys, &["advertise-all-vni"])
}
