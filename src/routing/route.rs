//! What clients call, and the split of its traffic while a rollout is under way.

use std::sync::Arc;

use super::{Arm, Assignment, Backend, Dial};

/// A name that clients may call and whose traffic may be split.
#[derive(Debug)]
pub struct Route {
    /// The model that answers.
    pub model: String,
    /// Of that model: answers while nothing is split.
    pub label: String,
    pub split: Option<Arc<Split>>,
}

/// The arms of a split route. Each has a queue of its own.
#[derive(Debug)]
pub struct Split {
    pub route: Arc<str>,
    /// Id of the rollout.
    pub rollout: Arc<str>,
    pub assignment: Arc<Assignment>,
    pub dial: Arc<Dial>,
    pub tolerance: ShadowTolerance,
    pub stable: Arc<Backend>,
    pub candidate: Arc<Backend>,
    pub control: Arc<Backend>,
    pub shadow: Arc<Backend>,
}

/// A split as it is asked for, before its versions have backends.
#[derive(Debug, Clone)]
pub struct SplitPlan {
    pub route: String,
    /// Id of the rollout.
    pub rollout: String,
    pub model: String,
    pub stable: u64,
    pub candidate: u64,
    pub assignment: Arc<Assignment>,
    pub dial: Arc<Dial>,
    pub tolerance: ShadowTolerance,
}

/// How far a copy's output `b` may lie from the primary's `a` and still agree: `|a - b| <= atol + rtol * |a|`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShadowTolerance {
    pub atol: f64,
    pub rtol: f64,
}

impl Split {
    /// Who answers in an arm.
    pub fn backend(&self, arm: Arm) -> &Arc<Backend> {
        match arm {
            Arm::Stable => &self.stable,
            Arm::Candidate => &self.candidate,
            Arm::Control => &self.control,
            Arm::Shadow => &self.shadow,
        }
    }
}
