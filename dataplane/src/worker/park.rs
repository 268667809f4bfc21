//! Parks an idle worker in one epoll set of its wakeup descriptor and its sockets.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{Timespec, epoll};

use super::handoff::Handoff;
use crate::addr::WorkerId;

/// The longest sleep. It bounds how long a sleeping worker holds an old table snapshot, and how old
/// its heartbeat gets.
const MAX_SLEEP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 250_000_000,
};

/// Events read per wait. Which ones they are does not matter, since all ports are polled anyway.
const EVENTS: usize = 16;

/// The longest sleep while frames wait to be sent or chunks are short.
const MAX_WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000,
};

/// How long a worker may sleep.
pub(super) const fn limit(work_left: bool) -> Timespec {
    if work_left { MAX_WAIT } else { MAX_SLEEP }
}

#[derive(Debug)]
pub(super) struct Parker {
    set: OwnedFd,
    /// Keeps the wakeup descriptor open as long as it is in the set.
    _handoff: Arc<Handoff>,
}

impl Parker {
    pub(super) fn new(handoff: &Arc<Handoff>, worker: WorkerId) -> io::Result<Self> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let parker = Self {
            set,
            _handoff: handoff.clone(),
        };
        parker.add(handoff.wakeup_fd(worker))?;
        Ok(parker)
    }

    /// Also wakes for this descriptor. It leaves the set by itself when it is closed (epoll(7)).
    pub(super) fn add(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::add(
            &self.set,
            fd,
            epoll::EventData::new_u64(0),
            epoll::EventFlags::IN,
        )?)
    }

    /// No longer wakes for this descriptor, which is about to be closed by another thread.
    pub(super) fn remove(&self, fd: BorrowedFd<'_>) {
        // Fails only for a descriptor that is not in the set.
        let _ = epoll::delete(&self.set, fd);
    }

    /// Sleeps until a descriptor is readable, for `limit` at most. A signal ends it early.
    pub(super) fn park(&self, limit: Timespec) {
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS];
        let _ = epoll::wait(&self.set, &mut events, Some(&limit));
    }
}
