//! Every model of `tests/zoo` against the outputs that ONNX Runtime gave for it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::{MAX_CONCRETE_PLANS, TractEngine};
use crate::engine::closeness::is_close;
use crate::engine::testing::{check_recorded, examples, folders, inputs, zoo};
use crate::engine::{Engine, LoadError, Model, RunError};
use crate::signature::{Batching, Dim};
use crate::tensor::{DataType, Tensor};

/// Models whose rows mix, or that have none. `digits_cnn_int8_dyn` quantizes by the range of the whole batch.
const UNPROVEN: [&str; 8] = [
    "batch_unsafe_meansub",
    "batch_unsafe_softmax0",
    "digits_cnn_int8_dyn",
    "fixed_batch4",
    "if_dynamic",
    "loop_while",
    "nms",
    "scalar_poly",
];

#[test]
fn every_model_agrees_with_its_recorded_outputs() {
    let engine = TractEngine::new();
    let mut faults = vec![];
    for folder in folders() {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let loaded = engine.load(&folder.join("model.onnx")).map_err(|error| error.to_string());
        let checked = loaded.and_then(|model| check_model(&name, &model, &folder));
        faults.extend(checked.err().map(|fault| format!("{name}: {fault}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn outputs_carry_the_shapes_that_runs_have_shown() {
    let dims = |name: &str, output: &str| load(name).signature().output(output).unwrap().dims.clone().unwrap();
    let batch = || Dim::Named("N".into());
    assert_eq!(dims("cancer_lightgbm", "label"), [batch()], "declared as [1]");
    assert_eq!(dims("iris_logreg_zipmap", "output_probability"), [batch(), Dim::Fixed(3)]);
    assert_eq!(dims("digits_cnn_v2", "probabilities"), [batch(), Dim::Fixed(10)]);
}

#[test]
fn a_session_answers_the_same_however_often_it_ran_before() {
    for name in ["gru_stateful", "silero_vad_op18_ifless"] {
        let model = load(name);
        let (_, example) = examples(&zoo().join(name)).remove(0);
        let inputs = inputs(&model, &example).unwrap();
        let fresh = model.clone().session().run(&inputs, &|| false).unwrap().tensors;
        let mut session = model.clone().session();
        for _ in 0..3 {
            assert_eq!(session.run(&inputs, &|| false).unwrap().tensors, fresh, "{name}");
        }
    }
}

#[test]
fn any_batch_size_runs_and_nothing_in_gives_nothing_out() {
    for name in ["digits_cnn_v1", "iris_logreg", "gather_may_fail", "gru_stateful", "string_identity", "wine_rf"] {
        let model = load(name);
        let signature = model.signature();
        let Batching::Proven(axes) = &signature.batching else { panic!("{name} is not proven") };
        for rows in [0usize, 1, 2, 7, 33] {
            let shape = |dims: &[Dim], axis: &Option<usize>| -> Vec<usize> {
                let size = |(at, dim): (usize, &Dim)| match dim {
                    _ if *axis == Some(at) => rows,
                    Dim::Fixed(size) => *size,
                    _ => 4,
                };
                dims.iter().enumerate().map(size).collect()
            };
            let inputs: Vec<Tensor> = (signature.inputs.iter().zip(&axes.inputs))
                .map(|(spec, axis)| Tensor::zeros(spec.dtype, shape(spec.dims.as_ref().unwrap(), axis)))
                .collect();
            let outputs = model.clone().session().run(&inputs, &|| false).unwrap().tensors;
            for (output, axis) in outputs.iter().zip(&axes.outputs) {
                assert_eq!(output.shape()[axis.unwrap()], rows, "{name}: {output:?}");
            }
        }
    }
}

#[test]
fn what_goes_wrong_in_a_run_stays_in_that_run() {
    let model = load("gather_may_fail");
    let mut session = model.session();
    let ids = |id: i64| [Tensor::from_elements(DataType::Int64, vec![1], &[id]).unwrap()];
    assert!(matches!(session.run(&ids(400), &|| false), Err(RunError::Failed(cause)) if cause.contains("place 400")));
    assert!(session.run(&ids(3), &|| false).is_ok());
    assert!(matches!(session.run(&ids(3), &|| true), Err(RunError::Stopped)));

    let mut text = load("string_identity").session();
    let latin1 = Tensor::from_byte_elements(vec![1, 2], &[&b"ok"[..], b"caf\xe9"]).unwrap();
    let error = text.run(&[latin1], &|| false).unwrap_err();
    assert_eq!(error, RunError::BadInput("input 's': element 1 is not UTF-8 text".into()));
}

/// What the measurement of batch sizes runs.
#[test]
fn made_up_inputs_of_any_size_run() {
    for name in ["codelang_v2", "gather_may_fail", "gru_stateful", "iris_logreg", "silero_vad_op18_ifless", "wine_rf"] {
        let model = load(name);
        for rows in [1, 2, 5] {
            let inputs = model.sample_inputs(rows);
            assert_eq!(model.signature().batch_size(&inputs), rows, "{name}");
            model.clone().session().run(&inputs, &|| false).unwrap_or_else(|error| panic!("{name}, {rows}: {error}"));
        }
    }
    let unproven = load("batch_unsafe_meansub");
    assert_eq!(unproven.sample_inputs(7), unproven.sample_inputs(1), "there is no axis for more rows");
}

#[test]
fn sessions_share_their_plans_and_run_side_by_side() {
    let model = load("superres_dynamic_hw");
    let image = |size: usize| [Tensor::zeros(DataType::Fp32, vec![1, 1, size, size])];
    std::thread::scope(|scope| {
        let runner = |_| {
            let mut session = model.clone().session();
            scope.spawn(move || {
                (8..14).map(|size| session.run(&image(size), &|| false).unwrap().tensors).collect::<Vec<_>>()
            })
        };
        let runners: Vec<_> = (0..4).map(runner).collect();
        let outputs: Vec<_> = runners.into_iter().map(|runner| runner.join().unwrap()).collect();
        let same =
            |output: &Vec<Vec<Tensor>>| output.iter().zip(&outputs[0]).all(|(a, b)| is_close(&a[0], &b[0], 1e-5));
        assert!(outputs.iter().all(same));
    });
}

#[test]
fn plans_are_bounded_however_many_shapes_come() {
    let model = TractEngine::new().prepared(&zoo().join("superres_dynamic_hw/model.onnx")).unwrap();
    for size in 8..40 {
        let image = Tensor::zeros(DataType::Fp32, vec![1, 1, size, size]);
        for _ in 0..3 {
            model.run(std::slice::from_ref(&image), &|| false).unwrap();
        }
    }
    assert!(model.plans.concrete() <= MAX_CONCRETE_PLANS + 1, "{} plans", model.plans.concrete());
}

#[test]
fn files_that_are_no_models_are_refused_without_their_path() {
    let folder = std::env::temp_dir().join(format!("headgate-bad-models-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let whole = fs::read(zoo().join("digits_cnn_v1/model.onnx")).unwrap();
    let cases =
        [("empty", vec![]), ("noise", b"not a model at all".to_vec()), ("cut", whole[..whole.len() / 2].to_vec())];
    for (name, bytes) in cases {
        let path = folder.join(format!("{name}.onnx"));
        fs::write(&path, bytes).unwrap();
        let error = TractEngine::new().load(&path).err().unwrap();
        assert!(matches!(error, LoadError::Invalid(_)), "{name}: {error:?}");
        assert!(!error.to_string().contains(folder.to_str().unwrap()), "{error}");
    }
    let gone = TractEngine::new().load(&folder.join("gone.onnx")).err().unwrap();
    assert!(matches!(gone, LoadError::Unreadable(_)), "{gone:?}");
    fs::remove_dir_all(folder).unwrap();
}

fn check_model(name: &str, model: &Arc<dyn Model>, folder: &Path) -> Result<(), String> {
    let proven = matches!(model.signature().batching, Batching::Proven(_));
    if proven == UNPROVEN.contains(&name) {
        return Err(format!("{:?}", model.signature().batching));
    }
    check_recorded(model, folder)
}

fn load(name: &str) -> Arc<dyn Model> {
    TractEngine::new().load(&zoo().join(name).join("model.onnx")).unwrap()
}
