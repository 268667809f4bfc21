//! The destination of routes: the EVPN speaker, the tables that it fills, and a worker's view of
//! them.

use std::net::IpAddr;
use std::time::Instant;

use vtep_control::bgp::{Peer, PeerConfig, PeerOutput};
use vtep_control::evpn::{EvpnConfig, EvpnSpeaker, MacVrfConfig, NeighborId};
use vtep_control::fib::Fib;
use vtep_control::speaker::transport::SessionHandler;
use vtep_dataplane::addr::{DomainId, Vni, VtepAddr};
use vtep_dataplane::frame::BURST;
use vtep_dataplane::table::Snapshot;
use vtep_dataplane::table::mac::{Destination, LookupResult, MacKey, MacReader};
use vtep_dataplane::table::publish::Reader;

use super::super::fdb;
use super::hosts::{ASN, Hosts, NEIGHBOR};
use crate::row::Failure;
use crate::tables;
use crate::tables::{LOCAL, VNI};

/// The connection ID of the only neighbor.
const ID: NeighborId = NeighborId(0);

/// The configuration of the session: passive, or connecting to the neighbor.
#[must_use]
pub fn session(passive: bool) -> PeerConfig {
    let mut config = PeerConfig::new(ASN, LOCAL, ASN);
    config.passive = passive;
    config
}

/// One VNI and one neighbor, with the tables of one worker.
#[derive(Debug)]
pub struct Sink {
    speaker: EvpnSpeaker,
    /// The writing end.
    pub tables: Fib,
    macs: MacReader,
    snapshots: Reader<Snapshot>,
    domain: DomainId,
    /// The session is established.
    pub up: bool,
    /// A session has ended.
    pub ended: bool,
}

impl Sink {
    /// Empty, with capacity for `hosts` MACs.
    ///
    /// # Errors
    /// [`Failure`] if the VNI is rejected.
    pub fn new(hosts: usize) -> Result<Self, Failure> {
        let own = VtepAddr::new(IpAddr::V4(LOCAL)).map_err(Failure::of("VTEP"))?;
        let vni = Vni::new(VNI).map_err(Failure::of("VNI"))?;
        let mut speaker = EvpnSpeaker::new(EvpnConfig::new(ASN, LOCAL, own));
        speaker
            .vni_add(Instant::now(), MacVrfConfig::new(vni))
            .map_err(Failure::of("VNI"))?;
        speaker.neighbor_add(ID, IpAddr::V4(NEIGHBOR));
        let mut tables = Fib::new(1, hosts, tables::settings());
        let domain = tables.add_vni(vni, false).map_err(Failure::of("VNI"))?;
        tables.commit();
        let (macs, snapshots) = (tables.mac_reader(), tables.snapshots());
        Ok(Self {
            speaker,
            tables,
            macs,
            snapshots,
            domain,
            up: false,
            ended: false,
        })
    }

    /// Processes the events of the neighbor's session.
    pub fn take(&mut self, now: Instant, output: &PeerOutput<'_>) {
        match output {
            PeerOutput::SessionUp(_) => self.up = true,
            PeerOutput::SessionDown { .. } => (self.up, self.ended) = (false, true),
            _ => {}
        }
        self.speaker.handle(now, ID, output);
    }

    /// Writes the resulting changes into the tables and publishes them; the worker switches to
    /// them.
    ///
    /// # Errors
    /// [`Failure`] if a table is full.
    pub fn commit(&mut self, now: Instant) -> Result<(), Failure> {
        let mut rejected = 0;
        let tables = &mut self.tables;
        self.speaker
            .drain_changes(now, |changes| rejected = tables.install(changes));
        self.tables.commit();
        self.refresh();
        self.tables.reclaim();
        match rejected {
            0 => Ok(()),
            more => Err(Failure::new(format!(
                "the tables are full: {more} changes were not applied"
            ))),
        }
    }

    /// Makes the worker switch to the published tables, as it does before every burst.
    pub fn refresh(&mut self) {
        self.macs.refresh();
        self.snapshots.refresh();
    }

    /// The tables as the worker sees them.
    #[must_use]
    pub fn seen(&self) -> &Snapshot {
        self.snapshots.get()
    }

    /// Looks up every host behind a VTEP: each must have an entry with this VTEP, or, if it is
    /// `gone`, none.
    ///
    /// # Errors
    /// [`Failure`] with the first host for which that is not the case.
    pub fn check(&self, hosts: Hosts, vtep: usize, gone: bool) -> Result<(), Failure> {
        let address = Hosts::vtep(vtep)?;
        let id = self.seen().vteps.by_address(address);
        if id.is_some() == gone {
            return Err(Failure::new(format!("VTEP {address}: {id:?}")));
        }
        let wanted = id.map(Destination::Vtep);
        let (behind, mut found): (Vec<_>, _) =
            (hosts.behind(vtep).collect(), [LookupResult::NONE; BURST]);
        for burst in behind.chunks(BURST) {
            let key = |host: &usize| Ok(MacKey::new(self.domain, fdb::mac(*host)?.get()));
            let keys = burst.iter().map(key).collect::<Result<Vec<_>, Failure>>()?;
            self.macs.lookup_burst(&keys, &mut found[..burst.len()]);
            if let Some((found, host)) = found
                .iter()
                .zip(burst)
                .find(|(found, _)| found.destination() != wanted)
            {
                return Err(Failure::new(format!(
                    "host {host}: found {found:?}, must be {wanted:?}"
                )));
            }
        }
        Ok(())
    }

    /// Checks that the table contains all hosts, and nothing else.
    ///
    /// # Errors
    /// [`Failure`] if that is not the case.
    pub fn check_all(&self, hosts: Hosts) -> Result<(), Failure> {
        let held = self.tables.macs().len();
        if held != hosts.hosts {
            return Err(Failure::new(format!(
                "{held} MACs are in the table, must be {}",
                hosts.hosts
            )));
        }
        (0..hosts.vteps).try_for_each(|vtep| self.check(hosts, vtep, false))
    }
}

impl SessionHandler for Sink {
    fn on_output(&mut self, _: IpAddr, output: PeerOutput<'_>, now: Instant) {
        self.take(now, &output);
    }

    fn route_count(&self, _: IpAddr) -> usize {
        self.speaker.prefix_count(ID)
    }

    fn advertise(&mut self, _: IpAddr, peer: &mut Peer, now: Instant, _: &mut usize) {
        self.speaker.pump(now, ID, peer);
    }
}
