//! Patterns that tract 0.23 computes wrongly without any error, refused by name until they are mended.
//!
//! Each was found by comparing tract with ONNX Runtime and with the outputs recorded in ONNX's own operator tests. A rule
//! may refuse a graph that would have come out right; it must not let one through that comes out wrong.

use std::collections::HashMap;

use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

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
    for graph in graphs {
        let scope = Scope::of(graph, has_fp16);
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

const RULES: [Rule; 7] = [
    Rule {
        pattern: "a Softmax between DequantizeLinear and QuantizeLinear",
        advice: "Quantize the model without its Softmax (op_types_to_quantize)",
        matches: quantized_softmax,
    },
    Rule {
        pattern: "a recurrent operator with direction=reverse",
        advice: "Export it as bidirectional, or reverse the sequence before a forward one",
        matches: reverse_recurrence,
    },
    Rule {
        pattern: "a recurrent operator with activations of its own, clip or input_forget, which the engine passes over",
        advice: "Export the recurrence as its basic operators",
        matches: unusual_recurrence,
    },
    Rule {
        pattern: "an Attention that is causal with past keys, or has a window",
        advice: "Export the attention as its MatMul and Softmax operators",
        matches: causal_past_attention,
    },
    Rule {
        pattern: "a SpaceToDepth with mode=CRD",
        advice: "Export it as Reshape and Transpose",
        matches: |_, node| node.op_type == "SpaceToDepth" && text(node, "mode") == Some(b"CRD"),
    },
    Rule {
        pattern: "a Celu in a model with FLOAT16",
        advice: "Export the model in FLOAT",
        matches: |scope, node| node.op_type == "Celu" && scope.has_fp16,
    },
    Rule {
        pattern: "a BitShift by an amount that is not known to be within the type's width",
        advice: "Export the amount as a constant from 0 to the type's width less one",
        matches: unbounded_shift,
    },
];

/// tract folds what lies between the two into a table of single values if it takes it for element-wise, and its Softmax
/// says that it is.
fn quantized_softmax(scope: &Scope, node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "Softmax" | "LogSoftmax")
        && scope.is_dequantized(node)
        && node.output.iter().any(|output| scope.is_quantized(output))
}

fn reverse_recurrence(_: &Scope, node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "RNN" | "LSTM" | "GRU") && text(node, "direction") == Some(b"reverse")
}

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

fn causal_past_attention(_: &Scope, node: &NodeProto) -> bool {
    const PAST_KEY: usize = 4;
    let is_causal = attribute(node, "is_causal").is_some_and(|attribute| attribute.i != 0);
    let has_past = node.input.get(PAST_KEY).is_some_and(|name| !name.is_empty());
    let has_window = node.attribute.iter().any(|attribute| attribute.name.contains("window") && attribute.i >= 0);
    node.op_type == "Attention" && ((is_causal && has_past) || has_window)
}

fn unbounded_shift(scope: &Scope, node: &NodeProto) -> bool {
    node.op_type == "BitShift"
        && !node
            .input
            .get(1)
            .and_then(|amount| scope.constants.get(amount.as_str()))
            .is_some_and(|amount| in_range(amount))
}

/// Whether every value of an unsigned tensor is less than the number of its bits. Weights outside the file are not read.
fn in_range(amount: &TensorProto) -> bool {
    let bytes = match OnnxType::try_from(amount.data_type) {
        Ok(OnnxType::Uint8) => 1,
        Ok(OnnxType::Uint16) => 2,
        Ok(OnnxType::Uint32) => 4,
        Ok(OnnxType::Uint64) => 8,
        _ => return false,
    };
    let fits = |value: u64| value < 8 * bytes as u64;
    if amount.data_location.is_some_and(|location| location != 0) {
        return false;
    }
    let little_endian = |raw: &[u8]| raw.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
    amount.raw_data.chunks(bytes).map(little_endian).all(fits)
        && amount.int32_data.iter().all(|&value| u64::try_from(value).is_ok_and(fits))
        && amount.uint64_data.iter().all(|&value| fits(value))
}

/// A graph's nodes by what they make and take.
struct Scope<'a> {
    producers: HashMap<&'a str, &'a NodeProto>,
    consumers: HashMap<&'a str, Vec<&'a NodeProto>>,
    /// Initialisers and the outputs of Constant.
    constants: HashMap<&'a str, &'a TensorProto>,
    has_fp16: bool,
}

/// Operators of one input that tract folds along with a Softmax beside them.
const ELEMENT_WISE: [&str; 22] = [
    "Abs",
    "Celu",
    "Ceil",
    "Clip",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "Neg",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sqrt",
    "Tanh",
];

impl<'a> Scope<'a> {
    fn of(graph: &'a GraphProto, has_fp16: bool) -> Self {
        let mut scope =
            Self { producers: HashMap::new(), consumers: HashMap::new(), constants: HashMap::new(), has_fp16 };
        scope.constants.extend(graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)));
        for node in &graph.node {
            for output in &node.output {
                scope.producers.insert(output, node);
                if let Some(value) = attribute(node, "value").and_then(|attribute| attribute.t.as_ref())
                    && node.op_type == "Constant"
                {
                    scope.constants.insert(output, value);
                }
            }
            for input in &node.input {
                scope.consumers.entry(input).or_default().push(node);
            }
        }
        scope
    }

    /// Whether the node's input comes from a DequantizeLinear by element-wise steps alone.
    fn is_dequantized(&self, node: &NodeProto) -> bool {
        let mut node = node;
        // No path is longer than the graph has values, even in a graph with a circle.
        for _ in 0..=self.producers.len() {
            match node.input.first().and_then(|input| self.producers.get(input.as_str())) {
                Some(before) if before.op_type == "DequantizeLinear" => return true,
                Some(before) if ELEMENT_WISE.contains(&before.op_type.as_str()) => node = before,
                _ => return false,
            }
        }
        false
    }

    /// Whether a value goes to a QuantizeLinear by element-wise steps alone.
    fn is_quantized(&self, value: &str) -> bool {
        let mut open = vec![value];
        for _ in 0..=self.producers.len() {
            let Some(value) = open.pop() else { return false };
            for after in self.consumers.get(value).into_iter().flatten() {
                if after.op_type == "QuantizeLinear" {
                    return true;
                }
                if ELEMENT_WISE.contains(&after.op_type.as_str()) {
                    open.extend(after.output.iter().map(String::as_str));
                }
            }
        }
        false
    }
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

fn text<'a>(node: &'a NodeProto, name: &str) -> Option<&'a [u8]> {
    attribute(node, name).map(|attribute| attribute.s.as_slice())
}

/// The node's name, or that of its first output, which every node has.
fn shown_name(node: &NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("?", String::as_str) } else { &node.name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op_type: &str, input: &[&str], output: &[&str]) -> NodeProto {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        NodeProto { op_type: op_type.into(), input: owned(input), output: owned(output), ..Default::default() }
    }

    fn with_text(mut node: NodeProto, name: &str, value: &str) -> NodeProto {
        node.attribute.push(AttributeProto { name: name.into(), s: value.into(), ..Default::default() });
        node
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

    fn quantized(between: Vec<NodeProto>) -> Result<(), String> {
        let mut nodes = vec![node("DequantizeLinear", &["q", "s", "z"], &["a"])];
        nodes.extend(between);
        nodes.push(node("QuantizeLinear", &["b", "s", "z"], &["r"]));
        checked(nodes, vec![])
    }

    #[test]
    fn a_softmax_between_dequantize_and_quantize_is_refused() {
        let error = quantized(vec![node("Softmax", &["a"], &["b"])]).unwrap_err();
        assert!(error.contains("a Softmax between DequantizeLinear and QuantizeLinear (node 'b')"), "{error}");
        let steps = vec![node("Relu", &["a"], &["c"]), node("LogSoftmax", &["c"], &["d"]), node("Neg", &["d"], &["b"])];
        assert!(quantized(steps).is_err());
        assert!(quantized(vec![node("Sigmoid", &["a"], &["b"])]).is_ok());
        let outside = vec![node("MatMul", &["a", "w"], &["c"]), node("Softmax", &["c"], &["b"])];
        assert!(quantized(outside).is_ok());
    }

    #[test]
    fn a_pattern_inside_a_branch_is_found_too() {
        let body = GraphProto {
            node: vec![with_text(node("GRU", &["x"], &["y"]), "direction", "reverse")],
            ..Default::default()
        };
        let mut branch = node("If", &["c"], &["y"]);
        branch.attribute.push(AttributeProto { name: "then_branch".into(), g: Some(body), ..Default::default() });
        assert!(checked(vec![branch], vec![]).is_err());
    }

    #[test]
    fn only_the_reverse_direction_of_recurrences_is_refused() {
        for op_type in ["RNN", "LSTM", "GRU"] {
            let directed =
                |direction| checked(vec![with_text(node(op_type, &["x"], &["y"]), "direction", direction)], vec![]);
            assert!(directed("reverse").is_err());
            assert!(directed("forward").is_ok());
            assert!(directed("bidirectional").is_ok());
        }
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
    fn attention_is_refused_where_it_is_causal_with_a_past_or_has_a_window() {
        let past = || node("Attention", &["q", "k", "v", "", "pk", "pv"], &["y"]);
        let plain = || node("Attention", &["q", "k", "v"], &["y"]);
        assert!(checked(vec![with_int(past(), "is_causal", 1)], vec![]).is_err());
        assert!(checked(vec![with_int(plain(), "left_window_size", 4)], vec![]).is_err());
        assert!(checked(vec![past()], vec![]).is_ok());
        assert!(checked(vec![with_int(plain(), "is_causal", 1)], vec![]).is_ok());
    }

    #[test]
    fn space_to_depth_is_refused_only_by_columns_first() {
        let mode = |op_type, mode| checked(vec![with_text(node(op_type, &["x"], &["y"]), "mode", mode)], vec![]);
        assert!(mode("SpaceToDepth", "CRD").is_err());
        assert!(mode("SpaceToDepth", "DCR").is_ok());
        assert!(mode("DepthToSpace", "CRD").is_ok());
    }

    #[test]
    fn celu_is_refused_only_beside_fp16() {
        let weight = |data_type: OnnxType| TensorProto { data_type: data_type as i32, ..Default::default() };
        let celu = || vec![node("Celu", &["x"], &["y"])];
        assert!(checked(celu(), vec![weight(OnnxType::Float16)]).is_err());
        assert!(checked(celu(), vec![weight(OnnxType::Float)]).is_ok());
    }

    #[test]
    fn a_shift_needs_a_constant_within_the_width() {
        let amount = |raw_data: &[u8], data_type: OnnxType| TensorProto {
            name: "n".into(),
            data_type: data_type as i32,
            raw_data: raw_data.to_vec(),
            ..Default::default()
        };
        let shift = || vec![node("BitShift", &["x", "n"], &["y"])];
        assert!(checked(shift(), vec![]).is_err());
        assert!(checked(shift(), vec![amount(&[7], OnnxType::Uint8)]).is_ok());
        assert!(checked(shift(), vec![amount(&[7, 8], OnnxType::Uint8)]).is_err());
        assert!(checked(shift(), vec![amount(&[15, 0, 0, 1], OnnxType::Uint16)]).is_err());
        let mut constant = node("Constant", &[], &["n"]);
        let value = Some(amount(&[3], OnnxType::Uint8));
        constant.attribute.push(AttributeProto { name: "value".into(), t: value, ..Default::default() });
        assert!(checked([shift(), vec![constant]].concat(), vec![]).is_ok());
    }
}
