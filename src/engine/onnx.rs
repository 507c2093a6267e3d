//! What an ONNX file says about itself: opsets, operators, declared inputs and outputs. No engine is needed to read it.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use prost::Message;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimValue;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorShapeProto, ValueInfoProto, type_proto};

use crate::engine::LoadError;
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
    /// The output of a ZipMap: a sequence of maps from class to score, served as the FP32 tensor of its scores.
    ZipMap(Vec<Dim>),
    /// Anything that can't be served, by its name.
    Other(String),
}

impl Declared {
    /// The specification of this tensor.
    ///
    /// # Errors
    /// `Unsupported` when it is no tensor or its elements have no datatype in the protocol.
    pub fn spec(&self, engine: &'static str) -> Result<TensorSpec, LoadError> {
        let (dtype, dims) = match &self.kind {
            DeclaredKind::Tensor(dtype, dims) => (*dtype, dims.clone()),
            DeclaredKind::ZipMap(dims) => (DataType::Fp32, Some(dims.clone())),
            DeclaredKind::Other(kind) => {
                let cause =
                    format!("'{}' is {kind}, only tensors of the protocol's datatypes can be served", self.name);
                return Err(LoadError::Unsupported { engine, cause });
            }
        };
        Ok(TensorSpec { name: self.name.clone(), dtype, dims })
    }
}

/// Reads a file's facts without preparing it for any engine.
///
/// # Errors
/// `Unreadable` or `Invalid`.
pub fn read(path: &Path) -> Result<OnnxFacts, LoadError> {
    Ok(facts(&read_proto(path)?))
}

/// Reads and decodes a model file. External data stays where it is.
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
    let proto = ModelProto::decode(bytes.as_slice())
        .map_err(|_| LoadError::Invalid(format!("{} bytes that are not an ONNX protobuf", bytes.len())))?;
    match &proto.graph {
        None => Err(LoadError::Invalid("it holds no graph".into())),
        Some(graph) if graph.output.is_empty() => Err(LoadError::Invalid("its graph has no outputs".into())),
        Some(_) => Ok(proto),
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
    if producer.op_type != "ZipMap" {
        return None;
    }
    let classes = producer.attribute.iter().map(|attribute| attribute.ints.len().max(attribute.strings.len())).max()?;
    Some(DeclaredKind::ZipMap(vec![Dim::Unknown, Dim::Fixed(classes)]))
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

fn datatype(elem_type: i32) -> Option<DataType> {
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
