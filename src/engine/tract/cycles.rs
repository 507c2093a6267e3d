//! Nodes that need each other's outputs. tract says that there is such a loop, and not where.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use crate::engine::LoadError;

/// Most nodes of a circle that are named.
const MAX_NAMED: usize = 5;

/// # Errors
/// `Invalid`, naming the nodes of the first circle that is found in a graph of the model.
pub fn check(proto: &ModelProto) -> Result<(), LoadError> {
    proto.graph.as_ref().map_or(Ok(()), |graph| free_names(graph).map(|_| ()))
}

/// Checks a graph and those inside its nodes, and gives the names that they take from outside.
fn free_names(graph: &GraphProto) -> Result<HashSet<&str>, LoadError> {
    // The decoder refuses messages nested deeper than 100, which bounds the depth.
    let needed = graph.node.iter().map(needed_by).collect::<Result<Vec<_>, LoadError>>()?;
    let makers: HashMap<&str, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(maker, node)| node.output.iter().map(move |name| (name.as_str(), maker)))
        .filter(|(name, _)| !name.is_empty())
        .collect();
    let makers_of = |node: usize| needed[node].iter().filter_map(|name| makers.get(name).copied());

    let mut waits_for: Vec<usize> = (0..needed.len()).map(|node| makers_of(node).count()).collect();
    let mut takers = vec![vec![]; needed.len()];
    (0..needed.len()).for_each(|node| makers_of(node).for_each(|maker| takers[maker].push(node)));
    let mut ready: Vec<usize> = (0..needed.len()).filter(|&node| waits_for[node] == 0).collect();
    while let Some(maker) = ready.pop() {
        for &taker in &takers[maker] {
            waits_for[taker] -= 1;
            if waits_for[taker] == 0 {
                ready.push(taker);
            }
        }
    }
    if let Some(stuck) = waits_for.iter().position(|&count| count > 0) {
        let next = |node: usize| makers_of(node).find(|&maker| waits_for[maker] > 0).unwrap_or(node);
        return Err(LoadError::Invalid(circle(graph, stuck, next)));
    }

    let given = graph.input.iter().map(|input| input.name.as_str());
    let weights = graph.initializer.iter().map(|tensor| tensor.name.as_str());
    let own: HashSet<&str> = given.chain(weights).chain(makers.keys().copied()).collect();
    Ok(needed.into_iter().flatten().filter(|name| !own.contains(name)).collect())
}

/// The names that a node takes, those that graphs inside it take from around it among them.
fn needed_by(node: &NodeProto) -> Result<HashSet<&str>, LoadError> {
    let mut needed: HashSet<&str> = node.input.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    for inner in node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
        needed.extend(free_names(inner)?);
    }
    Ok(needed)
}

/// Goes from a node that waits for ever to one that it waits for, until the circle closes.
fn circle(graph: &GraphProto, stuck: usize, next: impl Fn(usize) -> usize) -> String {
    let (mut way, mut place) = (vec![], HashMap::new());
    let mut node = stuck;
    let begin = loop {
        if let Some(begin) = place.insert(node, way.len()) {
            break begin;
        }
        way.push(node);
        node = next(node);
    };
    let name = |node: &usize| {
        let node = &graph.node[*node];
        format!("{} of '{}'", node.op_type, node.output.iter().find(|name| !name.is_empty()).map_or("", String::as_str))
    };
    let mut named: Vec<String> = way[begin..].iter().take(MAX_NAMED).map(name).collect();
    if way.len() - begin > MAX_NAMED {
        named.push("…".to_owned());
    }
    named.push(name(&way[begin]));
    format!("nodes need each other: {}", named.join(" needs "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::AttributeProto;

    fn node(inputs: &[&str], output: &str) -> NodeProto {
        let input = inputs.iter().map(|name| (*name).to_owned()).collect();
        NodeProto { op_type: "Add".into(), input, output: vec![output.into()], ..Default::default() }
    }

    fn with_graph(node: NodeProto, nodes: Vec<NodeProto>) -> NodeProto {
        let body = GraphProto { node: nodes, ..Default::default() };
        let body = AttributeProto { name: "body".into(), g: Some(body), ..Default::default() };
        NodeProto { attribute: vec![body], ..node }
    }

    fn refused(nodes: Vec<NodeProto>) -> Option<String> {
        let graph = Some(GraphProto { node: nodes, ..Default::default() });
        check(&ModelProto { graph, ..Default::default() }).err().map(|error| error.to_string())
    }

    #[test]
    fn the_nodes_of_a_circle_are_named() {
        let circle =
            refused(vec![node(&["x", "x"], "a"), node(&["a", "c"], "b"), node(&["b"], "c"), node(&["c"], "y")]);
        let expected = "not a valid ONNX model: nodes need each other: Add of 'b' needs Add of 'c' needs Add of 'b'";
        assert_eq!(circle.as_deref(), Some(expected));
        assert!(refused(vec![node(&["y"], "y")]).unwrap().ends_with("Add of 'y' needs Add of 'y'"));
        let long: Vec<NodeProto> = (0..9).map(|at| node(&[&format!("n{}", (at + 1) % 9)], &format!("n{at}"))).collect();
        assert!(refused(long).unwrap().ends_with("Add of 'n4' needs … needs Add of 'n0'"));
    }

    #[test]
    fn nodes_may_stand_in_any_order_and_names_inside_others_be_their_own() {
        assert_eq!(refused(vec![node(&["b"], "c"), node(&["a", "a"], "b"), node(&["x"], "a")]), None);
        assert_eq!(refused(vec![node(&["a"], "b"), with_graph(node(&["x"], "a"), vec![node(&["x"], "b")])]), None);
        let through = refused(vec![node(&["a"], "b"), with_graph(node(&["x"], "a"), vec![node(&["b"], "i")])]);
        assert!(through.is_some_and(|text| text.contains("Add of 'a' needs Add of 'b'")));
        assert!(refused(vec![with_graph(node(&["x"], "a"), vec![node(&["i"], "i")])]).is_some());
    }
}
