//! BATCH: from an admitted request to a worker's run of the model.
//!
//! Each arm has one [`Pool`]: a bounded queue and a fixed number of worker threads, each with its own session.
//! Where batches are cut and pools are resized, it happens here, between [`Slot::submit`] and the worker's loop.

pub mod autoscale_policy;
mod pool;
mod queue;

pub use pool::{Pool, PoolConfig, run};
pub use queue::{Answer, Slot};
