//! Small graphs that run through the passes, tract and our operators, as a file's does.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};
use tract_onnx::tract_hir::internal::*;

use super::super::ops::testing::{attribute, elem_type, info, run_model};

/// A graph in the making; attributes go to the node added last.
#[derive(Default)]
pub struct Graph {
    graph: GraphProto,
    outputs: HashMap<String, OnnxType>,
    opset: Option<i64>,
}

impl Graph {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn opset(self, opset: i64) -> Self {
        Self { opset: Some(opset), ..self }
    }

    pub fn node(mut self, op_type: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let (domain, op_type) = op_type.split_once(':').unwrap_or(("", op_type));
        self.graph.node.push(NodeProto {
            op_type: op_type.into(),
            domain: domain.into(),
            input: owned(inputs),
            output: owned(outputs),
            ..NodeProto::default()
        });
        self
    }

    pub fn int(self, name: &str, value: i64) -> Self {
        self.with(AttributeProto { i: value, ..attribute(name, AttributeType::Int) })
    }

    pub fn float(self, name: &str, value: f32) -> Self {
        self.with(AttributeProto { f: value, ..attribute(name, AttributeType::Float) })
    }

    pub fn floats(self, name: &str, values: &[f32]) -> Self {
        self.with(AttributeProto { floats: values.to_vec(), ..attribute(name, AttributeType::Floats) })
    }

    pub fn ints(self, name: &str, values: &[i64]) -> Self {
        self.with(AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) })
    }

    pub fn text(self, name: &str, value: &str) -> Self {
        self.with(AttributeProto { s: value.as_bytes().to_vec(), ..attribute(name, AttributeType::String) })
    }

    pub fn scalar<T: Datum>(self, name: &str, value: T) -> Self {
        self.constant(name, tensor0(value))
    }

    pub fn constant(mut self, name: &str, value: Tensor) -> Self {
        let dims = value.shape().iter().map(|&dim| dim as i64).collect();
        let tensor = TensorProto { name: name.into(), dims, ..TensorProto::default() };
        let data_type = elem_type(value.datum_type()) as i32;
        self.graph.initializer.push(TensorProto { data_type, raw_data: value.as_bytes().to_vec(), ..tensor });
        self
    }

    pub fn tensor(mut self, tensor: TensorProto) -> Self {
        self.graph.initializer.push(tensor);
        self
    }

    /// Declares the type of an output that isn't FLOAT.
    pub fn declare(mut self, output: &str, kind: OnnxType) -> Self {
        self.outputs.insert(output.into(), kind);
        self
    }

    /// The model, with inputs of these types.
    pub fn model(mut self, inputs: &[(&str, OnnxType)], outputs: &[&str]) -> ModelProto {
        self.graph.input = inputs.iter().map(|(name, kind)| info(name, *kind)).collect();
        let declared = |name: &&str| info(name, self.outputs.get(*name).copied().unwrap_or(OnnxType::Float));
        self.graph.output = outputs.iter().map(declared).collect();
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: self.opset.unwrap_or(17) }];
        ModelProto { graph: Some(self.graph), opset_import, ..ModelProto::default() }
    }

    /// The outputs for these inputs.
    pub fn run(self, inputs: &[(&str, Tensor)], outputs: &[&str]) -> TractResult<Vec<Tensor>> {
        let types: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, elem_type(tensor.datum_type()))).collect();
        let tensors: Vec<_> = inputs.iter().map(|(_, tensor)| tensor.clone()).collect();
        run(self.model(&types, outputs), &tensors)
    }

    fn with(mut self, attribute: AttributeProto) -> Self {
        self.graph.node.last_mut().unwrap().attribute.push(attribute);
        self
    }
}

/// Runs a model through the passes.
pub fn run(mut model: ModelProto, inputs: &[Tensor]) -> TractResult<Vec<Tensor>> {
    super::apply(&mut model);
    run_model(&model, inputs)
}

/// A tensor's values as floats.
pub fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.cast_to::<f32>().unwrap().try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
}

/// Fails where a value is further than `tolerance` from the expected one.
pub fn close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{got:?} instead of {expected:?}");
    let is_close = |(got, expected): (&f32, &f32)| (got - expected).abs() <= tolerance || got == expected;
    assert!(got.iter().zip(expected).all(is_close), "{got:?} instead of {expected:?}");
}
