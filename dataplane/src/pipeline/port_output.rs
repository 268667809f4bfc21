//! To a tenant port: the only way out for a frame from the overlay, and one of two for a frame from a tenant.

use super::cache::Exit;
use super::context::Turn;
use super::meta::{Blame, Leaving};
use crate::addr::PortId;
use crate::drop::DropReason;
use crate::frame::{Frame, FrameMemory};
use crate::table::port::Role;
use crate::table::vni::Domain;
use crate::wire::vlan;

/// A frame that can only go to tenants.
#[derive(Debug)]
pub(super) struct LocalFrame(Frame);

impl Leaving for LocalFrame {
    fn into_frame(self) -> Frame {
        self.0
    }
}

/// True when the frame before went to the port `id` and one of `len` bytes of `domain` may too.
#[inline(always)]
pub(super) fn goes_on<M: FrameMemory>(
    turn: &Turn<'_, '_, M>,
    id: PortId,
    domain: &Domain,
    len: usize,
) -> bool {
    turn.exit.way().is_some_and(|Exit { port, .. }| {
        port.id == id && port.domain == domain.id && len <= usize::from(port.max_frame)
    })
}

/// Finds the port `id` for a frame of `len` bytes of `domain`. `None`: the drop has been counted.
///
/// The MAC table may be newer or older than the snapshot: a port of another domain, or on an underlay device, is none.
pub(super) fn find<'t, M: FrameMemory>(
    turn: &Turn<'t, '_, M>,
    id: PortId,
    domain: &Domain,
    len: usize,
) -> Option<Exit<'t>> {
    match look(turn, id, domain) {
        Some(exit) if len <= usize::from(exit.port.max_frame) => Some(exit),
        found => refuse(turn, id, domain, found),
    }
}

fn look<'t, M: FrameMemory>(
    turn: &Turn<'t, '_, M>,
    id: PortId,
    domain: &Domain,
) -> Option<Exit<'t>> {
    let ports = &turn.snapshot.ports;
    let port = ports.port(id).filter(|port| port.domain == domain.id)?;
    let device = ports
        .device(port.device)
        .filter(|device| device.role != Role::Underlay)?;
    Some(Exit { port, device })
}

/// Counts why a frame can't leave by a port.
#[cold]
fn refuse<'t, M: FrameMemory>(
    turn: &Turn<'t, '_, M>,
    id: PortId,
    domain: &Domain,
    found: Option<Exit<'t>>,
) -> Option<Exit<'t>> {
    let blame = Blame {
        port: turn.snapshot.ports.port(id),
        domain: Some(domain),
        hop: None,
    };
    match found {
        Some(exit) => turn.count_at(exit.device, DropReason::PortMtu, blame),
        None => turn.count(DropReason::PortDown, blame),
    }
    None
}

impl LocalFrame {
    /// From now on the frame is for tenants only.
    pub(super) const fn new(frame: Frame) -> Self {
        Self(frame)
    }

    /// A second frame with the same bytes; `None` when no chunk is free.
    pub(super) fn copy<M: FrameMemory>(&self, turn: &mut Turn<'_, '_, M>) -> Option<Self> {
        turn.copy(&self.0).map(Self)
    }

    /// Sends the frame to a port.
    #[inline(never)]
    pub(super) fn send<'t, M: FrameMemory>(self, turn: &mut Turn<'t, '_, M>, exit: Exit<'t>) {
        if turn
            .exit
            .way()
            .is_none_or(|way| way.port.id != exit.port.id)
        {
            turn.exit.turn_to(exit);
        }
        self.deliver(turn);
    }

    /// Sends the frame to the port that is the way out now, with the port's VLAN tag.
    #[inline(always)]
    pub(super) fn deliver<M: FrameMemory>(mut self, turn: &mut Turn<'_, '_, M>) {
        let Some(&Exit { port, device }) = turn.exit.way() else {
            return turn.refuse(self.0, DropReason::PortDown, Blame::default());
        };
        let blame = Blame {
            port: Some(port),
            ..Blame::default()
        };
        let len = self.0.len();
        if let Some(id) = port.vlan {
            if self.0.prepend(vlan::LEN as u16).is_err() {
                return turn.refuse(self.0, DropReason::BadDescriptor, blame);
            }
            vlan::open(turn.pool.memory_mut().bytes_mut(&mut self.0), id);
        }
        if turn.queue(device, self, blame) {
            turn.exit.add(len);
        }
    }

    /// Sends the frame to all local ports of `domain`: copies first, the frame itself last.
    pub(super) fn flood<'t, M: FrameMemory>(self, turn: &mut Turn<'t, '_, M>, domain: &'t Domain) {
        let mut waiting = None;
        for id in &domain.flood.ports {
            if let Some(exit) = find(turn, *id, domain, self.0.len())
                && let Some(before) = waiting.replace(exit)
            {
                match self.copy(turn) {
                    Some(copy) => copy.send(turn, before),
                    None => turn.count(
                        DropReason::NoFrame,
                        Blame {
                            port: Some(before.port),
                            domain: Some(domain),
                            hop: None,
                        },
                    ),
                }
            }
        }
        match waiting {
            Some(exit) => self.send(turn, exit),
            None => turn.pool.free(self.0),
        }
    }
}
