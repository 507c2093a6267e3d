//! Which of a graph's inputs decide shapes by their values: the new shape of a Reshape, the axes of a sum, the sizes of a
//! Resize, given by the client instead of written into the file. An integer or a BOOL that decides between branches, which
//! may give other shapes, is one too.
//!
//! An engine that plans ahead needs such values when it plans. Found by reading the graph backwards from the inputs of
//! operators that ONNX reads as shapes, axes, counts or sizes, and from conditions.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, ValueInfoProto, type_proto};

use crate::tensor::{DataType, Tensor, element_count};

/// The inputs of a graph whose values may decide shapes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deciding {
    /// Where they are among the names of all.
    pub positions: Vec<usize>,
    /// Whether one of them chooses a branch: what holds of the outputs for one value may not hold for another.
    pub chooses: bool,
}

/// Those among `names` that may decide.
pub fn deciding(proto: &ModelProto, names: &[&str]) -> Deciding {
    let Some(graph) = &proto.graph else { return Deciding::default() };
    let (shapes, choices) = (values(graph, shaping), values(graph, choosing));
    // Floats are data: they hardly come twice, and each plan would be for one request.
    let is_float = |name: &str| {
        let input = graph.input.iter().find(|input| input.name == name);
        input.is_some_and(|input| elem_type(input).is_none_or(|elem_type| !NO_FLOATS.contains(&elem_type)))
    };
    let chooses = |name: &str| choices.contains(name) && !is_float(name);
    let decides = |name: &str| shapes.contains(name) || chooses(name);
    Deciding {
        positions: names.iter().enumerate().filter(|(_, name)| decides(name)).map(|(position, _)| position).collect(),
        chooses: names.iter().any(|name| chooses(name)),
    }
}

/// Types of values that choose.
const NO_FLOATS: [OnnxType; 3] = [OnnxType::Bool, OnnxType::Int32, OnnxType::Int64];

fn elem_type(input: &ValueInfoProto) -> Option<OnnxType> {
    let type_proto::Value::TensorType(tensor) = input.r#type.as_ref()?.value.as_ref()?;
    OnnxType::try_from(tensor.elem_type).ok()
}

/// What a client may give for such an input, tried when a model is loaded: one of these fits most operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guess {
    /// An axis, an index, no padding.
    Zeros,
    /// A count, a scale, a size.
    Ones,
    /// `-1, 1, 1, …`: a shape that takes whatever there is.
    Rest,
    /// `0, 1, 2, …`: several axes.
    Counting,
}

/// In the order in which they are tried.
pub const GUESSES: [Guess; 4] = [Guess::Zeros, Guess::Ones, Guess::Rest, Guess::Counting];

impl Guess {
    /// The values as a tensor; zeros for datatypes that no shape has.
    pub fn tensor(self, dtype: DataType, shape: &[usize]) -> Tensor {
        let value = |place: usize| match self {
            Self::Zeros => 0,
            Self::Ones => 1,
            Self::Rest => {
                if place == 0 {
                    -1
                } else {
                    1
                }
            }
            Self::Counting => place as i8,
        };
        let values = (0..element_count(shape)).map(value);
        let made = match dtype {
            DataType::Int32 => Tensor::from_elements(dtype, shape.to_vec(), &values.map(i32::from).collect::<Vec<_>>()),
            DataType::Int64 => Tensor::from_elements(dtype, shape.to_vec(), &values.map(i64::from).collect::<Vec<_>>()),
            DataType::Fp32 => Tensor::from_elements(dtype, shape.to_vec(), &values.map(f32::from).collect::<Vec<_>>()),
            _ => return Tensor::zeros(dtype, shape.to_vec()),
        };
        made.expect("as many values were made as the shape holds")
    }
}

/// The values that the operators take at the places that `of` says, and those that they come from.
fn values<'a>(graph: &'a GraphProto, of: fn(&'a NodeProto) -> Vec<&'a str>) -> HashSet<&'a str> {
    let producers: HashMap<&str, &NodeProto> =
        graph.node.iter().flat_map(|node| node.output.iter().map(move |output| (output.as_str(), node))).collect();
    let mut open: Vec<&str> = graph.node.iter().flat_map(of).collect();
    let mut found = HashSet::new();
    while let Some(value) = open.pop() {
        if value.is_empty() || !found.insert(value) {
            continue;
        }
        let Some(producer) = producers.get(value) else { continue };
        // What they give depends on the shape of their input alone, which a plan knows in any case.
        if !matches!(producer.op_type.as_str(), "Shape" | "Size") {
            open.extend(producer.input.iter().map(String::as_str));
        }
    }
    found
}

/// The inputs of a node that are read as shapes, axes, counts or sizes.
fn shaping(node: &NodeProto) -> Vec<&str> {
    let positions: &[usize] = match node.op_type.as_str() {
        "ConstantOfShape" | "HannWindow" | "HammingWindow" | "BlackmanWindow" | "RandomUniform" => &[0],
        "AffineGrid" | "CenterCropPad" | "CumProd" | "CumSum" | "Expand" | "OneHot" | "Reshape" | "Split"
        | "SplitToSequence" | "Squeeze" | "Tile" | "TopK" | "Trilu" | "Unsqueeze" | "Upsample" | "Col2Im" => &[1, 2],
        "Resize" => &[1, 2, 3],
        "Slice" => &[1, 2, 3, 4],
        "Pad" => &[1, 2, 3],
        "Range" | "MelWeightMatrix" => &[0, 1, 2, 3, 4],
        "DFT" => &[1, 2],
        "STFT" => &[1, 3],
        name if name.starts_with("Reduce") => &[1],
        _ => &[],
    };
    positions.iter().filter_map(|&position| node.input.get(position)).map(String::as_str).collect()
}

/// The condition of a node that chooses.
fn choosing(node: &NodeProto) -> Vec<&str> {
    let condition = node.input.first().filter(|_| node.op_type == "If");
    condition.map(String::as_str).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::TypeProto;

    fn node(op_type: &str, input: &[&str], output: &str) -> NodeProto {
        let input = input.iter().map(|name| (*name).to_owned()).collect();
        NodeProto { op_type: op_type.into(), input, output: vec![output.into()], ..Default::default() }
    }

    fn found(nodes: Vec<NodeProto>) -> Vec<usize> {
        let input = [("x", OnnxType::Float), ("s", OnnxType::Int64)].map(|(name, elem_type)| ValueInfoProto {
            name: name.into(),
            r#type: Some(TypeProto {
                value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                    elem_type: elem_type as i32,
                    shape: None,
                })),
                ..Default::default()
            }),
            ..Default::default()
        });
        let graph = GraphProto { node: nodes, input: input.into(), ..Default::default() };
        deciding(&ModelProto { graph: Some(graph), ..Default::default() }, &["x", "s"]).positions
    }

    #[test]
    fn a_shape_that_the_client_gives_decides() {
        assert_eq!(found(vec![node("Reshape", &["x", "s"], "y")]), [1]);
        assert_eq!(found(vec![node("ReduceSum", &["x", "s"], "y")]), [1]);
        let computed = vec![node("Add", &["s", "one"], "t"), node("Expand", &["x", "t"], "y")];
        assert_eq!(found(computed), [1]);
    }

    #[test]
    fn an_integer_that_chooses_a_branch_decides_and_data_does_not() {
        let choice = |of: &str| vec![node("Greater", &[of, "zero"], "c"), node("If", &["c"], "y")];
        assert_eq!(found(choice("s")), [1]);
        assert!(found(choice("x")).is_empty());
    }

    #[test]
    fn shapes_of_inputs_and_values_elsewhere_do_not() {
        let own = vec![node("Shape", &["x"], "t"), node("Reshape", &["x", "t"], "y")];
        assert!(found(own).is_empty());
        assert!(found(vec![node("Add", &["x", "s"], "y")]).is_empty());
    }
}
