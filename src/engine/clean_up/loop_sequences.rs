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
