//! ROLLOUT: gives a new version a growing share of a route's traffic, and promotes it or takes it back by evidence.

pub mod controller;
pub mod evidence;
mod handle;
pub mod journal;
pub mod spec;
pub mod state_machine;
pub mod statistics;
pub mod view;

pub use handle::{Command, Readings, RolloutHandle};

#[cfg(test)]
pub mod testing;
