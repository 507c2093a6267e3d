//! Asking the manager for something, from a wire, the admin API or a test.

use std::time::Duration;

use futures_core::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::control::{LoadOverrides, ModelControl};
use crate::error::{Error, Result};
use crate::registry::digest::Digest;
use crate::routing::SplitPlan;
use crate::servable::ServableId;

/// Where the manager answers.
pub type Reply = oneshot::Sender<Result<()>>;

/// What can be asked of the manager. Each is answered once it is done or refused.
#[derive(Debug)]
pub enum Command {
    /// Look at the model's directory now, try failed versions again, and serve it if it was unloaded. Done when every
    /// selected version is ready or failed.
    Load { model: String, reply: Reply },
    /// Take the model out of service until `Load`. Done when no version of it is ready.
    Unload { model: String, reply: Reply },
    /// Move a label to a version, which is loaded first if it isn't. `None` takes the label away. Refused while a rollout
    /// is under way on the model, unless it is the rollout that asks.
    SetLabel { model: String, label: String, version: Option<u64>, by_rollout: bool, reply: Reply },
    /// Split a route's traffic, once both versions are ready; until `ClearSplit` they stay loaded and the stable one
    /// answers. Asked for again, it is made anew.
    SetSplit { plan: Box<SplitPlan>, reply: Reply },
    /// Give a route's traffic back to its label. The stable version stays loaded for so long, if no more than this process
    /// lives.
    ClearSplit { route: String, keep_stable: Duration, reply: Reply },
    /// Take a version out of service until an operator clears it, be it in memory or not.
    Quarantine { id: ServableId, digest: Digest, reason: String, reply: Reply },
    /// Let a quarantined version be loaded again.
    ClearQuarantine { model: String, version: u64, reply: Reply },
    /// Load a version that is cold, once for all who ask. Done when it is cold no longer, whatever became of it.
    Warm { model: String, version: u64, reply: Reply },
}

/// Commands that may wait for the manager; more are refused, or wait in turn where a request is behind them.
const MAX_WAITING_COMMANDS: usize = 256;

/// A way to the manager. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ManagerHandle {
    commands: mpsc::Sender<Command>,
}

impl ManagerHandle {
    /// A handle, and the end at which the manager takes commands.
    pub fn channel() -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(MAX_WAITING_COMMANDS);
        (Self { commands }, receiver)
    }

    /// See [`Command::Load`].
    ///
    /// # Errors
    /// `UnknownModel` when no repository has it, `Internal` with the reason when no version could be loaded.
    pub async fn load(&self, model: &str) -> Result<()> {
        self.ask(|reply| Command::Load { model: model.to_owned(), reply }).await
    }

    /// See [`Command::Unload`].
    ///
    /// # Errors
    /// `UnknownModel` when it isn't known.
    pub async fn unload(&self, model: &str) -> Result<()> {
        self.ask(|reply| Command::Unload { model: model.to_owned(), reply }).await
    }

    /// See [`Command::SetLabel`].
    ///
    /// # Errors
    /// `UnknownModel`, `UnknownVersion`, `BadName` for a label that can't be one, or the reason why the version can't
    /// be loaded; the label then stays where it was.
    pub async fn set_label(&self, model: &str, label: &str, version: Option<u64>) -> Result<()> {
        self.move_label(model, label, version, false).await
    }

    /// As [`Self::set_label`], by a rollout: its own versions may take its own route's label.
    ///
    /// # Errors
    /// As [`Self::set_label`].
    pub async fn move_label_of_rollout(&self, model: &str, label: &str, version: Option<u64>) -> Result<()> {
        self.move_label(model, label, version, true).await
    }

    async fn move_label(&self, model: &str, label: &str, version: Option<u64>, by_rollout: bool) -> Result<()> {
        let (model, label) = (model.to_owned(), label.to_owned());
        self.ask(|reply| Command::SetLabel { model, label, version, by_rollout, reply }).await
    }

    /// See [`Command::SetSplit`].
    ///
    /// # Errors
    /// `UnknownModel`, `UnknownVersion`, `Conflict` where another rollout splits the route, or `NotReady` with the
    /// reason why a version can't be loaded; then the versions stay pinned until [`Self::clear_split`].
    pub async fn set_split(&self, plan: SplitPlan) -> Result<()> {
        self.ask(|reply| Command::SetSplit { plan: Box::new(plan), reply }).await
    }

    /// See [`Command::ClearSplit`].
    ///
    /// # Errors
    /// `Unavailable` when the manager has stopped.
    pub async fn clear_split(&self, route: &str, keep_stable: Duration) -> Result<()> {
        self.ask(|reply| Command::ClearSplit { route: route.to_owned(), keep_stable, reply }).await
    }

    /// See [`Command::Quarantine`].
    ///
    /// # Errors
    /// `Internal` when it can't be written down.
    pub async fn quarantine(&self, id: ServableId, digest: Digest, reason: String) -> Result<()> {
        self.ask(|reply| Command::Quarantine { id, digest, reason, reply }).await
    }

    /// See [`Command::ClearQuarantine`].
    ///
    /// # Errors
    /// `UnknownModel`, `UnknownVersion`, or `Invalid` when the version is not quarantined.
    pub async fn clear_quarantine(&self, model: &str, version: u64) -> Result<()> {
        self.ask(|reply| Command::ClearQuarantine { model: model.to_owned(), version, reply }).await
    }

    /// See [`Command::Warm`].
    ///
    /// # Errors
    /// `Overloaded` when too many wait for the version, `Unavailable` when the manager has stopped.
    pub async fn warm(&self, model: String, version: u64) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let stopped = || Error::Unavailable("the model manager has stopped".to_owned());
        // Many requests may come at once: they wait for a place, each for as long as its deadline lets it.
        self.commands.send(Command::Warm { model, version, reply }).await.map_err(|_| stopped())?;
        // Given up without an answer: the version went another way, and the snapshot says which.
        answer.await.unwrap_or(Ok(()))
    }

    async fn ask(&self, command: impl FnOnce(Reply) -> Command) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(command(reply)).map_err(|_| {
            Error::Unavailable("the model manager is shutting down or has too many commands waiting".to_owned())
        })?;
        answer.await.unwrap_or_else(|_| Err(Error::Unavailable("the model manager has stopped".to_owned())))
    }
}

/// The data ports' view of the manager: what clients may do depends on the control mode.
pub struct ClientControl {
    manager: ManagerHandle,
    allowed: bool,
}

impl ClientControl {
    /// `allowed` is true in explicit mode on loopback, or where the operator allows it elsewhere.
    pub fn new(manager: ManagerHandle, allowed: bool) -> Self {
        Self { manager, allowed }
    }

    fn check_allowed(&self) -> Result<()> {
        if self.allowed {
            return Ok(());
        }
        Err(Error::Unavailable("explicit model load / unload is not allowed if polling is enabled".to_owned()))
    }
}

impl ModelControl for ClientControl {
    fn load(&self, model: String, overrides: LoadOverrides) -> BoxFuture<'static, Result<()>> {
        let allowed = self.check_allowed();
        let manager = self.manager.clone();
        Box::pin(async move {
            allowed?;
            if overrides != LoadOverrides::default() {
                return Err(Error::Unsupported(format!(
                    "load of model '{model}' with its own configuration or files is not supported: put them in the model repository"
                )));
            }
            match manager.load(&model).await {
                Err(Error::UnknownModel { .. }) => {
                    Err(Error::Internal(format!("failed to load '{model}', failed to poll from model repository")))
                }
                other => other,
            }
        })
    }

    fn unload(&self, model: String) -> BoxFuture<'static, Result<()>> {
        let allowed = self.check_allowed();
        let manager = self.manager.clone();
        Box::pin(async move {
            allowed?;
            match manager.unload(&model).await {
                Err(Error::UnknownModel { .. }) => Err(Error::invalid("Model to be unloaded has not been served")),
                other => other,
            }
        })
    }

    fn warm(&self, model: String, version: u64) -> BoxFuture<'static, Result<()>> {
        let manager = self.manager.clone();
        Box::pin(async move { manager.warm(model, version).await })
    }
}
