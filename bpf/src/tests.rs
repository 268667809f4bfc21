//! The programs' verdicts, by BPF_PROG_RUN.

use std::net::Ipv4Addr;

use libbpf_rs::ProgramInput;

use super::*;

/// XDP_DROP and XDP_PASS (include/uapi/linux/bpf.h).
const DROP: u32 = 1;
const PASS: u32 = 2;

/// The program's verdicts on successive buffers on queue 0.
fn run<T: AsRef<[u8]>>(programs: &mut Programs, buffers: &[T]) -> Vec<u32> {
    let name = programs.names.0;
    let program = programs
        .object
        .progs_mut()
        .find(|program| program.name() == name)
        .unwrap();
    let run = |data: &T| {
        let input = ProgramInput {
            data_in: Some(data.as_ref()),
            ..ProgramInput::default()
        };
        program.test_run(input).unwrap().return_value
    };
    buffers.iter().map(run).collect()
}

/// As [`run`], on buffers of these lengths, none of them VXLAN.
fn verdicts(programs: &mut Programs, lengths: &[usize]) -> Vec<u32> {
    let buffers: Vec<_> = lengths.iter().map(|length| vec![0xaa; *length]).collect();
    run(programs, &buffers)
}

fn dropped(programs: &Programs) -> (u64, u64) {
    let first = programs.drops(1)[0];
    (first.segments, first.no_socket)
}

#[test]
fn what_follows_a_full_buffer_is_dropped_up_to_the_end_of_the_frame() {
    let mut programs = Programs::load(Kind::Underlay, 2).unwrap();
    programs.set_longest(1522).unwrap();
    assert_eq!(
        verdicts(&mut programs, &[3072, 3072, 500, 500]),
        [PASS, DROP, DROP, PASS]
    );
    // With a time stamp before the frame.
    assert_eq!(
        verdicts(&mut programs, &[2048 - 16, 60, 60]),
        [PASS, DROP, PASS]
    );
    assert_eq!(dropped(&programs), (3, 0));
    assert_eq!(programs.drops(2)[1], Drops::default());
}

#[test]
fn frames_that_the_mtu_allows_and_longer_ones_that_end_in_their_buffer_stand_alone() {
    let mut programs = Programs::load(Kind::Underlay, 1).unwrap();
    programs.set_longest(2048).unwrap();
    assert_eq!(
        verdicts(&mut programs, &[1024, 60, 2048, 60, 3000, 60]),
        [PASS; 6]
    );
    assert_eq!(dropped(&programs), (0, 0));
}

#[test]
fn in_copy_mode_and_with_other_drivers_nothing_follows_a_frame_that_is_passed() {
    let mut programs = Programs::load(Kind::Underlay, 1).unwrap();
    assert_eq!(verdicts(&mut programs, &[3072, 60]), [PASS; 2]);
    programs.set_longest(1522).unwrap();
    programs.set_copies(0, true).unwrap();
    assert_eq!(verdicts(&mut programs, &[3072, 60]), [PASS; 2]);
}

/// Every piece of a tenant's frame that the driver has split is dropped and counted as such, the
/// first one too: none of it is a frame that the tenant sent (finding N2).
#[test]
fn no_piece_of_a_split_frame_of_a_tenant_is_taken_for_a_frame() {
    for copies in [false, true] {
        let mut programs = Programs::load(Kind::Tenant, 1).unwrap();
        programs.set_longest(1522).unwrap();
        programs.set_copies(0, copies).unwrap();
        assert_eq!(
            verdicts(&mut programs, &[3072, 3072, 500, 500]),
            [DROP; 4],
            "without a socket, nothing is passed"
        );
        assert_eq!(dropped(&programs), (3, 1), "copies: {copies}");
        verdicts(&mut programs, &[1500, 1522, 60]);
        assert_eq!(dropped(&programs), (3, 4), "whole frames");
    }
}

/// Ethernet with `tags`, IPv4 with `options` and fragment field `fragment`, UDP to
/// 203.0.113.2:4789.
pub(crate) fn ipv4(tags: &[[u8; 4]], options: usize, fragment: u16) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend(tags.concat());
    frame.extend([0x08, 0x00, 0x45 + (options / 4) as u8, 0, 0, 50, 0, 0]);
    frame.extend(fragment.to_be_bytes());
    frame.extend([64, 17, 0, 0, 203, 0, 113, 9, 203, 0, 113, 2]);
    frame.extend(vec![1; options]);
    frame.extend(udp());
    frame
}

/// Ethernet, IPv6 with these extension headers (type, bytes), UDP to [2001:db8::2]:4789.
pub(crate) fn ipv6(extensions: &[(u8, [u8; 8])]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    let first = extensions.first().map_or(17, |(kind, _)| *kind);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 50, first, 64]);
    frame.extend([0; 16]);
    frame.extend(
        "2001:db8::2"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets(),
    );
    for (place, (_, bytes)) in extensions.iter().enumerate() {
        let next = extensions.get(place + 1).map_or(17, |(kind, _)| *kind);
        frame.push(next);
        frame.extend(&bytes[1..]);
    }
    frame.extend(udp());
    frame
}

fn udp() -> Vec<u8> {
    let mut udp = vec![0xc0, 0];
    udp.extend(4789u16.to_be_bytes());
    udp.resize(60, 0);
    udp
}

/// The endpoints of [`ours`].
pub(crate) fn locals() -> Vec<IpAddr> {
    vec![
        Ipv4Addr::new(203, 0, 113, 2).into(),
        "2001:db8::2".parse().unwrap(),
    ]
}

/// Packets that are VXLAN to this VTEP, each in another way.
pub(crate) fn ours() -> Vec<Vec<u8>> {
    let (ctag, stag) = ([0x81, 0, 0, 7], [0x88, 0xa8, 0, 8]);
    let hop_by_hop = (0, [0; 8]);
    let (options, routing) = ((60, [0; 8]), (43, [0; 8]));
    let first = (44, [0, 0, 0, 1, 0, 0, 0, 9]);
    vec![
        ipv4(&[], 0, 0),
        ipv4(&[], 0, 0x4000),
        ipv4(&[ctag], 0, 0),
        ipv4(&[stag, ctag], 4, 0),
        ipv4(&[], 40, 0),
        ipv4(&[], 0, 0x2000),
        ipv6(&[]),
        ipv6(&[hop_by_hop]),
        ipv6(&[options, routing, first]),
        ipv6(&[hop_by_hop, options, routing, first]),
    ]
}

/// Packets that are the host's.
pub(crate) fn hosts() -> Vec<Vec<u8>> {
    // A fragment without a UDP header, another address, another port, another protocol.
    let (mut address, mut port, mut tcp) = (ipv4(&[], 0, 0), ipv4(&[], 0, 0), ipv4(&[], 0, 0));
    address[33] = 3;
    port[37] += 1;
    tcp[23] = 6;
    let later = (44, [0, 0, 0, 8, 0, 0, 0, 9]);
    vec![
        ipv4(&[], 0, 0x2001),
        ipv4(&[], 0, 1),
        ipv6(&[later]),
        ipv6(&[(51, [0; 8])]),
        address,
        port,
        tcp,
        ipv4(&[], 0, 0)[..40].to_vec(),
    ]
}

/// Whatever vtepd would drop of VXLAN to this VTEP is dropped by vtepd, not given to the host: with
/// IP options, extension headers, as a first fragment, tagged twice; and without a socket the frame
/// is counted (findings D5, N2).
#[test]
fn vxlan_to_this_vtep_never_reaches_the_host_stack_and_is_counted() {
    let mut programs = Programs::load(Kind::Underlay, 1).unwrap();
    programs.set_endpoints(&locals(), 4789).unwrap();
    let ours = ours();
    assert_eq!(run(&mut programs, &ours), [DROP; 10]);
    assert_eq!(dropped(&programs), (0, 10));
    let hosts = hosts();
    assert_eq!(run(&mut programs, &hosts), [PASS; 8]);
    assert_eq!(dropped(&programs), (0, 10));
}

/// More endpoints than the map holds: the first ones work, and later changes too (finding D17).
#[test]
fn endpoints_beyond_the_limit_do_not_cost_the_others() {
    let mut programs = Programs::load(Kind::Underlay, 1).unwrap();
    let group = |n: u32| std::net::IpAddr::from(Ipv4Addr::from_bits(0xef00_0000 + n));
    let own = std::net::IpAddr::from([203, 0, 113, 2]);
    let mut many = vec![own];
    many.extend((0..MAX_ENDPOINTS + 10).map(group));
    programs.set_endpoints(&many, 4789).unwrap();
    assert_eq!(run(&mut programs, &[ipv4(&[], 0, 0)]), [DROP]);
    many.drain(1..100);
    programs.set_endpoints(&many, 4789).unwrap();
    assert_eq!(run(&mut programs, &[ipv4(&[], 0, 0)]), [DROP]);
    assert_eq!(programs.endpoints.len(), MAX_ENDPOINTS as usize + 11 - 99);
}

/// Where the map can't be written, the next call continues: what was deleted is not missed, and what
/// was not added is added.
#[test]
fn endpoints_that_could_not_be_set_are_set_later() {
    let mut programs = Programs::load(Kind::Underlay, 1).unwrap();
    let [own, group, other]: [std::net::IpAddr; 3] = [
        [203, 0, 113, 2].into(),
        [239, 0, 0, 1].into(),
        [198, 51, 100, 1].into(),
    ];
    programs.set_endpoints(&[other], 4789).unwrap();
    let foreign = |number: u32| {
        let mut key = [0xff; 20];
        key[..4].copy_from_slice(&number.to_ne_bytes());
        key
    };
    let map = programs.map("endpoints").unwrap();
    for number in 1..MAX_ENDPOINTS {
        let added = map.update(&foreign(number), &[1], MapFlags::ANY);
        added.unwrap();
    }
    let wanted = [own, group];
    assert!(programs.set_endpoints(&wanted, 4789).is_err());
    assert!(programs.set_endpoints(&wanted, 4789).is_err());
    let map = programs.map("endpoints").unwrap();
    map.delete(&foreign(7)).unwrap();
    programs.set_endpoints(&wanted, 4789).unwrap();
    assert_eq!(programs.endpoints.len(), 2);
    assert_eq!(run(&mut programs, &[ipv4(&[], 0, 0)]), [DROP]);
}

#[test]
fn the_number_of_an_error_is_known() {
    for number in [1, 22, 24] {
        let error = Error::from(std::io::Error::from_raw_os_error(number));
        assert_eq!(
            errno(&error.context("load it").context("twice")),
            Some(number)
        );
    }
    assert_eq!(
        errno(&Error::from(std::io::Error::other("no number"))),
        None
    );
}
