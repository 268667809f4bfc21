//! Cutting superframes into VXLAN segments, in memory.
//!
//! ```text
//! 64 KiB of TCP -> Pipeline::burst -> 45 segments with outer headers, each 1500 bytes inside
//! ```
//!
//! What a port does is not counted: the superframes are received as by a packet socket whose superframes
//! are cut ([`vtep_dataplane::packet::split`]), and the segments freed, outside of the measured time.

use etherparse::{PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};
use vtep_dataplane::addr::VtepId;
use vtep_dataplane::frame::offload::{ChecksumState, Offload, SegmentKind, Segmentation};
use vtep_dataplane::frame::{Frame, FrameMemory, HEADROOM, Pool};
use vtep_dataplane::packet::split::{Parts, Splitter};
use vtep_dataplane::packet::vnet::VnetHeader;
use vtep_dataplane::pipeline::tx_queues::TxQueues;
use vtep_dataplane::pipeline::{Pipeline, Tables};
use vtep_dataplane::port::memory::{HeapMemory, memory_pools};
use vtep_dataplane::table::Snapshot;
use vtep_dataplane::table::mac::{Destination, MacTable};
use vtep_dataplane::table::neighbor::{NeighborReader, NeighborTable};

use crate::clock::{now_ns, spent_ns};
use crate::cores::pin;
use crate::row::{Bar, Effort, Failure, Measure, Plan, Spec};
use crate::tables::{DOMAIN, TENANT_DEVICE, TableSpec, WORKER};
use crate::testbed::topology::{self, REMOTE};
use crate::traffic::template::VXLAN_OVERHEAD;

/// The row.
pub const SEGMENT: Spec = Spec {
    name: "segment",
    measures: "a superframe of 64 KiB of TCP into VXLAN segments, in memory, a segment",
    unit: "ns/segment",
    bar: Bar::AtMost(12.0),
    open: |effort| Ok(Box::new(Segments::open(effort)?)),
};

/// Chunk size, bytes: the daemon's default.
const CHUNK: usize = 2048;

/// Chunks of the pool: superframes of a burst and their segments.
const CHUNKS: usize = 2048;

/// Superframes of a burst: as many as a port delivers at once.
const BATCH: usize = 4;

/// Payload of a segment: 1500 bytes without IPv4, TCP and its time stamps.
const SIZE: u16 = 1448;

/// Segments of a superframe, as many as fit into 64 KiB.
const COUNT: usize = 45;

/// Ethernet, IPv4, TCP and its time stamps.
const HEADERS: usize = 14 + 20 + 32;

/// The first sequence number.
const SEQUENCE: u32 = 0xffff_f000;

struct Segments {
    rounds: usize,
    pool: Pool<HeapMemory>,
    splitter: Splitter,
    /// The superframe, with a partial checksum.
    bytes: Vec<u8>,
    snapshot: Snapshot,
    macs: MacTable,
    neighbors: NeighborReader,
    pipeline: Pipeline,
    queues: TxQueues,
    burst: Vec<Frame>,
}

/// A superframe as a tenant's kernel hands it over: the checksum is that of the pseudo-header.
fn superframe() -> Result<Vec<u8>, Failure> {
    let (from, to) = (topology::source()?, topology::destination()?);
    let payload: Vec<u8> = (0..COUNT * usize::from(SIZE))
        .map(|i| (i * 31 % 251) as u8)
        .collect();
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(from.get().0, to.get().0)
        .ipv4([198, 18, 0, 1], [198, 18, 0, 2], 64)
        .tcp(49152, 5201, SEQUENCE, 1024)
        .options(&[
            TcpOptionElement::Noop,
            TcpOptionElement::Noop,
            TcpOptionElement::Timestamp(1, 2),
        ])
        .map_err(|why| Failure::new(format!("TCP options: {why:?}")))?
        .ack(7)
        .psh()
        .write(&mut bytes, &payload)
        .map_err(Failure::of("building a superframe"))?;
    let length = (bytes.len() - HEADERS + 32) as u16;
    let sum = vtep_dataplane::wire::checksum::Sum::new()
        .pseudo_header(&bytes[26..34], 6, usize::from(length))
        .fold();
    bytes[50..52].copy_from_slice(&sum.to_be_bytes());
    Ok(bytes)
}

impl Segments {
    fn open(effort: Effort) -> Result<Self, Failure> {
        let (underlay_mac, next_hop_mac) = topology::underlay_macs()?;
        let snapshot = TableSpec {
            underlay_mac,
            next_hop_mac,
            vteps: vec![REMOTE.into()],
            multi_buffer: true,
        }
        .snapshot()?;
        let mut macs = MacTable::new(16);
        let to = Destination::Vtep(VtepId(0));
        macs.insert(DOMAIN, topology::destination()?, to)
            .map_err(Failure::of("MAC table"))?;
        let pool = memory_pools(1, CHUNKS, CHUNK).pop();
        let mut segments = Self {
            rounds: effort.pick(200, 5000),
            pool: pool.ok_or_else(|| Failure::new("no pool for one worker"))?,
            splitter: Splitter::new(),
            bytes: superframe()?,
            snapshot,
            macs,
            neighbors: NeighborTable::new(1).reader(),
            pipeline: Pipeline::new(WORKER),
            queues: TxQueues::new(2),
            burst: Vec::with_capacity(BATCH),
        };
        segments.check()?;
        Ok(segments)
    }

    /// A superframe as a packet socket receives it: a segment in each chunk.
    fn receive(&mut self) -> Result<Frame, Failure> {
        let offload = Offload {
            segmentation: Some(Segmentation {
                kind: SegmentKind::TcpV4,
                size: SIZE,
                ecn: false,
            }),
            checksum: ChecksumState::Partial {
                start: HEADROOM + 34,
                offset: 16,
            },
            vlan_tci: None,
        };
        let header = VnetHeader::new(offload, &self.bytes, HEADROOM)
            .map_err(Failure::of("a vnet header"))?;
        let parts = Parts::of(header, &self.bytes, self.bytes.len())
            .ok_or_else(|| Failure::new("the superframe can't be cut"))?;
        let pool = &mut self.pool;
        let copied = self.splitter.copy(&parts, &self.bytes, pool, 0);
        copied.map_err(|why| Failure::new(format!("a chunk was lost: {why:?}")))?;
        let mut frame = self
            .splitter
            .join(&parts, pool)
            .ok_or_else(|| Failure::new("a superframe does not fit into a chain"))?;
        pool.memory().buffers().set_offload(&mut frame, offload);
        Ok(frame)
    }

    /// Forwards `count` superframes at once. Returns the CPU time of that, nanoseconds; calls `visit`
    /// with each segment.
    fn pass(
        &mut self,
        count: usize,
        mut visit: impl FnMut(&Pool<HeapMemory>, &Frame),
    ) -> Result<u64, Failure> {
        for _ in 0..count {
            let frame = self.receive()?;
            self.burst.push(frame);
        }
        let macs = self.macs.reader();
        let tables = Tables {
            snapshot: &self.snapshot,
            macs: &macs,
            neighbors: &self.neighbors,
        };
        let start = spent_ns();
        self.pipeline.burst(
            tables,
            now_ns(),
            TENANT_DEVICE,
            &mut self.burst,
            &mut self.pool,
            &mut self.queues,
        );
        let spent = spent_ns() - start;
        let mut sent = 0;
        while let Some((device, mut queue)) = self.queues.take_busy() {
            sent += queue.len();
            queue.iter().for_each(|frame| visit(&self.pool, frame));
            self.pool.free_bulk(queue.drain(..));
            self.queues.restore(device, queue);
        }
        if sent != count * COUNT {
            let wanted = count * COUNT;
            return Err(Failure::new(format!(
                "{sent} of {wanted} segments were sent"
            )));
        }
        Ok(spent)
    }

    /// One superframe, of whose segments every byte is checked.
    fn check(&mut self) -> Result<(), Failure> {
        let (mut received, mut wrong) = (Vec::new(), None);
        let whole = self.bytes.clone();
        self.pass(1, |pool, frame| {
            let mut bytes = vec![0; frame.len()];
            pool.memory().read(frame, &mut bytes);
            let inner = bytes.get(VXLAN_OVERHEAD..).unwrap_or_default();
            if !is_segment(inner, &whole, received.len()) {
                wrong = wrong.take().or(Some(format!("{bytes:02x?}")));
            }
            received.extend_from_slice(inner.get(HEADERS..).unwrap_or_default());
        })?;
        match wrong {
            Some(bytes) => Err(Failure::new(format!("a wrong segment: {bytes}"))),
            None if received == whole[HEADERS..] => Ok(()),
            None => Err(Failure::new("the segments have other bytes")),
        }
    }
}

/// Whether `segment` is that of `whole` whose payload begins at `offset`: addresses, lengths,
/// sequence number, flags and both checksums.
fn is_segment(segment: &[u8], whole: &[u8], offset: usize) -> bool {
    let Ok(parsed) = SlicedPacket::from_ethernet(segment) else {
        return false;
    };
    let (Some(etherparse::NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) =
        (parsed.net, parsed.transport)
    else {
        return false;
    };
    let (header, last) = (
        ip.header().to_header(),
        offset + usize::from(SIZE) == whole.len() - HEADERS,
    );
    segment[..14] == whole[..14]
        && segment[26..38] == whole[26..38]
        && segment[54..HEADERS] == whole[54..HEADERS]
        && usize::from(header.total_len) == segment.len() - 14
        && header.header_checksum == header.calc_header_checksum()
        && tcp.sequence_number() == SEQUENCE.wrapping_add(offset as u32)
        && tcp.psh() == last
        && tcp
            .to_header()
            .calc_checksum_ipv4(&header, tcp.payload())
            .is_ok_and(|sum| sum == tcp.checksum())
}

impl Measure for Segments {
    fn once(&mut self) -> Result<f64, Failure> {
        pin(0);
        let mut spent = 0;
        for _ in 0..self.rounds {
            spent += self.pass(BATCH, |_, _| ())?;
        }
        Ok(spent as f64 / (self.rounds * BATCH * COUNT) as f64)
    }

    fn plan(&self) -> Plan {
        Plan {
            warm_ups: 1,
            repetitions: 7,
        }
    }

    fn notes(&self) -> Vec<String> {
        vec![format!(
            "CPU time of the pipeline over {} segments of {BATCH} superframes at a time, two reads \
             of the clock for these included; every byte of {COUNT} segments was checked first",
            self.rounds * BATCH * COUNT
        )]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn superframes_are_cut_repeatedly() {
        let mut segments = Segments::open(Effort::Quick).unwrap();
        segments.rounds = 3;
        assert!(segments.once().unwrap() > 0.0);
        assert_eq!(segments.pool.available(), CHUNKS);
    }
}
