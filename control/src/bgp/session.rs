//! One TCP connection to a peer: its buffers, its timers and its FSM state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::buffer::{RecvBuffer, SendBuffer};
use super::fsm::{FsmState, after_message};
use super::negotiate::{Negotiated, PeerConfig, negotiate};
use super::output::ConnectionKind;
use super::timer::{Jitter, Timer, Timers};
use super::wire::{
    BgpMessage, DecodeContext, Decoder, HEADER_LEN, KEEPALIVE, MAX_EXTENDED_MESSAGE_LEN,
    MAX_MESSAGE_LEN, MessageType, Notification, OpenMessage, RouteRefresh, UpdateParts, decode,
};

/// Hold time until the peer's OPEN arrives (RFC 4271 section 8.2.2 suggests 4 minutes).
const OPEN_HOLD: Duration = Duration::from_secs(240);

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) state: FsmState,
    /// This speaker opened the connection.
    pub(super) outgoing: bool,
    pub(super) negotiated: Option<Arc<Negotiated>>,
    pub(super) recv_buffer: RecvBuffer,
    pub(super) send_buffer: SendBuffer,
    pub(super) timers: Timers,
    pub(super) received: u64,
    pub(super) sent: u64,
    decoder: Decoder,
}

/// The result of processing one message, or none.
pub(super) enum SessionStep {
    /// No complete message is buffered.
    NeedMoreData,
    /// Nothing to report.
    Done,
    /// The peer's OPEN is accepted.
    OpenAccepted,
    /// The session is established.
    Established,
    /// An UPDATE, and the range of its body in the receive buffer.
    Update(UpdateParts, (usize, usize)),
    /// A ROUTE-REFRESH of a known subtype.
    Refresh(RouteRefresh),
    /// The peer ended the session.
    NotificationReceived(Notification),
}

impl Session {
    /// What its connection is.
    pub(super) fn kind(&self) -> ConnectionKind {
        match (self.outgoing, self.state) {
            (false, _) => ConnectionKind::Inbound,
            (true, FsmState::Connect) => ConnectionKind::Connecting,
            (true, _) => ConnectionKind::Outbound,
        }
    }

    /// A connection that is being opened (`outgoing`) or was accepted. [`Session::send_open`]
    /// follows once TCP is up.
    pub(super) fn new(outgoing: bool) -> Self {
        Self {
            state: if outgoing {
                FsmState::Connect
            } else {
                FsmState::Active
            },
            outgoing,
            negotiated: None,
            recv_buffer: RecvBuffer::default(),
            send_buffer: SendBuffer::default(),
            timers: Timers::default(),
            received: 0,
            sent: 0,
            decoder: Decoder::new(DecodeContext {
                four_octet: true,
                internal: false,
                add_path: false,
            }),
        }
    }

    /// TCP is up: sends our OPEN. False if the configured capabilities do not fit into an OPEN.
    pub(super) fn send_open(
        &mut self,
        now: Instant,
        config: &PeerConfig,
        restarting: bool,
        preserved: bool,
    ) -> bool {
        let Some(open) = config.open(restarting, preserved).emit() else {
            return false;
        };
        self.state = FsmState::OpenSent;
        self.timers.set(Timer::Hold, now + OPEN_HOLD);
        self.push(now, config, &open);
        true
    }

    /// Queues a message. The send hold timer runs while octets are queued (RFC 9687).
    pub(super) fn push(&mut self, now: Instant, config: &PeerConfig, message: &[u8]) {
        if self.send_buffer.pending().is_empty() {
            self.timers
                .set(Timer::SendHold, now + self.send_hold(config));
        }
        self.send_buffer.push(message);
        self.sent += 1;
    }

    /// TCP took `count` octets: the send hold timer restarts.
    pub(super) fn written(&mut self, now: Instant, config: &PeerConfig, count: usize) {
        if count == 0 {
            return;
        }
        self.send_buffer.written(count);
        if self.send_buffer.pending().is_empty() {
            self.timers.stop(Timer::SendHold);
        } else {
            self.timers
                .set(Timer::SendHold, now + self.send_hold(config));
        }
    }

    /// The send hold time: at least twice the hold time (RFC 9687 section 6).
    fn send_hold(&self, config: &PeerConfig) -> Duration {
        let hold = self.negotiated.as_ref().map_or(Duration::ZERO, |n| n.hold);
        config.send_hold.max(2 * hold)
    }

    /// Sends a KEEPALIVE and schedules the next, a third of the hold time later.
    pub(super) fn send_keepalive(
        &mut self,
        now: Instant,
        config: &PeerConfig,
        jitter: &mut Jitter,
    ) {
        let Some(interval) = self
            .negotiated
            .as_ref()
            .map(|a| a.keepalive())
            .filter(|i| !i.is_zero())
        else {
            return;
        };
        self.push(now, config, &KEEPALIVE);
        self.timers
            .set(Timer::Keepalive, now + jitter.apply(interval));
    }

    /// The hold timer fired. False if a received message is still unprocessed: the timer restarts.
    pub(super) fn hold_expired(&mut self, now: Instant, config: &PeerConfig) -> bool {
        let unprocessed = !matches!(self.recv_buffer.peek(receive_limit(config)), Ok(None));
        if unprocessed {
            self.restart_hold(now);
        }
        !unprocessed
    }

    fn restart_hold(&mut self, now: Instant) {
        match self.negotiated.as_ref().map(|negotiated| negotiated.hold) {
            Some(Duration::ZERO) => self.timers.stop(Timer::Hold),
            Some(hold) => self.timers.set(Timer::Hold, now + hold),
            None => self.timers.set(Timer::Hold, now + OPEN_HOLD),
        }
    }

    /// Processes the next complete message.
    ///
    /// # Errors
    /// The NOTIFICATION to send before the session ends.
    pub(super) fn step(
        &mut self,
        now: Instant,
        config: &PeerConfig,
        jitter: &mut Jitter,
    ) -> Result<SessionStep, Notification> {
        if matches!(self.state, FsmState::Connect | FsmState::Active) {
            return Ok(SessionStep::NeedMoreData);
        }
        let Some((kind, length)) = self.recv_buffer.peek(receive_limit(config))? else {
            return Ok(SessionStep::NeedMoreData);
        };
        let state = after_message(self.state, kind)
            .map_err(|error| Notification::new(error, &[kind as u8]))?;
        self.received += 1;
        let (from, to) = self.recv_buffer.take(length);
        let message = self.recv_buffer.slice((from, to));
        if kind == MessageType::Update {
            let parts = self.decoder.decode(&message[HEADER_LEN..])?;
            self.restart_hold(now);
            return Ok(SessionStep::Update(parts, (from + HEADER_LEN, to)));
        }
        match decode(kind, message, &mut self.decoder)? {
            BgpMessage::Open(open) => self.handle_open(now, config, jitter, &open),
            BgpMessage::Notification(notification) => {
                Ok(SessionStep::NotificationReceived(notification))
            }
            BgpMessage::RouteRefresh(Some(refresh)) => Ok(SessionStep::Refresh(refresh)),
            BgpMessage::RouteRefresh(None) | BgpMessage::Update(_) => Ok(SessionStep::Done),
            BgpMessage::Keepalive => {
                self.restart_hold(now);
                let established = self.state != state;
                self.state = state;
                Ok(if established {
                    SessionStep::Established
                } else {
                    SessionStep::Done
                })
            }
        }
    }

    fn handle_open(
        &mut self,
        now: Instant,
        config: &PeerConfig,
        jitter: &mut Jitter,
        open: &OpenMessage,
    ) -> Result<SessionStep, Notification> {
        let negotiated = negotiate(config, open)?;
        self.decoder = Decoder::new(negotiated.context());
        let no_keepalives = negotiated.hold.is_zero();
        self.negotiated = Some(Arc::new(negotiated));
        if self.timers.is_running(Timer::SendHold) {
            self.timers
                .set(Timer::SendHold, now + self.send_hold(config));
        }
        self.state = FsmState::OpenConfirm;
        self.restart_hold(now);
        if no_keepalives {
            // With a hold time of 0 the KEEPALIVE that confirms the OPEN is the only one.
            self.push(now, config, &KEEPALIVE);
        } else {
            self.send_keepalive(now, config, jitter);
        }
        Ok(SessionStep::OpenAccepted)
    }
}

/// A speaker that offers extended messages accepts them whatever the peer offers
/// (RFC 8654 section 4).
const fn receive_limit(config: &PeerConfig) -> usize {
    if config.extended_messages {
        MAX_EXTENDED_MESSAGE_LEN
    } else {
        MAX_MESSAGE_LEN
    }
}
