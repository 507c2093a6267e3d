//! The threads that load versions: a bounded share of the cores, whatever is asked of them.
//!
//! Loading one version: its digest, a probe in a child process if the digest is new, the load and warm-up here, its
//! recorded examples. The manager hears of each step by an event.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::SystemTime;

use crate::engine::padding::{DeclaredPadding, PaddingError};
use crate::engine::{Engine, LoadError, LoadTerms, Model};
use crate::prediction_log::columns::{self, RuleError};
use crate::prediction_log::quality;
use crate::registry::declared::DeclaredError;
use crate::registry::digest::Digest;
use crate::registry::examples::{ExampleError, run_examples};
use crate::registry::lineage;
use crate::registry::listing::{MODEL_FILE, VersionFiles};
use crate::registry::model_config::ModelSettings;
use crate::registry::probe::{ProbeConfig, ProbeError, probe};
use crate::servable::{Lineage, ServableId, State};
use crate::signature::Signature;
use crate::store::records::Records;

/// One version to load.
pub struct LoadJob {
    pub id: ServableId,
    /// Told back with every event, so that the manager can tell a load from one that it has given up.
    pub attempt: u64,
    pub files: VersionFiles,
    pub settings: Arc<ModelSettings>,
}

/// What happened to a load.
pub struct LoadEvent {
    pub id: ServableId,
    pub attempt: u64,
    pub step: LoadStep,
}

pub enum LoadStep {
    /// It moved on to this state.
    Entered(State),
    Done(Box<Result<LoadedVersion, FailedLoad>>),
}

/// A version that may serve.
pub struct LoadedVersion {
    pub model: Arc<dyn Model>,
    pub digest: Digest,
    /// Size of its files, recorded examples apart.
    pub file_bytes: u64,
    pub slot: u32,
    /// Recorded examples that were run and agreed.
    pub examples: usize,
    /// The sequence padding that the settings declare, with what the check found.
    pub padding: Option<DeclaredPadding>,
    /// What the version says of itself; `None`: what its settings say.
    pub lineage: Option<Lineage>,
}

/// A load that failed.
pub struct FailedLoad {
    /// `None` where it failed before its files were read.
    pub digest: Option<Digest>,
    pub cause: LoadFailure,
}

/// Why a version may not serve. The text is what an operator reads.
#[derive(Debug, thiserror::Error)]
pub enum LoadFailure {
    #[error("its files can't be read: {0}")]
    Unreadable(String),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Declared(#[from] DeclaredError),
    #[error(transparent)]
    Padding(#[from] PaddingError),
    #[error("class_labels names output '{output}', which the model does not have")]
    ClassLabels { output: String },
    #[error("outputs names output '{output}', which the model does not have")]
    OutputRange { output: String },
    #[error(transparent)]
    Log(#[from] RuleError),
    #[error(transparent)]
    Quality(#[from] quality::PlanError),
    #[error(transparent)]
    Example(#[from] ExampleError),
    #[error("lineage.json is not a lineage: {0}")]
    Lineage(String),
    #[error("its files changed while it was loaded")]
    Changed,
    #[error("loading it panicked; the log has the cause")]
    Panicked,
    #[error("the server's state can't be written: {0}")]
    Store(String),
}

impl LoadFailure {
    /// Whether the version is to be set aside until an operator clears it: it gave a wrong answer, or it endangers
    /// whoever loads it.
    pub fn is_rejection(&self) -> bool {
        match self {
            Self::Example(cause) => cause.is_wrong_answer(),
            Self::Probe(cause) => cause.blames_file(),
            _ => false,
        }
    }
}

/// How versions are loaded.
#[derive(Clone)]
pub struct LoaderConfig {
    pub threads: usize,
    pub probe: ProbeConfig,
    /// Tells this build from another: a file that one build loaded may crash the next.
    pub build: String,
}

/// The way to the loader threads, which end when it is dropped.
pub struct Loader {
    jobs: mpsc::Sender<LoadJob>,
}

impl Loader {
    /// Starts the threads. `report` is called from them.
    ///
    /// # Errors
    /// The operating system's, when a thread can't be started.
    pub fn start(
        config: LoaderConfig,
        engine: Arc<dyn Engine>,
        records: Arc<Records>,
        report: impl Fn(LoadEvent) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let worker = Arc::new(Worker { config, engine, records, report: Box::new(report) });
        for _ in 0..worker.config.threads.max(1) {
            let (queue, worker) = (queue.clone(), worker.clone());
            thread::Builder::new().name("load".to_owned()).spawn(move || {
                while let Some(job) = next(&queue) {
                    // On a thread that ends with it: what a thread has allocated goes back to the system only through
                    // that thread, or once it has ended, and this one may sleep for hours after its last load.
                    thread::scope(|scope| _ = scope.spawn(|| worker.run(job)).join());
                }
            })?;
        }
        Ok(Self { jobs })
    }

    /// Queues a load. The manager has at most one under way for each version, which bounds the queue.
    pub fn submit(&self, job: LoadJob) {
        // The threads live as long as this sender.
        let _ = self.jobs.send(job);
    }
}

fn next(queue: &Mutex<mpsc::Receiver<LoadJob>>) -> Option<LoadJob> {
    queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv().ok()
}

struct Worker {
    config: LoaderConfig,
    engine: Arc<dyn Engine>,
    records: Arc<Records>,
    report: Box<dyn Fn(LoadEvent) + Send + Sync>,
}

impl Worker {
    fn run(&self, job: LoadJob) {
        let result = match Digest::of_version(&job.files) {
            Ok(digest) => self.load_guarded(&job, digest).map_err(|cause| FailedLoad { digest: Some(digest), cause }),
            Err(cause) => Err(FailedLoad { digest: None, cause: LoadFailure::Unreadable(cause.to_string()) }),
        };
        (self.report)(LoadEvent { id: job.id, attempt: job.attempt, step: LoadStep::Done(Box::new(result)) });
    }

    /// A panic anywhere in a load fails that load, not the thread: others wait for it.
    fn load_guarded(&self, job: &LoadJob, digest: Digest) -> Result<LoadedVersion, LoadFailure> {
        catch_unwind(AssertUnwindSafe(|| self.load(job, digest))).unwrap_or(Err(LoadFailure::Panicked))
    }

    fn load(&self, job: &LoadJob, digest: Digest) -> Result<LoadedVersion, LoadFailure> {
        let store = |cause: crate::store::StoreError| LoadFailure::Store(cause.to_string());
        let path = job.files.path.join(MODEL_FILE);
        let choice = job.settings.engine;
        // Another engine or another build of it has not loaded the file yet.
        let build = format!("{}, {} of {}", self.config.build, choice.name(), self.engine.build());
        if !self.records.known_good(&digest, &build).map_err(store)? {
            probe(&self.config.probe, &path, choice)?;
            self.records.set_known_good(&digest, &build, SystemTime::now()).map_err(store)?;
        }
        let lineage = lineage::read(&job.files).map_err(LoadFailure::Lineage)?;
        let judge = |model: &Arc<dyn Model>| match run_examples(&job.files.path, model, job.settings.tolerance) {
            Ok(0) => None,
            outcome => Some(outcome.is_ok()),
        };
        let model = self.engine.load_on(&path, &LoadTerms { choice, judge: &judge })?;
        check_settings(&job.settings, model.signature())?;
        let (id, attempt) = (job.id.clone(), job.attempt);
        (self.report)(LoadEvent { id, attempt, step: LoadStep::Entered(State::Validating) });
        let padding = job.settings.sequence_padding.as_ref().map(|rule| DeclaredPadding::check(rule, &model));
        let examples = run_examples(&job.files.path, &model, job.settings.tolerance)?;
        // What was hashed must be what was loaded.
        if Digest::of_version(&job.files).map_err(|_| LoadFailure::Changed)? != digest {
            return Err(LoadFailure::Changed);
        }
        let slot = self.records.slot_for(&job.id.model, job.id.version, digest).map_err(store)?;
        Ok(LoadedVersion { model, digest, file_bytes: job.files.model_bytes(), slot, examples, padding, lineage })
    }
}

/// Checks what the files beside a model say of its inputs and outputs against the model.
///
/// # Errors
/// `Declared`, `Padding`, `ClassLabels`, `OutputRange`, `Log` or `Quality`.
pub fn check_settings(settings: &ModelSettings, signature: &Signature) -> Result<(), LoadFailure> {
    if let Some(declared) = &settings.declared {
        declared.check(signature)?;
    }
    if let Some(rule) = &settings.sequence_padding {
        rule.fit(signature)?;
    }
    let is_unknown = |output: &&String| signature.output(output).is_none();
    if let Some(output) = settings.class_labels.keys().find(is_unknown) {
        return Err(LoadFailure::ClassLabels { output: output.clone() });
    }
    if let Some(output) = settings.output_ranges.keys().find(is_unknown) {
        return Err(LoadFailure::OutputRange { output: output.clone() });
    }
    columns::check(signature, &settings.log)?;
    if let Some(quality) = &settings.quality {
        quality::Plan::new(signature, quality, &settings.log, &settings.class_labels_of(signature))?;
    }
    Ok(())
}
