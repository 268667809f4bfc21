//! What is decided about a frame. One drop, one named reason, one counter; docs/counters.md has a line for each.

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

            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name that `vtepctl show drops` and the metrics use. Never changes its meaning.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for the operator.
            #[must_use]
            pub const fn explain(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    // From a tenant.
    Runt "runt" "a frame from a tenant is shorter than an Ethernet header (14 bytes)"
    SourceMac "source-mac" "a frame from a tenant has a multicast or all-zero source MAC"
    Locked "locked" "the source MAC is none of those that the locked port may use"
    ArpNdSpoofed "arp-nd-spoofed" "ARP or ND from a locked port claims a MAC or IP address that is not the port's"
    ArpNdMalformed "arp-nd-malformed" "ARP or ND that every receiver must discard: lengths, hop limit, checksum, options, fragments"
    LinkLocalGroup "link-local-group" "the destination is 01:80:c2:00:00:00-0f, which no bridge forwards (IEEE 802.1Q)"
    Tagged "tagged" "the frame has an 802.1Q tag and its VNI does not pass tags (RFC 7348 section 6.1)"
    UnknownVlan "unknown-vlan" "no port of this trunk takes the frame's VLAN"
    Storm "storm" "broadcast, unknown unicast or multicast above the port's storm limit"
    Hairpin "hairpin" "the destination is behind the port that the frame came from"
    TooBig "too-big" "with the outer header the frame would be longer than the underlay's MTU"
    NoAdjacency "no-adjacency" "no underlay path to the VTEP: no route, no neighbour, or its link is down"
    // From the underlay.
    OuterTruncated "outer-truncated" "the outer headers reach beyond the end of the packet"
    OuterIp "outer-ip" "outer IP header damaged: version, length, options or header checksum"
    OuterFragment "outer-fragment" "the outer packet is a fragment"
    OuterUdp "outer-udp" "the outer UDP length does not agree with the packet"
    OuterUdpChecksum "outer-udp-checksum" "the outer UDP checksum is wrong, or missing where it is required"
    WrongDestination "wrong-destination" "the outer destination is none of our VTEP addresses, or not the VXLAN port"
    VxlanFlags "vxlan-flags" "the I flag of the VXLAN header is 0 (RFC 7348 section 5)"
    VxlanReserved "vxlan-reserved" "reserved bits of the VXLAN header are set and strict-reserved is on"
    UnknownVni "unknown-vni" "the VNI is not configured here"
    UnknownVtep "unknown-vtep" "the outer source is no known VTEP of the VNI"
    InnerRunt "inner-runt" "the inner frame is shorter than an Ethernet header (14 bytes)"
    InnerSourceMac "inner-source-mac" "the inner frame has a multicast or all-zero source MAC"
    InnerTagged "inner-tagged" "the inner frame has an 802.1Q tag and its VNI does not pass tags (RFC 7348 section 6.1)"
    EcnCongested "ecn-congested" "the outer header says congestion experienced, and the inner can't carry it (RFC 6040)"
    SplitHorizon "split-horizon" "a frame from the overlay is for a MAC behind another VTEP: it never goes back"
    // On the way out.
    FloodFull "flood-full" "too many frames of the port, or of all ports, wait to be flooded"
    NoFloodTarget "no-flood-target" "nobody to flood to: the VNI has no remote VTEP and no other local port"
    PortMtu "port-mtu" "the frame is longer than the MTU of the tenant's interface"
    TooManySegments "too-many-segments" "a received frame fills more chunks than vtepd takes: the sender left its segmentation to an interface that doesn't do it"
    MultiBufferUnsupported "multi-buffer-unsupported" "the frame spans several chunks, and the kernel takes only one a frame on the port to send on"
    NoFrame "no-frame" "no free UMEM frame for a copy"
    TxFull "tx-full" "the transmit queue is full"
    HandOffFull "hand-off-full" "the queue to the worker that owns the port is full"
    PortDown "port-down" "the port to send on has no socket now"
    BadDescriptor "bad-descriptor" "the kernel gave a descriptor that lies outside its chunk or is not ours"
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
