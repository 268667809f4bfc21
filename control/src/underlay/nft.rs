//! Interfaces with chains of nftables' family `netdev`, by a dump of all chains
//! (include/uapi/linux/netfilter/nf_tables.h).

use std::collections::BTreeSet;
use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::raw::{self, RawRequest, attributes};

/// NFT_MSG_NEWCHAIN and NFT_MSG_GETCHAIN of NFNL_SUBSYS_NFTABLES.
const NEW_CHAIN: u16 = 10 << 8 | 3;
const GET_CHAIN: u16 = 10 << 8 | 4;
/// `struct nfgenmsg` with NFPROTO_NETDEV.
const NETDEV: [u8; 4] = [5, 0, 0, 0];
/// NFTA_CHAIN_HOOK; NFTA_HOOK_DEV and NFTA_HOOK_DEVS in it.
const HOOK: u16 = 4;
const DEVICE: u16 = 3;
const DEVICES: u16 = 4;

/// The names of interfaces that a chain of the family `netdev` is attached to. Since Linux 6.16 one
/// may end with `*`, which stands for any rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NetdevChains(BTreeSet<String>);

impl NetdevChains {
    /// Reads them.
    pub(super) fn read() -> io::Result<Self> {
        let socket = raw::open(NETLINK_NETFILTER)?;
        let mut all = Self::default();
        let request = RawRequest {
            kind: GET_CHAIN,
            answer: NEW_CHAIN,
            payload: &NETDEV,
            dump: true,
        };
        raw::ask(&socket, request, &mut |answer| all.add(answer))?;
        Ok(all)
    }

    /// True if a chain is attached to this interface.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|device| match device.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => device == name,
        })
    }

    /// Adds the interfaces of one chain.
    fn add(&mut self, answer: &[u8]) {
        let chain = attributes(answer.get(NETDEV.len()..).unwrap_or_default());
        let hooks = chain.filter(|(kind, _)| *kind == HOOK);
        for (kind, value) in hooks.flat_map(|(_, hook)| attributes(hook)) {
            match kind {
                DEVICE => self.0.extend(name(1, value)),
                DEVICES => {
                    let names = attributes(value).filter_map(|(kind, value)| name(kind, value));
                    self.0.extend(names);
                }
                _ => {}
            }
        }
    }
}

/// A name: NFTA_DEVICE_NAME, or NFTA_DEVICE_PREFIX.
fn name(kind: u16, value: &[u8]) -> Option<String> {
    const PREFIX: u16 = 2;
    let text = std::str::from_utf8(value).ok()?;
    let text = text.trim_end_matches('\0');
    Some(match kind {
        PREFIX => format!("{text}*"),
        _ => text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_interfaces_of_chains_are_found() {
        let one = attribute(DEVICE, b"eth0\0");
        let many = [attribute(1, b"eth1\0"), attribute(2, b"vnet")].concat();
        let hook = [attribute(1, &[0, 0, 0, 1]), one, attribute(DEVICES, &many)].concat();
        let nested = 0x8000 | HOOK;
        let chain = [
            &NETDEV[..],
            &attribute(3, b"egress\0"),
            &attribute(nested, &hook),
        ];
        let mut chains = NetdevChains::default();
        chains.add(&chain.concat());
        for (name, expected) in [
            ("eth0", true),
            ("eth1", true),
            ("vnet7", true),
            ("eth", false),
        ] {
            assert_eq!(chains.contains(name), expected, "{name}");
        }
        // A chain without a hook, and damage.
        for bytes in [&NETDEV[..], &[5], &[]] {
            let mut chains = NetdevChains::default();
            chains.add(bytes);
            assert_eq!(chains, NetdevChains::default());
        }
    }
}
