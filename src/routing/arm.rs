//! The sides of a split.

use serde::{Deserialize, Serialize};

/// Which side of a split a request went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// What serves where no rollout splits the route.
    #[default]
    Stable,
    /// The version that is tried.
    Candidate,
    /// The stable version with a queue of its own and as much traffic as the candidate, so that the two compare fairly.
    Control,
    /// Gets copies of requests; nobody waits for its answers.
    Shadow,
}

impl Arm {
    pub const ALL: [Self; 4] = [Self::Stable, Self::Candidate, Self::Control, Self::Shadow];

    /// The word in headers, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Candidate => "candidate",
            Self::Control => "control",
            Self::Shadow => "shadow",
        }
    }

    /// The four bits of a prediction id.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The arm with this number; `None` for a number that no arm has.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|arm| arm.number() == number)
    }
}
