//! Versions that are in service without being in memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::FutureExt;

use super::*;
use crate::engine::fake::Gate;
use crate::engine::{LoadError, Model};
use crate::error::Result;
use crate::inference::{Deadline, ModelRef};
use crate::routing::Backend;

const LAZY: &str = "load: lazy";

/// Counts loads, and holds them at a gate.
struct Counting {
    loads: AtomicUsize,
    gate: Arc<Gate>,
}

impl Engine for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn load(&self, path: &Path) -> Result<Arc<dyn Model>, LoadError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.gate.pass();
        TractEngine::new().load(path)
    }
}

/// A repository of lazy models in poll mode.
struct Lazy {
    fixture: Fixture,
    engine: Arc<Counting>,
}

impl Lazy {
    /// Serves these zoo models, each as version 1 of its own name.
    async fn of(models: &[&str], residency: ResidencyConfig) -> Self {
        let lazy = Self::held(models, residency).await;
        lazy.engine.gate.open();
        lazy
    }

    /// The same; loads wait until the gate is opened.
    async fn held(models: &[&str], residency: ResidencyConfig) -> Self {
        let root = tempfile::tempdir().unwrap();
        let records = Arc::new(Records::open(Arc::new(MemoryStore::default())).unwrap());
        let engine = Arc::new(Counting { loads: AtomicUsize::new(0), gate: Gate::shut() });
        let fixture = Fixture::with(root, records, ModelControlMode::Poll, (residency, engine.clone()));
        for model in models {
            fixture.write(&format!("{model}/model.yaml"), LAZY);
            fixture.add(model, &format!("{model}/1"));
        }
        let lazy = Self { fixture, engine };
        for model in models {
            lazy.reaches(model, 1, State::Cold).await;
        }
        lazy
    }

    async fn reaches(&self, model: &str, version: u64, state: State) -> Arc<ModelEntry> {
        self.fixture.until(model, |entry| Fixture::state(entry, version) == Some(state)).await
    }

    /// Routes a request, which waits for a version that is cold.
    async fn route(&self, model: &str) -> Result<Arc<Backend>> {
        self.fixture.plane.route(&ModelRef::parse(model, "").unwrap(), Deadline::NONE).await
    }

    /// As a request would that was answered now.
    async fn use_now(&self, model: &str) {
        self.route(model).await.unwrap().servable.stats.used(Instant::now());
    }

    fn loads(&self) -> usize {
        self.engine.loads.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_lazy_version_is_in_service_and_loaded_once_for_all_who_ask() {
    let lazy = Lazy::held(&["iris_logreg"], KEEP_ALL).await;
    let entry = lazy.fixture.until("iris_logreg", |entry| entry.default == Some(1)).await;
    assert_eq!((entry.backends.len(), lazy.loads()), (0, 0));
    assert_eq!(entry.statuses[&1].reason, "cold: loaded at its first request");

    let mut asked: Vec<_> = (0..8).map(|_| Box::pin(lazy.route("iris_logreg"))).collect();
    for request in &mut asked {
        assert!(request.as_mut().now_or_never().is_none(), "it waits for the load");
    }
    // Whoever leaves takes nothing with them.
    asked.pop();
    lazy.engine.gate.open();
    let mut backends = vec![];
    for request in asked {
        backends.push(request.await.unwrap());
    }
    assert!(backends.iter().all(|backend| Arc::ptr_eq(backend, &backends[0])));
    assert_eq!(lazy.loads(), 1);
    lazy.reaches("iris_logreg", 1, State::Ready).await;
}

#[tokio::test]
async fn those_beyond_the_queues_size_are_refused_while_a_version_is_loaded() {
    let lazy = Lazy::held(&["iris_logreg"], KEEP_ALL).await;
    let mut asked: Vec<_> = (0..8).map(|_| Box::pin(lazy.route("iris_logreg"))).collect();
    for request in &mut asked {
        assert!(request.as_mut().now_or_never().is_none());
    }
    // The fixture's queues hold eight.
    let refusal = lazy.route("iris_logreg").await.unwrap_err();
    assert!(matches!(&refusal, Error::Overloaded(overload) if (overload.depth, overload.limit) == (8, 8)), "{refusal}");
    lazy.engine.gate.open();
    for request in asked {
        request.await.unwrap();
    }
}

#[tokio::test]
async fn a_request_waits_no_longer_than_its_deadline() {
    let lazy = Lazy::held(&["iris_logreg"], KEEP_ALL).await;
    let model = ModelRef::parse("iris_logreg", "").unwrap();
    let deadline = Deadline::after(Instant::now(), Duration::from_millis(20));
    let late = lazy.fixture.plane.route(&model, deadline).await.unwrap_err();
    assert_eq!(late.to_string(), "Request timeout expired while the model was loaded");
    // The load goes on, and serves the next.
    lazy.engine.gate.open();
    lazy.route("iris_logreg").await.unwrap();
    assert_eq!(lazy.loads(), 1);
}

#[tokio::test]
async fn a_request_without_a_deadline_does_not_wait_for_ever() {
    let soon = ResidencyConfig { cold_start_timeout: Duration::from_millis(20), ..KEEP_ALL };
    let lazy = Lazy::held(&["iris_logreg"], soon).await;
    let refusal = lazy.route("iris_logreg").await.unwrap_err();
    assert_eq!(refusal.to_string(), "model 'iris_logreg' is cold and could not be loaded within 0.02 s");
    lazy.engine.gate.open();
}

#[tokio::test]
async fn a_load_that_fails_tells_all_who_wait_and_is_not_tried_again() {
    let lazy = Lazy::of(&[], KEEP_ALL).await;
    lazy.fixture.write("iris/model.yaml", LAZY);
    lazy.fixture.write("iris/1/model.onnx", b"this is no model");
    lazy.reaches("iris", 1, State::Cold).await;
    for _ in 0..3 {
        let refusal = lazy.route("iris").await.unwrap_err();
        assert!(matches!(refusal, Error::NoVersions { .. }), "{refusal}");
        assert!(refusal.to_string().contains("version 1 failed: not a valid ONNX model"), "{refusal}");
    }
    assert_eq!(lazy.loads(), 1);
    assert_eq!(lazy.fixture.plane.serving.load().model("iris").unwrap().default, None);
}

/// Lets go of what was not used for a moment.
const SHORT: ResidencyConfig = ResidencyConfig { idle_unload: Some(Duration::from_millis(50)), ..KEEP_ALL };

impl Lazy {
    /// Loads another model and waits until it is let go: what was to be let go before is gone by then.
    async fn another_is_let_go(&self) {
        self.use_now("scalar_poly").await;
        self.reaches("scalar_poly", 1, State::Cold).await;
    }
}

#[tokio::test]
async fn a_version_that_is_not_used_is_let_go_and_comes_back_with_its_counters() {
    let lazy = Lazy::of(&["iris_logreg", "scalar_poly"], SHORT).await;
    let stats = lazy.route("iris_logreg").await.unwrap().servable.stats.clone();
    let entry = lazy.reaches("iris_logreg", 1, State::Cold).await;
    assert_eq!(entry.statuses[&1].reason, "cold: let go, loaded again at its next request");
    assert!(entry.backends.is_empty());
    // A request in flight holds it.
    stats.pending.fetch_add(1, Ordering::SeqCst);
    let again = lazy.route("iris_logreg").await.unwrap();
    assert!(Arc::ptr_eq(&again.servable.stats, &stats));
    lazy.another_is_let_go().await;
    assert!(Arc::ptr_eq(&again, &lazy.route("iris_logreg").await.unwrap()));
    stats.pending.fetch_sub(1, Ordering::SeqCst);
    lazy.reaches("iris_logreg", 1, State::Cold).await;
}

#[tokio::test]
async fn an_eager_version_is_let_go_unless_its_settings_say_never() {
    let lazy = Lazy::of(&["scalar_poly"], SHORT).await;
    lazy.fixture.write("always/model.yaml", "idle_unload: never");
    lazy.fixture.add("iris_logreg", "always/1");
    let entry = lazy.reaches("always", 1, State::Ready).await;
    lazy.fixture.add("iris_logreg", "seldom/1");
    lazy.reaches("seldom", 1, State::Cold).await;
    lazy.another_is_let_go().await;
    assert!(Arc::ptr_eq(&entry.backends[&1], &lazy.route("always").await.unwrap()));
}

#[tokio::test]
async fn a_version_whose_files_are_gone_is_not_let_go() {
    let lazy = Lazy::of(&["iris_logreg", "scalar_poly"], SHORT).await;
    let backend = lazy.route("iris_logreg").await.unwrap();
    backend.servable.stats.pending.fetch_add(1, Ordering::SeqCst);
    fs::remove_dir_all(lazy.fixture.root.path().join("iris_logreg/1")).unwrap();
    let gone = |entry: &ModelEntry| entry.statuses.get(&1).is_some_and(|s| s.reason.contains("its folder is gone"));
    lazy.fixture.until("iris_logreg", gone).await;
    backend.servable.stats.pending.fetch_sub(1, Ordering::SeqCst);
    lazy.another_is_let_go().await;
    assert!(Arc::ptr_eq(&backend, &lazy.route("iris_logreg").await.unwrap()));
}

#[tokio::test]
async fn over_the_limit_of_memory_the_least_recently_used_goes() {
    let models = ["iris_logreg", "iris_gnb", "scalar_poly"];
    let unlimited = Lazy::of(&models, KEEP_ALL).await;
    let mut limit = 0;
    for model in models {
        limit += unlimited.route(model).await.unwrap().servable.memory_bytes();
    }
    // One byte too few for all three.
    let lazy = Lazy::of(&models, ResidencyConfig { max_memory_bytes: Some(limit - 1), ..KEEP_ALL }).await;
    for model in ["iris_logreg", "iris_gnb", "iris_logreg", "scalar_poly"] {
        lazy.use_now(model).await;
    }
    lazy.reaches("iris_gnb", 1, State::Cold).await;
    for model in ["iris_logreg", "scalar_poly"] {
        lazy.reaches(model, 1, State::Ready).await;
    }
}

#[tokio::test]
async fn a_new_version_of_a_cold_model_is_cold_and_of_a_loaded_one_loaded_first() {
    let lazy = Lazy::of(&["digits_cnn_v1"], KEEP_ALL).await;
    let (model, fixture) = ("digits_cnn_v1", &lazy.fixture);
    fixture.add("digits_cnn_v2", "digits_cnn_v1/2");
    let entry = fixture.until(model, |entry| entry.default == Some(2)).await;
    assert_eq!((Fixture::state(&entry, 2), lazy.loads()), (Some(State::Cold), 0));
    assert_eq!(Fixture::state(&entry, 1), Some(State::Unloaded));

    lazy.route(model).await.unwrap();
    fixture.add("digits_cnn_v1", "digits_cnn_v1/3");
    let entry = fixture.until(model, |entry| entry.default == Some(3)).await;
    assert_eq!(Fixture::state(&entry, 3), Some(State::Ready), "no request waits for it");
    // One that can't be loaded never answers.
    fixture.write("digits_cnn_v1/4/model.onnx", b"this is no model");
    let entry = lazy.reaches(model, 4, State::Failed).await;
    assert_eq!((entry.default, Fixture::state(&entry, 3)), (Some(3), Some(State::Ready)));
}

#[tokio::test]
async fn a_cold_version_that_fails_makes_way_for_the_one_before() {
    let lazy = Lazy::of(&["iris_logreg"], KEEP_ALL).await;
    lazy.fixture.write("iris_logreg/2/model.onnx", b"this is no model");
    lazy.fixture.until("iris_logreg", |entry| entry.default == Some(2)).await;
    let backend = lazy.route("iris_logreg").await.unwrap();
    assert_eq!(backend.servable.id.version, 1, "the request that woke it is answered by the other");
    lazy.reaches("iris_logreg", 2, State::Failed).await;
}

#[tokio::test]
async fn a_label_moves_to_a_cold_version_once_it_is_loaded() {
    let lazy = Lazy::of(&[], KEEP_ALL).await;
    let fixture = &lazy.fixture;
    fixture.write("iris/model.yaml", "load: lazy\nversion_policy: {all: {}}\nlabels: {stable: 1}");
    fixture.add("iris_logreg", "iris/1");
    fixture.add("iris_gnb", "iris/2");
    fixture.write("iris/3/model.onnx", b"this is no model");
    fixture.until("iris", |entry| entry.default == Some(1) && entry.cold.len() == 3).await;
    fixture.manager.set_label("iris", "stable", Some(2)).await.unwrap();
    let entry = fixture.until("iris", |entry| entry.default == Some(2)).await;
    assert_eq!((Fixture::state(&entry, 1), Fixture::state(&entry, 2)), (Some(State::Cold), Some(State::Ready)));
    let refusal = fixture.manager.set_label("iris", "stable", Some(3)).await.unwrap_err();
    assert!(refusal.to_string().contains("not a valid ONNX model"), "{refusal}");
    assert_eq!(fixture.plane.serving.load().model("iris").unwrap().default, Some(2));
}

#[tokio::test]
async fn commands_and_settings_load_a_lazy_model_now() {
    let lazy = Lazy::of(&["iris_logreg", "iris_gnb"], KEEP_ALL).await;
    lazy.fixture.manager.load("iris_logreg").await.unwrap();
    lazy.reaches("iris_logreg", 1, State::Ready).await;
    lazy.fixture.manager.unload("iris_logreg").await.unwrap();
    lazy.reaches("iris_logreg", 1, State::Unloaded).await;
    assert!(matches!(lazy.route("iris_logreg").await, Err(Error::NoVersions { .. })));
    lazy.fixture.manager.unload("iris_gnb").await.unwrap();
    let entry = lazy.reaches("iris_gnb", 1, State::Unloaded).await;
    assert!(entry.cold.is_empty());
    lazy.fixture.manager.load("iris_gnb").await.unwrap();
    lazy.reaches("iris_gnb", 1, State::Ready).await;

    let lazy = Lazy::of(&["iris_logreg"], KEEP_ALL).await;
    lazy.fixture.write("iris_logreg/model.yaml", "load: eager");
    lazy.reaches("iris_logreg", 1, State::Ready).await;
}
