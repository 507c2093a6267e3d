//! The four 8-bit floats as FLOAT inside the graph: tract has no such types.
//!
//! A value of such a type comes from a weight, a Cast or a QuantizeLinear, and is only moved about until a Cast or a
//! DequantizeLinear widens it. So it is held as the FLOAT that it stands for, and rounded where it comes from. A graph with a
//! case that is not known here (blocks of scales, weights beside the file, values that a loop carries) stays as it is, and
//! the engine refuses its types by name.

use std::collections::HashMap;

use tract_onnx::pb::tensor_proto::{DataLocation, DataType as OnnxType};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

use super::super::ops::Format8;
use super::edit::{self, Steps, int};

/// Operators that give on what they take, or its shape, without looking at it.
const MOVERS: [&str; 7] = ["Concat", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"];

/// Widens a model in which such a type occurs.
pub fn widen(model: &mut ModelProto) {
    let Some(narrow) = Narrow::of(model) else { return };
    let concerned = |node: &NodeProto| narrow.is_made_by(node) || is_dequantise(node) && narrow.is_taken_by(node);
    edit::replace_nodes(model, concerned, |node, steps| match node.op_type.as_str() {
        "Cast" => {
            let wide = steps.cast(edit::input(node, 0)?, OnnxType::Float);
            round(&wide, node, &narrow, steps)
        }
        "QuantizeLinear" => {
            let scaled = steps.add("HeadgateScale", &operands(node)?, scaling(node, true));
            round(&scaled, node, &narrow, steps)
        }
        "DequantizeLinear" => {
            steps.add_to("HeadgateScale", &operands(node)?, &[edit::output(node, 0)?], scaling(node, false));
            Some(())
        }
        _ => None,
    });
    edit::each_graph(model, &mut |graph| weights_mut(graph).for_each(widen_tensor));
}

/// The values of such types, by name, with the type.
struct Narrow(HashMap<String, i32>);

impl Narrow {
    /// `None` where there are none, and where one of them has a part in a case that is not known here.
    fn of(model: &ModelProto) -> Option<Self> {
        let mut narrow = Self(HashMap::new());
        let graphs = edit::graphs(model);
        let initialisers = graphs.iter().flat_map(|graph| &graph.initializer);
        for tensor in initialisers.filter(|tensor| Format8::of(tensor.data_type).is_some()) {
            narrow.add(&tensor.name, tensor.data_type)?;
        }
        // An outer graph comes before those inside its nodes, and in a graph a value before its uses.
        for node in graphs.iter().flat_map(|graph| &graph.node) {
            if let Some(made) = narrow.made_by(node) {
                narrow.add(edit::output(node, 0)?, made)?;
            }
        }
        let all = || graphs.iter().flat_map(|graph| &graph.node);
        let tensors = graphs.iter().flat_map(|graph| weights(graph));
        let is_known = all().all(|node| narrow.knows(node))
            && tensors.filter(|tensor| Format8::of(tensor.data_type).is_some()).all(lies_in_the_file)
            && !graphs.iter().flat_map(|graph| &graph.output).any(|output| narrow.0.contains_key(&output.name));
        (is_known && !narrow.0.is_empty()).then_some(narrow)
    }

    /// `None` for a name that two values have, in graphs that don't see each other.
    fn add(&mut self, name: &str, elem_type: i32) -> Option<()> {
        self.0.insert(name.to_owned(), elem_type).is_none().then_some(())
    }

    fn type_of(&self, node: &NodeProto, place: usize) -> Option<i32> {
        self.0.get(edit::input(node, place)?).copied()
    }

    /// The type of what a node makes, if it is one of these.
    fn made_by(&self, node: &NodeProto) -> Option<i32> {
        let named = |attribute: &str| i32::try_from(edit::int_of(node, attribute)?).ok();
        let made = match node.op_type.as_str() {
            "Cast" => named("to"),
            "QuantizeLinear" => self.type_of(node, 2).or_else(|| named("output_dtype")),
            "Constant" => edit::attribute(node, "value").and_then(|value| Some(value.t.as_ref()?.data_type)),
            mover if MOVERS.contains(&mover) => self.type_of(node, 0),
            _ => None,
        };
        made.filter(|made| Format8::of(*made).is_some())
    }

    /// Whether a node makes such a value of others.
    fn is_made_by(&self, node: &NodeProto) -> bool {
        ["Cast", "QuantizeLinear"].contains(&node.op_type.as_str()) && self.made_by(node).is_some()
    }

    fn is_taken_by(&self, node: &NodeProto) -> bool {
        self.type_of(node, 0).is_some()
    }

    fn knows(&self, node: &NodeProto) -> bool {
        let takes = node.input.iter().any(|name| self.0.contains_key(name));
        let in_blocks = edit::int_of(node, "block_size").is_some_and(|size| size != 0);
        let has_use = ["Cast", "QuantizeLinear", "DequantizeLinear", "Shape"].contains(&node.op_type.as_str());
        let takes_or_makes = takes || self.is_made_by(node);
        !takes_or_makes || has_use && !in_blocks || MOVERS.contains(&node.op_type.as_str())
    }
}

fn is_dequantise(node: &NodeProto) -> bool {
    node.op_type == "DequantizeLinear"
}

/// The value and its scale.
fn operands(node: &NodeProto) -> Option<[&str; 2]> {
    Some([edit::input(node, 0)?, edit::input(node, 1)?])
}

fn scaling(node: &NodeProto, divide: bool) -> Vec<tract_onnx::pb::AttributeProto> {
    vec![int("axis", edit::int_of(node, "axis").unwrap_or(1)), int("divide", i64::from(divide))]
}

/// The last step of a node that makes such a value.
fn round(value: &str, node: &NodeProto, narrow: &Narrow, steps: &mut Steps) -> Option<()> {
    let to = i64::from(narrow.made_by(node)?);
    let attributes = vec![int("to", to), int("saturate", edit::int_of(node, "saturate").unwrap_or(1))];
    steps.add_to("HeadgateRound8", &[value], &[edit::output(node, 0)?], attributes);
    Some(())
}

fn weights(graph: &GraphProto) -> impl Iterator<Item = &TensorProto> {
    let constants = graph.node.iter().flat_map(|node| &node.attribute).filter_map(|attribute| attribute.t.as_ref());
    graph.initializer.iter().chain(constants)
}

fn weights_mut(graph: &mut GraphProto) -> impl Iterator<Item = &mut TensorProto> {
    let attributes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    graph.initializer.iter_mut().chain(attributes.filter_map(|attribute| attribute.t.as_mut()))
}

fn lies_in_the_file(tensor: &TensorProto) -> bool {
    tensor.data_location != Some(DataLocation::External as i32)
}

fn widen_tensor(tensor: &mut TensorProto) {
    let Some(format) = Format8::of(tensor.data_type) else { return };
    // Elements that are not raw lie in the lowest byte of an int32 each (ONNX, TensorProto.int32_data).
    let listed = tensor.int32_data.iter().map(|&bits| bits as u8);
    let bits = tensor.raw_data.iter().copied().chain(listed);
    tensor.raw_data = bits.flat_map(|bits| format.value(bits).to_le_bytes()).collect();
    tensor.int32_data = vec![];
    tensor.data_type = OnnxType::Float as i32;
}

#[cfg(test)]
mod tests {
    use super::super::testing::Graph;
    use super::*;
    use tract_onnx::tract_hir::internal::*;

    const E4M3FN: i64 = OnnxType::Float8e4m3fn as i64;

    fn weight(name: &str, bits: &[u8], dims: &[i64]) -> TensorProto {
        let data_type = E4M3FN as i32;
        TensorProto { name: name.into(), data_type, dims: dims.to_vec(), raw_data: bits.to_vec(), ..Default::default() }
    }

    /// 1.1 and 300 are between values of the format.
    #[test]
    fn a_cast_there_and_back_rounds() {
        let there = Graph::new().opset(19).node("Cast", &["x"], &["h"]).int("to", E4M3FN);
        let graph = there.node("Transpose", &["h"], &["t"]).node("Cast", &["t"], &["y"]).int("to", 1);
        let y = graph.run(&[("x", tensor2(&[[1.1f32, 300.0]]))], &["y"]).unwrap();
        assert_eq!(y, [tensor2(&[[1.125f32], [288.0]])]);
    }

    #[test]
    fn values_are_quantised_by_a_zero_point_of_the_type_and_back() {
        let graph = Graph::new()
            .opset(19)
            .tensor(weight("zero", &[0], &[]))
            .constant("scale", tensor1(&[2.0f32, 0.5]))
            .constant("one", tensor0(2.0f32))
            .node("QuantizeLinear", &["x", "one", "zero"], &["q"])
            .node("DequantizeLinear", &["q", "scale"], &["y"])
            .int("axis", 1);
        let y = graph.run(&[("x", tensor2(&[[2.2f32, 4000.0]]))], &["y"]).unwrap();
        assert_eq!(y, [tensor2(&[[2.25f32, 224.0]])]);
    }

    #[test]
    fn weights_of_the_type_are_widened() {
        let scaled = Graph::new().opset(19).tensor(weight("w", &[0x38, 0xc4], &[2])).constant("one", tensor0(0.5f32));
        let graph = scaled.node("DequantizeLinear", &["w", "one"], &["d"]).node("Add", &["x", "d"], &["y"]);
        let y = graph.run(&[("x", tensor1(&[0f32, 10.0]))], &["y"]).unwrap();
        assert_eq!(y, [tensor1(&[0.5f32, 8.5])]);
    }

    #[test]
    fn a_case_that_is_not_known_keeps_its_types() {
        let there = || Graph::new().opset(19).node("Cast", &["x"], &["h"]).int("to", E4M3FN);
        let kept = |graph: Graph| {
            let before = graph.model(&[("x", OnnxType::Float)], &["y"]);
            let mut after = before.clone();
            widen(&mut after);
            before == after
        };
        assert!(kept(there().node("CastLike", &["x", "h"], &["y"])));
        assert!(kept(there().node("DequantizeLinear", &["h", "s"], &["y"]).int("block_size", 2)));
        assert!(kept(Graph::new().node("Cast", &["x"], &["y"]).int("to", E4M3FN)), "an output of the type");
        assert!(!kept(there().node("Cast", &["h"], &["y"]).int("to", 1)));
    }
}
