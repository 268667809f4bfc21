//! What a peer is configured to be, the OPEN that says so, and what two OPENs agree on.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::wire::{
    AS_TRANS, AddressFamily, Capability, DecodeContext, Encoding, ErrorCode, LongLivedFamily,
    MAX_EXTENDED_MESSAGE_LEN, MAX_MESSAGE_LEN, MAX_RESTART_TIME, MIN_HOLD_TIME, Notification,
    OpenMessage, RestartFamily,
};

/// Graceful restart as we offer it (RFC 4724, RFC 8538, RFC 9494).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartConfig {
    /// Seconds that we need to be back after a restart, at most 4095.
    pub time: u16,
    /// How long the routes of a peer that is back wait for its End-of-RIB.
    pub stale_limit: Duration,
    /// Seconds that stale routes of ours may stay beyond that (24 bits). None: long-lived restart is not offered.
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

/// A limit of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPrefixes {
    /// The most routes that the peer may announce.
    pub limit: u32,
    /// How long to stay away after more. None: until an operator clears the session.
    pub retry: Option<Duration>,
}

/// One neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Our AS.
    pub local_as: u32,
    /// Our BGP identifier, not zero.
    pub router_id: Ipv4Addr,
    /// The AS that the peer must have.
    pub peer_as: u32,
    /// Wait for the peer to connect.
    pub passive: bool,
    /// Hold time that we propose, in seconds: 0, or 3 and more.
    pub hold_time: u16,
    /// Time between tries to connect, before jitter.
    pub connect_retry: Duration,
    /// First and longest time in Idle after an error; it doubles from error to error.
    pub idle_hold: (Duration, Duration),
    /// How long a peer may read nothing; RFC 9687 advises 8 minutes, and at least twice the hold time.
    pub send_hold: Duration,
    /// Offer messages of up to 65535 octets (RFC 8654).
    pub extended_messages: bool,
    /// Offer graceful restart.
    pub restart: Option<RestartConfig>,
    /// Limit of routes.
    pub max_prefixes: Option<MaxPrefixes>,
    /// Host name to tell.
    pub hostname: Option<String>,
    /// Octets that may wait to be sent, besides the one message that goes beyond it.
    pub send_queue: usize,
}

impl PeerConfig {
    /// A neighbour with the defaults: hold time 90 s, retries from 10 s, Idle from 1 s to 60 s, send hold 8 min.
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

    /// The OPEN for this peer. `restarting`: we have just restarted (R bit); `preserved`: our forwarding tables
    /// are those that we had before (F bit).
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

/// Graceful restart of the peer, for EVPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerRestart {
    /// The peer has just restarted.
    pub restarting: bool,
    /// A NOTIFICATION keeps routes too (RFC 8538).
    pub notification: bool,
    /// How long the peer may be away.
    pub time: Duration,
    /// The peer kept its forwarding state over its restart.
    pub preserved: bool,
    /// How long its stale routes may stay after that (RFC 9494); zero if not at all.
    pub long_lived: Duration,
}

/// What both sides negotiated on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The AS of the peer.
    pub peer_as: u32,
    /// The BGP identifier of the peer.
    pub router_id: Ipv4Addr,
    /// The peer is of our AS.
    pub internal: bool,
    /// Hold time; zero for none.
    pub hold: Duration,
    /// Both sides use AS numbers of 4 octets.
    pub four_octet: bool,
    /// The longest message that we may send.
    pub send_limit: usize,
    /// The peer answers ROUTE-REFRESH.
    pub refresh: bool,
    /// The peer marks begin and end of its answer (RFC 7313).
    pub enhanced_refresh: bool,
    /// Graceful restart of EVPN, where both sides have it.
    pub restart: Option<PeerRestart>,
    /// The peer keeps our routes over a NOTIFICATION unless it is a hard reset (RFC 8538).
    pub hard_reset: bool,
    /// Host name of the peer, where it told one.
    pub hostname: Option<String>,
    /// Software of the peer, where it told that.
    pub software: Option<String>,
}

impl Negotiated {
    /// How to write UPDATEs for this peer.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        Encoding {
            four_octet: self.four_octet,
            limit: self.send_limit,
        }
    }

    /// How to read UPDATEs of this peer.
    #[must_use]
    pub const fn context(&self) -> DecodeContext {
        DecodeContext {
            four_octet: self.four_octet,
            internal: self.internal,
            add_path: false,
        }
    }

    /// Time between our keepalives: a third of the hold time (RFC 4271 section 4.4).
    #[must_use]
    pub fn keepalive(&self) -> Duration {
        self.hold / 3
    }
}

/// Checks the peer's OPEN against the configuration (RFC 4271 section 6.2, RFC 6286, RFC 7607).
///
/// # Errors
/// 2/2 bad AS, 2/3 bad identifier, 2/6 unacceptable hold time, 2/7 EVPN is not offered.
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
        hard_reset: false,
        hostname: None,
        software: None,
    };
    for capability in &open.capabilities {
        match capability {
            Capability::Fqdn { host, .. } => negotiated.hostname = Some(host.clone()),
            Capability::GracefulRestart { notification, .. } => {
                negotiated.hard_reset = *notification && config.restart.is_some();
            }
            Capability::SoftwareVersion(version) => negotiated.software = Some(version.clone()),
            _ => {}
        }
    }
    negotiated.restart = config.restart.and_then(|ours| peer_restart(ours, open));
    Ok(negotiated)
}

/// The last capability counts if it is there twice (RFC 4724 section 3). The peer need not list EVPN to be a
/// helper for us, but only then its own routes are kept.
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
