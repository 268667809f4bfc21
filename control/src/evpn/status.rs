//! Why a route is, or is not, in the tables.

use std::fmt;

use crate::rib::{DecisionStep, Ineligible};

/// Why a path is, or is not, in the tables. [`RouteStatus::word`] is stable: the API and `vtepctl
/// show bgp routes` show it as the reason why a path is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteStatus {
    /// It is in the tables.
    Installed,
    /// Another path of the same route is better, by this step.
    NotBest(DecisionStep),
    /// Another route for the same MAC is better, by this step (RFC 7432 section 15).
    OtherRoute(DecisionStep),
    /// A local host has the MAC.
    LocalMac,
    /// A static entry has the MAC.
    StaticMac,
    /// The path can't be used, whatever its VNI is.
    Ineligible(Ineligible),
    /// Neither label nor Ethernet tag is a VNI.
    NoVni,
    /// The VNI is not configured here.
    UnknownVni,
    /// No route target matches an import target of the VNI.
    NoTarget,
    /// The MAC is not a unicast address of a host.
    NotUnicast,
    /// The MAC is frozen by duplicate detection (RFC 7432 section 15.1).
    Frozen,
    /// The VNI has as many remote MACs as it may have.
    Limit,
    /// A type 1 route with a reserved Ethernet segment identifier.
    NoSegment,
    /// The PMSI tunnel is not ingress replication.
    Tunnel,
    /// The tunnel endpoint is not a valid VTEP address.
    Endpoint,
    /// Routes of this type change no table.
    RouteType,
    /// Its VNI has changed and its routes are not evaluated yet.
    Pending,
}

impl RouteStatus {
    /// A stable kebab-case word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::NotBest(step) | Self::OtherRoute(step) => step.word(),
            Self::LocalMac => "local-mac",
            Self::StaticMac => "static-mac",
            Self::Ineligible(why) => why.word(),
            Self::NoVni => "no-vni",
            Self::UnknownVni => "unknown-vni",
            Self::NoTarget => "no-route-target-match",
            Self::NotUnicast => "invalid-mac",
            Self::Frozen => "duplicate-mac-frozen",
            Self::Limit => "max-macs-reached",
            Self::NoSegment => "no-ethernet-segment",
            Self::Tunnel => "unsupported-tunnel-type",
            Self::Endpoint => "invalid-tunnel-endpoint",
            Self::RouteType => "unsupported-route-type",
            Self::Pending => "pending",
        }
    }
}

impl fmt::Display for RouteStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
