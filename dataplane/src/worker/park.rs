//! Where an idle worker waits: one epoll set with its bell and its sockets.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{Timespec, epoll};

use super::handoff::Handoff;
use crate::addr::WorkerId;

/// The longest sleep: bounds how late a sleeper lets go of an old table snapshot, and how old its heartbeat gets.
const LONGEST: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 250_000_000,
};

/// Events taken from one wait; which ones is of no interest, all ports are looked at anyway.
const EVENTS: usize = 16;

#[derive(Debug)]
pub(super) struct Parker {
    set: OwnedFd,
    /// Keeps the bell's descriptor open as long as it is in the set.
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

    /// Wakes for this descriptor too. It leaves the set by itself when it is closed (epoll(7)).
    pub(super) fn add(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::add(
            &self.set,
            fd,
            epoll::EventData::new_u64(0),
            epoll::EventFlags::IN,
        )?)
    }

    /// Sleeps until something happens, [`LONGEST`] at most. An interrupted sleep is a short one.
    pub(super) fn park(&self) {
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS];
        let _ = epoll::wait(&self.set, &mut events, Some(&LONGEST));
    }
}
