//! Patterns that tract 0.23 computes wrongly without any error, refused by name until they are mended.
//!
//! Each was found by comparing tract with ONNX Runtime and with the outputs recorded in ONNX's own operator tests. A rule
//! may refuse a graph that would have come out right; it must not let one through that comes out wrong.

use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto};

use super::NAME;
use super::support::elem_types;
use crate::engine::LoadError;
use crate::engine::onnx::graphs;

/// Refuses a file that holds one of the patterns, in its graph or in a graph inside a node.
///
/// # Errors
/// `KnownWrong` for the first that is found.
pub fn check(proto: &ModelProto) -> Result<(), LoadError> {
    let graphs: Vec<&GraphProto> = proto.graph.iter().flat_map(graphs).collect();
    let has_fp16 = graphs.iter().any(|graph| elem_types(graph).contains(&(OnnxType::Float16 as i32)));
    let has_bit_cast = graphs.iter().flat_map(|graph| &graph.node).any(|node| node.op_type == "BitCast");
    let scope = Scope { is_narrow: has_fp16 && has_bit_cast };
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

const RULES: [Rule; 2] = [
    Rule {
        pattern: "a recurrent operator with activations of its own, clip or input_forget, which the engine passes over",
        advice: "Export the recurrence as its basic operators",
        matches: unusual_recurrence,
    },
    Rule {
        // Elsewhere a pass makes FLOAT of it.
        pattern: "a Celu in a model with FLOAT16 and a BitCast",
        advice: "Export the model in FLOAT",
        matches: |scope, node| node.op_type == "Celu" && scope.is_narrow,
    },
];

fn unusual_recurrence(_: &Scope, node: &NodeProto) -> bool {
    let usual: &[&[u8]] = match node.op_type.as_str() {
        "RNN" => &[b"tanh"],
        "GRU" => &[b"sigmoid", b"tanh"],
        "LSTM" => &[b"sigmoid", b"tanh", b"tanh"],
        _ => return false,
    };
    // The list holds the functions of one direction after the other; names are compared without case (ONNX, RNN).
    let activations = attribute(node, "activations").map(|attribute| attribute.strings.as_slice()).unwrap_or_default();
    let is_usual = activations.iter().zip(usual.iter().cycle()).all(|(name, usual)| name.eq_ignore_ascii_case(usual));
    let has_clip = attribute(node, "clip").is_some();
    let couples_gates = attribute(node, "input_forget").is_some_and(|attribute| attribute.i != 0);
    !is_usual || has_clip || couples_gates
}

/// What a rule may want to know beyond the node.
struct Scope {
    /// Whether the model holds values of FLOAT16 that no pass has widened.
    is_narrow: bool,
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// The node's name, or that of its first output, which every node has.
fn shown_name(node: &NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("?", String::as_str) } else { &node.name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::TensorProto;

    fn node(op_type: &str, input: &[&str], output: &[&str]) -> NodeProto {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        NodeProto { op_type: op_type.into(), input: owned(input), output: owned(output), ..Default::default() }
    }

    fn with_int(mut node: NodeProto, name: &str, value: i64) -> NodeProto {
        node.attribute.push(AttributeProto { name: name.into(), i: value, ..Default::default() });
        node
    }

    fn model(graph: GraphProto) -> ModelProto {
        ModelProto { graph: Some(graph), ..Default::default() }
    }

    fn checked(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Result<(), String> {
        check(&model(GraphProto { node: nodes, initializer, ..Default::default() })).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pattern_inside_a_branch_is_found_too() {
        let body = GraphProto { node: vec![with_int(node("GRU", &["x"], &["y"]), "clip", 0)], ..Default::default() };
        let mut branch = node("If", &["c"], &["y"]);
        branch.attribute.push(AttributeProto { name: "then_branch".into(), g: Some(body), ..Default::default() });
        assert!(checked(vec![branch], vec![]).is_err());
    }

    #[test]
    fn recurrences_are_refused_with_what_the_engine_passes_over() {
        let activated = |op_type, names: &[&str]| {
            let strings = names.iter().map(|name| name.as_bytes().to_vec()).collect();
            let mut node = node(op_type, &["x"], &["y"]);
            node.attribute.push(AttributeProto { name: "activations".into(), strings, ..Default::default() });
            checked(vec![node], vec![])
        };
        assert!(activated("RNN", &["Relu"]).is_err());
        assert!(activated("LSTM", &["HardSigmoid", "Tanh", "Tanh"]).is_err());
        assert!(activated("GRU", &["Sigmoid", "Tanh", "sigmoid", "tanh"]).is_ok());
        assert!(checked(vec![with_int(node("LSTM", &["x"], &["y"]), "input_forget", 1)], vec![]).is_err());
        assert!(checked(vec![with_int(node("GRU", &["x"], &["y"]), "clip", 0)], vec![]).is_err());
    }

    #[test]
    fn celu_is_refused_only_beside_fp16_that_stays() {
        let weight = |data_type: OnnxType| TensorProto { data_type: data_type as i32, ..Default::default() };
        let celu = || vec![node("Celu", &["x"], &["y"]), node("BitCast", &["u"], &["v"])];
        assert!(checked(celu(), vec![weight(OnnxType::Float16)]).is_err());
        assert!(checked(celu(), vec![weight(OnnxType::Float)]).is_ok());
        assert!(checked(celu()[..1].to_vec(), vec![weight(OnnxType::Float16)]).is_ok());
    }
}
