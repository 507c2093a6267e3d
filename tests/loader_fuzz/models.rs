//! Models of a node or two, made here.

use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as DimValue};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};

pub const FLOAT: i32 = 1;
pub const INT64: i32 = 7;

/// A model in the making.
pub struct Model(GraphProto, i64);

impl Model {
    /// One that gives `y`, of ONNX 18.
    pub fn new() -> Self {
        let output = vec![info("y", FLOAT, None)];
        Self(GraphProto { name: "g".into(), output, ..Default::default() }, 18)
    }

    pub fn opset(self, version: i64) -> Self {
        Self(self.0, version)
    }

    pub fn input(mut self, name: &str, elem_type: i32, dims: &[i64]) -> Self {
        self.0.input.push(info(name, elem_type, Some(dims)));
        self
    }

    /// A constant list of INT64.
    pub fn list(mut self, name: &str, values: &[i64]) -> Self {
        self.0.initializer.push(tensor(name, INT64, &[values.len() as i64], values, &[]));
        self
    }

    /// A constant INT64.
    pub fn number(mut self, name: &str, value: i64) -> Self {
        self.0.initializer.push(tensor(name, INT64, &[], &[value], &[]));
        self
    }

    /// Constant FLOATs of a shape.
    pub fn floats(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        self.0.initializer.push(tensor(name, FLOAT, dims, &[], values));
        self
    }

    /// A node as `y z = Operator(a, b, )`, where an input left out is nothing between commas.
    pub fn node(mut self, text: &str) -> Self {
        let (outputs, call) = text.split_once(" = ").expect("outputs = call");
        let (op_type, inputs) = call.trim_end_matches(')').split_once('(').expect("operator(inputs)");
        let input = inputs.split(',').map(|name| name.trim().to_owned()).filter(|_| !inputs.is_empty()).collect();
        let output = outputs.split_whitespace().map(str::to_owned).collect();
        self.0.node.push(NodeProto { op_type: op_type.into(), input, output, ..Default::default() });
        self
    }

    pub fn int(self, name: &str, i: i64) -> Self {
        self.with(AttributeProto { i, ..attribute(name, AttributeType::Int) })
    }

    pub fn ints(self, name: &str, ints: &[i64]) -> Self {
        self.with(AttributeProto { ints: ints.to_vec(), ..attribute(name, AttributeType::Ints) })
    }

    pub fn text(self, name: &str, text: &str) -> Self {
        self.with(AttributeProto { s: text.as_bytes().to_vec(), ..attribute(name, AttributeType::String) })
    }

    /// The graph of this model, as a graph of the node added last.
    pub fn body(self, name: &str, body: Model) -> Self {
        self.with(AttributeProto { g: Some(body.0), ..attribute(name, AttributeType::Graph) })
    }

    /// Declares another output beside `y`.
    pub fn output(mut self, name: &str, elem_type: i32) -> Self {
        self.0.output.push(info(name, elem_type, None));
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
        let opset_import = vec![opset("", self.1), opset("ai.onnx.ml", 4)];
        ModelProto { ir_version: 9, graph: Some(self.0), opset_import, ..Default::default() }.encode_to_vec()
    }

    fn with(mut self, attribute: AttributeProto) -> Self {
        self.0.node.last_mut().expect("a node to give it to").attribute.push(attribute);
        self
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind as i32, ..Default::default() }
}

fn tensor(name: &str, data_type: i32, dims: &[i64], ints: &[i64], floats: &[f32]) -> TensorProto {
    let (int64_data, float_data) = (ints.to_vec(), floats.to_vec());
    TensorProto { name: name.into(), data_type, dims: dims.to_vec(), int64_data, float_data, ..Default::default() }
}

fn info(name: &str, elem_type: i32, dims: Option<&[i64]>) -> ValueInfoProto {
    let dim = |&size: &i64| Dimension { value: Some(DimValue::DimValue(size)), ..Default::default() };
    let shape = dims.map(|dims| TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let value = Some(type_proto::Value::TensorType(type_proto::Tensor { elem_type, shape }));
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { value, ..Default::default() }), ..Default::default() }
}
