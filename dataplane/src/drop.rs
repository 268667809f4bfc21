//! Why frames are dropped. Each drop has one reason, and each reason a counter and a line in
//! docs/counters.md.

/// Declares [`DropReason`] once: variant, stable name, explanation.
macro_rules! reasons {
    ($($variant:ident $name:literal $text:literal)*) => {
        /// Why a frame was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $text] $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The number of reasons.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in `vtepctl show drops` and in the metrics. Stable: it never changes its
            /// meaning.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// When a frame is counted with this reason, for the operator.
            #[must_use]
            pub const fn explain(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    // Input from tenants.
    Runt "runt" "a frame from a tenant is shorter than an Ethernet header (14 bytes)"
    SourceMac "source-mac" "a frame from a tenant has a multicast or all-zero source MAC"
    Locked "locked" "the source MAC is not one of those that the locked port may use"
    ArpNdSpoofed "arp-nd-spoofed"
        "ARP or ND from a locked port claims a MAC or IP address that is not the port's"
    ArpNdMalformed "arp-nd-malformed"
        "an ARP or ND message that every receiver must discard: wrong length, hop limit, checksum \
         or options, or fragmented; on a locked port also whatever might be ARP or ND and can't be \
         parsed to its end"
    LinkLocalGroup "link-local-group"
        "the destination is 01:80:c2:00:00:00-0f, which no bridge forwards (IEEE 802.1Q)"
    Tagged "tagged"
        "the frame has an 802.1Q tag and its VNI does not pass tags (RFC 7348 section 6.1)"
    UnknownVlan "unknown-vlan" "no port of the trunk has the frame's VLAN"
    Storm "storm"
        "a broadcast, unknown unicast or multicast frame above the storm limit of the port, or of \
         the VNI for frames from the overlay"
    Hairpin "hairpin" "the destination is behind the port that the frame came from"
    Unsegmented "unsegmented"
        "the frame is longer than the MTU of the interface that it came from, and too long for its \
         destination: its sender has a larger MTU, or left segmentation to the interface of what \
         can't be cut (not TCP, a fragment, a wrong checksum)"
    Unsegmentable "unsegmentable"
        "a frame that its sender left to be segmented (TSO, USO) can't be: its headers are not those \
         of the protocol that is to be cut, or it is in a tunnel within a tunnel, or one with \
         checksums or sequence numbers (GRE)"
    ChecksumOffset "checksum-offset"
        "a frame whose sender left its checksum to be filled in, at a place that is not in the \
         headers behind Ethernet"
    TooBig "too-big" "with the outer headers, the packet would be longer than the underlay's MTU"
    NoAdjacency "no-adjacency"
        "no usable underlay path to the VTEP: no route, no neighbor entry, or the link is down"
    // Input from the underlay.
    OuterTruncated "outer-truncated" "the outer headers reach beyond the end of the packet"
    OuterIp "outer-ip" "the outer IP header is invalid: version, length, options or header checksum"
    OuterFragment "outer-fragment" "the outer packet is a fragment"
    OuterUdp "outer-udp" "the outer UDP length does not agree with the packet"
    OuterUdpChecksum "outer-udp-checksum"
        "the outer UDP checksum is wrong, or missing where it is required"
    OtherStation "other-station"
        "the outer destination MAC is that of another station: the link floods, or the interface is \
         promiscuous"
    WrongDestination "wrong-destination"
        "the outer destination is not a local VTEP address, or not the VXLAN port"
    VxlanFlags "vxlan-flags" "the I flag of the VXLAN header is 0 (RFC 7348 section 5)"
    VxlanReserved "vxlan-reserved"
        "reserved bits of the VXLAN header are set, and strict-reserved is on"
    UnknownVni "unknown-vni" "the VNI is not configured"
    UnknownVtep "unknown-vtep" "the outer source is not a known VTEP of the VNI"
    InnerRunt "inner-runt" "the inner frame is shorter than an Ethernet header (14 bytes)"
    InnerSourceMac "inner-source-mac" "the inner frame has a multicast or all-zero source MAC"
    InnerTagged "inner-tagged"
        "the inner frame has an 802.1Q tag and its VNI does not pass tags (RFC 7348 section 6.1)"
    EcnCongested "ecn-congested"
        "the outer header is marked congestion experienced, and the inner header can't carry the \
         mark (RFC 6040)"
    SplitHorizon "split-horizon" "a frame from the overlay is for a MAC behind another VTEP"
    // Input, before a worker sees the frame.
    NoSocket "no-socket"
        "the frame arrived on a receive queue without a socket: a queue that was just added, or one \
         that `show status` lists"
    SplitFrame "split-frame"
        "a piece of a frame longer than the interface's MTU, which the driver delivered in pieces"
    SocketFull "socket-full"
        "the ring or the buffer of the interface's socket was full; a superframe counts as one"
    NoChunk "no-chunk"
        "the kernel had no free chunk of the AF_XDP socket for the received frame; or the frame is \
         longer than a chunk, and the socket takes frames of one chunk only"
    // Output.
    FloodFull "flood-full"
        "too many frames of the port, of the overlay for the VNI, or of all, are waiting to be flooded"
    NoFloodTarget "no-flood-target"
        "nothing to flood to: the VNI has no remote VTEP and no other local port"
    PortMtu "port-mtu" "the frame is longer than the MTU of the tenant's interface allows"
    TooManySegments "too-many-segments"
        "a received frame has more than 64 chunks or 65,671 bytes, or one to send more than 9 \
         chunks, which the kernel does not take"
    MultiBufferUnsupported "multi-buffer-unsupported"
        "the frame has several segments, and the egress interface does not send multi-buffer \
         frames"
    NoFrame "no-frame" "no free UMEM chunk for a copy"
    TxFull "tx-full" "the transmit queue is full"
    TxDropped "tx-dropped"
        "the kernel's driver of the egress interface dropped the frame, which is counted as sent \
         too: its own queue is full, or the link just went down"
    HandOffFull "hand-off-full" "the queue to the worker that owns the port is full"
    Removed "removed"
        "the frame waited to be sent, and its port, interface, queue or VNI was removed meanwhile"
    PortDown "port-down" "the egress port has no link or no open socket"
    BadDescriptor "bad-descriptor"
        "a descriptor from the kernel lies outside its chunk, or names a chunk that the kernel \
         does not own"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_kebab_case() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert!(
            names
                .iter()
                .all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
        assert!(
            DropReason::ALL
                .iter()
                .enumerate()
                .all(|(i, r)| *r as usize == i)
        );
    }
}
