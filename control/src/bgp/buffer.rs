//! Octets on their way: messages out of a stream of reads, and a bounded queue of messages to write.

use std::collections::VecDeque;

use super::wire::{EXTENDED_LIMIT, MessageType, Notification, read_header};

/// Received octets that are not processed yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
}

impl Inbox {
    /// How much may wait here: two messages of the longest kind, so that one read never waits for the other.
    const ROOM: usize = 2 * EXTENDED_LIMIT;

    /// How many octets fit still.
    pub(super) fn room(&self) -> usize {
        Self::ROOM.saturating_sub(self.bytes.len() - self.start)
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start > EXTENDED_LIMIT {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Type and length of the message at the front if it is whole.
    pub(super) fn peek(&self, limit: usize) -> Result<Option<(MessageType, usize)>, Notification> {
        let waiting = &self.bytes[self.start..];
        Ok(read_header(waiting, limit)?.filter(|(_, length)| waiting.len() >= *length))
    }

    /// Where the next `length` octets are; they count as processed, and stay readable until the next push.
    pub(super) const fn take(&mut self, length: usize) -> (usize, usize) {
        let from = self.start;
        self.start += length;
        (from, self.start)
    }

    pub(super) fn slice(&self, (from, to): (usize, usize)) -> &[u8] {
        &self.bytes[from..to]
    }
}

/// Messages that TCP has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// TCP has all octets before this one.
    start: usize,
    /// Where the message that holds `start` begins.
    begin: usize,
    /// Ends of the messages that are not written whole.
    ends: VecDeque<usize>,
}

impl Outbox {
    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(super) fn push(&mut self, message: &[u8]) {
        self.bytes.extend_from_slice(message);
        self.ends.push_back(self.bytes.len());
    }

    /// TCP took `count` octets.
    pub(super) fn written(&mut self, count: usize) {
        self.start = (self.start + count).min(self.bytes.len());
        while let Some(end) = self.ends.front().copied().filter(|end| *end <= self.start) {
            self.begin = end;
            self.ends.pop_front();
        }
        if self.start == self.bytes.len() {
            *self = Self {
                bytes: std::mem::take(&mut self.bytes),
                ..Self::default()
            };
            self.bytes.clear();
        } else if self.begin >= EXTENDED_LIMIT && self.begin >= self.bytes.len() / 2 {
            self.bytes.drain(..self.begin);
            self.ends.iter_mut().for_each(|end| *end -= self.begin);
            self.start -= self.begin;
            self.begin = 0;
        }
    }

    /// What to write last: the rest of a message that is begun, then `message`; all others are dropped.
    pub(super) fn farewell(&self, message: &[u8]) -> Vec<u8> {
        let begun = match self.ends.front() {
            Some(end) if self.start > self.begin => &self.bytes[self.start..*end],
            _ => &[],
        };
        [begun, message].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{KEEPALIVE, MESSAGE_LIMIT};
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_arrive() {
        let mut inbox = Inbox::default();
        for round in 0..3 {
            for byte in KEEPALIVE {
                assert_eq!(inbox.peek(MESSAGE_LIMIT), Ok(None), "round {round}");
                inbox.push(&[byte]);
            }
            assert_eq!(
                inbox.peek(MESSAGE_LIMIT),
                Ok(Some((MessageType::Keepalive, 19)))
            );
            let at = inbox.take(19);
            assert_eq!(inbox.slice(at), KEEPALIVE);
        }
        inbox.push(&KEEPALIVE.repeat(2));
        inbox.take(19);
        inbox.push(&KEEPALIVE);
        assert_eq!(inbox.room(), 2 * EXTENDED_LIMIT - 38);
    }

    #[test]
    fn the_longest_message_comes_out_of_the_smallest_reads() {
        let mut message = vec![0xff; 16];
        message.extend_from_slice(&[0xff, 0xff, 2]);
        message.resize(EXTENDED_LIMIT, 0);
        let mut inbox = Inbox::default();
        for chunk in message.chunks(7) {
            assert_eq!(inbox.peek(EXTENDED_LIMIT), Ok(None));
            inbox.push(chunk);
        }
        assert_eq!(
            inbox.peek(EXTENDED_LIMIT),
            Ok(Some((MessageType::Update, EXTENDED_LIMIT)))
        );
        assert!(inbox.peek(MESSAGE_LIMIT).is_err());
    }

    #[test]
    fn a_farewell_ends_the_message_that_is_begun_and_drops_the_others() {
        let mut outbox = Outbox::default();
        outbox.push(&KEEPALIVE);
        outbox.push(&KEEPALIVE);
        assert_eq!(outbox.farewell(b"end"), b"end");
        outbox.written(5);
        assert_eq!(outbox.farewell(b"end"), [&KEEPALIVE[5..], b"end"].concat());
        outbox.written(14);
        assert_eq!(outbox.farewell(b"end"), b"end");
        outbox.written(100);
        assert!(outbox.waiting().is_empty());
        assert_eq!(outbox.farewell(b"end"), b"end");
    }
}
