//! TCP segments in one burst, and how they are joined. `dataplane/tests/sockets/gro.rs` includes this
//! file, and sends the same through Linux.

/// TCP flags.
pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;
pub(crate) const ECE: u8 = 0x40;
pub(crate) const CWR: u8 = 0x80;

/// Fields of a TCP segment to write.
#[derive(Debug, Clone)]
pub(crate) struct Tcp {
    pub(crate) v6: bool,
    pub(crate) source_mac: u8,
    pub(crate) source: u8,
    pub(crate) port: u16,
    pub(crate) id: u16,
    pub(crate) df: bool,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    pub(crate) label: u32,
    pub(crate) sequence: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: usize,
}

impl Tcp {
    pub(crate) fn new(v6: bool, payload: usize) -> Self {
        Self {
            v6,
            source_mac: 10,
            source: 10,
            port: 5201,
            id: 0xfffe,
            df: true,
            ttl: 64,
            tos: 0,
            label: 0,
            sequence: 0xffff_f000,
            ack: 77,
            flags: ACK,
            window: 501,
            urgent: 0,
            options: vec![1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7],
            payload,
        }
    }

    /// The segment that a sender sends next, with `payload` bytes.
    pub(crate) fn next(&self, payload: usize) -> Self {
        Self {
            id: self.id.wrapping_add(1),
            sequence: self.sequence.wrapping_add(self.payload as u32),
            payload,
            ..self.clone()
        }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The frame, with valid checksums. Payload bytes follow from the sequence number.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut header = etherparse::TcpHeader::new(self.port, 80, self.sequence, self.window);
        header.acknowledgment_number = self.ack;
        header.urgent_pointer = self.urgent;
        header.set_options_raw(&self.options).unwrap();
        let payload: Vec<_> = (self.sequence..=u32::MAX)
            .chain(0..)
            .take(self.payload)
            .map(|n| (n % 251) as u8)
            .collect();
        let builder = etherparse::PacketBuilder::ethernet2(
            [2, 0, 0, 0, 0, self.source_mac],
            [2, 0, 0, 0, 0, 1],
        );
        let builder = if self.v6 {
            let mut source = [0x20; 16];
            source[15] = self.source;
            builder.ip(etherparse::IpHeaders::Ipv6(
                etherparse::Ipv6Header {
                    traffic_class: self.tos,
                    flow_label: self.label.try_into().unwrap(),
                    hop_limit: self.ttl,
                    source,
                    destination: [0x21; 16],
                    ..Default::default()
                },
                Default::default(),
            ))
        } else {
            let (source, to) = ([10, 0, 0, self.source], [10, 0, 0, 1]);
            let mut ip = etherparse::Ipv4Header::new(0, self.ttl, 6.into(), source, to).unwrap();
            ip.dscp = (self.tos >> 2).try_into().unwrap();
            ip.ecn = (self.tos & 3).try_into().unwrap();
            ip.identification = self.id;
            ip.dont_fragment = self.df;
            builder.ip(etherparse::IpHeaders::Ipv4(ip, Default::default()))
        };
        for (bit, flag) in [
            (FIN, &mut header.fin),
            (SYN, &mut header.syn),
            (RST, &mut header.rst),
            (PSH, &mut header.psh),
            (ACK, &mut header.ack),
            (URG, &mut header.urg),
            (ECE, &mut header.ece),
            (CWR, &mut header.cwr),
        ] {
            *flag = self.flags & bit != 0;
        }
        let mut bytes = Vec::new();
        builder
            .tcp_header(header)
            .write(&mut bytes, &payload)
            .unwrap();
        bytes
    }
}

/// Segments of `lens` bytes, one after the other.
pub(crate) fn train(v6: bool, lens: &[usize]) -> Vec<Tcp> {
    let mut segments: Vec<Tcp> = Vec::new();
    for len in lens {
        segments.push(match segments.last() {
            Some(last) => last.next(*len),
            None => Tcp::new(v6, *len),
        });
    }
    segments
}

/// A burst, and what leaves.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) frames: Vec<Vec<u8>>,
    /// The number of segments in each frame that leaves, those of one connection in order.
    pub(crate) joined: Vec<usize>,
    /// Linux joins the same; where not, the documentation of `gro_headers` says why.
    pub(crate) as_linux: bool,
}

fn case(name: &str, segments: &[Tcp], joined: &[usize]) -> Case {
    raw(name, segments.iter().map(Tcp::frame).collect(), joined)
}

fn raw(name: &str, frames: Vec<Vec<u8>>, joined: &[usize]) -> Case {
    Case {
        name: name.to_owned(),
        frames,
        joined: joined.to_vec(),
        as_linux: true,
    }
}

/// Three segments of which the second is different in something: it starts a new train, which the
/// third, equal to the first, does not continue.
fn second_differs(name: &str, v6: bool, change: impl FnOnce(&mut Tcp)) -> Case {
    let mut segments = train(v6, &[1000; 3]);
    change(&mut segments[1]);
    case(name, &segments, &[1, 1, 1])
}

/// All cases of both IP versions.
pub(crate) fn all() -> Vec<Case> {
    let both = [false, true].map(|v6| {
        let name = if v6 { "v6" } else { "v4" };
        let cases = lengths(v6)
            .into_iter()
            .chain(flags(v6))
            .chain(headers(v6))
            .chain(corrupt(v6));
        cases
            .map(|case| Case {
                name: format!("{} {name}", case.name),
                ..case
            })
            .collect::<Vec<_>>()
    });
    both.into_iter()
        .flatten()
        .chain(identifications())
        .collect()
}

fn lengths(v6: bool) -> Vec<Case> {
    let interleaved = train(v6, &[1448; 3])
        .into_iter()
        .flat_map(|segment| {
            let other = segment.clone().with(|tcp| tcp.port = 9);
            [segment, other]
        })
        .collect::<Vec<_>>();
    vec![
        case("equal lengths", &train(v6, &[1448; 10]), &[10]),
        case("one segment", &train(v6, &[1448]), &[1]),
        case("one byte each", &train(v6, &[1; 5]), &[5]),
        case("odd lengths", &train(v6, &[333; 7]), &[7]),
        case(
            "the last one is shorter",
            &train(v6, &[1000, 1000, 1]),
            &[3],
        ),
        case(
            "after a shorter one",
            &train(v6, &[1000, 999, 1000, 1000]),
            &[2, 2],
        ),
        case(
            "a longer one",
            &train(v6, &[999, 1000, 1000, 999, 999]),
            &[1, 3, 1],
        ),
        case("no payload", &train(v6, &[0, 0]), &[1, 1]),
        case(
            "no payload between",
            &train(v6, &[100, 100, 0, 100, 100]),
            &[2, 1, 2],
        ),
        case("64 KiB", &train(v6, &[1448; 46]), &[45, 1]),
        case("two connections", &interleaved, &[3, 3]),
        case(
            "another MAC",
            &[
                Tcp::new(v6, 9),
                Tcp::new(v6, 9).next(9).with(|tcp| tcp.source_mac = 11),
            ],
            &[1, 1],
        ),
        case(
            "another address",
            &[
                Tcp::new(v6, 9),
                Tcp::new(v6, 9).next(9).with(|tcp| tcp.source = 11),
            ],
            &[1, 1],
        ),
        second_differs("a gap", v6, |tcp| tcp.sequence += 1),
        second_differs("a retransmission", v6, |tcp| tcp.sequence -= 1000),
    ]
}

fn flags(v6: bool) -> Vec<Case> {
    let flagged = |at: usize, flag| {
        let mut segments = train(v6, &[1000; 4]);
        segments[at].flags |= flag;
        segments
    };
    let all = |flag| {
        let mut segments = train(v6, &[1000; 4]);
        segments.iter_mut().for_each(|tcp| tcp.flags |= flag);
        segments
    };
    let mut cases = vec![
        case("PSH on the second", &flagged(1, PSH), &[2, 2]),
        case("PSH on the last", &flagged(3, PSH), &[4]),
        case("PSH on the first", &flagged(0, PSH), &[1, 3]),
        case("FIN on the last", &flagged(3, FIN), &[4]),
        case("FIN on the first", &flagged(0, FIN), &[1, 3]),
        case("PSH on all", &all(PSH), &[1; 4]),
        case("URG on the second", &flagged(1, URG), &[1, 1, 2]),
        case("SYN on the first", &flagged(0, SYN), &[1, 3]),
        case("RST on the third", &flagged(2, RST), &[2, 1, 1]),
        case("ECE on the second", &flagged(1, ECE), &[1, 1, 2]),
        case("ECE on all", &all(ECE), &[4]),
        case("CWR on the second", &flagged(1, CWR), &[1, 1, 2]),
    ];
    // Depends on the kernel: see `gro_headers`.
    for (name, segments) in [
        ("CWR on the first", flagged(0, CWR)),
        ("CWR on all", all(CWR)),
    ] {
        let joined = if name.ends_with("all") {
            vec![1; 4]
        } else {
            vec![1, 3]
        };
        cases.push(Case {
            as_linux: false,
            ..case(name, &segments, &joined)
        });
    }
    cases
}

fn headers(v6: bool) -> Vec<Case> {
    let mut cases = vec![
        second_differs("TTL", v6, |tcp| tcp.ttl = 63),
        second_differs("DSCP", v6, |tcp| tcp.tos = 8),
        second_differs("acknowledgment", v6, |tcp| tcp.ack = 78),
        second_differs("window", v6, |tcp| tcp.window = 502),
        second_differs("timestamp", v6, |tcp| tcp.options[7] = 10),
        second_differs("no options", v6, |tcp| tcp.options.clear()),
    ];
    let mut marked = train(v6, &[1000; 4]);
    marked.iter_mut().for_each(|tcp| tcp.tos = 2);
    marked[2].tos = 3;
    cases.push(case("congestion experienced", &marked, &[2, 1, 1]));
    let mut plain = train(v6, &[1000; 3]);
    plain.iter_mut().for_each(|tcp| tcp.options.clear());
    cases.push(case("without options", &plain, &[3]));
    let mut long = train(v6, &[1000; 3]);
    long.iter_mut().for_each(|tcp| tcp.options = vec![1; 40]);
    cases.push(case("40 bytes of options", &long, &[3]));
    cases.push(Case {
        as_linux: false,
        ..second_differs("urgent pointer", v6, |tcp| tcp.urgent = 1)
    });
    if v6 {
        let mut labeled = train(v6, &[1000; 3]);
        labeled.iter_mut().for_each(|tcp| tcp.label = 0x12345);
        cases.push(case("flow label", &labeled, &[3]));
        cases.push(second_differs("another flow label", v6, |tcp| {
            tcp.label = 1;
        }));
    }
    cases
}

/// The second of four frames has something that keeps it from being joined.
fn corrupt(v6: bool) -> Vec<Case> {
    let changed = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut frames: Vec<_> = train(v6, &[1000; 4]).iter().map(Tcp::frame).collect();
        change(&mut frames[1]);
        raw(name, frames, &[1, 1, 2])
    };
    let mut cases = vec![
        changed("corrupt payload", &|frame| *frame.last_mut().unwrap() ^= 1),
        changed("corrupt checksum", &|frame| {
            frame[if v6 { 70 } else { 50 }] ^= 1;
        }),
        changed("padding", &|frame| frame.push(0)),
    ];
    if !v6 {
        let mut corrupt = changed("corrupt header checksum", &|frame| frame[24] ^= 1);
        // Linux delivers it before the segment that came first.
        corrupt.as_linux = false;
        cases.push(corrupt);
        for (name, flags) in [("more fragments", 0x60), ("reserved bit", 0xc0)] {
            let case = changed(name, &|frame| {
                frame[20] = flags;
                frame[24..26].fill(0);
                let sum = etherparse::checksum::Sum16BitWords::new().add_slice(&frame[14..34]);
                frame[24..26].copy_from_slice(&sum.ones_complement().to_ne_bytes());
            });
            cases.push(Case {
                as_linux: flags == 0xc0,
                ..case
            });
        }
    }
    cases
}

/// The rule of the IPv4 identification.
fn identifications() -> Vec<Case> {
    let with = |name: &str, df: bool, ids: [u16; 4], joined: &[usize]| {
        let mut segments = train(false, &[1000; 4]);
        for (tcp, id) in segments.iter_mut().zip(ids) {
            (tcp.df, tcp.id) = (df, id);
        }
        case(name, &segments, joined)
    };
    let mut df_differs = train(false, &[1000; 3]);
    df_differs[1].df = false;
    vec![
        with("consecutive", true, [65_534, 65_535, 0, 1], &[4]),
        with(
            "consecutive without DF",
            false,
            [65_534, 65_535, 0, 1],
            &[4],
        ),
        with("the same with DF", true, [7; 4], &[4]),
        with("zero with DF", true, [0; 4], &[4]),
        with(
            "first the same, then consecutive",
            true,
            [7, 7, 8, 9],
            &[2, 2],
        ),
        with(
            "first consecutive, then the same",
            true,
            [7, 8, 8, 8],
            &[2, 2],
        ),
        with("a gap in the identification", true, [7, 8, 10, 11], &[2, 2]),
        with("backwards", true, [7, 6, 5, 4], &[1; 4]),
        case("DF differs", &df_differs, &[1, 1, 1]),
        Case {
            as_linux: false,
            ..with("the same without DF", false, [7; 4], &[1; 4])
        },
    ]
}
