//! The atomics of the table: the standard ones, or loom's under its model checker.
//!
//! The writer's look at what only it writes is a function of its own. To loom it must not be an atomic load: of the
//! accesses to a value loom remembers the last one, and would forget the reader's load before it, and with it that the
//! writer's next store races with that load.
#![cfg_attr(loom, allow(unsafe_code))]

#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(loom)]
pub(super) use ::loom::sync::atomic::{AtomicU32, AtomicU64};

/// The value, to the only thread that stores into it.
#[cfg(not(loom))]
#[inline]
pub(super) fn own_u32(value: &AtomicU32) -> u32 {
    value.load(std::sync::atomic::Ordering::Relaxed)
}

/// The value, to the only thread that stores into it.
#[cfg(not(loom))]
#[inline]
pub(super) fn own_u64(value: &AtomicU64) -> u64 {
    value.load(std::sync::atomic::Ordering::Relaxed)
}

#[cfg(loom)]
pub(super) fn own_u32(value: &AtomicU32) -> u32 {
    // SAFETY: loom checks that no other thread stores concurrently.
    unsafe { value.unsync_load() }
}

#[cfg(loom)]
pub(super) fn own_u64(value: &AtomicU64) -> u64 {
    // SAFETY: loom checks that no other thread stores concurrently.
    unsafe { value.unsync_load() }
}
