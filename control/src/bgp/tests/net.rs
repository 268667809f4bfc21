//! Two peers on a virtual network whose links may be slow or blocked, with a virtual clock that
//! jumps from event to event.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::super::wire::*;
use super::super::*;

pub(super) const A: usize = 0;
pub(super) const B: usize = 1;

/// An event reported by a peer, owned.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum PeerEvent {
    Up,
    Down(DownReason, Option<Duration>),
    Changes(Vec<RouteChange>),
    EndOfRib,
    Refresh,
    RefreshBegun,
    RefreshEnded,
    LongLived,
    Sweep,
}

/// One TCP connection: its opener, the ID of each end, and the octets in flight to each end.
#[derive(Debug)]
pub(super) struct VirtualLink {
    pub(super) opener: usize,
    pub(super) ends: [Option<ConnectionId>; 2],
    flight: [VecDeque<(Instant, Vec<u8>)>; 2],
    /// When each end is notified that the other has closed.
    closing: [Option<Instant>; 2],
    pub(super) up: bool,
}

impl VirtualLink {
    /// Both ends are closed, and nothing is in flight: nothing happens on it any more.
    fn is_over(&self) -> bool {
        self.ends == [None; 2]
            && self.closing == [None; 2]
            && self.flight.iter().all(VecDeque::is_empty)
    }
}

pub(super) struct VirtualNet {
    pub(super) now: Instant,
    pub(super) start: Instant,
    pub(super) peers: [Peer; 2],
    pub(super) events: [Vec<(Duration, PeerEvent)>; 2],
    /// Why attempts failed.
    pub(super) failed: [Vec<DownReason>; 2],
    /// All connections, in the order in which they were opened.
    pub(super) links: Vec<VirtualLink>,
    /// The first connections that are over, which are not looked at any more: a peer that retries
    /// for a day opens ten thousand.
    over: usize,
    pub(super) delay: Duration,
    /// Maximum number of octets that one write or read transfers.
    pub(super) chunk: usize,
    /// The socket of this side takes no octets.
    pub(super) stuck: [bool; 2],
    /// No new connection reaches this side.
    pub(super) unreachable: [bool; 2],
}

pub(super) fn id(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

/// Two peers of one AS that differ only in their identifiers.
pub(super) fn configs() -> [PeerConfig; 2] {
    [
        PeerConfig::new(65000, id(1), 65000),
        PeerConfig::new(65000, id(2), 65000),
    ]
}

pub(super) fn route(number: u32) -> EvpnRoute {
    let [a, b, c, d] = number.to_be_bytes();
    EvpnRoute::MacIp(MacIp {
        rd: Rd::ipv4(id(1), 1),
        esi: Esi::ZERO,
        tag: 0,
        mac: vtep_dataplane::addr::MacAddr([2, 0, a, b, c, d]),
        ip: None,
        label: 100,
        label2: None,
    })
}

impl VirtualNet {
    pub(super) fn new(configs: [PeerConfig; 2]) -> Self {
        let [a, b] = configs;
        let now = Instant::now();
        Self {
            now,
            start: now,
            peers: [Peer::new(a, 1), Peer::new(b, 2)],
            events: [Vec::new(), Vec::new()],
            failed: [Vec::new(), Vec::new()],
            links: Vec::new(),
            over: 0,
            delay: Duration::from_millis(10),
            chunk: 1000,
            stuck: [false; 2],
            unreachable: [false; 2],
        }
    }

    /// Starts both and runs until the session is established on both sides.
    pub(super) fn established(configs: [PeerConfig; 2]) -> Self {
        let mut net = Self::new(configs);
        net.start_both();
        net.run(Duration::from_secs(60));
        for side in [A, B] {
            assert_eq!(
                net.state(side),
                FsmState::Established,
                "{:?}",
                net.events[side]
            );
        }
        net
    }

    pub(super) fn start_both(&mut self) {
        for side in [A, B] {
            self.peers[side].start(self.now);
        }
        self.settle();
    }

    pub(super) fn state(&self, side: usize) -> FsmState {
        self.peers[side].status().state
    }

    pub(super) fn events_of(&self, side: usize) -> Vec<PeerEvent> {
        self.events[side]
            .iter()
            .map(|(_, event)| event.clone())
            .collect()
    }

    /// Time from the start to the only matching event.
    pub(super) fn time_of(&self, side: usize, wanted: impl Fn(&PeerEvent) -> bool) -> Duration {
        let found: Vec<_> = self.events[side]
            .iter()
            .filter(|(_, event)| wanted(event))
            .collect();
        assert_eq!(found.len(), 1, "{:?}", self.events[side]);
        found[0].0
    }

    /// Runs for `time` of the virtual clock.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while let Some(next) = self.next_event().filter(|at| *at <= end) {
            self.now = self.now.max(next);
            for side in [A, B] {
                self.peers[side].handle_timeout(self.now);
            }
            self.settle();
        }
        self.now = end;
    }

    fn next_event(&self) -> Option<Instant> {
        let timers = self.peers.iter().filter_map(Peer::poll_timeout);
        let links = &self.links[self.over..];
        let flights = links
            .iter()
            .flat_map(|l| l.flight.iter().filter_map(|f| f.front().map(|(at, _)| *at)));
        // Octets in flight arrive before the close does.
        let closings = links.iter().flat_map(|l| {
            let ends = l.closing.iter().zip(&l.flight);
            ends.filter(|(_, flight)| flight.is_empty())
                .filter_map(|(at, _)| *at)
        });
        timers.chain(flights).chain(closings).min()
    }

    /// Handles everything due now, until nothing changes.
    pub(super) fn settle(&mut self) {
        for _ in 0..1_000_000 {
            let moved = self.outputs() | self.write() | self.deliver();
            if !moved {
                let later = self.links[self.over..].iter();
                self.over += later.take_while(|link| link.is_over()).count();
                return;
            }
        }
        panic!("the peers do not settle");
    }

    fn outputs(&mut self) -> bool {
        let mut moved = false;
        for side in [A, B] {
            let mut asked = Vec::new();
            while let Some(output) = self.peers[side].poll_output(self.now) {
                moved = true;
                let event = match output {
                    PeerOutput::Connect(conn) => {
                        asked.push((conn, None));
                        continue;
                    }
                    PeerOutput::Close { conn, last_message } => {
                        asked.push((conn, Some(last_message)));
                        continue;
                    }
                    PeerOutput::AttemptFailed(reason) => {
                        self.failed[side].push(reason);
                        continue;
                    }
                    PeerOutput::SessionUp(_) => PeerEvent::Up,
                    PeerOutput::SessionDown {
                        reason,
                        keep_stale_for,
                    } => PeerEvent::Down(reason, keep_stale_for),
                    PeerOutput::Update(update) => PeerEvent::Changes(update.changes().collect()),
                    PeerOutput::EndOfRib => PeerEvent::EndOfRib,
                    PeerOutput::RefreshRequested => PeerEvent::Refresh,
                    PeerOutput::RefreshBegun => PeerEvent::RefreshBegun,
                    PeerOutput::RefreshEnded => PeerEvent::RefreshEnded,
                    PeerOutput::StaleLongLived => PeerEvent::LongLived,
                    PeerOutput::SweepStale => PeerEvent::Sweep,
                };
                self.events[side].push((self.now - self.start, event));
            }
            for (conn, last_message) in asked {
                match last_message {
                    None => self.connect(side, conn),
                    Some(last_message) => self.close(side, conn, last_message),
                }
            }
        }
        moved
    }

    fn connect(&mut self, side: usize, conn: ConnectionId) {
        let mut ends = [None; 2];
        ends[side] = Some(conn);
        let flight = [VecDeque::new(), VecDeque::new()];
        self.links.push(VirtualLink {
            opener: side,
            ends,
            flight,
            closing: [None; 2],
            up: false,
        });
        let at = self.links.len() - 1;
        if !self.unreachable[1 - side] {
            // An empty segment that arrives is the SYN.
            self.links[at].flight[1 - side].push_back((self.now + self.delay, Vec::new()));
        }
    }

    fn close(&mut self, side: usize, conn: ConnectionId, last_message: Vec<u8>) {
        let links = &mut self.links[self.over..];
        let Some(link) = links.iter_mut().find(|l| l.ends[side] == Some(conn)) else {
            return;
        };
        link.ends[side] = None;
        if !self.stuck[side] && !last_message.is_empty() {
            link.flight[1 - side].push_back((self.now + self.delay, last_message));
        }
        link.closing[1 - side] = Some(self.now + self.delay);
    }

    /// Closes all connections without a NOTIFICATION, as a TCP reset does.
    pub(super) fn cut(&mut self) {
        let ends: Vec<_> = self.links.drain(..).map(|l| l.ends).collect();
        self.over = 0;
        for end in ends {
            for side in [A, B] {
                if let Some(conn) = end[side] {
                    self.peers[side].handle_closed(self.now, conn);
                }
            }
        }
        self.settle();
    }

    fn write(&mut self) -> bool {
        let mut moved = false;
        for link in self.links[self.over..].iter_mut().filter(|l| l.up) {
            for side in [A, B] {
                let Some(conn) = link.ends[side].filter(|_| !self.stuck[side]) else {
                    continue;
                };
                let waiting = self.peers[side].transmit(conn);
                let octets = waiting[..waiting.len().min(self.chunk)].to_vec();
                if !octets.is_empty() {
                    self.peers[side].handle_written(self.now, conn, octets.len());
                    link.flight[1 - side].push_back((self.now + self.delay, octets));
                    moved = true;
                }
            }
        }
        moved
    }

    fn deliver(&mut self) -> bool {
        let mut moved = false;
        for at in self.over..self.links.len() {
            for side in [A, B] {
                let due = self.links[at].flight[side]
                    .front()
                    .is_some_and(|(when, _)| *when <= self.now);
                if due && let Some((_, octets)) = self.links[at].flight[side].pop_front() {
                    moved = true;
                    self.arrive(at, side, &octets);
                }
                let link = &mut self.links[at];
                let gone = link.closing[side].is_some_and(|when| when <= self.now)
                    && link.flight[side].is_empty();
                if gone && !moved {
                    link.closing[side] = None;
                    moved = true;
                    if let Some(conn) = link.ends[side].take() {
                        self.peers[side].handle_closed(self.now, conn);
                    }
                }
            }
        }
        moved
    }

    fn arrive(&mut self, at: usize, side: usize, octets: &[u8]) {
        let link = &mut self.links[at];
        if link.up {
            if let Some(conn) = link.ends[side] {
                self.peers[side].handle_bytes(conn, octets);
            }
            return;
        }
        let opener = link.opener;
        let Some(ours) = link.ends[opener] else {
            return;
        };
        link.up = true;
        link.ends[side] = self.peers[side].handle_accepted(self.now);
        self.peers[opener].handle_connected(self.now, ours);
        if self.links[at].ends[side].is_none() {
            self.links[at].closing[opener] = Some(self.now + self.delay);
        }
    }

    /// Octets in place of B: A receives them over a connection that it accepts.
    pub(super) fn raw_peer(&mut self, octets: &[u8]) -> ConnectionId {
        let conn = self.peers[A].handle_accepted(self.now).expect("A accepts");
        self.peers[A].handle_bytes(conn, octets);
        conn
    }

    /// The NOTIFICATION with which A closes its connections.
    pub(super) fn sent_notification(&mut self) -> Option<Notification> {
        let mut found = None;
        while let Some(output) = self.peers[A].poll_output(self.now) {
            if let PeerOutput::Close { last_message, .. } = output {
                found = parse_notification(&last_message);
            }
        }
        found
    }
}

/// The OPEN of B after `change`.
pub(super) fn open_message(change: impl FnOnce(&mut OpenMessage)) -> Vec<u8> {
    let mut open = configs()[1].open(false, false);
    change(&mut open);
    open.emit().unwrap()
}

fn parse_notification(octets: &[u8]) -> Option<Notification> {
    let (kind, length) = read_header(octets, MAX_MESSAGE_LEN).ok()??;
    assert_eq!(length, octets.len());
    let context = DecodeContext {
        four_octet: true,
        internal: true,
        add_path: false,
    };
    match decode(kind, octets, &mut Decoder::new(context)).ok()? {
        BgpMessage::Notification(notification) => Some(notification),
        _ => None,
    }
}
