//! What a rollout does next, from what is known of it: pure functions over a snapshot.
//!
//! ```text
//! Pending ─► Validating ─►(AwaitingStart)─► Warming ─►(Shadowing)─► Step[i] ─► Promoting ─► Watching ─► Completed
//!                │               │             │           │           │           │           │
//!             Rejected           └─────────────┴───────────┴─ RollingBack ◄────────┴───────────┘
//! Step[i]: Shifting ─► Baking ─► Deciding ─►(AwaitingApproval)─► Step[i+1]      RollingBack ─► RolledBack | Aborted
//! ```
//! Being paused (by a person) or held (by the rollout itself) is apart from the state: both stop the clocks and every
//! way forward, and neither stops what takes the candidate's traffic away.

mod advance;
mod command;
mod facts;
mod moves;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use self::advance::{advance, after_restart, restore};
pub use self::command::command;
pub use self::facts::{ArmsReady, Facts, Harm, Overall, ShadowFacts};
use super::spec::RolloutSpec;
use crate::routing::BASIS_POINTS;

/// Where a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum State {
    /// Taken, and nothing done yet.
    Pending,
    /// The candidate is loaded, compared with stable's signature and tried out.
    Validating,
    /// Valid; a person must approve the start.
    AwaitingStart,
    /// The arms start their workers.
    Warming,
    /// The candidate gets copies of requests; nobody waits for its answers.
    Shadowing,
    /// The candidate answers a share of the traffic.
    Step {
        index: usize,
        phase: Phase,
    },
    /// All traffic goes to the candidate, and label `stable` moves to it.
    Promoting,
    /// The candidate answers everything; the previous version is kept ready to take over.
    Watching,
    /// The candidate's share is taken away.
    RollingBack {
        ending: Ending,
    },
    Completed,
    RolledBack,
    /// Unfit, found before it got any traffic.
    Rejected,
    Aborted,
}

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The step's weights are not in force yet.
    Shifting,
    /// Until `min_bake` and `min_samples` are reached.
    Baking,
    /// Until the checks say what the step requires, or `max_bake` is reached.
    Deciding,
    AwaitingApproval,
}

/// How a rollback ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    RolledBack,
    Aborted,
}

/// Everything that a rollout remembers of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub state: State,
    /// By a person.
    pub paused: bool,
    /// By the rollout itself, until a person resumes it.
    pub held: Option<Hold>,
    /// Unix time in ms at which the present state was entered, or an approval was asked for anew.
    pub since_ms: u64,
    /// Time under observation in the present shadow phase, step or watch; stands still while paused or held.
    pub bake_elapsed_ms: u64,
    pub unclean_exits_in_step: u32,
    /// Checks whose harm a person accepted by resuming. None of them is critical.
    pub accepted_harm: Vec<String>,
    /// Whether label `stable` was moved to the candidate.
    pub label_moved: bool,
    /// Why it is in this state.
    pub cause: String,
}

/// Why a rollout does not go on by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub reason: HoldReason,
    /// One sentence for people.
    pub cause: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// No verdict in time. A person may approve.
    Inconclusive,
    /// Nobody approved in time. A person still may.
    ApprovalTimedOut,
    /// The check of this name found harm and is not critical. Resuming accepts it.
    Harm(String),
    /// The process ended without saying so, within a step.
    UncleanExit,
}

/// One change, to be written to the journal before its effects are put in force in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    pub to: Progress,
    pub cause: String,
    pub effects: Vec<Effect>,
}

/// What a transition changes in the world. Each may be repeated without harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The candidate's share in basis points; the control's follows from it.
    Weights(u16),
    /// Requests that are copied, in basis points.
    Shadow(u16),
    /// Keeps both versions loaded and gives each arm its workers.
    PinArms,
    /// Ends the split. What `keep_previous` keeps longer is kept by the registry.
    ReleaseArms,
    /// Label `stable` to the candidate.
    MoveLabel,
    /// Label `stable` to the previous version.
    MoveLabelBack,
    /// The candidate is not to be tried again by itself, for this reason.
    Quarantine(String),
}

impl State {
    /// The word that is shown: a step's is that of its phase.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Validating => "validating",
            Self::AwaitingStart => "awaiting_start",
            Self::Warming => "warming",
            Self::Shadowing => "shadowing",
            Self::Step { phase: Phase::Shifting, .. } => "shifting",
            Self::Step { phase: Phase::Baking, .. } => "baking",
            Self::Step { phase: Phase::Deciding, .. } => "deciding",
            Self::Step { phase: Phase::AwaitingApproval, .. } => "awaiting_approval",
            Self::Promoting => "promoting",
            Self::Watching => "watching",
            Self::RollingBack { .. } => "rolling_back",
            Self::Completed => "completed",
            Self::RolledBack => "rolled_back",
            Self::Rejected => "rejected",
            Self::Aborted => "aborted",
        }
    }

    /// Whether it has ended.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::RolledBack | Self::Rejected | Self::Aborted)
    }

    /// The index of the step, counted from 0.
    pub fn step(self) -> Option<usize> {
        match self {
            Self::Step { index, .. } => Some(index),
            _ => None,
        }
    }

    /// Whether the candidate gets requests or copies of them.
    pub fn has_traffic(self) -> bool {
        matches!(self, Self::Shadowing | Self::Step { .. } | Self::Promoting | Self::Watching)
    }

    /// The candidate's share in basis points. Once completed there is no split: the candidate is the stable version.
    pub fn candidate_bp(self, spec: &RolloutSpec) -> u16 {
        match self {
            Self::Step { index, .. } => spec.steps.get(index).map_or(0, |step| step.weight_bp),
            Self::Promoting | Self::Watching => BASIS_POINTS,
            _ => 0,
        }
    }

    /// Requests that are copied, in basis points.
    pub fn shadow_bp(self, spec: &RolloutSpec) -> u16 {
        if self == Self::Shadowing { spec.shadow_bp() } else { 0 }
    }

    /// Whether time under observation counts in this state.
    fn has_clock(self) -> bool {
        matches!(self, Self::Shadowing | Self::Step { phase: Phase::Baking | Phase::Deciding, .. } | Self::Watching)
    }
}

impl Progress {
    /// A rollout that was just taken. `now_ms`: Unix time.
    pub fn new(cause: impl Into<String>, now_ms: u64) -> Self {
        Self {
            state: State::Pending,
            paused: false,
            held: None,
            since_ms: now_ms,
            bake_elapsed_ms: 0,
            unclean_exits_in_step: 0,
            accepted_harm: vec![],
            label_moved: false,
            cause: cause.into(),
        }
    }

    /// Lets the clock of a shadow phase, a step or a watch go on, unless it stands still. To be called with the time
    /// since the last call, before [`advance`].
    pub fn tick(&mut self, elapsed_ms: u64) {
        if self.state.has_clock() && !self.is_stopped() {
            self.bake_elapsed_ms = self.bake_elapsed_ms.saturating_add(elapsed_ms);
        }
    }

    /// Whether nothing goes forward until a person says so.
    pub fn is_stopped(&self) -> bool {
        self.paused || self.held.is_some()
    }

    /// Why a person is needed; empty where none is.
    pub fn waiting_for(&self) -> String {
        match (&self.held, self.paused, self.state) {
            (Some(hold), false, _) => hold.cause.clone(),
            (Some(hold), true, _) => format!("paused; {}", hold.cause),
            (None, true, _) => "paused".to_owned(),
            (None, false, State::AwaitingStart) => "approval of the start".to_owned(),
            (None, false, State::Step { index, phase: Phase::AwaitingApproval }) => {
                format!("approval of step {}: {}", index + 1, self.cause)
            }
            _ => String::new(),
        }
    }
}
