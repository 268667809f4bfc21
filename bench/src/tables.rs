//! Tables as the control thread would fill them: one tenant port, one underlay device, some VTEPs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use vtep_dataplane::addr::{DeviceId, DomainId, MacAddr, PortId, Vni, VtepAddr, VtepId, WorkerId};
use vtep_dataplane::stats::{Counters, FloodCounters, Totals};
use vtep_dataplane::table::encapsulation::{HeaderFields, OuterHeader};
use vtep_dataplane::table::flood::{FloodList, VtepSet};
use vtep_dataplane::table::port::{ChecksumMode, Device, PortEntry, PortTable, Role};
use vtep_dataplane::table::vni::{Domain, VniTable};
use vtep_dataplane::table::vtep::{Adjacency, RemoteVtep, VtepTable};
use vtep_dataplane::table::{Dscp, Settings, Snapshot};

use crate::cores;
use crate::row::Failure;

/// The forwarder's interface to the generator.
pub const TENANT: &str = "tenant0";
/// The forwarder's interface to the sink.
pub const UNDERLAY: &str = "underlay0";
/// The forwarder's VTEP address.
pub const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The forwarder's VTEP address over IPv6.
pub const LOCAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// The VXLAN port (RFC 7348 section 8).
pub const UDP_PORT: u16 = 4789;
/// The number of the VNI.
pub const VNI: u32 = 100;

/// The device of the tenant.
pub const TENANT_DEVICE: DeviceId = DeviceId(0);
/// The device of the underlay.
pub const UNDERLAY_DEVICE: DeviceId = DeviceId(1);
/// The tenant's port.
pub const PORT: PortId = PortId(0);
/// The bridge domain of the VNI.
pub const DOMAIN: DomainId = DomainId(0);
/// The one worker.
pub const WORKER: WorkerId = WorkerId(0);

/// The contents of the tables.
#[derive(Debug, Clone)]
pub struct TableSpec {
    /// MAC of the underlay interface.
    pub underlay_mac: MacAddr,
    /// Next-hop MAC of all VTEPs.
    pub next_hop_mac: MacAddr,
    /// Addresses of the remote VTEPs; the index is the [`VtepId`].
    pub vteps: Vec<IpAddr>,
    /// Devices support several buffers per frame.
    pub multi_buffer: bool,
}

/// A row for each worker, one per core.
fn counters() -> Arc<Counters> {
    Arc::new(Counters::new(cores::count()))
}

/// The settings that apply to every frame.
#[must_use]
pub fn settings() -> Settings {
    Settings {
        local_v4: Some(LOCAL),
        local_v6: Some(LOCAL6),
        udp_port: UDP_PORT,
        dscp: Dscp::Inherit,
        strict_reserved: false,
        udp6_zero_rx: true,
        udp6_zero_tx: false,
    }
}

impl TableSpec {
    /// The tables. The flood list has all VTEPs and the tenant's port.
    ///
    /// # Errors
    /// [`Failure`] for an address that is invalid for a VTEP.
    pub fn snapshot(&self) -> Result<Snapshot, Failure> {
        let mut vteps = VtepTable::default();
        let floods = FloodCounters::new(cores::count());
        for (id, address) in (0..).map(VtepId).zip(&self.vteps) {
            vteps.set(id, Some(Arc::new(self.remote_vtep(*address, &floods)?)));
        }
        let hops = 0..self.vteps.len() as u32;
        let domain = Domain {
            id: DOMAIN,
            vni: Vni::new(VNI).map_err(Failure::of("VNI"))?,
            flood: FloodList::new(hops.clone().map(VtepId), [PORT]),
            sources: hops.map(VtepId).collect::<VtepSet>(),
            pass_tags: false,
            group: None,
            suppress: false,
            miss_events: false,
            storm: None,
            counters: counters(),
        };
        Ok(Snapshot {
            settings: settings(),
            vnis: Arc::new(VniTable::new([Arc::new(domain)])),
            vteps: Arc::new(vteps),
            ports: Arc::new(ports(self.underlay_mac, self.multi_buffer)),
            version: 0,
            since: Arc::default(),
        })
    }

    /// A VTEP with one path.
    ///
    /// # Errors
    /// [`Failure`] for an address that is invalid for a VTEP.
    pub fn remote_vtep(
        &self,
        address: IpAddr,
        floods: &FloodCounters,
    ) -> Result<RemoteVtep, Failure> {
        let vtep = |address| VtepAddr::new(address).map_err(Failure::of("VTEP"));
        let local = match address {
            IpAddr::V4(_) => LOCAL.into(),
            IpAddr::V6(_) => LOCAL6.into(),
        };
        let header = OuterHeader::new(&HeaderFields {
            source_mac: self.underlay_mac,
            next_hop_mac: self.next_hop_mac,
            vlan: None,
            source: vtep(local)?,
            destination: vtep(address)?,
            ttl: 64,
            df: true,
            udp_port: UDP_PORT,
        });
        let header = header.ok_or_else(|| Failure::new("VTEPs of different families"))?;
        let path = Adjacency {
            device: UNDERLAY_DEVICE,
            rewrite: header,
            max_frame: 1514,
        };
        Ok(RemoteVtep {
            vtep: vtep(address)?,
            paths: Box::new([path]),
            counters: Arc::new(Counters::of_vtep(floods)),
        })
    }
}

/// A device.
#[must_use]
pub fn device(
    id: DeviceId,
    name: &str,
    role: Role,
    macs: &[MacAddr],
    multi_buffer: bool,
) -> Option<Arc<Device>> {
    Some(Arc::new(Device {
        id,
        name: name.to_owned(),
        role,
        csum_incomplete: false,
        macs: macs.into(),
        multi_buffer,
        superframes: false,
        link_up: true,
        standby: false,
        tx_worker: Box::new([WORKER]),
        counters: counters(),
    }))
}

/// A tenant's port that receives every frame of a device.
#[must_use]
pub fn port(id: PortId, device: DeviceId) -> Option<Arc<PortEntry>> {
    Some(Arc::new(PortEntry {
        id,
        device,
        vlan: None,
        domain: DOMAIN,
        lock: None,
        ips: Box::new([]),
        learn: None,
        checksum: ChecksumMode::Auto,
        storm: None,
        max_frame: 1514,
        counters: counters(),
    }))
}

fn ports(underlay_mac: MacAddr, multi_buffer: bool) -> PortTable {
    PortTable {
        devices: vec![
            device(TENANT_DEVICE, TENANT, Role::Access(PORT), &[], multi_buffer),
            device(
                UNDERLAY_DEVICE,
                UNDERLAY,
                Role::Underlay,
                &[underlay_mac],
                multi_buffer,
            ),
        ],
        ports: vec![port(PORT, TENANT_DEVICE)],
    }
}

/// The totals of a device.
#[must_use]
pub fn device_totals(snapshot: &Snapshot, device: DeviceId) -> Totals {
    snapshot
        .ports
        .device(device)
        .map(|device| device.counters.totals())
        .unwrap_or_default()
}

/// The drop reasons of a device with their counts; empty if no frame was dropped.
#[must_use]
pub fn drops(totals: &Totals) -> String {
    let reasons = vtep_dataplane::drop::DropReason::ALL;
    let counted = reasons
        .iter()
        .zip(&totals.drops)
        .filter(|(_, count)| **count > 0);
    counted
        .map(|(reason, count)| format!("{} {count}", reason.name()))
        .collect::<Vec<_>>()
        .join(", ")
}
