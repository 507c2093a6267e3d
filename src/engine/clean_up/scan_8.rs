//! `Scan` as it was in version 8 of ONNX: every input and output has a batch before the steps. It becomes a Scan of version 9
//! over the batch, in which one of version 9 goes over the steps. `sequence_lens`, which no later version has, is refused.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TypeProto, ValueInfoProto, type_proto};

use super::edit::{self, Steps, attribute, input, int, int_list, int_of};
use super::graphs::opset;

/// The first version in which a Scan has no batch.
const WITHOUT_BATCH: i64 = 9;

/// Replaces such Scans of a file of those versions.
pub fn modernise(model: &mut ModelProto) {
    if opset(model) < WITHOUT_BATCH {
        let concerned = |node: &NodeProto| node.op_type == "Scan" && input(node, 0).is_none();
        edit::replace_nodes(model, concerned, by_rows);
    }
}

fn by_rows(node: &NodeProto, steps: &mut Steps) -> Option<()> {
    let inputs = node.input.get(1..)?;
    let body = attribute(node, "body")?;
    let graph = body.g.as_ref()?;
    let scanned = int_of(node, "num_scan_inputs")?;
    if graph.input.len() != inputs.len() || node.output.len() > graph.output.len() {
        return None;
    }
    // A row's own: of the types that the body says, of shapes that it doesn't say all of.
    let mut renamed = |infos: &[ValueInfoProto]| -> Vec<ValueInfoProto> {
        let one = |info: &ValueInfoProto| ValueInfoProto {
            name: steps.fresh(&format!("{}.row", info.name)),
            r#type: info.r#type.as_ref().map(without_shape),
            ..ValueInfoProto::default()
        };
        infos.iter().map(one).collect()
    };
    let (row_inputs, row_outputs) = (renamed(&graph.input), renamed(&graph.output));
    let mut attributes = vec![body.clone(), int("num_scan_inputs", scanned)];
    if let Some(directions) = attribute(node, "directions") {
        attributes.push(int_list("scan_input_directions", &directions.ints));
    }
    let name = steps.fresh(&format!("{}.steps", node.name));
    let names = |infos: &[ValueInfoProto]| infos.iter().map(|info| info.name.clone()).collect();
    let (input, output) = (names(&row_inputs), names(&row_outputs));
    let over_steps = NodeProto { op_type: "Scan".into(), name, input, output, ..NodeProto::default() };
    let row = GraphProto {
        name: "row".into(),
        node: vec![NodeProto { attribute: attributes, ..over_steps }],
        input: row_inputs,
        output: row_outputs,
        ..GraphProto::default()
    };
    let kind = AttributeType::Graph as i32;
    let row = AttributeProto { name: "body".into(), r#type: kind, g: Some(row), ..AttributeProto::default() };
    let attributes = vec![row, int("num_scan_inputs", i64::try_from(inputs.len()).ok()?)];
    steps.keep(NodeProto { input: inputs.to_vec(), attribute: attributes, ..node.clone() });
    Some(())
}

fn without_shape(of: &TypeProto) -> TypeProto {
    let mut of = of.clone();
    if let Some(type_proto::Value::TensorType(tensor)) = &mut of.value {
        tensor.shape = None;
    }
    of
}

#[cfg(test)]
mod tests {
    use super::super::super::ops::testing::info;
    use super::super::testing::{Graph, run};
    use super::*;
    use tract_onnx::pb::tensor_proto::DataType as OnnxType;
    use tract_onnx::tract_hir::internal::*;

    /// Sums of the steps, with the first state before them.
    fn sums(direction: i64, lengths: &str) -> TractResult<Vec<Tensor>> {
        let node = |op_type: &str, inputs: &[&str], output: &str| NodeProto {
            op_type: op_type.into(),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.into()],
            ..NodeProto::default()
        };
        let float = |name: &str| info(name, OnnxType::Float);
        let body = GraphProto {
            node: vec![node("Add", &["s", "x"], "t"), node("Identity", &["t"], "u")],
            input: vec![float("s"), float("x")],
            output: vec![float("t"), float("u")],
            ..GraphProto::default()
        };
        let graph = Graph::new().opset(8).node("Scan", &[lengths, "first", "steps"], &["last", "all"]);
        let graph = graph.int("num_scan_inputs", 1).ints("directions", &[direction]);
        let mut model = graph.model(&[("first", OnnxType::Float), ("steps", OnnxType::Float)], &["last", "all"]);
        let kind = AttributeType::Graph as i32;
        let body = AttributeProto { name: "body".into(), r#type: kind, g: Some(body), ..AttributeProto::default() };
        model.graph.as_mut().unwrap().node[0].attribute.push(body);
        let first = tensor2(&[[0f32], [10.0]]);
        let steps = tensor3(&[[[1f32], [2.0], [3.0]], [[4.0], [5.0], [6.0]]]);
        run(model, &[first, steps])
    }

    #[test]
    fn each_row_of_the_batch_is_scanned_by_itself() {
        let made = sums(0, "").unwrap();
        assert_eq!(made[0], tensor2(&[[6f32], [25.0]]));
        assert_eq!(made[1], tensor3(&[[[1f32], [3.0], [6.0]], [[14.0], [19.0], [25.0]]]));
        let made = sums(1, "").unwrap();
        assert_eq!(made[0], tensor2(&[[6f32], [25.0]]));
        assert!(sums(0, "first").is_err());
    }
}
