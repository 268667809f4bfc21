//! One TCP connection to a peer: its messages, its timers, its place in the state table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::buffer::{Inbox, Outbox};
use super::fsm::{State, after_message, misplaced};
use super::negotiate::{Negotiated, PeerConfig, negotiate};
use super::timer::{Jitter, Timer, Timers};
use super::wire::{
    Context, Decoder, EXTENDED_LIMIT, HEADER_LEN, KEEPALIVE, MESSAGE_LIMIT, Message, MessageType,
    Notification, Open, Parts, RouteRefresh, decode,
};

/// The hold time until the peer's OPEN is there (RFC 4271 section 8.2.2 suggests 4 minutes).
const OPEN_HOLD: Duration = Duration::from_secs(240);

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) state: State,
    /// We opened it.
    pub(super) outgoing: bool,
    pub(super) agreed: Option<Arc<Negotiated>>,
    pub(super) inbox: Inbox,
    pub(super) outbox: Outbox,
    pub(super) timers: Timers,
    pub(super) received: u64,
    pub(super) sent: u64,
    decoder: Decoder,
}

/// What one message, or none, has led to.
pub(super) enum Step {
    /// No whole message is there.
    Wait,
    /// Go on.
    Done,
    /// The peer's OPEN is accepted.
    Opened,
    /// The session is established.
    Up,
    /// Routes; where their message stands in the inbox.
    Update(Parts, (usize, usize)),
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
                State::Connect
            } else {
                State::Active
            },
            outgoing,
            agreed: None,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            timers: Timers::default(),
            received: 0,
            sent: 0,
            decoder: Decoder::new(Context {
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
        self.state = State::OpenSent;
        self.timers.set(Timer::Hold, now + OPEN_HOLD);
        self.push(now, config, &open);
        true
    }

    /// Queues a message. The send hold timer runs while something waits.
    pub(super) fn push(&mut self, now: Instant, config: &PeerConfig, message: &[u8]) {
        if self.outbox.waiting().is_empty() {
            self.timers.set(Timer::SendHold, now + config.send_hold);
        }
        self.outbox.push(message);
        self.sent += 1;
    }

    /// TCP took `count` octets: that is progress.
    pub(super) fn written(&mut self, now: Instant, config: &PeerConfig, count: usize) {
        if count == 0 {
            return;
        }
        self.outbox.written(count);
        if self.outbox.waiting().is_empty() {
            self.timers.stop(Timer::SendHold);
        } else {
            self.timers.set(Timer::SendHold, now + config.send_hold);
        }
    }

    /// A keepalive, and the next in a third of the hold time.
    pub(super) fn keep_alive(&mut self, now: Instant, config: &PeerConfig, jitter: &mut Jitter) {
        let Some(interval) = self
            .agreed
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
        let waits = !matches!(self.inbox.peek(receive_limit(config)), Ok(None));
        if waits {
            self.restart_hold(now);
        }
        !waits
    }

    fn restart_hold(&mut self, now: Instant) {
        match self.agreed.as_ref().map(|agreed| agreed.hold) {
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
    ) -> Result<Step, Notification> {
        if matches!(self.state, State::Connect | State::Active) {
            return Ok(Step::Wait);
        }
        let Some((kind, length)) = self.inbox.peek(receive_limit(config))? else {
            return Ok(Step::Wait);
        };
        let state = after_message(self.state, kind).map_err(|subcode| misplaced(subcode, kind))?;
        self.received += 1;
        let (from, to) = self.inbox.take(length);
        let message = self.inbox.slice((from, to));
        if kind == MessageType::Update {
            let parts = self.decoder.decode(&message[HEADER_LEN..])?;
            self.restart_hold(now);
            return Ok(Step::Update(parts, (from + HEADER_LEN, to)));
        }
        match decode(kind, message, &mut self.decoder)? {
            Message::Open(open) => self.opened(now, config, jitter, &open),
            Message::Notification(notification) => Ok(Step::Ended(notification)),
            Message::RouteRefresh(Some(refresh)) => Ok(Step::Refresh(refresh)),
            Message::RouteRefresh(None) | Message::Update(_) => Ok(Step::Done),
            Message::Keepalive => {
                self.restart_hold(now);
                let up = self.state != state;
                self.state = state;
                Ok(if up { Step::Up } else { Step::Done })
            }
        }
    }

    fn opened(
        &mut self,
        now: Instant,
        config: &PeerConfig,
        jitter: &mut Jitter,
        open: &Open,
    ) -> Result<Step, Notification> {
        let agreed = negotiate(config, open)?;
        self.decoder = Decoder::new(agreed.context());
        let silent = agreed.hold.is_zero();
        self.agreed = Some(Arc::new(agreed));
        self.state = State::OpenConfirm;
        self.restart_hold(now);
        if silent {
            // Without a hold time the one KEEPALIVE that confirms the OPEN is the only one.
            self.push(now, config, &KEEPALIVE);
        } else {
            self.keep_alive(now, config, jitter);
        }
        Ok(Step::Opened)
    }
}

/// Having offered extended messages we take them, whatever the peer offers (RFC 8654 section 4).
const fn receive_limit(config: &PeerConfig) -> usize {
    if config.extended_messages {
        EXTENDED_LIMIT
    } else {
        MESSAGE_LIMIT
    }
}
