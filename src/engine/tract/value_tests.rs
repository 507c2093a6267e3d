//! Inputs whose values decide shapes, in models that the engine can't plan without them.

use std::fs;
use std::sync::Arc;

use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};

use super::TractEngine;
use crate::engine::{Engine, Model, RunError};
use crate::signature::Batching;
use crate::tensor::{DataType, Tensor};

fn info(name: &str, elem_type: i32, dims: &[i64]) -> ValueInfoProto {
    // Any size is written as one below 0, the same as the same.
    let value = |size: &i64| if *size < 0 { Value::DimParam(format!("D{}", -size)) } else { Value::DimValue(*size) };
    let dim = |size: &i64| Dimension { value: Some(value(size)), ..Default::default() };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let value = Some(type_proto::Value::TensorType(type_proto::Tensor { elem_type, shape }));
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { value, ..Default::default() }), ..Default::default() }
}

fn node(op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
    let input = inputs.iter().map(|name| (*name).to_owned()).collect();
    NodeProto { op_type: op_type.into(), input, output: vec![output.into()], ..Default::default() }
}

/// `y = op(x, s)` with `x` FP32 `[2, 6]` and `s` INT64 `[2]`.
fn model(op_type: &str) -> Arc<dyn Model> {
    model_of(vec![node(op_type, &["x", "s"], "y")])
}

/// The same of several nodes; `zero` is INT64 `[1]`.
fn model_of(nodes: Vec<NodeProto>) -> Arc<dyn Model> {
    model_with(nodes, vec![info("x", 1, &[2, 6]), info("s", 7, &[2])])
}

/// The same with these inputs.
fn model_with(nodes: Vec<NodeProto>, input: Vec<ValueInfoProto>) -> Arc<dyn Model> {
    let zero =
        TensorProto { name: "zero".into(), dims: vec![1], data_type: 7, int64_data: vec![0], ..Default::default() };
    let graph = GraphProto {
        name: "g".into(),
        node: nodes,
        initializer: vec![zero],
        input,
        output: vec![ValueInfoProto { r#type: info("y", 1, &[]).r#type, name: "y".into(), ..Default::default() }],
        ..Default::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 18 }];
    let proto = ModelProto { ir_version: 9, graph: Some(graph), opset_import, ..Default::default() };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    fs::write(&path, proto.encode_to_vec()).unwrap();
    TractEngine::new().load(&path).unwrap()
}

fn run(model: &Arc<dyn Model>, values: [i64; 2]) -> Result<Tensor, String> {
    let x: Vec<f32> = (0..12u8).map(f32::from).collect();
    let x = Tensor::from_elements(DataType::Fp32, vec![2, 6], &x).unwrap();
    let s = Tensor::from_elements(DataType::Int64, vec![2], &values).unwrap();
    let ran = model.clone().session().run(&[x, s], &|| false);
    ran.map(|mut ran| ran.tensors.remove(0)).map_err(|error| error.to_string())
}

#[test]
fn each_answer_has_the_shape_that_its_own_request_asked_for() {
    let reshape = model("Reshape");
    for (values, shape) in [([3, 4], [3, 4]), ([-1, 2], [6, 2]), ([12, 1], [12, 1]), ([3, 4], [3, 4])] {
        assert_eq!(run(&reshape, values).unwrap().shape(), shape);
    }
    let sum = run(&model("ReduceSum"), [0, 1]).unwrap();
    assert_eq!((sum.shape(), sum.elements::<f32>().next()), (&[1, 1][..], Some(66.0)));
}

#[test]
fn values_that_fit_nothing_fail_that_request_alone() {
    let reshape = model("Reshape");
    assert!(run(&reshape, [5, 5]).is_err());
    assert!(run(&reshape, [i64::MAX, i64::MAX]).is_err());
    assert_eq!(run(&reshape, [4, 3]).unwrap().shape(), [4, 3]);
    for op_type in ["Expand", "Tile"] {
        let grows = model(op_type);
        for values in [[1 << 30, 6], [i64::MAX, 6], [-7, 6]] {
            run(&grows, values).unwrap_err();
        }
        assert_eq!(run(&grows, [2, 1]).unwrap().shape()[0], if op_type == "Tile" { 4 } else { 2 });
    }
}

#[test]
fn a_value_chooses_between_branches_of_different_rank() {
    let branch = |name: &str, node: NodeProto| {
        let output = vec![info(&node.output[0], 1, &[])];
        let graph = GraphProto { name: "b".into(), node: vec![node], output, ..Default::default() };
        AttributeProto { name: name.into(), r#type: AttributeType::Graph as i32, g: Some(graph), ..Default::default() }
    };
    let mut choice = node("If", &["c"], "y");
    choice.attribute.push(branch("then_branch", node("Unsqueeze", &["x", "zero"], "t")));
    choice.attribute.push(branch("else_branch", node("Identity", &["x"], "e")));
    let model = model_of(vec![node("ReduceMax", &["s"], "m"), node("Greater", &["m", "zero"], "c"), choice]);
    assert_eq!(run(&model, [1, 0]).unwrap().shape(), [1, 2, 6]);
    assert_eq!(run(&model, [0, -1]).unwrap().shape(), [2, 6]);
    assert!(matches!(&model.signature().batching, Batching::Unproven(cause) if cause.contains("chooses")));
}

#[test]
fn an_image_that_is_smaller_than_a_window_is_its_requests_fault() {
    let kernel = AttributeProto { name: "kernel_shape".into(), ints: vec![3], ..Default::default() };
    let kernel = AttributeProto { r#type: AttributeType::Ints as i32, ..kernel };
    let pool = NodeProto { attribute: vec![kernel], ..node("MaxPool", &["x"], "y") };
    let model = model_with(vec![pool], vec![info("x", 1, &[-1, 1, -2])]);
    let run = |width: usize| {
        let x = Tensor::from_elements(DataType::Fp32, vec![1, 1, width], &vec![1f32; width]).unwrap();
        let mut session = model.clone().session();
        session.run(&[x], &|| false).map(|ran| ran.tensors[0].shape().to_vec())
    };
    assert_eq!(run(5).unwrap(), [1, 1, 3]);
    let refused = run(2).unwrap_err();
    assert!(matches!(&refused, RunError::BadInput(cause) if cause.contains("MaxPool of an image of 2")), "{refused}");
    assert_eq!(run(3).unwrap(), [1, 1, 1]);
}

#[test]
fn an_image_of_which_every_other_pixel_is_looked_at_is_measured_as_a_whole() {
    let ones = TensorProto { dims: vec![1, 1, 3], data_type: 1, float_data: vec![1.0; 3], ..Default::default() };
    let value = AttributeProto { name: "value".into(), r#type: AttributeType::Tensor as i32, ..Default::default() };
    let weights =
        NodeProto { attribute: vec![AttributeProto { t: Some(ones), ..value }], ..node("Constant", &[], "w") };
    let twos = |name: &str| AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: vec![2],
        ..Default::default()
    };
    let conv = NodeProto { attribute: vec![twos("dilations"), twos("strides")], ..node("Conv", &["x", "w"], "y") };
    let model = model_with(vec![weights, conv], vec![info("x", 1, &[-1, 1, -2])]);
    for (width, places) in [(5, 1), (7, 2), (8, 2), (9, 3)] {
        let x: Vec<f32> = (0..width).map(|pixel| pixel as f32).collect();
        let x = Tensor::from_elements(DataType::Fp32, vec![1, 1, width], &x).unwrap();
        let made = model.clone().session().run(&[x], &|| false).unwrap().tensors.remove(0);
        let expected: Vec<f32> = (0..places).map(|place| (6 * place + 6) as f32).collect();
        assert_eq!(made.elements::<f32>().collect::<Vec<f32>>(), expected, "{width}");
    }
}

/// Where tract takes for granted that sizes that it doesn't know are large enough.
#[test]
fn a_slice_may_reach_beyond_an_axis_of_any_size() {
    let attribute = |name: &str, kind| AttributeProto { name: name.into(), r#type: kind, ..Default::default() };
    let bound = |name: &str, value: i64| {
        let of_int = AttributeProto { ints: vec![value], ..attribute("value_ints", AttributeType::Ints as i32) };
        NodeProto { attribute: vec![of_int], ..node("Constant", &[], name) }
    };
    for (from, to) in [(0, 3), (1, 3), (-2, i64::MAX), (3, i64::MAX), (0, -1)] {
        let nodes = [bound("from", from), bound("to", to), bound("axis", 1)];
        let nodes = nodes.into_iter().chain([node("Slice", &["x", "from", "to", "axis"], "y")]).collect();
        let model = model_with(nodes, vec![info("x", 1, &[-1, -2])]);
        for length in [5, 2, 1, 0, 4, 2] {
            let row: Vec<f32> = (0..length).map(|at| at as f32).collect();
            let x = Tensor::from_elements(DataType::Fp32, vec![1, length as usize], &row).unwrap();
            let made = model.clone().session().run(&[x], &|| false).unwrap().tensors.remove(0);
            let place = |bound: i64| (if bound < 0 { bound + length } else { bound }).clamp(0, length) as usize;
            let expected = row.get(place(from)..place(to)).unwrap_or_default();
            assert_eq!(made.elements::<f32>().collect::<Vec<f32>>(), expected, "{from}..{to} of {length}");
        }
    }
}

#[test]
fn what_is_not_a_number_stays_none() {
    let numbers = |values: &[f32]| Tensor::from_elements(DataType::Fp32, vec![values.len(), 1], values).unwrap();
    let answer = |nodes: Vec<NodeProto>| {
        let model = model_with(nodes, vec![info("x", 1, &[-1, 1]), info("s", 1, &[-1, 1])]);
        let inputs = [numbers(&[f32::NAN, 1.0, -1.0]), numbers(&[2.0, f32::NAN, 0.0])];
        let ran = model.clone().session().run(&inputs, &|| false).unwrap();
        ran.tensors[0].elements::<f32>().map(f32::is_nan).collect::<Vec<bool>>()
    };
    let bounded = ["Relu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Softsign", "Erf"];
    for op_type in bounded.into_iter().chain(["Celu", "Elu", "Exp", "LeakyRelu", "Mish", "Selu", "Softplus"]) {
        assert_eq!(answer(vec![node(op_type, &["x"], "t"), node("Add", &["t", "s"], "y")]), [true, true, false]);
        assert_eq!(answer(vec![node(op_type, &["s"], "t"), node("Mul", &["t", "x"], "y")]), [true, true, false]);
    }
    for op_type in ["Max", "Min"] {
        assert_eq!(answer(vec![node(op_type, &["x", "s"], "y")]), [true, true, false]);
        let twice = vec![node("Mul", &["x", "x"], "t"), node(op_type, &["t", "x"], "u"), node("Add", &["u", "s"], "y")];
        assert_eq!(answer(twice), [true, true, false]);
    }
    let silu = vec![node("Sigmoid", &["x"], "t"), node("Mul", &["x", "t"], "u"), node("Add", &["u", "s"], "y")];
    assert_eq!(answer(silu), [true, true, false]);
}

#[test]
fn what_is_not_a_number_stays_none_in_other_floats() {
    for (elem_type, dtype) in [(10, DataType::Fp16), (11, DataType::Fp64)] {
        for op_type in ["Relu", "Max", "Min"] {
            let inputs: &[&str] = if op_type == "Relu" { &["x"] } else { &["x", "s"] };
            let cast =
                AttributeProto { name: "to".into(), r#type: AttributeType::Int as i32, i: 1, ..Default::default() };
            let cast = NodeProto { attribute: vec![cast], ..node("Cast", &["t"], "y") };
            let inputs_of = |name| info(name, elem_type, &[-1, 1]);
            let model = model_with(vec![node(op_type, inputs, "t"), cast], vec![inputs_of("x"), inputs_of("s")]);
            let numbers = |broken: usize| {
                let bytes = |at: usize| match (dtype, at == broken) {
                    (DataType::Fp16, true) => 0x7e00u16.to_le_bytes().to_vec(),
                    (DataType::Fp16, false) => vec![0; 2],
                    (_, true) => f64::NAN.to_le_bytes().to_vec(),
                    (_, false) => vec![0; 8],
                };
                let raw: Vec<u8> = (0..3).flat_map(bytes).collect();
                Tensor::from_raw(dtype, vec![3, 1], raw.into()).unwrap()
            };
            let made = model.clone().session().run(&[numbers(0), numbers(1)], &|| false).unwrap().tensors.remove(0);
            let broken: Vec<bool> = made.elements::<f32>().map(f32::is_nan).collect();
            assert_eq!(broken, [true, op_type != "Relu", false], "{op_type} of {dtype:?}");
        }
    }
}

/// Where tract takes the greatest or the least of two numbers as it writes a product.
#[test]
fn what_is_not_a_number_stays_none_behind_products() {
    let attribute = |name: &str, kind| AttributeProto { name: name.into(), r#type: kind, ..Default::default() };
    let of_float = AttributeProto { f: 0.0, ..attribute("value_float", AttributeType::Float as i32) };
    let none = NodeProto { attribute: vec![of_float], ..node("Constant", &[], "none") };
    let ones = AttributeProto { floats: vec![1.0; 16], ..attribute("value_floats", AttributeType::Floats as i32) };
    let ones = NodeProto { attribute: vec![ones], ..node("Constant", &[], "ones") };
    let shape = AttributeProto { ints: vec![8, 1, 2, 1], ..attribute("value_ints", AttributeType::Ints as i32) };
    let shape = NodeProto { attribute: vec![shape], ..node("Constant", &[], "shape") };
    let weights = vec![none, ones, shape, node("Reshape", &["ones", "shape"], "w")];
    let conv = vec![node("Conv", &["x", "w"], "t")];
    let product = vec![node("MatMul", &["x", "s"], "t")];
    let shifted = vec![node("MatMul", &["s", "x"], "p"), node("Add", &["p", "row"], "t")];
    for (width, before, reached) in [(8, &conv, 16), (-2, &conv, 16), (8, &product, 8), (8, &shifted, 8)] {
        for after in ["Relu", "Min", "Max"] {
            let after = match after {
                "Relu" => vec![node("Relu", &["t"], "y")],
                _ => vec![node(after, &["none", "t"], "u"), node(after, &["u", "row"], "y")],
            };
            let nodes = [weights.clone(), before.clone(), after].concat();
            let inputs = [("x", &[-1, 1, 8, width][..]), ("s", &[8, 8]), ("row", &[8])];
            let inputs = inputs.map(|(name, shape)| info(name, 1, shape));
            let model = model_with(nodes, inputs.into());
            let tensor = |shape: &[usize], broken: usize| {
                let mut values: Vec<f32> = (0..shape.iter().product()).map(|at: usize| at as f32 - 9.0).collect();
                values.iter_mut().skip(broken).take(1).for_each(|value| *value = f32::NAN);
                Tensor::from_elements(DataType::Fp32, shape.to_vec(), &values).unwrap()
            };
            let inputs = [tensor(&[1, 1, 8, 8], 11), tensor(&[8, 8], 99), tensor(&[8], 99)];
            let made = model.clone().session().run(&inputs, &|| false).unwrap().tensors.remove(0);
            let broken = made.elements::<f32>().filter(|value| value.is_nan()).count();
            assert_eq!(broken, reached, "{width}, behind {before:?}");
        }
    }
}

#[test]
fn a_division_by_zero_is_its_requests_fault() {
    let model = model_with(vec![node("Div", &["x", "s"], "y")], vec![info("x", 7, &[-1]), info("s", 7, &[-1])]);
    let run = |by: i64| {
        let whole = |value: i64| Tensor::from_elements(DataType::Int64, vec![1], &[value]).unwrap();
        let mut session = model.clone().session();
        session.run(&[whole(7), whole(by)], &|| false)
    };
    assert!(matches!(run(0), Err(RunError::BadInput(cause)) if cause.contains("Div of an integer by zero")));
    assert!(run(2).is_ok());
}

#[test]
fn a_tensor_without_elements_is_its_requests_fault_where_the_engine_needs_some() {
    let one = AttributeProto {
        name: "value_ints".into(),
        r#type: AttributeType::Ints as i32,
        ints: vec![1],
        ..Default::default()
    };
    let one = NodeProto { attribute: vec![one], ..node("Constant", &[], "one") };
    let model = model_with(vec![one, node("ReduceL1", &["x", "one"], "y")], vec![info("x", 1, &[-1, -2])]);
    let run = |length: usize| {
        let x = Tensor::from_elements(DataType::Fp32, vec![1, length], &vec![1f32; length]).unwrap();
        model.clone().session().run(&[x], &|| false)
    };
    assert_eq!(run(3).unwrap().tensors[0].elements::<f32>().collect::<Vec<_>>(), [3.0]);
    assert!(matches!(run(0), Err(RunError::BadInput(cause)) if cause.contains("of shape [1, 0]")));
}
