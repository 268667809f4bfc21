//! Packet sockets that the kernel has stopped filling. A superframe that a vnet header can't describe
//! (UFO, SCTP) takes a slot of the ring without being put into it, and every later frame is dropped as
//! if the ring were full (net/packet/af_packet.c, `tpacket_rcv`, Linux 6.18: `rx_owner_map`). Only a new
//! socket ends that.

use std::time::Instant;

use vtep_dataplane::packet::Reception;

use super::repeated_looks::{LOOKS, LastLook};
use super::{InterfaceState, Interfaces};
use crate::config::InterfaceName;
use crate::workers::Workers;

/// What was seen of one socket.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StallWatch {
    last: LastLook<Reception>,
    /// Looks in a row that have seen frames lost, and none come.
    stalled: u32,
}

impl StallWatch {
    /// Looks at a socket. Returns whether the kernel does not fill its ring any more: it is empty, and
    /// frames are lost as if it were full.
    fn look(&mut self, reception: Reception, now: Instant) -> bool {
        let Some(before) = self.last.replace(reception, now) else {
            return false;
        };
        let lost = reception.lost > before.lost;
        let came = reception.received > before.received;
        self.stalled = match (came || !reception.is_empty, lost) {
            (true, _) => 0,
            (false, true) => self.stalled + 1,
            // Nothing was sent: nothing is known.
            (false, false) => self.stalled,
        };
        self.stalled >= LOOKS
    }
}

impl Interfaces {
    /// Opens an interface again one of whose packet sockets is not filled any more. Returns whether it
    /// did.
    pub(super) fn end_stall(
        &mut self,
        name: &InterfaceName,
        workers: &mut Workers,
        now: Instant,
    ) -> bool {
        let Some(managed) = self.managed.get_mut(name) else {
            return false;
        };
        let InterfaceState::Open(open) = &mut managed.state else {
            return false;
        };
        let mut stalled = None;
        for queue in &mut open.queues {
            let reception = queue.socket.reception();
            if reception.is_some_and(|reception| queue.stall.look(reception, now)) {
                stalled = reception.map(|reception| (queue.number, reception.lost));
            }
        }
        let Some((socket, lost)) = stalled.filter(|_| managed.may_open_again(now)) else {
            return false;
        };
        tracing::warn!(
            interface = %name,
            socket,
            lost,
            "the kernel has stopped filling a packet socket, after a superframe that it can't describe (UFO, SCTP); \
             the interface is opened again"
        );
        self.close_to_reopen(name, workers) | self.try_open(name, workers, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What looks at 0, 1, 2 ... s find, of frames received and lost, and of whether the ring is empty.
    fn looks(all: &[(u64, u64, bool)]) -> Vec<bool> {
        let (mut watch, start) = (StallWatch::default(), Instant::now());
        let look = |(&(received, lost, is_empty), second)| {
            let reception = Reception {
                received,
                lost,
                is_empty,
            };
            watch.look(reception, start + Duration::from_secs(second))
        };
        all.iter().zip(0..).map(look).collect()
    }

    #[test]
    fn an_empty_ring_that_is_said_to_be_full_is_a_stall() {
        let seen = looks(&[(9, 0, true), (9, 4, true), (9, 4, true), (9, 7, true)]);
        assert_eq!(seen, [false, false, false, true]);
    }

    #[test]
    fn a_ring_that_was_full_for_a_while_is_none() {
        for seen in [
            // The worker was late, and has emptied it.
            looks(&[(9, 0, true), (9, 5, false), (9, 9, false), (20, 9, true)]),
            // Bursts that are longer than the ring.
            looks(&[(9, 0, true), (99, 5, true), (180, 9, true), (270, 20, true)]),
            // A loss, then silence.
            looks(&[(9, 0, true), (9, 5, true), (9, 5, true), (9, 5, true)]),
            // Then frames.
            looks(&[(9, 0, true), (9, 5, true), (10, 5, true), (10, 6, true)]),
        ] {
            assert_eq!(seen, [false; 4]);
        }
    }
}
