//! Runs a burst through its three stages, each for all frames before the next one.
//!
//! ```text
//! parse     prefetches the frames ahead, and the bucket of each key
//! look up   prefetches the second bucket where it is needed
//! forward   prefetches the headroom of the frames ahead; writes the header, enqueues
//! ```

use std::ptr;

use super::context::BurstContext;
use crate::frame::{BURST, Frame, FrameMemory};
use crate::mem::prefetch;
use crate::table::mac::{LookupResult, Lookups, MacKey};

/// How many frames ahead memory is prefetched. Chunks start at the same page offset, so that the first
/// lines of all frames share two sets of the L1 cache: what is prefetched further ahead is evicted
/// before it is used.
pub(super) const AHEAD: usize = 8;

/// How far before a frame its headroom is prefetched, bytes: one line.
const OUTER_HEADER: usize = 64;

/// Where the frames of a burst are.
#[derive(Debug)]
pub(super) struct Addresses([*const u8; BURST + AHEAD]);

impl Addresses {
    /// Of up to [`BURST`] frames.
    #[inline(always)]
    fn new<M: FrameMemory>(memory: &M, frames: &[Frame]) -> Self {
        let mut addresses = [ptr::null(); BURST + AHEAD];
        for (address, frame) in addresses.iter_mut().zip(frames) {
            *address = memory.address(frame);
        }
        Self(addresses)
    }

    /// Prefetches the first lines of the first frames.
    #[inline(always)]
    fn prefetch_first(&self) {
        self.0[..AHEAD].iter().copied().for_each(prefetch);
    }

    /// Prefetches the first line of the frame that is [`AHEAD`] frames after frame `at`.
    #[inline(always)]
    pub(super) fn prefetch_ahead(&self, at: usize) {
        prefetch(self.0[at % BURST + AHEAD]);
    }

    /// [`Self::prefetch_ahead`] and its headroom. The loads from memory are together then, and the
    /// second one is cheap while the page is in the TLB; before the header is written, its line is
    /// prefetched again.
    #[inline(always)]
    pub(super) fn prefetch_both_ahead(&self, at: usize) {
        self.prefetch_ahead(at);
        prefetch_headroom(self.0[at % BURST + AHEAD]);
    }

    /// Prefetches the headroom of the first frames.
    #[inline(always)]
    pub(super) fn prefetch_headrooms(&self) {
        self.0[..AHEAD].iter().copied().for_each(prefetch_headroom);
    }

    /// From frame `at` on, those that are [`AHEAD`] frames later.
    #[inline(always)]
    pub(super) fn ahead(&self, at: usize) -> &[*const u8] {
        &self.0[at % BURST + AHEAD..]
    }
}

/// Prefetches the cache line that the outer header of the frame at `address` is written to.
#[inline(always)]
pub(super) fn prefetch_headroom(address: *const u8) {
    prefetch(address.wrapping_sub(OUTER_HEADER));
}

/// An input node: what is parsed with a frame before and after the lookup of its key.
pub(super) trait Input<'t> {
    /// What `parse` leaves for `forward`.
    type Meta: Copy;
    /// The metadata of a frame that was dropped and counted.
    const DROPPED: Self::Meta;

    /// Parses usual frames, from frame `at` on, and starts their lookups. Returns how many there are
    /// before the first one that is left to `parse`.
    #[inline(always)]
    fn parse_usual<M: FrameMemory>(
        _ctx: &mut BurstContext<'t, '_, M>,
        _lookups: &mut Lookups,
        _frames: &mut [Frame],
        _meta: &mut [Self::Meta; BURST],
        (_addresses, _at): (&Addresses, usize),
    ) -> usize {
        0
    }

    /// Checks a frame, and fills in its metadata. Returns the key to look up.
    fn parse<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frame: &mut Frame,
        meta: &mut Self::Meta,
    ) -> MacKey;

    /// Forwards, floods or frees a parsed frame. `meta` is a reference: a copy would have to wait
    /// for the stores of `parse`.
    fn forward<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frame: Frame,
        meta: &Self::Meta,
        key: MacKey,
        found: LookupResult,
    );

    /// Forwards the frames of a burst, in their order, and takes each of them.
    #[inline(always)]
    fn forward_all<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frames: &mut [Frame],
        meta: &[Self::Meta],
        (keys, found): (&[MacKey], &[LookupResult]),
        _addresses: &Addresses,
    ) {
        let looked_up = keys.iter().zip(found);
        for ((frame, meta), (key, found)) in frames.iter_mut().zip(meta).zip(looked_up) {
            Self::forward(ctx, frame.take(), meta, *key, *found);
        }
    }
}

/// Runs up to [`BURST`] frames through all stages, and removes them from `burst`. `lookups`:
/// scratch space for the lookups.
pub(super) fn process<'t, I: Input<'t>, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    lookups: &mut Lookups,
    burst: &mut Vec<Frame>,
) {
    let count = burst.len().min(BURST);
    let frames = &mut burst[..count];
    let mut meta = [I::DROPPED; BURST];
    let addresses = Addresses::new(ctx.pool.memory(), frames);
    parse_all::<I, M>(ctx, lookups, frames, &mut meta, &addresses);
    ctx.macs.lookup_finish(lookups, count);
    forward_all::<I, M>(ctx, lookups, frames, &meta, &addresses);
    burst.drain(..count);
}

/// The first stage, and the start of the second one. As a function of its own, it has all registers
/// for its loop.
#[inline(never)]
fn parse_all<'t, I: Input<'t>, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    lookups: &mut Lookups,
    frames: &mut [Frame],
    meta: &mut [I::Meta; BURST],
    addresses: &Addresses,
) {
    lookups.clear();
    addresses.prefetch_first();
    let mut at = 0;
    while at < frames.len() {
        at += I::parse_usual(ctx, lookups, frames, meta, (addresses, at));
        if let (Some(frame), Some(meta)) = (frames.get_mut(at), meta.get_mut(at)) {
            addresses.prefetch_ahead(at);
            let key = I::parse(ctx, frame, meta);
            ctx.macs.lookup_start(lookups, at, key);
            at += 1;
        }
    }
}

/// The last stage; a function of its own as the first one.
#[inline(never)]
fn forward_all<'t, I: Input<'t>, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    lookups: &Lookups,
    frames: &mut [Frame],
    meta: &[I::Meta; BURST],
    addresses: &Addresses,
) {
    let (keys, found) = lookups.results();
    let count = frames.len().min(BURST);
    let looked_up = (&keys[..count], &found[..count]);
    I::forward_all(ctx, frames, &meta[..count], looked_up, addresses);
}
