//! What an ONNX file says about itself: opsets, operators, declared inputs and outputs. No engine is needed to read it.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use prost::Message;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimValue;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorShapeProto, ValueInfoProto, type_proto};

use crate::engine::{LoadError, fixed_sizes, ops};
use crate::signature::{Dim, TensorSpec};
use crate::tensor::DataType;

/// Largest model file read, in bytes: the most that one protobuf message may hold. Larger weights lie beside the file.
pub const MAX_MODEL_FILE_BYTES: u64 = (1 << 31) - 1;

/// The name of ONNX's default operator domain.
pub const DEFAULT_DOMAIN: &str = "ai.onnx";

/// The facts of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxFacts {
    pub ir_version: i64,
    /// The program that wrote the file, with its version; empty where the file doesn't say.
    pub producer: String,
    /// Version of each operator domain, by domain.
    pub opsets: BTreeMap<String, i64>,
    /// By domain and name; nodes of subgraphs are counted too.
    pub operators: Vec<OperatorCount>,
    /// What a request must bring: the graph's inputs without those that have an initialiser.
    pub inputs: Vec<Declared>,
    pub outputs: Vec<Declared>,
}

/// How often an operator occurs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperatorCount {
    pub domain: String,
    pub name: String,
    pub nodes: usize,
}

/// One input or output as the file declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    pub name: String,
    pub kind: DeclaredKind,
}

/// The type a file declares for an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeclaredKind {
    /// A tensor; `None` for an undeclared rank.
    Tensor(DataType, Option<Vec<Dim>>),
    /// The output of a ZipMap: a sequence of maps from these classes to scores, served as the FP32 tensor of the scores.
    ZipMap(Vec<String>),
    /// Anything that can't be served, by its name.
    Other(String),
}

impl Declared {
    /// The specification of this tensor.
    ///
    /// # Errors
    /// `Unsupported` when it is no tensor or its elements have no datatype in the protocol.
    pub fn spec(&self, engine: &'static str) -> Result<TensorSpec, LoadError> {
        let (dtype, dims, classes) = match &self.kind {
            DeclaredKind::Tensor(dtype, dims) => (*dtype, dims.clone(), vec![]),
            DeclaredKind::ZipMap(classes) => {
                let dims = vec![Dim::Unknown, Dim::Fixed(classes.len())];
                (DataType::Fp32, Some(dims), classes.clone())
            }
            DeclaredKind::Other(kind) => {
                let cause =
                    format!("'{}' is {kind}, only tensors of the protocol's datatypes can be served", self.name);
                return Err(LoadError::Unsupported { engine, cause });
            }
        };
        Ok(TensorSpec { name: self.name.clone(), dtype, dims, classes })
    }
}

/// Reads a file's facts without preparing it for any engine.
///
/// # Errors
/// `Unreadable` or `Invalid`.
pub fn read(path: &Path) -> Result<OnnxFacts, LoadError> {
    Ok(facts(&read_proto(path)?))
}

/// Reads and decodes a model file, and writes sizes that its weights fix into the declarations of its inputs. External data
/// stays where it is.
pub(super) fn read_proto(path: &Path) -> Result<ModelProto, LoadError> {
    let unreadable = |error: std::io::Error| LoadError::Unreadable(error.kind().to_string());
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(LoadError::Unreadable("it is not a regular file".into()));
    }
    if metadata.len() > MAX_MODEL_FILE_BYTES {
        let text = format!("it has {} bytes, at most {MAX_MODEL_FILE_BYTES} are read", metadata.len());
        return Err(LoadError::Unreadable(text));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    if bytes.is_empty() {
        return Err(LoadError::Invalid("the file is empty".into()));
    }
    let mut proto = ModelProto::decode(bytes.as_slice())
        .map_err(|_| LoadError::Invalid(format!("{} bytes that are not an ONNX protobuf", bytes.len())))?;
    match &proto.graph {
        None => Err(LoadError::Invalid("it holds no graph".into())),
        Some(graph) if graph.output.is_empty() => Err(LoadError::Invalid("its graph has no outputs".into())),
        Some(_) => {
            fixed_sizes::fix(&mut proto);
            Ok(proto)
        }
    }
}

/// The facts of a decoded file.
pub(super) fn facts(proto: &ModelProto) -> OnnxFacts {
    let mut opsets = BTreeMap::new();
    for import in &proto.opset_import {
        opsets.insert(domain_name(&import.domain).to_owned(), import.version);
    }
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let (mut inputs, mut outputs) = (vec![], vec![]);
    if let Some(graph) = &proto.graph {
        for node in nodes(graph) {
            *counts.entry((domain_name(&node.domain), &node.op_type)).or_default() += 1;
        }
        let initialised: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        let asked = graph.input.iter().filter(|input| !initialised.contains(input.name.as_str()));
        inputs = asked.map(|input| declared(input, graph)).collect();
        outputs = graph.output.iter().map(|output| declared(output, graph)).collect();
    }
    let operators = counts
        .into_iter()
        .map(|((domain, name), nodes)| OperatorCount { domain: domain.into(), name: name.into(), nodes })
        .collect();
    let producer = format!("{} {}", proto.producer_name, proto.producer_version).trim().to_owned();
    OnnxFacts { ir_version: proto.ir_version, producer, opsets, operators, inputs, outputs }
}

/// Every node of a graph and of the graphs inside its nodes.
pub(super) fn nodes(graph: &GraphProto) -> Vec<&NodeProto> {
    let mut found = vec![];
    for graph in graphs(graph) {
        found.extend(&graph.node);
    }
    found
}

/// A graph and, depth first, every graph inside its nodes (bodies of If, Scan and Loop).
pub(super) fn graphs(graph: &GraphProto) -> Vec<&GraphProto> {
    // The decoder refuses messages nested deeper than 100, which bounds this stack.
    let (mut found, mut open) = (vec![], vec![graph]);
    while let Some(graph) = open.pop() {
        found.push(graph);
        for attribute in graph.node.iter().flat_map(|node| &node.attribute) {
            open.extend(attribute.g.iter().chain(&attribute.graphs));
        }
    }
    found
}

/// The domain by its usual name: the default domain may be written as nothing.
pub(super) fn domain_name(domain: &str) -> &str {
    if domain.is_empty() { DEFAULT_DOMAIN } else { domain }
}

/// An ONNX element type by its name in the specification.
pub(super) fn type_name(elem_type: i32) -> String {
    OnnxType::try_from(elem_type).map_or_else(|_| format!("type {elem_type}"), |known| known.as_str_name().to_owned())
}

fn declared(info: &ValueInfoProto, graph: &GraphProto) -> Declared {
    let kind = match info.r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => match datatype(tensor.elem_type) {
            Some(dtype) => DeclaredKind::Tensor(dtype, tensor.shape.as_ref().map(dims)),
            None => DeclaredKind::Other(format!("a tensor of {}", type_name(tensor.elem_type))),
        },
        None => zip_map(&info.name, graph)
            .unwrap_or_else(|| DeclaredKind::Other("a sequence, map, optional or of no declared type".into())),
    };
    Declared { name: info.name.clone(), kind }
}

fn zip_map(output: &str, graph: &GraphProto) -> Option<DeclaredKind> {
    let producer = graph.node.iter().find(|node| node.output.iter().any(|name| name == output))?;
    let is_zip_map = producer.op_type == "ZipMap";
    is_zip_map.then(|| ops::zip_map_classes(producer)).flatten().map(DeclaredKind::ZipMap)
}

fn dims(shape: &TensorShapeProto) -> Vec<Dim> {
    let dim = |value: &Option<DimValue>| match value {
        Some(DimValue::DimValue(size)) => usize::try_from(*size).map_or(Dim::Unknown, Dim::Fixed),
        Some(DimValue::DimParam(name)) if !name.is_empty() && name != "?" && !name.starts_with("unk__") => {
            Dim::Named(name.clone())
        }
        _ => Dim::Unknown,
    };
    shape.dim.iter().map(|each| dim(&each.value)).collect()
}

/// The protocol's datatype for an ONNX element type; `None` where it has none.
pub(super) fn datatype(elem_type: i32) -> Option<DataType> {
    Some(match OnnxType::try_from(elem_type).ok()? {
        OnnxType::Bool => DataType::Bool,
        OnnxType::Int8 => DataType::Int8,
        OnnxType::Int16 => DataType::Int16,
        OnnxType::Int32 => DataType::Int32,
        OnnxType::Int64 => DataType::Int64,
        OnnxType::Uint8 => DataType::Uint8,
        OnnxType::Uint16 => DataType::Uint16,
        OnnxType::Uint32 => DataType::Uint32,
        OnnxType::Uint64 => DataType::Uint64,
        OnnxType::Float16 => DataType::Fp16,
        OnnxType::Bfloat16 => DataType::Bf16,
        OnnxType::Float => DataType::Fp32,
        OnnxType::Double => DataType::Fp64,
        OnnxType::String => DataType::Bytes,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::tensor_shape_proto::Dimension;
    use tract_onnx::pb::{AttributeProto, OperatorSetIdProto, TensorProto, TypeProto};

    fn info(name: &str, elem_type: OnnxType, dims: Option<Vec<Option<DimValue>>>) -> ValueInfoProto {
        let dim = |value| Dimension { value, ..Default::default() };
        let shape = dims.map(|dims| TensorShapeProto { dim: dims.into_iter().map(dim).collect() });
        let tensor = type_proto::Tensor { elem_type: elem_type as i32, shape };
        let value = Some(type_proto::Value::TensorType(tensor));
        ValueInfoProto {
            name: name.into(),
            r#type: Some(TypeProto { value, ..Default::default() }),
            ..Default::default()
        }
    }

    fn node(domain: &str, op_type: &str, output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
        let (domain, op_type, output) = (domain.into(), op_type.into(), vec![output.into()]);
        NodeProto { domain, op_type, output, attribute, ..Default::default() }
    }

    fn read_graph(graph: GraphProto) -> OnnxFacts {
        let import = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
        let opset_import = vec![import("", 17), import("ai.onnx.ml", 3)];
        let producer_name = "exporter".into();
        facts(&ModelProto { graph: Some(graph), opset_import, producer_name, ..Default::default() })
    }

    #[test]
    fn dimensions_are_fixed_named_or_unknown_and_a_rank_may_be_missing() {
        let name = |text: &str| Some(DimValue::DimParam(text.into()));
        let dims = vec![name("N"), Some(DimValue::DimValue(4)), None, name("?"), Some(DimValue::DimValue(-1))];
        let x = info("x", OnnxType::String, Some(dims));
        let facts = read_graph(GraphProto { input: vec![x, info("any", OnnxType::Int64, None)], ..Default::default() });
        let x = facts.inputs[0].spec("e").unwrap();
        assert_eq!(x.dtype, DataType::Bytes);
        let expected = [Dim::Named("N".into()), Dim::Fixed(4), Dim::Unknown, Dim::Unknown, Dim::Unknown];
        assert_eq!(x.dims.unwrap(), expected);
        assert_eq!(facts.inputs[1].spec("e").unwrap().dims, None);
    }

    #[test]
    fn an_input_with_an_initialiser_is_no_input() {
        let initializer = vec![TensorProto { name: "w".into(), ..Default::default() }];
        let input = vec![info("x", OnnxType::Float, None), info("w", OnnxType::Float, None)];
        let facts = read_graph(GraphProto { input, initializer, ..Default::default() });
        assert_eq!(facts.inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>(), ["x"]);
    }

    #[test]
    fn operators_are_counted_by_domain_inside_branches_too() {
        let body = GraphProto { node: vec![node("ai.onnx", "Add", "b", vec![])], ..Default::default() };
        let branch = AttributeProto { g: Some(body), ..Default::default() };
        let nodes = vec![
            node("", "Add", "a", vec![]),
            node("ai.onnx.ml", "Scaler", "s", vec![]),
            node("", "If", "i", vec![branch]),
        ];
        let facts = read_graph(GraphProto { node: nodes, ..Default::default() });
        let counts: Vec<_> =
            facts.operators.iter().map(|op| (op.domain.as_str(), op.name.as_str(), op.nodes)).collect();
        assert_eq!(counts, [("ai.onnx", "Add", 2), ("ai.onnx", "If", 1), ("ai.onnx.ml", "Scaler", 1)]);
        assert_eq!(facts.opsets, BTreeMap::from([("ai.onnx".into(), 17), ("ai.onnx.ml".into(), 3)]));
        assert_eq!(facts.producer, "exporter");
    }

    #[test]
    fn what_is_no_tensor_is_served_only_if_it_is_a_zip_map() {
        let name = "classlabels_int64s".into();
        let classes = AttributeProto { name, ints: vec![0, 1, 2], ..Default::default() };
        let untyped = |name: &str| ValueInfoProto { name: name.into(), ..Default::default() };
        let graph = GraphProto {
            node: vec![node("ai.onnx.ml", "ZipMap", "maps", vec![classes])],
            output: vec![untyped("maps"), untyped("sequence"), info("f8", OnnxType::Float8e4m3fn, None)],
            ..Default::default()
        };
        let facts = read_graph(graph);
        let maps = facts.outputs[0].spec("e").unwrap();
        assert_eq!((maps.dtype, maps.dims), (DataType::Fp32, Some(vec![Dim::Unknown, Dim::Fixed(3)])));
        assert_eq!(maps.classes, ["0", "1", "2"]);
        let refused = |output: usize| facts.outputs[output].spec("e").unwrap_err().to_string();
        assert!(refused(1).contains("'sequence' is a sequence"), "{}", refused(1));
        assert!(refused(2).contains("'f8' is a tensor of FLOAT8E4M3FN"), "{}", refused(2));
    }
}
