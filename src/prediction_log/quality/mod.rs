//! Realised quality: what was predicted, held against what really happened.

pub mod exact_sum;
pub mod extract;
pub mod outcome;
pub mod plan;
pub mod ranks;
pub mod totals;

pub use self::plan::{Plan, PlanError};
pub use self::totals::{Figures, Totals};
