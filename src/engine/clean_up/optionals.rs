//! Takes values out of what ONNX calls an optional, where the graph itself says whether there is one: tract has tensors alone.

use std::collections::HashSet;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

use super::graphs::{each_graph, input, is_onnx, node};

pub fn apply(model: &mut ModelProto) {
    each_graph(model, &mut |graph| {
        if graph.node.iter().any(|node| OPERATORS.iter().any(|op_type| is_onnx(node, op_type))) {
            unwrap(graph);
        }
    });
}

const OPERATORS: [&str; 3] = ["Optional", "OptionalGetElement", "OptionalHasElement"];

fn unwrap(graph: &mut GraphProto) {
    // What comes from outside may be there or not.
    let is_tensor =
        |r#type: &Option<tract_onnx::pb::TypeProto>| r#type.as_ref().is_some_and(|held| held.value.is_some());
    let outer = graph.input.iter().filter(|input| !is_tensor(&input.r#type));
    let mut unknown: HashSet<String> = outer.map(|input| input.name.clone()).collect();
    let mut empty = HashSet::new();
    for old in &mut graph.node {
        let (Some(output), held) = (old.output.first().cloned(), input(old, 0).map(str::to_owned)) else { continue };
        let is = |op_type: &str| is_onnx(old, op_type);
        let has_value = held.as_ref().is_some_and(|held| !empty.contains(held));
        if held.as_ref().is_some_and(|held| unknown.contains(held)) {
            unknown.insert(output);
        } else if is("Optional") && !has_value {
            empty.insert(output);
        } else if is("OptionalHasElement") {
            *old = constant(&output, has_value);
        } else if (is("Optional") || is("OptionalGetElement"))
            && has_value
            && let Some(held) = held
        {
            *old = node("Identity", &[&held], &[&output]);
        }
    }
    graph.node.retain(|node| !(is_onnx(node, "Optional") && node.output.iter().any(|output| empty.contains(output))));
}

fn constant(output: &str, value: bool) -> NodeProto {
    let held = TensorProto { data_type: OnnxType::Bool as i32, int32_data: vec![value.into()], ..Default::default() };
    let kind = AttributeType::Tensor as i32;
    let value = AttributeProto { name: "value".into(), t: Some(held), r#type: kind, ..Default::default() };
    NodeProto { attribute: vec![value], ..node("Constant", &[], &[output]) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, run};
    use super::*;
    use tract_onnx::tract_hir::internal::*;

    #[test]
    fn a_value_is_taken_out_again() {
        let graph = Graph::new().node("Optional", &["x"], &["o"]).node("OptionalGetElement", &["o"], &["y"]);
        let graph = graph.node("OptionalHasElement", &["o"], &["h"]).declare("h", OnnxType::Bool);
        let x = tensor1(&[1f32, 2.0]);
        assert_eq!(graph.run(&[("x", x.clone())], &["y", "h"]).unwrap(), [x, tensor0(true)]);
    }

    #[test]
    fn what_has_no_value_says_so_and_gives_none() {
        let empty = || Graph::new().node("Optional", &[], &["o"]).node("Neg", &["x"], &["y"]);
        let graph = empty().node("OptionalHasElement", &["o"], &["h"]).declare("h", OnnxType::Bool);
        let x = [tensor1(&[1f32])];
        let model = graph.model(&[("x", OnnxType::Float)], &["y", "h"]);
        assert_eq!(run(model, &x).unwrap(), [tensor1(&[-1f32]), tensor0(false)]);
        let taken = empty().node("OptionalGetElement", &["o"], &["z"]).model(&[("x", OnnxType::Float)], &["z"]);
        assert!(run(taken, &x).is_err());
    }

    #[test]
    fn an_optional_of_the_request_is_left_alone() {
        let mut model =
            Graph::new().node("OptionalHasElement", &["x"], &["h"]).model(&[("x", OnnxType::Float)], &["h"]);
        model.graph.as_mut().unwrap().input[0].r#type = None;
        let before = model.clone();
        apply(&mut model);
        assert_eq!(model, before);
    }
}
