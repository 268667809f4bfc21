//! VTEPs with BGP: vtepd, or FRR with Linux bridges, each with one tenant in VNI 100 and one in VNI
//! 200.
//!
//! ```text
//! h<N>: vtepd or FRR, 203.0.113.<N> ── eth0 ── fabric
//!  ├─ t<10+N>   VNI 100
//!  └─ t<20+N>   VNI 200
//! ```

use std::net::IpAddr;

use crate::fabric::{Fabric, vtep4};
use crate::frr::{self, Frr};
use crate::link::{Host, ip4, mac};
use crate::linux_vtep::LinuxVtep;
use crate::netns::{Netns, wait_for};
use crate::tools::ping;
use crate::vtepd::{Config, Vtepd};

/// The VNIs of a site.
pub const VNIS: [u32; 2] = [100, 200];

/// The VTEP of a site.
#[derive(Debug)]
pub enum Daemon {
    /// vtepd.
    Vtepd(Vtepd),
    /// FRR with Linux bridges.
    Frr(Frr),
}

/// Hypervisor N: a VTEP at 203.0.113.N with the tenants 10+N in VNI 100 and 20+N in VNI 200.
#[derive(Debug)]
pub struct Site {
    /// Its control plane.
    pub daemon: Daemon,
    /// The tenants, one per VNI.
    pub hosts: [Host; 2],
    /// The hypervisor.
    pub ns: Netns,
    /// N.
    pub number: u8,
}

/// The configuration of vtepd at site `number` in AS `asn` with the neighbors `peers` (number and
/// AS) and `keys` for each of them.
#[must_use]
pub fn config(number: u8, asn: u32, peers: &[(u8, u32)], keys: &str) -> Config {
    let mut config = bgp(number, asn, peers, keys);
    for (place, vni) in VNIS.into_iter().enumerate() {
        let tenant = tenant(number, place);
        config = config
            .vni(vni, &[])
            .raw("suppress = true")
            .port(&format!("t{tenant}"), &[mac(tenant)])
            .raw(&format!("ips = [\"{}\"]", ip4(tenant)));
    }
    config
}

/// As [`config`], without VNIs.
#[must_use]
pub fn bgp(number: u8, asn: u32, peers: &[(u8, u32)], keys: &str) -> Config {
    let mut config = Config::new(vtep4(number)).raw(&format!("[bgp]\nasn = {asn}\nhold-time = 9"));
    for (peer, remote) in peers {
        let address = vtep4(*peer);
        config = config.raw(&format!(
            "[[bgp.neighbor]]\naddress = \"{address}\"\nremote-asn = {remote}\nconnect-retry = 1\n{keys}"
        ));
    }
    config
}

/// The tenant of site `number` in the VNI at index `place` of [`VNIS`].
#[must_use]
pub const fn tenant(number: u8, place: usize) -> u8 {
    number + if place == 0 { 10 } else { 20 }
}

/// Peers of AS 65000.
#[must_use]
pub fn internal(peers: &[u8]) -> Vec<(u8, u32)> {
    peers.iter().map(|peer| (*peer, 65000)).collect()
}

impl Site {
    /// vtepd with iBGP to `peers`.
    #[must_use]
    pub fn vtepd(fabric: &Fabric, number: u8, peers: &[u8]) -> Self {
        Self::vtepd_with(fabric, number, |_| {
            config(number, 65000, &internal(peers), "")
        })
    }

    /// vtepd with a configuration of its own.
    #[must_use]
    pub fn vtepd_with(fabric: &Fabric, number: u8, config: impl FnOnce(&Netns) -> Config) -> Self {
        let (ns, hosts) = hypervisor(fabric, number);
        let daemon = Daemon::Vtepd(Vtepd::start(&ns, &config(&ns)));
        Self {
            daemon,
            hosts,
            ns,
            number,
        }
    }

    /// FRR with iBGP to `peers`.
    #[must_use]
    pub fn frr(fabric: &Fabric, number: u8, peers: &[u8]) -> Self {
        Self::frr_with(
            fabric,
            number,
            &frr::vtep(number, 65000, &internal(peers), &[]),
        )
    }

    /// FRR with a configuration of its own.
    #[must_use]
    pub fn frr_with(fabric: &Fabric, number: u8, config: &str) -> Self {
        let (ns, hosts) = hypervisor(fabric, number);
        for (vni, host) in VNIS.into_iter().zip(&hosts) {
            let _ = LinuxVtep::new(&ns, vni, vtep4(number)).port(&host.port);
            ns.run(&format!("bridge link set dev vx{vni} neigh_suppress on"));
        }
        let daemon = Daemon::Frr(Frr::start(&ns, config));
        let site = Self {
            daemon,
            hosts,
            ns,
            number,
        };
        site.announce_tenants();
        site
    }

    /// Makes the bridge of an FRR site, and so FRR, learn the tenants from a frame, and their
    /// addresses from the kernel's neighbor table.
    pub fn announce_tenants(&self) {
        for (vni, host) in VNIS.into_iter().zip(&self.hosts) {
            let _ = ping(&host.ns, ip4(250), "-c 1 -W 1");
            self.ns.ip(&format!(
                "neigh replace {} lladdr {} dev br{vni} nud reachable",
                host.ip4(),
                host.mac()
            ));
        }
    }

    /// The VTEP address.
    #[must_use]
    pub fn address(&self) -> String {
        vtep4(self.number).to_string()
    }

    /// Its vtepd.
    ///
    /// # Panics
    /// If the site runs FRR.
    #[must_use]
    pub fn ctl(&self) -> &Vtepd {
        match &self.daemon {
            Daemon::Vtepd(vtepd) => vtepd,
            Daemon::Frr(_) => panic!("site {} has no vtepd", self.number),
        }
    }

    /// Its FRR.
    ///
    /// # Panics
    /// If the site runs vtepd.
    pub fn bgpd(&mut self) -> &mut Frr {
        match &mut self.daemon {
            Daemon::Frr(frr) => frr,
            Daemon::Vtepd(_) => panic!("site {} has no FRR", self.number),
        }
    }

    /// The VTEP behind which this site has `mac`; `None` if it is unknown or local.
    #[must_use]
    pub fn remote_mac(&self, vni: u32, mac: &str) -> Option<String> {
        match &self.daemon {
            Daemon::Frr(frr) => frr.remote_mac(vni, mac),
            Daemon::Vtepd(vtepd) => vtepd.remote_mac(vni, mac),
        }
    }

    /// The MAC that FRR at this site has for an address.
    ///
    /// # Panics
    /// If the site runs vtepd.
    #[must_use]
    pub fn neighbor_mac(&self, vni: u32, ip: IpAddr) -> Option<String> {
        let Daemon::Frr(frr) = &self.daemon else {
            panic!("site {} has no FRR", self.number)
        };
        let all = frr.json(&format!("show evpn arp-cache vni {vni}"));
        all[ip.to_string()]["mac"].as_str().map(str::to_owned)
    }

    /// The VTEPs that this site floods VNI `vni` to, sorted.
    #[must_use]
    pub fn flood(&self, vni: u32) -> Vec<String> {
        let mut all: Vec<String> = match &self.daemon {
            Daemon::Frr(frr) => {
                let shown = frr.json(&format!("show evpn vni {vni}"));
                // FRR 8.4 has a list of addresses under the name of their number, FRR 10 objects.
                let list = ["remoteVteps", "numRemoteVteps"]
                    .iter()
                    .find_map(|key| shown[key].as_array());
                list.into_iter()
                    .flatten()
                    .filter_map(|vtep| vtep.as_str().or(vtep["ip"].as_str()))
                    .map(str::to_owned)
                    .collect()
            }
            Daemon::Vtepd(vtepd) => vtepd.flood(vni),
        };
        all.sort();
        all
    }

    /// Waits until this site forwards `mac` of VNI `vni` to site `other`.
    ///
    /// # Panics
    /// If it does not within 20 s.
    pub fn expect_mac(&self, vni: u32, mac: &str, other: u8) {
        let vtep = vtep4(other).to_string();
        wait_for(
            &format!("site {}: {mac} of VNI {vni} at {vtep}", self.number),
            20,
            || (self.remote_mac(vni, mac).as_ref() == Some(&vtep)).then_some(()),
        );
    }

    /// Waits until this site floods VNI `vni` to exactly the sites `others`.
    ///
    /// # Panics
    /// If it does not within 20 s.
    pub fn expect_flood(&self, vni: u32, others: &[u8]) {
        let mut wanted: Vec<_> = others
            .iter()
            .map(|other| vtep4(*other).to_string())
            .collect();
        wanted.sort();
        wait_for(
            &format!("site {}: VNI {vni} floods to {wanted:?}", self.number),
            20,
            || (self.flood(vni) == wanted).then_some(()),
        );
    }
}

/// Waits until each site has the VTEPs and tenants of all the others.
///
/// # Panics
/// If that takes more than 20 s.
pub fn expect_full(sites: &[Site]) {
    for site in sites {
        let others: Vec<_> = sites
            .iter()
            .filter(|other| other.number != site.number)
            .collect();
        for (place, vni) in VNIS.into_iter().enumerate() {
            site.expect_flood(
                vni,
                &others.iter().map(|other| other.number).collect::<Vec<_>>(),
            );
            others
                .iter()
                .for_each(|other| site.expect_mac(vni, &other.hosts[place].mac(), other.number));
        }
    }
}

fn hypervisor(fabric: &Fabric, number: u8) -> (Netns, [Host; 2]) {
    let ns = fabric.hypervisor(number);
    let hosts = [0, 1].map(|place| Host::new(&ns, tenant(number, place)));
    (ns, hosts)
}
