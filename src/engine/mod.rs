//! RUN: what executes a graph.
//!
//! The seam is two traits. A [`Model`] is a loaded file, immutable and shared by all workers; a [`Session`] is one
//! worker's handle on it. An [`Engine`] makes models from files. All of it is synchronous: it runs on worker and
//! loader threads, never on an I/O thread.

pub mod auto;
pub mod batch_axis;
mod clean_up;
pub mod closeness;
mod deciding_inputs;
mod declared_shapes;
mod external;
mod fixed_sizes;
#[doc(hidden)]
pub mod fake;
#[doc(hidden)]
pub mod fake_plans;
mod lru;
pub mod onnx;
#[cfg(feature = "onnxruntime")]
pub mod onnxruntime;
mod ops;
pub mod padding;
pub mod panics;
pub mod rows;
mod sample;
pub mod tract;
mod warm_up;
#[cfg(test)]
mod testing;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::auto::EngineTime;
use crate::signature::Signature;
use crate::tensor::Tensor;

/// Loads model files.
pub trait Engine: Send + Sync {
    /// The name that metadata, `inspect` and logs show, such as `tract`.
    fn name(&self) -> &'static str;

    /// Reads an ONNX file (external data is found beside it), discovers its signature, proves its batch axis and
    /// runs it once. Blocks for as long as that takes; the caller bounds time and memory.
    ///
    /// # Errors
    /// `LoadError`, whose text tells an operator what is wrong with the file and what to do.
    fn load(&self, path: &Path) -> Result<Arc<dyn Model>, LoadError>;

    /// As `load`, on the terms of one model. An engine that is one alone has no choice.
    ///
    /// # Errors
    /// As `load`.
    fn load_on(&self, path: &Path, _terms: &LoadTerms<'_>) -> Result<Arc<dyn Model>, LoadError> {
        self.load(path)
    }

    /// Tells this engine from another build of it, such as `onnxruntime 1.31.1`: what one of them loads may crash the other,
    /// and takes another time.
    fn build(&self) -> String {
        self.name().to_owned()
    }
}

/// Which engine runs a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EngineChoice {
    #[default]
    Auto,
    Tract,
    OnnxRuntime,
}

impl EngineChoice {
    /// The word for it in model.yaml.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => auto::NAME,
            Self::Tract => tract::NAME,
            Self::OnnxRuntime => "onnxruntime",
        }
    }
}

/// How one model is to be loaded.
pub struct LoadTerms<'a> {
    pub choice: EngineChoice,
    /// Whether a model gives what was recorded with it; `None` where nothing was.
    pub judge: &'a dyn Fn(&Arc<dyn Model>) -> Option<bool>,
}

/// A loaded model: immutable, shared.
pub trait Model: Send + Sync {
    fn signature(&self) -> &Signature;

    /// The name of the engine that loaded it; of several, of the one that runs one row.
    fn engine(&self) -> &'static str;

    /// Which engine runs which batch size, and the times of both that it was chosen by, where it was; the engine's name where
    /// one runs all.
    fn engine_choice(&self) -> String {
        self.engine().to_owned()
    }

    /// What loading found out that an operator should know, such as a warm-up that could not be tried, or which engine runs
    /// it and why.
    fn notes(&self) -> Vec<String>;

    /// A new session, for one worker thread.
    fn session(self: Arc<Self>) -> Box<dyn Session>;

    /// A session for measurements: it runs every shape on what serves any, as if no plan had been made for it alone, and
    /// its runs earn no shape a plan. Where nothing serves any shape, and for an engine that runs every shape alike, one
    /// as `session` gives.
    fn plain_session(self: Arc<Self>) -> Box<dyn Session> {
        self.session()
    }

    /// Inputs made up for a run of `rows` rows, or of one row where no batch axis is proven. Of what varies besides the
    /// rows they have sizes, and of values a style, that the model is thought to take; it may yet fail on them.
    fn sample_inputs(&self, rows: usize) -> Vec<Tensor> {
        sample::inputs(self.signature(), sample::Sizes { rows, other: sample::USUAL_SIZE }, sample::Style::Signed)
    }

    /// Whether a run of inputs of these shapes starts at once, and not only after a plan for them has been built. Cheap;
    /// never waits for a build. The answer may be out of date when the run begins.
    fn is_ready_for(&self, _inputs: &[Tensor]) -> bool {
        true
    }

    /// Builds a plan for exactly the shapes of these inputs and keeps it until `release`, whatever other shapes come.
    /// Does nothing where such a plan is kept already. Blocks for the build, so it is for background threads.
    ///
    /// An engine that runs every shape alike has nothing to prepare.
    ///
    /// # Errors
    /// `Failed` when no plan can be built for these shapes, or as many are kept as the engine allows.
    fn prepare(&self, _inputs: &[Tensor]) -> Result<(), RunError> {
        Ok(())
    }

    /// Gives up a plan that `prepare` has made; runs that use it end well. Does nothing where there is none.
    fn release(&self, _inputs: &[Tensor]) {}

    /// Finds out which of several engines runs which batch size fastest, and runs it there from then on. `kept` is what a
    /// call gave before on such a machine, which saves measuring. Gives the times that the choice was made by. Blocks for
    /// seconds, so it is for background threads.
    ///
    /// `None` where there is nothing to choose, or nothing could be measured.
    fn choose_engine(&self, _kept: Option<&[EngineTime]>) -> Option<Vec<EngineTime>> {
        None
    }

    /// The times that the choice between engines was made by; empty where there was none, or before it is made.
    fn engine_times(&self) -> Vec<EngineTime> {
        vec![]
    }

    /// Bytes that the model holds while no run is under way, as far as the engine can tell: 0 where it can't.
    fn memory_bytes(&self) -> u64 {
        0
    }
}

/// One worker's handle on a model. Carries nothing from one run to the next that could change an output.
pub trait Session: Send {
    /// Runs the model once. `inputs` are in the signature's order and have been checked against it; the outputs come
    /// back in the signature's order and in its datatypes.
    ///
    /// `stop` is asked between operators; once it says true the run ends with `Stopped`.
    ///
    /// # Errors
    /// `RunError`. A panic inside the engine is caught and comes back as `Failed`.
    fn run(&mut self, inputs: &[Tensor], stop: &dyn Fn() -> bool) -> Result<RunOutput, RunError>;
}

/// What a run gives.
#[derive(Debug)]
pub struct RunOutput {
    pub tensors: Vec<Tensor>,
    pub timing: RunTiming,
}

/// Where the time of a run went, as the protocol's statistics count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunTiming {
    /// Turning the request's tensors into the engine's.
    pub input: Duration,
    /// The graph itself.
    pub infer: Duration,
    /// Turning the engine's tensors into the answer's.
    pub output: Duration,
}

/// Why a file is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("the file can't be read: {0}")]
    Unreadable(String),
    #[error("not a valid ONNX model: {0}")]
    Invalid(String),
    #[error(
        "the {engine} engine lacks operators: {}. Export the model without them, or serve it with an engine that has them",
        missing_text(missing)
    )]
    MissingOperators { engine: &'static str, missing: Vec<MissingOperator> },
    #[error("the {engine} engine can't prepare the graph: {cause}")]
    Unsupported { engine: &'static str, cause: String },
    #[error("the warm-up run failed: {0}")]
    WarmUp(String),
    /// Neither engine takes it; the second's text says what it said, or that it is not there.
    #[error("{tract}. {onnxruntime}")]
    NoEngine { tract: Box<LoadError>, onnxruntime: String },
    /// The engine that the model is pinned to is not there.
    #[error("model.yaml says `engine: onnxruntime`. {0}")]
    EngineAbsent(String),
}

/// An operator the engine doesn't have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingOperator {
    /// `ai.onnx` for the default domain.
    pub domain: String,
    pub name: String,
    pub opset: i64,
    /// How many nodes of the graph need it.
    pub nodes: usize,
}

fn missing_text(missing: &[MissingOperator]) -> String {
    let each = |op: &MissingOperator| {
        format!(
            "{}.{} (opset {}, {} node{})",
            op.domain,
            op.name,
            op.opset,
            op.nodes,
            if op.nodes == 1 { "" } else { "s" }
        )
    };
    missing.iter().map(each).collect::<Vec<_>>().join(", ")
}

/// Why a run gave no outputs. The texts are for the log, not for clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The inputs are right by the signature, yet the engine can't take them; the text is safe to show.
    #[error("{0}")]
    BadInput(String),
    #[error("{0}")]
    Failed(String),
    #[error("stopped before it was done")]
    Stopped,
}
