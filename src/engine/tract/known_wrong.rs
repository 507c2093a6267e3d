//! Patterns that tract 0.23 computes wrongly without any error, refused by name until they are mended.
//!
//! Each was found by comparing tract with ONNX Runtime and with the outputs recorded in ONNX's own operator tests. A rule
//! may refuse a graph that would have come out right; it must not let one through that comes out wrong.

use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use super::NAME;
use super::support::elem_types;
use crate::engine::onnx::graphs;
use crate::engine::{LoadError, clean_up};

/// Refuses a file that holds one of the patterns, in its graph or in a graph inside a node.
///
/// # Errors
/// `KnownWrong` for the first that is found.
pub fn check(proto: &ModelProto) -> Result<(), LoadError> {
    let graphs: Vec<&GraphProto> = proto.graph.iter().flat_map(graphs).collect();
    let has_fp16 = graphs.iter().any(|graph| elem_types(graph).contains(&(OnnxType::Float16 as i32)));
    let scope = Scope { is_narrow: has_fp16 && clean_up::keeps_sixteen_bits(proto) };
    for graph in graphs {
        for node in &graph.node {
            if let Some(rule) = RULES.iter().find(|rule| (rule.matches)(&scope, node)) {
                let pattern = format!("{} (node '{}')", rule.pattern, shown_name(node));
                return Err(LoadError::KnownWrong { engine: NAME, pattern, advice: rule.advice });
            }
        }
    }
    Ok(())
}

struct Rule {
    pattern: &'static str,
    advice: &'static str,
    matches: fn(&Scope, &NodeProto) -> bool,
}

const RULES: [Rule; 1] = [Rule {
    // Elsewhere a pass makes FLOAT of it.
    pattern: "a Celu in a model with FLOAT16 and a BitCast of 16 bits",
    advice: "Export the model in FLOAT",
    matches: |scope, node| node.op_type == "Celu" && scope.is_narrow,
}];

/// What a rule may want to know beyond the node.
struct Scope {
    /// Whether the model holds values of FLOAT16 that no pass has widened.
    is_narrow: bool,
}

/// The node's name, or that of its first output, which every node has.
fn shown_name(node: &NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("?", String::as_str) } else { &node.name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::{AttributeProto, TensorProto};

    fn node(op_type: &str, input: &[&str], output: &[&str]) -> NodeProto {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        NodeProto { op_type: op_type.into(), input: owned(input), output: owned(output), ..Default::default() }
    }

    fn weight(data_type: OnnxType) -> TensorProto {
        TensorProto { data_type: data_type as i32, ..Default::default() }
    }

    fn celu_and_bits() -> Vec<NodeProto> {
        let mut bits = node("BitCast", &["u"], &["v"]);
        let to = OnnxType::Int16 as i64;
        bits.attribute.push(AttributeProto { name: "to".into(), i: to, ..Default::default() });
        vec![node("Celu", &["x"], &["y"]), bits]
    }

    fn model(graph: GraphProto) -> ModelProto {
        ModelProto { graph: Some(graph), ..Default::default() }
    }

    fn checked(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Result<(), String> {
        check(&model(GraphProto { node: nodes, initializer, ..Default::default() })).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pattern_inside_a_branch_is_found_too() {
        let body = GraphProto { node: celu_and_bits(), ..Default::default() };
        let mut branch = node("If", &["c"], &["y"]);
        branch.attribute.push(AttributeProto { name: "then_branch".into(), g: Some(body), ..Default::default() });
        assert!(checked(vec![branch], vec![weight(OnnxType::Float16)]).is_err());
    }

    #[test]
    fn celu_is_refused_only_beside_fp16_that_stays() {
        assert!(checked(celu_and_bits(), vec![weight(OnnxType::Float16)]).is_err());
        assert!(checked(celu_and_bits(), vec![weight(OnnxType::Float)]).is_ok());
        assert!(checked(celu_and_bits()[..1].to_vec(), vec![weight(OnnxType::Float16)]).is_ok());
    }
}
