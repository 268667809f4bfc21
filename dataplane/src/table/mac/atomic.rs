//! The atomics of the table: the standard ones, or loom's under its model checker.
//!
//! The writer's load of a value that only it writes is a separate function. For loom it must not be
//! an atomic load: loom remembers only the last access to a value, so it would forget the reader's
//! earlier load, and with it that the writer's next store races with that load.
#![cfg_attr(loom, allow(unsafe_code))]

#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(loom)]
pub(super) use ::loom::sync::atomic::{AtomicU32, AtomicU64};

/// The value, for the only thread that stores to it.
#[cfg(not(loom))]
#[inline]
pub(super) fn own_u32(value: &AtomicU32) -> u32 {
    value.load(std::sync::atomic::Ordering::Relaxed)
}

/// The value, for the only thread that stores to it.
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
