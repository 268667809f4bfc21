//! The socket filter (classic BPF) of a listening socket: drops packets of neighbors with GTSM
//! (RFC 5082) whose TTL is too low.
//!
//! One socket listens for all neighbors of a family, so `IP_MINTTL` can't tell them apart. An
//! accepted connection has the option of its neighbor, but until then the kernel acknowledges and
//! keeps what arrives, and it does not check the option of the listener for the segment that
//! completes the handshake (`tcp_v4_rcv`, net/ipv4/tcp_ipv4.c). A filter is applied to every
//! segment, and connections that are not yet accepted inherit it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use socket2::{SockFilter, SockRef};

/// Most instructions of a program: `BPF_MAXINSNS` (include/uapi/linux/bpf_common.h). A neighbor has
/// 2 over IPv4, and over IPv6 where all addresses are of one /96; at most 11, and 3 more with a
/// lower TTL than others.
const MAX_INSTRUCTIONS: usize = 4096;

/// Loads 32 or 8 bits at an offset: `BPF_LD | BPF_ABS | BPF_W` or `BPF_B`.
const LOAD_WORD: u16 = 0x20;
const LOAD_OCTET: u16 = 0x30;
/// Compares what was loaded: `BPF_JMP | BPF_K | BPF_JEQ` or `BPF_JGE`.
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
/// Leaves out any number of instructions: `BPF_JMP | BPF_JA`.
const SKIP: u16 = 0x05;
/// Ends with the number of octets to keep of the packet: `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// Offsets from here on are from the start of the IP header: `SKF_NET_OFF`, -0x100000
/// (include/uapi/linux/filter.h).
const IP_HEADER: u32 = 0xfff0_0000;

/// An instruction, as `struct sock_filter` (include/uapi/linux/filter.h). Jumps count the
/// instructions that are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    operand: u32,
}

const fn plain(code: u16, operand: u32) -> Instruction {
    jump(code, operand, 0, 0)
}

const fn jump(code: u16, operand: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction {
        code,
        if_true,
        if_false,
        operand,
    }
}

const PASS: Instruction = plain(RETURN, u32::MAX);
const DROP: Instruction = plain(RETURN, 0);

/// Where the TTL and the source address are in an IP header.
struct Fields {
    ttl: u32,
    source: u32,
}

/// RFC 791 section 3.1.
const IPV4: Fields = Fields { ttl: 8, source: 12 };
/// RFC 8200 section 3.
const IPV6: Fields = Fields { ttl: 7, source: 8 };

/// The words of an address that are still to be compared, and the least TTL of its neighbor.
type Rest = (Vec<u32>, u8);

fn words(ip: IpAddr) -> Vec<u32> {
    let octets = match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let (words, _) = octets.as_chunks::<4>();
    words.iter().map(|word| u32::from_be_bytes(*word)).collect()
}

/// The program for one family, with the least TTL of each neighbor that has GTSM. Packets of
/// neighbors that send with 255 pass after three instructions.
fn program(v6: bool, least: &BTreeMap<IpAddr, u8>) -> Vec<Instruction> {
    let fields = if v6 { IPV6 } else { IPV4 };
    let Some(greatest) = least.values().copied().max() else {
        return vec![PASS];
    };
    let neighbors: Vec<Rest> = least.iter().map(|(ip, ttl)| (words(*ip), *ttl)).collect();
    let mut program = pass_from(greatest, &fields).to_vec();
    program.extend(search(&neighbors, 0, greatest, &fields));
    program
}

/// Passes packets with at least this TTL.
fn pass_from(ttl: u8, fields: &Fields) -> [Instruction; 3] {
    [
        plain(LOAD_OCTET, IP_HEADER + fields.ttl),
        jump(IF_AT_LEAST, ttl.into(), 0, 1),
        PASS,
    ]
}

/// Compares the source address from the word at index `place` on with those of `neighbors`, which
/// are in order and have the same words before. `greatest`: the packet's TTL is lower.
fn search(neighbors: &[Rest], place: usize, greatest: u8, fields: &Fields) -> Vec<Instruction> {
    let offset = IP_HEADER + fields.source + 4 * place as u32;
    let mut program = vec![plain(LOAD_WORD, offset)];
    for same in neighbors.chunk_by(|(a, _), (b, _)| a[place] == b[place]) {
        let (words, least) = &same[0];
        let found = if place + 1 < words.len() {
            search(same, place + 1, greatest, fields)
        } else if *least < greatest {
            let mut check = pass_from(*least, fields).to_vec();
            check.push(DROP);
            check
        } else {
            vec![DROP]
        };
        match u8::try_from(found.len()) {
            Ok(len) => program.push(jump(IF_EQUAL, words[place], 0, len)),
            Err(_) => program.extend([
                jump(IF_EQUAL, words[place], 1, 0),
                plain(SKIP, found.len() as u32),
            ]),
        }
        program.extend(found);
    }
    program.push(PASS);
    program
}

fn attach_program(socket: impl AsFd, program: &[Instruction]) -> io::Result<()> {
    let program: Vec<_> = program
        .iter()
        .map(|i| SockFilter::new(i.code, i.if_true, i.if_false, i.operand))
        .collect();
    SockRef::from(&socket).attach_filter(&program)
}

/// Makes `socket` drop packets from each of `neighbors` with a lower TTL or hop limit than given,
/// and no others, in place of what it dropped before. After an error it drops nothing.
///
/// # Errors
/// `InvalidInput` if the program would be longer than [`MAX_INSTRUCTIONS`]. ENOMEM if it, the former
/// one and the TCP-MD5 keys are larger than net.core.optmem_max.
pub(super) fn attach(
    socket: impl AsFd,
    v6: bool,
    neighbors: &BTreeMap<IpAddr, u8>,
) -> io::Result<()> {
    let program = program(v6, neighbors);
    let attached = if program.len() > MAX_INSTRUCTIONS {
        let error = format!("too many neighbors: {}", neighbors.len());
        Err(io::Error::new(io::ErrorKind::InvalidInput, error))
    } else {
        attach_program(&socket, &program)
    };
    if attached.is_err() {
        // The former program may drop what is allowed now.
        attach_program(&socket, &[PASS])?;
    }
    attached
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program on an IP header; true if the packet passes.
    fn passes(program: &[Instruction], header: &[u8]) -> bool {
        let (mut at, mut value) = (0, 0);
        loop {
            let Instruction {
                code,
                if_true,
                if_false,
                operand,
            } = program[at];
            let offset = || (operand - IP_HEADER) as usize;
            at += 1;
            let holds = match code {
                LOAD_OCTET => {
                    value = header[offset()].into();
                    continue;
                }
                LOAD_WORD => {
                    let word = header[offset()..].first_chunk().unwrap();
                    value = u32::from_be_bytes(*word);
                    continue;
                }
                IF_EQUAL => value == operand,
                IF_AT_LEAST => value >= operand,
                SKIP => {
                    at += operand as usize;
                    continue;
                }
                RETURN => return operand != 0,
                _ => panic!("unknown instruction {code:#x}"),
            };
            at += usize::from(if holds { if_true } else { if_false });
        }
    }

    fn header(source: IpAddr, ttl: u8) -> Vec<u8> {
        let mut header = vec![0; 40];
        match source {
            IpAddr::V4(v4) => {
                header[8] = ttl;
                header[12..16].copy_from_slice(&v4.octets());
            }
            IpAddr::V6(v6) => {
                header[7] = ttl;
                header[8..24].copy_from_slice(&v6.octets());
            }
        }
        header
    }

    fn address(v6: bool, number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        if v6 {
            IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, number])
        } else {
            IpAddr::from([203, 0, high, low])
        }
    }

    #[test]
    fn packets_of_a_neighbor_pass_from_its_least_ttl_on() {
        for v6 in [false, true] {
            // Also more than 255 instructions, beyond which jumps have another form.
            let least = [(1, 255), (2, 1), (3, 254), (4, 255), (5, 2)];
            let more = (8..200).map(|n| (n, 250 + n as u8 % 6));
            let all = least.into_iter().chain(more);
            let neighbors: BTreeMap<_, _> = all.map(|(n, ttl)| (address(v6, n), ttl)).collect();
            let program = program(v6, &neighbors);
            for number in [0, 1, 2, 3, 4, 5, 6, 8, 9, 100, 198, 199, 200] {
                let source = address(v6, number);
                let least = neighbors.get(&source).copied().unwrap_or(0);
                for ttl in 0..=255 {
                    let passed = passes(&program, &header(source, ttl));
                    assert_eq!(passed, ttl >= least, "{source}, TTL {ttl}");
                }
            }
        }
    }

    #[test]
    fn every_word_of_the_source_address_is_compared() {
        let source: IpAddr = "2001:db8:1:2:3:4:5:6".parse().unwrap();
        let program = program(true, &BTreeMap::from([(source, 255)]));
        assert!(!passes(&program, &header(source, 254)));
        for place in 8..24 {
            let mut other = header(source, 254);
            other[place] ^= 1;
            assert!(passes(&program, &other), "octet {place}");
        }
    }

    /// The kernel takes the largest programs, and a socket with too many neighbors drops nothing.
    #[test]
    fn the_number_of_neighbors_is_bounded() {
        for (v6, most) in [(false, 2045), (true, 2039)] {
            let any = if v6 { "[::1]:0" } else { "127.0.0.1:0" };
            let socket = std::net::TcpListener::bind(any).unwrap();
            let neighbors = |count| (0..count).map(|n| (address(v6, n), 255)).collect();
            attach(&socket, v6, &neighbors(most)).unwrap();
            let error = attach(&socket, v6, &neighbors(most + 1)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            attach(&socket, v6, &neighbors(0)).unwrap();
        }
    }
}
