//! Attributes that no operator has a use for, refused before tract reads them: it counts up to an axis of any size, and makes a
//! table for a window of any size.
//!
//! The operator's own rules, such as that an axis is one of its input's, are for the operator.

use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto};

use super::NAME;
use crate::engine::LoadError;
use crate::engine::onnx::graphs;
use crate::tensor::MAX_RANK;

/// Most places of a window, as convolutions and poolings move over their input.
const MAX_WINDOW: i64 = 1 << 16;
/// Furthest that a window steps or is spread along an axis.
const MAX_STEP: i64 = 1 << 20;
/// Furthest that an axis is padded.
const MAX_PAD: i64 = 1 << 16;
/// Most groups, heads, features of a hidden state, or places of a block.
const MAX_COUNT: i64 = 1 << 24;

/// # Errors
/// `Invalid`, naming the node and the attribute.
pub fn check(proto: &ModelProto) -> Result<(), LoadError> {
    for node in proto.graph.iter().flat_map(graphs).flat_map(|graph| &graph.node) {
        if node.op_type == "Scan"
            && let Err(cause) = scan(node)
        {
            return Err(LoadError::Invalid(format!("Scan (node '{}'): {cause}", node.name)));
        }
        if let Some(attribute) = node.attribute.iter().find(|attribute| !is_sane(node, attribute)) {
            let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
            let name = name.map_or("?", String::as_str);
            let text = format!(
                "attribute '{}' of {} (node '{name}') holds {}, which no {NAME} operator takes",
                attribute.name,
                node.op_type,
                shown(attribute)
            );
            return Err(LoadError::Invalid(text));
        }
    }
    Ok(())
}

/// Checks that a Scan's lists have as many entries as its graph has inputs and outputs to scan, which tract takes for granted.
fn scan(node: &NodeProto) -> Result<(), String> {
    let find = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let body = find("body").and_then(|attribute| attribute.g.as_ref()).ok_or("it has no body")?;
    let scanned = find("num_scan_inputs").map_or(0, |attribute| attribute.i);
    let scanned = usize::try_from(scanned).ok().filter(|&scanned| scanned <= body.input.len());
    let scanned = scanned.ok_or("attribute 'num_scan_inputs' holds more than the inputs of its body")?;
    let given = body.output.len().checked_sub(body.input.len() - scanned);
    let given = given.ok_or("its body has fewer outputs than states")?;
    let lists = [("scan_input_axes", scanned), ("scan_input_directions", scanned), ("scan_output_axes", given)];
    for (name, expected) in lists.into_iter().chain([("scan_output_directions", given)]) {
        let got = find(name).map_or(expected, |attribute| attribute.ints.len());
        if got != expected {
            return Err(format!("attribute '{name}' holds {got} entries instead of {expected}"));
        }
    }
    Ok(())
}

fn is_sane(node: &NodeProto, attribute: &AttributeProto) -> bool {
    let values = || attribute.ints.iter().copied().chain([attribute.i]);
    match attribute.name.as_str() {
        "axis" | "axes" | "perm" | "batch_axis" | "time_axis" | "batch_dims" | "scan_input_axes"
        | "scan_output_axes" => {
            // A list that holds axes in some domains may hold others' numbers in texts' operators.
            attribute.ints.len() <= MAX_RANK && values().all(|axis| axis.unsigned_abs() <= MAX_RANK as u64)
        }
        "kernel_shape" => {
            let places = attribute.ints.iter().try_fold(1i64, |places, &size| places.checked_mul(size.max(0)));
            attribute.ints.iter().all(|&size| size >= 0) && places.is_some_and(|places| places <= MAX_WINDOW)
        }
        "strides" | "dilations" => attribute.ints.iter().all(|step| (1..=MAX_STEP).contains(step)),
        "pads" | "output_padding" => attribute.ints.iter().all(|pad| pad.unsigned_abs() <= MAX_PAD as u64),
        "output_shape" => attribute.ints.iter().all(|size| (0..=MAX_COUNT).contains(size)),
        "group" | "hidden_size" | "num_heads" | "kv_num_heads" | "q_num_heads" | "blocksize" | "block_size"
        | "num_outputs" | "sample_size" | "K" | "N" | "bits"
            if node.domain != "headgate" =>
        {
            (0..=MAX_COUNT).contains(&attribute.i)
        }
        "size" if node.op_type == "LRN" => (1..=MAX_COUNT).contains(&attribute.i),
        _ => true,
    }
}

fn shown(attribute: &AttributeProto) -> String {
    if attribute.ints.is_empty() {
        return attribute.i.to_string();
    }
    let shown: Vec<String> = attribute.ints.iter().take(MAX_RANK).map(i64::to_string).collect();
    format!("[{}]", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::GraphProto;

    fn refused(op_type: &str, attribute: AttributeProto) -> Option<String> {
        let node = NodeProto { op_type: op_type.into(), attribute: vec![attribute], ..Default::default() };
        let graph = GraphProto { node: vec![node], ..Default::default() };
        check(&ModelProto { graph: Some(graph), ..Default::default() }).err().map(|error| error.to_string())
    }

    fn list(name: &str, ints: &[i64]) -> AttributeProto {
        AttributeProto { name: name.into(), ints: ints.to_vec(), ..Default::default() }
    }

    fn single(name: &str, i: i64) -> AttributeProto {
        AttributeProto { name: name.into(), i, ..Default::default() }
    }

    #[test]
    fn an_axis_that_no_tensor_has_is_refused_by_name() {
        let text = refused("LayerNormalization", single("axis", 1 << 33)).unwrap();
        assert!(text.contains("'axis' of LayerNormalization") && text.contains("8589934592"), "{text}");
        assert!(refused("Concat", single("axis", i64::MIN)).is_some());
        assert!(refused("Transpose", list("perm", &[0, 1 << 40])).is_some());
        assert!(refused("Concat", single("axis", -2)).is_none());
    }

    #[test]
    fn a_window_beyond_all_reason_is_refused() {
        assert!(refused("AveragePool", list("kernel_shape", &[2, 10_000_000, 2])).is_some());
        assert!(refused("MaxPool", list("kernel_shape", &[1 << 32, 1 << 32])).is_some());
        assert!(refused("Conv", list("strides", &[0, 1])).is_some());
        assert!(refused("Conv", list("dilations", &[i64::MAX])).is_some());
        assert!(refused("Conv", list("pads", &[0, -1, 1 << 40, 0])).is_some());
        assert!(refused("MaxPool", list("kernel_shape", &[224, 224])).is_none());
    }
}
