//! A VTEP in memory: one underlay device, two access ports, one trunk; two VNIs; VTEPs of both
//! families.
//!
//! ```text
//! device 0  underlay
//! device 1  access, port 0 --- VNI 100 --- VTEP 0 192.0.2.2, VTEP 1 2001:db8::2 (flooded to)
//! device 2  access, port 1 ------/         VTEP 2 192.0.2.3, VTEP 3 2001:db8::3 (underlay VLAN 7)
//! device 3  trunk, VLAN 10 port 2 -/       VTEP 4 192.0.2.5 (no path)
//!                  VLAN 20 port 3 --- VNI 200 (passes tags), only VTEP 0
//! ```

use std::fmt;
use std::sync::Arc;

use crate::addr::{DeviceId, DomainId, HostMac, MacAddr, PortId, Vni, VtepId, WorkerId};
use crate::drop::DropReason;
use crate::frame::offload::Offload;
use crate::frame::{BURST, Pool};
use crate::pipeline::learn_event::LearnEvent;
use crate::pipeline::tx_queues::{Room, TxQueues};
use crate::pipeline::{Pipeline, Tables};
use crate::port::Port;
use crate::port::memory::{HeapMemory, MemoryPort, memory_pools};
use crate::stats::{Counters, FloodCounters, Totals};
use crate::table::encapsulation::{HeaderFields, OuterHeader};
use crate::table::flood::FloodList;
use crate::table::mac::{Destination, MacTable};
use crate::table::neighbor::{NeighborEntry, NeighborTable};
use crate::table::port::{ChecksumMode, Device, PortEntry, PortTable, Role};
use crate::table::vni::{Domain, VniTable};
use crate::table::vtep::{Adjacency, RemoteVtep, VtepTable};
use crate::table::{Dscp, Settings, Snapshot};

pub(super) const VTEPS: [&str; 5] = [
    "192.0.2.2",
    "2001:db8::2",
    "192.0.2.3",
    "2001:db8::3",
    "192.0.2.5",
];
pub(super) const LOCAL_V4: [u8; 4] = [192, 0, 2, 1];
pub(super) const LOCAL_V6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// The MAC of host number `n`.
pub(super) const fn mac(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, n]
}

fn counters() -> Arc<Counters> {
    Arc::new(Counters::new(1))
}

pub(super) fn vtep(address: &str, vlan: Option<u16>, resolved: bool) -> RemoteVtep {
    let vtep: crate::addr::VtepAddr = address.parse().unwrap();
    let local = if vtep.is_v6() {
        "2001:db8::1"
    } else {
        "192.0.2.1"
    };
    let fields = HeaderFields {
        source_mac: MacAddr([2, 1, 1, 1, 1, 1]),
        next_hop_mac: MacAddr([2, 2, 2, 2, 2, 2]),
        vlan,
        source: local.parse().unwrap(),
        destination: vtep,
        ttl: 64,
        df: true,
        udp_port: 4789,
    };
    let path = Adjacency {
        device: DeviceId(0),
        rewrite: OuterHeader::new(&fields).unwrap(),
        max_frame: 1450,
    };
    RemoteVtep {
        vtep,
        paths: resolved.then_some(path).into_iter().collect(),
        counters: Arc::new(Counters::of_vtep(&FloodCounters::new(1))),
    }
}

fn device(id: u16, role: Role) -> Option<Arc<Device>> {
    let (id, tx_worker) = (DeviceId(id), Box::new([WorkerId(0)]));
    Some(Arc::new(Device {
        id,
        name: format!("dev{}", id.0),
        role,
        csum_incomplete: false,
        macs: Box::new([MacAddr([2, 1, 1, 1, 1, 1])]),
        multi_buffer: true,
        superframes: false,
        link_up: true,
        standby: false,
        tx_worker,
        counters: counters(),
    }))
}

pub(super) fn port(id: u16, device: u16, vlan: Option<u16>, domain: u16) -> PortEntry {
    PortEntry {
        id: PortId(id),
        device: DeviceId(device),
        vlan,
        domain: DomainId(domain),
        lock: None,
        ips: Box::new([]),
        learn: None,
        checksum: ChecksumMode::Auto,
        storm: None,
        max_frame: 1514,
        counters: counters(),
    }
}

pub(super) fn domain(id: u16, vni: u32, vteps: &[u32], ports: &[u16], sources: &[u32]) -> Domain {
    Domain {
        id: DomainId(id),
        vni: Vni::new(vni).unwrap(),
        flood: FloodList::new(
            vteps.iter().copied().map(VtepId),
            ports.iter().copied().map(PortId),
        ),
        group: None,
        sources: sources.iter().copied().map(VtepId).collect(),
        pass_tags: vni == 200,
        suppress: false,
        miss_events: false,
        storm: None,
        counters: counters(),
    }
}

/// The VTEP, with the state of its worker.
pub(super) struct Fixture {
    pub(super) snapshot: Snapshot,
    pub(super) macs: MacTable,
    pub(super) neighbors: NeighborTable,
    pub(super) events: Vec<LearnEvent>,
    pub(super) pool: Pool<HeapMemory>,
    pub(super) now_ns: u64,
    /// Received frames have segments of at most this many bytes.
    pub(super) segment_len: usize,
    /// The same of a frame's first chunk, if it is another number.
    pub(super) first_len: Option<usize>,
    /// Maximum number of chunks that were in use when frames were sent.
    pub(super) most_chunks: usize,
    out: TxQueues,
    pipeline: Pipeline,
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PortTable { ports, .. } = &*self.snapshot.ports;
        let flood: Vec<_> = self
            .snapshot
            .vnis
            .iter()
            .map(|domain| (domain.vni, &domain.flood))
            .collect();
        let ports: Vec<_> = ports
            .iter()
            .flatten()
            .map(|port| (port.device, port.vlan, port.domain))
            .collect();
        f.debug_struct("Fixture")
            .field("ports", &ports)
            .field("flood", &flood)
            .finish_non_exhaustive()
    }
}

impl Fixture {
    pub(super) fn new() -> Self {
        let settings = Settings {
            local_v4: Some(LOCAL_V4.into()),
            local_v6: Some(LOCAL_V6.into()),
            udp_port: 4789,
            dscp: Dscp::Inherit,
            strict_reserved: false,
            udp6_zero_rx: false,
            udp6_zero_tx: false,
        };
        let mut vteps = VtepTable::default();
        for ((id, address), vlan) in (0..).zip(VTEPS).zip([None, None, Some(7), Some(7), None]) {
            vteps.set(VtepId(id), Some(Arc::new(vtep(address, vlan, id != 4))));
        }
        let trunk = Role::Trunk(Box::new([(10, PortId(2)), (20, PortId(3))]));
        let roles = [
            Role::Underlay,
            Role::Access(PortId(0)),
            Role::Access(PortId(1)),
            trunk,
        ];
        let ports = [
            port(0, 1, None, 0),
            port(1, 2, None, 0),
            port(2, 3, Some(10), 0),
            port(3, 3, Some(20), 1),
        ];
        let vnis = [
            domain(0, 100, &[0, 1], &[0, 1, 2], &[0, 1, 2, 3]),
            domain(1, 200, &[], &[3], &[0]),
        ]
        .map(Arc::new);
        let snapshot = Snapshot {
            settings,
            vnis: Arc::new(VniTable::new(vnis)),
            vteps: Arc::new(vteps),
            ports: Arc::new(PortTable {
                devices: (0..)
                    .zip(roles)
                    .map(|(id, role)| device(id, role))
                    .collect(),
                ports: ports.map(|port| Some(Arc::new(port))).into(),
            }),
            version: 0,
            since: Arc::default(),
        };
        let mut fixture = Self {
            snapshot,
            macs: MacTable::new(1000),
            neighbors: NeighborTable::new(1000),
            events: Vec::new(),
            pool: memory_pools(1, 256, 2048).remove(0),
            now_ns: 1,
            segment_len: usize::MAX,
            first_len: None,
            most_chunks: 0,
            out: TxQueues::new(8),
            pipeline: Pipeline::new(WorkerId(0)),
        };
        // Hosts 1 to 4 are behind ports 0 to 3, hosts 10 to 14 behind the VTEPs.
        for n in 0..4 {
            fixture.learn(
                u16::from(n == 3),
                1 + n,
                Destination::Port(PortId(n.into())),
            );
        }
        for n in 0..5 {
            fixture.learn(0, 10 + n, Destination::Vtep(VtepId(n.into())));
        }
        fixture
    }

    /// With paths and ports for frames of 9100 bytes, and chunks of `chunk` bytes.
    pub(super) fn jumbo(chunk: usize) -> Self {
        const LONGEST: u16 = 9100;
        let mut fixture = Self::new();
        fixture.pool = memory_pools(1, 512, chunk).remove(0);
        (0..4).for_each(|id| fixture.set_port(id, |port| port.max_frame = LONGEST));
        let mut vteps = VtepTable::default();
        for (id, vtep) in
            (0..5).filter_map(|id| Some((id, fixture.snapshot.vteps.get(VtepId(id))?)))
        {
            let widen = |path: &Adjacency| Adjacency {
                max_frame: LONGEST,
                ..path.clone()
            };
            let paths = vtep.paths.iter().map(widen).collect();
            vteps.set(
                VtepId(id),
                Some(Arc::new(RemoteVtep {
                    vtep: vtep.vtep,
                    paths,
                    counters: vtep.counters.clone(),
                })),
            );
        }
        fixture.snapshot.vteps = Arc::new(vteps);
        fixture
    }

    /// The first domain floods to `count` VTEPs, alternately IPv4 and IPv6, and to its ports.
    pub(super) fn set_vteps(&mut self, count: u32) {
        let mut vteps = VtepTable::default();
        for id in 0..count {
            let [a, b] = (id as u16).to_be_bytes();
            let address = if id % 2 == 0 {
                format!("198.18.{a}.{b}")
            } else {
                format!("2001:db8:18::{id:x}")
            };
            vteps.set(VtepId(id), Some(Arc::new(vtep(&address, None, true))));
        }
        self.snapshot.vteps = Arc::new(vteps);
        self.set_domain(|domain| {
            domain.flood =
                FloodList::new((0..count).map(VtepId), domain.flood.ports.iter().copied());
        });
    }

    /// Changes every device.
    pub(super) fn set_devices(&mut self, change: impl Fn(&mut Device)) {
        for (id, slot) in (0..).zip(&mut Arc::make_mut(&mut self.snapshot.ports).devices) {
            let Some(old) = slot else { continue };
            let mut new = Arc::into_inner(device(id, old.role.clone()).unwrap()).unwrap();
            change(&mut new);
            *slot = Some(Arc::new(new));
        }
    }

    pub(super) fn learn(&mut self, domain: u16, host: u8, to: Destination) {
        self.macs
            .insert(
                DomainId(domain),
                HostMac::new(MacAddr(mac(host))).unwrap(),
                to,
            )
            .unwrap();
    }

    /// Adds a neighbor entry for a host of the first domain.
    pub(super) fn neighbor(&mut self, ip: &str, host: u8) {
        let mac = HostMac::new(MacAddr(mac(host))).unwrap();
        self.neighbor_entry(ip, NeighborEntry::host(mac));
    }

    /// Sets a neighbor entry of the first domain.
    pub(super) fn neighbor_entry(&mut self, ip: &str, entry: NeighborEntry) {
        self.neighbors
            .insert(DomainId(0), ip.parse().unwrap(), entry)
            .unwrap();
    }

    /// Changes the first domain.
    pub(super) fn set_domain(&mut self, change: impl FnOnce(&mut Domain)) {
        let mut all: Vec<_> = self
            .snapshot
            .vnis
            .iter()
            .map(|domain| Domain::clone(domain))
            .collect();
        change(&mut all[0]);
        self.snapshot.vnis = Arc::new(VniTable::new(all.into_iter().map(Arc::new)));
    }

    /// Adds an access device and a port of the first domain for each of these numbers from 4 on,
    /// without gaps; both have that number.
    pub(super) fn add_ports(&mut self, ids: &[u16]) {
        let table = Arc::make_mut(&mut self.snapshot.ports);
        for id in ids {
            table.devices.push(device(*id, Role::Access(PortId(*id))));
            table.ports.push(Some(Arc::new(port(*id, *id, None, 0))));
        }
        self.out.grow(table.devices.len());
        self.set_domain(|domain| {
            let ports = domain
                .flood
                .ports
                .iter()
                .map(|port| port.0)
                .chain(ids.iter().copied());
            domain.flood = FloodList::new(domain.flood.vteps.iter().copied(), ports.map(PortId));
        });
    }

    /// Changes one port.
    pub(super) fn set_port(&mut self, id: u16, change: impl FnOnce(&mut PortEntry)) {
        let (vlan, domain) = match id {
            2 => (Some(10), 0),
            3 => (Some(20), 1),
            _ => (None, 0),
        };
        let mut entry = port(id, (id + 1).min(3), vlan, domain);
        change(&mut entry);
        Arc::make_mut(&mut self.snapshot.ports).ports[usize::from(id)] = Some(Arc::new(entry));
    }

    /// Runs bursts from `device` through the pipeline. Returns the frames sent, by device, each
    /// device's in order. Checks that no chunk is lost or used twice.
    pub(super) fn run(
        &mut self,
        device: u16,
        frames: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Vec<(u16, Vec<u8>)> {
        let plain = |frame: &_| (AsRef::<[u8]>::as_ref(frame).to_vec(), Offload::default());
        let frames: Vec<_> = frames.into_iter().map(|frame| plain(&frame)).collect();
        let sent = self.run_offloads(device, &frames).into_iter();
        sent.map(|(device, (frame, _))| (device, frame)).collect()
    }

    /// [`Fixture::run`] for frames whose senders left something to hardware. Returns what is left to
    /// the devices that frames are sent on.
    pub(super) fn run_offloads(
        &mut self,
        device: u16,
        frames: &[(Vec<u8>, Offload)],
    ) -> Vec<(u16, (Vec<u8>, Offload))> {
        let free = self.pool.available();
        let mut sent = Vec::new();
        for frames in frames.chunks(BURST) {
            self.process(device, frames);
            sent.extend(self.take_sent());
            while self.replicate_offloads(&mut sent) > 0 {}
            assert_eq!(self.pool.available(), free, "every chunk was freed");
        }
        sent.sort_by_key(|(device, _)| *device);
        sent
    }

    /// Runs a burst from `device` through the pipeline. Returns the frames sent at once; floods
    /// stay pending.
    pub(super) fn burst(
        &mut self,
        device: u16,
        frames: &[impl AsRef<[u8]>],
    ) -> Vec<(u16, Vec<u8>)> {
        let frames: Vec<_> = frames
            .iter()
            .map(|frame| (frame.as_ref().to_vec(), Offload::default()))
            .collect();
        self.process(device, &frames);
        let sent = self.take_sent().into_iter();
        sent.map(|(device, (frame, _))| (device, frame)).collect()
    }

    /// Sets how many more chunks a device accepts.
    pub(super) fn set_room(&mut self, device: u16, chunks: usize) {
        let refusal = DropReason::TxFull;
        self.out
            .set_room(DeviceId(device), Room { chunks, refusal });
    }

    /// Runs a burst through the pipeline; the frames stay queued.
    pub(super) fn process(&mut self, device: u16, frames: &[(Vec<u8>, Offload)]) {
        let mut incoming = MemoryPort::new();
        incoming.set_chunk_fill(self.segment_len);
        incoming.set_first_fill(self.first_len);
        frames
            .iter()
            .for_each(|(frame, offload)| incoming.inject_offload(frame, *offload));
        let mut burst = Vec::new();
        incoming.receive(&mut self.pool, &mut burst);
        let (macs, neighbors) = (self.macs.reader(), self.neighbors.reader());
        let tables = Tables {
            snapshot: &self.snapshot,
            macs: &macs,
            neighbors: &neighbors,
        };
        let Self {
            pipeline,
            pool,
            out,
            ..
        } = self;
        pipeline.burst(tables, self.now_ns, DeviceId(device), &mut burst, pool, out);
        self.events
            .extend(std::iter::from_fn(|| self.pipeline.next_event()));
        assert!(burst.is_empty());
    }

    /// Runs one iteration of replication: adds the frames sent to `sent`, and returns the number of
    /// receivers served.
    pub(super) fn replicate(&mut self, sent: &mut Vec<(u16, Vec<u8>)>) -> usize {
        let mut now = Vec::new();
        let served = self.replicate_offloads(&mut now);
        sent.extend(now.into_iter().map(|(device, (frame, _))| (device, frame)));
        served
    }

    fn replicate_offloads(&mut self, sent: &mut Vec<(u16, (Vec<u8>, Offload))>) -> usize {
        let (macs, neighbors) = (self.macs.reader(), self.neighbors.reader());
        let tables = Tables {
            snapshot: &self.snapshot,
            macs: &macs,
            neighbors: &neighbors,
        };
        let served = self
            .pipeline
            .replicate(tables, self.now_ns, &mut self.pool, &mut self.out);
        sent.extend(self.take_sent());
        served
    }

    /// Frees pending floods.
    pub(super) fn close(&mut self) {
        self.pipeline.close(&mut self.pool);
    }

    fn take_sent(&mut self) -> Vec<(u16, (Vec<u8>, Offload))> {
        let mut sent = Vec::new();
        while let Some((device, mut queue)) = self.out.take_busy() {
            self.most_chunks = self
                .most_chunks
                .max(self.pool.capacity() - self.pool.available());
            let mut port = MemoryPort::new();
            port.send(&mut self.pool, &mut queue);
            let frames = port.take_sent_offloads().into_iter();
            sent.extend(frames.map(|frame| (device.0, frame)));
            self.out.restore(device, queue);
        }
        sent
    }

    /// Sends one frame, which must be dropped, and only for `reason`.
    pub(super) fn assert_dropped(&mut self, device: u16, frame: &[u8], reason: DropReason) {
        let before = self.drops();
        assert_eq!(self.run(device, [frame]), [], "{reason:?}");
        let after = self.drops();
        let changed: Vec<_> = DropReason::ALL
            .iter()
            .filter(|r| before[**r as usize] != after[**r as usize])
            .collect();
        assert_eq!(changed, [&reason]);
        assert_eq!(after[reason as usize], before[reason as usize] + 1);
    }

    pub(super) fn removed(&self) -> u64 {
        self.pipeline.removed()
    }

    /// Drops by reason, summed over the devices.
    pub(super) fn drops(&self) -> [u64; DropReason::COUNT] {
        let mut sum = [0; DropReason::COUNT];
        for device in self.snapshot.ports.devices.iter().flatten() {
            let totals = device.counters.totals();
            sum.iter_mut()
                .zip(totals.drops)
                .for_each(|(sum, more)| *sum += more);
        }
        sum
    }

    pub(super) fn dropped(&self, reason: DropReason) -> u64 {
        self.drops()[reason as usize]
    }

    pub(super) fn device(&self, id: u16) -> Totals {
        self.snapshot
            .ports
            .device(DeviceId(id))
            .unwrap()
            .counters
            .totals()
    }

    pub(super) fn port(&self, id: u16) -> Totals {
        self.snapshot
            .ports
            .port(PortId(id))
            .unwrap()
            .counters
            .totals()
    }

    pub(super) fn domain(&self, id: u16) -> Totals {
        self.snapshot
            .vnis
            .domain(DomainId(id))
            .unwrap()
            .counters
            .totals()
    }

    pub(super) fn vtep(&self, id: u32) -> Totals {
        self.snapshot
            .vteps
            .get(VtepId(id))
            .unwrap()
            .counters
            .totals()
    }
}

/// An IPv4 UDP frame between two hosts.
pub(super) fn udp4(from: u8, to: [u8; 6], payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2(mac(from), to)
        .ipv4([10, 0, 0, from], [10, 0, 0, to[5]], 64)
        .udp(1000, 2000)
        .write(&mut bytes, &vec![0x5a; payload])
        .unwrap();
    bytes
}

/// An IPv6 UDP frame between two hosts.
pub(super) fn udp6(from: u8, to: [u8; 6], payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2(mac(from), to)
        .ipv6([0x20; 16], [0x21; 16], 64)
        .udp(1000, 2000)
        .write(&mut bytes, &vec![0x5a; payload])
        .unwrap();
    bytes
}

/// The frame with an 802.1Q tag.
pub(super) fn tagged(frame: &[u8], tpid: u16, id: u16) -> Vec<u8> {
    [
        &frame[..12],
        &tpid.to_be_bytes(),
        &id.to_be_bytes(),
        &frame[12..],
    ]
    .concat()
}

/// A packet from a VTEP: `tos` is the outer one.
pub(super) fn outer(vtep: usize, vni: u32, tos: u8, inner: &[u8]) -> Vec<u8> {
    let payload = [&[8, 0, 0, 0], &(vni << 8).to_be_bytes()[..], inner].concat();
    let builder = etherparse::PacketBuilder::ethernet2([2, 2, 2, 2, 2, 2], [2, 1, 1, 1, 1, 1]);
    let mut bytes = Vec::new();
    match VTEPS[vtep].parse().unwrap() {
        std::net::IpAddr::V4(source) => {
            let mut header =
                etherparse::Ipv4Header::new(0, 64, 17.into(), source.octets(), LOCAL_V4).unwrap();
            header.dscp = (tos >> 2).try_into().unwrap();
            header.ecn = (tos & 3).try_into().unwrap();
            let builder = builder.ip(etherparse::IpHeaders::Ipv4(header, Default::default()));
            builder
                .udp(50_000, 4789)
                .write(&mut bytes, &payload)
                .unwrap();
        }
        std::net::IpAddr::V6(source) => {
            let header = etherparse::Ipv6Header {
                traffic_class: tos,
                hop_limit: 64,
                source: source.octets(),
                destination: LOCAL_V6,
                ..Default::default()
            };
            let builder = builder.ip(etherparse::IpHeaders::Ipv6(header, Default::default()));
            builder
                .udp(50_000, 4789)
                .write(&mut bytes, &payload)
                .unwrap();
        }
    }
    bytes
}
