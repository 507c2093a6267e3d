//! Runs one node as a model of its own.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TypeProto, ValueInfoProto,
    type_proto,
};
use tract_onnx::prelude::TypedSimplePlan;
use tract_onnx::tract_hir::internal::*;

use super::control::{Watch, eval};

/// A node of the `ai.onnx.ml` domain in the making.
pub struct Node(NodeProto);

impl Node {
    pub fn new(op_type: &str) -> Self {
        Self(NodeProto { op_type: op_type.into(), domain: "ai.onnx.ml".into(), name: "n".into(), ..Default::default() })
    }

    pub fn ints(self, name: &str, values: &[i64]) -> Self {
        self.with(AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) })
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

    pub fn texts(self, name: &str, values: &[&str]) -> Self {
        let strings = values.iter().map(|text| text.as_bytes().to_vec()).collect();
        self.with(AttributeProto { strings, ..attribute(name, AttributeType::Strings) })
    }

    pub fn text(self, name: &str, value: &str) -> Self {
        self.with(AttributeProto { s: value.as_bytes().to_vec(), ..attribute(name, AttributeType::String) })
    }

    pub fn bytes(self, name: &str, values: &[u8]) -> Self {
        let data = values.iter().copied().map(i32::from).collect();
        self.tensor(name, OnnxType::Uint8, values.len(), |tensor| tensor.int32_data = data)
    }

    pub fn floats_tensor(self, name: &str, values: &[f32]) -> Self {
        self.tensor(name, OnnxType::Float, values.len(), |tensor| tensor.float_data = values.to_vec())
    }

    pub fn doubles(self, name: &str, values: &[f64]) -> Self {
        self.tensor(name, OnnxType::Double, values.len(), |tensor| tensor.double_data = values.to_vec())
    }

    /// A tensor of one dimension, filled in by `fill`.
    fn tensor(self, name: &str, of: OnnxType, count: usize, fill: impl FnOnce(&mut TensorProto)) -> Self {
        let mut tensor = TensorProto { dims: vec![count as i64], data_type: of as i32, ..Default::default() };
        fill(&mut tensor);
        self.with(AttributeProto { t: Some(tensor), ..attribute(name, AttributeType::Tensor) })
    }

    pub fn without(mut self, name: &str) -> Self {
        self.0.attribute.retain(|held| held.name != name);
        self
    }

    /// A graph of this node alone.
    pub fn into_graph(self, inputs: &[Tensor], outputs: usize) -> GraphProto {
        self.into_graph_with(inputs, &[], outputs)
    }

    /// The same with constants of the file as the node's last inputs.
    pub fn into_graph_with(self, inputs: &[Tensor], known: &[Tensor], outputs: usize) -> GraphProto {
        let named = |prefix: &str, count: usize| (0..count).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>();
        let (input_names, output_names) = (named("x", inputs.len()), named("y", outputs));
        let known_names = named("k", known.len());
        let constant = |(name, value): (&String, &Tensor)| TensorProto {
            name: name.clone(),
            dims: value.shape().iter().map(|&side| side as i64).collect(),
            data_type: elem_type(value.datum_type()) as i32,
            raw_data: value.as_bytes().to_vec(),
            ..Default::default()
        };
        GraphProto {
            initializer: known_names.iter().zip(known).map(constant).collect(),
            node: vec![NodeProto {
                input: [&*input_names, &*known_names].concat(),
                output: output_names.clone(),
                ..self.0
            }],
            input: input_names
                .iter()
                .zip(inputs)
                .map(|(name, input)| info(name, elem_type(input.datum_type())))
                .collect(),
            output: output_names.iter().map(|name| info(name, OnnxType::Float)).collect(),
            ..Default::default()
        }
    }

    /// Puts an attribute in, in place of another of its name.
    fn with(self, attribute: AttributeProto) -> Self {
        let mut node = self.without(&attribute.name);
        node.0.attribute.push(attribute);
        node
    }
}

/// The outputs of the node for these inputs, through the same steps as a file's node.
pub fn run(node: Node, inputs: &[Tensor], outputs: usize) -> TractResult<Vec<Tensor>> {
    run_known(node, inputs, &[], outputs)
}

/// The same for a node whose last inputs are constants of the file.
pub fn run_known(node: Node, inputs: &[Tensor], known: &[Tensor], outputs: usize) -> TractResult<Vec<Tensor>> {
    run_graph(node.into_graph_with(inputs, known, outputs), inputs)
}

/// The outputs of a graph for these inputs.
pub fn run_graph(graph: GraphProto, inputs: &[Tensor]) -> TractResult<Vec<Tensor>> {
    run_plan(&planned(graph, inputs)?, inputs)
}

/// The outputs of a model for these inputs.
pub fn run_model(model: &ModelProto, inputs: &[Tensor]) -> TractResult<Vec<Tensor>> {
    run_plan(&planned_model(model, inputs)?, inputs)
}

fn run_plan(plan: &Arc<TypedSimplePlan>, inputs: &[Tensor]) -> TractResult<Vec<Tensor>> {
    let inputs = inputs.iter().map(|input| input.clone().into_tvalue()).collect();
    let watch = Watch::new(&|| false);
    let outputs = plan.spawn()?.run_plan_with_eval(inputs, |context, state, node, inputs| -> TractResult<_> {
        eval(context, state, node, inputs, &watch)
    })?;
    Ok(outputs.into_iter().map(TValue::into_tensor).collect())
}

/// A plan of a graph for inputs of these shapes.
pub fn planned(graph: GraphProto, inputs: &[Tensor]) -> TractResult<Arc<TypedSimplePlan>> {
    planned_model(&model(graph), inputs)
}

fn planned_model(model: &ModelProto, inputs: &[Tensor]) -> TractResult<Arc<TypedSimplePlan>> {
    let mut model = parsed(model)?;
    for (index, input) in inputs.iter().enumerate() {
        model.set_input_fact(index, InferenceFact::dt_shape(input.datum_type(), input.shape()))?;
    }
    let mut model = model.into_typed()?;
    super::control::begin_anew(&mut model);
    let mut model = model.into_optimized()?;
    super::mend(&mut model)?;
    TypedSimplePlan::new(model)
}

/// The shapes that tract expects of the outputs where the first dimension of every input is a symbol, as texts.
pub fn shapes_for_any_rows(node: Node, inputs: &[Tensor], outputs: usize) -> TractResult<Vec<String>> {
    let mut model = parsed(&model(node.into_graph(inputs, outputs)))?;
    let rows = model.symbols.sym("N").to_dim();
    for (index, input) in inputs.iter().enumerate() {
        let mut shape: TVec<TDim> = input.shape().iter().map(|dim| dim.to_dim()).collect();
        shape[0] = rows.clone();
        model.set_input_fact(index, InferenceFact::dt_shape(input.datum_type(), shape))?;
    }
    let model = model.into_typed()?;
    (0..outputs).map(|output| Ok(format!("{:?}", model.output_fact(output)?.shape))).collect()
}

fn model(graph: GraphProto) -> ModelProto {
    let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    let opset_import = vec![opset("", 17), opset("ai.onnx.ml", 4)];
    ModelProto { graph: Some(graph), opset_import, ..Default::default() }
}

fn parsed(model: &ModelProto) -> TractResult<InferenceModel> {
    let mut onnx = tract_onnx::onnx().with_ignore_value_info(true);
    super::register(&mut onnx.op_register);
    Ok(onnx.parse(model, None)?.model)
}

/// Checks FP32 values against those of ONNX Runtime, which adds in another order.
#[track_caller]
pub fn assert_close(got: &Tensor, expected: &[f32]) {
    let got = got.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec();
    let close = got.len() == expected.len() && got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(close, "{got:?} instead of {expected:?}");
}

pub fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind as i32, ..Default::default() }
}

/// A tensor of this type and any shape.
pub fn info(name: &str, elem_type: OnnxType) -> ValueInfoProto {
    let tensor = type_proto::Tensor { elem_type: elem_type as i32, shape: None };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { value, ..Default::default() }), ..Default::default() }
}

pub fn elem_type(dt: DatumType) -> OnnxType {
    match dt {
        DatumType::Bool => OnnxType::Bool,
        DatumType::U8 => OnnxType::Uint8,
        DatumType::I8 => OnnxType::Int8,
        DatumType::U16 => OnnxType::Uint16,
        DatumType::U32 => OnnxType::Uint32,
        DatumType::U64 => OnnxType::Uint64,
        DatumType::I32 => OnnxType::Int32,
        DatumType::I64 => OnnxType::Int64,
        DatumType::F16 => OnnxType::Float16,
        DatumType::F32 => OnnxType::Float,
        DatumType::F64 => OnnxType::Double,
        DatumType::String => OnnxType::String,
        other => panic!("no test has needed {other:?} yet"),
    }
}
