//! Frames from the overlay: they have no way back to it (split horizon).
//!
//! ```text
//! admit: decap, VNI, source VTEP, guard, ECN -> OverlayFrame -> forward: local ports only
//! ```

use super::classify::{Network, Packet};
use super::frame::{Frame, FrameMemory};
use super::local::{Exit, LocalFrame};
use super::turn::{Blame, Turn};
use super::verdict::Reason;
use super::{checksum, decap, ecn, guard};
use crate::addr::{MacAddr, NextHopId, VtepAddr};
use crate::table::mac::{Destination, MacKey};
use crate::wire::{ipv4, ipv6};

/// An inner frame, checked, without its outer headers.
#[derive(Debug)]
pub(super) struct OverlayFrame {
    frame: Frame,
    /// `None`: a VTEP that nobody has told of, by its VNI's group.
    from: Option<NextHopId>,
}

impl OverlayFrame {
    /// Checks a packet of the turn's device and takes its outer headers off. Returns the inner frame with the key to
    /// look up; `None`: it was dropped and counted.
    #[inline]
    pub(super) fn admit<M: FrameMemory>(
        turn: &mut Turn<'_, '_, M>,
        mut frame: Frame,
    ) -> Option<(Self, MacKey)> {
        let mut blame = Blame::default();
        match Self::decapsulate(turn, &mut frame, &mut blame) {
            Ok((from, destination, domain)) => Some((Self { frame, from }, MacKey::new(domain, destination))),
            Err(reason) => {
                turn.refuse(frame, reason, blame);
                None
            }
        }
    }

    #[inline]
    fn decapsulate<'t, M: FrameMemory>(
        turn: &mut Turn<'t, '_, M>,
        frame: &mut Frame,
        blame: &mut Blame<'t>,
    ) -> Result<(Option<NextHopId>, MacAddr, crate::addr::DomainId), Reason> {
        let snapshot = turn.snapshot;
        if turn.device.software {
            checksum::complete_tunnelled(turn.pool.memory_mut(), frame);
        }
        let memory = turn.pool.memory();
        let (packet, len) = (memory.bytes(frame), frame.len());
        let tunnelled = decap::parse(packet, len, &snapshot.settings, |range| memory.sum(frame, range))?;
        let domain = snapshot.vnis.by_vni(tunnelled.vni).ok_or(Reason::UnknownVni)?;
        blame.domain = Some(domain);
        if tunnelled.group.is_some() && tunnelled.group != domain.group.map(VtepAddr::get) {
            return Err(Reason::NotOurs);
        }
        let source = decap::vtep(tunnelled.source).ok_or(Reason::UnknownVtep)?;
        let from = snapshot.next_hops.by_address(source).filter(|from| domain.sources.contains(*from));
        if from.is_none() && tunnelled.group.is_none() {
            return Err(Reason::UnknownVtep);
        }
        blame.hop = from.and_then(|from| snapshot.next_hops.get(from));
        turn.pool.truncate(frame, tunnelled.inner.end);
        frame.trim_front(tunnelled.inner.start as u16).map_err(|_| Reason::OuterTruncated)?;
        turn.from_domain.add(domain.counters.row(turn.worker), frame.len());
        if let Some(hop) = blame.hop {
            turn.from_hop.add(hop.counters.row(turn.worker), frame.len());
        }
        let bytes = turn.pool.memory_mut().bytes_mut(frame);
        let destination = guard::inner(bytes, domain)?;
        combine_ecn(bytes, tunnelled.tos)?;
        Ok((from, destination, domain.id))
    }

    /// Sends the frame to the port that was found for its key, or to all local ports of the domain.
    #[inline]
    pub(super) fn forward<M: FrameMemory>(
        self,
        turn: &mut Turn<'_, '_, M>,
        key: MacKey,
        found: Option<Destination>,
    ) {
        let snapshot = turn.snapshot;
        let blame = Blame {
            port: None,
            domain: snapshot.vnis.domain(key.domain()),
            hop: self.from.and_then(|from| snapshot.next_hops.get(from)),
        };
        let Some(domain) = blame.domain else { return turn.refuse(self.frame, Reason::UnknownVni, blame) };
        match found.filter(|_| !key.mac().is_multicast()) {
            Some(Destination::Port(port)) => match Exit::find(turn, port, domain, self.frame.len()) {
                Some(exit) => LocalFrame::new(self.frame).deliver(turn, exit),
                None => turn.pool.give(self.frame),
            },
            Some(Destination::NextHop(_)) => turn.refuse(self.frame, Reason::SplitHorizon, blame),
            None if domain.flood.ports.is_empty() => turn.refuse(self.frame, Reason::NoReceiver, blame),
            None => LocalFrame::new(self.frame).flood(turn, domain),
        }
    }
}

/// Carries congestion from the outer to the inner header (RFC 6040). Frames other than IP have nowhere to say it, and no
/// sender that would listen: they pass, as on Linux.
#[inline]
fn combine_ecn(frame: &mut [u8], outer: u8) -> Result<(), Reason> {
    if outer & 3 == 0 {
        return Ok(());
    }
    let packet = Packet::of(frame);
    if packet.network == Network::Other {
        return Ok(());
    }
    let tos = ecn::inner_tos(outer, packet.tos).ok_or(Reason::EcnCongested)?;
    if tos != packet.tos {
        let header = &mut frame[usize::from(packet.ip)..];
        match packet.network {
            Network::V6 => ipv6::set_traffic_class(header, tos),
            _ => ipv4::set_tos(header, tos),
        }
    }
    Ok(())
}
