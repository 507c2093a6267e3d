//! Graphs with graphs inside, in few words.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// A node written as `y z = Operator(a, b, )`, where an input left out is nothing between commas.
pub fn node(text: &str) -> NodeProto {
    let (outputs, call) = text.split_once(" = ").expect("outputs = call");
    let (op_type, inputs) = call.trim_end_matches(')').split_once('(').expect("operator(inputs)");
    let input = inputs.split(',').map(|name| name.trim().to_owned()).collect();
    let output = outputs.split_whitespace().map(str::to_owned).collect();
    NodeProto { op_type: op_type.into(), input, output, ..Default::default() }
}

pub fn with_graph(mut node: NodeProto, name: &str, graph: GraphProto) -> NodeProto {
    let kind = AttributeType::Graph as i32;
    node.attribute.push(AttributeProto { name: name.into(), g: Some(graph), r#type: kind, ..Default::default() });
    node
}

pub fn with_int(mut node: NodeProto, name: &str, i: i64) -> NodeProto {
    let kind = AttributeType::Int as i32;
    node.attribute.push(AttributeProto { name: name.into(), i, r#type: kind, ..Default::default() });
    node
}

/// A graph; an input is its name and type, as `n:i` for INT64, `c:b` for BOOL and `x:f` for FLOAT.
pub fn graph(inputs: &str, nodes: Vec<NodeProto>, outputs: &str) -> GraphProto {
    let info = |text: &str| {
        let (name, kind) = text.split_once(':').unwrap_or((text, "f"));
        let elem_type = match kind {
            "i" => OnnxType::Int64,
            "b" => OnnxType::Bool,
            _ => OnnxType::Float,
        };
        super::super::testing::info(name, elem_type)
    };
    let infos = |texts: &str| texts.split_whitespace().map(info).collect();
    GraphProto { node: nodes, input: infos(inputs), output: infos(outputs), ..Default::default() }
}

/// The graph with a constant of one FLOAT.
pub fn with_float(mut graph: GraphProto, name: &str, value: f32) -> GraphProto {
    let tensor = TensorProto { name: name.into(), data_type: OnnxType::Float as i32, ..Default::default() };
    graph.initializer.push(TensorProto { float_data: vec![value], ..tensor });
    graph
}
