//! What is seen from outside: counters, metrics, logs, and the settings that clients may change.

pub mod access_log;
pub mod exposition;
pub mod histogram;
pub mod log_destinations;
pub mod log_rows;
pub mod logging;
pub mod metrics;
pub mod quality;
pub mod recorder;
mod rollouts;
pub mod settings;
pub mod stats;
