//! Tools for passes: names that nothing else has, new nodes, and a walk over every graph of a model.

use std::collections::HashSet;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// The domain of operators that only our passes write, see `ops`.
pub const OWN_DOMAIN: &str = "headgate";

/// Every name that a model uses, in its graph and in the graphs inside nodes: they see each other's values.
pub struct Names(HashSet<String>);

impl Names {
    pub fn of(model: &ModelProto) -> Self {
        let mut taken = HashSet::new();
        // The decoder refuses messages nested deeper than 100, which bounds this walk and the next.
        let mut open: Vec<&GraphProto> = model.graph.iter().collect();
        while let Some(graph) = open.pop() {
            taken.extend(graph.input.iter().chain(&graph.output).map(|info| info.name.clone()));
            taken.extend(graph.initializer.iter().map(|tensor| tensor.name.clone()));
            for node in &graph.node {
                taken.insert(node.name.clone());
                taken.extend(node.input.iter().chain(&node.output).cloned());
                open.extend(node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)));
            }
        }
        Self(taken)
    }

    /// A new name that begins with `near`.
    pub fn fresh(&mut self, near: &str) -> String {
        let mut name = near.to_owned();
        let mut count = 1;
        while !self.0.insert(name.clone()) {
            count += 1;
            name = format!("{near}_{count}");
        }
        name
    }
}

/// Calls `change` on the model's graph and on every graph inside its nodes, inner ones first.
pub fn each_graph(model: &mut ModelProto, change: &mut dyn FnMut(&mut GraphProto)) {
    if let Some(graph) = &mut model.graph {
        each_graph_below(graph, change);
    }
}

fn each_graph_below(graph: &mut GraphProto, change: &mut dyn FnMut(&mut GraphProto)) {
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            each_graph_below(inner, change);
        }
    }
    change(graph);
}

/// Every node of a model, those of the graphs inside nodes too.
pub fn nodes(model: &ModelProto) -> Vec<&NodeProto> {
    graphs(model).into_iter().flat_map(|graph| &graph.node).collect()
}

/// The model's graph and every graph inside its nodes, an outer one before those that are in it.
pub fn graphs(model: &ModelProto) -> Vec<&GraphProto> {
    let mut found = vec![];
    let mut open: Vec<&GraphProto> = model.graph.iter().collect();
    while let Some(graph) = open.pop() {
        found.push(graph);
        open.extend(graph.node.iter().flat_map(|node| &node.attribute).flat_map(|at| at.g.iter().chain(&at.graphs)));
    }
    found
}

/// Puts others in the place of the nodes that are `concerned`: those that `rule` leaves in its steps. A rule says `None`
/// to a case that it doesn't know; such a node stays, and the engine refuses it by name.
pub fn replace_nodes(
    model: &mut ModelProto,
    concerned: impl Fn(&NodeProto) -> bool,
    rule: impl Fn(&NodeProto, &mut Steps) -> Option<()>,
) {
    if !nodes(model).into_iter().any(&concerned) {
        return;
    }
    let mut names = Names::of(model);
    each_graph(model, &mut |graph| {
        let mut nodes = Vec::with_capacity(graph.node.len());
        for node in std::mem::take(&mut graph.node) {
            let mut steps = Steps { near: first_output(&node).to_owned(), names: &mut names, nodes: vec![] };
            match concerned(&node).then(|| rule(&node, &mut steps)).flatten() {
                Some(()) => nodes.append(&mut steps.nodes),
                None => nodes.push(node),
            }
        }
        graph.node = nodes;
    });
}

/// The nodes that come in the place of one, in their order.
pub struct Steps<'a> {
    near: String,
    names: &'a mut Names,
    nodes: Vec<NodeProto>,
}

impl Steps<'_> {
    /// Adds a node of one output, and gives the output's name.
    pub fn add(&mut self, op_type: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.names.fresh(&format!("{}.{}", self.near, op_type.to_lowercase()));
        self.add_to(op_type, inputs, &[&output], attributes);
        output
    }

    /// Adds a node with outputs of these names.
    pub fn add_to(&mut self, op_type: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let domain = if op_type.starts_with("Headgate") { OWN_DOMAIN } else { "" };
        let name = self.names.fresh(&format!("{}.node", outputs.first().unwrap_or(&op_type)));
        let node = NodeProto { op_type: op_type.into(), domain: domain.into(), name, ..NodeProto::default() };
        self.nodes.push(NodeProto { input: owned(inputs), output: owned(outputs), attribute: attributes, ..node });
    }

    /// Adds a node as it is.
    pub fn keep(&mut self, node: NodeProto) {
        self.nodes.push(node);
    }

    /// Adds a constant of one FLOAT, and gives its name.
    pub fn float(&mut self, value: f32) -> String {
        let tensor =
            TensorProto { data_type: OnnxType::Float as i32, float_data: vec![value], ..TensorProto::default() };
        self.constant(tensor)
    }

    /// Adds a constant list of FLOAT, and gives its name.
    pub fn floats(&mut self, values: &[f32]) -> String {
        let dims = vec![values.len() as i64];
        let tensor = TensorProto { data_type: OnnxType::Float as i32, dims, ..TensorProto::default() };
        self.constant(TensorProto { float_data: values.to_vec(), ..tensor })
    }

    /// Adds a constant list of INT64, and gives its name.
    pub fn ints(&mut self, values: &[i64]) -> String {
        let dims = vec![values.len() as i64];
        let tensor = TensorProto { data_type: OnnxType::Int64 as i32, dims, ..TensorProto::default() };
        self.constant(TensorProto { int64_data: values.to_vec(), ..tensor })
    }

    /// Adds a cast, and gives the name of what it makes.
    pub fn cast(&mut self, value: &str, to: OnnxType) -> String {
        self.add("Cast", &[value], vec![int("to", to as i64)])
    }

    /// A name that nothing has.
    pub fn fresh(&mut self, near: &str) -> String {
        self.names.fresh(near)
    }

    fn constant(&mut self, tensor: TensorProto) -> String {
        let value = AttributeProto { t: Some(tensor), ..attribute_of("value", AttributeType::Tensor) };
        self.add("Constant", &[], vec![value])
    }
}

/// The attribute of this name.
pub fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// An integer attribute of this name.
pub fn int_of(node: &NodeProto, name: &str) -> Option<i64> {
    attribute(node, name).map(|attribute| attribute.i)
}

/// The node's input at a place; `None` where it is left out.
pub fn input(node: &NodeProto, place: usize) -> Option<&str> {
    node.input.get(place).map(String::as_str).filter(|name| !name.is_empty())
}

/// The node's output at a place; `None` where it is left out.
pub fn output(node: &NodeProto, place: usize) -> Option<&str> {
    node.output.get(place).map(String::as_str).filter(|name| !name.is_empty())
}

/// An integer attribute to put into a node.
pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: value, ..attribute_of(name, AttributeType::Int) }
}

/// A list of integers to put into a node.
pub fn int_list(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute_of(name, AttributeType::Ints) }
}

fn first_output(node: &NodeProto) -> &str {
    node.output.iter().find(|name| !name.is_empty()).map_or("", String::as_str)
}

fn attribute_of(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind as i32, ..AttributeProto::default() }
}
