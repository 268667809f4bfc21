//! Netlink requests and events of [`Underlay`].

use std::io;
use std::time::Instant;

use hashbrown::HashSet;
use mio::{Interest, Registry, Token, event::Source};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::netlink::Reply;
use super::route::{self, RouteLookup};
use super::{NeighborKey, PendingWork, RECHECK, RETRY, Underlay, UnderlayEvent};
use super::{addresses::Addresses, links::Links, neighbors::NeighborCache, resolve};

/// RTM_NEWRULE, RTM_DELRULE, RTM_NEWNEXTHOP, RTM_DELNEXTHOP (include/uapi/linux/rtnetlink.h): they
/// may change any route, so their contents need not be parsed.
const ANY_ROUTE: [u16; 4] = [32, 33, 104, 105];

impl Source for Underlay {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.event_socket
            .source()
            .register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.event_socket
            .source()
            .reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.event_socket.source().deregister(registry)
    }
}

impl Underlay {
    /// Handles one event: updates the mirrors and marks the VTEPs that it may concern.
    pub(super) fn handle_event(&mut self, event: &[u8]) {
        let kind = event
            .get(4..6)
            .map_or(0, |kind| u16::from_ne_bytes([kind[0], kind[1]]));
        if ANY_ROUTE.contains(&kind) {
            return self.lookup_all();
        }
        match NetlinkMessage::<Message>::deserialize(event).map(|message| message.payload) {
            Ok(NetlinkPayload::InnerMessage(message)) => self.apply_message(&message),
            Ok(_) => {}
            // An event that can't be parsed may concern any route: look all of them up again.
            Err(error) => {
                tracing::debug!(%error, kind, "can't parse a netlink event");
                self.lookup_all();
            }
        }
    }

    pub(super) fn apply_message(&mut self, message: &Message) {
        match message {
            Message::NewLink(link) => {
                let changes = self.host.links.update(link);
                self.link_changes(changes);
            }
            Message::DelLink(link) => {
                let change = self.host.links.remove(link);
                self.link_changes(change);
            }
            Message::NewAddress(address) => {
                let change = self.host.addresses.update(address);
                self.address_changes(change);
            }
            Message::DelAddress(address) => {
                let change = self.host.addresses.remove(address);
                self.address_changes(change);
            }
            Message::NewNeighbour(neighbor) => self
                .changed_neighbors
                .extend(self.host.neighbors.update(neighbor)),
            Message::DelNeighbour(neighbor) => self
                .changed_neighbors
                .extend(self.host.neighbors.remove(neighbor)),
            Message::NewRoute(route) | Message::DelRoute(route) => self.route_changed(route),
            _ => {}
        }
    }

    /// A link that goes down removes its routes, and the kernel does not announce each of them.
    fn link_changes(&mut self, changes: impl IntoIterator<Item = super::LinkChange>) {
        for change in changes {
            self.events.push(UnderlayEvent::Link(change));
            self.lookup_all();
        }
    }

    /// The same applies to routes whose preferred source is removed.
    fn address_changes(&mut self, changes: impl IntoIterator<Item = super::AddressChange>) {
        for change in changes {
            self.events.push(UnderlayEvent::Address(change));
            self.lookup_all();
        }
    }

    fn route_changed(&mut self, message: &RouteMessage) {
        let Some(prefix) = route::event_prefix(message) else {
            return self.lookup_all();
        };
        // Tracked VTEPs are sorted, so those of a prefix are adjacent: route churn of a full table
        // is cheap.
        let concerned = self
            .tracked
            .range_mut(prefix.0..)
            .map(|(_, tracked)| tracked);
        for tracked in concerned.take_while(|tracked| route::covers(prefix, tracked.vtep.get())) {
            tracked.pending = PendingWork::Lookup;
        }
    }

    /// Dumps all tables and records every difference: at the start, and after events were lost.
    pub(super) fn read_tables(&mut self) -> io::Result<()> {
        let (mut links, mut addresses, mut neighbors) = (
            Links::default(),
            Addresses::default(),
            NeighborCache::default(),
        );
        for request in [
            Message::GetLink(Default::default()),
            Message::GetAddress(Default::default()),
        ] {
            for entry in self.request_socket.dump(&request)? {
                match &entry {
                    Message::NewLink(link) => drop(links.update(link)),
                    Message::NewAddress(address) => drop(addresses.update(address)),
                    _ => {}
                }
            }
        }
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = NeighbourMessage::default();
            request.header.family = family;
            for entry in self.request_socket.dump(&Message::GetNeighbour(request))? {
                if let Message::NewNeighbour(neighbor) = &entry {
                    neighbors.update(neighbor);
                }
            }
        }
        self.events.extend(
            self.host
                .links
                .difference(&links)
                .into_iter()
                .map(UnderlayEvent::Link),
        );
        self.events.extend(
            self.host
                .addresses
                .difference(&addresses)
                .into_iter()
                .map(UnderlayEvent::Address),
        );
        self.changed_neighbors
            .extend(self.host.neighbors.difference(&neighbors));
        (self.host.links, self.host.addresses, self.host.neighbors) = (links, addresses, neighbors);
        self.events_lost = false;
        self.lookup_all();
        Ok(())
    }

    /// Looks up the route of every VTEP that is marked for it.
    pub(super) fn lookup_routes(&mut self) -> io::Result<()> {
        let mut requests = Vec::new();
        let mut places = Vec::new();
        for tracked in self
            .tracked
            .values_mut()
            .filter(|tracked| tracked.pending == PendingWork::Lookup)
        {
            match resolve::local_address(tracked.vtep, &self.host) {
                Ok(source) => {
                    let request = route::lookup_request(
                        tracked.vtep,
                        source.get(),
                        self.host.config.udp_port,
                    );
                    requests.push(Message::GetRoute(request));
                    places.push(tracked.vtep.get());
                }
                Err(error) => tracked.lookup = RouteLookup::Skipped(error),
            }
        }
        let tracked = &mut self.tracked;
        self.request_socket
            .transact(&requests, false, |place, reply| {
                let Some(tracked) = places
                    .get(place)
                    .and_then(|address| tracked.get_mut(address))
                else {
                    return;
                };
                tracked.lookup = match reply {
                    Reply::Message(Message::NewRoute(message)) => {
                        RouteLookup::Found(route::parse(&message))
                    }
                    Reply::Message(_) => return,
                    Reply::Code(error) => RouteLookup::Failed(error),
                };
            })
    }

    /// Makes the kernel resolve missing and failed neighbors and probe stale ones, as a packet to
    /// them would: NTF_USE (neigh_add() in net/core/neighbour.c). The entries stay ordinary ones,
    /// which age and are garbage collected.
    pub(super) fn solicit(&mut self, now: Instant) -> io::Result<()> {
        let used: HashSet<NeighborKey> = self
            .tracked
            .values()
            .flat_map(|tracked| tracked.resolution.neighbors.iter().copied())
            .collect();
        self.solicited.retain(|key, _| used.contains(key));
        let mut due: Vec<NeighborKey> = used
            .into_iter()
            .filter(|key| self.host.neighbors.needs_attention(*key))
            .collect();
        due.retain(|key| {
            let pause = if self.host.neighbors.is_stale(*key) {
                RECHECK
            } else {
                RETRY
            };
            self.solicited
                .get(key)
                .is_none_or(|last| now.saturating_duration_since(*last) >= pause)
        });
        let again: Vec<NeighborKey> = due
            .iter()
            .filter(|key| self.solicited.contains_key(*key))
            .copied()
            .collect();
        self.solicited.extend(due.iter().map(|key| (*key, now)));
        let requests: Vec<Message> = due
            .iter()
            .map(|key| Message::NewNeighbour(use_neighbor(*key)))
            .collect();
        self.request_socket.transact(&requests, true, |place, reply| {
            if let (Reply::Code(error @ 1..), Some((link, address))) = (reply, due.get(place)) {
                let error = io::Error::from_raw_os_error(error);
                tracing::warn!(%address, link, %error, "can't make the kernel resolve the neighbor");
            }
        })?;
        self.fetch_neighbors(&again)
    }

    /// Reads single entries: one that stays unresolved in the mirror may be resolved in the kernel.
    fn fetch_neighbors(&mut self, keys: &[NeighborKey]) -> io::Result<()> {
        let requests: Vec<Message> = keys
            .iter()
            .map(|key| Message::GetNeighbour(neighbor(*key)))
            .collect();
        let (neighbors, changed_neighbors) =
            (&mut self.host.neighbors, &mut self.changed_neighbors);
        self.request_socket.transact(&requests, false, |_, reply| {
            if let Reply::Message(Message::NewNeighbour(entry)) = reply {
                changed_neighbors.extend(neighbors.update(&entry));
            }
        })?;
        self.requested |= !self.changed_neighbors.is_empty();
        Ok(())
    }
}

fn use_neighbor(key: NeighborKey) -> NeighbourMessage {
    let mut message = neighbor(key);
    message.header.flags = NeighbourFlags::Use;
    message
}

fn neighbor((link, address): NeighborKey) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if address.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    message.header.ifindex = link;
    message
        .attributes
        .push(NeighbourAttribute::Destination(address.into()));
    message
}
