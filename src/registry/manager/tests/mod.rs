//! The manager over real files and real loads; only the child process is a script that approves of everything.

mod cold;
mod traffic;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{ClientControl, ManagerConfig, ManagerHandle, Parts, ScannerConfig, start};
use crate::config::{ModelControlMode, ResidencyConfig, ServingDefaults};
use crate::data_plane::DataPlane;
use crate::engine::Engine;
use crate::engine::tract::TractEngine;
use crate::error::Error;
use crate::registry::loader::LoaderConfig;
use crate::registry::probe::ProbeConfig;
use crate::registry::testing::write_program;
use crate::routing::ModelEntry;
use crate::servable::State;
use crate::store::MemoryStore;
use crate::store::records::Records;
use crate::testing;

/// A hundred times what anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What no test here needs: nothing is let go.
const KEEP_ALL: ResidencyConfig =
    ResidencyConfig { idle_unload: None, max_memory_bytes: None, cold_start_timeout: PATIENCE };

struct Fixture {
    root: tempfile::TempDir,
    plane: Arc<DataPlane>,
    manager: ManagerHandle,
    records: Arc<Records>,
    stop: CancellationToken,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Fixture {
    fn new(mode: ModelControlMode) -> Self {
        let root = tempfile::tempdir().unwrap();
        let records = Arc::new(Records::open(Arc::new(MemoryStore::default())).unwrap());
        Self::over(root, records, mode)
    }

    /// A manager over what another one left.
    fn over(root: tempfile::TempDir, records: Arc<Records>, mode: ModelControlMode) -> Self {
        Self::with(root, records, mode, (KEEP_ALL, Arc::new(TractEngine::new())))
    }

    fn with(
        root: tempfile::TempDir,
        records: Arc<Records>,
        mode: ModelControlMode,
        (residency, engine): (ResidencyConfig, Arc<dyn Engine>),
    ) -> Self {
        let program = root.path().join(".probe.sh");
        if !program.exists() {
            write_program(&program, "echo '{\"ok\":true}'");
        }
        let (manager, commands) = ManagerHandle::channel();
        let mut plane = testing::data_plane(&[]);
        let control = Arc::new(ClientControl::new(manager.clone(), false));
        let own = Arc::get_mut(&mut plane).expect("nobody else has it yet");
        (own.control, own.cold_start_timeout) = (control, residency.cold_start_timeout);
        let interval = (mode == ModelControlMode::Poll).then_some(Duration::from_millis(10));
        let probe = ProbeConfig { program, timeout: PATIENCE, memory_limit_bytes: 1 << 33, onnxruntime_library: None };
        let config = ManagerConfig {
            mode,
            scanner: ScannerConfig { roots: vec![root.path().to_owned()], interval, quiet: Duration::from_millis(50) },
            loader: LoaderConfig { threads: 1, probe, build: "test".to_owned() },
            serving: ServingDefaults {
                max_queue_size: 8,
                max_queue_bytes: 1 << 20,
                max_queue_wait: Duration::from_secs(60),
                cores: 1,
                workers: 1,
            },
            residency,
        };
        let stop = CancellationToken::new();
        let parts = Parts {
            plane: plane.clone(),
            engine,
            records: records.clone(),
            engine_cache: None,
            splits: vec![],
            routes: BTreeMap::new(),
            rollout_fault: |_| None,
        };
        start(config, parts, commands, stop.clone()).unwrap();
        Self { root, plane, manager, records, stop }
    }

    fn add(&self, zoo_model: &str, version: &str) {
        self.write(&format!("{version}/model.onnx"), zoo_file(&format!("{zoo_model}/model.onnx")));
    }

    /// All at once, with the folders that it needs: a look at half a file would see other settings, and one at an empty
    /// folder no model.
    fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        self.stage(file, content);
        let is_new = |folder: &&str| !self.root.path().join(folder).exists();
        let folders = file.match_indices('/').map(|(end, _)| &file[..end]);
        self.arrive(folders.clone().find(is_new).unwrap_or(file));
    }

    /// Writes a file where nothing looks.
    fn stage(&self, file: &str, content: impl AsRef<[u8]>) {
        let staged = self.root.path().join(".staged").join(file);
        fs::create_dir_all(staged.parent().unwrap()).unwrap();
        fs::write(staged, content).unwrap();
    }

    /// Moves a file or a folder from there to its place.
    fn arrive(&self, name: &str) {
        fs::rename(self.root.path().join(".staged").join(name), self.root.path().join(name)).unwrap();
    }

    /// Waits until the model is as wanted.
    async fn until(&self, model: &str, wanted: impl Fn(&ModelEntry) -> bool) -> Arc<ModelEntry> {
        let mut served = self.plane.served.subscribe();
        let reached = async {
            loop {
                if let Ok(entry) = self.plane.serving.load().model(model)
                    && wanted(entry)
                {
                    return entry.clone();
                }
                served.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(entry) => entry,
            Err(_) => panic!("never as wanted: {:?}", self.plane.serving.load().models),
        }
    }

    fn state(entry: &ModelEntry, version: u64) -> Option<State> {
        entry.statuses.get(&version).map(|status| status.state)
    }
}

fn zoo_file(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zoo").join(name)).unwrap()
}

#[tokio::test]
async fn a_new_version_takes_over_and_the_old_one_is_unloaded() {
    let fixture = Fixture::new(ModelControlMode::Poll);
    fixture.add("digits_cnn_v1", "digits/1");
    fixture.until("digits", |entry| entry.default == Some(1)).await;
    fixture.add("digits_cnn_v2", "digits/2");
    let entry = fixture.until("digits", |entry| Fixture::state(entry, 1) == Some(State::Unloaded)).await;
    assert_eq!(entry.default, Some(2));
    assert_eq!(entry.backends.keys().collect::<Vec<_>>(), [&2]);
}

#[tokio::test]
async fn a_version_in_use_drains_until_its_last_request_is_done() {
    let fixture = Fixture::new(ModelControlMode::Poll);
    fixture.add("digits_cnn_v1", "digits/1");
    let in_flight = fixture.until("digits", |entry| entry.default == Some(1)).await.backends[&1].clone();
    fixture.add("digits_cnn_v2", "digits/2");
    fixture.until("digits", |entry| Fixture::state(entry, 1) == Some(State::Draining)).await;
    drop(in_flight);
    fixture.until("digits", |entry| Fixture::state(entry, 1) == Some(State::Unloaded)).await;
}

#[tokio::test]
async fn a_version_that_fails_leaves_the_old_one_serving() {
    let fixture = Fixture::new(ModelControlMode::Poll);
    fixture.add("digits_cnn_v1", "digits/1");
    fixture.until("digits", |entry| entry.default == Some(1)).await;
    fixture.write("digits/2/model.onnx", b"this is no model");
    let entry = fixture.until("digits", |entry| Fixture::state(entry, 2) == Some(State::Failed)).await;
    assert_eq!((entry.default, Fixture::state(&entry, 1)), (Some(1), Some(State::Ready)));
    assert!(entry.statuses[&2].reason.contains("not a valid ONNX model"), "{}", entry.statuses[&2].reason);
    // Mended files are tried again, for a failure that was nobody's wrong answer.
    fixture.add("digits_cnn_v2", "digits/2");
    fixture.until("digits", |entry| entry.default == Some(2)).await;
}

#[tokio::test]
async fn a_wrong_answer_to_a_recorded_example_quarantines_the_version_across_restarts() {
    let mut fixture = Fixture::new(ModelControlMode::Poll);
    fixture.add("iris_logreg", "iris/1");
    fixture.until("iris", |entry| entry.default == Some(1)).await;
    fixture.stage("iris/2/model.onnx", zoo_file("iris_gnb/model.onnx"));
    fixture.stage("iris/2/examples/case.npz", zoo_file("iris_logreg/case_b3.npz"));
    fixture.arrive("iris/2");
    let entry = fixture.until("iris", |entry| Fixture::state(entry, 2) == Some(State::Failed)).await;
    let status = &entry.statuses[&2];
    assert!(status.quarantined);
    assert!(status.reason.contains("recorded example case.npz disagrees: output '"), "{}", status.reason);
    assert_eq!(entry.default, Some(1));

    let root = std::mem::replace(&mut fixture.root, tempfile::tempdir().unwrap());
    let again = Fixture::over(root, fixture.records.clone(), ModelControlMode::Poll);
    let entry = again.until("iris", |entry| entry.default == Some(1)).await;
    assert!(entry.statuses[&2].quarantined);
    fs::remove_dir_all(again.root.path().join("iris/2/examples")).unwrap();
    again.until("iris", |entry| Fixture::state(entry, 2) == Some(State::Failed)).await;
    again.manager.clear_quarantine("iris", 2).await.unwrap();
    again.until("iris", |entry| entry.default == Some(2)).await;
}

#[tokio::test]
async fn a_label_moves_once_its_version_is_ready_and_survives_a_restart() {
    let mut fixture = Fixture::new(ModelControlMode::Poll);
    fixture.add("digits_cnn_v1", "digits/1");
    fixture.add("digits_cnn_v2", "digits/2");
    fixture.until("digits", |entry| entry.default == Some(2)).await;
    fixture.manager.set_label("digits", "stable", Some(1)).await.unwrap();
    let entry = fixture.until("digits", |entry| entry.default == Some(1)).await;
    assert_eq!(entry.labels["stable"], 1);
    assert!(entry.backends.contains_key(&2), "the newest stays loaded beside it");
    assert!(matches!(fixture.manager.set_label("digits", "stable", Some(9)).await, Err(Error::UnknownVersion { .. })));

    let root = std::mem::replace(&mut fixture.root, tempfile::tempdir().unwrap());
    let again = Fixture::over(root, fixture.records.clone(), ModelControlMode::Poll);
    again.until("digits", |entry| entry.default == Some(1)).await;
    again.manager.set_label("digits", "stable", None).await.unwrap();
    again.until("digits", |entry| entry.default == Some(2)).await;
}

#[tokio::test]
async fn explicit_mode_loads_only_on_request() {
    let fixture = Fixture::new(ModelControlMode::Explicit);
    fixture.add("iris_logreg", "iris/1");
    fixture.manager.load("iris").await.unwrap();
    assert_eq!(fixture.plane.serving.load().model("iris").unwrap().default, Some(1));
    assert!(matches!(fixture.manager.load("nothing").await, Err(Error::UnknownModel { .. })));
    fixture.manager.unload("iris").await.unwrap();
    let entry = fixture.until("iris", |entry| Fixture::state(entry, 1) == Some(State::Unloaded)).await;
    assert!(entry.backends.is_empty());
    fixture.write("iris/2/model.onnx", b"this is no model");
    let failure = fixture.manager.load("iris").await.unwrap_err().to_string();
    assert!(failure.starts_with("failed to load 'iris', version 2: "), "{failure}");
    assert!(failure.ends_with("version 1 goes on serving"), "{failure}");
}

#[tokio::test]
async fn broken_settings_keep_the_last_good_ones() {
    let fixture = Fixture::new(ModelControlMode::Poll);
    fixture.add("digits_cnn_v1", "digits/1");
    fixture.write("digits/model.yaml", "max_batch_size: 4\n");
    let entry = fixture.until("digits", |entry| entry.default == Some(1)).await;
    assert_eq!(entry.backends[&1].servable.limits.max_batch_size, Some(4));
    fixture.write("digits/model.yaml", "max_batch_siz: 8\n");
    let entry = fixture.until("digits", |entry| !entry.fault.is_empty()).await;
    assert!(entry.fault.contains("did you mean 'max_batch_size'"), "{}", entry.fault);
    assert_eq!(entry.backends[&1].servable.limits.max_batch_size, Some(4));
    fixture.write("digits/model.yaml", "max_batch_size: 16\n");
    let limit = |entry: &ModelEntry| entry.backends.get(&1).and_then(|b| b.servable.limits.max_batch_size);
    let entry = fixture.until("digits", |entry| limit(entry) == Some(16)).await;
    assert_eq!(entry.fault, "");
}

#[tokio::test]
async fn a_model_whose_folder_is_taken_away_is_unloaded() {
    let fixture = Fixture::new(ModelControlMode::Poll);
    fixture.add("iris_logreg", "iris/1");
    fixture.add("digits_cnn_v1", "digits/1");
    fixture.until("iris", |entry| entry.default == Some(1)).await;
    fixture.until("digits", |entry| entry.default == Some(1)).await;
    fs::remove_dir_all(fixture.root.path().join("iris")).unwrap();
    let mut served = fixture.plane.served.subscribe();
    let gone = async {
        while fixture.plane.serving.load().models.contains_key("iris") {
            served.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("unloaded");
    assert_eq!(fixture.plane.serving.load().model("digits").unwrap().default, Some(1));
}

#[tokio::test]
async fn a_version_that_changes_after_it_was_loaded_is_an_alarm_and_no_reload() {
    let fixture = Fixture::new(ModelControlMode::Poll);
    fixture.add("digits_cnn_v1", "digits/1");
    let before = fixture.until("digits", |entry| entry.default == Some(1)).await;
    fixture.add("digits_cnn_v2", "digits/1");
    let entry = fixture.until("digits", |entry| !entry.statuses[&1].reason.is_empty()).await;
    assert!(entry.statuses[&1].reason.contains("'model.onnx' was changed"), "{}", entry.statuses[&1].reason);
    assert!(Arc::ptr_eq(&before.backends[&1], &entry.backends[&1]));
}

#[tokio::test]
async fn a_version_that_the_settings_name_and_nobody_has_is_told() {
    let fixture = Fixture::new(ModelControlMode::Poll);
    fixture.stage("iris/model.yaml", "version_policy: {specific: {versions: [2, 7]}}\nlabels: {old: 9}");
    fixture.add("iris_logreg", "iris/2");
    let told = |entry: &ModelEntry, there: &str| {
        let text = |who: &str| format!("{who}, which is not in the repository: it has {there}");
        [text("version_policy names version 7"), text("label 'old' names version 9")].join("; ") == entry.fault
    };
    let entry = fixture.until("iris", |entry| told(entry, "2")).await;
    assert_eq!(Fixture::state(&entry, 7), None);
    fixture.add("iris_logreg", "iris/1");
    fixture.until("iris", |entry| told(entry, "2, 1")).await;
    fixture.add("iris_logreg", "iris/7");
    fixture.until("iris", |entry| entry.fault.starts_with("label 'old' names version 9")).await;
    fixture.add("iris_logreg", "iris/9");
    fixture.until("iris", |entry| entry.fault.is_empty()).await;
}

#[tokio::test]
async fn a_version_whose_files_change_or_break_keeps_its_traffic_though_an_older_one_is_there() {
    let fixture = Fixture::new(ModelControlMode::Poll);
    fixture.add("digits_cnn_v1", "digits/1");
    fixture.until("digits", |entry| entry.default == Some(1)).await;
    fixture.add("digits_cnn_v2", "digits/2");
    let before = fixture.until("digits", |entry| Fixture::state(entry, 1) == Some(State::Unloaded)).await;
    assert_eq!(before.default, Some(2));
    let stays = |entry: &Arc<ModelEntry>| {
        assert_eq!((entry.default, Fixture::state(entry, 1)), (Some(2), Some(State::Unloaded)));
        assert!(Arc::ptr_eq(&before.backends[&2], &entry.backends[&2]));
    };
    // The same bytes, as `cp` writes them.
    let file = fixture.root.path().join("digits/2/model.onnx");
    fs::write(&file, zoo_file("digits_cnn_v2/model.onnx")).unwrap();
    stays(&fixture.until("digits", |entry| entry.statuses[&2].reason.contains("'model.onnx' was changed")).await);
    fs::remove_file(&file).unwrap();
    stays(&fixture.until("digits", |entry| entry.statuses[&2].reason.contains("'model.onnx' was removed")).await);
    // It serves until another does.
    fixture.add("digits_cnn_v1", "digits/3");
    let after = fixture.until("digits", |entry| entry.default == Some(3)).await;
    assert_eq!(Fixture::state(&after, 1), Some(State::Unloaded));
}

#[tokio::test]
async fn a_version_that_failed_for_its_settings_is_tried_again_when_they_are_mended() {
    let fixture = Fixture::new(ModelControlMode::Poll);
    fixture.write("iris/model.yaml", "class_labels: {nope: [a, b]}\n");
    fixture.add("iris_logreg", "iris/1");
    let entry = fixture.until("iris", |entry| Fixture::state(entry, 1) == Some(State::Failed)).await;
    assert!(entry.statuses[&1].reason.contains("class_labels names output 'nope'"), "{}", entry.statuses[&1].reason);
    fixture.write("iris/model.yaml", "class_labels: {probabilities: [a, b, c]}\n");
    let is_mended = |entry: &ModelEntry| {
        let labels = entry.backends.get(&1).map(|backend| &backend.servable.limits.class_labels);
        entry.default == Some(1) && labels.is_some_and(|labels| labels.contains_key("probabilities"))
    };
    fixture.until("iris", is_mended).await;
    // And settings that don't fit a version that serves are refused.
    fixture.write("iris/model.yaml", "class_labels: {nope: [a]}\n");
    let entry = fixture.until("iris", |entry| !entry.fault.is_empty()).await;
    assert!(entry.fault.contains("class_labels names output 'nope'"), "{}", entry.fault);
    assert_eq!(entry.default, Some(1));
    assert!(entry.backends[&1].servable.limits.class_labels.contains_key("probabilities"));
}

#[tokio::test]
async fn rules_of_the_log_that_fit_no_column_fail_the_version() {
    let fixture = Fixture::new(ModelControlMode::Poll);
    fixture.write("iris/model.yaml", "log: {redact: {in_Y: drop}}\n");
    fixture.add("iris_logreg", "iris/1");
    let entry = fixture.until("iris", |entry| Fixture::state(entry, 1) == Some(State::Failed)).await;
    let reason = &entry.statuses[&1].reason;
    assert!(reason.contains("log.redact names column 'in_Y'") && reason.contains("did you mean 'in_X'?"), "{reason}");
    fixture.write("iris/model.yaml", "log: {redact: {in_X: {round: 1}}}\n");
    fixture.until("iris", |entry| entry.default == Some(1)).await;
    // And rules that don't fit a version that serves are refused.
    fixture.write("iris/model.yaml", "features: {X: [one, two]}\n");
    let entry = fixture.until("iris", |entry| !entry.fault.is_empty()).await;
    assert!(entry.fault.contains("features.X has 2 names, and a row of that input has 4 elements"), "{}", entry.fault);
    assert_eq!(entry.default, Some(1));
}

#[tokio::test]
async fn a_label_can_not_move_to_a_version_of_a_model_that_is_out_of_service() {
    let fixture = Fixture::new(ModelControlMode::Poll);
    fixture.add("iris_logreg", "iris/1");
    fixture.until("iris", |entry| entry.default == Some(1)).await;
    fixture.manager.unload("iris").await.unwrap();
    let refusal = fixture.manager.set_label("iris", "stable", Some(1)).await.unwrap_err();
    assert!(refusal.to_string().contains("load it first"), "{refusal}");
    fixture.manager.load("iris").await.unwrap();
    fixture.manager.set_label("iris", "stable", Some(1)).await.unwrap();
}
