//! One TCP connection to a peer: its messages, its timers, its place in the state table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::buffer::{RecvBuffer, SendBuffer};
use super::fsm::{FsmState, after_message};
use super::negotiate::{Negotiated, PeerConfig, negotiate};
use super::timer::{Jitter, Timer, Timers};
use super::wire::{
    BgpMessage, DecodeContext, Decoder, HEADER_LEN, KEEPALIVE, MAX_EXTENDED_MESSAGE_LEN,
    MAX_MESSAGE_LEN, MessageType, Notification, OpenMessage, RouteRefresh, UpdateParts, decode,
};

/// The hold time until the peer's OPEN is there (RFC 4271 section 8.2.2 suggests 4 minutes).
const OPEN_HOLD: Duration = Duration::from_secs(240);

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) state: FsmState,
    /// We opened it.
    pub(super) outgoing: bool,
    pub(super) negotiated: Option<Arc<Negotiated>>,
    pub(super) recv_buffer: RecvBuffer,
    pub(super) send_buffer: SendBuffer,
    pub(super) timers: Timers,
    pub(super) received: u64,
    pub(super) sent: u64,
    decoder: Decoder,
}

/// What one message, or none, has led to.
pub(super) enum SessionStep {
    /// No whole message is there.
    Wait,
    /// Go on.
    Done,
    /// The peer's OPEN is accepted.
    Opened,
    /// The session is established.
    Up,
    /// Routes; where their message stands in the recv_buffer.
    Update(UpdateParts, (usize, usize)),
    /// A refresh that concerns us.
    Refresh(RouteRefresh),
    /// The peer ended the session.
    Ended(Notification),
}

impl Session {
    /// A connection that is being opened (`outgoing`) or was accepted; [`Session::begin`] follows when it is up.
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

    /// TCP is up: our OPEN goes out. False if the configuration makes an OPEN that is too long.
    pub(super) fn begin(
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

    /// Queues a message. The send hold timer runs while something waits.
    pub(super) fn push(&mut self, now: Instant, config: &PeerConfig, message: &[u8]) {
        if self.send_buffer.waiting().is_empty() {
            self.timers.set(Timer::SendHold, now + config.send_hold);
        }
        self.send_buffer.push(message);
        self.sent += 1;
    }

    /// TCP took `count` octets: that is progress.
    pub(super) fn written(&mut self, now: Instant, config: &PeerConfig, count: usize) {
        if count == 0 {
            return;
        }
        self.send_buffer.written(count);
        if self.send_buffer.waiting().is_empty() {
            self.timers.stop(Timer::SendHold);
        } else {
            self.timers.set(Timer::SendHold, now + config.send_hold);
        }
    }

    /// A keepalive, and the next in a third of the hold time.
    pub(super) fn keep_alive(&mut self, now: Instant, config: &PeerConfig, jitter: &mut Jitter) {
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

    /// The hold timer fired. It starts anew if a message arrived that is not processed yet.
    pub(super) fn hold_expired(&mut self, now: Instant, config: &PeerConfig) -> bool {
        let waits = !matches!(self.recv_buffer.peek(receive_limit(config)), Ok(None));
        if waits {
            self.restart_hold(now);
        }
        !waits
    }

    fn restart_hold(&mut self, now: Instant) {
        match self.negotiated.as_ref().map(|negotiated| negotiated.hold) {
            Some(Duration::ZERO) => self.timers.stop(Timer::Hold),
            Some(hold) => self.timers.set(Timer::Hold, now + hold),
            None => self.timers.set(Timer::Hold, now + OPEN_HOLD),
        }
    }

    /// Processes the next whole message.
    ///
    /// # Errors
    /// The NOTIFICATION that has to end the session.
    pub(super) fn step(
        &mut self,
        now: Instant,
        config: &PeerConfig,
        jitter: &mut Jitter,
    ) -> Result<SessionStep, Notification> {
        if matches!(self.state, FsmState::Connect | FsmState::Active) {
            return Ok(SessionStep::Wait);
        }
        let Some((kind, length)) = self.recv_buffer.peek(receive_limit(config))? else {
            return Ok(SessionStep::Wait);
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
            BgpMessage::Open(open) => self.opened(now, config, jitter, &open),
            BgpMessage::Notification(notification) => Ok(SessionStep::Ended(notification)),
            BgpMessage::RouteRefresh(Some(refresh)) => Ok(SessionStep::Refresh(refresh)),
            BgpMessage::RouteRefresh(None) | BgpMessage::Update(_) => Ok(SessionStep::Done),
            BgpMessage::Keepalive => {
                self.restart_hold(now);
                let up = self.state != state;
                self.state = state;
                Ok(if up {
                    SessionStep::Up
                } else {
                    SessionStep::Done
                })
            }
        }
    }

    fn opened(
        &mut self,
        now: Instant,
        config: &PeerConfig,
        jitter: &mut Jitter,
        open: &OpenMessage,
    ) -> Result<SessionStep, Notification> {
        let negotiated = negotiate(config, open)?;
        self.decoder = Decoder::new(negotiated.context());
        let silent = negotiated.hold.is_zero();
        self.negotiated = Some(Arc::new(negotiated));
        self.state = FsmState::OpenConfirm;
        self.restart_hold(now);
        if silent {
            // Without a hold time the one KEEPALIVE that confirms the OPEN is the only one.
            self.push(now, config, &KEEPALIVE);
        } else {
            self.keep_alive(now, config, jitter);
        }
        Ok(SessionStep::Opened)
    }
}

/// Having offered extended messages we take them, whatever the peer offers (RFC 8654 section 4).
const fn receive_limit(config: &PeerConfig) -> usize {
    if config.extended_messages {
        MAX_EXTENDED_MESSAGE_LEN
    } else {
        MAX_MESSAGE_LEN
    }
}
