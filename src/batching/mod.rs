//! BATCH: from an admitted request to the runs of the model that answer it.
//!
//! Each arm has one [`Pool`]: what waits for its model, and leave to hold so many of the process's [`Cores`] at the same
//! time. In the order that a request meets them: `admission_policy` takes it in or refuses it; `inline_policy` says
//! whether it runs where it is; otherwise it waits in `queue`, from which a free core (`cores`, `share_policy`) cuts a
//! `batch` as `batch_policy` and the measured `curve` have it. `autoscale` changes what each pool may hold.

mod admission_policy;
mod autoscale;
mod autoscale_policy;
mod batch;
mod batch_policy;
mod cores;
mod curve;
mod curve_policy;
mod inline_policy;
mod measure;
mod pool;
mod queue;
mod request;
mod service_times;
mod share_policy;
mod sizing;
mod ticket;

pub use admission_policy::QueueLimits;
pub use autoscale::start as autoscale;
pub use autoscale_policy::Settings as AutoscaleSettings;
pub use cores::Cores;
pub use curve::{BatchCurve, MAX_MEASURED_ROWS, Measured};
pub use curve_policy::{MIN_GAIN, Point};
pub use measure::{MeasureLimits, measure, restore};
pub use pool::Pool;
pub use request::{Answer, NoAnswer, Work};
pub use sizing::{BatchConfig, PoolConfig};
pub use ticket::Ticket;
