//! A vector that grows without moving its values.
//!
//! ```text
//! place + 64 = 1kk..k oo..o      segment 0: 64 values, 1: 128, 2: 256, ...; each twice the previous
//!              segment  offset
//! ```
//!
//! A `Vec` of a million values of 32 octets copies 16 MiB when it doubles, or has the kernel move its
//! huge pages: some ten milliseconds for which the control thread does nothing else. Here the next
//! segment is reserved instead, whose pages the kernel provides when they are first written.

use std::ops::{Index, IndexMut};

use vtep_dataplane::mem::reserve;

/// Values in the first segment; a power of two.
const FIRST: usize = 64;

/// Values at places from 0 on, as in a `Vec`, that never move.
#[derive(Debug)]
pub struct SegmentedVec<T> {
    /// All but the last one in use are full; those after it are empty.
    segments: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for SegmentedVec<T> {
    fn default() -> Self {
        Self {
            segments: Vec::new(),
            len: 0,
        }
    }
}

/// The segment of a place, and the place in the segment.
#[inline]
const fn locate(place: usize) -> (usize, usize) {
    let shifted = place + FIRST;
    // The second operand only tells the compiler that there is a highest bit.
    let highest = (shifted | FIRST).ilog2();
    ((highest - FIRST.ilog2()) as usize, shifted ^ (1 << highest))
}

impl<T> SegmentedVec<T> {
    /// The number of values.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Appends a value. Its cost does not depend on the number of values.
    #[inline]
    pub fn push(&mut self, value: T) {
        let (segment, _) = locate(self.len);
        if segment == self.segments.len() {
            self.grow();
        }
        self.segments[segment].push(value);
        self.len += 1;
    }

    #[cold]
    fn grow(&mut self) {
        self.segments.push(reserve(FIRST << self.segments.len()));
    }

    /// Removes the last value. Its memory is kept for the next one.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let (segment, _) = locate(self.len.checked_sub(1)?);
        self.len -= 1;
        self.segments[segment].pop()
    }

    /// The value at a place, if there is one.
    #[inline]
    pub fn get(&self, place: usize) -> Option<&T> {
        let (segment, offset) = locate(place);
        self.segments.get(segment)?.get(offset)
    }

    /// All values, in the order of their places.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.segments.iter_mut().flatten()
    }
}

impl<T> Index<usize> for SegmentedVec<T> {
    type Output = T;

    #[inline]
    fn index(&self, place: usize) -> &T {
        let (segment, offset) = locate(place);
        &self.segments[segment][offset]
    }
}

impl<T> IndexMut<usize> for SegmentedVec<T> {
    #[inline]
    fn index_mut(&mut self, place: usize) -> &mut T {
        let (segment, offset) = locate(place);
        &mut self.segments[segment][offset]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        Pop(usize),
        Set(prop::sample::Index, u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..300_usize).prop_map(Step::Push),
            (0..200_usize).prop_map(Step::Pop),
            (any::<prop::sample::Index>(), any::<u32>())
                .prop_map(|(at, value)| Step::Set(at, value)),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_vector(steps in prop::collection::vec(step(), 1..40)) {
            let (mut ours, mut wanted) = (SegmentedVec::default(), Vec::new());
            for step in steps {
                match step {
                    Step::Push(count) => (0..count as u32).for_each(|value| {
                        ours.push(value);
                        wanted.push(value);
                    }),
                    Step::Pop(count) => {
                        for _ in 0..count {
                            prop_assert_eq!(ours.pop(), wanted.pop());
                        }
                    }
                    Step::Set(at, value) => {
                        if !wanted.is_empty() {
                            let at = at.index(wanted.len());
                            ours[at] = value;
                            wanted[at] = value;
                        }
                    }
                }
                prop_assert_eq!(ours.len(), wanted.len());
                for place in 0..wanted.len() + 70 {
                    prop_assert_eq!(ours.get(place), wanted.get(place));
                }
                prop_assert!(ours.iter_mut().eq(wanted.iter_mut()));
            }
        }
    }

    #[test]
    fn values_never_move() {
        let mut values = SegmentedVec::default();
        let mut addresses = Vec::new();
        for value in 0..100_000_usize {
            values.push(value);
            addresses.push(std::ptr::from_ref(&values[value]).addr());
        }
        for (place, address) in addresses.into_iter().enumerate() {
            assert_eq!(std::ptr::from_ref(&values[place]).addr(), address);
        }
    }

    #[test]
    fn segments_follow_each_other() {
        assert_eq!([locate(0), locate(63)], [(0, 0), (0, 63)]);
        assert_eq!(
            [locate(64), locate(191), locate(192)],
            [(1, 0), (1, 127), (2, 0)]
        );
    }
}
