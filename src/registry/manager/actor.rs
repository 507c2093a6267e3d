//! The manager's loop: events in, decisions of the pure policy, loads and snapshots out.
//!
//! It runs on a thread of its own, so that it may block on the store without anyone noticing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::backend::{BackendFactory, same_backend};
use super::handle::Command;
use super::measuring::MeasureEvent;
use super::model::{Model, Stage, Version};
use super::pending::Pending;
use super::publication::Unpublished;
use super::scanner::{self, Look, ScanEvent, ScannerConfig, ScannerHandle};
use super::traffic::{Kept, Traffic};
use crate::batching::{self, AutoscaleSettings, Cores, MeasureLimits};
use crate::config::{ModelControlMode, ResidencyConfig, ServingDefaults};
use crate::data_plane::DataPlane;
use crate::engine::Engine;
use crate::health::Phase;
use crate::registry::engine_cache::EngineCache;
use crate::registry::labels::effective_labels;
use crate::registry::loader::{LoadEvent, Loader, LoaderConfig};
use crate::registry::measurer::{MeasureJob, Measurer};
use crate::registry::model_config::{LoadMode, ModelSettings};
use crate::registry::settle::SettledModel;
use crate::routing::{Serving, SplitPlan};
use crate::store::StoreError;
use crate::store::records::{Records, Wanted};
use crate::telemetry::metrics;

/// What the manager needs to know beside the models.
#[derive(Clone)]
pub struct ManagerConfig {
    pub mode: ModelControlMode,
    pub scanner: ScannerConfig,
    pub loader: LoaderConfig,
    pub serving: ServingDefaults,
    pub residency: ResidencyConfig,
}

/// What the manager works with.
pub struct Parts {
    /// Where it publishes.
    pub plane: Arc<DataPlane>,
    pub engine: Arc<dyn Engine>,
    /// What outlives the process.
    pub records: Arc<Records>,
    /// What was measured before; `None` without a data directory.
    pub engine_cache: Option<EngineCache>,
    /// The splits of rollouts that an earlier process left under way.
    pub splits: Vec<SplitPlan>,
    /// Further names that clients may call, each with its model and label.
    pub routes: BTreeMap<String, (String, String)>,
    /// What is wrong with a model's own rollout spec, if anything is.
    pub rollout_fault: fn(&serde_json::Value) -> Option<String>,
}

/// Events that may wait for the manager; whoever has more to say waits.
const MAX_WAITING_EVENTS: usize = 256;
/// Time between two looks at whether a version has drained.
const DRAIN_TICK: Duration = Duration::from_millis(10);
const IDLE_TICK: Duration = Duration::from_secs(1);
/// Files that keep changing at start hold back readiness for no longer than this.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// Why the manager does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("a thread can't be started: {0}")]
    Thread(#[from] std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) enum Event {
    Scan(ScanEvent),
    Load(LoadEvent),
    Measured(MeasureEvent),
}

/// Starts the manager; it ends on `shutdown`, letting go of every version.
///
/// # Errors
/// The operating system's, when a thread can't be started, or the store's, when it can't be read.
pub fn start(
    config: ManagerConfig,
    parts: Parts,
    commands: mpsc::Receiver<Command>,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let Parts { plane, engine, records, engine_cache, splits, routes, rollout_fault } = parts;
    let (events, received) = mpsc::channel(MAX_WAITING_EVENTS);
    let scans = events.clone();
    let scanner = scanner::start(config.scanner.clone(), move |event| _ = scans.blocking_send(Event::Scan(event)))?;
    let loads = events.clone();
    let report = move |event| _ = loads.blocking_send(Event::Load(event));
    let loader = Loader::start(config.loader.clone(), engine, records.clone(), report)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    if let Some(limit) = config.residency.max_memory_bytes {
        metrics::set_memory_limit(limit);
    }
    let cores = Cores::start(config.serving.cores.try_into().unwrap_or(u32::MAX))?;
    batching::autoscale(&cores, AutoscaleSettings::default())?;
    let backends = BackendFactory { defaults: config.serving, cores, plane: plane.clone() };
    let measurer = Measurer::start(engine_cache, MeasureLimits::default())?;
    let actor = Actor {
        wanted: records.wanted()?,
        mode: config.mode,
        plane,
        records,
        scanner,
        loader,
        backends,
        models: BTreeMap::new(),
        pending: Vec::new(),
        traffic: splits.into_iter().map(Traffic::waiting).collect(),
        names: routes,
        rollout_fault,
        kept: Vec::new(),
        unpublished: Unpublished::first(),
        events,
        measurer,
        unmeasured: Vec::new(),
        residency: config.residency,
        attempts: 0,
        started: Instant::now(),
        last_look: None,
        residents_seen: None,
        root_faults: BTreeSet::new(),
    };
    thread::Builder::new()
        .name("manage".to_owned())
        .spawn(move || runtime.block_on(actor.run(commands, received, shutdown)))?;
    Ok(())
}

pub(super) struct Actor {
    mode: ModelControlMode,
    pub(super) plane: Arc<DataPlane>,
    pub(super) records: Arc<Records>,
    pub(super) scanner: ScannerHandle,
    pub(super) loader: Loader,
    pub(super) backends: BackendFactory,
    pub(super) residency: ResidencyConfig,
    /// The actor's own, for what is to be reported later.
    pub(super) events: mpsc::Sender<Event>,
    pub(super) measurer: Measurer,
    /// Measurements that wait until everything is ready.
    pub(super) unmeasured: Vec<MeasureJob>,
    pub(super) models: BTreeMap<String, Model>,
    pub(super) pending: Vec<Pending>,
    /// The splits that rollouts have asked for, by route.
    pub(super) traffic: BTreeMap<String, Traffic>,
    /// Further names that clients may call, each with its model and label.
    pub(super) names: BTreeMap<String, (String, String)>,
    rollout_fault: fn(&serde_json::Value) -> Option<String>,
    /// Versions that stay loaded for a while after their rollout.
    pub(super) kept: Vec<Kept>,
    /// Models that an operator or a client asked to load or to unload.
    pub(super) wanted: BTreeMap<String, Wanted>,
    /// What has changed since the last snapshot.
    pub(super) unpublished: Unpublished,
    pub(super) attempts: u64,
    started: Instant,
    /// When the last look began, and whether its files were quiet.
    pub(super) last_look: Option<(Instant, bool)>,
    /// When it was last asked which versions are not used.
    pub(super) residents_seen: Option<Instant>,
    /// What lay in the repositories at the last look and belongs to no model.
    root_faults: BTreeSet<String>,
}

impl Actor {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut events: mpsc::Receiver<Event>,
        shutdown: CancellationToken,
    ) {
        loop {
            let draining = self.models.values().flat_map(|model| model.versions.values()).any(|v| v.draining.is_some());
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(command) = commands.recv() => self.command(command),
                Some(event) = events.recv() => self.event(event),
                () = tokio::time::sleep(if draining { DRAIN_TICK } else { IDLE_TICK }) => {}
            }
            self.finish_drains();
            self.answer_pending();
            self.settle_traffic();
            self.let_kept_go(Instant::now());
            self.let_go_unused(Instant::now());
            self.publish_changes();
            self.check_start();
        }
        self.plane.publish(Serving::default());
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Scan(ScanEvent::Looked(look)) => self.looked(*look),
            Event::Scan(ScanEvent::Unreadable(cause)) => {
                tracing::error!(cause, "a model repository can't be read; what is loaded goes on serving");
            }
            Event::Load(event) => self.load_event(event),
            Event::Measured(event) => self.measured(event),
        }
    }

    // -- what a look says

    fn looked(&mut self, mut look: Look) {
        self.last_look = Some((look.listing.taken, look.is_settled()));
        let faults: BTreeSet<String> = look.listing.faults.iter().map(ToString::to_string).collect();
        for reason in faults.difference(&self.root_faults) {
            tracing::warn!(reason, "something in a model repository is passed over");
        }
        self.root_faults = faults;
        let gone: Vec<String> =
            self.models.keys().filter(|name| !look.listing.models.contains_key(*name)).cloned().collect();
        for name in gone {
            self.model_gone(&name);
        }
        let quarantined = self.logged("reading the quarantine", self.records.quarantined());
        for (name, listed) in std::mem::take(&mut look.listing.models) {
            if !self.models.contains_key(&name) {
                let model = self.remember(&name);
                self.models.insert(name.clone(), model);
            }
            if let Some(settings) = look.settings.remove(&name) {
                self.apply_settings(&name, settings);
            }
            let model = self.models.get_mut(&name).expect("inserted above");
            (model.gone, model.certain) = (false, listed.certain);
            model.folder_faults = listed.faults.iter().map(ToString::to_string).collect();
            if let (true, Some(settled)) = (listed.certain, look.settled.get(&name)) {
                model.observe(&listed.versions, settled);
            }
            if let Some(quarantined) = &quarantined {
                for (number, version) in &mut model.versions {
                    let entry = quarantined.get(&(name.clone(), *number));
                    version.quarantine = entry.map(|entry| entry.reason.clone());
                }
            }
            self.reconcile(&name);
        }
    }

    /// A model with what the store knows of it.
    fn remember(&self, name: &str) -> Model {
        let by_default = self.mode != ModelControlMode::Explicit || self.asked_to_load(name);
        Model {
            wanted: self.wanted.get(name).map_or(by_default, |wanted| *wanted == Wanted::Loaded),
            moves: self.logged("reading label moves", self.records.label_moves(name)).unwrap_or_default(),
            answered: self.logged("reading the version that answered", self.records.answered(name)).flatten(),
            ..Model::default()
        }
    }

    /// The model's folder was taken away, which is an operator's way to take it out of service.
    fn model_gone(&mut self, name: &str) {
        let Some(model) = self.models.get_mut(name) else { return };
        model.gone = true;
        model.observe(&BTreeMap::new(), &SettledModel::default());
        self.reconcile(name);
        let model = self.models.get_mut(name).expect("still there");
        model.forget();
        if model.versions.is_empty() {
            self.models.remove(name);
        }
    }

    fn apply_settings(&mut self, name: &str, settings: Result<ModelSettings, String>) {
        let moved_label = settings.as_ref().ok().and_then(|settings| self.label_moved_under_rollout(name, settings));
        let model = self.models.get_mut(name).expect("called for a known model");
        let settings = match settings {
            Ok(settings) => settings,
            Err(fault) => {
                tracing::error!(model = name, fault, "the model's settings are refused, the last good ones stay");
                model.settings_fault = Some(fault);
                return;
            }
        };
        let rollout = settings.rollout.as_ref().and_then(|spec| (self.rollout_fault)(spec));
        let rollout = rollout.map(|fault| format!("rollout: {fault}")).or(moved_label);
        if let Some(fault) = rollout.or_else(|| model.misfit(&settings)) {
            tracing::error!(model = name, fault, "the model's settings do not fit it, the last good ones stay");
            model.settings_fault = Some(fault);
            return;
        }
        for key in &settings.not_honoured {
            tracing::warn!(model = name, key, "this setting is understood but not acted on by this build");
        }
        let overruled = effective_labels(&settings.labels, &model.moves).overruled;
        model.moves.retain(|label, _| !overruled.contains(label));
        model.settings_fault = None;
        model.settings_known = true;
        // What failed may have failed for its settings.
        model.retry_failed();
        let before = std::mem::replace(&mut model.settings, Arc::new(settings));
        if before.engine != model.settings.engine {
            tracing::info!(
                model = name,
                engine = model.settings.engine.name(),
                "the engine is another from the next load on"
            );
        }
        let was_lazy = before.load == LoadMode::Lazy && model.settings.load == LoadMode::Eager;
        if !same_backend(&before, &model.settings) {
            self.rebuild_backends(name);
        }
        if was_lazy {
            self.wake_all(name);
        }
        if !overruled.is_empty() {
            self.logged("forgetting label moves", self.records.forget_moves(name, &overruled));
        }
    }

    /// Gives every ready version the limits and the pool that the new settings ask for, around the same loaded model.
    fn rebuild_backends(&mut self, name: &str) {
        let model = self.models.get_mut(name).expect("called for a known model");
        let settings = model.settings.clone();
        let mut rebuilt = vec![];
        for version in model.versions.values_mut() {
            let Stage::Ready(ready) = &mut version.stage else { continue };
            ready.backend = self.backends.rebuild(&ready.backend, &settings);
            rebuilt.push((ready.digest, ready.backend.clone()));
        }
        // Another limit may leave room for sizes that were not measured.
        for (digest, backend) in rebuilt {
            self.measure(digest, &backend);
        }
    }

    // -- what follows

    /// Brings one model to what its policy, labels and operator want, as far as that goes now; to be published.
    pub(super) fn reconcile(&mut self, name: &str) {
        let (pinned, held) = (self.pinned(name), self.held_by_rollout(name));
        let awaits_its_arms = self.awaits_its_arms(name);
        let load_now = self.asked_to_load(name);
        let Some(model) = self.models.get_mut(name) else { return };
        let mut decision = model.decide(&pinned, held);
        // Each version is put off once, and in service then, from which more may follow.
        while !load_now && model.put_off(&decision.load, &pinned) {
            decision = model.decide(&pinned, held);
        }
        if awaits_its_arms {
            decision.answers = None;
        }
        if decision.answers != model.answers {
            tracing::info!(model = name, from = ?model.answers, to = ?decision.answers, "the version that answers changes");
            model.answers = decision.answers;
        }
        let changed_to = decision.answers.filter(|_| model.answered != decision.answers);
        if let Some(answers) = changed_to {
            model.answered = Some(answers);
        }
        for number in decision.unload {
            let version = model.versions.get_mut(&number).expect("decided over these versions");
            if let Stage::Ready(ready) = std::mem::replace(&mut version.stage, Stage::WasUnloaded) {
                tracing::info!(model = name, version = number, "draining");
                version.draining = Some(Arc::downgrade(&ready.backend.servable));
            }
        }
        for number in decision.load {
            if let Some(load) = self.submit_load(name, number) {
                self.version_mut(name, number).stage = Stage::Loading(load);
            }
        }
        if let Some(answers) = changed_to {
            self.unpublished.answered.insert(name.to_owned(), answers);
        }
        self.changed(name);
    }

    /// A version that the caller has seen to be there.
    pub(super) fn version_mut(&mut self, name: &str, number: u64) -> &mut Version {
        let version = self.models.get_mut(name).and_then(|model| model.versions.get_mut(&number));
        version.expect("the caller has seen it")
    }

    /// Notices versions whose last request is done.
    fn finish_drains(&mut self) {
        let mut done = BTreeSet::new();
        for (name, model) in &mut self.models {
            for (number, version) in &mut model.versions {
                if version.draining.is_some() && !version.is_draining() {
                    version.draining = None;
                    tracing::info!(model = name, version = number, "unloaded");
                    done.insert(name.clone());
                }
            }
        }
        for name in done {
            let model = self.models.get_mut(&name).expect("seen above");
            model.forget();
            if model.versions.is_empty() && model.gone {
                self.models.remove(&name);
            }
            self.changed(&name);
        }
    }

    /// The server is ready once every version that is selected at start is ready or has failed.
    fn check_start(&mut self) {
        if !self.is_starting() {
            return;
        }
        let Some((_, quiet)) = self.last_look else { return };
        let loading = |model: &Model| model.versions.values().any(|v| matches!(v.stage, Stage::Loading(_)));
        if (quiet || self.started.elapsed() > START_PATIENCE) && !self.models.values().any(loading) {
            self.plane.health.advance(Phase::Ready);
            // Nobody waits any longer for arms that did not come.
            let routes: Vec<String> = self.traffic.keys().cloned().collect();
            routes.iter().for_each(|route| self.reconcile(route));
            self.measure_all();
            tracing::info!(after_ms = self.started.elapsed().as_millis() as u64, "ready");
        }
    }

    /// Whether there may be models in the repositories that were not looked at yet.
    pub(super) fn is_starting(&self) -> bool {
        self.plane.health.phase() == Phase::Starting
    }

    /// The value, or a line in the log: a store that can't be read or written must not stop what serves.
    pub(super) fn logged<T, E: std::fmt::Display>(&self, doing: &str, result: Result<T, E>) -> Option<T> {
        result.inspect_err(|cause| tracing::error!(%cause, doing, "the state in the data directory failed")).ok()
    }
}
