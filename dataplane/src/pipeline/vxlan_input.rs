//! Frames from the overlay: they have no way back to it (split horizon).
//!
//! ```text
//! admit: decap, VNI, source VTEP, guard, ECN -> OverlayFrame -> forward: local ports only
//! ```

use std::net::IpAddr;

use super::cache::Origin;
use super::context::Turn;
use super::decap::{self, Tunnelled};
use super::meta::Blame;
use super::parse::{Network, Packet};
use super::port_output::{self, LocalFrame};
use super::stages::Side;
use super::{checksum, ecn, validate};
use crate::addr::VtepAddr;
use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory};
use crate::table::mac::{Destination, LookupResult, MacKey};
use crate::table::vni::Domain;
use crate::table::vtep::RemoteVtep;
use crate::wire::{ipv4, ipv6};

/// What the first stage found out of a packet, for the last one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inner<'t> {
    /// The domain of its VNI; `None`: it was refused and counted.
    domain: Option<&'t Domain>,
    /// `None`: a VTEP that nobody has told of, by its VNI's group.
    from: Option<&'t RemoteVtep>,
}

impl Inner<'_> {
    /// Of a packet that goes nowhere.
    pub(super) const NONE: Self = Self {
        domain: None,
        from: None,
    };
}

/// An inner frame, checked, without its outer headers.
#[derive(Debug)]
pub(super) struct OverlayFrame<'t> {
    pub(super) frame: Frame,
    pub(super) inner: Inner<'t>,
}

/// Packets of underlay devices.
pub(super) struct FromOverlay;

impl<'t> Side<'t> for FromOverlay {
    type Facts = Inner<'t>;
    const NOWHERE: Inner<'t> = Inner::NONE;
    const PREPENDS: bool = false;

    /// Takes the outer headers off; the key is that of the inner frame.
    #[inline(always)]
    fn admit<M: FrameMemory>(
        turn: &mut Turn<'t, '_, M>,
        frame: &mut Frame,
        inner: &mut Inner<'t>,
    ) -> MacKey {
        let mut blame = Blame::default();
        match decapsulate(turn, frame, &mut blame) {
            Ok((admitted, key)) => {
                *inner = admitted;
                key
            }
            Err(reason) => {
                turn.count(reason, blame);
                *inner = Inner::NONE;
                MacKey::default()
            }
        }
    }

    #[inline(always)]
    fn pass<M: FrameMemory>(
        turn: &mut Turn<'t, '_, M>,
        frame: Frame,
        &inner: &Inner<'t>,
        _key: MacKey,
        found: LookupResult,
    ) {
        OverlayFrame { frame, inner }.pass(turn, found);
    }
}

#[inline(always)]
fn decapsulate<'t, M: FrameMemory>(
    turn: &mut Turn<'t, '_, M>,
    frame: &mut Frame,
    blame: &mut Blame<'t>,
) -> Result<(Inner<'t>, MacKey), DropReason> {
    if turn.device.csum_incomplete {
        checksum::complete_tunnelled(turn.pool.memory_mut(), frame);
    }
    // Twice the same: once for what nearly all packets are, with offsets that the compiler knows.
    let (memory, len) = (turn.pool.memory(), frame.len());
    let sum = |range| memory.sum(frame, range);
    match decap::parse_plain_v4(memory.bytes(frame), len, &turn.snapshot.settings, sum) {
        Some(tunnelled) => open(turn, frame, tunnelled?, blame),
        None => decapsulate_any(turn, frame, blame),
    }
}

#[inline(never)]
fn decapsulate_any<'t, M: FrameMemory>(
    turn: &mut Turn<'t, '_, M>,
    frame: &mut Frame,
    blame: &mut Blame<'t>,
) -> Result<(Inner<'t>, MacKey), DropReason> {
    let (memory, len) = (turn.pool.memory(), frame.len());
    let sum = |range| memory.sum(frame, range);
    let tunnelled = decap::parse(memory.bytes(frame), len, &turn.snapshot.settings, sum)?;
    open(turn, frame, tunnelled, blame)
}

/// Checks where the packet comes from and what is in it, and takes the outer headers off.
#[inline(always)]
fn open<'t, M: FrameMemory>(
    turn: &mut Turn<'t, '_, M>,
    frame: &mut Frame,
    tunnelled: Tunnelled,
    blame: &mut Blame<'t>,
) -> Result<(Inner<'t>, MacKey), DropReason> {
    let Tunnelled {
        source,
        to_group,
        vni,
        tos,
        inner,
    } = tunnelled;
    let same = |way: &&Origin<'_>| {
        way.domain.vni.get() == vni && way.source == source && !to_group && !way.to_group
    };
    let Origin { domain, hop, .. } = match turn.origin.way().filter(same) {
        Some(way) => *way,
        None => find_origin(turn, frame, (source, vni), blame)?,
    };
    (blame.domain, blame.hop) = (Some(domain), hop);
    turn.origin.add(inner.len());
    let bytes = turn.pool.memory_mut().bytes_mut(frame);
    let end = inner.end.min(bytes.len());
    let bytes = bytes
        .get_mut(inner.start..end)
        .ok_or(DropReason::OuterTruncated)?;
    let key = MacKey::of_bits(
        domain.id,
        validate::inner(bytes, domain)?.destination_bits(),
    );
    if tos & ecn::MASK != 0 {
        combine_ecn(bytes, tos)?;
    }
    turn.pool.truncate(frame, inner.end);
    frame
        .trim_front(inner.start as u16)
        .map_err(|_| DropReason::OuterTruncated)?;
    Ok((
        Inner {
            domain: Some(domain),
            from: hop,
        },
        key,
    ))
}

/// Whose packet it is: of a VTEP of its VNI, or of anybody if it came to the VNI's group.
#[inline(never)]
fn find_origin<'t, M: FrameMemory>(
    turn: &mut Turn<'t, '_, M>,
    frame: &Frame,
    (source, vni): (IpAddr, u32),
    blame: &mut Blame<'t>,
) -> Result<Origin<'t>, DropReason> {
    let snapshot = turn.snapshot;
    let domain = snapshot.vnis.by_vni(vni).ok_or(DropReason::UnknownVni)?;
    blame.domain = Some(domain);
    let group = decap::group(turn.pool.memory().bytes(frame));
    if group.is_some() && group != domain.group.map(VtepAddr::get) {
        return Err(DropReason::NotOurs);
    }
    let from = snapshot
        .vteps
        .by_source(source)
        .filter(|from| domain.sources.contains(*from));
    if from.is_none() && (group.is_none() || VtepAddr::new(source).is_err()) {
        return Err(DropReason::UnknownVtep);
    }
    let hop = from.and_then(|from| snapshot.vteps.get(from));
    let origin = Origin {
        source,
        to_group: group.is_some(),
        domain,
        hop,
    };
    turn.origin.turn_to(origin);
    Ok(origin)
}

impl<'t> OverlayFrame<'t> {
    /// Sends the frame to the port that was found for its key, or to all local ports of the domain.
    #[inline(always)]
    pub(super) fn pass<M: FrameMemory>(self, turn: &mut Turn<'t, '_, M>, found: LookupResult) {
        // Only MACs of hosts are ever found.
        if let (Some(port), Some(domain)) = (found.port(), self.inner.domain)
            && port_output::goes_on(turn, port, domain, self.frame.len())
        {
            return LocalFrame::new(self.frame).deliver(turn);
        }
        self.pass_on(turn, found.destination());
    }

    /// All but the usual.
    #[inline(never)]
    fn pass_on<M: FrameMemory>(self, turn: &mut Turn<'t, '_, M>, found: Option<Destination>) {
        let Some(domain) = self.inner.domain else {
            return turn.pool.free(self.frame);
        };
        let blame = Blame {
            port: None,
            domain: Some(domain),
            hop: self.inner.from,
        };
        match found {
            Some(Destination::Port(port)) => {
                match port_output::find(turn, port, domain, self.frame.len()) {
                    Some(exit) => LocalFrame::new(self.frame).send(turn, exit),
                    None => turn.pool.free(self.frame),
                }
            }
            Some(Destination::Vtep(_)) => turn.refuse(self.frame, DropReason::SplitHorizon, blame),
            None if domain.flood.ports.is_empty() => {
                turn.refuse(self.frame, DropReason::NoReceiver, blame)
            }
            None => LocalFrame::new(self.frame).flood(turn, domain),
        }
    }
}

/// Carries congestion from the outer to the inner header (RFC 6040). Frames other than IP have nowhere to say it, and no
/// sender that would listen: they pass, as on Linux.
#[inline(never)]
fn combine_ecn(frame: &mut [u8], outer: u8) -> Result<(), DropReason> {
    let packet = Packet::of(frame);
    if packet.network == Network::Other {
        return Ok(());
    }
    let tos = ecn::inner_tos(outer, packet.tos).ok_or(DropReason::EcnCongested)?;
    if tos != packet.tos {
        let header = &mut frame[usize::from(packet.ip)..];
        match packet.network {
            Network::V6 => ipv6::set_traffic_class(header, tos),
            _ => ipv4::set_tos(header, tos),
        }
    }
    Ok(())
}
