//! Names of values that nothing in a file gives, or two nodes. tract panics where an output of a graph is one of the first, and
//! takes the last of the others.

use std::collections::HashSet;

use tract_onnx::pb::{GraphProto, ModelProto};

use crate::engine::LoadError;

/// # Errors
/// `Invalid`, naming the first output of a graph, or input of a node, that nothing gives, or the first that two nodes make.
pub fn check(proto: &ModelProto) -> Result<(), LoadError> {
    let Some(graph) = &proto.graph else { return Ok(()) };
    let given = given(graph);
    if let Some(output) = graph.output.iter().find(|output| !given.contains(output.name.as_str())) {
        return Err(LoadError::Invalid(format!("no node makes '{}', an output of the graph", output.name)));
    }
    inputs(graph, &mut vec![given])
}

/// Checks the inputs of a graph's nodes and of those inside them; `scopes` is what it and the graphs around it give.
fn inputs<'a>(graph: &'a GraphProto, scopes: &mut Vec<HashSet<&'a str>>) -> Result<(), LoadError> {
    let mut made = HashSet::new();
    for node in &graph.node {
        if let Some(twice) = node.output.iter().find(|name| !name.is_empty() && !made.insert(name.as_str())) {
            return Err(LoadError::Invalid(format!("two nodes make '{twice}', one of them {}", node.op_type)));
        }
        let is_given = |name: &str| name.is_empty() || scopes.iter().any(|scope| scope.contains(name));
        if let Some(input) = node.input.iter().find(|name| !is_given(name)) {
            let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
            let name = name.map_or("?", String::as_str);
            return Err(LoadError::Invalid(format!(
                "no node makes '{input}', an input of {} (node '{name}')",
                node.op_type
            )));
        }
        // The decoder refuses messages nested deeper than 100, which bounds the depth.
        for inner in node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
            scopes.push(given(inner));
            let is_given = |name: &str| scopes.iter().any(|scope| scope.contains(name));
            let checked = match inner.output.iter().find(|output| !is_given(&output.name)) {
                Some(output) => Err(LoadError::Invalid(format!(
                    "no node makes '{}', an output of a graph inside {} (node '{}')",
                    output.name, node.op_type, node.name
                ))),
                None => inputs(inner, scopes),
            };
            scopes.pop();
            checked?;
        }
    }
    Ok(())
}

/// What a graph itself gives.
fn given(graph: &GraphProto) -> HashSet<&str> {
    let inputs = graph.input.iter().map(|input| input.name.as_str());
    let weights = graph.initializer.iter().map(|tensor| tensor.name.as_str());
    let sparse = graph.sparse_initializer.iter().filter_map(|tensor| Some(tensor.values.as_ref()?.name.as_str()));
    let made = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    inputs.chain(weights).chain(sparse).chain(made).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto, ValueInfoProto};

    fn graph(nodes: Vec<NodeProto>, output: &str) -> GraphProto {
        let info = |name: &str| ValueInfoProto { name: name.into(), ..Default::default() };
        let weights = TensorProto { name: "w".into(), ..Default::default() };
        let (input, output) = (vec![info("x")], vec![info(output)]);
        GraphProto { node: nodes, initializer: vec![weights], input, output, ..Default::default() }
    }

    fn node(inputs: &[&str], output: &str) -> NodeProto {
        let input = inputs.iter().map(|name| (*name).to_owned()).collect();
        NodeProto { op_type: "Add".into(), input, output: vec![output.into()], ..Default::default() }
    }

    fn refused(graph: GraphProto) -> Option<String> {
        let checked = check(&ModelProto { graph: Some(graph), ..Default::default() });
        checked.err().map(|error| error.to_string())
    }

    #[test]
    fn what_nothing_gives_is_named() {
        assert_eq!(refused(graph(vec![node(&["x", "w", ""], "y")], "y")), None);
        assert_eq!(refused(graph(vec![], "x")), None);
        let output = refused(graph(vec![node(&["x", "w"], "y")], "z")).unwrap();
        assert_eq!(output, "not a valid ONNX model: no node makes 'z', an output of the graph");
        let input = refused(graph(vec![node(&["x", "v"], "y")], "y")).unwrap();
        assert_eq!(input, "not a valid ONNX model: no node makes 'v', an input of Add (node 'y')");
        let twice = refused(graph(vec![node(&["x", "w"], "y"), node(&["x", "x"], "y")], "y")).unwrap();
        assert_eq!(twice, "not a valid ONNX model: two nodes make 'y', one of them Add");
    }

    #[test]
    fn graphs_inside_nodes_take_from_those_around_them_and_not_the_other_way() {
        let inside = |inputs: &[&str]| {
            let body = GraphProto { node: vec![node(inputs, "b")], ..Default::default() };
            let body = AttributeProto { name: "body".into(), g: Some(body), ..Default::default() };
            NodeProto { attribute: vec![body], ..node(&["x"], "y") }
        };
        assert_eq!(refused(graph(vec![inside(&["x", "w"])], "y")), None);
        assert!(refused(graph(vec![inside(&["x", "v"])], "y")).unwrap().contains("'v'"));
        assert!(refused(graph(vec![inside(&["x"]), node(&["b"], "z")], "z")).unwrap().contains("'b'"));
    }
}
