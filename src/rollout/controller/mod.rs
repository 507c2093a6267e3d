//! The controller: one thread that holds every rollout under way, asks the pure state machine what follows from what is
//! known, and puts it in force.
//!
//! A transition is on the disk before its weights are in force; only taking traffic away comes before all else, in one
//! store to an atomic that requests read. What people ask for comes as commands, what the world does is read from the
//! snapshot and from each split's observations.

mod active;
mod apply;
mod arrivals;
mod commands;
mod restart;
mod route_log;
mod show;
mod start;
mod tasks;
mod validation;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::active::Active;
pub use self::restart::{Restored, restore};
use self::route_log::RouteLog;
use self::tasks::Event;
use crate::audit::{AuditLog, Entry};
use crate::data_plane::DataPlane;
use crate::health::Phase;
use crate::outbound::Webhooks;
use crate::registry::manager::ManagerHandle;
use crate::rollout::handle::{Command, Readings};
use crate::rollout::journal::Journal;
use crate::rollout::state_machine::advance;

/// Time between two looks at the rollouts under way: how long a guard may take.
const TICK: Duration = Duration::from_millis(50);
/// The same while there are none.
const IDLE_TICK: Duration = Duration::from_secs(1);
/// Time between two checkpoints of a rollout's figures.
const CHECKPOINT: Duration = Duration::from_secs(1);
/// Time between two attempts to write where the disk fails.
const WRITE_RETRY: Duration = Duration::from_secs(1);
/// Time between two readings for `/metrics`.
const READINGS: Duration = Duration::from_millis(500);
/// Events of the controller's own tasks that may wait.
const MAX_WAITING_EVENTS: usize = 64;
/// Transitions that one rollout may take at one look; each is a write to the disk.
const MOST_TRANSITIONS: usize = 8;

/// What the controller works with.
pub struct Parts {
    pub plane: Arc<DataPlane>,
    pub manager: ManagerHandle,
    pub journal: Journal,
    pub audit: Arc<AuditLog>,
    pub webhooks: Webhooks,
    pub readings: Readings,
    /// Further names that clients may call, with model and label.
    pub routes: BTreeMap<String, (String, String)>,
}

struct Controller {
    parts: Parts,
    /// By route.
    active: BTreeMap<String, Active>,
    log: RouteLog,
    events: mpsc::Sender<Event>,
    /// When `/metrics` was given something to read last.
    read_at: Instant,
    /// Candidates whose own rollout could not be started: not tried again in this process.
    passed_over: BTreeSet<(String, u64, String)>,
}

/// Starts the thread. The receiver hears when it has ended: after `shutdown`, once everything is written.
///
/// # Errors
/// The operating system's, when a thread can't be started.
pub fn start(
    parts: Parts,
    restored: Restored,
    commands: mpsc::Receiver<Command>,
    shutdown: CancellationToken,
) -> io::Result<oneshot::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (ended, end) = oneshot::channel();
    let (events, received) = mpsc::channel(MAX_WAITING_EVENTS);
    let log = RouteLog::of(&parts.journal);
    let controller = Controller {
        parts,
        active: restored.active,
        log,
        events,
        read_at: Instant::now(),
        passed_over: BTreeSet::new(),
    };
    thread::Builder::new().name("rollout".to_owned()).spawn(move || {
        runtime.block_on(controller.run(commands, received, shutdown));
        // Whoever waited may be gone.
        let _ = ended.send(());
    })?;
    Ok(end)
}

impl Controller {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut events: mpsc::Receiver<Event>,
        shutdown: CancellationToken,
    ) {
        self.resume_all().await;
        let mut served = self.parts.plane.served.subscribe();
        loop {
            let tick = if self.active.is_empty() { IDLE_TICK } else { TICK };
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(command) = commands.recv() => self.command(command).await,
                Some(event) = events.recv() => self.event(event),
                Ok(()) = served.changed() => {
                    self.note_routes();
                    self.start_arrivals().await;
                }
                () = tokio::time::sleep(tick) => {}
            }
            self.look().await;
        }
        self.stop();
    }

    /// Lets every rollout do what follows from what is known now.
    async fn look(&mut self) {
        let routes: Vec<String> = self.active.keys().cloned().collect();
        for route in routes {
            let Some(mut active) = self.active.remove(&route) else { continue };
            active.tick(now_ms());
            let may_write = active.unwritten.is_none_or(|at| at.elapsed() >= WRITE_RETRY);
            for _ in 0..if may_write { MOST_TRANSITIONS } else { 0 } {
                let facts = active.facts(&self.parts.plane.serving.load(), self.is_serving());
                let Some(transition) = advance(&active.spec, &active.progress, &facts, now_ms()) else { break };
                if !self.apply(&mut active, transition, crate::audit::AUTOMATIC, "").await {
                    break;
                }
            }
            self.validate(&mut active);
            self.retry_label(&mut active).await;
            self.answer_start(&mut active);
            if active.checkpointed.elapsed() >= CHECKPOINT {
                self.checkpoint(&mut active);
            }
            if active.progress.state.is_terminal() {
                self.ended(active);
            } else {
                self.active.insert(route, active);
            }
        }
        if self.read_at.elapsed() >= READINGS || self.active.is_empty() {
            self.read_at = Instant::now();
            self.publish_readings();
        }
    }

    /// Whether what is missing in a snapshot taken before is really missing: everything that was to be loaded at the start
    /// was, and nothing is let go for the end of the process.
    fn is_serving(&self) -> bool {
        self.parts.plane.health.phase() == Phase::Ready
    }

    fn checkpoint(&self, active: &mut Active) {
        active.checkpointed = Instant::now();
        let written = self.parts.journal.checkpoint(&active.row.id, &active.checkpoint());
        logged("writing a rollout's figures", written);
    }

    fn audit(&self, entry: Entry) {
        logged("writing the audit log", self.parts.audit.append(entry));
    }

    /// Writes what is known, and that this was an orderly end.
    fn stop(mut self) {
        for mut active in std::mem::take(&mut self.active).into_values() {
            active.tick(now_ms());
            self.checkpoint(&mut active);
        }
        logged("writing that the process ends as it should", self.parts.journal.mark_clean_exit());
    }
}

/// The value, or a line in the log: what can't be written must not stop what guards the traffic.
fn logged<T, E: std::fmt::Display>(doing: &str, result: Result<T, E>) -> Option<T> {
    result.inspect_err(|cause| tracing::error!(%cause, doing, "the data directory failed")).ok()
}

/// Unix time.
fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
