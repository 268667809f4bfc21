//! Encoding of UPDATE (RFC 4271 section 4.3, RFC 4760): packs many routes into few messages.

use super::attribute::{Attributes, code, flag, put_extended};
use super::evpn::EvpnRoute;
use super::header::{MessageType, finish, start};
use super::limits::{END_OF_RIB_LEN, HEADER_LEN, MARKER_LEN, MAX_EVPN_ROUTE_LEN, MIN_UPDATE_LEN};
use super::open::AddressFamily;
use super::reader::put_ip;

/// How UPDATEs for one peer are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// The peer uses 4-octet AS numbers (RFC 6793).
    pub four_octet: bool,
    /// Longest message that the peer accepts: 4096 or 65535 octets.
    pub limit: usize,
}

/// Encodes announcements of routes that share attributes, as many per message as fit. Each message
/// is passed to `sink`, in a buffer that is reused. False, with no message, if the attributes leave
/// no space for a route.
pub fn announce(
    attributes: &Attributes,
    routes: impl IntoIterator<Item = EvpnRoute>,
    encoding: Encoding,
    mut sink: impl FnMut(&[u8]),
) -> bool {
    let mut others = Vec::new();
    attributes.emit(&mut others, encoding.four_octet);
    let next_hop = attributes.next_hop;
    // Attribute header, address family, next hop length, next hop, reserved octet.
    let overhead = MIN_UPDATE_LEN + 4 + 3 + 1 + 16 + 1 + others.len();
    if overhead + MAX_EVPN_ROUTE_LEN > encoding.limit {
        return false;
    }
    let head = |out: &mut Vec<u8>| {
        AddressFamily::EVPN.emit(out);
        out.push(if next_hop.is_ipv4() { 4 } else { 16 });
        put_ip(out, next_hop);
        out.push(0);
    };
    pack(
        code::MP_REACH,
        head,
        &others,
        routes,
        encoding.limit,
        &mut sink,
    );
    true
}

/// Encodes withdrawals of routes, as many per message as fit into `limit` octets. Each message is
/// passed to `sink`, in a buffer that is reused.
pub fn withdraw(
    routes: impl IntoIterator<Item = EvpnRoute>,
    limit: usize,
    mut sink: impl FnMut(&[u8]),
) {
    pack(
        code::MP_UNREACH,
        |out| AddressFamily::EVPN.emit(out),
        &[],
        routes,
        limit,
        &mut sink,
    );
}

/// The End-of-RIB marker for EVPN: an MP_UNREACH_NLRI without routes (RFC 4724 section 2).
#[must_use]
pub fn end_of_rib() -> [u8; END_OF_RIB_LEN] {
    let mut message = [0xff; END_OF_RIB_LEN];
    message[MARKER_LEN..].copy_from_slice(&[
        0,
        END_OF_RIB_LEN as u8,
        2,
        0,
        0,
        0,
        6,
        0x80,
        code::MP_UNREACH,
        3,
        0,
        25,
        70,
    ]);
    message
}

/// Encodes messages whose first attribute, of type `code`, contains the routes
/// (RFC 7606 section 5.1).
fn pack(
    code: u8,
    head: impl Fn(&mut Vec<u8>),
    others: &[u8],
    routes: impl IntoIterator<Item = EvpnRoute>,
    limit: usize,
    sink: &mut impl FnMut(&[u8]),
) {
    let mut routes = routes.into_iter().peekable();
    let mut out = Vec::with_capacity(limit);
    while routes.peek().is_some() {
        start(&mut out, MessageType::Update);
        out.extend_from_slice(&[0; 4]);
        put_extended(&mut out, flag::OPTIONAL, code, |out| {
            head(out);
            while let Some(route) = routes.peek() {
                let before = out.len();
                route.emit(out);
                if out.len() + others.len() > limit {
                    out.truncate(before);
                    break;
                }
                routes.next();
            }
        });
        out.extend_from_slice(others);
        let attributes = (out.len() - MIN_UPDATE_LEN) as u16;
        out[HEADER_LEN + 2..MIN_UPDATE_LEN].copy_from_slice(&attributes.to_be_bytes());
        finish(&mut out);
        sink(&out);
    }
}
