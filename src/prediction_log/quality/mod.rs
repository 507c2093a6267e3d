//! Realised quality: what was predicted, held against what really happened.

pub mod delays;
pub mod early;
pub mod exact_sum;
pub mod extract;
pub mod fit;
pub mod group;
pub mod join;
pub mod label;
pub mod outcome;
pub mod plan;
pub mod ranks;
pub mod read_back;
pub mod record;
pub mod restore;
pub mod totals;
pub mod tracker;
#[cfg(test)]
mod tests;

pub use self::delays::LabelDelay;
pub use self::group::{QualityReport, SegmentReport};
pub use self::join::{Fill, Join, Sight, name_hash};
pub use self::plan::{Plan, PlanError};
pub use self::record::Bounds;
pub use self::restore::{RestoreBounds, RestoredPrediction, restored};
pub use self::totals::{Figures, Totals};
pub use self::tracker::{QualityJudge, QualityWitness, Tracker};
