//! Octets on their way: messages out of a stream of reads, and a bounded queue of messages to write.

use std::collections::VecDeque;

use super::wire::{MAX_EXTENDED_MESSAGE_LEN, MessageType, Notification, read_header};

/// Received octets that are not processed yet.
#[derive(Debug, Default)]
pub(super) struct RecvBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl RecvBuffer {
    /// How much may wait here: two messages of the longest kind, so that one read never waits for the other.
    const ROOM: usize = 2 * MAX_EXTENDED_MESSAGE_LEN;

    /// How many octets fit still.
    pub(super) fn room(&self) -> usize {
        Self::ROOM.saturating_sub(self.bytes.len() - self.start)
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start > MAX_EXTENDED_MESSAGE_LEN {
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
pub(super) struct SendBuffer {
    bytes: Vec<u8>,
    /// TCP has all octets before this one.
    start: usize,
    /// Where the message that holds `start` begins.
    begin: usize,
    /// Ends of the messages that are not written whole.
    ends: VecDeque<usize>,
}

impl SendBuffer {
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
        } else if self.begin >= MAX_EXTENDED_MESSAGE_LEN && self.begin >= self.bytes.len() / 2 {
            self.bytes.drain(..self.begin);
            self.ends.iter_mut().for_each(|end| *end -= self.begin);
            self.start -= self.begin;
            self.begin = 0;
        }
    }

    /// What to write last: the rest of a message that is begun, then `message`; all others are dropped.
    pub(super) fn last_message(&self, message: &[u8]) -> Vec<u8> {
        let begun = match self.ends.front() {
            Some(end) if self.start > self.begin => &self.bytes[self.start..*end],
            _ => &[],
        };
        [begun, message].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{KEEPALIVE, MAX_MESSAGE_LEN};
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_arrive() {
        let mut recv_buffer = RecvBuffer::default();
        for round in 0..3 {
            for byte in KEEPALIVE {
                assert_eq!(recv_buffer.peek(MAX_MESSAGE_LEN), Ok(None), "round {round}");
                recv_buffer.push(&[byte]);
            }
            assert_eq!(
                recv_buffer.peek(MAX_MESSAGE_LEN),
                Ok(Some((MessageType::Keepalive, 19)))
            );
            let at = recv_buffer.take(19);
            assert_eq!(recv_buffer.slice(at), KEEPALIVE);
        }
        recv_buffer.push(&KEEPALIVE.repeat(2));
        recv_buffer.take(19);
        recv_buffer.push(&KEEPALIVE);
        assert_eq!(recv_buffer.room(), 2 * MAX_EXTENDED_MESSAGE_LEN - 38);
    }

    #[test]
    fn the_longest_message_comes_out_of_the_smallest_reads() {
        let mut message = vec![0xff; 16];
        message.extend_from_slice(&[0xff, 0xff, 2]);
        message.resize(MAX_EXTENDED_MESSAGE_LEN, 0);
        let mut recv_buffer = RecvBuffer::default();
        for chunk in message.chunks(7) {
            assert_eq!(recv_buffer.peek(MAX_EXTENDED_MESSAGE_LEN), Ok(None));
            recv_buffer.push(chunk);
        }
        assert_eq!(
            recv_buffer.peek(MAX_EXTENDED_MESSAGE_LEN),
            Ok(Some((MessageType::Update, MAX_EXTENDED_MESSAGE_LEN)))
        );
        assert!(recv_buffer.peek(MAX_MESSAGE_LEN).is_err());
    }

    #[test]
    fn a_farewell_ends_the_message_that_is_begun_and_drops_the_others() {
        let mut send_buffer = SendBuffer::default();
        send_buffer.push(&KEEPALIVE);
        send_buffer.push(&KEEPALIVE);
        assert_eq!(send_buffer.last_message(b"end"), b"end");
        send_buffer.written(5);
        assert_eq!(
            send_buffer.last_message(b"end"),
            [&KEEPALIVE[5..], b"end"].concat()
        );
        send_buffer.written(14);
        assert_eq!(send_buffer.last_message(b"end"), b"end");
        send_buffer.written(100);
        assert!(send_buffer.waiting().is_empty());
        assert_eq!(send_buffer.last_message(b"end"), b"end");
    }
}
