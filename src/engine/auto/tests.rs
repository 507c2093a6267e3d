//! Who answers, with engines whose models are functions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::engine::fake::FakeModel;
use crate::engine::{MissingOperator, RunError};
use crate::tensor::{DataType, Tensor};

/// An engine that has one model, or one refusal.
struct Fixed(Result<Arc<dyn Model>, LoadError>);

impl Engine for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn load(&self, _: &Path) -> Result<Arc<dyn Model>, LoadError> {
        self.0.clone()
    }
}

fn scaled(factor: f32) -> FakeModel {
    FakeModel::identity(2).with_function(move |inputs| {
        let values: Vec<f32> = inputs[0].elements::<f32>().map(|value| value * factor).collect();
        Ok(vec![Tensor::from_elements(DataType::Fp32, inputs[0].shape().to_vec(), &values).unwrap()])
    })
}

fn takes(model: FakeModel) -> Result<Arc<dyn Model>, LoadError> {
    Ok(Arc::new(model))
}

fn lacks(name: &str) -> Result<Arc<dyn Model>, LoadError> {
    let missing = vec![MissingOperator { domain: "ai.onnx".into(), name: name.into(), opset: 17, nodes: 2 }];
    Err(LoadError::MissingOperators { engine: "tract", missing })
}

fn refuses(cause: &str) -> Result<Arc<dyn Model>, LoadError> {
    Err(LoadError::Unsupported { engine: "onnxruntime", cause: cause.into() })
}

fn engine(tract: Result<Arc<dyn Model>, LoadError>, onnxruntime: Result<Arc<dyn Model>, LoadError>) -> AutoEngine {
    AutoEngine::of(Arc::new(Fixed(tract)), Ok(Arc::new(Fixed(onnxruntime))))
}

fn load(engine: &AutoEngine) -> Arc<dyn Model> {
    engine.load(Path::new("model.onnx")).unwrap()
}

/// What the model makes of ones.
fn answer(model: &Arc<dyn Model>) -> f32 {
    let ones = Tensor::from_elements(DataType::Fp32, vec![1, 2], &[1f32, 1.0]).unwrap();
    model.clone().session().run(&[ones], &|| false).unwrap().tensors[0].elements::<f32>().next().unwrap()
}

#[test]
fn a_model_that_one_engine_refuses_runs_on_the_other_and_says_why() {
    let model = load(&engine(lacks("Loop"), takes(scaled(2.0))));
    assert_eq!(answer(&model), 2.0);
    let note = &model.notes()[0];
    assert!(
        note.starts_with("runs on onnxruntime: the other engine refuses it: ")
            && note.contains("ai.onnx.Loop (opset 17, 2 nodes)"),
        "{note}"
    );

    let model = load(&engine(takes(scaled(3.0)), refuses("no kernel")));
    assert_eq!(answer(&model), 3.0);
    assert!(
        model.notes()[0].starts_with("runs on tract: the other engine refuses it: ")
            && model.notes()[0].contains("no kernel")
    );
    assert_eq!(model.choose_engine(None), None, "there is nothing to choose");
}

#[test]
fn a_model_that_neither_runs_is_refused_in_both_engines_words() {
    let text = engine(lacks("Loop"), refuses("Loop is not registered")).load(Path::new("m")).err().unwrap().to_string();
    for part in ["the tract engine lacks operators: ai.onnx.Loop (opset 17, 2 nodes)", "Loop is not registered"] {
        assert!(text.contains(part), "{text}");
    }
    let alone = AutoEngine::of(Arc::new(Fixed(lacks("Loop"))), Err("ONNX Runtime is not there".into()));
    let text = alone.load(Path::new("m")).err().unwrap().to_string();
    assert!(text.contains("ai.onnx.Loop") && text.ends_with("ONNX Runtime is not there"), "{text}");
    let broken = engine(Err(LoadError::Invalid("no protobuf".into())), takes(scaled(1.0)));
    assert_eq!(broken.load(Path::new("m")).err(), Some(LoadError::Invalid("no protobuf".into())));
}

#[test]
fn engines_that_differ_leave_it_to_recordings_and_else_to_onnx_runtime() {
    let differing = || engine(takes(scaled(2.0)), takes(scaled(3.0)));
    let model = load(&differing());
    assert_eq!(answer(&model), 3.0);
    assert!(model.notes()[0].contains("the engines differ: output 'y'"), "{:?}", model.notes());
    let judge = |model: &Arc<dyn Model>| Some(answer(model) == 2.0);
    let terms = LoadTerms { choice: EngineChoice::Auto, judge: &judge };
    let model = differing().load_on(Path::new("m"), &terms).unwrap();
    assert_eq!(answer(&model), 2.0);
    assert!(model.notes()[0].starts_with("runs on tract: "));
}

#[test]
fn engines_that_fail_on_all_that_is_made_up_are_not_taken_to_agree() {
    let failing = || takes(FakeModel::identity(2).failing(RunError::Failed("no".into())));
    let model = load(&engine(failing(), failing()));
    assert!(
        model.notes()[0].starts_with("runs on onnxruntime: the engines could not be compared"),
        "{:?}",
        model.notes()
    );
}

#[test]
fn the_faster_engine_runs_once_it_is_measured_and_the_other_is_let_go() {
    let slow = Arc::new(scaled(2.0).delayed(Duration::from_millis(2)));
    let weak = Arc::downgrade(&slow);
    let auto = engine(Ok(slow), takes(scaled(2.0).delayed(Duration::from_micros(20))));
    let model = load(&auto);
    drop(auto);
    assert_eq!(model.notes(), Vec::<String>::new(), "nothing is known before it is measured");
    let times = model.choose_engine(None).unwrap();
    assert!(times.len() > 1 && times[0].tract_s.unwrap() > times[0].onnxruntime_s.unwrap(), "{times:?}");
    assert!(weak.upgrade().is_none(), "its memory is given back");
    assert!(model.notes()[0].starts_with("runs on onnxruntime; µs a run by rows, tract/onnxruntime: 1: "));
    assert_eq!(answer(&model), 2.0);
    assert_eq!(model.choose_engine(None), Some(times), "it is not measured again");
}

#[test]
fn times_that_were_kept_are_not_measured_again() {
    let counted = Arc::new(scaled(2.0));
    let model = load(&engine(Ok(counted.clone()), takes(scaled(2.0))));
    let runs = counted.runs();
    let time =
        |rows, tract_s, onnxruntime_s| EngineTime { rows, tract_s: Some(tract_s), onnxruntime_s: Some(onnxruntime_s) };
    let kept = [time(1, 1e-5, 2e-5), time(2, 4e-5, 2e-5)];
    assert_eq!(model.choose_engine(Some(&kept)), Some(kept.to_vec()));
    assert_eq!(counted.runs(), runs);
    assert!(model.notes()[0].starts_with("runs on tract for 1 row, onnxruntime from 2 rows on"), "{:?}", model.notes());
    assert_eq!(answer(&model), 2.0);
    assert_eq!(counted.runs(), runs + 1, "one row runs on tract");
    let poisoned = Tensor::from_elements(DataType::Fp32, vec![3, 2], &[f32::NAN; 6]).unwrap();
    model.clone().session().run(&[poisoned], &|| false).unwrap();
    assert_eq!(counted.runs(), runs + 2, "what is not finite runs where one row runs");
    let broken = load(&engine(takes(scaled(2.0)), takes(scaled(2.0)))).choose_engine(Some(&[]));
    assert!(broken.is_some_and(|times| !times.is_empty()), "what is no measurement is measured");
}

#[test]
fn a_pinned_model_runs_where_it_is_pinned_to_or_not_at_all() {
    let auto = engine(takes(scaled(2.0)), takes(scaled(3.0)));
    let on = |auto: &AutoEngine, choice| auto.load_on(Path::new("m"), &LoadTerms { choice, judge: &|_| None });
    assert_eq!(answer(&on(&auto, EngineChoice::Tract).unwrap()), 2.0);
    assert_eq!(answer(&on(&auto, EngineChoice::OnnxRuntime).unwrap()), 3.0);
    let alone = AutoEngine::of(Arc::new(Fixed(takes(scaled(2.0)))), Err("ONNX Runtime is not there".into()));
    let text = on(&alone, EngineChoice::OnnxRuntime).err().unwrap().to_string();
    assert_eq!(text, "model.yaml says `engine: onnxruntime`. ONNX Runtime is not there");
}

/// An engine that counts its loads.
struct Counted(AtomicUsize, f32, Duration);

impl Engine for Counted {
    fn name(&self) -> &'static str {
        "counted"
    }

    fn load(&self, _: &Path) -> Result<Arc<dyn Model>, LoadError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        takes(scaled(self.1).delayed(self.2))
    }
}

#[test]
fn a_file_that_comes_back_is_loaded_on_the_engine_that_was_settled_on() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let of = |factor, micros| Arc::new(Counted(AtomicUsize::new(0), factor, Duration::from_micros(micros)));
    let (tract, onnxruntime) = (of(2.0, 2000), of(2.0, 10));
    let auto = AutoEngine::of(tract.clone(), Ok(onnxruntime.clone()));
    let loads = || (tract.0.load(Ordering::SeqCst), onnxruntime.0.load(Ordering::SeqCst));
    let times = auto.load(file.path()).unwrap().choose_engine(None);
    assert_eq!(loads(), (1, 1));
    let again = auto.load(file.path()).unwrap();
    assert_eq!(loads(), (1, 2));
    assert_eq!((again.engine_times(), again.choose_engine(None)), (times.clone().unwrap(), times));
    std::fs::write(file.path(), b"another").unwrap();
    auto.load(file.path()).unwrap();
    assert_eq!(loads(), (2, 3), "another file is settled anew");
}
