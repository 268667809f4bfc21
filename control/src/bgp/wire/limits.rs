//! Numeric limits of BGP messages. Lengths are in octets unless stated otherwise.

/// Marker field of the header (RFC 4271 section 4.1).
pub(super) const MARKER_LEN: usize = 16;
/// Message header: marker, length and type (RFC 4271 section 4.1).
pub const HEADER_LEN: usize = 19;

/// Longest message without extended messages (RFC 4271 section 4.1).
pub const MAX_MESSAGE_LEN: usize = 4096;
/// Longest message where extended messages are negotiated (RFC 8654 section 3).
pub const MAX_EXTENDED_MESSAGE_LEN: usize = 65535;

/// Shortest OPEN (RFC 4271 section 4.2).
pub(super) const MIN_OPEN_LEN: usize = HEADER_LEN + 10;
/// Shortest UPDATE: both length fields, both zero (RFC 4271 section 4.3).
pub(super) const MIN_UPDATE_LEN: usize = HEADER_LEN + 4;
/// Shortest NOTIFICATION: code and subcode (RFC 4271 section 4.5).
pub(super) const MIN_NOTIFICATION_LEN: usize = HEADER_LEN + 2;
/// A ROUTE-REFRESH without outbound route filters (RFC 2918 section 3).
pub(super) const ROUTE_REFRESH_LEN: usize = HEADER_LEN + 4;
/// An End-of-RIB marker for EVPN (RFC 4724 section 2): an UPDATE whose only attribute is an
/// MP_UNREACH_NLRI with 3 octets of address family and no routes.
pub(super) const END_OF_RIB_LEN: usize = MIN_UPDATE_LEN + 6;

/// Maximum number of AS numbers in one AS_PATH segment: its count has one octet (RFC 4271 section
/// 4.3).
pub(super) const MAX_SEGMENT_ASNS: usize = 255;
/// Longest EVPN route with its type and length: an IPv6 prefix, type 5 (RFC 9136 section 3.1).
pub(super) const MAX_EVPN_ROUTE_LEN: usize = 60;

/// Shortest hold time other than 0, in seconds (RFC 4271 section 4.2).
pub const MIN_HOLD_TIME: u16 = 3;
/// Longest restart time of graceful restart, in seconds: 12 bits (RFC 4724 section 3).
pub const MAX_RESTART_TIME: u16 = 4095;
/// Longest host or domain name that we send (draft-walton-bgp-hostname-capability).
pub(super) const MAX_NAME_LEN: usize = 64;
