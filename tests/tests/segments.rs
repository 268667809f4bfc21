//! Linux as the reference for segmentation: the same superframes go through a Linux device that
//! does not segment, so that the kernel does, and through `pipeline::segment`.
//!
//! ```text
//! packet socket with vnet headers ── tap ── segments, as a guest without offloads reads them
//! ```

use std::collections::BTreeMap;

use vtep_dataplane::frame::offload::{SegmentKind, Segmentation};
use vtep_dataplane::pipeline::segment::{Segmenter, Unsegmentable};
use vtep_dataplane::wire::checksum::Sum;
use vtep_tests::link;
use vtep_tests::netns::{Netns, wait_for};
use vtep_tests::wire::{Kind, Raw};

const TCP_FLAGS: [(&str, u8); 8] = [
    ("FIN", 0x01),
    ("SYN", 0x02),
    ("RST", 0x04),
    ("PSH", 0x08),
    ("ACK", 0x10),
    ("URG", 0x20),
    ("ECE", 0x40),
    ("CWR", 0x80),
];

/// A superframe and its vnet header.
#[derive(Debug, Clone)]
struct Superframe {
    what: String,
    kind: SegmentKind,
    size: u16,
    ecn: bool,
    /// `csum_start` and `csum_offset`, with `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
    partial: Option<(u16, u16)>,
    frame: Vec<u8>,
}

/// Headers to build; the tests change the fields.
#[derive(Debug, Clone)]
struct Headers {
    is_v6: bool,
    is_tcp: bool,
    tags: Vec<u8>,
    tos: u8,
    identification: u16,
    fragment: u16,
    ip_options: usize,
    /// IPv6: the type of each extension header, and its bytes after the first.
    extensions: Vec<(u8, Vec<u8>)>,
    sequence: u32,
    flags: u8,
    tcp_options: usize,
}

impl Headers {
    fn new(is_v6: bool, is_tcp: bool) -> Self {
        Self {
            is_v6,
            is_tcp,
            tags: Vec::new(),
            tos: 0,
            identification: 0x1234,
            fragment: 0x4000,
            ip_options: 0,
            extensions: Vec::new(),
            sequence: 0x0102_0304,
            flags: 0x10,
            tcp_options: 12,
        }
    }

    fn kind(&self) -> SegmentKind {
        match (self.is_tcp, self.is_v6) {
            (true, false) => SegmentKind::TcpV4,
            (true, true) => SegmentKind::TcpV6,
            (false, _) => SegmentKind::Udp,
        }
    }

    /// The superframe with `payload`, a partial checksum and right lengths where they fit.
    fn superframe(&self, what: &str, payload: &[u8], size: u16) -> Superframe {
        let mut transport = if self.is_tcp {
            self.tcp()
        } else {
            let len = (payload.len() + 8) as u16;
            [&[0x12, 0x34, 0x56, 0x78][..], &len.to_be_bytes(), &[0, 0]].concat()
        };
        let len = transport.len() + payload.len();
        let (ip, addresses) = if self.is_v6 {
            self.v6(len)
        } else {
            self.v4(len)
        };
        let offset = if self.is_tcp { 16 } else { 6 };
        let protocol = if self.is_tcp { 6 } else { 17 };
        let pseudo = Sum::new().pseudo_header(&addresses, protocol, len).fold();
        transport[offset..offset + 2].copy_from_slice(&pseudo.to_be_bytes());
        let front = [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0][..], &self.tags, &ip].concat();
        Superframe {
            what: format!("{:?} v6={} {what}", self.kind(), self.is_v6),
            kind: self.kind(),
            size,
            ecn: false,
            partial: Some((front.len() as u16, offset as u16)),
            frame: [&front[..], &transport, payload].concat(),
        }
    }

    fn tcp(&self) -> Vec<u8> {
        let words = (20 + self.tcp_options) / 4;
        let fixed = [
            &[0x12, 0x34, 0x56, 0x78][..],
            &self.sequence.to_be_bytes(),
            &[9, 8, 7, 6, (words << 4) as u8, self.flags],
            &[0x20, 0, 0, 0, 0x00, 0x11],
        ];
        let options: Vec<u8> = (1..=self.tcp_options).map(|at| at as u8).collect();
        [fixed.concat(), options].concat()
    }

    /// EtherType and IPv4 header, and both addresses.
    fn v4(&self, len: usize) -> (Vec<u8>, Vec<u8>) {
        let header_len = 20 + self.ip_options;
        let total = (header_len + len) as u16;
        let addresses = vec![192, 0, 2, 1, 192, 0, 2, 2];
        let protocol = if self.is_tcp { 6 } else { 17 };
        let mut header = [
            &[0x40 | (header_len / 4) as u8, self.tos][..],
            &total.to_be_bytes(),
            &self.identification.to_be_bytes(),
            &self.fragment.to_be_bytes(),
            &[64, protocol, 0, 0],
            &addresses,
            &vec![1; self.ip_options],
        ]
        .concat();
        let checksum = Sum::new().bytes(&header).checksum();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        ([&[0x08, 0][..], &header].concat(), addresses)
    }

    /// EtherType and IPv6 headers, and both addresses.
    fn v6(&self, len: usize) -> (Vec<u8>, Vec<u8>) {
        let protocol = if self.is_tcp { 6 } else { 17 };
        let types: Vec<u8> = self.extensions.iter().map(|(kind, _)| *kind).collect();
        let nexts = types.iter().skip(1).chain([&protocol]);
        let extensions: Vec<u8> = self
            .extensions
            .iter()
            .zip(nexts)
            .flat_map(|((_, bytes), next)| [&[*next][..], bytes].concat())
            .collect();
        let addresses: Vec<u8> = (0x20..0x40).collect();
        let payload_len = (extensions.len() + len) as u16;
        let class = [0x60 | self.tos >> 4, self.tos << 4 | 0x5, 0x43, 0x21];
        let first = *types.first().unwrap_or(&protocol);
        let header = [
            &[0x86, 0xdd][..],
            &class,
            &payload_len.to_be_bytes(),
            &[first, 64],
            &addresses,
            &extensions,
        ];
        (header.concat(), addresses)
    }
}

impl Superframe {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The frame with its vnet header (struct `virtio_net_hdr`, little endian as this host is).
    fn with_header(&self) -> Vec<u8> {
        let kind = match self.kind {
            SegmentKind::TcpV4 => 1,
            SegmentKind::TcpV6 => 4,
            SegmentKind::Udp => 5,
        };
        let (start, offset) = self.partial.unwrap_or_default();
        let hdr_len = self.frame.len().min(120) as u16;
        let words = [hdr_len, self.size, start, offset].map(u16::to_ne_bytes);
        let flags = u8::from(self.partial.is_some());
        let first = [flags, kind | if self.ecn { 0x80 } else { 0 }];
        [&first[..], &words.concat(), &self.frame].concat()
    }

    /// True for a plain frame that Linux takes for a superframe at first and then refuses, because
    /// it does not count TCP options as headers there (`virtio_net_hdr_to_skb`).
    fn is_plain_but_refused(&self) -> bool {
        let at = self.partial.map_or(0, |(start, _)| usize::from(start));
        let payload = self.frame.len() - at - 20;
        let options = usize::from(self.frame[at + 12] >> 4) * 4 - 20;
        self.kind != SegmentKind::Udp
            && payload > usize::from(self.size)
            && payload - options <= usize::from(self.size)
    }

    /// What this data plane makes of it.
    fn segments(&self) -> Result<Vec<Vec<u8>>, Unsegmentable> {
        let segmentation = Segmentation {
            kind: self.kind,
            size: self.size,
            ecn: self.ecn,
        };
        let start = self.partial.map(|(start, _)| usize::from(start));
        let segmenter = Segmenter::new(&self.frame, self.frame.len(), segmentation, start)?;
        let segment = |index| {
            let mut bytes = vec![0; segmenter.header_len()];
            let payload = &self.frame[segmenter.payload(index)];
            segmenter.write(index, &mut bytes, Sum::new().bytes(payload));
            bytes.extend(payload);
            bytes
        };
        Ok((0..segmenter.count()).map(segment).collect())
    }
}

/// A tap whose user has no offloads, and a packet socket on it.
struct Fixture {
    socket: Raw,
    guest: Raw,
    _ns: Netns,
}

impl Fixture {
    fn new() -> Self {
        let ns = Netns::new("segments");
        link::tap(&ns, "tap0");
        ns.ip("link set tap0 mtu 65521 txqueuelen 30000");
        let guest = Raw::open(&ns, "tap0", Kind::Tap);
        let socket = Raw::open(&ns, "tap0", Kind::Vnet);
        Self {
            socket,
            guest,
            _ns: ns,
        }
    }

    /// What Linux makes of each superframe: no segments where it refuses.
    fn segments(&mut self, superframes: &[Superframe]) -> Vec<Vec<Vec<u8>>> {
        let mut found: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
        for (first, batch) in (0..).step_by(50).zip(superframes.chunks(50)) {
            // The source MAC says which superframe a segment is from.
            for (number, superframe) in (first..).zip(batch) {
                let mut bytes = superframe.with_header();
                bytes[10 + 6..10 + 12].copy_from_slice(&source_mac(number));
                self.socket.send(&bytes);
            }
            let last = [
                &[0; 10][..],
                &[2, 0, 0, 0, 0, 2],
                &[2; 6],
                b"\x88\xb5the-last-one",
            ];
            self.socket.send(&last.concat());
            let mut frames = Vec::new();
            wait_for("the last frame of a batch", 30, || {
                frames.extend(self.guest.take());
                frames.last()?.ends_with(b"the-last-one").then_some(())
            });
            for mut frame in frames {
                if frame[6..9] == [2, 0, 0] && frame[9] != 2 {
                    let number = u32::from_be_bytes([0, frame[9], frame[10], frame[11]]);
                    frame[6..12].copy_from_slice(&source_mac(0));
                    found.entry(number).or_default().push(frame);
                }
            }
        }
        (0..superframes.len() as u32)
            .map(|number| found.remove(&number).unwrap_or_default())
            .collect()
    }
}

fn source_mac(number: u32) -> [u8; 6] {
    let [_, a, b, c] = number.to_be_bytes();
    [2, 0, 0, a, b, c]
}

/// Bytes without a pattern.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(next).collect()
}

fn all_headers() -> [Headers; 4] {
    [(false, true), (true, true), (false, false), (true, false)]
        .map(|(is_v6, is_tcp)| Headers::new(is_v6, is_tcp))
}

/// Compares both for each superframe: equal segments, or refused by both.
fn assert_equal(superframes: &[Superframe]) {
    let mut wrong = Vec::new();
    let mut cut = 0;
    for (superframe, linux) in superframes.iter().zip(Fixture::new().segments(superframes)) {
        let ours = superframe.segments();
        let what = &superframe.what;
        match ours {
            Ok(ours) if ours == linux => cut += linux.len(),
            Ok(ours)
                if ours.len() == 1 && linux.is_empty() && superframe.is_plain_but_refused() => {}
            Err(_) if linux.is_empty() => (),
            Err(refusal) => wrong.push(format!("{what}: {refusal}, Linux cuts {}", linux.len())),
            Ok(ours) => {
                let at = ours.iter().zip(&linux).position(|(a, b)| a != b);
                let shown = at.map(|at| {
                    let bytes = |all: &[Vec<u8>]| all[at][..all[at].len().min(120)].to_vec();
                    format!("{:02x?}\n{:02x?}", bytes(&ours), bytes(&linux))
                });
                wrong.push(format!(
                    "{what}: {} segments, Linux {}, first difference {at:?} {}",
                    ours.len(),
                    linux.len(),
                    shown.unwrap_or_default()
                ));
            }
        }
    }
    println!("{} superframes, {cut} segments", superframes.len());
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(cut >= superframes.len(), "few were cut at all");
}

#[test]
fn lengths_and_segment_sizes_are_cut_as_linux_does() {
    let mut all = Vec::new();
    for headers in all_headers() {
        for size in [
            1, 2, 7, 48, 535, 536, 1000, 1399, 1448, 1460, 8948, 32_000, 65_000,
        ] {
            let near = usize::from(size);
            let lens = [
                1,
                2,
                3,
                near - 1,
                near,
                near + 1,
                2 * near - 1,
                2 * near,
                2 * near + 1,
                10 * near,
                4001,
                65_400,
            ];
            for len in lens {
                let segments = len.div_ceil(near);
                let most = if headers.is_tcp { 1366 } else { 128 };
                if len <= 65_400 && segments <= most {
                    let what = format!("{len} by {size}");
                    let payload = noise(len, len as u64);
                    all.push(headers.superframe(&what, &payload, size));
                }
            }
        }
    }
    assert_equal(&all);
}

#[test]
fn every_combination_of_tcp_flags_is_cut_as_linux_does() {
    let mut all = Vec::new();
    for headers in [Headers::new(false, true), Headers::new(true, true)] {
        for flags in 0..=255 {
            for ecn in [false, true] {
                let names = TCP_FLAGS.iter().filter(|(_, bit)| flags & bit != 0);
                let names: Vec<_> = names.map(|(name, _)| *name).collect();
                let what = format!("{names:?} ecn={ecn}");
                let headers = Headers {
                    flags,
                    ..headers.clone()
                };
                let superframe = headers.superframe(&what, &noise(250, 1), 100);
                all.push(superframe.with(|one| one.ecn = ecn));
            }
        }
    }
    assert_equal(&all);
}

#[test]
fn header_fields_and_options_are_cut_as_linux_does() {
    let mut all = Vec::new();
    for base in all_headers() {
        let mut add = |what: String, change: &dyn Fn(&mut Headers)| {
            let mut headers = base.clone();
            change(&mut headers);
            all.push(headers.superframe(&what, &noise(3001, 2), 1000));
        };
        for identification in [0, 1, 0x7fff, 0xfffd, 0xfffe, 0xffff] {
            for fragment in [0, 0x4000, 0x8000] {
                add(format!("{identification:x} {fragment:x}"), &|headers| {
                    headers.identification = identification;
                    headers.fragment = fragment;
                });
            }
        }
        for words in 0..=10 {
            add(format!("{words} words of options"), &|headers| {
                headers.tcp_options = 4 * words;
                headers.ip_options = 4 * (10 - words);
            });
        }
        for tos in [0x01, 0x02, 0x03, 0xb8, 0xff] {
            add(format!("TOS {tos:x}"), &|headers| headers.tos = tos);
        }
        for sequence in [0, u32::MAX, u32::MAX - 999, u32::MAX - 1000, 0x7fff_ffff] {
            add(format!("{sequence}"), &|headers| {
                headers.sequence = sequence;
            });
        }
        for tag in [[0x81, 0, 0x20, 5], [0x88, 0xa8, 0, 7]] {
            add(format!("tag {tag:?}"), &|headers| {
                headers.tags = tag.to_vec();
            });
            add(format!("two tags, {tag:?}"), &|headers| {
                headers.tags = [tag, [0x81, 0, 0, 9]].concat();
            });
        }
    }
    assert_equal(&all);
}

#[test]
fn ipv6_extension_headers_are_repeated_as_linux_does() {
    let options = |len: usize| {
        [
            &[((len + 2) / 8 - 1) as u8, 1, (len - 2) as u8][..],
            &vec![0; len - 2],
        ]
        .concat()
    };
    let hop = (0, options(6));
    let destination = (60, options(14));
    let routing = |left: u8| {
        let bytes = [&[2, 4, left, 0, 0, 0, 0][..], &[0x55; 16]].concat();
        (43, bytes)
    };
    let authentication = (51, [&[4, 0, 0][..], &[1; 20]].concat());
    let fragment = (44, vec![0, 0, 0, 0, 0, 0, 1]);
    let lists = [
        vec![hop.clone()],
        vec![destination.clone()],
        vec![routing(0)],
        vec![routing(1)],
        vec![
            hop.clone(),
            destination.clone(),
            routing(1),
            destination.clone(),
        ],
        vec![hop.clone(), fragment.clone()],
        vec![fragment],
        vec![authentication],
        vec![(50, vec![0; 7])],
        vec![(59, vec![0; 7])],
        vec![(135, vec![0; 7])],
    ];
    let mut all = Vec::new();
    for base in [Headers::new(true, true), Headers::new(true, false)] {
        for extensions in &lists {
            let what = format!("{extensions:?}");
            let extensions = extensions.clone();
            let headers = Headers {
                extensions,
                ..base.clone()
            };
            all.push(headers.superframe(&what, &noise(5000, 3), 1200));
        }
    }
    assert_equal(&all);
}

#[test]
fn checksums_are_those_of_linux() {
    let mut all = Vec::new();
    for headers in all_headers() {
        for fill in [0x00, 0xff] {
            let what = format!("payload of {fill:x}");
            all.push(headers.superframe(&what, &[fill; 4001], 1000));
        }
        // Segments whose checksum is 0, which UDP sends as 0xffff.
        let zeros = headers.superframe("", &[0; 2000], 1000);
        let first = &zeros.segments().expect("well formed")[0];
        let (start, offset) = zeros.partial.expect("partial");
        let at = usize::from(start + offset);
        for delta in 0..3_u16 {
            let word = u16::from_be_bytes([first[at], first[at + 1]]).wrapping_add(delta);
            let payload = [&word.to_be_bytes()[..], &[0; 998]].concat().repeat(2);
            all.push(headers.superframe(&format!("checksum of -{delta}"), &payload, 1000));
        }
        // What the sender says is wrong.
        for value in [[0, 0], [0xff, 0xff], [0x12, 0x34]] {
            let superframe =
                headers.superframe(&format!("partial {value:?}"), &noise(3001, 4), 700);
            all.push(superframe.with(|one| one.frame[at..at + 2].copy_from_slice(&value)));
        }
        if headers.is_tcp {
            let complete = headers.superframe("not partial", &noise(3001, 5), 700);
            all.push(complete.clone().with(|one| one.partial = None));
            all.push(complete.with(|one| {
                one.partial = None;
                one.frame[at] ^= 0x55;
            }));
        } else {
            for len in [0, 8, 0xffff] {
                let superframe = headers.superframe(&format!("length {len}"), &noise(3001, 6), 700);
                all.push(superframe.with(|one| {
                    let at = usize::from(start) + 4;
                    one.frame[at..at + 2].copy_from_slice(&u16::to_be_bytes(len));
                }));
            }
        }
        for (what, at) in [("length", 16), ("length", 18), ("IP checksum", 24)] {
            let superframe = headers.superframe(&format!("{what} {at}"), &noise(3001, 7), 700);
            if !headers.is_v6 || at == 18 {
                all.push(superframe.with(|one| one.frame[at] ^= 0x5a));
            }
        }
    }
    assert_equal(&all);
}

/// Superframes that both refuse, and those that only one of both refuses.
#[test]
fn what_linux_refuses_is_refused() {
    let [tcp4, tcp6, udp4, udp6] = all_headers();
    let frame = |headers: &Headers, what: &str| headers.superframe(what, &noise(3000, 8), 700);
    let set = |at: usize, value: u8| move |one: &mut Superframe| one.frame[at] = value;
    let wrong_start = |one: &mut Superframe| one.partial = Some((50, 16));
    let kind = |kind: SegmentKind| move |one: &mut Superframe| one.kind = kind;
    let both = [
        frame(&tcp4, "size 0").with(|one| one.size = 0),
        frame(&tcp6, "size 0").with(|one| one.size = 0),
        frame(&udp4, "size 0").with(|one| one.size = 0),
        frame(&tcp4, "TCP header of 16 bytes").with(set(46, 0x40)),
        frame(&tcp6, "TCP header of 0 bytes").with(set(66, 0)),
        frame(&tcp4, "IP header of 16 bytes").with(set(14, 0x44)),
        frame(&tcp4, "checksum elsewhere").with(wrong_start),
        frame(&tcp6, "checksum elsewhere").with(wrong_start),
        frame(&tcp4, "UDP inside").with(set(23, 17)),
        frame(&tcp6, "UDP inside").with(set(20, 17)),
        frame(&udp4, "TCP inside").with(set(23, 6)),
        frame(&udp4, "ICMP inside").with(set(23, 1)),
        frame(&tcp4, "as TCP over IPv6").with(kind(SegmentKind::TcpV6)),
        frame(&tcp6, "as TCP over IPv4").with(kind(SegmentKind::TcpV4)),
        frame(&udp6, "as TCP over IPv6").with(kind(SegmentKind::TcpV6)),
        frame(&tcp4, "ARP").with(set(13, 6)),
        udp4.superframe("129 datagrams", &noise(1281, 9), 10),
        udp6.superframe("129 datagrams", &noise(1281, 9), 10),
        frame(&tcp4, "TCP header beyond the end").with(|one| {
            one.frame.truncate(60);
            one.size = 1;
        }),
    ];
    for (superframe, linux) in both.iter().zip(Fixture::new().segments(&both)) {
        let ours = superframe.segments();
        assert!(linux.is_empty(), "Linux cuts {}", superframe.what);
        assert!(ours.is_err(), "{}: {ours:02x?}", superframe.what);
    }
    let ours_only = [
        (
            frame(&tcp4, "version 6").with(set(14, 0x65)),
            Unsegmentable::Network,
        ),
        (
            frame(&tcp4, "first fragment").with(set(20, 0x20)),
            Unsegmentable::Fragment,
        ),
        (
            frame(&udp4, "later fragment").with(set(21, 1)),
            Unsegmentable::Fragment,
        ),
        (
            tcp4.superframe("1367 segments", &noise(1367, 10), 1),
            Unsegmentable::TooMany,
        ),
    ];
    let frames = ours_only.clone().map(|(superframe, _)| superframe);
    for ((superframe, refusal), linux) in ours_only.iter().zip(Fixture::new().segments(&frames)) {
        assert_eq!(superframe.segments(), Err(*refusal), "{}", superframe.what);
        assert!(linux.len() > 1, "Linux cuts {}", superframe.what);
    }
}

/// Headers that are changed at random: what both cut is equal, and what only one of both cuts has a
/// known reason.
#[test]
fn random_headers_are_cut_as_linux_does() {
    let mut all = Vec::new();
    for seed in 0..400 {
        for headers in all_headers() {
            let random = noise(9, seed + 1);
            let len = 100 + usize::from(random[0]) * 10 + usize::from(random[1]);
            let size = 20 + u16::from(random[2]) * 5;
            let what = format!("seed {seed}");
            let mut superframe = headers.superframe(&what, &noise(len, seed), size);
            let start = superframe.partial.map_or(0, |(start, _)| start);
            for change in random[3..].chunks_exact(2).take(1 + (seed % 3) as usize) {
                let at = 12 + usize::from(change[0]) % (usize::from(start) + 8);
                superframe.frame[at] ^= change[1];
            }
            all.push(superframe);
        }
    }
    let (mut equal, mut refused) = (0, 0);
    for (superframe, linux) in all.iter().zip(Fixture::new().segments(&all)) {
        let what = &superframe.what;
        match superframe.segments() {
            Ok(ours) if ours == linux => equal += 1,
            Ok(ours) => {
                assert!(linux.is_empty(), "{what}: {ours:02x?}\n{linux:02x?}");
                assert!(superframe.is_plain_but_refused(), "{what}: Linux refuses");
            }
            // Linux does not look at the headers of what is a plain frame for it.
            Err(_) if linux.len() < 2 => refused += 1,
            Err(refusal) => assert!(
                matches!(refusal, Unsegmentable::Fragment | Unsegmentable::Network),
                "{what}: {refusal}, Linux cuts {}",
                linux.len()
            ),
        }
    }
    println!("{equal} equal, {refused} refused by both");
    assert!(equal > 500 && refused > 100);
}
