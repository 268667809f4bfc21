//! VLAN tags (IEEE 802.1Q), between the source MAC and the EtherType.
//!
//! ```text
//!  0         2   3 bits   1     12 bits    4
//! +---------+-----------+-----+-----------+
//! |  TPID   | priority  | DEI |  VLAN ID  |
//! +---------+-----------+-----+-----------+
//! ```

use super::{be16, ethernet, put16};

/// Length of a tag, bytes.
pub const LEN: usize = 4;

/// TPID of a customer tag (C-TAG).
pub const TPID: u16 = 0x8100;

/// TPID of a service tag (S-TAG, IEEE 802.1ad).
pub const SERVICE_TPID: u16 = 0x88a8;

/// True when this EtherType announces a tag.
#[inline]
#[must_use]
pub const fn is_tag(ethertype: u16) -> bool {
    ethertype == TPID || ethertype == SERVICE_TPID
}

/// True for the TPIDs of stacked tags from before IEEE 802.1ad. They are not processed as tags here.
#[must_use]
pub const fn is_legacy_tag(ethertype: u16) -> bool {
    matches!(ethertype, 0x9100 | 0x9200 | 0x9300)
}

/// Skips at most two tags: the EtherType after them and the offset of its payload, bytes. `None`
/// when `frame` ends before, or has a third tag.
#[inline]
#[must_use]
pub fn skip(frame: &[u8]) -> Option<(u16, usize)> {
    let mut at = ethernet::LEN;
    for _ in 0..=2 {
        let ethertype = u16::from_be_bytes(*frame.get(at - 2..)?.first_chunk()?);
        if !is_tag(ethertype) {
            return Some((ethertype, at));
        }
        at += LEN;
    }
    None
}

/// The VLAN ID of the outermost tag, 0 to 4095, if that is a customer tag.
#[inline]
#[must_use]
pub fn id(frame: &[u8]) -> Option<u16> {
    let tag: &[u8; LEN] = frame.get(ethernet::ETHERTYPE..)?.first_chunk()?;
    (be16(tag, 0) == TPID).then(|| be16(tag, 2) & 0x0fff)
}

/// Removes the outermost tag by moving the MACs over it. The frame then begins [`LEN`] bytes later.
///
/// # Panics
/// If `frame` is shorter than MACs and tag.
#[inline]
pub fn pop(frame: &mut [u8]) {
    frame.copy_within(..ethernet::ETHERTYPE, LEN);
}

/// Adds a customer tag to a frame that was extended by [`LEN`] bytes at its front.
///
/// # Panics
/// If `frame` is shorter than MACs and tag.
#[inline]
pub fn push(frame: &mut [u8], id: u16) {
    insert(frame, TPID, id & 0x0fff);
}

/// Adds a tag of any kind, as [`push`]. `tci`: priority, DEI and VLAN ID.
///
/// # Panics
/// If `frame` is shorter than MACs and tag.
#[inline]
pub fn insert(frame: &mut [u8], tpid: u16, tci: u16) {
    frame.copy_within(LEN..LEN + ethernet::ETHERTYPE, 0);
    put16(frame, ethernet::ETHERTYPE, tpid);
    put16(frame, ethernet::ETHERTYPE + 2, tci);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_is_pushed_can_be_popped() {
        let plain: Vec<u8> = (0..60).collect();
        let mut tagged = [vec![0; LEN], plain.clone()].concat();
        push(&mut tagged, 0x0abc);
        assert_eq!(id(&tagged), Some(0x0abc));
        assert_eq!(id(&plain), None);
        assert_eq!(tagged[..12], plain[..12]);
        pop(&mut tagged);
        assert_eq!(tagged[LEN..], plain);
        insert(&mut tagged, SERVICE_TPID, 0xe064);
        assert_eq!(tagged[12..16], [0x88, 0xa8, 0xe0, 0x64]);
    }

    #[test]
    fn two_tags_are_skipped_and_three_are_not() {
        let tags = |n| [vec![0; 12], [0x81, 0, 0, 1].repeat(n), vec![8, 0, 0x45]].concat();
        assert_eq!(skip(&tags(0)), Some((0x0800, 14)));
        assert_eq!(skip(&tags(1)), Some((0x0800, 18)));
        assert_eq!(skip(&tags(2)), Some((0x0800, 22)));
        assert_eq!(skip(&tags(3)), None);
        assert_eq!(skip(&tags(1)[..17]), None);
    }
}
