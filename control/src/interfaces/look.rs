//! Looks at open interfaces: whether they are still those that were opened, with their programs first
//! and on all queues. The kernel is asked in the background, since it may not answer for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossbeam::channel::TryRecvError;
use vtep_dataplane::afxdp::{Error, Probe, Probed};

use super::{InterfaceError, InterfaceState, Interfaces};
use crate::background::{Background, Pending};
use crate::config::InterfaceName;
use crate::workers::Workers;

type Answer = Result<Probed, Error>;

/// The looks that the kernel has not answered yet, at most one for each interface.
#[derive(Debug)]
pub(super) struct Looks {
    background: Background,
    pending: BTreeMap<InterfaceName, Look>,
}

#[derive(Debug)]
struct Look {
    probe: Probe,
    answer: Pending<Answer>,
    /// Something has changed since the question: it is asked again after the answer.
    again: bool,
}

impl Looks {
    pub(super) fn new(background: Background) -> Self {
        Self {
            background,
            pending: BTreeMap::new(),
        }
    }

    fn ask(&mut self, name: &InterfaceName, probe: Probe, now: Instant) {
        if let Some(look) = self.pending.get_mut(name) {
            look.again = true;
            return;
        }
        let question = probe.clone();
        let answer = self.background.ask(move || question.ask(), now);
        let look = Look {
            probe,
            answer,
            again: false,
        };
        self.pending.insert(name.clone(), look);
    }

    /// Those that were answered since, and those that will not be (`None`).
    fn answered(&mut self) -> Vec<(InterfaceName, Look, Option<Answer>)> {
        let answers: Vec<_> = self
            .pending
            .iter()
            .filter_map(|(name, look)| match look.answer.answer() {
                Ok(answer) => Some((name.clone(), Some(answer))),
                Err(TryRecvError::Disconnected) => Some((name.clone(), None)),
                Err(TryRecvError::Empty) => None,
            })
            .collect();
        answers
            .into_iter()
            .filter_map(|(name, answer)| {
                let look = self.pending.remove(&name)?;
                Some((name, look, answer))
            })
            .collect()
    }
}

impl Interfaces {
    /// Asks the kernel whether an open interface is as it was. [`Self::finish_looks`] handles the
    /// answer. Its programs are told again what they could not be told.
    pub fn look(&mut self, name: &InterfaceName, now: Instant) {
        self.tell_again(name);
        if let Some(open) = self.managed.get(name).and_then(|managed| managed.open()) {
            self.looks.ask(name, open.backend.probe(), now);
        }
    }

    /// Handles the answers that have come: binds queues that were added, closes those that were
    /// removed, and opens interfaces again that were replaced by others of their names. Returns the
    /// interfaces that were looked at, and whether their queues changed.
    pub fn finish_looks(
        &mut self,
        workers: &mut Workers,
        now: Instant,
    ) -> Vec<(InterfaceName, bool)> {
        let mut looked = Vec::new();
        for (name, look, answer) in self.looks.answered() {
            let open = self.managed.get(&name).and_then(|managed| managed.open());
            // It may have been closed, or opened again, since.
            let current = open.is_some_and(|open| open.backend.probe() == look.probe);
            let answer = answer.filter(|_| current);
            let changed =
                answer.is_some_and(|answer| self.follow_answer(&name, answer, workers, now));
            if look.again || !current {
                self.look(&name, now);
            }
            looked.push((name, changed));
        }
        looked
    }

    fn follow_answer(
        &mut self,
        name: &InterfaceName,
        answer: Answer,
        workers: &mut Workers,
        now: Instant,
    ) -> bool {
        let Some(InterfaceState::Open(open)) =
            self.managed.get_mut(name).map(|managed| &mut managed.state)
        else {
            return false;
        };
        let probed = match answer {
            Ok(probed) if probed.same => probed,
            Ok(_) => return self.close(name, workers) | self.try_open(name, workers, now),
            // Otherwise the kernel does not say: it is asked again at the next look.
            Err(error) => return is_absent(error) && self.close(name, workers),
        };
        match open.backend.set_probed(probed) {
            Ok(()) => self.match_queues(name, workers, now),
            Err(error) => {
                tracing::warn!(interface = %name, %error, "queues were added and have no program");
                InterfaceError::from(error).is_absent() && self.close(name, workers)
            }
        }
    }

    /// For how long the kernel has not answered a question about an interface; zero when it has
    /// answered all.
    #[must_use]
    pub fn unanswered(&self, now: Instant) -> Duration {
        let pending = self.looks.pending.values();
        let waiting = pending.map(|look| look.answer.waiting(now));
        waiting.max().unwrap_or_default()
    }
}

fn is_absent(error: Error) -> bool {
    InterfaceError::from(super::BackendError::from(error)).is_absent()
}
