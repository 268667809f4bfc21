//! The daemon: one event loop for signals, the control socket, netlink, worker events, metrics and
//! BGP.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fmt, io};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use crate::api::server::{BindError, ControlServer};
use crate::config;
use crate::engine::{Engine, EngineError};
use crate::handler::ApiHandler;
use crate::iteration::{IterationPart, IterationTimes};
use crate::metrics;
use crate::show;

const SIGNALS: Token = Token(0);
const NETLINK: Token = Token(1);
const WORKERS: Token = Token(2);
const QUEUES: Token = Token(3);
const BACKGROUND: Token = Token(4);
/// First token of the control socket's server.
const API: Token = Token(16);
/// First token of the metrics server.
const METRICS: Token = Token(512);
/// BGP uses the tokens after this one.
const BGP: Token = Token(1024);

/// The longest wait: retries and retired snapshots are checked at this interval.
const TICK: Duration = Duration::from_millis(500);

/// Why the daemon did not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The control socket failed.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// The metrics address can't be bound.
    #[error(
        "control.metrics: can't listen on {address}: {error}; set another address and port, or remove the key"
    )]
    Metrics {
        /// The operation, or the address.
        address: std::net::SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// Poll or signals failed.
    #[error("{what}: {error}")]
    Io {
        /// The operation, or the address.
        what: &'static str,
        /// The system's error.
        error: io::Error,
    },
    /// A worker did not end.
    #[error("a worker did not end in time; the kernel releases its sockets with the process")]
    WorkerHung,
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |error| DaemonError::Io { what, error }
}

/// State of the event loop: [`Self::wait`] and [`Self::turn`], until a turn ends it.
pub struct Daemon {
    poll: Poll,
    /// What the last [`Self::wait`] has found.
    events: Events,
    signals: Signals,
    server: ControlServer<show::ShowProgress>,
    metrics: Option<metrics::MetricsServer>,
    handler: ApiHandler,
}

/// Starts the metrics server, if one is configured.
fn metrics_server(
    control: &config::Control,
    poll: &Poll,
) -> Result<Option<metrics::MetricsServer>, DaemonError> {
    let Some(address) = control.metrics else {
        return Ok(None);
    };
    let failed = |error| DaemonError::Metrics { address, error };
    let mut server = metrics::MetricsServer::bind(address).map_err(failed)?;
    server.register(poll.registry(), METRICS).map_err(failed)?;
    tracing::info!(address = %server.address().map_err(failed)?, "metrics at /metrics");
    Ok(Some(server))
}

/// Runs vtepd with a configuration that has been loaded from `path`, until SIGTERM or SIGINT.
///
/// # Errors
/// [`DaemonError`]; then nothing stays attached to any interface.
pub fn run(config: &config::Config, path: &Path) -> Result<(), DaemonError> {
    let mut daemon = Daemon::start(config, path)?;
    notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(socket = %config.control().socket.display(), "ready");
    let ended = daemon.run_until_signalled();
    notify(&[sd_notify::NotifyState::Stopping]);
    let stopped = daemon.stop();
    ended.and(stopped)
}

impl fmt::Debug for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Daemon")
            .field("handler", &self.handler)
            .finish_non_exhaustive()
    }
}

impl Daemon {
    /// Binds the control socket and starts the engine with a configuration that has been loaded
    /// from `path`.
    ///
    /// # Errors
    /// [`DaemonError`]; then nothing stays attached to any interface.
    pub fn start(config: &config::Config, path: &Path) -> Result<Self, DaemonError> {
        let poll = Poll::new().map_err(io_error("epoll"))?;
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(io_error("signals"))?;
        poll.registry()
            .register(&mut signals, SIGNALS, Interest::READABLE)
            .map_err(io_error("signals"))?;
        // First, so that a second daemon fails before it touches an interface.
        let control = config.control();
        let mut server = ControlServer::bind(&control.socket, control.group.as_deref())?;
        server
            .register(poll.registry(), API)
            .map_err(io_error("control socket"))?;
        let metrics = metrics_server(control, &poll)?;
        let registry = poll.registry().try_clone().map_err(io_error("epoll"))?;
        let waker = Waker::new(&registry, BACKGROUND).map_err(io_error("epoll"))?;
        let mut engine = Engine::start(config, registry, BGP, waker, Instant::now())?;
        poll.registry()
            .register(engine.underlay_mut(), NETLINK, Interest::READABLE)
            .map_err(io_error("netlink"))?;
        if let Some(events) = engine.queue_events_mut() {
            poll.registry()
                .register(events, QUEUES, Interest::READABLE)
                .map_err(io_error("events of queues"))?;
        }
        let worker_events = engine.worker_events().as_fd().as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&worker_events), WORKERS, Interest::READABLE)
            .map_err(io_error("worker events"))?;
        let handler = ApiHandler::new(engine, PathBuf::from(path));
        Ok(Self {
            poll,
            events: Events::with_capacity(256),
            signals,
            server,
            metrics,
            handler,
        })
    }

    fn run_until_signalled(&mut self) -> Result<(), DaemonError> {
        loop {
            self.wait()?;
            if self.turn() {
                return Ok(());
            }
            notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }

    /// Waits until [`Self::turn`] has work.
    ///
    /// # Errors
    /// Those of epoll_wait(2).
    pub fn wait(&mut self) -> Result<(), DaemonError> {
        let timeout = self.poll_timeout(Instant::now());
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result.map_err(io_error("epoll")),
        }
    }

    /// Handles what [`Self::wait`] has found and what is due. Its cost is bounded: no client, peer
    /// or timer keeps the others waiting. Returns true when a signal ends the daemon.
    pub fn turn(&mut self) -> bool {
        self.handler.engine_mut().turns_mut().begin();
        if self.handle_events() {
            return true;
        }
        let registry = self.poll.registry();
        self.server
            .tick(registry, &mut self.handler, Instant::now());
        self.handler
            .engine_mut()
            .turns_mut()
            .end_part(IterationPart::Clients);
        if let Some(metrics) = &mut self.metrics {
            let (engine, now) = (self.handler.engine(), Instant::now());
            metrics.tick(registry, now, &mut |part| show::metrics(engine, part, now));
            self.handler
                .engine_mut()
                .turns_mut()
                .end_part(IterationPart::Metrics);
        }
        self.handler.engine_mut().poll(Instant::now());
        for event in self.handler.engine_mut().take_events() {
            self.server.publish(registry, &event, Instant::now());
        }
        let turns = self.handler.engine_mut().turns_mut();
        turns.end_part(IterationPart::Clients);
        turns.end();
        false
    }

    /// The parts of the last turn.
    #[must_use]
    pub const fn last_turn(&self) -> &IterationTimes {
        self.handler.engine().turns().last()
    }

    /// Handles the events of the poll. Returns true when one is a signal that ends the daemon.
    fn handle_events(&mut self) -> bool {
        if self.events.iter().any(|event| event.token() == SIGNALS) && self.handle_signals() {
            return true;
        }
        let registry = self.poll.registry();
        let engine = self.handler.engine_mut();
        engine.turns_mut().end_part(IterationPart::Clients);
        for event in &self.events {
            let token = event.token();
            let part = if let Some(metrics) = &mut self.metrics
                && metrics.owns(token)
            {
                metrics.event(registry, token, Instant::now());
                IterationPart::Metrics
            } else if self.server.owns(token) {
                self.server.event(registry, token, Instant::now());
                IterationPart::Clients
            } else if token.0 > BGP.0 {
                engine.speaker_event(event, Instant::now());
                IterationPart::Sessions
            } else {
                continue;
            };
            engine.turns_mut().end_part(part);
        }
        false
    }

    /// How long to wait for events.
    fn poll_timeout(&self, now: Instant) -> Duration {
        let underlay = self.handler.engine().next_timeout(now);
        let server = self
            .server
            .next_deadline()
            .map(|at| at.saturating_duration_since(now));
        let metrics = self
            .metrics
            .as_ref()
            .and_then(metrics::MetricsServer::next_deadline);
        let metrics = metrics.map(|at| at.saturating_duration_since(now));
        underlay
            .into_iter()
            .chain(server)
            .chain(metrics)
            .fold(TICK, Duration::min)
    }

    /// Handles pending signals. Returns true to end the daemon.
    fn handle_signals(&mut self) -> bool {
        let mut end = false;
        for signal in self.signals.pending() {
            match signal {
                SIGHUP => self.handler.reload(),
                _ => end = true,
            }
        }
        end
    }

    /// Detaches all programs, removes the control socket and ends the workers.
    ///
    /// # Errors
    /// [`DaemonError::WorkerHung`].
    pub fn stop(self) -> Result<(), DaemonError> {
        let Self {
            server, handler, ..
        } = self;
        drop(server);
        if handler.into_engine().stop() {
            Ok(())
        } else {
            Err(DaemonError::WorkerHung)
        }
    }
}

/// Notifies systemd, if the daemon runs under it.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "sd_notify");
    }
}

/// Lifts the limits of locked memory, which UMEM counts against without `CAP_IPC_LOCK`, and of open
/// files, of which shells set a low one that programs may raise: each tenant interface takes several.
/// Without `CAP_SYS_RESOURCE` the former stays, and binding reports it if it is too low.
pub fn lift_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    if let Err(error) = setrlimit(Resource::Memlock, unlimited) {
        tracing::debug!(%error, "can't lift the limit of locked memory");
    }
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "can't raise the limit of open files");
    }
}
