//! Questions to the kernel that may take long, on a thread of their own. Most of what concerns
//! interfaces takes the kernel's rtnl lock, which it holds for tens of seconds on a busy host while a
//! network namespace is removed (net/core/net_namespace.c, `cleanup_net`): sessions, clients and
//! timers must not wait for that.

use std::io;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded, unbounded};

type Job = Box<dyn FnOnce() + Send>;

/// The thread, which ends with the last handle. Its end is not waited for: a question may be stuck.
#[derive(Debug, Clone)]
pub struct Background {
    jobs: Sender<Job>,
}

/// A question that was asked.
#[derive(Debug)]
pub struct Pending<T> {
    answer: Receiver<T>,
    asked: Instant,
}

impl Background {
    /// Starts the thread, which calls `wake` after each answer.
    ///
    /// # Errors
    /// When the kernel refuses a thread.
    pub fn start(wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (jobs, queue) = unbounded::<Job>();
        std::thread::Builder::new()
            .name("vtepd-kernel".to_owned())
            .spawn(move || {
                for job in queue {
                    job();
                    wake();
                }
            })?;
        Ok(Self { jobs })
    }

    /// Asks a question after those that were asked before. The caller bounds their number.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> T + Send + 'static,
        now: Instant,
    ) -> Pending<T> {
        let (sender, answer) = bounded(1);
        // The caller may not be interested any more, and a thread that has ended does not answer:
        // both show on the other end.
        let job = move || drop(sender.send(question()));
        drop(self.jobs.send(Box::new(job)));
        Pending { answer, asked: now }
    }
}

impl<T> Pending<T> {
    /// The answer, if there is one by now. `Err(Disconnected)`: there will be none.
    pub(crate) fn answer(&self) -> Result<T, TryRecvError> {
        self.answer.try_recv()
    }

    /// For how long it has been waited for.
    pub(crate) fn waiting(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_answered_in_their_order_and_a_slow_one_delays_no_caller() {
        let (wake, woken) = unbounded();
        let background = Background::start(move || wake.send(()).unwrap()).unwrap();
        let now = Instant::now();
        let (open, gate) = bounded::<()>(0);
        let slow = background.ask(move || gate.recv().is_ok(), now);
        let next = background.ask(|| 7, now);
        assert_eq!(slow.answer(), Err(TryRecvError::Empty));
        assert_eq!(next.answer(), Err(TryRecvError::Empty));
        let later = now + Duration::from_secs(30);
        assert_eq!(slow.waiting(later), Duration::from_secs(30));

        open.send(()).unwrap();
        woken.recv().unwrap();
        woken.recv().unwrap();
        assert_eq!((slow.answer(), next.answer()), (Ok(true), Ok(7)));
        assert_eq!(next.answer(), Err(TryRecvError::Disconnected));
    }

    #[test]
    fn an_answer_that_is_not_wanted_is_dropped() {
        let (wake, woken) = unbounded();
        let background = Background::start(move || wake.send(()).unwrap()).unwrap();
        drop(background.ask(|| 1, Instant::now()));
        woken.recv().unwrap();
        let next = background.ask(|| 2, Instant::now());
        woken.recv().unwrap();
        assert_eq!(next.answer(), Ok(2));
    }
}
