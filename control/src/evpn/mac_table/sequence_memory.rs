//! Mobility sequences of MACs that left: peers may ignore a lower one than they have seen (RFC 7432
//! section 15), so a MAC that comes back continues where it was.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use vtep_dataplane::addr::{HostMac, Vni};

/// How long a sequence is remembered after its MAC left.
const KEPT: Duration = Duration::from_secs(600);

/// Maximum number of remembered sequences of one VNI, by each origin; the oldest is dropped first.
const LIMIT: usize = 4096;

/// Where the MAC was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// Behind this VTEP.
    Local,
    /// Behind another VTEP.
    Remote,
}

/// The sequences of one VNI and origin.
#[derive(Debug, Default)]
struct Sequences {
    by_mac: HashMap<HostMac, (u32, Instant)>,
    /// In the order in which the MACs left; some may have come back, and left again, since.
    order: VecDeque<(Instant, HostMac)>,
}

/// The sequences of MACs that left. One of 0 needs no memory.
#[derive(Debug, Default)]
pub(super) struct SequenceMemory {
    all: HashMap<(Vni, Origin), Sequences>,
}

impl SequenceMemory {
    /// A MAC left with this sequence.
    pub(super) fn remember(
        &mut self,
        now: Instant,
        (vni, mac): (Vni, HostMac),
        origin: Origin,
        sequence: u32,
    ) {
        if sequence == 0 {
            return;
        }
        let Sequences { by_mac, order } = self.all.entry((vni, origin)).or_default();
        by_mac.insert(mac, (sequence, now));
        order.push_back((now, mac));
        let is_old = |at: Instant| now.saturating_duration_since(at) >= KEPT;
        while order.len() > LIMIT || order.front().is_some_and(|(at, _)| is_old(*at)) {
            let Some((at, mac)) = order.pop_front() else {
                break;
            };
            if by_mac.get(&mac).is_some_and(|(_, left)| *left == at) {
                by_mac.remove(&mac);
            }
        }
    }

    /// The sequence with which a MAC left, if that was a short while ago.
    pub(super) fn get(&self, now: Instant, vni: Vni, mac: HostMac, origin: Origin) -> Option<u32> {
        let (sequence, left) = self.all.get(&(vni, origin))?.by_mac.get(&mac)?;
        (now.saturating_duration_since(*left) < KEPT).then_some(*sequence)
    }

    /// Forgets all MACs of a VNI.
    pub(super) fn forget(&mut self, vni: Vni) {
        for origin in [Origin::Local, Origin::Remote] {
            self.all.remove(&(vni, origin));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: usize) -> HostMac {
        let [.., a, b] = n.to_be_bytes();
        HostMac::new(vtep_dataplane::addr::MacAddr([2, 0, 0, 0, a, b])).expect("unicast")
    }

    #[test]
    fn sequences_are_kept_for_ten_minutes_and_the_oldest_make_room() {
        let (vni, now) = (Vni::new(100).expect("a VNI"), Instant::now());
        let mut memory = SequenceMemory::default();
        memory.remember(now, (vni, mac(1)), Origin::Local, 5);
        memory.remember(now, (vni, mac(2)), Origin::Local, 0);
        let get = |memory: &SequenceMemory, n: usize, after: u64| {
            let at = now + Duration::from_secs(after);
            memory.get(at, vni, mac(n), Origin::Local)
        };
        assert_eq!(
            [get(&memory, 1, 599), get(&memory, 1, 600)],
            [Some(5), None]
        );
        assert_eq!(get(&memory, 2, 0), None);
        for n in 3..3 + LIMIT {
            memory.remember(now, (vni, mac(n)), Origin::Local, 7);
        }
        assert_eq!([get(&memory, 1, 0), get(&memory, 3, 0)], [None, Some(7)]);
        assert_eq!(memory.all[&(vni, Origin::Local)].by_mac.len(), LIMIT);
        memory.forget(vni);
        assert_eq!(get(&memory, 3, 0), None);
    }
}
