//! The host that the daemon runs on: a namespace with its links, and the configuration.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Scale;
use crate::row::Failure;
use crate::testbed::net::Namespace;

/// The local AS, and that of the neighbors.
pub(super) const ASN: u32 = 65_000;
/// The local VTEP address.
pub(super) const VTEP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The neighbor that sends routes.
pub(super) const SENDER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The neighbor that does not read.
pub(super) const BLOCKED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
/// The port that the neighbors listen on.
pub(super) const BGP_PORT: u16 = 1790;
/// Where the metrics are.
pub(super) const METRICS: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 9790);

/// The namespace and the directory; both are removed at the end.
#[derive(Debug)]
pub(super) struct Site {
    namespace: Namespace,
    directory: PathBuf,
    config: PathBuf,
}

impl Site {
    /// Creates the links and writes the configuration.
    pub(super) fn new(scale: Scale) -> Result<Self, Failure> {
        let directory =
            std::env::temp_dir().join(format!("vtep-bench-turn-{}", std::process::id()));
        fs::create_dir_all(&directory).map_err(Failure::of(directory.display()))?;
        let site = Self {
            namespace: Namespace::new("turn")?,
            config: directory.join("vtepd.toml"),
            directory,
        };
        site.add_links(scale)?;
        let text = configuration(scale, &site.socket());
        fs::write(&site.config, text).map_err(Failure::of(site.config.display()))?;
        Ok(site)
    }

    /// The configuration file.
    pub(super) fn config(&self) -> &Path {
        &self.config
    }

    /// The control socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join("control.sock")
    }

    /// Runs `work` on a thread in the namespace.
    pub(super) fn within<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        self.namespace.within(work)
    }

    fn add_links(&self, scale: Scale) -> Result<(), Failure> {
        let mut batch = String::new();
        let mut line = |line: String| {
            batch.push_str(&line);
            batch.push('\n');
        };
        line("link add eth0 type veth peer name far0".to_owned());
        line(format!("address add {VTEP}/24 dev eth0"));
        for neighbor in [SENDER, BLOCKED] {
            line(format!("address add {neighbor}/32 dev lo"));
        }
        line("link set eth0 up".to_owned());
        line("link set far0 up".to_owned());
        line("neigh add 198.51.100.2 lladdr 02:00:00:00:00:02 dev eth0".to_owned());
        line("route add 203.0.113.0/24 via 198.51.100.2".to_owned());
        for number in 0..scale.interfaces {
            line(format!(
                "link add {} type veth peer name p{number}",
                tenant(number)
            ));
            line(format!("link set {} up", tenant(number)));
            line(format!("link set p{number} up"));
        }
        for number in 0..scale.other_links {
            line(format!("link add other{number} type bridge"));
        }
        let file = self.directory.join("links");
        fs::write(&file, &batch).map_err(Failure::of(file.display()))?;
        let output = Command::new("ip")
            .args(["-n", self.namespace.name(), "-batch"])
            .arg(&file)
            .output()
            .map_err(Failure::of("ip"))?;
        if output.status.success() {
            Ok(())
        } else {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(Failure::new(format!("ip -batch: {}", said.trim())))
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("vtep-bench: {}: {error}", self.directory.display());
        }
    }
}

fn tenant(number: usize) -> String {
    format!("tenant{number}")
}

/// The MAC of a host of a VNI, of one kind: 0 for local hosts, 1 for remote ones.
pub(super) fn mac(kind: u8, vni: usize, host: usize) -> [u8; 6] {
    let (vni, host) = ((vni as u32).to_be_bytes(), (host as u16).to_be_bytes());
    [2, kind, vni[2], vni[3], host[0], host[1]]
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// The MACs of the local hosts of a VNI, as the configuration and requests write them.
pub(super) fn local_macs(vni: usize, hosts: usize) -> Vec<String> {
    (0..hosts).map(|host| mac_text(mac(0, vni, host))).collect()
}

/// The interface and VLAN of the port of a VNI; VNIs from `interfaces` * `vlans` on have none.
pub(super) fn port_of(scale: Scale, vni: usize) -> Option<(String, usize)> {
    let port = vni.checked_sub(1)?;
    (port < scale.interfaces * scale.vlans)
        .then(|| (tenant(port / scale.vlans), 100 + port % scale.vlans))
}

fn configuration(scale: Scale, socket: &Path) -> String {
    let mut text = format!(
        "[vtep]\naddress = \"{VTEP}\"\nunderlay = [\"eth0\"]\n[vtep.afxdp]\nframes = 65536\n\
         [control]\nsocket = \"{}\"\nmetrics = \"{}:{}\"\n[bgp]\nasn = {ASN}\n",
        socket.display(),
        METRICS.0,
        METRICS.1
    );
    for neighbor in [SENDER, BLOCKED] {
        let _ = write!(
            text,
            "[[bgp.neighbor]]\naddress = \"{neighbor}\"\nremote-asn = {ASN}\nport = {BGP_PORT}\n\
             connect-retry = 1\n"
        );
    }
    for vni in 1..=scale.vnis {
        let _ = write!(text, "[[vni]]\nid = {vni}\n");
        if let Some((interface, vlan)) = port_of(scale, vni) {
            let macs = local_macs(vni, scale.hosts);
            let _ = write!(
                text,
                "[[vni.port]]\ninterface = \"{interface}\"\nvlan = {vlan}\nmacs = {macs:?}\n"
            );
        }
    }
    text
}
