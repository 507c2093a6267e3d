//! Recurrences inside the body of a Scan: what they give passes a barrier, for tract takes them out of the body as if they
//! went element by element, and then finds other shapes than it had.

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use super::edit::{self, Names};
use super::graphs::is_onnx;

/// Puts the barriers behind such nodes.
pub fn fence(model: &mut ModelProto) {
    let has_inner = |node: &NodeProto| bodies(node).any(|body| body.node.iter().any(is_recurrence));
    if !edit::nodes(model).into_iter().any(has_inner) {
        return;
    }
    let mut names = Names::of(model);
    edit::each_graph(model, &mut |graph| {
        for scan in graph.node.iter_mut().filter(|node| is_onnx(node, "Scan")) {
            let bodies = scan.attribute.iter_mut().filter(|attribute| attribute.name == "body");
            bodies.filter_map(|attribute| attribute.g.as_mut()).for_each(|body| fence_in(body, &mut names));
        }
    });
}

fn fence_in(body: &mut GraphProto, names: &mut Names) {
    let mut nodes = Vec::with_capacity(body.node.len());
    for mut node in std::mem::take(&mut body.node) {
        let mut barriers = vec![];
        if is_recurrence(&node) {
            for output in node.output.iter_mut().filter(|name| !name.is_empty()) {
                let given = names.fresh(&format!("{output}.inner"));
                barriers.push(NodeProto {
                    op_type: "HeadgateBarrier".into(),
                    domain: edit::OWN_DOMAIN.into(),
                    name: names.fresh(&format!("{output}.barrier")),
                    input: vec![given.clone()],
                    output: vec![std::mem::replace(output, given)],
                    ..NodeProto::default()
                });
            }
        }
        nodes.push(node);
        nodes.append(&mut barriers);
    }
    body.node = nodes;
}

fn is_recurrence(node: &NodeProto) -> bool {
    ["Scan", "LSTM", "GRU", "RNN"].iter().any(|op_type| is_onnx(node, op_type))
}

fn bodies(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    let bodies = node.attribute.iter().filter(|attribute| attribute.name == "body" && is_onnx(node, "Scan"));
    bodies.filter_map(|attribute| attribute.g.as_ref())
}

#[cfg(test)]
mod tests {
    use super::super::super::ops::testing::info;
    use super::super::testing::{Graph, run};
    use super::*;
    use tract_onnx::pb::AttributeProto;
    use tract_onnx::pb::attribute_proto::AttributeType;
    use tract_onnx::pb::tensor_proto::DataType as OnnxType;
    use tract_onnx::tract_hir::internal::*;

    fn body(graph: GraphProto) -> AttributeProto {
        let kind = AttributeType::Graph as i32;
        AttributeProto { name: "body".into(), r#type: kind, g: Some(graph), ..AttributeProto::default() }
    }

    fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let op_type = op_type.to_owned();
        NodeProto { op_type, input: owned(inputs), output: owned(outputs), ..NodeProto::default() }
    }

    fn graph(nodes: Vec<NodeProto>, inputs: &[&str], outputs: &[&str]) -> GraphProto {
        let floats = |names: &[&str]| names.iter().map(|name| info(name, OnnxType::Float)).collect();
        GraphProto { node: nodes, input: floats(inputs), output: floats(outputs), ..GraphProto::default() }
    }

    #[test]
    fn a_scan_inside_a_scan_begins_anew_at_each_turn() {
        let sums =
            graph(vec![node("Add", &["s", "x"], &["t"]), node("Identity", &["t"], &["u"])], &["s", "x"], &["t", "u"]);
        let mut inner = node("Scan", &["zero", "row"], &["last", "all"]);
        inner.attribute.push(body(sums));
        inner.attribute.push(edit::int("num_scan_inputs", 1));
        let outer = body(graph(vec![inner], &["row"], &["last", "all"]));
        let scan = Graph::new().constant("zero", tensor0(0f32)).node("Scan", &["rows"], &["y", "z"]);
        let mut model = scan.int("num_scan_inputs", 1).model(&[("rows", OnnxType::Float)], &["y", "z"]);
        model.graph.as_mut().unwrap().node[0].attribute.push(outer);
        let made = run(model, &[tensor2(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]])]).unwrap();
        assert_eq!(made, [tensor1(&[6f32, 15.0]), tensor2(&[[1f32, 3.0, 6.0], [4.0, 9.0, 15.0]])]);
    }
}
