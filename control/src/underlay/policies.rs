//! Policies of the host that vtepd bypasses: IPsec policies (xfrm) for VXLAN, and tc and nftables'
//! family `netdev` on the interfaces that it uses. They do not apply to its frames, which must be
//! said.

use std::io;
use std::net::IpAddr;

use hashbrown::HashMap;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::tc::{TcAttribute, TcHandle};
use netlink_sys::protocols::NETLINK_XFRM;

use super::UnderlayConfig;
use super::netlink::RequestSocket;
use super::nft::NetdevChains;
use super::raw::{self, RawRequest, attributes};
use super::route::covers;

/// Queueing disciplines that shape and filter nothing: the kernel's defaults.
const DEFAULTS: [&str; 9] = [
    "noqueue",
    "mq",
    "pfifo_fast",
    "pfifo",
    "bfifo",
    "pfifo_head_drop",
    "fq_codel",
    "fq",
    "cake_mq",
];

/// XFRM_MSG_GETPOLICY, XFRM_MSG_NEWPOLICY, XFRMA_TMPL, XFRM_POLICY_BLOCK, XFRM_POLICY_OUT
/// (include/uapi/linux/xfrm.h).
const GET_POLICY: u16 = 0x15;
const NEW_POLICY: u16 = 0x13;
/// XFRM_MSG_GETDEFAULT, of request and reply (Linux 5.15); XFRM_USERPOLICY_BLOCK.
const GET_DEFAULT: u16 = 0x28;
const DEFAULT_BLOCK: u8 = 1;
const TEMPLATE: u16 = 5;
const BLOCK: u8 = 1;
const OUT: u8 = 1;

/// Bytes of `struct xfrm_userpolicy_info`.
const POLICY: usize = 168;

/// What was found at the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HostPolicies {
    /// All IPsec policies, and what the host does with packets that match none.
    pub(super) ipsec: Vec<IpsecPolicy>,
    /// Queueing disciplines other than the defaults, by the index of their interface.
    pub(super) qdiscs: HashMap<u32, Vec<String>>,
    /// Interfaces with chains of nftables.
    chains: NetdevChains,
}

impl HostPolicies {
    /// Reads them. What can't be read counts as absent: without CONFIG_XFRM_USER, CONFIG_NET_SCHED or
    /// CONFIG_NF_TABLES there are none. The kernel takes its rtnl lock for a list of queueing
    /// disciplines.
    pub(super) fn read() -> Self {
        let ipsec = read_ipsec();
        let qdiscs = RequestSocket::open().and_then(|mut socket| socket.dump(&qdisc_request()));
        let chains = NetdevChains::read();
        let failed = [
            ipsec.as_ref().err(),
            qdiscs.as_ref().err(),
            chains.as_ref().err(),
        ];
        for error in failed.into_iter().flatten() {
            tracing::debug!(%error, "can't read IPsec policies, tc or nftables");
        }
        Self {
            ipsec: ipsec.unwrap_or_default(),
            qdiscs: qdiscs_of(&qdiscs.unwrap_or_default()),
            chains: chains.unwrap_or_default(),
        }
    }
}

/// The selector and the action of an IPsec policy (`struct xfrm_userpolicy_info`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IpsecPolicy {
    source: (IpAddr, u8),
    destination: (IpAddr, u8),
    /// UDP destination port, and the mask of its bits that count.
    port: (u16, u16),
    /// IP protocol, 0 = any.
    protocol: u8,
    /// Of the policies that a packet matches, the one with the lowest number applies.
    priority: u32,
    out: bool,
    block: bool,
    /// Packets must be encrypted or authenticated.
    transformed: bool,
}

impl IpsecPolicy {
    /// Parses the payload of XFRM_MSG_NEWPOLICY.
    fn parse(payload: &[u8]) -> Option<Self> {
        let info: &[u8; POLICY] = payload.first_chunk()?;
        let v6 = u16::from_ne_bytes([info[40], info[41]]) == 10;
        let address = |at: usize| -> Option<IpAddr> {
            let bytes: &[u8; 16] = info.get(at..)?.first_chunk()?;
            Some(if v6 {
                IpAddr::from(*bytes)
            } else {
                IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
            })
        };
        let be16 = |at: usize| u16::from_be_bytes([info[at], info[at + 1]]);
        Some(Self {
            destination: (address(0)?, info[42]),
            source: (address(16)?, info[43]),
            port: (be16(32), be16(34)),
            protocol: info[44],
            priority: u32::from_ne_bytes([info[152], info[153], info[154], info[155]]),
            out: info[160] == OUT,
            block: info[161] == BLOCK,
            transformed: attributes(&payload[POLICY..]).any(|(kind, _)| kind == TEMPLATE),
        })
    }

    /// What the host does with packets of one direction that match no policy: it blocks them.
    fn block_all(any: IpAddr, out: bool) -> Self {
        Self {
            source: (any, 0),
            destination: (any, 0),
            port: (0, 0),
            protocol: 0,
            priority: u32::MAX,
            out,
            block: true,
            transformed: false,
        }
    }

    /// Whether VXLAN of this VTEP may match it, whatever the remote VTEP is.
    fn concerns(&self, config: &UnderlayConfig) -> bool {
        const UDP: u8 = 17;
        let (port, mask) = self.port;
        let own = if self.out {
            self.source
        } else {
            self.destination
        };
        let locals = [
            config.local_v4.map(IpAddr::V4),
            config.local_v6.map(IpAddr::V6),
        ];
        (self.protocol == 0 || self.protocol == UDP)
            && (port ^ config.udp_port) & mask == 0
            && locals.into_iter().flatten().any(|local| covers(own, local))
    }

    /// The addresses of remote VTEPs that it is for.
    const fn remote(&self) -> (IpAddr, u8) {
        if self.out {
            self.destination
        } else {
            self.source
        }
    }

    /// Whether it applies to VXLAN with one of `remotes`, or any if there are none: it matches, and none
    /// of the `exceptions` comes first. All of them concern this VTEP.
    fn applies(&self, remotes: &[IpAddr], exceptions: &[&Self]) -> bool {
        let is_excepted = |remote: IpAddr, length: u8| {
            exceptions.iter().any(|exception| {
                exception.out == self.out
                    && exception.priority < self.priority
                    && exception.remote().1 <= length
                    && covers(exception.remote(), remote)
            })
        };
        let (prefix, length) = self.remote();
        if remotes.is_empty() {
            return !is_excepted(prefix, length);
        }
        let mut matched = remotes
            .iter()
            .filter(|remote| covers((prefix, length), **remote));
        matched.any(|remote| !is_excepted(*remote, u8::MAX))
    }

    /// One sentence, with the remedy.
    fn describe(&self) -> String {
        let (source, destination) = (self.source, self.destination);
        let wanted = if self.block {
            "blocks"
        } else {
            "requires IPsec for"
        };
        let direction = if self.out { "out" } else { "in" };
        format!(
            "an IPsec policy (src {}/{} dst {}/{} dir {direction}) {wanted} VXLAN of this VTEP, and does not apply: \
             packets are neither encrypted nor blocked; encrypt on a router or use MACsec, or exclude the VTEPs from \
             the policy (`ip xfrm policy`)",
            source.0, source.1, destination.0, destination.1
        )
    }
}

/// Reads all IPsec policies, and adds one for each default that blocks.
fn read_ipsec() -> io::Result<Vec<IpsecPolicy>> {
    let socket = raw::open(NETLINK_XFRM)?;
    let mut all = Vec::new();
    let policies = RawRequest {
        kind: GET_POLICY,
        answer: NEW_POLICY,
        payload: &[],
        dump: true,
    };
    raw::ask(&socket, policies, &mut |payload| {
        all.extend(IpsecPolicy::parse(payload));
    })?;
    // Not dumped: with an argument of the length of the reply.
    let default = RawRequest {
        kind: GET_DEFAULT,
        answer: GET_DEFAULT,
        payload: &[0; 4],
        dump: false,
    };
    // Kernels before 5.15 have no such default.
    let _ = raw::ask(&socket, default, &mut |payload| {
        all.extend(defaults(payload));
    });
    Ok(all)
}

/// The defaults that block, as policies, from `struct xfrm_userpolicy_default`: in, forward, out.
fn defaults(reply: &[u8]) -> Vec<IpsecPolicy> {
    let Some([input, _, output]) = reply.first_chunk() else {
        return Vec::new();
    };
    let any = [IpAddr::from([0; 4]), IpAddr::from([0; 16])];
    [(*input, false), (*output, true)]
        .into_iter()
        .filter(|(action, _)| *action == DEFAULT_BLOCK)
        .flat_map(|(_, out)| any.map(|any| IpsecPolicy::block_all(any, out)))
        .collect()
}

/// The request for all queueing disciplines.
fn qdisc_request() -> Message {
    Message::GetQueueDiscipline(Default::default())
}

/// The queueing disciplines other than the defaults, from a dump of all.
fn qdiscs_of(dump: &[Message]) -> HashMap<u32, Vec<String>> {
    let mut all: HashMap<u32, Vec<String>> = HashMap::new();
    for message in dump {
        let Message::NewQueueDiscipline(message) = message else {
            continue;
        };
        let kind = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                TcAttribute::Kind(kind) => Some(kind),
                _ => None,
            });
        // The kernel's own, set by net.core.default_qdisc, have no handle.
        let configured = message.header.handle != TcHandle::UNSPEC;
        let kind = kind.filter(|kind| configured && !DEFAULTS.contains(&kind.as_str()));
        if let (Some(kind), Ok(index)) = (kind, u32::try_from(message.header.index)) {
            let kinds = all.entry(index).or_default();
            if !kinds.contains(kind) {
                kinds.push(kind.clone());
            }
        }
    }
    all
}

impl HostPolicies {
    /// The IPsec policies that VXLAN matches, one sentence each; the first of each kind.
    pub(super) fn bypassed(&self, config: &UnderlayConfig, remotes: &[IpAddr]) -> Vec<String> {
        let concerns = self.ipsec.iter().filter(|policy| policy.concerns(config));
        let (bypassed, exceptions): (Vec<_>, Vec<_>) =
            concerns.partition(|policy| policy.block || policy.transformed);
        let mut all: Vec<&IpsecPolicy> = Vec::new();
        for policy in bypassed {
            let same =
                |other: &&IpsecPolicy| (other.out, other.block) == (policy.out, policy.block);
            if !all.iter().any(same) && policy.applies(remotes, &exceptions) {
                all.push(policy);
            }
        }
        all.into_iter().map(IpsecPolicy::describe).collect()
    }

    /// That tc and nftables of an interface are bypassed, one sentence each, with the remedy.
    pub(super) fn bypassed_on(&self, name: &str, index: u32, tenant: bool) -> Vec<String> {
        let shaped = if tenant {
            "vtepd's frames bypass tc"
        } else {
            "VXLAN of this VTEP bypasses tc, and takes no part in its limits"
        };
        let instead = if tenant {
            "libvirt: <bandwidth>, <filterref>), and limit the guest otherwise"
        } else {
            "`tc filter show`), or shape VXLAN on a switch or router"
        };
        let tc = self.qdiscs.get(&index).map(|kinds| {
            let kinds = kinds.join(", ");
            format!(
                "interface {name} has tc {kinds}, which does not apply: {shaped}; remove it (`tc qdisc show dev \
                 {name}`; {instead}"
            )
        });
        let nft = self.chains.contains(name).then(|| {
            format!(
                "interface {name} has chains of nftables (`nft list chains netdev`), which do not apply: vtepd's \
                 frames bypass nftables; remove them, or filter in the guest, on a switch or router"
            )
        });
        tc.into_iter().chain(nft).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A policy as the kernel sends it.
    fn policy(source: &str, destination: &str, port: (u16, u16), protocol: u8) -> Vec<u8> {
        let mut bytes = vec![0; POLICY];
        for (at, length, text) in [(0, 42, destination), (16, 43, source)] {
            let (address, prefix) = text.split_once('/').unwrap();
            let address: IpAddr = address.parse().unwrap();
            match address {
                IpAddr::V4(v4) => bytes[at..at + 4].copy_from_slice(&v4.octets()),
                IpAddr::V6(v6) => bytes[at..at + 16].copy_from_slice(&v6.octets()),
            }
            let family: u16 = if address.is_ipv6() { 10 } else { 2 };
            bytes[40..42].copy_from_slice(&family.to_ne_bytes());
            bytes[length] = prefix.parse().unwrap();
        }
        bytes[32..34].copy_from_slice(&port.0.to_be_bytes());
        bytes[34..36].copy_from_slice(&port.1.to_be_bytes());
        bytes[44] = protocol;
        bytes[160] = OUT;
        bytes
    }

    fn vtep() -> UnderlayConfig {
        UnderlayConfig {
            local_v4: Some([203, 0, 113, 2].into()),
            local_v6: Some("2001:db8::2".parse().unwrap()),
            udp_port: 4789,
            ..UnderlayConfig::default()
        }
    }

    #[test]
    fn policies_that_vxlan_matches_are_found() {
        let remotes = [
            IpAddr::from([203, 0, 113, 3]),
            "2001:db8::3".parse().unwrap(),
        ];
        let mut template = vec![8, 0, 5, 0, 1, 2, 3, 4];
        template[..2].copy_from_slice(&8u16.to_ne_bytes());
        template[2..4].copy_from_slice(&TEMPLATE.to_ne_bytes());
        let any = (0, 0);
        for (source, destination, port, protocol, expected) in [
            ("0.0.0.0/0", "0.0.0.0/0", any, 0, true),
            ("203.0.113.2/32", "203.0.113.3/32", (4789, 0xffff), 17, true),
            ("203.0.113.0/24", "203.0.113.0/24", (4789, 0xffff), 0, true),
            (
                "203.0.113.0/24",
                "203.0.113.0/24",
                (4790, 0xffff),
                17,
                false,
            ),
            ("203.0.113.0/24", "203.0.113.0/24", any, 6, false),
            ("203.0.113.9/32", "0.0.0.0/0", any, 0, false),
            ("203.0.113.2/32", "203.0.113.9/32", any, 0, false),
            ("2001:db8::/64", "::/0", any, 17, true),
            ("2001:db8:1::/64", "::/0", any, 17, false),
        ] {
            let bytes = policy(source, destination, port, protocol);
            let parse = |bytes: &[u8]| IpsecPolicy::parse(bytes).unwrap();
            let applies = |bytes: &[u8]| found(&[parse(bytes)], &remotes);
            assert!(!applies(&bytes), "allows everything");
            let transformed = [bytes.clone(), template.clone()].concat();
            let found = applies(&transformed);
            assert_eq!(
                found, expected,
                "{source} {destination} {port:?} {protocol}"
            );
            let mut block = bytes;
            block[161] = BLOCK;
            assert_eq!(applies(&block), expected);
        }
        let short = policy("0.0.0.0/0", "0.0.0.0/0", any, 0);
        assert_eq!(IpsecPolicy::parse(&short[..POLICY - 1]), None);
    }

    fn found(policies: &[IpsecPolicy], remotes: &[IpAddr]) -> bool {
        let host = HostPolicies {
            ipsec: policies.to_vec(),
            ..HostPolicies::default()
        };
        !host.bypassed(&vtep(), remotes).is_empty()
    }

    /// A policy that lets VXLAN pass before another one blocks or transforms it; a default that blocks
    /// (finding D20).
    #[test]
    fn the_policy_with_the_lowest_priority_counts_and_the_default_last() {
        let remotes: [IpAddr; 2] = [[203, 0, 113, 3].into(), [203, 0, 113, 4].into()];
        let with = |destination: &str, priority: u32, block: bool| {
            let mut bytes = policy("203.0.113.2/32", destination, (4789, 0xffff), 17);
            bytes[152..156].copy_from_slice(&priority.to_ne_bytes());
            bytes[161] = u8::from(block);
            IpsecPolicy::parse(&bytes).unwrap()
        };
        let block = with("203.0.113.0/24", 100, true);
        for (allowed, priority, expected) in [
            ("203.0.113.0/24", 1, false),
            ("0.0.0.0/0", 99, false),
            ("203.0.113.0/24", 100, true),
            ("203.0.113.3/32", 1, true),
        ] {
            let allow = with(allowed, priority, false);
            let both = [block.clone(), allow];
            assert_eq!(found(&both, &remotes), expected, "{allowed} {priority}");
            if priority != 1 || allowed.ends_with("/24") {
                assert_eq!(found(&both, &[]), expected, "{allowed} {priority}");
            }
        }
        assert_eq!(defaults(&[2, 2, 2]), []);
        assert_eq!(defaults(&[1, 1]), []);
        let blocking = defaults(&[2, 1, 1]);
        assert!(found(&blocking, &remotes));
        let allow = with("203.0.113.0/24", 1, false);
        assert!(!found(&[&blocking[..1], &[allow]].concat(), &remotes));
    }
}
