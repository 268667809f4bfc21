//! Netlink requests and events of [`Underlay`].

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use hashbrown::HashSet;
use mio::{Interest, Registry, Token, event::Source};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::netlink::Reply;
use super::path_mtu::PathMtu;
use super::resolve::{self, DefaultLinks};
use super::route::{self, RouteLookup};
use super::{NeighborKey, PendingWork, RECHECK, RETRY, TrackedVtep, Underlay, UnderlayEvent};
use super::{addresses::Addresses, links::Links, neighbors::NeighborCache};

/// Routes looked up in one poll; each takes some microseconds.
const LOOKUPS: usize = 2048;

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
        self.icmp.register(registry, token, interests)?;
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
        self.icmp.reregister(registry, token, interests)?;
        self.event_socket
            .source()
            .reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.icmp.deregister(registry)?;
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
            Message::NewRoute(route) => {
                self.host.set_routes.add(route);
                self.route_changed(route);
            }
            Message::DelRoute(route) => {
                self.host.set_routes.remove(route);
                self.route_changed(route);
            }
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
        self.default_route_changed |= route::is_default(message);
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

    /// Looks up which interfaces the default routes use. Reading all routes would take long on a
    /// router; the addresses asked for are usually covered by nothing else (documentation prefixes of RFC
    /// 5737, RFC 3849 and RFC 9637, in both halves of the address space).
    pub(super) fn lookup_default(&mut self) -> io::Result<()> {
        let probes: [IpAddr; 4] = [
            Ipv4Addr::new(198, 51, 100, 1).into(),
            Ipv4Addr::new(100, 100, 100, 1).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0xffff, 0, 0, 0, 1).into(),
            Ipv6Addr::new(0xfd00, 0xffff, 0xffff, 0xffff, 0, 0, 0, 1).into(),
        ];
        let requests = probes.map(|address| Message::GetRoute(route::plain_request(address)));
        let mut found = DefaultLinks::default();
        self.request_socket
            .transact(&requests, false, |place, reply| {
                let Reply::Message(Message::NewRoute(message)) = reply else {
                    return;
                };
                if !route::is_default(&message) {
                    return;
                }
                let links = if probes[place].is_ipv4() {
                    &mut found.v4
                } else {
                    &mut found.v6
                };
                links.extend(route::parse(&message).hops.iter().map(|hop| hop.ifindex));
            })?;
        self.host.default_links = found;
        Ok(())
    }

    /// The VTEPs whose routes are looked up next, in turn: a change of any route marks all.
    fn due_lookups(&mut self) -> Vec<IpAddr> {
        let is_due =
            |(_, tracked): &(&IpAddr, &TrackedVtep)| tracked.pending == PendingWork::Lookup;
        let mut due: Vec<_> = self
            .tracked
            .iter()
            .filter(is_due)
            .map(|(at, _)| *at)
            .collect();
        let first = due.partition_point(|address| Some(*address) <= self.looked_up);
        due.rotate_left(first);
        self.more_events |= due.len() > LOOKUPS;
        due.truncate(LOOKUPS);
        self.looked_up = due.last().copied();
        due
    }

    /// Looks up the routes of a portion of the VTEPs that are marked for it.
    pub(super) fn lookup_routes(&mut self) -> io::Result<()> {
        let mut requests = Vec::new();
        let mut places = Vec::new();
        for address in self.due_lookups() {
            let Some(tracked) = self.tracked.get_mut(&address) else {
                continue;
            };
            tracked.pending = PendingWork::Derive;
            match resolve::local_address(tracked.vtep, &self.host) {
                Ok(source) => {
                    let request = route::lookup_request(
                        tracked.vtep,
                        source.get(),
                        self.host.config.udp_port,
                    );
                    requests.push(Message::GetRoute(request));
                    places.push(address);
                }
                Err(error) => tracked.lookup = RouteLookup::Skipped(error),
            }
        }
        let tracked = &mut self.tracked;
        let looked_up = self
            .request_socket
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
            });
        if looked_up.is_err() {
            for address in places {
                if let Some(tracked) = self.tracked.get_mut(&address) {
                    tracked.pending = PendingWork::Lookup;
                }
            }
        }
        looked_up
    }

    /// Asks the kernel for the path MTUs that its own connections to a VTEP have discovered, which
    /// it announces in no event: for new VTEPs, and where an error or an expiry calls for it. Over
    /// several next hops they differ, and each interface is asked for.
    pub(super) fn ask_for_path_mtus(&mut self, now: Instant) -> io::Result<()> {
        let mut requests = Vec::new();
        let mut places = Vec::new();
        for tracked in self.tracked.values_mut().filter(|it| it.ask_kernel) {
            let RouteLookup::Found(route) = &tracked.lookup else {
                continue;
            };
            tracked.ask_kernel = false;
            if tracked.vtep.is_group() {
                continue;
            }
            let Ok(source) = resolve::local_address(tracked.vtep, &self.host) else {
                continue;
            };
            let links: BTreeSet<u32> = route.hops.iter().map(|hop| hop.ifindex).collect();
            for link in links {
                let port = self.host.config.udp_port;
                let request = route::exception_request(tracked.vtep, source.get(), port, link);
                requests.push(Message::GetRoute(request));
                places.push(tracked.vtep.get());
            }
        }
        let mut learned = Vec::new();
        self.request_socket
            .transact(&requests, false, |place, reply| {
                if let (Reply::Message(Message::NewRoute(message)), Some(vtep)) =
                    (reply, places.get(place))
                {
                    learned.extend(route::exception(&message).map(|found| (*vtep, found)));
                }
            })?;
        for (vtep, (mtu, left)) in learned {
            let until = now + left;
            self.lower_path_mtu(
                vtep,
                PathMtu {
                    mtu,
                    reporter: None,
                    until,
                },
                now,
            );
        }
        Ok(())
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
            if let (Reply::Code(error @ 1..), Some((link, address))) = (reply, due.get(place))
                && let Some(suppressed) = self.neighbor_notices.allow(now)
            {
                let error = io::Error::from_raw_os_error(error);
                tracing::warn!(%address, link, %error, suppressed, "can't make the kernel resolve the neighbor");
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
