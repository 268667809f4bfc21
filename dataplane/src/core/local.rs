//! To a tenant port: the only way out for a frame from the overlay, and one of two for a frame from a tenant.

use super::frame::{Frame, FrameMemory};
use super::turn::{Blame, Leaving, Turn};
use super::verdict::Reason;
use crate::addr::PortId;
use crate::table::port::{Device, PortEntry, Role};
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

/// A port that a frame of its length may leave by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exit<'t> {
    port: &'t PortEntry,
    device: &'t Device,
}

impl<'t> Exit<'t> {
    /// Finds the port `id` for a frame of `len` bytes of `domain`. `None`: the drop has been counted.
    ///
    /// The MAC table may be newer or older than the snapshot: a port of another domain, or on an underlay device, is
    /// none.
    #[inline]
    pub(super) fn find<M: FrameMemory>(
        turn: &Turn<'t, '_, M>,
        id: PortId,
        domain: &Domain,
        len: usize,
    ) -> Option<Self> {
        let ports = &turn.snapshot.ports;
        let found = ports.port(id).filter(|port| port.domain == domain.id).and_then(|port| {
            let device = ports.device(port.device).filter(|device| device.role != Role::Underlay)?;
            Some(Self { port, device })
        });
        let blame = Blame { port: ports.port(id), domain: Some(domain), hop: None };
        let Some(exit) = found else {
            turn.count(Reason::PortDown, blame);
            return None;
        };
        if len > usize::from(exit.port.max_frame) {
            turn.count_at(exit.device, Reason::PortMtu, blame);
            return None;
        }
        Some(exit)
    }
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

    /// Sends the frame to a port, with the port's VLAN tag.
    #[inline]
    pub(super) fn deliver<'t, M: FrameMemory>(mut self, turn: &mut Turn<'t, '_, M>, exit: Exit<'t>) {
        let Exit { port, device } = exit;
        let blame = Blame { port: Some(port), ..Blame::default() };
        let len = self.0.len();
        if let Some(id) = port.vlan {
            if self.0.prepend(vlan::LEN as u16).is_err() {
                return turn.refuse(self.0, Reason::BadDescriptor, blame);
            }
            vlan::open(turn.pool.memory_mut().bytes_mut(&mut self.0), id);
        }
        if turn.queue(device, self, blame) {
            turn.to_port.add(port.counters.row(turn.worker), len);
        }
    }

    /// Sends the frame to all local ports of `domain`: copies first, the frame itself last.
    pub(super) fn flood<'t, M: FrameMemory>(self, turn: &mut Turn<'t, '_, M>, domain: &'t Domain) {
        let mut waiting = None;
        for id in &domain.flood.ports {
            if let Some(exit) = Exit::find(turn, *id, domain, self.0.len())
                && let Some(before) = waiting.replace(exit)
            {
                match self.copy(turn) {
                    Some(copy) => copy.deliver(turn, before),
                    None => turn.count(
                        Reason::NoFrame,
                        Blame { port: Some(before.port), domain: Some(domain), hop: None },
                    ),
                }
            }
        }
        match waiting {
            Some(exit) => self.deliver(turn, exit),
            None => turn.pool.give(self.0),
        }
    }
}
