//! A VTEP in memory for the fuzz targets: a tenant on an access port, one on a trunk, and two
//! remote VTEPs.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use vtep_dataplane::addr::{
    DeviceId, DomainId, HostMac, MacAddr, PortId, Vni, VtepAddr, VtepId, WorkerId,
};
use vtep_dataplane::frame::Pool;
use vtep_dataplane::frame::offload::{ChecksumState, Offload, SegmentKind, Segmentation};
use vtep_dataplane::pipeline::tx_queues::TxQueues;
use vtep_dataplane::pipeline::{Pipeline, Tables};
use vtep_dataplane::port::Port;
use vtep_dataplane::port::memory::{HeapMemory, MemoryPort, memory_pools};
use vtep_dataplane::stats::{Counters, FloodCounters};
use vtep_dataplane::table::encapsulation::{HeaderFields, OuterHeader};
use vtep_dataplane::table::flood::FloodList;
use vtep_dataplane::table::mac::{Destination, MacTable};
use vtep_dataplane::table::neighbor::{NeighborEntry, NeighborTable};
use vtep_dataplane::table::port::{ChecksumMode, Device, PortEntry, PortTable, Role};
use vtep_dataplane::table::vni::{Domain, VniTable};
use vtep_dataplane::table::vtep::{Adjacency, RemoteVtep, VtepTable};
use vtep_dataplane::table::{Dscp, Settings, Snapshot};
use vtep_dataplane::wire::checksum::Sum;

/// The underlay device.
pub const UNDERLAY: DeviceId = DeviceId(0);
/// The device of one tenant.
pub const TENANT: DeviceId = DeviceId(1);
/// A trunk with one tenant on VLAN 10.
pub const TRUNK: DeviceId = DeviceId(2);

const LOCAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const REMOTE: [Ipv4Addr; 2] = [Ipv4Addr::new(203, 0, 113, 2), Ipv4Addr::new(203, 0, 113, 3)];
const FRAMES: usize = 16;

/// The VTEP with the components of its only worker.
pub struct Fixture {
    snapshot: Snapshot,
    macs: MacTable,
    neighbors: NeighborTable,
    pool: Pool<HeapMemory>,
    out: TxQueues,
    pipeline: Pipeline,
}

fn counters() -> Arc<Counters> {
    Arc::new(Counters::new(1))
}

fn mac(n: u8) -> MacAddr {
    MacAddr([0x50, 0x54, 0x33, 0, 0, n])
}

fn vtep(address: Ipv4Addr) -> VtepAddr {
    VtepAddr::new(IpAddr::V4(address)).expect("a unicast address")
}

fn remote_vtep(address: Ipv4Addr) -> RemoteVtep {
    let header = OuterHeader::new(&HeaderFields {
        source_mac: mac(0xe0),
        next_hop_mac: mac(0xe1),
        vlan: None,
        source: vtep(LOCAL),
        destination: vtep(address),
        ttl: 64,
        df: true,
        udp_port: 4789,
    });
    let path = Adjacency {
        device: UNDERLAY,
        rewrite: header.expect("one family"),
        max_frame: 3900,
    };
    RemoteVtep {
        vtep: vtep(address),
        paths: Box::new([path]),
        counters: Arc::new(Counters::of_vtep(&FloodCounters::new(1))),
    }
}

fn device(
    id: DeviceId,
    role: Role,
    csum_incomplete: bool,
    superframes: bool,
) -> Option<Arc<Device>> {
    Some(Arc::new(Device {
        id,
        name: "fuzz".into(),
        role,
        csum_incomplete,
        macs: Box::new([]),
        multi_buffer: true,
        superframes,
        link_up: true,
        standby: false,
        tx_worker: Box::new([WorkerId(0)]),
        counters: counters(),
    }))
}

fn port(id: u16, device: DeviceId, vlan: Option<u16>) -> Option<Arc<PortEntry>> {
    Some(Arc::new(PortEntry {
        id: PortId(id),
        device,
        vlan,
        domain: DomainId(0),
        lock: None,
        ips: Box::new([]),
        learn: Some(4),
        checksum: ChecksumMode::Auto,
        storm: None,
        max_frame: 3900,
        counters: counters(),
    }))
}

/// One host whose ARP and ND requests are answered, so that answers are covered too.
fn neighbors() -> NeighborTable {
    let mut neighbors = NeighborTable::new(4);
    let known = NeighborEntry::host(HostMac::new(mac(3)).expect("unicast"));
    for ip in ["192.0.2.3", "2001:db8:1::3"] {
        let ip = ip.parse().expect("an address");
        neighbors
            .insert(DomainId(0), ip, known)
            .expect("the table is large enough");
    }
    neighbors
}

impl Fixture {
    /// Its tables; `csum_incomplete` is whether the devices may leave checksums incomplete.
    #[must_use]
    pub fn new(csum_incomplete: bool) -> Self {
        let mut vteps = VtepTable::default();
        for (id, address) in (0..).map(VtepId).zip(REMOTE) {
            vteps.set(id, Some(Arc::new(remote_vtep(address))));
        }
        let domain = Domain {
            id: DomainId(0),
            vni: Vni::new(100).expect("24 bits"),
            flood: FloodList::new([0, 1].map(VtepId), [0, 1].map(PortId)),
            sources: [VtepId(0), VtepId(1)].into_iter().collect(),
            pass_tags: false,
            group: None,
            suppress: true,
            miss_events: true,
            storm: None,
            counters: counters(),
        };
        let snapshot = Snapshot {
            settings: Settings {
                local_v4: Some(LOCAL),
                local_v6: Some("2001:db8::1".parse().expect("an address")),
                udp_port: 4789,
                dscp: Dscp::Inherit,
                strict_reserved: false,
                udp6_zero_rx: true,
                udp6_zero_tx: false,
            },
            vnis: Arc::new(VniTable::new([Arc::new(domain)])),
            vteps: Arc::new(vteps),
            ports: Arc::new(PortTable {
                devices: vec![
                    device(UNDERLAY, Role::Underlay, csum_incomplete, false),
                    device(TENANT, Role::Access(PortId(0)), csum_incomplete, false),
                    device(
                        TRUNK,
                        Role::Trunk(Box::new([(10, PortId(1))])),
                        csum_incomplete,
                        true,
                    ),
                ],
                ports: vec![port(0, TENANT, None), port(1, TRUNK, Some(10))],
            }),
            version: 0,
            since: Arc::default(),
        };
        let mut macs = MacTable::new(16);
        let hosts = [
            (1, Destination::Port(PortId(0))),
            (2, Destination::Port(PortId(1))),
            (3, Destination::Vtep(VtepId(0))),
        ];
        for (host, place) in hosts {
            let host = HostMac::new(mac(host)).expect("unicast");
            macs.insert(DomainId(0), host, place)
                .expect("the table is large enough");
        }
        Self {
            snapshot,
            macs,
            neighbors: neighbors(),
            pool: memory_pools(1, FRAMES, 2048).remove(0),
            out: TxQueues::new(3),
            pipeline: Pipeline::new(WorkerId(0)),
        }
    }

    /// Sends a frame from `device` through the pipeline, twice in a burst, in chunks of at most
    /// `chunk_fill` bytes (at least 1). No chunk may be lost or used twice, and no frame from the
    /// underlay may be sent back to it.
    ///
    /// # Panics
    /// If one of these conditions is violated.
    pub fn run(&mut self, device: DeviceId, frame: &[u8], chunk_fill: usize) {
        self.run_offload(device, frame, Offload::default(), chunk_fill);
    }

    /// [`Fixture::run`] for a frame whose sender left something to hardware. Only a device that takes
    /// superframes may get one.
    ///
    /// # Panics
    /// As [`Fixture::run`].
    pub fn run_offload(
        &mut self,
        device: DeviceId,
        frame: &[u8],
        offload: Offload,
        chunk_fill: usize,
    ) {
        let frame = &frame[..frame.len().min(4000)];
        let free = self.pool.available();
        let mut incoming = MemoryPort::new();
        incoming.set_chunk_fill(chunk_fill);
        incoming.inject_offload(frame, offload);
        incoming.inject_offload(frame, offload);
        let mut burst = Vec::new();
        let reader = self.macs.reader();
        incoming.receive(&mut self.pool, &mut burst);
        let hosts = self.neighbors.reader();
        let tables = Tables {
            snapshot: &self.snapshot,
            macs: &reader,
            neighbors: &hosts,
        };
        self.pipeline
            .burst(tables, 1, device, &mut burst, &mut self.pool, &mut self.out);
        assert!(burst.is_empty());
        while self
            .pipeline
            .replicate(tables, 1, &mut self.pool, &mut self.out)
            > 0
        {}
        while self.pipeline.next_event().is_some() {}
        while let Some((to, mut queue)) = self.out.take_busy() {
            assert!(device != UNDERLAY || to != UNDERLAY, "split horizon");
            let mut port = MemoryPort::new();
            port.send(&mut self.pool, &mut queue);
            for (_, offload) in port.take_sent_offloads() {
                assert!(to == TRUNK || offload == Offload::default(), "{offload:?}");
            }
            self.out.restore(to, queue);
        }
        assert_eq!(self.pool.available(), free, "every chunk was freed");
    }
}

/// What a sender left to hardware, from ten bytes.
#[must_use]
pub fn offload(bytes: [u8; 10]) -> Offload {
    let [kinds, high, low, a, b, c, d, e, f, _] = bytes;
    let word = |high, low| u16::from_be_bytes([high, low]);
    let kind = match kinds & 3 {
        0 => None,
        1 => Some(SegmentKind::TcpV4),
        2 => Some(SegmentKind::TcpV6),
        _ => Some(SegmentKind::Udp),
    };
    Offload {
        segmentation: kind.map(|kind| Segmentation {
            kind,
            size: word(high, low),
            ecn: kinds & 4 != 0,
        }),
        checksum: match (kinds >> 3) & 3 {
            0 => ChecksumState::Unknown,
            1 => ChecksumState::Valid,
            _ => ChecksumState::Partial {
                start: word(a, b) % 4096,
                offset: word(c, d) % 4096,
            },
        },
        vlan_tci: (kinds & 0x80 != 0).then(|| word(e, f)),
    }
}

/// Bytes of a frame per chunk, selected by the high half of `kind`: the whole frame if it fits, or
/// so few that headers are split anywhere.
#[must_use]
pub const fn chunk_fill(kind: u8) -> usize {
    match kind >> 4 {
        n @ 0..=3 => 500 + n as usize * 100,
        n @ 4..=11 => 14 + (n as usize - 4) * 17,
        _ => usize::MAX,
    }
}

/// A valid VXLAN packet with `inner` in it.
#[must_use]
pub fn packet(inner: &[u8]) -> Vec<u8> {
    let inner = &inner[..inner.len().min(3800)];
    let udp = (16 + inner.len()) as u16;
    let headers = [
        &[0xc0, 0, 0x12, 0xb5][..],
        &udp.to_be_bytes(),
        &[0, 0],
        &[8, 0, 0, 0, 0, 0, 100, 0],
    ];
    with_headers(&[&[0], &headers.concat()[..], inner].concat())
}

/// A packet from a known VTEP to the local one with a valid IPv4 header that carries `bytes[1..]`,
/// including the UDP header; the first byte is the TOS.
#[must_use]
pub fn with_headers(bytes: &[u8]) -> Vec<u8> {
    let (tos, rest) = bytes
        .split_first()
        .map_or((0, &[][..]), |(tos, rest)| (*tos, rest));
    let rest = &rest[..rest.len().min(1520)];
    let total = (20 + rest.len()) as u16;
    let mut header = [
        0x45, tos, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 203, 0, 113, 2, 203, 0, 113, 1,
    ];
    header[2..4].copy_from_slice(&total.to_be_bytes());
    let checksum = Sum::new().bytes(&header).checksum();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    [
        &[2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 8, 0][..],
        &header,
        rest,
    ]
    .concat()
}
