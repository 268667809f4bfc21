//! Buffers of one connection: received octets until a message is complete, and messages that TCP
//! has not taken yet.

use std::collections::VecDeque;

use super::wire::{MAX_EXTENDED_MESSAGE_LEN, MessageType, Notification, read_header};

/// Received octets that are not processed yet, bounded by [`RecvBuffer::CAPACITY`].
#[derive(Debug, Default)]
pub(super) struct RecvBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl RecvBuffer {
    /// Maximum number of octets held: two messages of the longest kind, so that a read never waits
    /// for the message before it to be processed.
    const CAPACITY: usize = 2 * MAX_EXTENDED_MESSAGE_LEN;

    /// How many more octets fit.
    pub(super) fn free_space(&self) -> usize {
        Self::CAPACITY.saturating_sub(self.bytes.len() - self.start)
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

    /// Type and length of the message at the front, if it is complete.
    pub(super) fn peek(&self, limit: usize) -> Result<Option<(MessageType, usize)>, Notification> {
        let pending = &self.bytes[self.start..];
        Ok(read_header(pending, limit)?.filter(|(_, length)| pending.len() >= *length))
    }

    /// Consumes the next `length` octets and returns their range, which stays readable until the
    /// next push.
    pub(super) const fn take(&mut self, length: usize) -> (usize, usize) {
        let from = self.start;
        self.start += length;
        (from, self.start)
    }

    pub(super) fn slice(&self, (from, to): (usize, usize)) -> &[u8] {
        &self.bytes[from..to]
    }
}

/// Messages that TCP has not taken yet. [`super::Peer::send`] bounds them.
#[derive(Debug, Default)]
pub(super) struct SendBuffer {
    bytes: Vec<u8>,
    /// TCP has taken all octets before this one.
    start: usize,
    /// Start of the message that contains `start`.
    message_start: usize,
    /// Ends of the messages that are not completely written.
    ends: VecDeque<usize>,
}

impl SendBuffer {
    /// The octets to write next.
    pub(super) fn pending(&self) -> &[u8] {
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
            self.message_start = end;
            self.ends.pop_front();
        }
        if self.start == self.bytes.len() {
            *self = Self {
                bytes: std::mem::take(&mut self.bytes),
                ..Self::default()
            };
            self.bytes.clear();
        } else if self.message_start >= MAX_EXTENDED_MESSAGE_LEN
            && self.message_start >= self.bytes.len() / 2
        {
            self.bytes.drain(..self.message_start);
            self.ends
                .iter_mut()
                .for_each(|end| *end -= self.message_start);
            self.start -= self.message_start;
            self.message_start = 0;
        }
    }

    /// What to write before closing: the rest of a partly written message, then `message`; all
    /// other messages are dropped.
    pub(super) fn last_message(&self, message: &[u8]) -> Vec<u8> {
        let rest = match self.ends.front() {
            Some(end) if self.start > self.message_start => &self.bytes[self.start..*end],
            _ => &[],
        };
        [rest, message].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{KEEPALIVE, MAX_MESSAGE_LEN};
    use super::*;

    #[test]
    fn messages_are_reassembled_from_any_chunks() {
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
        assert_eq!(recv_buffer.free_space(), 2 * MAX_EXTENDED_MESSAGE_LEN - 38);
    }

    #[test]
    fn the_longest_message_is_reassembled_from_small_reads() {
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
    fn a_last_message_completes_a_partly_written_one_and_drops_the_others() {
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
        assert!(send_buffer.pending().is_empty());
        assert_eq!(send_buffer.last_message(b"end"), b"end");
    }
}
