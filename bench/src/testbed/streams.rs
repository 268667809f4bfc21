//! TCP between two namespaces: streams whose every byte is compared, and streams that are timed.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::net::Namespace;
use crate::row::Failure;

/// Bytes of one call, as in iperf3.
const BLOCK: usize = 128 << 10;

/// Bytes of each stream that are compared.
const CHECKED: u64 = 24 << 20;

/// Time for connections, windows and the core's clock to settle before counting starts.
const SETTLE: Duration = Duration::from_millis(700);

/// The time within which a connection must exist, and between two bytes of it.
const PATIENCE: Duration = Duration::from_secs(15);

/// The server's port.
const PORT: u16 = 5201;

/// Where streams come from and go to.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// The sender.
    pub from: &'a Namespace,
    /// The receiver.
    pub to: &'a Namespace,
    /// The receiver's address.
    pub address: Ipv4Addr,
    /// Number of connections.
    pub flows: usize,
}

/// What was received.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Gigabits per second, all flows together.
    pub gbps: f64,
    /// CPU time of the machine, all cores, seconds per gigabyte (10^9 bytes).
    pub cost: f64,
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} Gbit/s ({:.2} CPU s/GB)", self.gbps, self.cost)
    }
}

/// The bytes of a stream: pseudorandom, so that no segment equals another.
struct Pattern(u64);

impl Pattern {
    const fn of(flow: usize) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (flow as u64 + 1))
    }

    /// Fills a buffer whose length is a multiple of 8 (xorshift64).
    fn fill(&mut self, buffer: &mut [u8]) {
        for word in buffer.chunks_exact_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_le_bytes());
        }
    }
}

impl Route<'_> {
    /// Sends 24 MiB over each flow, and compares every byte that arrives.
    ///
    /// # Errors
    /// [`Failure`] with the first wrong byte, or if the bytes don't arrive.
    pub fn check(&self) -> Result<(), Failure> {
        let (sent, never) = (AtomicU64::new(0), AtomicBool::new(false));
        self.run(
            |flow, mut stream| {
                let (mut pattern, mut block) = (Pattern::of(flow), vec![0; BLOCK]);
                for _ in 0..CHECKED / BLOCK as u64 {
                    pattern.fill(&mut block);
                    stream.write_all(&block)?;
                    sent.fetch_add(BLOCK as u64, Relaxed);
                }
                Ok(())
            },
            |mut stream| {
                // The first word tells which flow it is.
                let mut got = vec![0; BLOCK];
                stream.read_exact(&mut got)?;
                let mut want = vec![0; BLOCK];
                let flow = (0..self.flows).find(|flow| {
                    Pattern::of(*flow).fill(&mut want);
                    want == got
                });
                let mut pattern = Pattern::of(flow.ok_or_else(changed)?);
                pattern.fill(&mut want);
                for _ in 1..CHECKED / BLOCK as u64 {
                    stream.read_exact(&mut got)?;
                    pattern.fill(&mut want);
                    if got != want {
                        return Err(changed());
                    }
                }
                match stream.read(&mut got)? {
                    0 => Ok(()),
                    _ => Err(changed()),
                }
            },
            || Ok(()),
            &never,
        )
    }

    /// Sends as fast as possible, and counts for `window` what arrives.
    ///
    /// # Errors
    /// [`Failure`] if no connection can be made, or nothing arrives.
    pub fn measure(&self, window: Duration) -> Result<Rate, Failure> {
        let (received, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        self.run(
            |_, mut stream| {
                let block = vec![0x5a; BLOCK];
                while !stop.load(Relaxed) {
                    stream.write_all(&block)?;
                }
                Ok(())
            },
            |mut stream| {
                let mut block = vec![0; BLOCK];
                loop {
                    match stream.read(&mut block)? {
                        0 => return Ok(()),
                        count => received.fetch_add(count as u64, Relaxed),
                    };
                }
            },
            || {
                thread::sleep(SETTLE);
                let (start, bytes, busy) = (Instant::now(), received.load(Relaxed), busy()?);
                thread::sleep(window);
                let bytes = (received.load(Relaxed) - bytes) as f64;
                let (elapsed, busy) = (start.elapsed().as_secs_f64(), self::busy()? - busy);
                if bytes == 0.0 {
                    return Err(Failure::new(format!("no byte arrived in {elapsed:.1} s")));
                }
                Ok(Rate {
                    gbps: bytes * 8.0 / elapsed / 1e9,
                    cost: busy.as_secs_f64() / (bytes / 1e9),
                })
            },
            &stop,
        )
    }

    /// Runs `send` and `receive` on a thread for each flow, and `meanwhile` here; sets `stop` after
    /// it.
    fn run<T>(
        &self,
        send: impl Fn(usize, TcpStream) -> std::io::Result<()> + Sync,
        receive: impl Fn(TcpStream) -> std::io::Result<()> + Sync,
        meanwhile: impl FnOnce() -> Result<T, Failure>,
        stop: &AtomicBool,
    ) -> Result<T, Failure> {
        let address = SocketAddr::from((self.address, PORT));
        let listening = || Failure::of(format!("TCP at {address}"));
        let listener = self
            .to
            .within(|| TcpListener::bind(address).map_err(listening()))?;
        listener.set_nonblocking(true).map_err(listening())?;
        let (listener, send, receive) = (&listener, &send, &receive);
        thread::scope(|scope| {
            let senders: Vec<_> = (0..self.flows)
                .map(|flow| {
                    scope.spawn(move || {
                        self.from
                            .within(|| send(flow, connect(address)?).map_err(listening()))
                    })
                })
                .collect();
            let receivers: Vec<_> = (0..self.flows)
                .map(|_| {
                    scope.spawn(move || {
                        accept(listener)
                            .and_then(receive)
                            .map_err(Failure::of("the receiver"))
                    })
                })
                .collect();
            let done = meanwhile();
            stop.store(true, Relaxed);
            for thread in senders.into_iter().chain(receivers) {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(Failure::new("a stream panicked")))?;
            }
            done
        })
    }
}

fn changed() -> std::io::Error {
    std::io::Error::other("bytes were changed on the way")
}

/// Connects within [`PATIENCE`]: at first, neighbors may be unknown.
fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).and_then(|s| {
            s.set_write_timeout(Some(PATIENCE))?;
            Ok(s)
        });
        match stream {
            Ok(stream) => return Ok(stream),
            Err(why) if Instant::now() > deadline => {
                return Err(Failure::new(format!("connecting to {address}: {why}")));
            }
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Accepts a connection within twice [`PATIENCE`], so that the sender reports first.
fn accept(listener: &TcpListener) -> std::io::Result<TcpStream> {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(why) if why.kind() != ErrorKind::WouldBlock || Instant::now() > deadline => {
                return Err(why);
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// CPU time of the machine so far, all cores, without idle time and without what the hypervisor
/// took (proc_stat(5)).
fn busy() -> Result<Duration, Failure> {
    let text = fs::read_to_string("/proc/stat").map_err(Failure::of("/proc/stat"))?;
    busy_of(&text).ok_or_else(|| Failure::new("/proc/stat: no line of all CPUs"))
}

fn busy_of(text: &str) -> Option<Duration> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .map(|ticks| ticks.parse().ok())
        .collect::<Option<_>>()?;
    // user, nice, system, idle, iowait, irq, softirq, steal; in hundredths of a second.
    let [user, nice, system, _, _, irq, softirq, ..] = ticks[..] else {
        return None;
    };
    Some(Duration::from_millis(
        10 * (user + nice + system + irq + softirq),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_stolen_time_is_not_busy() {
        let text = "cpu  100 20 30 9999 999 4 6 77 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy_of(text), Some(Duration::from_millis(1600)));
        assert_eq!(busy_of("cpu0 1 1 1 1 1 1 1 1\n"), None);
        assert!(busy().unwrap() > Duration::ZERO);
    }

    #[test]
    fn streams_are_compared_and_timed() {
        let namespace = Namespace::new("tcp").unwrap();
        let route = Route {
            from: &namespace,
            to: &namespace,
            address: Ipv4Addr::LOCALHOST,
            flows: 2,
        };
        route.check().unwrap();
        let rate = route.measure(Duration::from_millis(200)).unwrap();
        assert!(rate.gbps > 0.1 && rate.cost > 0.0, "{rate:?}");
    }

    #[test]
    fn streams_of_two_flows_differ() {
        let (mut one, mut other) = ([0; 16], [0; 16]);
        Pattern::of(0).fill(&mut one);
        Pattern::of(1).fill(&mut other);
        assert_ne!(one, other);
        assert_ne!(one[..8], one[8..]);
    }
}
