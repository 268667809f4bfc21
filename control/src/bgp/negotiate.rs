//! Configuration of a peer, the OPEN made from it, and capability negotiation.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::wire::{
    AS_TRANS, AddressFamily, Capability, DecodeContext, Encoding, ErrorCode, LongLivedFamily,
    MAX_EXTENDED_MESSAGE_LEN, MAX_MESSAGE_LEN, MAX_RESTART_TIME, MIN_HOLD_TIME, Notification,
    OpenMessage, RestartFamily, printable,
};

/// Graceful restart as offered to a peer (RFC 4724, RFC 8538, RFC 9494).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartConfig {
    /// Restart time, in seconds: how long this speaker takes to restart, 0 to 4095.
    pub time: u16,
    /// How long the stale routes of a peer that is up again wait for its End-of-RIB.
    pub stale_limit: Duration,
    /// Long-lived stale time, in seconds: how long our stale routes may stay after the restart
    /// time, 24 bits. `None`: long-lived graceful restart is not offered.
    pub long_lived: Option<u32>,
}

impl Default for RestartConfig {
    fn default() -> Self {
        Self {
            time: 120,
            stale_limit: Duration::from_secs(360),
            long_lived: None,
        }
    }
}

/// Prefix limit of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPrefixes {
    /// Maximum number of routes that the peer may announce.
    pub limit: u32,
    /// How long the session stays down after the limit was exceeded. `None`: until an operator
    /// clears it.
    pub retry: Option<Duration>,
}

/// Configuration of one neighbor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Local AS.
    pub local_as: u32,
    /// Local BGP identifier, not 0.0.0.0.
    pub router_id: Ipv4Addr,
    /// AS that the peer must have.
    pub peer_as: u32,
    /// Only wait for the peer to connect.
    pub passive: bool,
    /// Proposed hold time, in seconds: 0 (none), or 3 to 65535.
    pub hold_time: u16,
    /// Time between attempts to connect, before jitter.
    pub connect_retry: Duration,
    /// First and longest time in Idle after an error; it doubles with each error.
    pub idle_hold: (Duration, Duration),
    /// Least send hold time: how long a peer may read nothing. It is raised to twice the hold time;
    /// RFC 9687 recommends the greater of both, and 8 minutes.
    pub send_hold: Duration,
    /// Offer messages of up to 65535 octets (RFC 8654).
    pub extended_messages: bool,
    /// Offer graceful restart.
    pub restart: Option<RestartConfig>,
    /// Prefix limit.
    pub max_prefixes: Option<MaxPrefixes>,
    /// Host name to send, truncated to 64 octets.
    pub hostname: Option<String>,
    /// Send queue limit, in octets; the message that exceeds it is still queued.
    pub send_queue: usize,
}

impl PeerConfig {
    /// A neighbor with the defaults: hold time 90 s, connect retry 10 s, Idle from 1 s to 60 s,
    /// send hold time 8 min.
    #[must_use]
    pub fn new(local_as: u32, router_id: Ipv4Addr, peer_as: u32) -> Self {
        Self {
            local_as,
            router_id,
            peer_as,
            passive: false,
            hold_time: 90,
            connect_retry: Duration::from_secs(10),
            idle_hold: (Duration::from_secs(1), Duration::from_secs(60)),
            send_hold: Duration::from_secs(480),
            extended_messages: true,
            restart: Some(RestartConfig::default()),
            max_prefixes: None,
            hostname: None,
            send_queue: 1 << 20,
        }
    }

    /// True if a session of `other` is the same: the OPENs are equal, host name aside, and the peer
    /// must have the same AS. Other values may change while the session is established.
    #[must_use]
    pub fn same_session(&self, other: &Self) -> bool {
        let open = |config: &Self| {
            let open = Self {
                hostname: None,
                ..config.clone()
            };
            (open.open(false, false), open.peer_as)
        };
        open(self) == open(other)
    }

    /// The OPEN for this peer. `restarting`: this speaker has just restarted (R bit); `preserved`:
    /// its forwarding state survived (F bit, RFC 4724 section 3).
    #[must_use]
    pub fn open(&self, restarting: bool, preserved: bool) -> OpenMessage {
        let mut capabilities = vec![
            Capability::Multiprotocol(AddressFamily::EVPN),
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::FourOctetAs(self.local_as),
        ];
        if self.extended_messages {
            capabilities.push(Capability::ExtendedMessage);
        }
        if let Some(host) = &self.hostname {
            capabilities.push(Capability::Fqdn {
                host: host.clone(),
                domain: String::new(),
            });
        }
        if let Some(restart) = self.restart {
            let family = RestartFamily {
                family: AddressFamily::EVPN,
                preserved,
            };
            capabilities.push(Capability::GracefulRestart {
                restarting,
                notification: true,
                time: restart.time.min(MAX_RESTART_TIME),
                families: vec![family],
            });
            if let Some(stale_time) = restart.long_lived {
                let family = LongLivedFamily {
                    family: AddressFamily::EVPN,
                    preserved,
                    stale_time,
                };
                capabilities.push(Capability::LongLived(vec![family]));
            }
        }
        OpenMessage {
            my_as: u16::try_from(self.local_as).unwrap_or(AS_TRANS),
            hold_time: self.hold_time,
            router_id: self.router_id,
            capabilities,
        }
    }
}

/// Graceful restart parameters of the peer, for EVPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerRestart {
    /// The peer has just restarted.
    pub restarting: bool,
    /// Routes are also kept after a NOTIFICATION (N bit, RFC 8538).
    pub notification: bool,
    /// Restart time of the peer.
    pub time: Duration,
    /// The peer preserved its forwarding state over its restart (F bit).
    pub preserved: bool,
    /// Long-lived stale time that follows the restart time (RFC 9494); zero for none.
    pub long_lived: Duration,
}

/// What two OPENs negotiated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// AS of the peer.
    pub peer_as: u32,
    /// BGP identifier of the peer.
    pub router_id: Ipv4Addr,
    /// The session is internal (iBGP).
    pub internal: bool,
    /// Hold time; zero: no KEEPALIVEs and no hold timer.
    pub hold: Duration,
    /// The peer uses 4-octet AS numbers (RFC 6793), as this speaker always does.
    pub four_octet: bool,
    /// Longest message that may be sent, in octets.
    pub send_limit: usize,
    /// The peer has the route refresh capability (RFC 2918).
    pub refresh: bool,
    /// The peer has the enhanced route refresh capability (RFC 7313).
    pub enhanced_refresh: bool,
    /// Graceful restart for EVPN, if both sides offer it.
    pub restart: Option<PeerRestart>,
    /// Both sides have the graceful restart capability: the peer keeps our routes when the
    /// connection ends without a NOTIFICATION (RFC 4724 section 4.2), also if it preserves nothing
    /// itself and so lists no address family.
    pub helper: bool,
    /// The peer keeps our routes after a NOTIFICATION unless it is a hard reset (RFC 8538).
    pub hard_reset: bool,
    /// Host name of the peer, if it sent one, [printable].
    pub hostname: Option<String>,
    /// Software version of the peer, if it sent one, [printable].
    pub software: Option<String>,
}

impl Negotiated {
    /// How to encode UPDATEs for this peer.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        Encoding {
            four_octet: self.four_octet,
            limit: self.send_limit,
        }
    }

    /// How to decode UPDATEs of this peer.
    #[must_use]
    pub const fn context(&self) -> DecodeContext {
        DecodeContext {
            four_octet: self.four_octet,
            internal: self.internal,
            add_path: false,
        }
    }

    /// Interval of our KEEPALIVEs: a third of the hold time (RFC 4271 section 4.4).
    #[must_use]
    pub fn keepalive(&self) -> Duration {
        self.hold / 3
    }
}

/// Checks the peer's OPEN against the configuration (RFC 4271 section 6.2, RFC 6286, RFC 7607).
///
/// # Errors
/// 2/2 Bad Peer AS, 2/3 Bad BGP Identifier, 2/6 Unacceptable Hold Time, 2/7 Unsupported Capability
/// (EVPN is not offered).
pub fn negotiate(config: &PeerConfig, open: &OpenMessage) -> Result<Negotiated, Notification> {
    let peer_as = open.asn();
    if peer_as == 0 || peer_as != config.peer_as {
        return Err(Notification::new(ErrorCode::BAD_PEER_AS, &[]));
    }
    let internal = peer_as == config.local_as;
    if open.router_id.is_unspecified() || internal && open.router_id == config.router_id {
        return Err(Notification::new(ErrorCode::BAD_BGP_IDENTIFIER, &[]));
    }
    if (1..MIN_HOLD_TIME).contains(&open.hold_time) {
        return Err(Notification::new(ErrorCode::UNACCEPTABLE_HOLD_TIME, &[]));
    }
    if !open.offers(AddressFamily::EVPN) {
        // The missing capability: multiprotocol, AFI 25, SAFI 70 (RFC 5492 section 5).
        return Err(Notification::new(
            ErrorCode::UNSUPPORTED_CAPABILITY,
            &[1, 4, 0, 25, 0, 70],
        ));
    }
    let has = |capability: &Capability| open.capabilities.contains(capability);
    let extended = config.extended_messages && has(&Capability::ExtendedMessage);
    let mut negotiated = Negotiated {
        peer_as,
        router_id: open.router_id,
        internal,
        hold: Duration::from_secs(u64::from(open.hold_time.min(config.hold_time))),
        four_octet: open
            .capabilities
            .iter()
            .any(|c| matches!(c, Capability::FourOctetAs(_))),
        send_limit: if extended {
            MAX_EXTENDED_MESSAGE_LEN
        } else {
            MAX_MESSAGE_LEN
        },
        refresh: has(&Capability::RouteRefresh),
        enhanced_refresh: has(&Capability::EnhancedRouteRefresh),
        restart: None,
        helper: false,
        hard_reset: false,
        hostname: None,
        software: None,
    };
    for capability in &open.capabilities {
        match capability {
            Capability::Fqdn { host, .. } => negotiated.hostname = Some(printable(host)),
            Capability::GracefulRestart { notification, .. } => {
                negotiated.helper = config.restart.is_some();
                negotiated.hard_reset = *notification && config.restart.is_some();
            }
            Capability::SoftwareVersion(version) => negotiated.software = Some(printable(version)),
            _ => {}
        }
    }
    negotiated.restart = config.restart.and_then(|ours| peer_restart(ours, open));
    Ok(negotiated)
}

/// The last capability counts if there are several (RFC 4724 section 3). A peer that does not list
/// EVPN may still help our restart, but its own routes are not kept.
fn peer_restart(ours: RestartConfig, open: &OpenMessage) -> Option<PeerRestart> {
    let mut found = None;
    let mut long_lived = Duration::ZERO;
    for capability in &open.capabilities {
        match capability {
            Capability::GracefulRestart {
                restarting,
                notification,
                time,
                families,
            } => {
                let evpn = families.iter().find(|f| f.family == AddressFamily::EVPN);
                found = evpn.map(|evpn| PeerRestart {
                    restarting: *restarting,
                    notification: *notification,
                    time: Duration::from_secs(u64::from(*time)),
                    preserved: evpn.preserved,
                    long_lived: Duration::ZERO,
                });
            }
            Capability::LongLived(families) if ours.long_lived.is_some() => {
                if let Some(evpn) = families.iter().find(|f| f.family == AddressFamily::EVPN) {
                    long_lived = Duration::from_secs(u64::from(evpn.stale_time));
                }
            }
            _ => {}
        }
    }
    found.map(|restart| PeerRestart {
        long_lived,
        ..restart
    })
}
