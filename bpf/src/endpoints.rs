//! The local VTEP endpoints of a device's programs (`vxlan.h`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use libbpf_rs::{Error, ErrorKind, MapCore, MapFlags, Object, OpenObject};

/// Maximum number of endpoints of an underlay device: local VTEP addresses and multicast groups.
pub const MAX_ENDPOINTS: u32 = 16_384;

/// Length of a key of the map `endpoints`, bytes: address, port in network order, two zero bytes.
const ENDPOINT: usize = 20;

fn endpoint(address: IpAddr, port: u16) -> [u8; ENDPOINT] {
    let address = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut key = [0; ENDPOINT];
    key[..16].copy_from_slice(&address.octets());
    key[16..18].copy_from_slice(&port.to_be_bytes());
    key
}

/// The value of the map `first_endpoint`: the first address of IPv4 that is not a group's, the port, and
/// whether there is one.
fn first_endpoint(addresses: &[IpAddr], port: u16) -> [u8; 8] {
    let mut value = [0; 8];
    let first = addresses
        .iter()
        .take(MAX_ENDPOINTS as usize)
        .find_map(|address| match address {
            IpAddr::V4(v4) if !v4.is_multicast() => Some(v4),
            _ => None,
        });
    if let Some(address) = first {
        value[..4].copy_from_slice(&address.octets());
        value[4..6].copy_from_slice(&port.to_be_bytes());
        value[6..].copy_from_slice(&1u16.to_ne_bytes());
    }
    value
}

/// Makes room for [`MAX_ENDPOINTS`] in the map.
pub(crate) fn set_size(object: &mut OpenObject) -> Result<(), Error> {
    let mut maps = object.maps_mut();
    let found = maps.find(|map| map.name() == "endpoints");
    found.map_or(Ok(()), |mut map| map.set_max_entries(MAX_ENDPOINTS))
}

/// What is in the map.
#[derive(Debug, Default)]
pub(crate) struct Endpoints(BTreeSet<[u8; ENDPOINT]>);

impl Endpoints {
    /// Replaces them, as [`crate::Programs::set_endpoints`] says. After an error, the map has what
    /// `self` says, and the next call continues.
    pub(crate) fn set(
        &mut self,
        object: &Object,
        addresses: &[IpAddr],
        port: u16,
    ) -> Result<(), Error> {
        let wanted: BTreeSet<_> = addresses
            .iter()
            .take(MAX_ENDPOINTS as usize)
            .map(|address| endpoint(*address, port))
            .collect();
        // Before the others: an endpoint that is removed must not stay here.
        let first = first_endpoint(addresses, port);
        super::map(object, "first_endpoint")?.update(&[0; 4], &first, MapFlags::ANY)?;
        let map = super::map(object, "endpoints")?;
        // First, so that there is room for the new ones.
        let gone: Vec<_> = self.0.difference(&wanted).copied().collect();
        for key in gone {
            match map.delete(&key) {
                // It is gone, as it is to be.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                deleted => deleted?,
            }
            self.0.remove(&key);
        }
        for key in wanted {
            if !self.0.contains(&key) {
                map.update(&key, &[1], MapFlags::ANY)?;
                self.0.insert(key);
            }
        }
        Ok(())
    }

    /// Their number.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
