//! A data plane over models that are plain functions, for tests of the rooms around it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_core::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use crate::batching::{BatchConfig, Cores, Pool, PoolConfig, QueueLimits};
use crate::budget::ByteBudget;
use crate::control::{LoadOverrides, ModelControl};
use crate::data_plane::DataPlane;
use crate::engine::{Model, RunError, RunOutput, RunTiming, Session};
use crate::error::{Error, Result};
use crate::health::{Health, Phase};
use crate::prediction_log::feedback::FeedbackLog;
use crate::prediction_log::ring::{Entries, RingConfig};
use crate::prediction_log::{LogSettings, PredictionLog, VersionLog};
use crate::proto::inference::ModelConfig;
use crate::routing::shadow::{ShadowJob, Shadows};
use crate::routing::{
    Arm, Assignment, Backend, Dial, ModelEntry, Observation, Route, Serving, ShadowTolerance, Split, Unit, split,
};
use crate::servable::{Lineage, Servable, ServableId, ServingLimits, State, VersionStatus};
use crate::signature::{BatchAxes, Batching, Dim, Signature, TensorSpec};
use crate::telemetry::access_log::{AccessLog, AccessLogMode};
use crate::telemetry::settings::WireSettings;
use crate::telemetry::stats::ServableStats;
use crate::tensor::{DataType, Tensor};

/// What a function model does with its inputs.
pub type RunFn = dyn Fn(&[Tensor]) -> Result<Vec<Tensor>, RunError> + Send + Sync;

/// A model that is a function.
pub struct FunctionModel {
    signature: Signature,
    run: Arc<RunFn>,
}

impl FunctionModel {
    pub fn model(
        signature: Signature,
        run: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, RunError> + Send + Sync + 'static,
    ) -> Arc<dyn Model> {
        Arc::new(Self { signature, run: Arc::new(run) })
    }

    /// Gives each input back under the name `<input>_out`. Every tensor is `[N, width]`, batched along axis 0.
    pub fn identity(inputs: &[(&str, DataType, usize)]) -> Arc<dyn Model> {
        let spec = |suffix: &str| {
            let each = |&(name, dtype, width): &(&str, DataType, usize)| TensorSpec {
                name: format!("{name}{suffix}"),
                dtype,
                dims: Some(vec![Dim::Named("N".to_owned()), Dim::Fixed(width)]),
                classes: vec![],
            };
            inputs.iter().map(each).collect::<Vec<_>>()
        };
        let axes = vec![Some(0); inputs.len()];
        let signature = Signature {
            inputs: spec(""),
            outputs: spec("_out"),
            batching: Batching::Proven(BatchAxes { inputs: axes.clone(), outputs: axes }),
        };
        Self::model(signature, |inputs| Ok(inputs.to_vec()))
    }
}

impl Model for FunctionModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn engine(&self) -> &'static str {
        "function"
    }

    fn notes(&self) -> Vec<String> {
        vec![]
    }

    fn session(self: Arc<Self>) -> Box<dyn Session> {
        Box::new(FunctionSession(self.run.clone()))
    }
}

struct FunctionSession(Arc<RunFn>);

impl Session for FunctionSession {
    fn run(&mut self, inputs: &[Tensor], _stop: &dyn Fn() -> bool) -> Result<RunOutput, RunError> {
        Ok(RunOutput { tensors: (self.0)(inputs)?, timing: RunTiming::default() })
    }
}

/// A ready data plane that serves these (name, version, model), the highest version of a name by default.
pub fn data_plane(models: &[(&str, u64, Arc<dyn Model>)]) -> Arc<DataPlane> {
    data_plane_with_copies(models).0
}

/// A data plane that serves version 1 of one model `m` and writes its predictions down with these settings, and where
/// their entries come out.
pub fn data_plane_with_log(
    model: Arc<dyn Model>,
    settings: LogSettings,
    ring: RingConfig,
) -> (Arc<DataPlane>, Entries) {
    let (log, entries) = PredictionLog::new(ring);
    let version = VersionLog::new(("m", 1, "digest"), model.signature(), settings, log.counts_of("m"));
    let plane = Arc::into_inner(data_plane(&[])).expect("nobody else holds it yet");
    let plane = Arc::new(DataPlane { log, ..plane });
    let backend = Arc::into_inner(backend("m", 1, model.clone())).expect("nobody else holds it yet");
    let servable = Arc::into_inner(backend.servable).expect("nobody else holds it yet");
    let servable = Arc::new(Servable { log: Some(Arc::new(version.expect("a test's settings fit"))), ..servable });
    let mut serving = serving(&[("m", 1, model)]);
    let entry = Arc::make_mut(serving.models.get_mut("m").expect("it was just put there"));
    entry.backends.insert(1, Arc::new(Backend { servable, ..backend }));
    plane.publish(serving);
    plane.health.advance(Phase::Ready);
    (plane, entries)
}

/// The plane of [`data_plane`], and where the copies of its requests come out.
pub fn data_plane_with_copies(models: &[(&str, u64, Arc<dyn Model>)]) -> (Arc<DataPlane>, mpsc::Receiver<ShadowJob>) {
    let (shadows, copies) = Shadows::channel();
    let plane = Arc::new(DataPlane {
        serving: ArcSwap::default(),
        served: watch::Sender::new(0),
        control: Arc::new(NoControl),
        shadows,
        log: PredictionLog::off(),
        health: Health::default(),
        budget: ByteBudget::new(256 << 20),
        access_log: AccessLog::new(AccessLogMode::Off),
        feedback: FeedbackLog::off(),
        settings: WireSettings::new(|_| ()),
        gateway_id: 1,
        server_name: "headgate".to_owned(),
        max_body_bytes: 64 << 20,
        cold_start_timeout: Duration::from_secs(60),
    });
    plane.publish(serving(models));
    plane.health.advance(Phase::Ready);
    (plane, copies)
}

/// The snapshot in which these (name, version, model) are ready.
pub fn serving(models: &[(&str, u64, Arc<dyn Model>)]) -> Serving {
    let mut entries: BTreeMap<String, ModelEntry> = BTreeMap::new();
    for (name, version, model) in models {
        let entry = entries.entry((*name).to_owned()).or_default();
        let ready = VersionStatus { state: State::Ready, reason: String::new(), quarantined: false };
        entry.statuses.insert(*version, ready);
        entry.backends.insert(*version, backend(name, *version, model.clone()));
        entry.default = entry.backends.keys().max().copied();
    }
    let models = entries.into_iter().map(|(name, entry)| (name, Arc::new(entry))).collect();
    Serving { models, ..Serving::default() }
}

/// A pool's configuration: one worker, a queue of 64, and whatever waits is batched as far as is worth it.
pub fn pool_config() -> PoolConfig {
    PoolConfig {
        min_workers: 0,
        max_workers: 1,
        limits: QueueLimits { max_requests: 64, max_bytes: 64 << 20, max_wait: Duration::from_secs(60) },
        batching: BatchConfig::default(),
        delay_after: None,
    }
}

/// A backend with one worker, which is its own, and a queue of 64.
pub fn backend(name: &str, version: u64, model: Arc<dyn Model>) -> Arc<Backend> {
    let stats = Arc::new(ServableStats::default());
    let cores = Cores::start(1).expect("a test can start a thread");
    let pool = Pool::new(&cores, name, &model, &stats, pool_config());
    let servable = Arc::new(Servable {
        id: ServableId { model: name.to_owned(), version },
        slot: 0,
        digest: String::new(),
        file_bytes: 0,
        lineage: Lineage::default(),
        model,
        limits: ServingLimits { default_timeout: Some(Duration::from_secs(60)), ..ServingLimits::default() },
        padding: None,
        config: ModelConfig { name: name.to_owned(), ..ModelConfig::default() },
        stats,
        log: None,
    });
    Arc::new(Backend { arm: Arm::Stable, servable, pool })
}

/// A data plane that serves versions 1 and 2 of one model, and the split of that model's name between them.
pub struct SplitPlane {
    pub plane: Arc<DataPlane>,
    pub split: Arc<Split>,
    pub observations: mpsc::Receiver<Observation>,
    pub copies: mpsc::Receiver<ShadowJob>,
}

impl SplitPlane {
    /// A model `m` whose version 1 is stable and version 2 the candidate, with everything on stable. A key is the header
    /// `headgate-key`, or the request parameter of the same name.
    pub fn new(stable: Arc<dyn Model>, candidate: Arc<dyn Model>) -> Self {
        let (plane, copies) = data_plane_with_copies(&[]);
        let mut serving = serving(&[("m", 1, stable.clone()), ("m", 2, candidate.clone())]);
        if let Some(entry) = serving.models.get_mut("m") {
            Arc::make_mut(entry).default = Some(1);
        }
        let arm = |arm: Arm, version: u64, model: &Arc<dyn Model>| {
            let backend = Arc::into_inner(backend("m", version, model.clone())).expect("nobody else holds it yet");
            Arc::new(Backend { arm, ..backend })
        };
        let key = || "headgate-key".to_owned();
        let units = vec![Unit::Header(key()), Unit::Param(key()), Unit::Request];
        let (dial, observations) = Dial::new();
        let split = Arc::new(Split {
            route: "m".into(),
            rollout: "m-1".into(),
            assignment: Arc::new(Assignment { units, force: vec![], salt: split::salt("m-1", "m") }),
            dial: Arc::new(dial),
            tolerance: ShadowTolerance { atol: 1e-3, rtol: 1e-2 },
            stable: arm(Arm::Stable, 1, &stable),
            candidate: arm(Arm::Candidate, 2, &candidate),
            control: arm(Arm::Control, 1, &stable),
            shadow: arm(Arm::Shadow, 2, &candidate),
        });
        let route = Route { model: "m".to_owned(), label: "stable".to_owned(), split: Some(split.clone()) };
        serving.routes.insert("m".to_owned(), Arc::new(route));
        plane.publish(serving);
        Self { plane, split, observations, copies }
    }

    /// The arm that a key should meet.
    pub fn arm_of(&self, key: &str) -> Arm {
        split::arm_of(split::bucket(self.split.assignment.salt, key.as_bytes()), self.split.dial.weights())
    }
}

struct NoControl;

impl ModelControl for NoControl {
    fn load(&self, _model: String, _overrides: LoadOverrides) -> BoxFuture<'static, Result<()>> {
        Box::pin(async { Err(refusal()) })
    }

    fn unload(&self, _model: String) -> BoxFuture<'static, Result<()>> {
        Box::pin(async { Err(refusal()) })
    }

    fn warm(&self, _model: String, _version: u64) -> BoxFuture<'static, Result<()>> {
        Box::pin(async { Err(refusal()) })
    }
}

fn refusal() -> Error {
    Error::Unavailable("explicit model load / unload is not allowed if polling is enabled".to_owned())
}
