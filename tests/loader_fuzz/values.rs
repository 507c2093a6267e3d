//! Values of a client that ask for too much. A model that takes such values fails that one request and answers the next.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use headgate::engine::tract::TractEngine;
use headgate::engine::{Engine, Model as Loaded};
use headgate::tensor::{DataType, Tensor};

use super::models::{FLOAT, INT64, Model};
use super::{alone, case, memory};

/// Most bytes of one allocation for a request.
const MOST_BYTES: usize = 256 << 20;

fn loaded(model: Model) -> Arc<dyn Loaded> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    fs::write(&path, model.bytes()).unwrap();
    TractEngine::new().load(&path).unwrap_or_else(|error| panic!("{error}"))
}

fn numbers(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::from_elements(DataType::Int64, shape.to_vec(), values).unwrap()
}

/// Runs the model on `x` (where it has one) and on these values: good ones give an answer, bad ones an error within bounds,
/// and then the good ones an answer again.
#[track_caller]
fn bounded(model: Model, shape: &[usize], good: &[i64], bad: &[&[i64]]) {
    let _alone = alone();
    let model = loaded(model);
    let run = |values: &[i64]| {
        let shape = if shape.is_empty() { vec![] } else { vec![values.len()] };
        let fill = |spec: &headgate::signature::TensorSpec| match spec.dtype {
            DataType::Int64 if spec.name == "s" => numbers(&shape, values),
            _ => {
                let input = model.signature().inputs.iter().position(|input| input.name == spec.name).unwrap();
                model.sample_inputs(1).swap_remove(input)
            }
        };
        let inputs: Vec<Tensor> = model.signature().inputs.iter().map(fill).collect();
        let (held, begun) = (memory::begin(), Instant::now());
        let ran = model.clone().session().run(&inputs, &|| false);
        let allocated = memory::end(held);
        assert!(begun.elapsed() < case::MOST_TIME, "{values:?} took {:?}", begun.elapsed());
        assert!(allocated.largest <= MOST_BYTES, "{values:?} allocated {allocated:?}");
        ran
    };
    run(good).unwrap_or_else(|error| panic!("{good:?}: {error}"));
    for values in bad {
        assert!(run(values).is_err(), "{values:?} gave an answer");
    }
    run(good).unwrap();
}

fn shaped() -> Model {
    Model::new().input("x", FLOAT, &[2, 3]).input("s", INT64, &[2])
}

#[test]
fn the_shape_of_a_constant_is_bounded() {
    let model = shaped().node("c = ConstantOfShape(s)").node("y = Add(x, c)");
    bounded(model, &[2], &[2, 3], &[&[1 << 16, 1 << 20], &[-1, 3], &[i64::MAX, i64::MAX]]);
}

#[test]
fn a_range_is_bounded() {
    let model = || Model::new().input("s", INT64, &[]).number("a", 0).number("d", 1).node("r = Range(a, s, d)");
    let known = model().node("y = Cast(r)").int("to", 1);
    bounded(known, &[], &[5], &[&[1 << 33], &[i64::MAX]]);
}

#[test]
fn what_grows_a_tensor_is_bounded() {
    for op_type in ["Expand", "Tile"] {
        let model = shaped().node(&format!("y = {op_type}(x, s)"));
        bounded(model, &[2], &[2, 1], &[&[1 << 18, 1 << 18], &[i64::MAX, 1], &[-7, 3]]);
    }
    // A shape of another length than the file says is one that only the run knows.
    let open = Model::new().input("x", FLOAT, &[3, 2, 2]).input("s", INT64, &[1]).node("y = Expand(x, s)");
    bounded(open.node("z = Expand(x, s)"), &[1], &[2], &[&[10_000_000], &[-2]]);
    let pad = Model::new().input("x", FLOAT, &[2, 3]).input("s", INT64, &[4]).node("y = Pad(x, s)");
    bounded(pad, &[4], &[0, 1, 0, 1], &[&[0, 0, 1 << 40, 0], &[1 << 16, 1 << 16, 0, 0]]);
}

#[test]
fn sizes_of_an_image_are_bounded() {
    let model = Model::new().input("x", FLOAT, &[1, 1, 4, 4]).input("s", INT64, &[4]).node("y = Resize(x, , , s)");
    bounded(model, &[4], &[1, 1, 8, 8], &[&[1, 1, 1 << 15, 1 << 15], &[1, 1, 1, 1 << 31], &[1, 1, -4, 4]]);
}

#[test]
fn the_depth_of_a_one_hot_is_bounded() {
    let model = Model::new().list("x", &[0, 0]).input("s", INT64, &[1]).floats("v", &[2], &[0.0, 1.0]);
    bounded(model.node("y = OneHot(x, s, v)"), &[1], &[3], &[&[1 << 36], &[-1], &[1 << 27]]);
}

#[test]
fn no_more_than_there_is_can_be_on_top() {
    let model = Model::new().input("x", FLOAT, &[2, 3]).input("s", INT64, &[1]).output("i", INT64);
    bounded(model.node("y i = TopK(x, s)"), &[1], &[2], &[&[4], &[1 << 33], &[-1]]);
}

#[test]
fn a_frame_is_no_longer_than_its_signal() {
    let model = Model::new().input("x", FLOAT, &[1, 128, 1]).input("s", INT64, &[]).number("d", 4);
    bounded(model.node("y = STFT(x, d, , s)"), &[], &[16], &[&[129], &[1000], &[0], &[-1], &[1 << 40]]);
}

#[test]
fn the_length_of_a_window_is_bounded() {
    let model = Model::new().input("s", INT64, &[]).node("y = HannWindow(s)");
    bounded(model, &[], &[5], &[&[1 << 33], &[-3]]);
}
