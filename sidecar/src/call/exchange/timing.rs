//! What a call with its callee waits for, and what its end is when that does not come.
//!
//! One timer a call: it is set to whatever comes first, and set again when that has passed or is
//! waited for no more.

use tokio::time::Instant;

use super::{Ended, Exchange};
use crate::fault::{Fault, Reason};
use crate::resilience::outcome::Outcome;

/// What a call is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Deadline,
    Head,
    Hedge,
    Peek,
    /// What had moved when it was set.
    Idle(u64),
}

impl Exchange {
    /// Looks whether what is waited for is `due`, and sets the timer for what comes next.
    pub(super) fn keep_time(&mut self, due: bool) -> Result<(), Ended> {
        if due && let Some(wait) = self.timer.take() {
            match wait {
                Wait::Idle(moved) if moved != self.attempt.moved() => {}
                Wait::Hedge => {
                    self.is_hedge_due = self.hedge.take().is_some();
                }
                // Whoever waits for it looks at the clock.
                Wait::Peek => self.peek = self.peek.map(|_| Instant::now()),
                _ => return Err(self.expired(wait).into()),
            }
        }
        if self.timer.is_none()
            && let Some((wait, at)) = self.next_wait()
        {
            self.timer = Some(wait);
            let is_last = matches!(wait, Wait::Deadline | Wait::Head);
            self.control.wake_at(at, is_last);
        }
        Ok(())
    }

    /// What comes first.
    fn next_wait(&mut self) -> Option<(Wait, Instant)> {
        let mut next = self.limits.deadline.map(|at| (Wait::Deadline, at));
        let mut wait = |wait, at| {
            if next.is_none_or(|(_, first)| at < first) {
                next = Some((wait, at));
            }
        };
        if let Some(response) = self.limits.response
            && !self.attempt.has_head()
            && !self.attempt.is_uploading()
        {
            wait(Wait::Head, self.attempt.now() + response);
        }
        if let Some(idle) = self.limits.idle {
            wait(Wait::Idle(self.attempt.moved()), self.attempt.now() + idle);
        }
        if let Some(at) = self.hedge {
            wait(Wait::Hedge, at);
        }
        if let Some(at) = self.peek {
            wait(Wait::Peek, at);
        }
        next
    }

    #[cold]
    fn expired(&mut self, wait: Wait) -> Fault {
        let whom = self.attempt.whom();
        let message = match wait {
            Wait::Deadline if self.attempt.has_head() => {
                format!("the deadline passed while {whom} answered")
            }
            Wait::Deadline => format!("the deadline passed before {whom} answered"),
            Wait::Head => format!(
                "{whom} did not answer within {:?} (the response timeout; the caller set no deadline)",
                self.limits.response.unwrap_or_default(),
            ),
            _ => format!(
                "nothing moved between the caller and {whom} for {:?} (the idle timeout)",
                self.limits.idle.unwrap_or_default(),
            ),
        };
        self.attempt.judge(Outcome::of_reason(Reason::DeadlineExceeded), || message.clone());
        Fault::after_send(Reason::DeadlineExceeded, message)
    }
}
