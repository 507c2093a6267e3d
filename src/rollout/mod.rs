//! ROLLOUT: gives a new version a growing share of a route's traffic, and promotes it or takes it back by evidence.

mod handle;
pub mod view;

pub use handle::{Command, Readings, RolloutHandle};

#[cfg(test)]
pub mod testing;
