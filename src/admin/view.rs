//! Models and audit entries as the admin API shows them. The command line reads the same types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::audit::Head;
use crate::audit::line::Line;
use crate::prediction_log::quality::{Fill, QualityReport};
use crate::routing::{Backend, ModelEntry, Serving};
use crate::servable::{Lineage, VersionStatus};
use crate::signature::{Batching, Dim, TensorSpec};
pub use crate::telemetry::log_rows::LogCounts;

/// The answer of `/admin/v1/audit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditList {
    /// Newest last.
    pub entries: Vec<Line>,
    /// The log's newest line; noted elsewhere, it shows later that no line was cut off the end.
    pub head: Head,
}

/// The answer of `/admin/v1/log/stats`. Counts are those of this process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LogStats {
    /// The data directory, absolute; `None` where there is none, and so no log.
    pub directory: Option<String>,
    /// When the process began, as its rows have it; Unix time in ms.
    pub incarnation: Option<u64>,
    pub models: BTreeMap<String, LogCounts>,
    pub writer: Option<LogWriter>,
}

/// What the writer does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LogWriter {
    /// Segments that are being appended to.
    pub open_segments: u64,
    /// Bytes of rows that are only in memory.
    pub pending_bytes: u64,
    /// Ended segments that wait to be sealed.
    pub waiting_segments: u64,
    pub sealed_files: u64,
    pub sealed_rows: u64,
    /// Segments that could not be read and were set aside.
    pub set_aside: u64,
    /// Share of the file system in use, 0 to 1; `None` before the first look.
    pub disk_share: Option<f64>,
    /// Of the disk.
    pub errors: u64,
    pub last_error: Option<String>,
}

impl LogStats {
    /// Rows that were dropped since the process began; `None` where no log is kept.
    pub fn dropped(&self) -> Option<u64> {
        self.directory.as_ref()?;
        Some(self.models.values().map(|counts| counts.dropped_ring + counts.dropped_disk).sum())
    }
}

/// The answer of `POST /admin/v1/log/seal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSealed {
    /// Whether all that was written when it was asked is sealed; what is not is sealed later.
    pub sealed: bool,
}

/// The answer of `/admin/v1/models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelList {
    pub models: Vec<ModelView>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelView {
    pub name: String,
    /// The version that answers the bare name.
    pub default_version: Option<u64>,
    pub labels: BTreeMap<String, u64>,
    /// What is wrong with the model as a whole; empty if nothing.
    pub fault: String,
    /// Ascending.
    pub versions: Vec<VersionView>,
}

/// One version that was seen in the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    pub version: u64,
    pub state: String,
    /// Why it is in that state; empty where there is nothing to say.
    pub reason: String,
    pub quarantined: bool,
    /// Only of a version in memory; one that is `cold` answers too, after a load.
    pub loaded: Option<LoadedView>,
}

/// What is known of a loaded version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedView {
    /// sha256 of the version's files, hexadecimal.
    pub digest: String,
    /// Where it comes from, as far as it was told.
    pub lineage: Lineage,
    /// Estimate of the memory that it takes.
    pub memory_bytes: u64,
    pub engine: String,
    pub notes: Vec<String>,
    pub inputs: Vec<TensorView>,
    pub outputs: Vec<TensorView>,
    pub batching: BatchingView,
    /// Larger requests are refused; null accepts any size.
    pub max_batch_size: Option<usize>,
    /// Requests admitted and not yet answered.
    pub pending: u64,
    /// Requests that wait for a core.
    pub queue_depth: usize,
    /// Cores that it may hold at the same time.
    pub workers: u32,
    /// Most rows of a run.
    pub max_batch_rows: usize,
    /// Whether its batch sizes were measured.
    pub batch_sizes_measured: bool,
    /// Estimate of what its plans hold.
    pub plan_bytes: u64,
}

/// An input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorView {
    pub name: String,
    pub datatype: String,
    /// Null where the file declares no rank.
    pub shape: Option<Vec<DimView>>,
}

/// A size, the name of one that varies, or -1 for one that varies without a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DimView {
    Size(i64),
    Name(String),
}

/// What was found out about the batch axis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchingView {
    /// Whether rows run together were shown to give what they give alone.
    pub proven: bool,
    /// The batch axis of each input and output, null for a tensor that all rows share; empty unless proven.
    pub input_axes: Vec<Option<usize>>,
    pub output_axes: Vec<Option<usize>>,
    /// Why it is not proven; empty if it is.
    pub reason: String,
}

impl ModelList {
    pub fn of(serving: &Serving) -> Self {
        Self { models: serving.models.iter().map(|(name, entry)| ModelView::of(name, entry)).collect() }
    }
}

impl ModelView {
    pub fn of(name: &str, entry: &ModelEntry) -> Self {
        let version = |(&version, status): (&u64, &VersionStatus)| VersionView {
            version,
            state: status.state.name().to_owned(),
            reason: status.reason.clone(),
            quarantined: status.quarantined,
            loaded: entry.backends.get(&version).map(|backend| LoadedView::of(backend)),
        };
        Self {
            name: name.to_owned(),
            default_version: entry.default,
            labels: entry.labels.clone(),
            fault: entry.fault.clone(),
            versions: entry.statuses.iter().map(version).collect(),
        }
    }
}

impl LoadedView {
    fn of(backend: &Backend) -> Self {
        let servable = &backend.servable;
        let signature = servable.signature();
        Self {
            digest: servable.digest.clone(),
            lineage: servable.lineage.clone(),
            memory_bytes: servable.memory_bytes(),
            engine: servable.model.engine().to_owned(),
            notes: servable.notes(),
            inputs: signature.inputs.iter().map(TensorView::of).collect(),
            outputs: signature.outputs.iter().map(TensorView::of).collect(),
            batching: BatchingView::of(&signature.batching),
            max_batch_size: servable.limits.max_batch_size,
            pending: servable.stats.pending.load(std::sync::atomic::Ordering::Relaxed),
            queue_depth: backend.pool.depth(),
            workers: backend.pool.reading().workers,
            max_batch_rows: backend.pool.cap(),
            batch_sizes_measured: backend.pool.curve().is_measured(),
            plan_bytes: servable.model.memory_bytes(),
        }
    }
}

impl TensorView {
    pub fn of(spec: &TensorSpec) -> Self {
        Self {
            name: spec.name.clone(),
            datatype: spec.dtype.name().to_owned(),
            shape: spec.dims.as_ref().map(|dims| dims.iter().map(DimView::of).collect()),
        }
    }

    /// The shape as people read it: `[N,4]`, `?` for a size without a name, `any shape` for an undeclared rank.
    pub fn shape_text(&self) -> String {
        let Some(dims) = &self.shape else { return "any shape".to_owned() };
        let text = |dim: &DimView| match dim {
            DimView::Size(-1) => "?".to_owned(),
            DimView::Size(size) => size.to_string(),
            DimView::Name(name) => name.clone(),
        };
        crate::tensor::shape_text(&dims.iter().map(text).collect::<Vec<_>>())
    }
}

impl DimView {
    fn of(dim: &Dim) -> Self {
        match dim {
            Dim::Named(name) => Self::Name(name.clone()),
            Dim::Fixed(_) | Dim::Unknown => Self::Size(dim.wire()),
        }
    }
}

impl BatchingView {
    pub fn of(batching: &Batching) -> Self {
        match batching {
            Batching::Proven(axes) => Self {
                proven: true,
                input_axes: axes.inputs.clone(),
                output_axes: axes.outputs.clone(),
                reason: String::new(),
            },
            Batching::Unproven(reason) => {
                Self { proven: false, input_axes: vec![], output_axes: vec![], reason: reason.clone() }
            }
        }
    }
}

/// The answer of `/admin/v1/log/quality`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityList {
    /// By model, version and arm.
    pub quality: Vec<QualityReport>,
    /// Predictions that feedback still finds, and feedback that waits for its prediction.
    pub predictions_held: usize,
    pub feedback_waiting: usize,
    /// Predictions and waiting feedback that had to make room, and feedback whose value says nothing, since the start.
    pub predictions_forgotten: u64,
    pub feedback_dropped: u64,
    pub feedback_unreadable: u64,
}

impl QualityList {
    pub fn of(quality: Vec<QualityReport>, fill: Fill) -> Self {
        Self {
            quality,
            predictions_held: fill.predictions,
            feedback_waiting: fill.early,
            predictions_forgotten: fill.forgotten,
            feedback_dropped: fill.dropped,
            feedback_unreadable: fill.unreadable,
        }
    }
}
