//! The quantised operators of `com.microsoft` (ONNX Runtime's `QOperator` format) as ONNX's own: what they take becomes
//! floats, the float operator does the work, and its result is quantised again.
//!
//! `DynamicQuantizeLSTM` becomes an LSTM of the weights as they were quantised; ONNX Runtime quantises each step's input
//! besides, which is noise that ours is without.
//!
//! ONNX Runtime computes some of them in integers and rounds once more or less on the way, so that a value may be off by
//! one quantisation step. A product of matrices is exact in both.

use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto};

use super::edit::{self, Steps, attribute, input, int_of, output};

/// The domain of the operators replaced here.
pub const DOMAIN: &str = "com.microsoft";

/// The operators replaced here.
pub const OPERATORS: [&str; 12] = [
    "DynamicQuantizeLSTM",
    "MatMulIntegerToFloat",
    "QGemm",
    "QLinearAdd",
    "QLinearAveragePool",
    "QLinearConcat",
    "QLinearGlobalAveragePool",
    "QLinearLeakyRelu",
    "QLinearMul",
    "QLinearSigmoid",
    "QLinearSoftmax",
    "QLinearWhere",
];

/// ONNX's own quantised convolution, which tract computes pixel by pixel.
const CONVOLUTION: &str = "QLinearConv";

/// Replaces them wherever they occur.
pub fn expand(model: &mut ModelProto) {
    let concerned = |node: &NodeProto| match node.op_type.as_str() {
        CONVOLUTION => node.domain != DOMAIN || int_of(node, "channels_last").unwrap_or(0) == 0,
        name => node.domain == DOMAIN && OPERATORS.contains(&name),
    };
    edit::replace_nodes(model, concerned, |node, steps| match node.op_type.as_str() {
        CONVOLUTION => convolution(node, steps),
        "DynamicQuantizeLSTM" => lstm(node, steps),
        "QGemm" => gemm(node, steps),
        "MatMulIntegerToFloat" => mat_mul(node, steps),
        "QLinearAdd" => float_op("Add", node, steps, &[0, 3]),
        "QLinearMul" => float_op("Mul", node, steps, &[0, 3]),
        "QLinearSoftmax" => softmax(node, steps),
        "QLinearConcat" => concat(node, steps),
        "QLinearWhere" => choose(node, steps),
        // channels_last has no counterpart among ONNX's pools.
        _ if int_of(node, "channels_last").unwrap_or(0) != 0 => None,
        name => float_op(name.strip_prefix("QLinear")?, node, steps, &[0]),
    });
}

/// A quantised value with its scale and zero point: three inputs of a node from this place on.
struct Quantised<'a> {
    value: &'a str,
    scale: &'a str,
    zero_point: &'a str,
}

impl<'a> Quantised<'a> {
    fn at(node: &'a NodeProto, place: usize) -> Option<Self> {
        // A zero point left out means zero of a type that the node alone doesn't tell.
        let (value, scale, zero_point) = (input(node, place)?, input(node, place + 1)?, input(node, place + 2)?);
        Some(Self { value, scale, zero_point })
    }

    fn dequantised(&self, steps: &mut Steps) -> String {
        steps.add("DequantizeLinear", &[self.value, self.scale, self.zero_point], vec![])
    }

    /// The value as whole numbers in FLOAT, less its zero point; transposed if asked. A zero point of each column
    /// belongs to the columns after that.
    fn whole_numbers(&self, steps: &mut Steps, transposed: bool) -> String {
        let mut value = steps.cast(self.value, OnnxType::Float);
        if transposed {
            value = steps.add("Transpose", &[&value], vec![]);
        }
        let zero_point = steps.cast(self.zero_point, OnnxType::Float);
        steps.add("Sub", &[&value, &zero_point], vec![])
    }
}

fn float_op(op_type: &str, node: &NodeProto, steps: &mut Steps, operands: &[usize]) -> Option<()> {
    let mut floats = vec![];
    for &operand in operands {
        floats.push(Quantised::at(node, operand)?.dequantised(steps));
    }
    let inputs: Vec<&str> = floats.iter().map(String::as_str).collect();
    let result = steps.add(op_type, &inputs, attributes(node));
    // The result's scale and zero point follow the operands.
    quantise(&result, node, steps, 3 * operands.len())
}

/// `QLinearSoftmax`: along the last axis where none is named. It may be older than the rest of its file, from when ONNX's
/// Softmax flattened what lies behind its axis (`opset` below 13): the same only along the last axis.
fn softmax(node: &NodeProto, steps: &mut Steps) -> Option<()> {
    let axis = int_of(node, "axis").unwrap_or(-1);
    if int_of(node, "opset").is_some_and(|opset| opset < 13) && axis != -1 {
        return None;
    }
    let float = Quantised::at(node, 0)?.dequantised(steps);
    let result = steps.add("Softmax", &[&float], vec![edit::int("axis", axis)]);
    quantise(&result, node, steps, 3)
}

/// `QLinearConcat`: the result's scale and zero point come first.
fn concat(node: &NodeProto, steps: &mut Steps) -> Option<()> {
    const MOST_INPUTS: usize = 1 << 12;
    let operands = node.input.len().checked_sub(2).filter(|count| count % 3 == 0 && *count <= MOST_INPUTS)? / 3;
    let mut floats = vec![];
    for operand in 0..operands {
        floats.push(Quantised::at(node, 2 + 3 * operand)?.dequantised(steps));
    }
    let inputs: Vec<&str> = floats.iter().map(String::as_str).collect();
    let result = steps.add("Concat", &inputs, attributes(node));
    quantise(&result, node, steps, 0)
}

/// `QLinearWhere`: the condition comes first.
fn choose(node: &NodeProto, steps: &mut Steps) -> Option<()> {
    let yes = Quantised::at(node, 1)?.dequantised(steps);
    let no = Quantised::at(node, 4)?.dequantised(steps);
    let result = steps.add("Where", &[input(node, 0)?, &yes, &no], vec![]);
    quantise(&result, node, steps, 7)
}

/// `QGemm`: `alpha * A * B + C`, where C counts in steps of A's scale by B's. Without a scale for the result it is FLOAT.
fn gemm(node: &NodeProto, steps: &mut Steps) -> Option<()> {
    let (a, b) = (Quantised::at(node, 0)?, Quantised::at(node, 3)?);
    let is_set = |name: &str| int_of(node, name).unwrap_or(0) != 0;
    let (rows, columns) = (a.whole_numbers(steps, is_set("transA")), b.whole_numbers(steps, is_set("transB")));
    // Sums of these products are whole numbers, which FLOAT holds exactly up to 2^24.
    let mut sums = steps.add("MatMul", &[&rows, &columns], vec![]);
    if let Some(bias) = input(node, 6) {
        let bias = steps.cast(bias, OnnxType::Float);
        sums = steps.add("Add", &[&sums, &bias], vec![]);
    }
    let mut scale = steps.add("Mul", &[a.scale, b.scale], vec![]);
    if let Some(alpha) = attribute(node, "alpha") {
        let alpha = steps.float(alpha.f);
        scale = steps.add("Mul", &[&scale, &alpha], vec![]);
    }
    match (input(node, 7), input(node, 8)) {
        (Some(result_scale), Some(zero_point)) => {
            let scale = steps.add("Div", &[&scale, result_scale], vec![]);
            let result = steps.add("Mul", &[&sums, &scale], vec![]);
            let one = steps.float(1.0);
            steps.add_to("QuantizeLinear", &[&result, &one, zero_point], &[output(node, 0)?], vec![]);
        }
        (None, None) => steps.add_to("Mul", &[&sums, &scale], &[output(node, 0)?], vec![]),
        _ => return None,
    }
    Some(())
}

/// `QLinearConv`: weights may have a scale for each output channel, and the bias counts in steps of x's scale by theirs. The engine
/// puts the three together again (see `ops::convolution`).
fn convolution(node: &NodeProto, steps: &mut Steps) -> Option<()> {
    let (x, w) = (Quantised::at(node, 0)?, Quantised::at(node, 3)?);
    let by_output = || vec![edit::int("axis", 0)];
    let mut inputs =
        vec![x.dequantised(steps), steps.add("DequantizeLinear", &[w.value, w.scale, w.zero_point], by_output())];
    if let Some(bias) = input(node, 8) {
        let scale = steps.add("Mul", &[x.scale, w.scale], vec![]);
        inputs.push(steps.add("DequantizeLinear", &[bias, &scale], by_output()));
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let result = steps.add("Conv", &inputs, attributes(node));
    quantise(&result, node, steps, 6)
}

/// `MatMulIntegerToFloat`: A, B, their scales, their zero points and a bias in FLOAT, the last three optional.
fn mat_mul(node: &NodeProto, steps: &mut Steps) -> Option<()> {
    let mut operand = |value: usize, zero_point: usize| -> Option<String> {
        let value = steps.cast(input(node, value)?, OnnxType::Float);
        let Some(zero_point) = input(node, zero_point) else { return Some(value) };
        let zero_point = steps.cast(zero_point, OnnxType::Float);
        Some(steps.add("Sub", &[&value, &zero_point], vec![]))
    };
    let (a, b) = (operand(0, 4)?, operand(1, 5)?);
    let sums = steps.add("MatMul", &[&a, &b], vec![]);
    let scale = steps.add("Mul", &[input(node, 2)?, input(node, 3)?], vec![]);
    match input(node, 6) {
        Some(bias) => {
            let scaled = steps.add("Mul", &[&sums, &scale], vec![]);
            steps.add_to("Add", &[&scaled, bias], &[output(node, 0)?], vec![]);
        }
        None => steps.add_to("Mul", &[&sums, &scale], &[output(node, 0)?], vec![]),
    }
    Some(())
}

/// `DynamicQuantizeLSTM`: the inputs of an LSTM, with W and R as `[directions, inputs, 4 * hidden]`, and then scale and
/// zero point of W and of R, for each direction or for each of its columns.
fn lstm(node: &NodeProto, steps: &mut Steps) -> Option<()> {
    const LSTM_INPUTS: usize = 8;
    let by_column = steps.ints(&[0, 1, -1]);
    let mut weights = |value: usize, scale: usize| -> Option<String> {
        let weights = steps.cast(input(node, value)?, OnnxType::Float);
        let scale_by_column = steps.add("Reshape", &[input(node, scale)?, &by_column], vec![]);
        let zero_point = steps.cast(input(node, scale + 1)?, OnnxType::Float);
        let zero_point = steps.add("Reshape", &[&zero_point, &by_column], vec![]);
        let moved = steps.add("Sub", &[&weights, &zero_point], vec![]);
        let scaled = steps.add("Mul", &[&moved, &scale_by_column], vec![]);
        Some(steps.add("Transpose", &[&scaled], vec![edit::int_list("perm", &[0, 2, 1])]))
    };
    let (w, r) = (weights(1, LSTM_INPUTS)?, weights(2, LSTM_INPUTS + 2)?);
    let mut inputs: Vec<&str> = node.input.iter().take(LSTM_INPUTS).map(String::as_str).collect();
    (inputs[1], inputs[2]) = (&w, &r);
    let outputs: Vec<&str> = node.output.iter().map(String::as_str).collect();
    steps.add_to("LSTM", &inputs, &outputs, node.attribute.clone());
    Some(())
}

fn quantise(value: &str, node: &NodeProto, steps: &mut Steps, scale: usize) -> Option<()> {
    let (scale, zero_point) = (input(node, scale)?, input(node, scale + 1)?);
    steps.add_to("QuantizeLinear", &[value, scale, zero_point], &[output(node, 0)?], vec![]);
    Some(())
}

/// Those that the float operator has too.
fn attributes(node: &NodeProto) -> Vec<AttributeProto> {
    let own = ["channels_last", "opset"];
    node.attribute.iter().filter(|attribute| !own.contains(&attribute.name.as_str())).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, close, floats};
    use super::*;
    use tract_onnx::tract_hir::internal::*;

    // Expected values are ONNX Runtime 1.31's for the same models.

    fn scaled(scales: &[(&str, f32)], zero_points: &[(&str, u8)]) -> Graph {
        let graph = scales.iter().fold(Graph::new(), |graph, (name, scale)| graph.scalar(name, *scale));
        zero_points.iter().fold(graph, |graph, (name, zero_point)| graph.scalar(name, *zero_point))
    }

    /// The usual scales and zero points of x, w and y.
    fn usual(x: f32, w: (f32, u8), y: (f32, u8)) -> Graph {
        scaled(&[("xs", x), ("ws", w.0), ("ys", y.0)], &[("xz", 128), ("wz", w.1), ("yz", y.1)])
    }

    fn x() -> Tensor {
        tensor2(&[[0u8, 128, 255], [10, 20, 30]])
    }

    fn weights() -> Tensor {
        tensor2(&[[1i8, 2], [-3, 4], [5, -6]])
    }

    fn quantised(graph: Graph) -> Vec<f32> {
        floats(&graph.declare("y", OnnxType::Uint8).run(&[("x", x())], &["y"]).unwrap()[0])
    }

    const ONE: [&str; 5] = ["x", "xs", "xz", "ys", "yz"];
    const TWO: [&str; 8] = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"];

    #[test]
    fn a_product_of_matrices_is_scaled_and_biased() {
        let graph = scaled(&[("xs", 0.02), ("ws", 0.5), ("ys", 0.25)], &[("xz", 128), ("yz", 100)])
            .scalar("wz", 1i8)
            .constant("w", weights())
            .constant("c", tensor1(&[100i32, -200]));
        let inputs = ["x", "xs", "xz", "w", "ws", "wz", "c", "ys", "yz"];
        let graph = graph.node("com.microsoft:QGemm", &inputs, &["y"]).float("alpha", 0.5);
        assert_eq!(quantised(graph), [112.0, 76.0, 103.0, 101.0]);
    }

    #[test]
    fn columns_may_have_scales_of_their_own_and_a_result_without_one_is_float() {
        let turned = tensor2(&[[1i8, -3, 5], [2, 4, -6]]);
        let graph = scaled(&[("xs", 0.5)], &[("xz", 128)])
            .constant("w", turned)
            .constant("ws", tensor1(&[0.5f32, 0.25]))
            .constant("wz", tensor1(&[1i8, 2]));
        let graph = graph.node("com.microsoft:QGemm", &["x", "xs", "xz", "w", "ws", "wz"], &["y"]).int("transB", 1);
        close(&floats(&graph.run(&[("x", x())], &["y"]).unwrap()[0]), &[127.0, -127.0, 10.0, 71.0], 1e-5);
        let graph = scaled(&[("xs", 0.5), ("ws", 0.5)], &[("xz", 128)])
            .scalar("wz", 1i8)
            .constant("w", weights())
            .constant("c", tensor1(&[1.0f32, -2.0]))
            .node("com.microsoft:MatMulIntegerToFloat", &["x", "w", "xs", "ws", "xz", "wz", "c"], &["y"]);
        close(&floats(&graph.run(&[("x", x())], &["y"]).unwrap()[0]), &[128.0, -256.25, 11.0, 59.0], 1e-5);
    }

    #[test]
    fn operators_of_one_value_run_in_floats() {
        let one = |name: &str, x: f32, y| usual(x, (1.0, 0), y).node(&format!("com.microsoft:{name}"), &ONE, &["y"]);
        let leaky = one("QLinearLeakyRelu", 0.5, (1.0, 100)).float("alpha", 0.25);
        assert_eq!(quantised(leaky), [84.0, 100.0, 164.0, 85.0, 86.0, 88.0]);
        let sigmoid = one("QLinearSigmoid", 0.02, (1.0 / 256.0, 0));
        assert_eq!(quantised(sigmoid), [18.0, 128.0, 237.0, 22.0, 26.0, 32.0]);
        let softmax = || one("QLinearSoftmax", 0.1, (1.0 / 256.0, 0));
        assert_eq!(quantised(softmax().int("opset", 17)), [0.0, 0.0, 255.0, 23.0, 63.0, 170.0]);
        let old = softmax().int("opset", 12).int("axis", 0).run(&[("x", x())], &["y"]);
        assert!(old.is_err(), "a Softmax that flattens is not ONNX's of today");
    }

    #[test]
    fn operators_of_two_values_run_in_floats() {
        let two = |name: &str, w: (f32, u8)| {
            let graph = usual(0.5, w, (1.0, 100)).constant("w", tensor1(&[1u8, 2, 3]));
            graph.node(&format!("com.microsoft:{name}"), &TWO, &["y"])
        };
        // A half may be rounded the other way.
        close(&quantised(two("QLinearAdd", (4.0, 0))), &[40.0, 108.0, 176.0, 45.0, 54.0, 63.0], 1.0);
        close(&quantised(two("QLinearMul", (0.25, 1))), &[100.0, 100.0, 132.0, 100.0, 86.0, 76.0], 1.0);
        let concat = usual(0.5, (4.0, 0), (1.0, 100)).constant("w", tensor2(&[[4u8], [8]])).node(
            "com.microsoft:QLinearConcat",
            &["ys", "yz", "x", "xs", "xz", "w", "ws", "wz"],
            &["y"],
        );
        close(&quantised(concat.int("axis", 1)), &[36.0, 100.0, 164.0, 116.0, 41.0, 46.0, 51.0, 132.0], 1.0);
        let choose = usual(0.5, (4.0, 0), (1.0, 100))
            .constant("w", tensor1(&[1u8, 2, 3]))
            .constant("c", tensor1(&[true, false, true]))
            .node("com.microsoft:QLinearWhere", &[&["c"], &TWO[..]].concat(), &["y"]);
        close(&quantised(choose), &[36.0, 108.0, 164.0, 41.0, 108.0, 51.0], 1.0);
    }

    #[test]
    fn pools_run_in_floats_unless_their_channels_come_last() {
        let pooled = |name: &str, last: i64| {
            let image = tensor1(&(0..16).map(|i| i * 10).collect::<Vec<u8>>()).into_shape(&[1, 1, 4, 4]).unwrap();
            let graph = usual(0.5, (1.0, 0), (1.0, 100)).node(&format!("com.microsoft:{name}"), &ONE, &["y"]);
            let graph = graph.int("channels_last", last).declare("y", OnnxType::Uint8);
            let graph = if name == "QLinearAveragePool" { graph.ints("kernel_shape", &[2, 2]) } else { graph };
            let graph = if name == "QLinearAveragePool" { graph.ints("strides", &[2, 2]) } else { graph };
            Ok::<_, TractError>(floats(&graph.run(&[("x", image)], &["y"])?[0]))
        };
        close(&pooled("QLinearGlobalAveragePool", 0).unwrap(), &[74.0], 1.0);
        close(&pooled("QLinearAveragePool", 0).unwrap(), &[48.0, 58.0, 88.0, 98.0], 1.0);
        assert!(pooled("QLinearAveragePool", 1).is_err());
    }

    #[test]
    fn an_lstm_of_quantised_weights_runs_in_floats() {
        // Gates i, o, f and c of one unit, from one input.
        let (w, r) = (tensor3(&[[[130u8, 127, 126, 132]]]), tensor3(&[[[128u8, 129, 128, 127]]]));
        let as_floats = |w: &Tensor, scale: f32| {
            let whole = floats(w).iter().map(|x| (x - 128.0) * scale).collect::<Vec<_>>();
            tensor1(&whole).into_shape(&[1, 4, 1]).unwrap()
        };
        let float = Graph::new().constant("w", as_floats(&w, 0.5)).constant("r", as_floats(&r, 0.25));
        let float = float.node("LSTM", &["x", "w", "r"], &["y", "", "c"]).int("hidden_size", 1);
        let quantised = Graph::new().constant("w", w).constant("r", r);
        let quantised = [("ws", 0.5f32), ("rs", 0.25)].iter().fold(quantised, |graph, (name, scale)| {
            graph.constant(name, tensor1(&[*scale])).constant(&name.replace('s', "z"), tensor1(&[128u8]))
        });
        let inputs = ["x", "w", "r", "", "", "", "", "", "ws", "wz", "rs", "rz"];
        let quantised = quantised.node("com.microsoft:DynamicQuantizeLSTM", &inputs, &["y", "", "c"]);
        let x = tensor3(&[[[0.5f32]], [[-1.0]]]);
        let run = |graph: Graph| graph.run(&[("x", x.clone())], &["y", "c"]).unwrap();
        assert_eq!(run(quantised.int("hidden_size", 1)), run(float));
    }

    #[test]
    fn a_zero_point_left_out_is_not_guessed() {
        let graph = usual(0.5, (1.0, 0), (1.0, 100));
        let graph = graph.node("com.microsoft:QLinearSigmoid", &["x", "xs", "", "ys", "yz"], &["y"]);
        let mut model = graph.model(&[("x", OnnxType::Uint8)], &["y"]);
        let untouched = model.clone();
        super::expand(&mut model);
        assert_eq!(model, untouched);
    }
}
