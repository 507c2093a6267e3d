//! Admission as a value: who holds a ticket is waited for, who drops it is not.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::request::{NoAnswer, Outcome, Request};
use crate::error::ShedCause;

/// A request's place, from its admission to its outcome.
pub struct Ticket(State);

enum State {
    Done(Outcome),
    Waiting(Waiting),
}

/// Takes a request out of its queue at once when nobody waits for it any more, so that it holds neither memory nor a
/// place there and never costs a run.
struct Waiting {
    request: Arc<Request>,
    outcome: oneshot::Receiver<Outcome>,
    /// When it is taken out if no run has begun, because it is of the low class.
    give_up: Option<Instant>,
    withdraw: Box<Withdraw>,
    ended: bool,
}

/// Takes a request out of its queue and says whether it was there; one that was cut in part only if the flag says so.
type Withdraw = dyn Fn(&Request, bool) -> bool + Send + Sync;

impl Ticket {
    /// The ticket of a request that has run already.
    pub(super) fn done(outcome: Outcome) -> Self {
        Self(State::Done(outcome))
    }

    /// The ticket of a request that waits, and that `withdraw` takes out of its queue.
    pub(super) fn waiting(
        request: Arc<Request>,
        outcome: oneshot::Receiver<Outcome>,
        give_up: Option<Instant>,
        withdraw: impl Fn(&Request, bool) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self(State::Waiting(Waiting { request, outcome, give_up, withdraw: Box::new(withdraw), ended: false }))
    }

    /// The outcome, at most until the request's deadline.
    ///
    /// When this future is dropped the request is dropped with it, before it costs a run if it still waits.
    ///
    /// # Errors
    /// `NoAnswer`.
    pub async fn outcome(self) -> Outcome {
        match self.0 {
            State::Done(outcome) => outcome,
            State::Waiting(waiting) => waiting.outcome().await,
        }
    }
}

impl Waiting {
    async fn outcome(mut self) -> Outcome {
        let (deadline, start_by) = (self.request.work.deadline.instant(), self.request.work.start_by);
        let first = [self.give_up, start_by].into_iter().flatten().min();
        if let Some(first) = first.filter(|&first| deadline.is_none_or(|deadline| first < deadline)) {
            match until(Some(first), &mut self.outcome).await {
                Some(outcome) => return self.end(outcome),
                None if (self.withdraw)(&self.request, false) => {
                    self.ended = true;
                    let is_late = start_by == Some(first);
                    return Err(if is_late { NoAnswer::Expired } else { NoAnswer::Shed(ShedCause::Waited) });
                }
                // It runs already.
                None => {}
            }
        }
        match until(deadline, &mut self.outcome).await {
            Some(outcome) => self.end(outcome),
            None => Err(NoAnswer::Expired),
        }
    }

    fn end(&mut self, outcome: Result<Outcome, oneshot::error::RecvError>) -> Outcome {
        self.ended = true;
        // The sender lives in the request, which this ticket holds; it can only be gone after it was used.
        outcome.unwrap_or(Err(NoAnswer::Expired))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.ended {
            self.request.leave();
            (self.withdraw)(&self.request, true);
        }
    }
}

/// What the future gives, `None` once the time has come.
async fn until<F: Future + Unpin>(time: Option<Instant>, future: F) -> Option<F::Output> {
    match time {
        None => Some(future.await),
        Some(time) => tokio::time::timeout_at(time.into(), future).await.ok(),
    }
}
