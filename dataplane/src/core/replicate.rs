//! Head-end replication: a tenant's frame for everybody goes once to each VTEP and each other port of its VNI
//! (RFC 7348 section 4.2 by unicast).

use super::frame::FrameMemory;
use super::local;
use super::tenant::{Target, TenantFrame};
use super::turn::{Blame, Turn};
use super::verdict::Reason;
use crate::table::vni::Domain;

impl TenantFrame<'_> {
    /// Sends the frame to every member of the domain but its own port: copies first, the frame itself last.
    pub(super) fn flood<'t, M: FrameMemory>(
        self,
        turn: &mut Turn<'t, '_, M>,
        domain: &'t Domain,
        unicast: bool,
    ) {
        let mut waiting = None;
        let mut receivers = 0;
        let mut answer = unicast;
        for hop in &domain.flood.next_hops {
            receivers += 1;
            match self.find_tunnel(turn, *hop, domain, answer) {
                Some(target) => self.send_copy(turn, waiting.replace(target), domain),
                // One frame has one answer, however many paths are too narrow for it.
                None => answer = false,
            }
        }
        for port in domain.flood.ports.iter().filter(|port| **port != self.facts.port) {
            receivers += 1;
            if let Some(exit) = local::find(turn, *port, domain, self.frame.len()) {
                self.send_copy(turn, waiting.replace(Target::Port(exit)), domain);
            }
        }
        match waiting {
            Some(last) => self.send(turn, last),
            None => {
                if receivers == 0 {
                    let port = turn.snapshot.ports.port(self.facts.port);
                    turn.count(Reason::NoReceiver, Blame { port, domain: Some(domain), hop: None });
                }
                turn.pool.give(self.frame);
            }
        }
    }

    fn send_copy<'t, M: FrameMemory>(
        &self,
        turn: &mut Turn<'t, '_, M>,
        target: Option<Target<'t>>,
        domain: &'t Domain,
    ) {
        let Some(target) = target else { return };
        match turn.copy(&self.frame) {
            Some(frame) => Self { frame, facts: self.facts }.send(turn, target),
            None => {
                let port = turn.snapshot.ports.port(self.facts.port);
                turn.count(Reason::NoFrame, Blame { port, domain: Some(domain), hop: None });
            }
        }
    }
}
