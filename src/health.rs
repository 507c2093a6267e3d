//! Whether the server lives and is ready.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::watch;

/// The server's phase. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Some version that was selected at start is neither ready nor failed yet.
    Starting,
    Ready,
    /// From the first signal on: finishing what is in flight.
    Draining,
}

/// The phase, for everyone to read and to wait for.
#[derive(Debug)]
pub struct Health {
    phase: watch::Sender<Phase>,
    /// The same as its last phase, for each request to read.
    is_draining: AtomicBool,
}

impl Default for Health {
    fn default() -> Self {
        Self { phase: watch::Sender::new(Phase::Starting), is_draining: AtomicBool::new(false) }
    }
}

impl Health {
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Ready
    }

    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Relaxed)
    }

    /// Moves on to a later phase; an earlier one is ignored.
    pub fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = to > *phase;
            if later {
                *phase = to;
            }
            later
        });
        if to == Phase::Draining {
            self.is_draining.store(true, Relaxed);
        }
    }

    /// Sees every change of phase.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draining_server_does_not_become_ready_again() {
        let health = Health::default();
        health.advance(Phase::Draining);
        health.advance(Phase::Ready);
        assert_eq!((health.phase(), health.is_draining()), (Phase::Draining, true));
    }
}
