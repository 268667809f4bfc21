//! BGP peers: their sessions, and what they announce and request.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::EvpnSpeaker;
use crate::bgp::{Negotiated, Peer, PeerOutput};
use crate::evpn::shared::ChangeCause;
use crate::rib::{NeighborId, PathFilter};

/// How long after a session came up announcements of the peer count as old ones, unless an
/// End-of-RIB arrives earlier.
const INITIAL: Duration = Duration::from_secs(30);

/// Paths that are removed or changed in one portion of a pass: two milliseconds.
const PATHS: usize = 4096;

/// Routes that are looked at for them.
const LOOKS: u32 = 1 << 17;

/// A pass over the paths of a peer, in portions: there may be millions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathPass {
    /// Those that have ended are removed.
    Remove,
    /// Those that are stale are the last choice from now on (RFC 9494).
    LongLived,
}

/// The session of a peer.
#[derive(Debug)]
pub(super) struct PeerState {
    address: IpAddr,
    /// Until then the peer sends its first full set of routes.
    initial_until: Option<Instant>,
}

impl PeerState {
    /// True while the peer sends its first full set of routes.
    pub(super) fn is_initial(&self, now: Instant) -> bool {
        self.initial_until.is_some_and(|until| now < until)
    }
}

impl EvpnSpeaker {
    /// Adds a peer, whose session is down.
    pub fn neighbor_add(&mut self, id: NeighborId, address: IpAddr) {
        self.shared
            .rib
            .set_neighbor(id, false, Ipv4Addr::UNSPECIFIED, address);
        let initial_until = None;
        self.peers.insert(
            id,
            PeerState {
                address,
                initial_until,
            },
        );
    }

    /// Removes a peer with all its routes.
    pub fn neighbor_remove(&mut self, id: NeighborId) {
        self.peer_down(id, false);
        self.peers.remove(&id);
    }

    /// The session is established: [`EvpnSpeaker::pump`] sends all originated routes.
    pub fn peer_up(&mut self, now: Instant, id: NeighborId, negotiated: &Arc<Negotiated>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.initial_until = Some(now + INITIAL);
        self.shared
            .rib
            .set_neighbor(id, negotiated.internal, negotiated.router_id, peer.address);
        self.shared.originated.peer_up(id, negotiated.clone());
    }

    /// The session ended. With `keep_stale` its routes stay until [`EvpnSpeaker::sweep_stale`] (RFC
    /// 4724).
    pub fn peer_down(&mut self, id: NeighborId, keep_stale: bool) {
        self.shared.originated.peer_down(id);
        if keep_stale {
            self.shared.rib.mark(id, PathFilter::Stale);
        } else {
            self.end_paths(id, PathFilter::All);
        }
    }

    /// Paths of a peer are gone: they count no longer, and [`Self::continue_passes`] removes them.
    fn end_paths(&mut self, id: NeighborId, which: PathFilter) {
        self.shared.rib.end_paths(id, which);
        if which != PathFilter::Refreshing {
            self.shared.rib.set_fresh(id);
        }
        self.passes.insert((id, PathPass::Remove), 0);
    }

    /// Does one portion of the passes over the paths of peers. Nothing is left when
    /// [`Self::has_passes`] is false.
    pub(super) fn continue_passes(&mut self, now: Instant) {
        let (mut looks, mut limit) = (LOOKS, PATHS);
        while looks > 0
            && limit > 0
            && let Some(((id, pass), first)) = self.passes.pop_first()
        {
            let which = match pass {
                PathPass::Remove => PathFilter::Ended,
                PathPass::LongLived => PathFilter::Stale,
            };
            let rib = &mut self.shared.rib;
            let (routes, next) = rib.routes_of(id, which, first, looks, limit);
            limit -= routes.len();
            let looked = next.unwrap_or_else(|| rib.slots());
            looks = looks.saturating_sub(looked.saturating_sub(first));
            for route in routes {
                let rib = &mut self.shared.rib;
                let change = match pass {
                    PathPass::Remove => rib.drop_path(id, route),
                    PathPass::LongLived => rib.mark_long_lived(id, route),
                };
                if let Some(change) = change {
                    self.best_path_changed(now, change, ChangeCause::Other, None);
                }
            }
            if let Some(next) = next {
                self.passes.insert((id, pass), next);
            } else if pass == PathPass::Remove && !self.peers.contains_key(&id) {
                self.shared.rib.remove_neighbor(id);
            }
        }
        self.shared.rib.gc();
    }

    /// True while passes over the paths of peers are in progress.
    pub(super) fn has_passes(&self) -> bool {
        !self.passes.is_empty()
    }

    /// The peer has sent its first full set of routes (RFC 4724 section 2).
    pub fn end_of_rib(&mut self, id: NeighborId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.initial_until = None;
        }
    }

    /// The peer requests all routes again (RFC 2918).
    pub fn refresh_requested(&mut self, id: NeighborId) {
        self.shared.originated.refresh(id);
    }

    /// The peer begins to send all its routes again (RFC 7313).
    pub fn refresh_begun(&mut self, id: NeighborId) {
        self.shared.rib.mark(id, PathFilter::Refreshing);
    }

    /// The peer has sent all its routes again: others are removed (RFC 7313).
    pub fn refresh_ended(&mut self, id: NeighborId) {
        self.end_paths(id, PathFilter::Refreshing);
    }

    /// The restart time is over: stale paths are the last choice from now on (RFC 9494).
    pub fn stale_long_lived(&mut self, id: NeighborId) {
        self.passes.insert((id, PathPass::LongLived), 0);
    }

    /// Removes the paths that are still stale.
    pub fn sweep_stale(&mut self, id: NeighborId) {
        self.end_paths(id, PathFilter::Stale);
    }

    /// The number of routes of the peer that are held, for [`Peer::handle_prefix_count`].
    #[must_use]
    pub fn prefix_count(&self, id: NeighborId) -> usize {
        self.shared.rib.path_count(id)
    }

    /// Handles an output of the peer's [`Peer`] that is about routes. False if it is about a
    /// connection, which is left to the owner of the sockets.
    pub fn handle(&mut self, now: Instant, id: NeighborId, output: &PeerOutput<'_>) -> bool {
        match output {
            PeerOutput::Connect(_) | PeerOutput::Close { .. } | PeerOutput::AttemptFailed(_) => {
                return false;
            }
            PeerOutput::SessionUp(negotiated) => self.peer_up(now, id, negotiated),
            PeerOutput::SessionDown { keep_stale_for, .. } => {
                self.peer_down(id, keep_stale_for.is_some());
            }
            PeerOutput::Update(update) => self.update(now, id, update),
            PeerOutput::EndOfRib => self.end_of_rib(id),
            PeerOutput::RefreshRequested => self.refresh_requested(id),
            PeerOutput::RefreshBegun => self.refresh_begun(id),
            PeerOutput::RefreshEnded => self.refresh_ended(id),
            PeerOutput::StaleLongLived => self.stale_long_lived(id),
            PeerOutput::SweepStale => self.sweep_stale(id),
        }
        true
    }

    /// Queues what the peer has not received yet, as much as its queue takes. Must be called after
    /// any change and after octets were written. True if nothing is left.
    pub fn pump(&mut self, now: Instant, id: NeighborId, peer: &mut Peer) -> bool {
        self.pump_messages(id, |message| peer.send(now, message).is_ok())
    }

    /// As [`EvpnSpeaker::pump`]: passes the messages to `sink` until it returns false.
    pub fn pump_messages(&mut self, id: NeighborId, sink: impl FnMut(&[u8]) -> bool) -> bool {
        self.shared.originated.pump(id, sink)
    }

    /// True if [`EvpnSpeaker::pump`] has something to send.
    #[must_use]
    pub fn wants_to_send(&self, id: NeighborId) -> bool {
        self.shared.originated.has_pending(id)
    }
}
