//! Ingest in memory: from the octets of UPDATE messages to the MAC table, without sockets.

use std::time::{Duration, Instant};

use vtep_control::bgp::{ConnectionId, Peer};

use super::hosts::{Hosts, greeting};
use super::sink::{Sink, session};
use crate::clock::spent_ns;
use crate::cores;
use crate::row::{Bar, Effort, Failure, Measure, Plan, Spec};

/// In memory, without sockets.
pub const INGEST: Spec = Spec {
    name: "evpn-ingest",
    measures: "type 2 routes from octets in memory to entries that a worker finds, one core, 1 M \
               MACs",
    unit: "M routes/s",
    bar: Bar::AtLeast(2.0),
    open: |effort| Ok(Box::new(Ingest::open(effort)?)),
};

/// Maximum octets per read of a socket, as in the daemon.
const CHUNK: usize = 1 << 16;

/// A session without a socket, and the destination of its routes.
#[derive(Debug)]
pub struct Feed {
    peer: Peer,
    conn: ConnectionId,
    /// The destination of the routes.
    pub sink: Sink,
}

impl Feed {
    /// An established session, with capacity for `hosts` MACs.
    ///
    /// # Errors
    /// [`Failure`] if the session is not established.
    pub fn new(hosts: usize) -> Result<Self, Failure> {
        let now = Instant::now();
        let mut peer = Peer::new(session(true), 1);
        peer.start(now);
        let conn = peer
            .handle_accepted(now)
            .ok_or_else(|| Failure::new("the peer does not accept the connection"))?;
        let mut feed = Self {
            peer,
            conn,
            sink: Sink::new(hosts)?,
        };
        for message in greeting()? {
            feed.take(&message)?;
        }
        if feed.sink.up {
            Ok(feed)
        } else {
            Err(Failure::new("the session was not established"))
        }
    }

    /// Processes octets of the neighbor, read by read, until the worker sees their effect.
    ///
    /// # Errors
    /// [`Failure`] if a table is full, or the session has ended.
    pub fn take(&mut self, mut octets: &[u8]) -> Result<(), Failure> {
        while !octets.is_empty() {
            let now = Instant::now();
            let room = self
                .peer
                .recv_capacity(self.conn)
                .min(CHUNK)
                .min(octets.len());
            if room == 0 {
                return Err(Failure::new("the session has ended"));
            }
            let (read, rest) = octets.split_at(room);
            self.peer.handle_bytes(self.conn, read);
            while let Some(output) = self.peer.poll_output(now) {
                self.sink.take(now, &output);
            }
            self.sink.commit(now)?;
            octets = rest;
        }
        Ok(())
    }
}

struct Ingest {
    hosts: Hosts,
    octets: Vec<u8>,
    by_the_wall: Duration,
}

impl Ingest {
    fn open(effort: Effort) -> Result<Self, Failure> {
        let hosts = Hosts::of(effort);
        Ok(Self {
            hosts,
            octets: hosts.all_announced()?,
            by_the_wall: Duration::ZERO,
        })
    }
}

impl Measure for Ingest {
    fn once(&mut self) -> Result<f64, Failure> {
        cores::pin(0);
        let mut feed = Feed::new(self.hosts.hosts)?;
        let (start, before) = (Instant::now(), spent_ns());
        feed.take(&self.octets)?;
        let spent = spent_ns() - before;
        self.by_the_wall = start.elapsed();
        feed.sink.check_all(self.hosts)?;
        Ok(self.hosts.hosts as f64 * 1e3 / spent as f64)
    }

    fn plan(&self) -> Plan {
        Plan {
            warm_ups: 1,
            repetitions: 5,
        }
    }

    fn notes(&self) -> Vec<String> {
        let Hosts { hosts, vteps } = self.hosts;
        let wall = self.by_the_wall.as_secs_f64();
        vec![
            format!(
                "{hosts} routes of {vteps} VTEPs in UPDATEs of 4096 octets; every MAC is looked up \
                 after each run"
            ),
            format!("CPU time, from an empty RIB and table; last in wall-clock time: {wall:.3} s"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_hosts_are_found_and_withdrawn_ones_are_not() {
        let hosts = Hosts {
            hosts: 5003,
            vteps: 3,
        };
        let mut feed = Feed::new(hosts.hosts).unwrap();
        assert!(feed.sink.check_all(hosts).is_err());
        feed.take(&hosts.all_announced().unwrap()).unwrap();
        feed.sink.check_all(hosts).unwrap();
        assert!(feed.sink.check(hosts, 1, true).is_err());
        feed.take(&hosts.withdrawn(1).unwrap()).unwrap();
        feed.sink.check(hosts, 1, true).unwrap();
        feed.sink.check(hosts, 2, false).unwrap();
        assert!(feed.sink.check(hosts, 1, false).is_err());
    }

    #[test]
    fn a_full_table_is_reported() {
        let mut feed = Feed::new(100).unwrap();
        assert!(
            feed.take(
                &Hosts {
                    hosts: 500,
                    vteps: 1
                }
                .all_announced()
                .unwrap()
            )
            .is_err()
        );
    }
}
