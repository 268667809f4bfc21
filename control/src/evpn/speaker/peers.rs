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
    pub fn neighbor_remove(&mut self, now: Instant, id: NeighborId) {
        self.peer_down(now, id, false);
        self.shared.rib.remove_neighbor(id);
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
    pub fn peer_down(&mut self, now: Instant, id: NeighborId, keep_stale: bool) {
        self.shared.originated.peer_down(id);
        if keep_stale {
            self.shared.rib.mark(id, PathFilter::Stale);
        } else {
            self.drop_paths(now, id, PathFilter::All);
        }
    }

    fn drop_paths(&mut self, now: Instant, id: NeighborId, which: PathFilter) {
        for route in self.shared.rib.routes_of(id, which) {
            if let Some(change) = self.shared.rib.drop_path(id, route) {
                self.best_path_changed(now, change, ChangeCause::Other, None);
            }
        }
        self.shared.rib.gc();
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
    pub fn refresh_ended(&mut self, now: Instant, id: NeighborId) {
        self.drop_paths(now, id, PathFilter::Refreshing);
    }

    /// The restart time is over: stale paths are the last choice from now on (RFC 9494).
    pub fn stale_long_lived(&mut self, now: Instant, id: NeighborId) {
        for route in self.shared.rib.routes_of(id, PathFilter::Stale) {
            if let Some(change) = self.shared.rib.keep_long(id, route) {
                self.best_path_changed(now, change, ChangeCause::Other, None);
            }
        }
    }

    /// Removes the paths that are still stale.
    pub fn sweep_stale(&mut self, now: Instant, id: NeighborId) {
        self.drop_paths(now, id, PathFilter::Stale);
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
            PeerOutput::Connect(_) | PeerOutput::Close { .. } => return false,
            PeerOutput::SessionUp(negotiated) => self.peer_up(now, id, negotiated),
            PeerOutput::SessionDown { keep_stale_for, .. } => {
                self.peer_down(now, id, keep_stale_for.is_some());
            }
            PeerOutput::Update(update) => self.update(now, id, update),
            PeerOutput::EndOfRib => self.end_of_rib(id),
            PeerOutput::RefreshRequested => self.refresh_requested(id),
            PeerOutput::RefreshBegun => self.refresh_begun(id),
            PeerOutput::RefreshEnded => self.refresh_ended(now, id),
            PeerOutput::StaleLongLived => self.stale_long_lived(now, id),
            PeerOutput::SweepStale => self.sweep_stale(now, id),
        }
        true
    }

    /// Queues what the peer has not received yet, as much as its queue takes. Must be called after
    /// any change and after octets were written. True if nothing is left.
    pub fn pump(&mut self, now: Instant, id: NeighborId, peer: &mut Peer) -> bool {
        self.shared
            .originated
            .pump(id, |message| peer.send(now, message).is_ok())
    }

    /// True if [`EvpnSpeaker::pump`] has something to send.
    #[must_use]
    pub fn wants_to_send(&self, id: NeighborId) -> bool {
        self.shared.originated.has_pending(id)
    }
}
