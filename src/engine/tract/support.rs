//! What tract lacks, found in the file before tract looks at it, so that everything missing is named at once.

use std::collections::BTreeSet;

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, type_proto};

use super::NAME;
use crate::engine::clean_up::OWN_DOMAIN;
use crate::engine::onnx::{DEFAULT_DOMAIN, OnnxFacts, graphs, type_name};
use crate::engine::{LoadError, MissingOperator};

const ML_DOMAIN: &str = "ai.onnx.ml";
const MICROSOFT_DOMAIN: &str = "com.microsoft";

/// The operators of `com.microsoft` that tract, or this crate, implements as that domain defines them. Its registry goes by name alone,
/// so that another domain's `Attention` would run as ONNX's.
const MICROSOFT_OPERATORS: [&str; 15] = [
    "BiasGelu",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "FastGelu",
    "GatherBlockQuantized",
    "Gelu",
    "GroupQueryAttention",
    "MatMulNBits",
    "MultiHeadAttention",
    "QuantizeLinear",
    "QuickGelu",
    "RotaryEmbedding",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "Tokenizer",
];

/// Refuses a file with operators that the engine lacks.
///
/// # Errors
/// `MissingOperators` with all of them.
pub fn operators(facts: &OnnxFacts, register: &OnnxOpRegister) -> Result<(), LoadError> {
    let has = |domain: &str, name: &str| match domain {
        DEFAULT_DOMAIN | ML_DOMAIN | OWN_DOMAIN => register.0.contains_key(name),
        MICROSOFT_DOMAIN => MICROSOFT_OPERATORS.contains(&name) && register.0.contains_key(name),
        _ => false,
    };
    let lacking = facts.operators.iter().filter(|operator| !has(&operator.domain, &operator.name));
    let missing: Vec<MissingOperator> = lacking
        .map(|operator| MissingOperator {
            domain: operator.domain.clone(),
            name: operator.name.clone(),
            opset: facts.opsets.get(&operator.domain).copied().unwrap_or_default(),
            nodes: operator.nodes,
        })
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(LoadError::MissingOperators { engine: NAME, missing }) }
}

/// Refuses a file with tensors of a datatype that tract lacks.
///
/// # Errors
/// `Unsupported`, naming the datatypes.
pub fn datatypes(proto: &ModelProto) -> Result<(), LoadError> {
    let graphs = proto.graph.iter().flat_map(graphs);
    let lacking: BTreeSet<String> =
        graphs.flat_map(elem_types).filter(|elem_type| !has_datatype(*elem_type)).map(type_name).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let lacking = lacking.into_iter().collect::<Vec<_>>().join(", ");
    let cause =
        format!("it has no datatype {lacking}. Export the model in FLOAT, or serve it with an engine that has it");
    Err(LoadError::Unsupported { engine: NAME, cause })
}

fn has_datatype(elem_type: i32) -> bool {
    use OnnxType::*;
    matches!(
        OnnxType::try_from(elem_type),
        Ok(Bool | Uint8 | Uint16 | Uint32 | Uint64 | Int8 | Int16 | Int32 | Int64 | Float16 | Float | Double | String)
    )
}

/// Every element type that a graph names: of its inputs and outputs, its weights and its casts.
fn elem_types(graph: &GraphProto) -> Vec<i32> {
    let infos = graph.input.iter().chain(&graph.output);
    let declared = infos.filter_map(|info| match info.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => Some(tensor.elem_type),
    });
    let weights = graph.initializer.iter().map(|tensor| tensor.data_type);
    declared.chain(weights).chain(graph.node.iter().flat_map(node_elem_types)).collect()
}

fn node_elem_types(node: &NodeProto) -> Vec<i32> {
    let is_cast = node.op_type == "Cast";
    let of = |attribute: &tract_onnx::pb::AttributeProto| match &attribute.t {
        Some(tensor) => Some(tensor.data_type),
        None if is_cast && attribute.name == "to" => i32::try_from(attribute.i).ok(),
        None => None,
    };
    node.attribute.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tract_onnx::pb::{AttributeProto, TensorProto};

    use crate::engine::onnx::OperatorCount;

    fn lacking(operators: &[(&str, &str, usize)]) -> Vec<MissingOperator> {
        let count = |(domain, name, nodes): &(&str, &str, usize)| OperatorCount {
            domain: (*domain).into(),
            name: (*name).into(),
            nodes: *nodes,
        };
        let facts = OnnxFacts {
            ir_version: 8,
            producer: String::new(),
            opsets: BTreeMap::from([(DEFAULT_DOMAIN.into(), 17)]),
            operators: operators.iter().map(count).collect(),
            inputs: vec![],
            outputs: vec![],
        };
        match super::operators(&facts, &tract_onnx::onnx().op_register) {
            Err(LoadError::MissingOperators { missing, .. }) => missing,
            other => other.map(|()| vec![]).unwrap(),
        }
    }

    #[test]
    fn every_missing_operator_is_named_with_its_opset_and_count() {
        let missing = lacking(&[("ai.onnx", "Add", 1), ("ai.onnx", "Loop", 2), ("ai.onnx", "Unique", 1)]);
        let named: Vec<_> = missing.iter().map(|op| (op.name.as_str(), op.opset, op.nodes)).collect();
        assert_eq!(named, [("Loop", 17, 2), ("Unique", 17, 1)]);
    }

    #[test]
    fn another_domains_operator_is_not_taken_for_onnxs_of_the_same_name() {
        assert_eq!(lacking(&[("com.microsoft", "Attention", 1), ("my.domain", "Add", 1)]).len(), 2);
        assert!(lacking(&[("com.microsoft", "FastGelu", 1), ("ai.onnx.ml", "Normalizer", 1)]).is_empty());
    }

    #[test]
    fn datatypes_that_the_engine_lacks_are_named_wherever_they_occur() {
        let check = |graph| datatypes(&ModelProto { graph: Some(graph), ..Default::default() });
        let weight = |of: OnnxType| TensorProto { data_type: of as i32, ..Default::default() };
        let cast = |of: OnnxType| {
            let to = AttributeProto { name: "to".into(), i: of as i64, ..Default::default() };
            NodeProto { op_type: "Cast".into(), attribute: vec![to], ..Default::default() }
        };
        let graph = GraphProto {
            node: vec![cast(OnnxType::Bfloat16)],
            initializer: vec![weight(OnnxType::Int4)],
            ..Default::default()
        };
        let text = check(graph).unwrap_err().to_string();
        assert!(text.contains("BFLOAT16, INT4"), "{text}");
        let fine = GraphProto { node: vec![cast(OnnxType::Float16)], ..Default::default() };
        assert!(check(fine).is_ok());
    }
}
