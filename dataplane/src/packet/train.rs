//! Trains: consecutive frames of one path that leave as one superframe of UDP, which the kernel or a
//! device cuts into the same datagrams (`VIRTIO_NET_HDR_GSO_UDP_L4`). No I/O.
//!
//! ```text
//! frames       | outer header | VXLAN, inner frame | outer header | VXLAN, inner frame | ..
//! superframe   | outer header | VXLAN, inner frame | VXLAN, inner frame | ..
//! ```
//!
//! They have the same outer header but for lengths, identification and checksums, and the same length,
//! except that the last one may be shorter. The kernel counts up the identification, as vtepd does,
//! and gives each datagram a checksum of UDP, also over IPv4, where vtepd sends none: a superframe
//! can't be without.

use super::vnet::VnetHeader;
use crate::pipeline::segment::MAX_UDP_SEGMENTS;
use crate::wire::checksum::Sum;
use crate::wire::{be16, ethernet, ipv4, ipv6, put16, udp};

/// Frames of a train at most: as many as Linux joins to one when it receives them
/// (`UDP_GRO_CNT_MAX`, net/ipv4/udp_offload.c). It takes more to send (`UDP_MAX_SEGMENTS`).
pub(super) const MAX_FRAMES: usize = 64;

const _: () = assert!(MAX_FRAMES <= MAX_UDP_SEGMENTS);

/// The longest outer header, bytes: without tag and options.
pub(super) const MAX_HEADER: usize = ethernet::LEN + ipv6::LEN + udp::LEN;

/// Longest IPv4 packet, and longest payload of an IPv6 packet, bytes.
const MAX_IP_LEN: usize = 65_535;

/// Frames that leave as one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Train {
    is_v6: bool,
    /// Bytes after the outer header, of each frame but the last.
    size: usize,
    /// The same of all frames.
    payload: usize,
    frames: usize,
    /// The last frame was shorter.
    is_closed: bool,
}

impl Train {
    /// A train of one frame of `len` bytes, whose first segment is `frame`. `None` if it can't be part
    /// of one.
    #[inline]
    pub(super) fn of(frame: &[u8], len: usize) -> Option<Self> {
        let head: &[u8; ethernet::LEN + ipv4::LEN + udp::LEN] = frame.first_chunk()?;
        let (ip, is_v6) = match be16(head, 12) {
            // Version 4 and no options, no fragment.
            ethernet::IPV4
                if head[14] == 0x45
                    && head[23] == udp::PROTOCOL
                    && be16(head, 20) & 0x3fff == 0 =>
            {
                (usize::from(be16(head, 16)), false)
            }
            ethernet::IPV6 if head[14] >> 4 == 6 && head[20] == udp::PROTOCOL => {
                (ipv6::LEN + usize::from(be16(head, 18)), true)
            }
            _ => return None,
        };
        let header = header_len(is_v6);
        let udp = header - udp::LEN;
        let whole = frame.len() >= header
            && ethernet::LEN + ip == len
            && udp + usize::from(be16(frame, udp + 4)) == len
            && len > header;
        whole.then_some(Self {
            is_v6,
            size: len - header,
            payload: len - header,
            frames: 1,
            is_closed: false,
        })
    }

    /// Length of the outer header, bytes.
    #[inline]
    pub(super) const fn header_len(&self) -> usize {
        header_len(self.is_v6)
    }

    /// Frames.
    #[inline]
    pub(super) const fn frames(&self) -> usize {
        self.frames
    }

    /// Adds the next frame. False if it does not continue the train. `first`: the front of the
    /// train's first frame.
    #[inline]
    pub(super) fn add(&mut self, first: &[u8], frame: &[u8], len: usize) -> bool {
        let header = self.header_len();
        let payload = len.saturating_sub(header);
        if self.is_closed
            || self.frames == MAX_FRAMES
            || payload > self.size
            || self.payload + payload > MAX_IP_LEN - ipv4::LEN - udp::LEN
            || !has_same_header(self.is_v6, first, frame)
            || Self::of(frame, len).is_none()
        {
            return false;
        }
        self.payload += payload;
        self.frames += 1;
        self.is_closed = payload < self.size;
        true
    }

    /// Writes the outer header of the superframe to `out`. `first`: the front of its first frame.
    /// Returns the vnet header.
    pub(super) fn write(&self, first: &[u8], out: &mut [u8; MAX_HEADER]) -> VnetHeader {
        let header = self.header_len();
        out[..header].copy_from_slice(&first[..header]);
        let (ip, udp) = out[ethernet::LEN..header].split_at_mut(header - ethernet::LEN - udp::LEN);
        let len = udp::LEN + self.payload;
        put16(udp, 4, len as u16);
        let addresses = if self.is_v6 {
            put16(ip, 4, len as u16);
            &ip[8..40]
        } else {
            put16(ip, 2, (ipv4::LEN + len) as u16);
            put16(ip, ipv4::CHECKSUM, 0);
            let checksum = Sum::new().bytes(ip).checksum();
            put16(ip, ipv4::CHECKSUM, checksum);
            &ip[12..20]
        };
        let pseudo = Sum::new().pseudo_header(addresses, udp::PROTOCOL, len);
        put16(udp, udp::CHECKSUM, pseudo.fold());
        VnetHeader::of_datagrams(header, self.size)
    }
}

#[inline]
const fn header_len(is_v6: bool) -> usize {
    let ip = if is_v6 { ipv6::LEN } else { ipv4::LEN };
    ethernet::LEN + ip + udp::LEN
}

/// Whether two outer headers differ in lengths, identification and checksums only.
#[inline]
fn has_same_header(is_v6: bool, one: &[u8], other: &[u8]) -> bool {
    let header = header_len(is_v6);
    let (Some(one), Some(other)) = (one.get(..header), other.get(..header)) else {
        return false;
    };
    // Before the length of the IP packet, and up to the ports.
    if is_v6 {
        one[..18] == other[..18] && one[20..58] == other[20..58]
    } else {
        one[..16] == other[..16] && one[20..24] == other[20..24] && one[26..38] == other[26..38]
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::frame::offload::{SegmentKind, Segmentation};
    use crate::pipeline::segment::Segmenter;

    /// A datagram with `len` bytes of payload, as the pipeline sends it. `number`: its place in a
    /// train.
    fn datagram(v6: bool, number: u16, len: usize) -> Vec<u8> {
        let payload: Vec<_> = (0..len)
            .map(|at| (at * 3 + usize::from(number)) as u8)
            .collect();
        let mut bytes = Vec::new();
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        if v6 {
            let ip = ethernet.ipv6([1; 16], [2; 16], 64);
            ip.udp(50_000, 4789).write(&mut bytes, &payload).unwrap();
        } else {
            let mut header =
                etherparse::Ipv4Header::new(0, 64, 17.into(), [10, 0, 0, 1], [10, 0, 0, 2])
                    .unwrap();
            header.identification = 7 + number;
            header.dont_fragment = true;
            let ip = ethernet.ip(etherparse::IpHeaders::Ipv4(header, Default::default()));
            ip.udp(50_000, 4789).write(&mut bytes, &payload).unwrap();
        }
        bytes
    }

    /// The train of these frames, and how many it has taken.
    fn joined(frames: &[Vec<u8>]) -> Option<(Vec<u8>, VnetHeader, usize)> {
        let first = &frames[0];
        let mut train = Train::of(first, first.len())?;
        for next in &frames[1..] {
            if !train.add(first, next, next.len()) {
                break;
            }
        }
        let mut outer = [0; MAX_HEADER];
        let vnet = train.write(first, &mut outer);
        let header = train.header_len();
        let mut bytes = outer[..header].to_vec();
        for frame in &frames[..train.frames()] {
            bytes.extend(&frame[header..]);
        }
        Some((bytes, vnet, train.frames()))
    }

    #[test]
    fn what_is_cut_out_of_a_train_are_its_frames() {
        for (v6, lens) in [
            (false, vec![1458; 40]),
            (true, vec![1458; 40]),
            (false, vec![100; MAX_FRAMES]),
            (true, [vec![600; 3], vec![17]].concat()),
        ] {
            let frames: Vec<_> = (0..)
                .zip(&lens)
                .map(|(number, len)| datagram(v6, number, *len))
                .collect();
            let (bytes, vnet, count) = joined(&frames).unwrap();
            assert_eq!(count, frames.len());
            let header = if v6 { 62 } else { 42 };
            assert_eq!(vnet, VnetHeader::of_datagrams(header, lens[0]));
            let segmentation = Segmentation {
                kind: SegmentKind::Udp,
                size: lens[0] as u16,
                ecn: false,
            };
            let cut = Segmenter::new(&bytes, bytes.len(), segmentation, Some(header - 8)).unwrap();
            assert_eq!(cut.count(), count);
            for (index, frame) in frames.iter().enumerate() {
                let payload = &bytes[cut.payload(index)];
                let mut out = vec![0; cut.header_len()];
                cut.write(index, &mut out, Sum::new().bytes(payload));
                out.extend(payload);
                assert!(out == *frame, "frame {index}");
            }
        }
    }

    #[test]
    fn frames_that_differ_do_not_continue_a_train() {
        let frame = |v6, len| datagram(v6, 0, len);
        let changed = |v6, at: usize| {
            let mut frame = frame(v6, 100);
            frame[at] ^= 1;
            frame
        };
        for v6 in [false, true] {
            let taken = |next: Vec<u8>| joined(&[frame(v6, 100), next]).map(|(.., count)| count);
            let port = if v6 { 54 } else { 34 };
            for at in [0, 6, 15, if v6 { 21 } else { 22 }, 30, port, port + 2] {
                assert_eq!(taken(changed(v6, at)), Some(1), "byte {at}");
            }
            assert_eq!(taken(frame(v6, 101)), Some(1), "longer");
            assert_eq!(taken(frame(v6, 99)), Some(2), "shorter");
            assert_eq!(taken(frame(!v6, 100)), Some(1), "the other family");
            let lens = [100, 99, 99].map(|len| frame(v6, len));
            assert_eq!(joined(&lens).unwrap().2, 2, "a shorter one is the last");
            let many = vec![frame(v6, 100); MAX_FRAMES + 1];
            assert_eq!(joined(&many).unwrap().2, MAX_FRAMES);
            let long = vec![frame(v6, 1450); 46];
            let (bytes, _, count) = joined(&long).unwrap();
            assert_eq!((count, bytes.len() <= 65_535), (45, true));
        }
    }

    #[test]
    fn frames_that_no_kernel_would_cut_are_no_train() {
        let whole = datagram(false, 0, 100);
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut frame = whole.clone();
            change(&mut frame);
            Train::of(&frame, frame.len()).is_none()
        };
        assert!(!refused(&|_| {}));
        assert!(refused(&|frame| frame[14] = 0x46), "options");
        assert!(refused(&|frame| frame[20] = 0x20), "a fragment");
        assert!(refused(&|frame| frame[23] = 6), "another protocol");
        assert!(refused(&|frame| frame.push(0)), "padding");
        assert!(refused(&|frame| frame[39] += 1), "another length of UDP");
        assert!(refused(&|frame| frame.truncate(41)), "truncated");
        assert!(refused(&|frame| frame[12] = 0x81), "a tag");
    }
}
