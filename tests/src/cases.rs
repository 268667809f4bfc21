//! Packets that both a Linux VXLAN device and vtepd receive, and what each of them does with them.
//!
//! Hypervisor 1 serves VNI 100 with tenant 11; hypervisor 9 is a known VTEP; the MAC of tenant 12
//! is behind it.

use self::Outcome::{Cut, Delivered, Dropped, Marked};
use crate::craft::{Checksum, Packet, vxlan};
use crate::fabric::{Underlay, vtep4, vtep6};
use crate::frame::{EXPERIMENT, mac, plain, tagged, udp4, udp6};
use crate::link;

/// What the tenant receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The inner frame, unchanged.
    Delivered,
    /// The inner frame with these ECN bits.
    Marked(u8),
    /// The inner frame without its last bytes; how many are missing.
    Cut(usize),
    /// Any other frame.
    Other,
    /// Nothing.
    Dropped,
}

/// One test case, for both VTEPs.
#[derive(Debug, Clone)]
pub struct Case {
    /// The name in docs/linux-differences.md.
    pub name: &'static str,
    /// The family of the underlay.
    pub underlay: Underlay,
    /// The packets, in order.
    pub packets: Vec<Vec<u8>>,
    /// The inner frame that should arrive, if one does.
    pub inner: Vec<u8>,
    /// What Linux does.
    pub linux: Outcome,
    /// What vtepd does.
    pub vtepd: Outcome,
    /// The drop reason that vtepd counts; `None` if the packet is left to the host stack, or is not
    /// dropped.
    pub reason: Option<&'static str>,
}

impl Case {
    /// The outcome of this case, where `frames` are all frames that the tenant received.
    #[must_use]
    pub fn outcome(&self, frames: &[Vec<u8>]) -> Outcome {
        let marker = marker(self.name);
        let mine = |f: &&Vec<u8>| {
            f.get(6..12) == self.inner.get(6..12) && self.inner.get(6..12) != Some(&[0; 6])
                || f.windows(marker.len()).any(|w| w == marker.as_bytes())
        };
        let found: Vec<&Vec<u8>> = frames.iter().filter(mine).collect();
        match found[..] {
            [] => Outcome::Dropped,
            [frame] if *frame == self.inner => Outcome::Delivered,
            [frame] if self.inner.starts_with(frame) => {
                Outcome::Cut(self.inner.len() - frame.len())
            }
            [frame] => ecn_changed(&self.inner, frame).map_or(Outcome::Other, Outcome::Marked),
            _ => Outcome::Other,
        }
    }
}

/// The ECN bits of `after`, if only they (and an IPv4 header checksum) differ from `before`.
fn ecn_changed(before: &[u8], after: &[u8]) -> Option<u8> {
    let v4 = before.get(12..14)? == [0x08, 0x00];
    let mut same = after.to_vec();
    let ecn = if v4 {
        after.get(15)? & 3
    } else {
        after.get(15)? >> 4 & 3
    };
    same.get_mut(14..16)?.copy_from_slice(before.get(14..16)?);
    if v4 {
        same.get_mut(24..26)?.copy_from_slice(before.get(24..26)?);
    }
    (same == before && (!v4 || crate::frame::checksum(0, &after[14..34]) == 0)).then_some(ecn)
}

fn marker(name: &str) -> String {
    format!("case:{name};")
}

/// Collects cases; the inner source MAC 50:54:33:99:00:NN identifies each, even where no text fits.
struct Cases {
    all: Vec<Case>,
    outer: (String, String),
}

impl Cases {
    fn source(&self) -> String {
        format!("50:54:33:99:00:{:02x}", self.all.len())
    }

    fn inner(&self, name: &str) -> Vec<u8> {
        plain(&link::mac(11), &self.source(), &marker(name))
    }

    fn packet(&self, underlay: Underlay, inner: Vec<u8>) -> Packet {
        match underlay {
            Underlay::V4 => Packet::v4(&self.outer.0, &self.outer.1, inner),
            Underlay::V6 => Packet::v6(&self.outer.0, &self.outer.1, inner),
        }
    }

    /// Linux and vtepd behave the same.
    fn same(
        &mut self,
        name: &'static str,
        both: Outcome,
        reason: Option<&'static str>,
        change: impl FnOnce(&mut Packet),
    ) {
        self.over(Underlay::V4, name, (both, both), reason, change);
    }

    /// They differ; `outcomes` is (Linux, vtepd).
    fn differ(
        &mut self,
        name: &'static str,
        outcomes: (Outcome, Outcome),
        reason: Option<&'static str>,
        change: impl FnOnce(&mut Packet),
    ) {
        self.over(Underlay::V4, name, outcomes, reason, change);
    }

    fn over(
        &mut self,
        underlay: Underlay,
        name: &'static str,
        (linux, vtepd): (Outcome, Outcome),
        reason: Option<&'static str>,
        change: impl FnOnce(&mut Packet),
    ) {
        let mut packet = self.packet(underlay, self.inner(name));
        change(&mut packet);
        let (packets, inner) = (vec![packet.bytes()], packet.inner);
        self.all.push(Case {
            name,
            underlay,
            packets,
            inner,
            linux,
            vtepd,
            reason,
        });
    }

    /// The outer header has the ECN bits `outer`.
    fn ecn(&mut self, name: &'static str, outer: u8, inner: Vec<u8>, both: Outcome) {
        let reason = (both == Dropped).then_some("ecn-congested");
        self.same(name, both, reason, |p| {
            p.tos = outer;
            p.inner = inner;
        });
    }
}

/// All cases, for a hypervisor with the underlay MAC `to_mac`, from a peer with `from_mac`.
#[must_use]
pub fn all(to_mac: &str, from_mac: &str) -> Vec<Case> {
    let mut cases = Cases {
        all: Vec::new(),
        outer: (to_mac.into(), from_mac.into()),
    };
    good_packets(&mut cases);
    outer_headers(&mut cases);
    fragments(&mut cases);
    vxlan_headers(&mut cases);
    inner_frames(&mut cases);
    destinations(&mut cases);
    congestion(&mut cases);
    cases.all
}

fn good_packets(c: &mut Cases) {
    c.same("good-v4", Delivered, None, |_| ());
    c.over(
        Underlay::V6,
        "good-v6",
        (Delivered, Delivered),
        None,
        |_| (),
    );
    c.same("udp-checksum-right-v4", Delivered, None, |p| {
        p.udp_checksum = Checksum::Right;
    });
    c.same("source-port-below-1024", Delivered, None, |p| {
        p.ports.0 = 53;
    });
    c.same("ttl-1", Delivered, None, |p| p.ttl = 1);
    c.same("ethernet-padding", Delivered, None, |p| p.padding = 10);
    c.same("full-size", Delivered, None, |p| p.inner.resize(1514, 0xaa));
    c.same("df-clear", Delivered, None, |p| p.fragment = 0);
    let nested = c.inner("vxlan-in-vxlan");
    let inner = c.packet(Underlay::V4, nested);
    let source = c.source();
    c.same("vxlan-in-vxlan", Delivered, None, |p| {
        p.inner = Packet {
            macs: (link::mac(11), source),
            ..inner
        }
        .bytes();
    });
}

fn outer_headers(c: &mut Cases) {
    let bad_sum = Some("outer-udp-checksum");
    c.same("udp-checksum-wrong-v4", Dropped, bad_sum, |p| {
        p.udp_checksum = Checksum::Wrong;
    });
    c.over(
        Underlay::V6,
        "udp-checksum-wrong-v6",
        (Dropped, Dropped),
        bad_sum,
        |p| {
            p.udp_checksum = Checksum::Wrong;
        },
    );
    c.over(
        Underlay::V6,
        "udp-checksum-zero-v6",
        (Dropped, Dropped),
        bad_sum,
        |p| {
            p.udp_checksum = Checksum::Zero;
        },
    );
    c.same("ip-checksum-wrong", Dropped, Some("outer-ip"), |p| {
        p.ip_checksum_error = 1;
    });
    c.same("ip-length-too-long", Dropped, Some("outer-ip"), |p| {
        p.ip_length_error = 10;
    });
    c.same("ip-length-too-short", Dropped, Some("outer-udp"), |p| {
        p.ip_length_error = -4;
    });
    c.same("udp-length-too-long", Dropped, Some("outer-udp"), |p| {
        p.udp_length_error = 4;
    });
    c.differ(
        "udp-length-too-short",
        (Cut(4), Dropped),
        Some("outer-udp"),
        |p| p.udp_length_error = -4,
    );
    c.same("udp-length-below-8", Dropped, Some("outer-udp"), |p| {
        p.udp_length_error = -79;
    });
    c.differ("ip-options", (Delivered, Dropped), Some("outer-ip"), |p| {
        p.options = vec![1, 1, 1, 1];
    });
    c.differ("outer-vlan-tag", (Dropped, Delivered), None, |p| {
        p.outer_vlan = Some(7);
    });
    c.same("other-udp-port", Dropped, None, |p| p.ports.1 = 4790);
    c.same("not-our-address", Dropped, None, |p| p.to = vtep4(200));
    c.differ(
        "unknown-vtep-v4",
        (Delivered, Dropped),
        Some("unknown-vtep"),
        |p| p.from = vtep4(66),
    );
    let stranger = Some("unknown-vtep");
    c.over(
        Underlay::V6,
        "unknown-vtep-v6",
        (Delivered, Dropped),
        stranger,
        |p| p.from = vtep6(66),
    );
}

fn fragments(c: &mut Cases) {
    c.same("first-fragment", Dropped, Some("outer-fragment"), |p| {
        p.fragment = 0x2000;
    });
    c.same("last-fragment", Dropped, None, |p| p.fragment = 0x0005);
    let name = "all-fragments";
    let inner = c.inner(name);
    let whole = c.packet(Underlay::V4, inner.clone()).bytes();
    let piece = |range: std::ops::Range<usize>, fragment: u16| {
        let payload = &whole[34..][range];
        let mut frame = [&whole[..34], payload].concat();
        let length = u16::try_from(20 + payload.len()).expect("short");
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        frame[18..20].copy_from_slice(&[0x12, 0x34]);
        frame[20..22].copy_from_slice(&fragment.to_be_bytes());
        frame[24..26].fill(0);
        let sum = crate::frame::checksum(0, &frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    let packets = vec![piece(0..40, 0x2000), piece(40..whole.len() - 34, 5)];
    let (linux, vtepd) = (Delivered, Dropped);
    c.all.push(Case {
        name,
        underlay: Underlay::V4,
        packets,
        inner,
        linux,
        vtepd,
        reason: Some("outer-fragment"),
    });
}

fn vxlan_headers(c: &mut Cases) {
    c.same("i-flag-missing", Dropped, Some("vxlan-flags"), |p| {
        p.vxlan = vxlan(0, 100);
    });
    c.differ("reserved-flag", (Dropped, Delivered), None, |p| {
        p.vxlan[0] = 0x88;
    });
    c.differ("reserved-24-bits", (Dropped, Delivered), None, |p| {
        p.vxlan[2] = 0x01;
    });
    c.differ("reserved-last-byte", (Dropped, Delivered), None, |p| {
        p.vxlan[7] = 0x01;
    });
    c.same("unknown-vni", Dropped, Some("unknown-vni"), |p| {
        p.vxlan = vxlan(8, 101);
    });
    c.same("vni-0", Dropped, Some("unknown-vni"), |p| {
        p.vxlan = vxlan(8, 0);
    });
    c.same("vni-max", Dropped, Some("unknown-vni"), |p| {
        p.vxlan = vxlan(8, 0xff_ffff);
    });
    c.same("no-vxlan-header", Dropped, Some("outer-truncated"), |p| {
        p.cut = Some(0);
    });
    c.same(
        "vxlan-header-7-bytes",
        Dropped,
        Some("outer-truncated"),
        |p| p.cut = Some(7),
    );
    c.same("vxlan-header-only", Dropped, Some("inner-runt"), |p| {
        p.cut = Some(8);
    });
}

fn inner_frames(c: &mut Cases) {
    c.same("inner-13-bytes", Dropped, Some("inner-runt"), |p| {
        p.inner.truncate(13);
    });
    c.same("inner-14-bytes", Delivered, None, |p| p.inner.truncate(14));
    c.same("inner-15-bytes", Delivered, None, |p| p.inner.truncate(15));
    let bad_source = Some("inner-source-mac");
    c.same("source-mac-multicast", Dropped, bad_source, |p| {
        p.inner[6] |= 1;
    });
    c.same("source-mac-zero", Dropped, bad_source, |p| {
        p.inner[6..12].fill(0);
    });
    c.same("source-mac-broadcast", Dropped, bad_source, |p| {
        p.inner[6..12].fill(0xff);
    });
    let tag = Some("inner-tagged");
    c.differ("inner-tag", (Delivered, Dropped), tag, |p| {
        p.inner = tagged(&p.inner, 7);
    });
    c.differ("inner-priority-tag", (Delivered, Dropped), tag, |p| {
        p.inner = tagged(&p.inner, 0);
    });
    c.differ("inner-service-tag", (Delivered, Dropped), tag, |p| {
        p.inner = tagged(&p.inner, 7);
        p.inner[12..14].copy_from_slice(&[0x88, 0xa8]);
    });
}

fn destinations(c: &mut Cases) {
    let to = |p: &mut Packet, address: &str| p.inner[..6].copy_from_slice(&mac(address));
    c.same("unknown-unicast", Delivered, None, |p| {
        to(p, "50:54:33:00:77:77");
    });
    c.same("broadcast", Delivered, None, |p| to(p, "ff:ff:ff:ff:ff:ff"));
    c.same("multicast", Delivered, None, |p| to(p, "01:00:5e:01:02:03"));
    c.differ("bridge-group", (Delivered, Dropped), None, |p| {
        to(p, "01:80:c2:00:00:00");
    });
    c.same("lldp-group", Dropped, None, |p| to(p, "01:80:c2:00:00:0e"));
    c.same("behind-another-vtep", Dropped, Some("split-horizon"), |p| {
        to(p, &link::mac(12));
    });
}

fn congestion(c: &mut Cases) {
    let to = link::mac(11);
    let v4 = |c: &Cases, name: &str, ecn| udp4(&to, &c.source(), ecn, &marker(name));
    let v6 = |c: &Cases, name: &str, ecn| udp6(&to, &c.source(), ecn, &marker(name));
    let names = [
        "ecn-ce-not-ect",
        "ecn-ce-ect0",
        "ecn-ce-ect1",
        "ecn-ce-ce",
        "ecn-ect1-ect0",
        "ecn-ect0-not-ect",
        "ecn-ect1-ce",
    ];
    let outer_inner = [(3, 0), (3, 2), (3, 1), (3, 3), (1, 2), (2, 0), (1, 3)];
    let outcomes = [
        Dropped,
        Marked(3),
        Marked(3),
        Delivered,
        Marked(1),
        Delivered,
        Delivered,
    ];
    for ((name, (outer, inner)), outcome) in names.into_iter().zip(outer_inner).zip(outcomes) {
        let frame = v4(c, name, inner);
        c.ecn(name, outer, frame, outcome);
    }
    let frame = v6(c, "ecn-ce-not-ect-inner-v6", 0);
    c.ecn("ecn-ce-not-ect-inner-v6", 3, frame, Dropped);
    let frame = v6(c, "ecn-ce-ect0-inner-v6", 2);
    c.ecn("ecn-ce-ect0-inner-v6", 3, frame, Marked(3));
    let frame = c.inner("ecn-ce-not-ip");
    debug_assert_eq!(frame[12..14], EXPERIMENT.to_be_bytes());
    c.ecn("ecn-ce-not-ip", 3, frame, Delivered);
}
