//! Asking the controller for something, from the admin API or a test.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use super::view::{Action, Explanation, History, RolloutList, RolloutView, RouteHistory, StartRequest};
use crate::error::{Error, Result};
use crate::telemetry::exposition::RolloutReading;

/// Where the controller answers.
pub type Reply<T> = oneshot::Sender<Result<T>>;

/// What can be asked of the controller.
#[derive(Debug)]
pub enum Command {
    /// Answered once the candidate was validated or refused, or when that takes long.
    Start {
        request: StartRequest,
        actor: String,
        reply: Reply<RolloutView>,
    },
    Act {
        rollout: String,
        action: Action,
        actor: String,
        reason: String,
        reply: Reply<RolloutView>,
    },
    List {
        reply: Reply<RolloutList>,
    },
    Show {
        rollout: String,
        reply: Reply<RolloutView>,
    },
    History {
        rollout: String,
        reply: Reply<History>,
    },
    RouteHistory {
        route: String,
        at_ms: Option<u64>,
        reply: Reply<RouteHistory>,
    },
    Explain {
        route: String,
        key: String,
        reply: Reply<Explanation>,
    },
}

/// Commands that may wait for the controller; more are refused.
const MAX_WAITING_COMMANDS: usize = 64;
/// Places that are kept for what changes something: however many look on, an abort gets through.
const KEPT_FOR_ACTIONS: usize = 16;

/// Where the controller publishes what `/metrics` says of the rollouts: at most one reading a route. A reading that is
/// not in the next list is gone from `/metrics`.
pub type Readings = Arc<ArcSwap<Vec<RolloutReading>>>;

/// A way to the controller. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RolloutHandle {
    commands: mpsc::Sender<Command>,
    readings: Readings,
}

impl RolloutHandle {
    /// A handle, the end at which the controller takes commands, and where it publishes its readings.
    pub fn channel() -> (Self, mpsc::Receiver<Command>, Readings) {
        let (commands, receiver) = mpsc::channel(MAX_WAITING_COMMANDS);
        let readings = Readings::default();
        (Self { commands, readings: readings.clone() }, receiver, readings)
    }

    /// What `/metrics` says of the rollouts. Doesn't ask the controller, so it answers under any load.
    pub fn readings(&self) -> Arc<Vec<RolloutReading>> {
        self.readings.load_full()
    }

    /// Starts a rollout. Comes back once the candidate was validated, or after half a minute.
    ///
    /// # Errors
    /// `Invalid` with the field and the reason for a spec that can't be, `Conflict` where a rollout is under way on the
    /// route, or where the candidate is not fit to be tried.
    pub async fn start(&self, request: StartRequest, actor: String) -> Result<RolloutView> {
        self.ask(|reply| Command::Start { request, actor, reply }).await
    }

    /// `rollout` is an id, or the name of a route for its latest.
    ///
    /// # Errors
    /// `UnknownRollout`; `Conflict` where its state doesn't allow the action.
    pub async fn act(&self, rollout: String, action: Action, actor: String, reason: String) -> Result<RolloutView> {
        self.ask(|reply| Command::Act { rollout, action, actor, reason, reply }).await
    }

    /// # Errors
    /// `Unavailable` when the controller has stopped.
    pub async fn list(&self) -> Result<RolloutList> {
        self.look(|reply| Command::List { reply }).await
    }

    /// # Errors
    /// `UnknownRollout`.
    pub async fn show(&self, rollout: String) -> Result<RolloutView> {
        self.look(|reply| Command::Show { rollout, reply }).await
    }

    /// # Errors
    /// `UnknownRollout`.
    pub async fn history(&self, rollout: String) -> Result<History> {
        self.look(|reply| Command::History { rollout, reply }).await
    }

    /// Who served a route, or who did at one moment.
    ///
    /// # Errors
    /// `UnknownModel` for a name that is no route.
    pub async fn route_history(&self, route: String, at_ms: Option<u64>) -> Result<RouteHistory> {
        self.look(|reply| Command::RouteHistory { route, at_ms, reply }).await
    }

    /// # Errors
    /// `UnknownModel` for a name that is no route.
    pub async fn explain(&self, route: String, key: String) -> Result<Explanation> {
        self.look(|reply| Command::Explain { route, key, reply }).await
    }

    async fn look<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        if self.commands.capacity() <= KEPT_FOR_ACTIONS {
            return Err(Error::Unavailable("too many look at the rollouts at the same time".to_owned()));
        }
        self.ask(command).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(command(reply)).map_err(|_| {
            Error::Unavailable("the rollout controller is shutting down or has too many commands waiting".to_owned())
        })?;
        answer.await.unwrap_or_else(|_| Err(Error::Unavailable("the rollout controller has stopped".to_owned())))
    }
}
