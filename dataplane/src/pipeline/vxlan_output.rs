//! To a VTEP: only frames of tenants are encapsulated, so that no frame from the overlay goes back to it.

use super::cache::Tunnel;
use super::context::Turn;
use super::encap::{self, Beyond, Variable};
use super::meta::{Blame, Facts, Leaving, Next, TenantFrame};
use super::parse::Packet;
use super::{ecn, flow, pmtu};
use crate::addr::VtepId;
use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory};
use crate::table::mac::MacKey;
use crate::table::vni::Domain;
use crate::table::vtep::{Adjacency, RemoteVtep};
use crate::table::{Settings, Snapshot};
use crate::wire::checksum::Sum;

/// An encapsulated frame of a tenant. Nothing else can be sent to the underlay.
#[derive(Debug)]
pub(super) struct UnderlayFrame(Frame);

impl Leaving for UnderlayFrame {
    fn into_frame(self) -> Frame {
        self.0
    }
}

impl Facts {
    /// What the outer header has of the frame and its VNI.
    #[inline(always)]
    pub(super) const fn variable(&self, settings: &Settings, domain: &Domain) -> Variable {
        Variable {
            tos: ecn::outer_tos(self.tos, settings.dscp),
            source_port: flow::source_port(self.flow),
            vni: domain.vni.get(),
            no_udp6_checksum: settings.udp6_zero_tx,
        }
    }
}

/// True when the frame goes the same way as the one before it.
#[inline(always)]
pub(super) fn goes_on<M: FrameMemory>(
    turn: &Turn<'_, '_, M>,
    frame: &Frame,
    facts: &Facts,
    (id, key): (VtepId, MacKey),
) -> bool {
    turn.tunnel.way().is_some_and(|way| {
        let path = way.hop.path(flow::path_hash(facts.flow));
        facts.next == Next::Forward
            && way.id == id
            && way.domain.id == key.domain()
            && path.is_some_and(|path| std::ptr::eq(path, way.path))
            && frame.len() <= usize::from(way.path.max_frame)
    })
}

/// Puts the outer header of the way that is taken now before the frame, in its own headroom, and sends it to the underlay.
#[inline(always)]
pub(super) fn encapsulate<M: FrameMemory>(turn: &mut Turn<'_, '_, M>, frame: Frame, facts: &Facts) {
    let Some(&Tunnel {
        path,
        device,
        domain,
        hop,
        ..
    }) = turn.tunnel.way()
    else {
        return turn.refuse(frame, DropReason::Unresolved, Blame::default());
    };
    let (inner_len, blame) = (
        frame.len(),
        Blame {
            port: None,
            domain: Some(domain),
            hop: Some(hop),
        },
    );
    let variable = facts.variable(&turn.snapshot.settings, domain);
    match UnderlayFrame::prepend(turn, frame, path, variable) {
        Ok(frame) => {
            if turn.queue(device, frame, blame) {
                turn.tunnel.add(inner_len);
            }
        }
        Err(frame) => turn.refuse(frame, DropReason::BadDescriptor, blame),
    }
}

/// What follows the first chunk of a frame.
#[cold]
fn beyond<M: FrameMemory>(turn: &Turn<'_, '_, M>, frame: &Frame, path: &Adjacency) -> Beyond {
    let (first, len) = (frame.first().len(), frame.len());
    let with_sum = path.rewrite.is_v6() && !turn.snapshot.settings.udp6_zero_tx;
    let sum = if with_sum {
        turn.pool.memory().sum(frame, first..len)
    } else {
        Sum::new()
    };
    Beyond {
        len: len - first,
        sum,
    }
}

impl UnderlayFrame {
    /// Puts the outer header of `path` before a frame, in its own headroom; gives the frame back when that is too short.
    #[inline(always)]
    pub(super) fn prepend<M: FrameMemory>(
        turn: &mut Turn<'_, '_, M>,
        mut frame: Frame,
        path: &Adjacency,
        variable: Variable,
    ) -> Result<Self, Frame> {
        if frame.prepend(path.rewrite.size()).is_err() {
            return Err(frame);
        }
        let beyond = if frame.is_chained() {
            beyond(turn, &frame, path)
        } else {
            Beyond::default()
        };
        Ok(Self::write(turn, frame, beyond, path, variable))
    }

    /// Writes the outer header of `path` to the front of a frame, where there is room for it.
    #[inline(always)]
    pub(super) fn write<M: FrameMemory>(
        turn: &mut Turn<'_, '_, M>,
        mut frame: Frame,
        beyond: Beyond,
        path: &Adjacency,
        variable: Variable,
    ) -> Self {
        let packet = turn.pool.memory_mut().bytes_mut(&mut frame);
        encap::write(packet, beyond, &path.rewrite, variable, turn.identification);
        Self(frame)
    }
}

impl TenantFrame {
    /// The path to a VTEP for this frame, if it fits.
    #[inline(always)]
    pub(super) fn tunnel<'t, M: FrameMemory>(
        &self,
        turn: &Turn<'t, '_, M>,
        id: VtepId,
        domain: &'t Domain,
    ) -> Option<Tunnel<'t>> {
        let (hop, path) = self.way(turn.snapshot, id)?;
        let device = turn.snapshot.ports.device(path.device)?;
        Some(Tunnel {
            id,
            hop,
            path,
            device,
            domain,
        })
    }

    /// A VTEP and the path to it, if the frame fits.
    #[inline(always)]
    pub(super) fn way<'t>(
        &self,
        snapshot: &'t Snapshot,
        id: VtepId,
    ) -> Option<(&'t RemoteVtep, &'t Adjacency)> {
        let hop = snapshot.vteps.get(id)?;
        let path = hop.path(flow::path_hash(self.facts.flow))?;
        (self.frame.len() <= usize::from(path.max_frame)).then_some((hop, path))
    }

    /// What the frame carries: looked at once more, where it is not the usual.
    pub(super) fn packet<M: FrameMemory>(&self, turn: &Turn<'_, '_, M>) -> Packet {
        Packet::of_first(turn.pool.memory().bytes(&self.frame), self.frame.len())
    }

    /// Finds the path to a VTEP for this frame. `None`: the drop has been counted, and, if `answer`, the tenant told
    /// when its packet is too long.
    #[inline(never)]
    pub(super) fn find_tunnel<'t, M: FrameMemory>(
        &self,
        turn: &mut Turn<'t, '_, M>,
        id: VtepId,
        domain: &'t Domain,
        answer: bool,
    ) -> Option<Tunnel<'t>> {
        if let Some(tunnel) = self.tunnel(turn, id, domain) {
            return Some(tunnel);
        }
        let hop = turn.snapshot.vteps.get(id);
        let blame = Blame {
            port: turn.snapshot.ports.port(self.facts.port),
            domain: Some(domain),
            hop,
        };
        match hop.and_then(|hop| hop.path(flow::path_hash(self.facts.flow))) {
            None => turn.count(DropReason::Unresolved, blame),
            Some(path) if self.frame.len() <= usize::from(path.max_frame) => {
                turn.count(DropReason::PortDown, blame);
            }
            Some(path) => {
                turn.count(DropReason::TooBig, blame);
                if answer {
                    let packet = self.packet(turn);
                    pmtu::answer(
                        turn,
                        &self.frame,
                        packet,
                        (self.facts.port, domain),
                        path.max_frame,
                    );
                }
            }
        }
        None
    }

    /// Sends the frame to a VTEP.
    #[inline(never)]
    pub(super) fn send_to_vtep<'t, M: FrameMemory>(
        self,
        turn: &mut Turn<'t, '_, M>,
        tunnel: Tunnel<'t>,
    ) {
        turn.enter(tunnel);
        encapsulate(turn, self.frame, &self.facts);
    }
}
