//! Turns a sequence that the turns of a Loop append to, one tensor a turn, into what ONNX has without sequences: a tensor that
//! the Loop stacks. Exporters write so what a program gathers in a list.
//!
//! Behind the Loop the stacked tensor is split into a sequence again, which the pass for sequences then follows. Each turn has to
//! append a tensor of the same shape.

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, ValueInfoProto};

use super::graphs::{each_graph, input, is_onnx, node, with_integer};

/// Inputs of a Loop, and of its body, before what turns carry on.
const LEADING: usize = 2;

pub fn apply(model: &mut ModelProto) {
    each_graph(model, &mut |graph| {
        let empty: Vec<String> = graph
            .node
            .iter()
            .filter(|node| is_onnx(node, "SequenceEmpty"))
            .flat_map(|node| node.output.clone())
            .collect();
        let mut nodes = Vec::with_capacity(graph.node.len());
        for mut node in std::mem::take(&mut graph.node) {
            let mut splits = vec![];
            while is_onnx(&node, "Loop")
                && let Some(split) = stacked(&mut node, &empty)
            {
                splits.push(split);
            }
            nodes.push(node);
            nodes.append(&mut splits);
        }
        graph.node = nodes;
    });
}

/// Stacks what is appended to one of the sequences that the Loop carries, and gives the node that makes a sequence of it again;
/// `None` where there is no such sequence. `empty` are sequences that have nothing.
fn stacked(looped: &mut NodeProto, empty: &[String]) -> Option<NodeProto> {
    let carried = looped.input.len().checked_sub(LEADING)?;
    let place = (0..carried)
        .find(|place| empty.contains(&looped.input[LEADING + place]) && appended(looped, *place).is_some())?;
    let insert = appended(looped, place)?;
    let body = looped.attribute.iter_mut().find(|attribute| attribute.name == "body")?.g.as_mut()?;
    let item = input(&body.node[insert], 1)?.to_owned();
    let sequence = looped.output.get(place).cloned().unwrap_or_default();
    let given = format!("{}.item", body.output[1 + place].name);
    body.node[insert] = node("Identity", &[&item], &[&given]);
    body.input.remove(LEADING + place);
    body.output.remove(1 + place);
    body.output.push(ValueInfoProto { name: given, ..ValueInfoProto::default() });
    let outputs = body.output.len() - 1;
    looped.input.remove(LEADING + place);
    if place < looped.output.len() {
        looped.output.remove(place);
    }
    // Those that the node leaves out have no names.
    looped.output.resize(outputs, String::new());
    let stacked = format!("{sequence}.stacked");
    looped.output[outputs - 1].clone_from(&stacked);
    let split = with_integer(node("SplitToSequence", &[&stacked], &[&sequence]), "axis", 0);
    Some(with_integer(split, "keepdims", 0))
}

/// The node of the Loop's body that appends to the sequence it carries at this place, where nothing else sees the sequence.
fn appended(looped: &NodeProto, place: usize) -> Option<usize> {
    let body = looped.attribute.iter().find(|attribute| attribute.name == "body")?.g.as_ref()?;
    let (before, after) = (&body.input.get(LEADING + place)?.name, &body.output.get(1 + place)?.name);
    let is_that = |node: &NodeProto| {
        is_onnx(node, "SequenceInsert")
            && input(node, 0) == Some(before)
            && input(node, 2).is_none()
            && node.output.first() == Some(after)
    };
    let insert = body.node.iter().position(is_that)?;
    let has_name = looped.output.get(place).is_some_and(|name| !name.is_empty());
    (has_name && uses(body, before) == 1 && uses(body, after) == 1).then_some(insert)
}

/// How often a value is taken in a graph or in those inside it, or leaves one of them.
fn uses(graph: &GraphProto, name: &str) -> usize {
    let inside = |node: &NodeProto| {
        let graphs = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
        node.input.iter().filter(|input| *input == name).count() + graphs.map(|graph| uses(graph, name)).sum::<usize>()
    };
    graph.output.iter().filter(|output| output.name == name).count() + graph.node.iter().map(inside).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::super::super::ops::testing::info;
    use super::super::graphs::integers;
    use super::super::testing::run;
    use super::*;
    use tract_onnx::pb::attribute_proto::AttributeType;
    use tract_onnx::pb::tensor_proto::DataType as OnnxType;
    use tract_onnx::pb::{AttributeProto, OperatorSetIdProto};
    use tract_onnx::tract_hir::internal::*;

    /// Three turns that double `x` and append it to the sequence `sn`, and a node that makes `y` of it.
    fn model(append: &[&str], last: NodeProto) -> ModelProto {
        let untyped = |name: &str| ValueInfoProto { name: name.into(), ..Default::default() };
        let body = GraphProto {
            node: vec![
                node("Identity", &["c"], &["on"]),
                node("Add", &["h", "h"], &["h2"]),
                node("SequenceInsert", append, &["s2"]),
            ],
            input: vec![
                info("i", OnnxType::Int64),
                info("c", OnnxType::Bool),
                info("h", OnnxType::Float),
                untyped("s"),
            ],
            output: vec![info("on", OnnxType::Bool), info("h2", OnnxType::Float), untyped("s2")],
            ..Default::default()
        };
        let mut looped = node("Loop", &["n", "", "x", "s0"], &["hn", "sn"]);
        let kind = AttributeType::Graph as i32;
        looped.attribute.push(AttributeProto {
            name: "body".into(),
            g: Some(body),
            r#type: kind,
            ..Default::default()
        });
        let constants = [integers("n", &[3], &[]), integers("first", &[0], &[]), integers("last", &[-1], &[])];
        let graph = GraphProto {
            node: [&constants[..], &[node("SequenceEmpty", &[], &["s0"]), looped, last]].concat(),
            input: vec![info("x", OnnxType::Float)],
            output: vec![info("y", OnnxType::Float), info("hn", OnnxType::Float)],
            ..Default::default()
        };
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
        ModelProto { graph: Some(graph), opset_import, ..Default::default() }
    }

    fn concat(axis: i64, new_axis: i64) -> NodeProto {
        let concat = node("ConcatFromSequence", &["sn"], &["y"]);
        with_integer(with_integer(concat, "axis", axis), "new_axis", new_axis)
    }

    #[test]
    fn what_turns_append_is_stacked_joined_and_taken() {
        let x = [tensor2(&[[1f32, 2.0]])];
        let ran = |last| run(model(&["s", "h2"], last), &x).unwrap();
        let all = ran(concat(0, 0));
        assert_eq!(all, [tensor2(&[[2f32, 4.0], [4.0, 8.0], [8.0, 16.0]]), tensor2(&[[8f32, 16.0]])]);
        assert_eq!(ran(concat(1, 0))[0], tensor2(&[[2f32, 4.0, 4.0, 8.0, 8.0, 16.0]]));
        assert_eq!(ran(concat(-1, 1))[0], tensor3(&[[[2f32, 4.0, 8.0], [4.0, 8.0, 16.0]]]));
        assert_eq!(ran(node("SequenceAt", &["sn", "last"], &["y"]))[0], tensor2(&[[8f32, 16.0]]));
    }

    #[test]
    fn what_is_put_in_front_is_left_alone() {
        let mut model = model(&["s", "h2", "first"], concat(0, 0));
        let before = model.clone();
        apply(&mut model);
        assert_eq!(model, before);
    }
}
