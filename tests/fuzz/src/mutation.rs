//! Changes to ONNX models that leave them models: what a flipped byte seldom reaches, such as an attribute of a wild size, a
//! weight of another shape, an input that comes from a node behind it, an operator in another's place.
//!
//! The same seed makes the same change. Shared by the fuzzer and by the bounded test of `tests/loader_fuzz`.

use fastrand::Rng;
use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as DimValue};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, ValueInfoProto, type_proto,
};

/// Most changes to one model.
const MAX_CHANGES: usize = 4;

/// Numbers at which sizes, axes and counts go wrong.
const NUMBERS: [i64; 30] = [
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    16,
    -1,
    -2,
    -3,
    -8,
    255,
    256,
    1000,
    1 << 16,
    100_000,
    1 << 20,
    10_000_000,
    1 << 28,
    1 << 30,
    i32::MAX as i64,
    1 << 31,
    i32::MIN as i64,
    1 << 33,
    1 << 40,
    1 << 62,
    i64::MAX,
    i64::MIN,
    i64::MIN + 1,
];

/// A number of [`NUMBERS`].
pub fn number(rng: &mut Rng) -> i64 {
    NUMBERS[rng.usize(..NUMBERS.len())]
}

/// The model in `bytes` with some changes, by `seed`; bytes that hold no model, and now and then those that do, with a few
/// bytes of them changed. At most `max_bytes` long.
pub fn mutated(bytes: &[u8], seed: u64, max_bytes: usize) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed);
    let made = match ModelProto::decode(bytes) {
        Ok(mut model) if rng.u8(..) > 8 => {
            for _ in 0..rng.usize(1..=MAX_CHANGES) {
                change(&mut model, &mut rng);
            }
            model.encode_to_vec()
        }
        _ => flipped(bytes, &mut rng),
    };
    if made.len() > max_bytes { bytes.to_vec() } else { made }
}

fn flipped(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut made = bytes.to_vec();
    for _ in 0..rng.usize(1..=8) {
        if let Some(at) = pick(made.len(), rng) {
            match rng.u8(..4) {
                0 => made.truncate(at),
                1 => made.insert(at, rng.u8(..)),
                _ => made[at] = rng.u8(..),
            }
        }
    }
    made
}

/// One change, of the model itself or of a graph in it.
fn change(model: &mut ModelProto, rng: &mut Rng) {
    if rng.u8(..) < 10 {
        if let Some(import) = pick(model.opset_import.len(), rng) {
            model.opset_import[import].version = if rng.bool() { rng.i64(1..27) } else { number(rng) };
        }
        return;
    }
    let Some(mut graph) = model.graph.as_mut() else { return };
    // A graph within a node of it, sometimes.
    for _ in 0..4 {
        let inner = |node: &NodeProto| node.attribute.iter().any(|attribute| attribute.g.is_some());
        let Some(node) = graph.node.iter().position(inner).filter(|_| rng.bool()) else { break };
        graph = graph.node[node].attribute.iter_mut().find_map(|attribute| attribute.g.as_mut()).expect("just found");
    }
    match rng.u8(..16) {
        0..=3 => change_attribute(graph, rng),
        4..=5 => rewire(graph, rng),
        6 => change_operator(graph, rng),
        7 => change_nodes(graph, rng),
        8..=10 => change_weight(graph, rng),
        11..=12 => change_declared(graph, rng),
        13 => insert_node(graph, rng),
        14 => change_names(graph, rng),
        _ => move_between_weights_and_inputs(graph, rng),
    }
}

fn pick(count: usize, rng: &mut Rng) -> Option<usize> {
    (count > 0).then(|| rng.usize(..count))
}

fn change_attribute(graph: &mut GraphProto, rng: &mut Rng) {
    let Some(node) = pick(graph.node.len(), rng) else { return };
    let node = &mut graph.node[node];
    match pick(node.attribute.len(), rng).filter(|_| rng.u8(..) > 60) {
        Some(at) if rng.u8(..) < 20 => {
            node.attribute.remove(at);
        }
        Some(at) => change_value(&mut node.attribute[at], rng),
        None => node.attribute.push(made_attribute(rng)),
    }
}

fn change_value(attribute: &mut AttributeProto, rng: &mut Rng) {
    if rng.u8(..) < 8 {
        attribute.r#type = rng.i32(0..15);
    }
    if let Some(tensor) = &mut attribute.t {
        return change_tensor(tensor, rng);
    }
    if let Some(at) = pick(attribute.ints.len(), rng) {
        match rng.u8(..8) {
            0 => attribute.ints.push(number(rng)),
            1 => attribute.ints.truncate(at),
            _ => attribute.ints[at] = number(rng),
        }
    } else if let Some(at) = pick(attribute.floats.len(), rng) {
        match rng.u8(..4) {
            0 => attribute.floats.truncate(at),
            _ => attribute.floats[at] = float(rng),
        }
    } else if let Some(at) = pick(attribute.strings.len(), rng) {
        attribute.strings.remove(at);
    } else if !attribute.s.is_empty() {
        attribute.s = TEXTS[rng.usize(..TEXTS.len())].as_bytes().to_vec();
    } else {
        attribute.i = number(rng);
        attribute.f = float(rng);
    }
}

fn float(rng: &mut Rng) -> f32 {
    [0.0, -1.0, 0.5, 1e9, 1e30, -1e30, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE][rng.usize(..9)]
}

const TEXTS: [&str; 12] = [
    "",
    "linear",
    "cubic",
    "nearest",
    "reflect",
    "wrap",
    "SAME_UPPER",
    "SAME_LOWER",
    "VALID",
    "ij,jk->ik",
    "reverse",
    "SOFTMAX",
];

/// Names under which operators look for sizes, axes and counts.
const LISTS: [&str; 9] =
    ["kernel_shape", "pads", "strides", "dilations", "output_padding", "output_shape", "axes", "shape", "perm"];
const SINGLE: [&str; 18] = [
    "axis",
    "group",
    "auto_pad",
    "hidden_size",
    "size",
    "blocksize",
    "num_outputs",
    "num_heads",
    "output_datatype",
    "dtype",
    "to",
    "k",
    "keepdims",
    "batch_dims",
    "batch_axis",
    "time_axis",
    "sample_size",
    "exclusive",
];

fn made_attribute(rng: &mut Rng) -> AttributeProto {
    if rng.bool() {
        let ints = (0..rng.usize(..6)).map(|_| number(rng)).collect();
        let name = LISTS[rng.usize(..LISTS.len())].into();
        return AttributeProto { name, r#type: AttributeType::Ints as i32, ints, ..Default::default() };
    }
    let name = SINGLE[rng.usize(..SINGLE.len())];
    if name == "auto_pad" {
        let s = TEXTS[rng.usize(..TEXTS.len())].as_bytes().to_vec();
        return AttributeProto { name: name.into(), r#type: AttributeType::String as i32, s, ..Default::default() };
    }
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i: number(rng), ..Default::default() }
}

/// Every name in the graph that a node may take: those of nodes behind it too, so that cycles come about.
fn names(graph: &GraphProto) -> Vec<String> {
    let given = graph.node.iter().flat_map(|node| &node.output);
    let declared = graph.input.iter().map(|info| &info.name).chain(graph.initializer.iter().map(|tensor| &tensor.name));
    given.chain(declared).cloned().collect()
}

fn rewire(graph: &mut GraphProto, rng: &mut Rng) {
    let names = names(graph);
    let (Some(node), Some(name)) = (pick(graph.node.len(), rng), pick(names.len(), rng)) else { return };
    let name = if rng.u8(..) < 20 { String::new() } else { names[name].clone() };
    let inputs = &mut graph.node[node].input;
    match (pick(inputs.len(), rng), rng.u8(..8)) {
        (Some(at), 0) => _ = inputs.remove(at),
        (_, 1) | (None, _) => inputs.push(name),
        (Some(at), 2) => inputs.insert(at, name),
        (Some(at), _) => inputs[at] = name,
    }
}

/// Operators that may stand in another's place; those that make much of little more than once.
const OPERATORS: &str = "Abs Add AffineGrid And ArgMax Attention AveragePool BatchNormalization Bernoulli BitShift BlackmanWindow Cast \
    Celu CenterCropPad Clip Col2Im Compress Concat ConstantOfShape ConstantOfShape Conv ConvInteger ConvTranspose \
    CumSum DFT DeformConv DepthToSpace DequantizeLinear Det Div Dropout DynamicQuantizeLinear Einsum Expand Expand \
    EyeLike Flatten GRU Gather GatherElements GatherND Gemm GlobalAveragePool GridSample GroupNormalization \
    HammingWindow HannWindow Hardmax Identity If InstanceNormalization LRN LSTM LayerNormalization Loop \
    LpNormalization LpPool MatMul MatMulInteger MaxPool MaxUnpool MeanVarianceNormalization MelWeightMatrix Mod \
    Multinomial NonMaxSuppression NonZero OneHot OneHot Pad Pad Pow QLinearConv QuantizeLinear RNN RandomNormal \
    RandomUniform Range Range ReduceSum ReduceMax Reshape Resize Resize ReverseSequence RoiAlign RotaryEmbedding \
    STFT Scan ScatterElements ScatterND Shape Size Slice Softmax SpaceToDepth Split SplitToSequence Squeeze \
    StringSplit Tile TopK Transpose Trilu Unique Unsqueeze Upsample TreeEnsembleRegressor TfIdfVectorizer \
    OneHotEncoder";

fn operator(rng: &mut Rng) -> &'static str {
    let count = OPERATORS.split_whitespace().count();
    OPERATORS.split_whitespace().nth(rng.usize(..count)).expect("one of so many")
}

fn change_operator(graph: &mut GraphProto, rng: &mut Rng) {
    if let Some(node) = pick(graph.node.len(), rng) {
        graph.node[node].op_type = operator(rng).into();
    }
}

fn change_nodes(graph: &mut GraphProto, rng: &mut Rng) {
    let Some(node) = pick(graph.node.len(), rng) else { return };
    match rng.u8(..4) {
        0 => _ = graph.node.remove(node),
        1 => {
            let twin = graph.node[node].clone();
            graph.node.push(twin);
        }
        2 => {
            let mut twin = graph.node[node].clone();
            twin.name.push_str("_twin");
            let names = names(graph);
            twin.output.iter_mut().for_each(|output| output.push_str("_twin"));
            let new = twin.output.first().cloned().unwrap_or_default();
            graph.node.push(twin);
            let taker = rng.usize(..graph.node.len());
            if let Some(input) = graph.node[taker].input.first_mut() {
                *input = if rng.bool() { new } else { names[rng.usize(..names.len())].clone() };
            }
        }
        _ => {
            let other = rng.usize(..graph.node.len());
            graph.node.swap(node, other);
        }
    }
}

fn change_weight(graph: &mut GraphProto, rng: &mut Rng) {
    // Small ones hold shapes, axes and counts.
    let small: Vec<usize> = (0..graph.initializer.len()).filter(|&at| is_small(&graph.initializer[at])).collect();
    let constants = graph.node.iter_mut().filter(|node| node.op_type == "Constant");
    let constants: Vec<&mut TensorProto> =
        constants.flat_map(|node| &mut node.attribute).filter_map(|attribute| attribute.t.as_mut()).collect();
    if let Some(at) = pick(constants.len(), rng).filter(|_| rng.bool()) {
        change_tensor(constants.into_iter().nth(at).expect("a place of the list"), rng);
    } else if let Some(at) = pick(small.len(), rng).filter(|_| rng.u8(..4) > 0) {
        change_tensor(&mut graph.initializer[small[at]], rng);
    } else if let Some(at) = pick(graph.initializer.len(), rng) {
        change_tensor(&mut graph.initializer[at], rng);
    }
}

fn is_small(tensor: &TensorProto) -> bool {
    tensor.raw_data.len() <= 128 && tensor.int64_data.len() <= 16 && tensor.float_data.len() <= 16
}

/// ONNX's number of INT64.
const INT64: i32 = 7;

fn change_tensor(tensor: &mut TensorProto, rng: &mut Rng) {
    match rng.u8(..10) {
        0 => tensor.dims.push(number(rng)),
        1 => _ = tensor.dims.pop(),
        2 => {
            if let Some(at) = pick(tensor.dims.len(), rng) {
                tensor.dims[at] = number(rng);
            }
        }
        3 => tensor.data_type = rng.i32(0..24),
        4 => tensor.raw_data.truncate(tensor.raw_data.len() / 2),
        // Another shape of as many elements.
        5 => {
            let count = tensor.dims.iter().product();
            tensor.dims = if rng.bool() { vec![count] } else { vec![1, count, 1] };
        }
        _ => change_elements(tensor, rng),
    }
}

fn change_elements(tensor: &mut TensorProto, rng: &mut Rng) {
    if tensor.data_type == INT64 && tensor.raw_data.len() >= 8 {
        let at = rng.usize(..tensor.raw_data.len() / 8);
        tensor.raw_data[at * 8..][..8].copy_from_slice(&number(rng).to_le_bytes());
    } else if let Some(at) = pick(tensor.int64_data.len(), rng) {
        tensor.int64_data[at] = number(rng);
    } else if let Some(at) = pick(tensor.int32_data.len(), rng) {
        tensor.int32_data[at] = number(rng) as i32;
    } else if let Some(at) = pick(tensor.float_data.len(), rng) {
        tensor.float_data[at] = float(rng);
    } else if tensor.raw_data.len() >= 4 {
        let at = rng.usize(..tensor.raw_data.len() / 4);
        tensor.raw_data[at * 4..][..4].copy_from_slice(&float(rng).to_le_bytes());
    }
}

fn change_declared(graph: &mut GraphProto, rng: &mut Rng) {
    let inputs = graph.input.len();
    let Some(at) = pick(inputs + graph.output.len(), rng) else { return };
    let info = if at < inputs { &mut graph.input[at] } else { &mut graph.output[at - inputs] };
    let Some(kind) = info.r#type.as_mut() else { return };
    let Some(type_proto::Value::TensorType(tensor)) = kind.value.as_mut() else { return };
    if rng.u8(..8) == 0 {
        tensor.elem_type = rng.i32(0..24);
        return;
    }
    let shape = tensor.shape.get_or_insert_with(TensorShapeProto::default);
    let value = match rng.u8(..6) {
        0 => None,
        1 => Some(DimValue::DimParam(["N", "M", "N*M", "2*N", "N/0", "N-N", "((N+1)/2)*(M-3)"][rng.usize(..7)].into())),
        2 => Some(DimValue::DimValue(number(rng))),
        _ => Some(DimValue::DimValue(rng.i64(0..20))),
    };
    let dim = Dimension { value, ..Default::default() };
    match (pick(shape.dim.len(), rng), rng.u8(..6)) {
        (Some(at), 0) => _ = shape.dim.remove(at),
        (None, _) | (_, 1) => shape.dim.push(dim),
        (Some(at), _) => shape.dim[at] = dim,
    }
}

/// Puts a node between a node and one of its inputs, with constants for the rest of its inputs.
fn insert_node(graph: &mut GraphProto, rng: &mut Rng) {
    let Some(taker) = pick(graph.node.len(), rng) else { return };
    let Some(slot) = pick(graph.node[taker].input.len(), rng) else { return };
    let (fresh, op_type) = (format!("made{}", rng.u32(..)), operator(rng));
    let mut input = vec![graph.node[taker].input[slot].clone()];
    if rng.u8(..4) == 0 {
        input.clear();
    }
    for index in 0..rng.usize(..4) {
        let name = format!("{fresh}_{index}");
        let int64_data: Vec<i64> = (0..rng.usize(..5)).map(|_| number(rng)).collect();
        let dims = if int64_data.len() == 1 && rng.bool() { vec![] } else { vec![int64_data.len() as i64] };
        graph.initializer.push(TensorProto {
            name: name.clone(),
            data_type: INT64,
            dims,
            int64_data,
            ..Default::default()
        });
        input.push(name);
    }
    let attribute = (0..rng.usize(..3)).map(|_| made_attribute(rng)).collect();
    graph.node[taker].input[slot].clone_from(&fresh);
    let node = NodeProto {
        name: fresh.clone(),
        op_type: op_type.into(),
        input,
        output: vec![fresh],
        attribute,
        ..Default::default()
    };
    graph.node.insert(taker, node);
}

fn change_names(graph: &mut GraphProto, rng: &mut Rng) {
    let names = names(graph);
    let Some(name) = pick(names.len(), rng).map(|at| names[at].clone()) else { return };
    match rng.u8(..4) {
        0 => {
            if let Some(node) = pick(graph.node.len(), rng) {
                graph.node[node].name = name;
            }
        }
        1 => {
            if let Some(output) = pick(graph.output.len(), rng) {
                graph.output[output].name = name;
            }
        }
        2 => {
            let Some(node) = pick(graph.node.len(), rng) else { return };
            if let Some(output) = pick(graph.node[node].output.len(), rng) {
                graph.node[node].output[output] = name;
            }
        }
        _ => {
            if let Some(info) = pick(graph.output.len(), rng).map(|at| graph.output[at].clone()) {
                graph.output.push(ValueInfoProto { name, ..info });
            }
        }
    }
}

/// A weight becomes an input that a client brings, or the other way round.
fn move_between_weights_and_inputs(graph: &mut GraphProto, rng: &mut Rng) {
    let Some(at) = pick(graph.initializer.len(), rng) else { return };
    let weight = graph.initializer.remove(at);
    let dim = |&size: &i64| Dimension { value: Some(DimValue::DimValue(size)), ..Default::default() };
    let shape = TensorShapeProto { dim: weight.dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: weight.data_type, shape: Some(shape) };
    let kind = tract_onnx::pb::TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    graph.input.retain(|info| info.name != weight.name);
    graph.input.push(ValueInfoProto { name: weight.name, r#type: Some(kind), ..Default::default() });
}
