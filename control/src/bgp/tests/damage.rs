//! Corrupted messages: any input is decoded or rejected, without a panic.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::wire::*;
use super::vectors::{context, vectors};

const INTERNAL: DecodeContext = DecodeContext {
    four_octet: true,
    internal: true,
    add_path: false,
};

/// Decodes one message and checks the result for consistency.
pub(super) fn decode_any(octets: &[u8], context: DecodeContext) {
    let (kind, length) = match read_header(octets, MAX_EXTENDED_MESSAGE_LEN) {
        Ok(Some(header)) => header,
        Ok(None) => return,
        Err(notification) => return check(&notification),
    };
    let Some(message) = octets.get(..length) else {
        return;
    };
    match decode(kind, message, &mut Decoder::new(context)) {
        Err(notification) => check(&notification),
        Ok(BgpMessage::Update(update)) => {
            let announced = update
                .changes()
                .filter(|c| matches!(c, RouteChange::Announce(_)))
                .count();
            assert_eq!(announced > 0, update.attributes().is_some());
            assert!(
                announced == 0 || update.parts().action() != Some(AttrErrorAction::TreatAsWithdraw)
            );
        }
        Ok(BgpMessage::Open(open)) => assert!(
            open.emit()
                .is_some_and(|again| again.len() <= MAX_MESSAGE_LEN)
        ),
        Ok(BgpMessage::Notification(n)) => assert!(!n.to_string().is_empty()),
        Ok(BgpMessage::Keepalive | BgpMessage::RouteRefresh(_)) => {}
    }
}

fn check(notification: &Notification) {
    assert!(
        matches!(notification.error.code, 1 | 2 | 3 | 7),
        "{notification}"
    );
    assert!(
        read_header(&notification.emit(), MAX_MESSAGE_LEN)
            .unwrap()
            .is_some()
    );
}

#[test]
fn messages_truncated_at_each_octet_are_handled() {
    for (name, message) in vectors() {
        // The longest message is repetitive: its start and samples of the rest suffice.
        for end in
            (0..message.len()).filter(|end| message.len() < 5000 || *end < 400 || end % 97 == 0)
        {
            let mut cut = message[..end].to_vec();
            decode_any(&cut, context(&name));
            // The same with a header of that length.
            if end >= HEADER_LEN {
                cut[16..18].copy_from_slice(&(end as u16).to_be_bytes());
                decode_any(&cut, context(&name));
            }
        }
    }
}

#[test]
fn messages_with_each_bit_flipped_are_handled() {
    for (name, message) in vectors() {
        let mut corrupted = message.clone();
        for bit in (0..message.len() * 8)
            .filter(|bit| message.len() < 5000 || *bit < 3200 || bit % 509 == 0)
        {
            corrupted[bit / 8] ^= 1 << (bit % 8);
            decode_any(&corrupted, context(&name));
            corrupted[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn messages_with_each_value_of_each_octet_are_handled() {
    for (name, message) in vectors().into_iter().filter(|(_, m)| m.len() < 200) {
        for at in HEADER_LEN..message.len() {
            let mut corrupted = message.clone();
            for value in 0..=255 {
                corrupted[at] = value;
                decode_any(&corrupted, context(&name));
            }
        }
    }
}

proptest! {
    #[test]
    fn random_bodies_are_handled(
        kind in 1_u8..=5,
        body in vec(any::<u8>(), 0..300),
        flags in 0..8_u8,
    ) {
        let mut message = vec![0xff; 16];
        message.extend_from_slice(&((body.len() + HEADER_LEN) as u16).to_be_bytes());
        message.push(kind);
        message.extend_from_slice(&body);
        let context = DecodeContext {
            four_octet: flags & 1 == 0,
            internal: flags & 2 == 0,
            add_path: flags & 4 != 0,
        };
        decode_any(&message, context);
    }

    #[test]
    fn random_attributes_are_handled(
        attributes in vec((any::<u8>(), 0..40_u8, vec(any::<u8>(), 0..70)), 0..8),
    ) {
        let mut list = Vec::new();
        for (flags, code, value) in attributes {
            list.extend_from_slice(&[flags & 0xe0, code, value.len() as u8]);
            list.extend_from_slice(&value);
        }
        let mut body = vec![0, 0];
        body.extend_from_slice(&(list.len() as u16).to_be_bytes());
        body.extend_from_slice(&list);
        for four_octet in [true, false] {
            let context = DecodeContext { four_octet, internal: four_octet, add_path: false };
            match Decoder::new(context).decode(&body) {
                Err(notification) => check(&notification),
                Ok(parts) => { UpdateMessage::new(&body, parts).changes().for_each(drop); }
            }
        }
    }

    #[test]
    fn corrupted_streams_are_handled(changes in vec((any::<usize>(), any::<u8>()), 1..6)) {
        let short = vectors().into_iter().filter(|(_, m)| m.len() < 200);
        let mut stream: Vec<u8> = short.flat_map(|(_, m)| m).collect();
        for (at, value) in changes {
            let at = at % stream.len();
            stream[at] = value;
        }
        if let Err(notification) = walk(&stream, INTERNAL) {
            check(&notification);
        }
    }

    #[test]
    fn random_octets_are_handled(octets in vec(any::<u8>(), 0..100)) {
        decode_any(&octets, INTERNAL);
    }
}
