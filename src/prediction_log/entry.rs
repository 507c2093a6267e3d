//! What a request hands to the log when it has ended.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::RecordBatch;
use tokio::sync::oneshot;

use super::columns::VersionLog;
use crate::inference::{PredictionId, RequestId};
use crate::routing::{Arm, Weights};
use crate::tensor::Tensor;

/// A prediction, or a failure of the model: all instances of one request. Tensors are shared with the request, not copied;
/// nothing here keeps a version in service.
#[derive(Debug)]
pub struct Entry {
    pub version: Arc<VersionLog>,
    /// Of the first row.
    pub id: PredictionId,
    pub request_id: RequestId,
    /// The client's own id of the request; may be empty.
    pub client_id: String,
    /// What was called, where it was not the model's own name.
    pub route: Option<Arc<str>>,
    pub ended: SystemTime,
    pub total: Duration,
    pub queue: Duration,
    pub compute: Duration,
    /// Rows of the run that answered, those of other requests among them; 0 if unknown.
    pub batch_size: u32,
    pub arm: Arm,
    /// The probability that this request met this arm; 1 where nothing was split or the arm was forced.
    pub arm_probability: f32,
    pub rollout: Option<RolloutPart>,
    /// Hash of what sampling goes by, the same for all predictions of one key, whatever rollout is under way.
    pub sample_hash: u64,
    pub outcome: Outcome,
    /// In the signature's order, as the client sent them.
    pub inputs: Vec<Tensor>,
    /// In the signature's order; empty if the model failed.
    pub outputs: Vec<Tensor>,
    pub rows: usize,
    /// Told once the rows are on the disk, or why they are not; for [`Durability::Required`](super::Durability).
    pub synced: Option<oneshot::Sender<Synced>>,
}

/// What is told to who waits for rows.
pub type Synced = Result<(), NotSynced>;

/// Why rows are not on the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSynced {
    #[error("the disk is nearly full")]
    NoRoom,
    #[error("the disk refused it: {0}")]
    Disk(String),
}

/// The rollout that a request was part of.
#[derive(Debug, Clone)]
pub struct RolloutPart {
    pub id: Arc<str>,
    /// In force when the request was assigned.
    pub weights: Weights,
    /// Hash of the sticky key under the rollout's salt; `None` for a request that was assigned at random or by force.
    pub key: Option<u64>,
    /// Sent by a rule or its own wish: left out of the statistics.
    pub forced: bool,
}

/// What became of a request that reached the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Answered,
    /// The text that the client got.
    Failed(String),
}

impl Entry {
    /// Bytes of its tensors, which it keeps in memory until it is written.
    pub fn tensor_bytes(&self) -> usize {
        self.inputs.iter().chain(&self.outputs).map(|tensor| tensor.data().len()).sum()
    }
}

/// Sees every entry that reaches the writer, sampled out or not, on the writer's thread and before its rows are written.
/// Must not block: what it can't take at once it drops and counts.
pub trait Witness: Send {
    fn see(&mut self, entry: &Entry);
}

/// Sees every batch of rows that reached its segment: sampled, redacted and numbered, with the columns of
/// [`VersionLog::schema`]. Called on the writer's thread, once for each batch. Must not block: what it can't take at once
/// it drops and counts.
pub trait RowsWitness: Send {
    fn rows(&mut self, version: &VersionLog, batch: &RecordBatch);
}
