//! OPEN (RFC 4271 section 4.2) and its capabilities (RFC 5492), also with extended optional
//! parameters (RFC 9072). The crate `rustbgpd-wire` decodes and encodes the octets.

use std::net::Ipv4Addr;

use bytes::Bytes;
use rustbgpd_wire as codec;

use super::error_code::ErrorCode;
use super::limits::MAX_NAME_LEN;
use super::notification::Notification;
use super::reader::ByteReader;

/// F bit of graceful restart and long-lived graceful restart (RFC 4724 section 3).
const FORWARDING_PRESERVED: u8 = 0x80;

/// An address family: AFI and SAFI (RFC 4760).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressFamily {
    /// Address family identifier.
    pub afi: u16,
    /// Subsequent address family identifier.
    pub safi: u8,
}

impl AddressFamily {
    /// L2VPN / EVPN (RFC 7432).
    pub const EVPN: Self = Self { afi: 25, safi: 70 };
    /// IPv4 unicast.
    pub const IPV4_UNICAST: Self = Self { afi: 1, safi: 1 };

    pub(super) fn read(reader: &mut ByteReader<'_>) -> Option<Self> {
        Some(Self {
            afi: reader.u16()?,
            safi: reader.u8()?,
        })
    }

    pub(super) fn emit(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.afi.to_be_bytes());
        out.push(self.safi);
    }
}

/// One address family of a graceful restart capability (RFC 4724 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartFamily {
    /// The address family.
    pub family: AddressFamily,
    /// Forwarding state was preserved over the restart (F bit).
    pub preserved: bool,
}

/// One address family of a long-lived graceful restart capability (RFC 9494 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongLivedFamily {
    /// The address family.
    pub family: AddressFamily,
    /// Forwarding state was preserved over the restart (F bit).
    pub preserved: bool,
    /// Long-lived stale time, in seconds, 24 bits.
    pub stale_time: u32,
}

/// A capability (RFC 5492).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capability {
    /// Code 1 (RFC 4760).
    Multiprotocol(AddressFamily),
    /// Code 2 (RFC 2918).
    RouteRefresh,
    /// Code 6 (RFC 8654).
    ExtendedMessage,
    /// Code 64 (RFC 4724).
    GracefulRestart {
        /// The sender has just restarted (R bit).
        restarting: bool,
        /// Routes are also kept after a NOTIFICATION (N bit, RFC 8538).
        notification: bool,
        /// Restart time, in seconds, 12 bits.
        time: u16,
        /// The address families that are kept.
        families: Vec<RestartFamily>,
    },
    /// Code 65 (RFC 6793).
    FourOctetAs(u32),
    /// Code 70 (RFC 7313).
    EnhancedRouteRefresh,
    /// Code 71 (RFC 9494).
    LongLived(Vec<LongLivedFamily>),
    /// Code 73 (draft-walton-bgp-hostname-capability): host and domain name, as FRR sends them.
    Fqdn {
        /// Host name.
        host: String,
        /// Domain name; often empty.
        domain: String,
    },
    /// Code 75 (draft-abraitis-bgp-version-capability).
    SoftwareVersion(String),
    /// An unknown capability, or one of the above with an invalid length: ignored.
    Other {
        /// Capability code.
        code: u8,
        /// Value as received.
        value: Vec<u8>,
    },
}

/// An OPEN message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenMessage {
    /// 2-octet AS field; [`super::AS_TRANS`] if the number does not fit (RFC 6793).
    pub my_as: u16,
    /// Hold time, in seconds: 0, or 3 to 65535.
    pub hold_time: u16,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
    /// Capabilities, in the order of the message.
    pub capabilities: Vec<Capability>,
}

impl OpenMessage {
    /// AS of the sender, from the 4-octet AS capability if there is one (RFC 6793).
    #[must_use]
    pub fn asn(&self) -> u32 {
        let wide = self.capabilities.iter().find_map(|c| match c {
            Capability::FourOctetAs(asn) => Some(*asn),
            _ => None,
        });
        wide.unwrap_or(u32::from(self.my_as))
    }

    /// True if the multiprotocol capability for this family is offered.
    #[must_use]
    pub fn offers(&self, family: AddressFamily) -> bool {
        self.capabilities
            .contains(&Capability::Multiprotocol(family))
    }

    /// Decodes the body, which has at least 10 octets according to the header.
    ///
    /// # Errors
    /// 2/1 Unsupported Version Number, 2/4 Unsupported Optional Parameter, 2/0 for a truncated
    /// parameter.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Notification> {
        let mut bytes = Bytes::copy_from_slice(body);
        let open = codec::OpenMessage::decode(&mut bytes, body.len()).map_err(|error| {
            let (code, subcode, data) = error.to_notification();
            let code = code.as_u8();
            Notification::new(ErrorCode { code, subcode }, &data)
        })?;
        Ok(Self {
            my_as: open.my_as,
            hold_time: open.hold_time,
            router_id: open.bgp_identifier,
            capabilities: open.capabilities.into_iter().map(from_codec).collect(),
        })
    }

    /// Encodes the complete message. `None` if the capabilities do not fit into 4096 octets.
    #[must_use]
    pub fn emit(&self) -> Option<Vec<u8>> {
        let open = codec::OpenMessage {
            version: 4,
            my_as: self.my_as,
            hold_time: self.hold_time,
            bgp_identifier: self.router_id,
            capabilities: self.capabilities.iter().map(to_codec).collect(),
        };
        let mut out = Vec::with_capacity(128);
        open.encode(&mut out).ok().map(|()| out)
    }
}

const fn family(afi: codec::Afi, safi: codec::Safi) -> AddressFamily {
    AddressFamily {
        afi: afi as u16,
        safi: safi as u8,
    }
}

fn from_codec(capability: codec::Capability) -> Capability {
    use codec::Capability as C;
    match capability {
        C::MultiProtocol { afi, safi } => Capability::Multiprotocol(family(afi, safi)),
        C::RouteRefresh => Capability::RouteRefresh,
        C::EnhancedRouteRefresh => Capability::EnhancedRouteRefresh,
        C::ExtendedMessage => Capability::ExtendedMessage,
        C::FourOctetAs { asn } => Capability::FourOctetAs(asn),
        C::GracefulRestart {
            restart_state,
            notification,
            restart_time,
            families,
        } => {
            let restart = |f: &codec::GracefulRestartFamily| RestartFamily {
                family: family(f.afi, f.safi),
                preserved: f.forwarding_preserved,
            };
            Capability::GracefulRestart {
                restarting: restart_state,
                notification,
                time: restart_time,
                families: families.iter().map(restart).collect(),
            }
        }
        C::LongLivedGracefulRestart(families) => {
            let long = |f: &codec::LlgrFamily| LongLivedFamily {
                family: family(f.afi, f.safi),
                preserved: f.forwarding_preserved,
                stale_time: f.stale_time,
            };
            Capability::LongLived(families.iter().map(long).collect())
        }
        C::Unknown { code, data } => from_raw(code, &data),
        other => raw_of(&other),
    }
}

/// Decodes capabilities that the crate leaves raw: names, and address families unknown to it.
fn from_raw(code: u8, value: &[u8]) -> Capability {
    let mut reader = ByteReader(value);
    let read = match code {
        1 => multiprotocol(&mut reader),
        71 => long_lived(&mut reader),
        73 => fqdn(&mut reader),
        75 => text(&mut reader).map(Capability::SoftwareVersion),
        _ => None,
    };
    let read = read.filter(|_| reader.0.is_empty());
    read.unwrap_or_else(|| Capability::Other {
        code,
        value: value.to_vec(),
    })
}

fn multiprotocol(reader: &mut ByteReader<'_>) -> Option<Capability> {
    let [high, low, _, safi] = reader.array()?;
    Some(Capability::Multiprotocol(AddressFamily {
        afi: u16::from_be_bytes([high, low]),
        safi,
    }))
}

fn long_lived(reader: &mut ByteReader<'_>) -> Option<Capability> {
    let mut families = Vec::new();
    while !reader.0.is_empty() {
        let (family, flags, stale_time) =
            (AddressFamily::read(reader)?, reader.u8()?, reader.u24()?);
        families.push(LongLivedFamily {
            family,
            preserved: flags & FORWARDING_PRESERVED != 0,
            stale_time,
        });
    }
    Some(Capability::LongLived(families))
}

fn fqdn(reader: &mut ByteReader<'_>) -> Option<Capability> {
    Some(Capability::Fqdn {
        host: text(reader)?,
        domain: text(reader)?,
    })
}

fn text(reader: &mut ByteReader<'_>) -> Option<String> {
    let length = usize::from(reader.u8()?);
    String::from_utf8(reader.bytes(length)?.to_vec()).ok()
}

/// An unused capability as its octets.
fn raw_of(capability: &codec::Capability) -> Capability {
    let mut out = Vec::new();
    let written = capability.encode(&mut out).is_ok();
    let value = out
        .get(2..)
        .filter(|_| written)
        .unwrap_or_default()
        .to_vec();
    Capability::Other {
        code: capability.code(),
        value,
    }
}

fn to_codec(capability: &Capability) -> codec::Capability {
    let mut value = Vec::new();
    let code = match capability {
        Capability::Multiprotocol(family) => {
            value.extend_from_slice(&family.afi.to_be_bytes());
            value.extend_from_slice(&[0, family.safi]);
            1
        }
        Capability::RouteRefresh => 2,
        Capability::ExtendedMessage => 6,
        Capability::GracefulRestart {
            restarting,
            notification,
            time,
            families,
        } => {
            let flags = u16::from(*restarting) << 15 | u16::from(*notification) << 14;
            value.extend_from_slice(&(flags | (time & 0xfff)).to_be_bytes());
            for entry in families {
                entry.family.emit(&mut value);
                value.push(if entry.preserved {
                    FORWARDING_PRESERVED
                } else {
                    0
                });
            }
            64
        }
        Capability::FourOctetAs(asn) => {
            value.extend_from_slice(&asn.to_be_bytes());
            65
        }
        Capability::EnhancedRouteRefresh => 70,
        Capability::LongLived(families) => {
            for entry in families {
                entry.family.emit(&mut value);
                value.push(if entry.preserved {
                    FORWARDING_PRESERVED
                } else {
                    0
                });
                super::reader::put_u24(&mut value, entry.stale_time);
            }
            71
        }
        Capability::Fqdn { host, domain } => {
            put_text(&mut value, host);
            put_text(&mut value, domain);
            73
        }
        Capability::SoftwareVersion(version) => {
            put_text(&mut value, version);
            75
        }
        Capability::Other { code, value: raw } => {
            value.extend_from_slice(raw);
            *code
        }
    };
    codec::Capability::Unknown {
        code,
        data: value.into(),
    }
}

/// Appends a length octet and at most [`MAX_NAME_LEN`] octets of text, truncated at a character
/// boundary.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(MAX_NAME_LEN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.push(end as u8);
    out.extend_from_slice(&text.as_bytes()[..end]);
}
