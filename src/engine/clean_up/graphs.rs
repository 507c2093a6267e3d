//! What several passes need: a walk over all graphs of a file, and nodes and attributes to put into them.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// Calls `pass` with the file's graph and every graph inside a node, each before those within it.
pub fn each_graph(model: &mut ModelProto, pass: &mut dyn FnMut(&mut GraphProto)) {
    // The decoder refuses messages nested deeper than 100, which bounds the depth.
    let mut open: Vec<&mut GraphProto> = model.graph.iter_mut().collect();
    while let Some(graph) = open.pop() {
        pass(graph);
        for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
            open.extend(attribute.g.iter_mut().chain(&mut attribute.graphs));
        }
    }
}

/// The version of ONNX's own operators that the file is written in; 0 where it doesn't say.
pub fn opset(model: &ModelProto) -> i64 {
    let of_onnx = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    model.opset_import.iter().find(|import| of_onnx(&import.domain)).map_or(0, |import| import.version)
}

/// Whether the node is an operator of ONNX's own domain with this name.
pub fn is_onnx(node: &NodeProto, op_type: &str) -> bool {
    node.op_type == op_type && (node.domain.is_empty() || node.domain == "ai.onnx")
}

/// The node's attribute of this name.
pub fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// The integer attribute of this name, or what ONNX has for it where the node lacks it.
pub fn integer(node: &NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).map_or(default, |attribute| attribute.i)
}

/// The name of the node's input at `index`; `None` where it is left out.
pub fn input(node: &NodeProto, index: usize) -> Option<&str> {
    node.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
}

/// A node of ONNX's own domain, named after its first output.
pub fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        op_type: op_type.into(),
        name: outputs.first().copied().unwrap_or_default().to_owned(),
        input: owned(inputs),
        output: owned(outputs),
        ..Default::default()
    }
}

/// The node with an integer attribute.
pub fn with_integer(mut node: NodeProto, name: &str, value: i64) -> NodeProto {
    let attribute =
        AttributeProto { name: name.into(), i: value, r#type: AttributeType::Int as i32, ..Default::default() };
    node.attribute.push(attribute);
    node
}

/// The node with a list of integers for an attribute.
pub fn with_integers(mut node: NodeProto, name: &str, values: &[i64]) -> NodeProto {
    let ints = values.to_vec();
    node.attribute.push(AttributeProto {
        name: name.into(),
        ints,
        r#type: AttributeType::Ints as i32,
        ..Default::default()
    });
    node
}

/// A Constant of INT64; a scalar where `dims` is empty.
pub fn integers(output: &str, values: &[i64], dims: &[i64]) -> NodeProto {
    let tensor = TensorProto {
        dims: dims.to_vec(),
        data_type: OnnxType::Int64 as i32,
        int64_data: values.to_vec(),
        ..Default::default()
    };
    let mut constant = node("Constant", &[], &[output]);
    constant.attribute.push(AttributeProto {
        name: "value".into(),
        t: Some(tensor),
        r#type: AttributeType::Tensor as i32,
        ..Default::default()
    });
    constant
}

/// Most values of a constant that a pass looks into.
const MAX_VALUES: usize = 1024;

/// The integers of a small constant tensor, and whether it is a scalar; `None` for any other tensor.
pub fn small_integers(tensor: &TensorProto) -> Option<(Vec<i64>, bool)> {
    let is_large = tensor.int64_data.len().max(tensor.int32_data.len()) > MAX_VALUES;
    if is_large || tensor.data_location.is_some_and(|location| location != 0) {
        return None;
    }
    let values: Vec<i64> = match OnnxType::try_from(tensor.data_type) {
        Ok(OnnxType::Int64) if tensor.raw_data.is_empty() => tensor.int64_data.clone(),
        Ok(OnnxType::Int64) => tensor
            .raw_data
            .chunks_exact(8)
            .take(MAX_VALUES + 1)
            .filter_map(|raw| raw.try_into().ok())
            .map(i64::from_le_bytes)
            .collect(),
        Ok(OnnxType::Int32) if tensor.raw_data.is_empty() => tensor.int32_data.iter().copied().map(i64::from).collect(),
        Ok(OnnxType::Int32) => {
            let numbers = tensor.raw_data.chunks_exact(4).take(MAX_VALUES + 1).filter_map(|raw| raw.try_into().ok());
            numbers.map(|raw| i64::from(i32::from_le_bytes(raw))).collect()
        }
        _ => return None,
    };
    (values.len() <= MAX_VALUES).then_some((values, tensor.dims.is_empty()))
}
