//! What a rollout is decided by.

use super::State;

/// What the controller sees of the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub arms: ArmsReady,
    /// `None` while it is under way.
    pub validation: Option<Result<(), String>>,
    /// Whether the weights that the state demands are in force.
    pub published: bool,
    /// Of the present step.
    pub min_samples_reached: bool,
    pub verdict: Overall,
    pub guard_breach: Option<String>,
    /// A hard breach that the data plane saw.
    pub breaker: Option<String>,
    /// `None` before the first comparison.
    pub shadow: Option<ShadowFacts>,
    /// Whether observations of late were lost or did not come.
    pub data_missing: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArmsReady {
    NotYet,
    Ready,
    Failed(String),
}

/// What the checks say together. Those of `dry_run` have no part in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overall {
    pub harms: Vec<Harm>,
    /// Every check has passed, and there is one.
    pub safe: bool,
}

/// A check that found harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Harm {
    /// Its name.
    pub check: String,
    pub critical: bool,
    /// One sentence with the figures.
    pub cause: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowFacts {
    pub compared: u64,
    /// One sentence with the figures.
    pub harm: Option<String>,
}

/// Why the candidate's traffic is to be taken away now, in every state in which it has some. The hardest first.
pub(super) fn danger(state: State, facts: &Facts) -> Option<String> {
    if !state.has_traffic() {
        return None;
    }
    let critical = || facts.verdict.harms.iter().find(|harm| harm.critical).map(|harm| harm.cause.clone());
    let failed = || match &facts.arms {
        ArmsReady::Failed(cause) => Some(cause.clone()),
        _ => None,
    };
    let shadow = || facts.shadow.as_ref().filter(|_| state == State::Shadowing).and_then(|shadow| shadow.harm.clone());
    facts.breaker.clone().or_else(|| facts.guard_breach.clone()).or_else(critical).or_else(failed).or_else(shadow)
}
