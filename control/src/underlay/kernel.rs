//! What [`Underlay`] says to the kernel and hears from it.

use std::io;
use std::time::Instant;

use hashbrown::HashSet;
use mio::{Interest, Registry, Token, event::Source};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::netlink::Reply;
use super::route::{self, Answer};
use super::{Change, Key, RECHECK, RETRY, Underlay, Work};
use super::{addresses::Addresses, links::Links, neighbors::Neighbours, resolve};

/// RTM_NEWRULE, RTM_DELRULE, RTM_NEWNEXTHOP, RTM_DELNEXTHOP (include/uapi/linux/rtnetlink.h): any route may mean
/// something else now, and what they say needs no reading.
const ANY_ROUTE: [u16; 4] = [32, 33, 104, 105];

impl Source for Underlay {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.events.source().register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.events.source().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.events.source().deregister(registry)
    }
}

impl Underlay {
    /// Takes up one event: into the mirrors, and as work for the VTEPs that it may concern.
    pub(super) fn take_up(&mut self, event: &[u8]) {
        let kind = event
            .get(4..6)
            .map_or(0, |kind| u16::from_ne_bytes([kind[0], kind[1]]));
        if ANY_ROUTE.contains(&kind) {
            return self.ask_all();
        }
        match NetlinkMessage::<Message>::deserialize(event).map(|message| message.payload) {
            Ok(NetlinkPayload::InnerMessage(message)) => self.heed(&message),
            Ok(_) => {}
            // What we can't read may be anything: only asking again is safe.
            Err(error) => {
                tracing::debug!(%error, kind, "a netlink event can't be read");
                self.ask_all();
            }
        }
    }

    pub(super) fn heed(&mut self, message: &Message) {
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
            Message::NewNeighbour(neighbour) => {
                self.touched.extend(self.host.neighbours.update(neighbour))
            }
            Message::DelNeighbour(neighbour) => {
                self.touched.extend(self.host.neighbours.remove(neighbour))
            }
            Message::NewRoute(route) | Message::DelRoute(route) => self.route_changed(route),
            _ => {}
        }
    }

    /// A link that goes down takes its routes along, and the kernel does not announce each of them.
    fn link_changes(&mut self, changes: impl IntoIterator<Item = super::LinkChange>) {
        for change in changes {
            self.changes.push(Change::Link(change));
            self.ask_all();
        }
    }

    /// The same holds for routes whose preferred source goes away.
    fn address_changes(&mut self, changes: impl IntoIterator<Item = super::AddressChange>) {
        for change in changes {
            self.changes.push(Change::Address(change));
            self.ask_all();
        }
    }

    fn route_changed(&mut self, message: &RouteMessage) {
        let Some(prefix) = route::covered(message) else {
            return self.ask_all();
        };
        // Wanted VTEPs are ordered, so those of a prefix stand together: a full table's churn costs little.
        let concerned = self.wanted.range_mut(prefix.0..).map(|(_, wanted)| wanted);
        for wanted in concerned.take_while(|wanted| route::covers(prefix, wanted.vtep.get())) {
            wanted.work = Work::Ask;
        }
    }

    /// Reads all tables and notes every difference. At the start, and after events were lost.
    pub(super) fn read_tables(&mut self) -> io::Result<()> {
        let (mut links, mut addresses, mut neighbours) = (
            Links::default(),
            Addresses::default(),
            Neighbours::default(),
        );
        for request in [
            Message::GetLink(Default::default()),
            Message::GetAddress(Default::default()),
        ] {
            for entry in self.requests.dump(&request)? {
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
            for entry in self.requests.dump(&Message::GetNeighbour(request))? {
                if let Message::NewNeighbour(neighbour) = &entry {
                    neighbours.update(neighbour);
                }
            }
        }
        self.changes.extend(
            self.host
                .links
                .difference(&links)
                .into_iter()
                .map(Change::Link),
        );
        self.changes.extend(
            self.host
                .addresses
                .difference(&addresses)
                .into_iter()
                .map(Change::Address),
        );
        self.touched
            .extend(self.host.neighbours.difference(&neighbours));
        (self.host.links, self.host.addresses, self.host.neighbours) =
            (links, addresses, neighbours);
        self.lost = false;
        self.ask_all();
        Ok(())
    }

    /// Asks for the route of every VTEP that waits for one.
    pub(super) fn ask_routes(&mut self) -> io::Result<()> {
        let mut questions = Vec::new();
        let mut places = Vec::new();
        for wanted in self
            .wanted
            .values_mut()
            .filter(|wanted| wanted.work == Work::Ask)
        {
            match resolve::source(wanted.vtep, &self.host) {
                Ok(source) => {
                    let question =
                        route::question(wanted.vtep, source.get(), self.host.config.udp_port);
                    questions.push(Message::GetRoute(question));
                    places.push(wanted.vtep.get());
                }
                Err(why) => wanted.answer = Answer::NotAsked(why),
            }
        }
        let wanted = &mut self.wanted;
        self.requests.ask(&questions, false, |place, reply| {
            let Some(wanted) = places
                .get(place)
                .and_then(|address| wanted.get_mut(address))
            else {
                return;
            };
            wanted.answer = match reply {
                Reply::Message(Message::NewRoute(message)) => Answer::Route(route::read(&message)),
                Reply::Message(_) => return,
                Reply::Code(error) => Answer::Refused(error),
            };
        })
    }

    /// Asks the kernel to resolve missing and failed neighbours, and to check stale ones, as a packet to them would:
    /// NTF_USE (neigh_add() in net/core/neighbour.c). The entries stay ordinary ones, which age and are collected.
    pub(super) fn solicit(&mut self, now: Instant) -> io::Result<()> {
        let used: HashSet<Key> = self
            .wanted
            .values()
            .flat_map(|wanted| wanted.resolution.neighbours.iter().copied())
            .collect();
        self.solicited.retain(|key, _| used.contains(key));
        let mut due: Vec<Key> = used
            .into_iter()
            .filter(|key| self.host.neighbours.needs_attention(*key))
            .collect();
        due.retain(|key| {
            let pause = if self.host.neighbours.is_stale(*key) {
                RECHECK
            } else {
                RETRY
            };
            self.solicited
                .get(key)
                .is_none_or(|last| now.saturating_duration_since(*last) >= pause)
        });
        let again: Vec<Key> = due
            .iter()
            .filter(|key| self.solicited.contains_key(*key))
            .copied()
            .collect();
        self.solicited.extend(due.iter().map(|key| (*key, now)));
        let requests: Vec<Message> = due
            .iter()
            .map(|key| Message::NewNeighbour(use_neighbour(*key)))
            .collect();
        self.requests.ask(&requests, true, |place, reply| {
            if let (Reply::Code(error @ 1..), Some((link, address))) = (reply, due.get(place)) {
                let error = io::Error::from_raw_os_error(error);
                tracing::warn!(%address, link, %error, "the kernel can't be asked to resolve the neighbour");
            }
        })?;
        self.look_up(&again)
    }

    /// Reads single entries: one that stays unresolved in our mirror may not be so in the kernel.
    fn look_up(&mut self, keys: &[Key]) -> io::Result<()> {
        let requests: Vec<Message> = keys
            .iter()
            .map(|key| Message::GetNeighbour(neighbour(*key)))
            .collect();
        let (neighbours, touched) = (&mut self.host.neighbours, &mut self.touched);
        self.requests.ask(&requests, false, |_, reply| {
            if let Reply::Message(Message::NewNeighbour(entry)) = reply {
                touched.extend(neighbours.update(&entry));
            }
        })?;
        self.fresh |= !self.touched.is_empty();
        Ok(())
    }
}

fn use_neighbour(key: Key) -> NeighbourMessage {
    let mut message = neighbour(key);
    message.header.flags = NeighbourFlags::Use;
    message
}

fn neighbour((link, address): Key) -> NeighbourMessage {
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
