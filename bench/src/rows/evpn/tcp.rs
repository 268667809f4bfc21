//! Ingest over TCP: the daemon's speaker, with a neighbor on loopback that advertises all its
//! routes at once.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use vtep_control::bgp::wire::{HEADER_LEN, MAX_EXTENDED_MESSAGE_LEN, read_header};
use vtep_control::speaker::socket::TcpOptions;
use vtep_control::speaker::{BgpSpeaker, NeighborConfig};

use super::hosts::{Hosts, greeting};
use super::sink::{Sink, session};
use crate::clock::spent_ns;
use crate::cores;
use crate::row::{Bar, Effort, Failure, Measure, Plan, Spec};

/// Over a TCP socket.
pub const INGEST_TCP: Spec = Spec {
    name: "evpn-ingest-tcp",
    measures: "type 2 routes from a TCP socket on loopback to entries that a worker finds, one \
               core, 1 M MACs",
    unit: "M routes/s",
    bar: Bar::AtLeast(1.0),
    open: |effort| Ok(Box::new(Ingest::open(effort)?)),
};

/// Time limit for the session to be established, and for the routes to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// The neighbor: establishes the session, waits for the start signal, writes, and keeps the
/// connection until the signal's sender is dropped.
fn neighbor(listener: &TcpListener, octets: &[u8], word: &Receiver<()>) -> io::Result<()> {
    let [open, keepalive] = greeting().map_err(io::Error::other)?;
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&open)?;
    let mut message = vec![0; HEADER_LEN];
    stream.read_exact(&mut message)?;
    let length = match read_header(&message, MAX_EXTENDED_MESSAGE_LEN) {
        Ok(Some((_, length))) => length,
        other => return Err(io::Error::other(format!("no BGP message: {other:?}"))),
    };
    stream.read_exact(&mut vec![0; length - HEADER_LEN])?;
    stream.write_all(&keepalive)?;
    if word.recv().is_ok() {
        stream.write_all(octets)?;
        // Ends when the sender is dropped.
        let _ = word.recv();
    }
    Ok(())
}

/// The daemon's side.
struct Daemon {
    poll: Poll,
    speaker: BgpSpeaker,
    sink: Sink,
}

impl Daemon {
    fn new(hosts: usize, address: SocketAddr) -> Result<Self, Failure> {
        let poll = Poll::new().map_err(Failure::of("poll"))?;
        // Port 0: the listening port does not matter, since the speaker connects.
        let (mut speaker, mut sink) = (BgpSpeaker::new(0, Token(0), 1), Sink::new(hosts)?);
        let tcp = TcpOptions::default();
        let config = NeighborConfig {
            address,
            tcp,
            peer: session(false),
            restarting: false,
        };
        speaker.set_neighbor(config, poll.registry(), &mut sink, Instant::now());
        Ok(Self {
            poll,
            speaker,
            sink,
        })
    }

    /// Runs the daemon's loop until `done` returns true.
    fn until(&mut self, what: &str, done: impl Fn(&Sink) -> bool) -> Result<(), Failure> {
        let (mut events, deadline) = (Events::with_capacity(64), Instant::now() + PATIENCE);
        while !done(&self.sink) {
            if self.sink.ended {
                return Err(Failure::new(format!("{what}: the session has ended")));
            }
            let now = Instant::now();
            if now > deadline {
                let held = self.sink.tables.macs().len();
                return Err(Failure::new(format!(
                    "{what}: timeout after {PATIENCE:?}; {held} MACs are in the table"
                )));
            }
            let wait = self
                .speaker
                .poll_timeout(now)
                .map_or(PATIENCE, |wait| wait.min(PATIENCE));
            self.poll
                .poll(&mut events, Some(wait))
                .map_err(Failure::of("poll"))?;
            let now = Instant::now();
            for event in &events {
                self.speaker
                    .handle_event(event, self.poll.registry(), &mut self.sink, now);
            }
            self.speaker
                .poll_once(self.poll.registry(), &mut self.sink, now);
            self.sink.commit(now)?;
        }
        Ok(())
    }
}

struct Ingest {
    hosts: Hosts,
    octets: Vec<u8>,
    on_the_core: f64,
}

impl Ingest {
    fn open(effort: Effort) -> Result<Self, Failure> {
        let hosts = Hosts::of(effort);
        Ok(Self {
            hosts,
            octets: hosts.all_announced()?,
            on_the_core: 0.0,
        })
    }
}

impl Measure for Ingest {
    fn once(&mut self) -> Result<f64, Failure> {
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let listener = TcpListener::bind(loopback).map_err(Failure::of("the neighbor's socket"))?;
        let address = listener
            .local_addr()
            .map_err(Failure::of("the neighbor's socket"))?;
        let hosts = self.hosts.hosts;
        let octets = &self.octets;
        let mut daemon = Daemon::new(hosts, address)?;
        let (say, word) = sync_channel(1);
        let (taken, spent) = thread::scope(|scope| {
            let telling = scope.spawn(move || {
                cores::pin(1);
                neighbor(&listener, octets, &word)
            });
            cores::pin(0);
            let measured = (|| {
                daemon.until("the session", |sink| sink.up)?;
                let (start, before) = (Instant::now(), spent_ns());
                say.send(())
                    .map_err(|_| Failure::new("the neighbor has ended"))?;
                daemon.until("the routes", |sink| sink.tables.macs().len() == hosts)?;
                Ok((start.elapsed(), spent_ns() - before))
            })();
            drop(say);
            if measured.is_err() {
                // It may still be waiting for a connection.
                drop(TcpStream::connect(address));
            }
            match telling.join() {
                Ok(Ok(())) => measured,
                Ok(Err(why)) => measured.and(Err(Failure::of("the neighbor")(why))),
                Err(_) => Err(Failure::new("the neighbor panicked")),
            }
        })?;
        daemon.sink.check_all(self.hosts)?;
        self.on_the_core = hosts as f64 * 1e3 / spent as f64;
        Ok(hosts as f64 / taken.as_secs_f64() / 1e6)
    }

    fn plan(&self) -> Plan {
        Plan {
            warm_ups: 1,
            repetitions: 5,
        }
    }

    fn notes(&self) -> Vec<String> {
        vec![
            format!(
                "{} routes; wall-clock time from the start signal to the last MAC; the neighbor \
                 writes on another core",
                self.hosts.hosts
            ),
            format!(
                "last in CPU time of the speaker: {:.2} M/s",
                self.on_the_core
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_come_over_tcp() {
        let hosts = Hosts {
            hosts: 5000,
            vteps: 4,
        };
        let octets = hosts.all_announced().unwrap();
        assert!(
            Ingest {
                hosts,
                octets,
                on_the_core: 0.0
            }
            .once()
            .unwrap()
                > 0.0
        );
    }

    #[test]
    fn an_invalid_message_of_the_neighbor_is_a_failure() {
        let hosts = Hosts {
            hosts: 5000,
            vteps: 4,
        };
        let octets = vec![0; 100];
        assert!(
            Ingest {
                hosts,
                octets,
                on_the_core: 0.0
            }
            .once()
            .is_err()
        );
    }
}
