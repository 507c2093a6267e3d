//! One loaded version of a model, and the life of a version.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Model;
use crate::engine::padding::{DeclaredPadding, PaddedLength};
use crate::error::{Error, Fault, Result, nearest};
use crate::inference::{InferRequest, RequestedOutput, printable};
use crate::prediction_log::VersionLog;
use crate::proto::inference::ModelConfig;
use crate::signature::{Batching, NOTHING_VARIES, Signature};
use crate::telemetry::stats::ServableStats;
use crate::tensor::Tensor;

/// A model and one of its versions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServableId {
    pub model: String,
    pub version: u64,
}

impl fmt::Display for ServableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.model, self.version)
    }
}

/// Where a version is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Seen in the repository. To `Loading` when it is whole and selected.
    Discovered,
    /// A child process, then this one, reads the file. To `Validating` or `Failed`.
    Loading,
    /// Recorded examples are run. To `Ready` or `Failed`.
    Validating,
    /// In service without being in memory: its next request loads it and waits. To `Ready` or `Failed`.
    Cold,
    /// Answers requests. To `Draining` when it is no longer selected, to `Cold` when it is let go.
    Ready,
    /// Gets no new requests, finishes those it has. To `Unloaded`.
    Draining,
    /// Its memory is given back. To `Loading` when it is selected again.
    Unloaded,
    /// Not served; the reason says why. To `Loading` when its files change or an operator asks.
    Failed,
}

impl State {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 8] = [
        Self::Discovered,
        Self::Loading,
        Self::Validating,
        Self::Cold,
        Self::Ready,
        Self::Draining,
        Self::Unloaded,
        Self::Failed,
    ];

    /// The lower-case word that logs, the command line and the admin API use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Loading => "loading",
            Self::Validating => "validating",
            Self::Cold => "cold",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Unloaded => "unloaded",
            Self::Failed => "failed",
        }
    }

    /// Whether requests are answered, at once or after a load.
    pub fn is_in_service(self) -> bool {
        matches!(self, Self::Cold | Self::Ready)
    }

    /// The word of the repository index (Triton's model states).
    pub fn index_name(self) -> &'static str {
        match self {
            Self::Loading | Self::Validating => "LOADING",
            Self::Cold | Self::Ready => "READY",
            Self::Draining => "UNLOADING",
            // What nothing asks for may stay discovered for ever.
            Self::Discovered | Self::Unloaded | Self::Failed => "UNAVAILABLE",
        }
    }
}

/// A version's state, with a reason that an operator can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionStatus {
    pub state: State,
    /// Empty when there is nothing to say.
    pub reason: String,
    pub quarantined: bool,
}

/// What the operator decided about serving a version, as far as the request's path needs it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServingLimits {
    /// Larger requests are refused; `None` accepts any size.
    pub max_batch_size: Option<usize>,
    /// A request without a deadline of its own gets this one.
    pub default_timeout: Option<Duration>,
    /// Class names by output, for classification.
    pub class_labels: BTreeMap<String, Vec<String>>,
    /// What the numbers of an output should lie in; a rollout counts answers that don't.
    pub output_ranges: BTreeMap<String, OutputRange>,
}

/// The range of an output's numbers, its ends included; `None`: open.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OutputRange {
    pub min: Option<f64>,
    pub max: Option<f64>,
}

/// Where a version comes from, in the words of whoever trained it. Shown and written down, never followed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// Usually the digest of its training set, from the manifest of an export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// Commit of the code that trained it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
}

/// A loaded version. Requests hold it while they run; the last one to let go unloads it.
pub struct Servable {
    pub id: ServableId,
    /// Row of the append-only table of versions, part of every prediction id.
    pub slot: u32,
    /// sha256 of the version's files, hexadecimal.
    pub digest: String,
    /// Size of the version's files, its recorded examples apart.
    pub file_bytes: u64,
    pub model: Arc<dyn Model>,
    pub lineage: Lineage,
    pub limits: ServingLimits,
    /// Sequence padding as the settings declare it; `None` where they don't.
    pub padding: Option<DeclaredPadding>,
    /// The configuration as clients read it.
    pub config: ModelConfig,
    pub stats: Arc<ServableStats>,
    /// How its predictions are written down; `None` where there is no log.
    pub log: Option<Arc<VersionLog>>,
}

impl fmt::Debug for Servable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Servable({})", self.id)
    }
}

/// A request that fits the model it goes to.
#[derive(Debug)]
pub struct CheckedRequest {
    /// In the signature's order.
    pub inputs: Vec<Tensor>,
    /// Rows along the batch axis, 1 where there is none.
    pub rows: usize,
    /// Each with its position among the model's outputs.
    pub outputs: Vec<(usize, RequestedOutput)>,
}

impl Servable {
    pub fn signature(&self) -> &Signature {
        self.model.signature()
    }

    /// What loading found out that an operator should know.
    pub fn notes(&self) -> Vec<String> {
        let padding = self.padding.as_ref().and_then(DeclaredPadding::note);
        let unbatched = match &self.signature().batching {
            Batching::Unproven(reason) if *reason != NOTHING_VARIES => Some(format!("rows are not batched: {reason}")),
            _ => None,
        };
        self.model.notes().into_iter().chain(unbatched).chain(padding).collect()
    }

    /// Pads checked inputs along the sequence axis, where that is declared and proven. What [`Servable::cut`] needs to
    /// undo it comes with them.
    pub fn pad(&self, inputs: Vec<Tensor>) -> (Vec<Tensor>, Option<PaddedLength>) {
        match self.padding.as_ref().map(|padding| &padding.proven) {
            Some(Ok(padding)) => padding.pad(inputs),
            _ => (inputs, None),
        }
    }

    /// Cuts outputs back to the length that the request had before it was padded.
    ///
    /// # Errors
    /// A text for the log, where an output is not as long as the proof says.
    pub fn cut(&self, outputs: Vec<Tensor>, length: Option<PaddedLength>) -> std::result::Result<Vec<Tensor>, String> {
        match self.padding.as_ref().map(|padding| &padding.proven) {
            Some(Ok(padding)) => padding.cut(outputs, length),
            _ => Ok(outputs),
        }
    }

    /// What it takes in memory, in bytes: the engine's estimate, and its files where that is less.
    pub fn memory_bytes(&self) -> u64 {
        self.model.memory_bytes().max(self.file_bytes)
    }

    /// Checks a request's names, datatypes, shapes, outputs and batch size.
    ///
    /// # Errors
    /// The first thing wrong, naming what was expected and what came.
    pub fn check(&self, request: InferRequest) -> Result<CheckedRequest> {
        let signature = self.signature();
        let (model, id) = (&self.id.model, &request.id);
        let outputs = self.check_outputs(id, request.outputs)?;
        let inputs = signature.check_inputs(model, id, request.inputs)?;
        let rows = signature.batch_size(&inputs);
        match self.limits.max_batch_size {
            Some(limit) if rows > limit => Err(Error::mismatch(model, id, Fault::BatchSize { limit, got: rows })),
            _ => Ok(CheckedRequest { inputs, rows, outputs }),
        }
    }

    fn check_outputs(&self, id: &str, wanted: Vec<RequestedOutput>) -> Result<Vec<(usize, RequestedOutput)>> {
        let specs = &self.signature().outputs;
        if wanted.is_empty() {
            let all = specs.iter().map(|spec| RequestedOutput { name: spec.name.clone(), classification: None });
            return Ok(all.enumerate().collect());
        }
        let mut names = HashSet::new();
        if let Some(twice) = wanted.iter().find(|output| !names.insert(output.name.as_str())) {
            // One answer a name: a short request must not become an answer of any length.
            let fault = Fault::DuplicateOutput { output: printable(&twice.name) };
            return Err(Error::mismatch(&self.id.model, id, fault));
        }
        let find = |output: RequestedOutput| match specs.iter().position(|spec| spec.name == output.name) {
            Some(position) => Ok((position, output)),
            None => {
                let nearest = nearest(&output.name, specs.iter().map(|spec| spec.name.as_str()));
                Err(Error::mismatch(
                    &self.id.model,
                    id,
                    Fault::UnknownOutput { output: printable(&output.name), nearest },
                ))
            }
        };
        wanted.into_iter().map(find).collect()
    }
}
