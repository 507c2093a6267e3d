//! Sizes of inputs that a file declares as open and its weights fix: exporters declare every dimension so, the number of
//! features or of colours among them.

use std::collections::HashMap;

use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value};
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TypeProto, type_proto};

/// Operators that give their first input on with every size as it was.
const KEEP_SIZES: [&str; 21] = [
    "Abs",
    "BatchNormalization",
    "Binarizer",
    "Cast",
    "Clip",
    "Dropout",
    "Exp",
    "Identity",
    "Imputer",
    "InstanceNormalization",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "Neg",
    "Normalizer",
    "Relu",
    "Scaler",
    "Sigmoid",
    "Softmax",
    "Sqrt",
    "Tanh",
];

/// Writes such sizes into the declarations of the graph's inputs.
pub fn fix(model: &mut ModelProto) {
    let Some(graph) = &mut model.graph else { return };
    for (input, axis, size) in found(graph) {
        let Some(dims) = dims_mut(graph.input[input].r#type.as_mut()) else { continue };
        // An axis below 0 is counted from the last.
        let place = if axis < 0 { axis + dims.len() as i64 } else { axis };
        let Some(dim) = usize::try_from(place).ok().and_then(|place| dims.get_mut(place)) else { continue };
        let is_open = !matches!(dim.value, Some(Value::DimValue(known)) if known >= 0);
        if is_open && size > 0 {
            dim.value = Some(Value::DimValue(size));
        }
    }
}

fn dims_mut(declared: Option<&mut TypeProto>) -> Option<&mut Vec<Dimension>> {
    match declared?.value.as_mut()? {
        type_proto::Value::TensorType(tensor) => Some(&mut tensor.shape.as_mut()?.dim),
    }
}

/// Inputs by their positions, axes of theirs, and the sizes that these must have.
fn found(graph: &GraphProto) -> Vec<(usize, i64, i64)> {
    let constants = graph.node.iter().filter(|node| node.op_type == "Constant").filter_map(|node| {
        let value = attribute(node, "value")?.t.as_ref()?;
        Some((node.output.first()?.as_str(), value.dims.as_slice()))
    });
    let initializers = graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor.dims.as_slice()));
    let weights: HashMap<&str, &[i64]> = initializers.chain(constants).collect();
    let inputs = graph.input.iter().enumerate().filter(|(_, input)| !weights.contains_key(input.name.as_str()));
    // Values that have an input's sizes.
    let mut sized: HashMap<&str, usize> = inputs.map(|(place, input)| (input.name.as_str(), place)).collect();
    let mut found = vec![];
    for node in &graph.node {
        let taken = |place: usize| node.input.get(place).map(String::as_str).filter(|name| !name.is_empty());
        let weight = |place: usize| taken(place).and_then(|name| weights.get(name).copied());
        for (place, axis, size) in asked(node, weight) {
            if let (Some(&input), Some(size)) = (taken(place).and_then(|name| sized.get(name)), size) {
                found.push((input, axis, size));
            }
        }
        if KEEP_SIZES.contains(&node.op_type.as_str())
            && let (Some(input), Some(output)) =
                (taken(0).and_then(|name| sized.get(name).copied()), node.output.first())
        {
            sized.insert(output, input);
        }
    }
    found
}

/// What a node asks of its inputs: which input, which axis, and what size where its weights or attributes tell.
fn asked<'a>(node: &NodeProto, weight: impl Fn(usize) -> Option<&'a [i64]>) -> Vec<(usize, i64, Option<i64>)> {
    let of = |place: usize, axis: usize| weight(place)?.get(axis).copied();
    let flag = |name: &str| attribute(node, name).is_some_and(|held| held.i != 0);
    let floats = |name: &str| attribute(node, name).map_or(0, |held| held.floats.len() as i64);
    let several = |count: i64| (count > 1).then_some(count);
    match node.op_type.as_str() {
        "Gemm" => {
            let axis = if flag("transA") { 0 } else { 1 };
            vec![(0, axis, of(1, usize::from(flag("transB"))))]
        }
        "MatMul" => {
            let rows = weight(1).and_then(|dims| dims.get(dims.len().saturating_sub(2)).copied());
            let columns = weight(0).and_then(|dims| dims.last().copied());
            vec![(0, -1, rows), (1, -2, columns)]
        }
        "Conv" => {
            let group = attribute(node, "group").map_or(1, |held| held.i);
            vec![(0, 1, of(1, 1).and_then(|channels| channels.checked_mul(group)))]
        }
        "ConvTranspose" => vec![(0, 1, of(1, 0))],
        "BatchNormalization" | "InstanceNormalization" => vec![(0, 1, of(1, 0))],
        "LayerNormalization" => {
            let is_last = attribute(node, "axis").is_none_or(|axis| axis.i == -1);
            vec![(0, -1, of(1, 0).filter(|_| is_last))]
        }
        "GRU" | "LSTM" | "RNN" => vec![(0, 2, of(1, 2))],
        "Imputer" => vec![(0, -1, several(floats("imputed_value_floats")))],
        "Scaler" => vec![(0, -1, several(floats("scale").max(floats("offset"))))],
        "LinearRegressor" => {
            let targets = attribute(node, "targets").map_or(1, |held| held.i);
            vec![(0, -1, floats("coefficients").checked_div(targets))]
        }
        "LinearClassifier" => vec![(0, -1, floats("coefficients").checked_div(floats("intercepts")))],
        _ => vec![],
    }
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::{TensorProto, TensorShapeProto, ValueInfoProto};

    /// The sizes of input `x`, declared open but for those given, that a node fixes; `w` are its weights' sizes.
    fn fixed(node: NodeProto, declared: &[i64], w: &[i64]) -> Vec<i64> {
        let dim = |size: &i64| {
            let value = if *size < 0 { Value::DimParam("d".into()) } else { Value::DimValue(*size) };
            Dimension { value: Some(value), ..Default::default() }
        };
        let shape = Some(TensorShapeProto { dim: declared.iter().map(dim).collect() });
        let tensor = type_proto::Tensor { elem_type: 1, shape };
        let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
        let input = ValueInfoProto { name: "x".into(), r#type: Some(kind), ..Default::default() };
        let weights = TensorProto { name: "w".into(), dims: w.to_vec(), ..Default::default() };
        let cast = NodeProto {
            op_type: "Cast".into(),
            input: vec!["x".into()],
            output: vec!["c".into()],
            ..Default::default()
        };
        let graph =
            GraphProto { node: vec![cast, node], initializer: vec![weights], input: vec![input], ..Default::default() };
        let mut model = ModelProto { graph: Some(graph), ..Default::default() };
        fix(&mut model);
        let dims = dims_mut(model.graph.as_mut().unwrap().input[0].r#type.as_mut()).unwrap();
        let size = |dim: &Dimension| if let Some(Value::DimValue(size)) = dim.value { size } else { -1 };
        dims.iter().map(size).collect()
    }

    fn node(op_type: &str, inputs: &[&str]) -> NodeProto {
        let input = inputs.iter().map(|name| (*name).to_owned()).collect();
        NodeProto { op_type: op_type.into(), input, output: vec!["y".into()], ..Default::default() }
    }

    fn with(mut node: NodeProto, name: &str, i: i64, floats: usize) -> NodeProto {
        node.attribute.push(AttributeProto { name: name.into(), i, floats: vec![0.0; floats], ..Default::default() });
        node
    }

    #[test]
    fn weights_fix_what_is_declared_open() {
        assert_eq!(fixed(node("Gemm", &["c", "w"]), &[-1, -1], &[4, 3]), [-1, 4]);
        assert_eq!(fixed(with(node("Gemm", &["x", "w"]), "transB", 1, 0), &[-1, -1], &[4, 3]), [-1, 3]);
        assert_eq!(fixed(node("MatMul", &["c", "w"]), &[-1, -1, -1], &[2, 4, 3]), [-1, -1, 4]);
        assert_eq!(fixed(node("MatMul", &["x", "w"]), &[-1, -1], &[5]), [-1, 5]);
        assert_eq!(fixed(node("MatMul", &["w", "x"]), &[-1, -1], &[4, 3]), [3, -1]);
        assert_eq!(fixed(with(node("Conv", &["c", "w"]), "group", 2, 0), &[-1; 4], &[8, 3, 5, 5]), [-1, 6, -1, -1]);
        assert_eq!(fixed(node("LSTM", &["x", "w"]), &[-1; 3], &[1, 16, 7]), [-1, -1, 7]);
        let scaler = with(with(node("Scaler", &["x"]), "scale", 0, 1), "offset", 0, 4);
        assert_eq!(fixed(scaler, &[-1, -1], &[]), [-1, 4]);
        let classifier = with(with(node("LinearClassifier", &["c"]), "coefficients", 0, 12), "intercepts", 0, 3);
        assert_eq!(fixed(classifier, &[-1, -1], &[]), [-1, 4]);
    }

    #[test]
    fn what_is_declared_or_not_known_stays() {
        assert_eq!(fixed(node("Gemm", &["c", "w"]), &[-1, 9], &[4, 3]), [-1, 9]);
        assert_eq!(fixed(node("Gemm", &["w", "c"]), &[-1, -1], &[4, 3]), [-1, -1]);
        assert_eq!(fixed(node("MatMul", &["x", "w"]), &[-1, -1], &[]), [-1, -1]);
        assert_eq!(fixed(node("Conv", &["x", "w"]), &[-1], &[8, 3, 5, 5]), [-1]);
        assert_eq!(fixed(node("LinearClassifier", &["c"]), &[-1, -1], &[]), [-1, -1]);
        assert_eq!(fixed(node("Add", &["x", "w"]), &[-1, -1], &[4]), [-1, -1], "one column may be added to four");
    }
}
