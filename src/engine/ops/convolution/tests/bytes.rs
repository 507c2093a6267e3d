//! Our convolutions of bytes against sums of whole numbers written out.

use proptest::prelude::*;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat};
use tract_onnx::tract_core::ops::math::{max, min};
use tract_onnx::tract_hir::internal::*;

use super::super::bytes::Vnni;
use super::{Case, cases, converted, is_left_to_tract, run};
use crate::engine::ops::kernel::typed;
use crate::engine::ops::quantised::{Dequantise, Quantise};

/// Scales are powers of two, or small multiples of them, so that nothing is rounded but the result.
const IMAGE_SCALE: f32 = 0.5;
const RESULT_SCALE: f32 = 32.0;
/// Limits of a Clip, in the middle of what a byte of the result stands for.
const LIMITS: [f32; 2] = [-1000.0, 2000.0];

/// Quantised values of a type, from the first to the last that it has, and their zero points.
#[derive(Debug, Clone)]
struct Types {
    image: (DatumType, i32),
    weights: (DatumType, i32),
    result: (DatumType, i32),
    scales_by_output: bool,
}

fn types() -> impl Strategy<Value = Types> {
    let byte = || {
        prop_oneof![
            (0..=255i32).prop_map(|zero| (DatumType::U8, zero)),
            (-128..=127i32).prop_map(|zero| (DatumType::I8, zero))
        ]
    };
    (byte(), byte(), any::<bool>(), any::<bool>()).prop_map(|(image, result, unsigned_weights, scales_by_output)| {
        let weights = if unsigned_weights { (DatumType::U8, 128) } else { (DatumType::I8, 0) };
        Types { image, weights, result, scales_by_output }
    })
}

/// Whole numbers of any byte.
fn numbers(count: usize, of: DatumType, seed: u32) -> Vec<i32> {
    let least = if of == DatumType::I8 { -128 } else { 0 };
    let byte = |at: u32| (at.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 24) as i32;
    (0..count as u32).map(|at| byte(at) + least).collect()
}

fn tensor(shape: &[usize], values: &[i32], of: DatumType) -> Tensor {
    Tensor::from_shape(shape, values).unwrap().cast_to_dt(of).unwrap().into_owned()
}

fn weight_scales(outputs: usize, types: &Types) -> Vec<f32> {
    let count = if types.scales_by_output { outputs } else { 1 };
    (0..count).map(|output| 0.25 * (1 + output % 3) as f32).collect()
}

fn biases(outputs: usize) -> Vec<i32> {
    (0..outputs as i32).map(|output| (output * 977) % 5000 - 2500).collect()
}

/// A convolution and a Clip between DequantizeLinear and QuantizeLinear.
fn model(case: &Case, types: &Types) -> TypedModel {
    let mut model = TypedModel::default();
    let outputs = case.all_channels()[1];
    let scales = weight_scales(outputs, types);
    let bias_scales: Vec<f32> = scales.iter().map(|scale| scale * IMAGE_SCALE).collect();
    let by_output = |scales: &[f32]| if types.scales_by_output { tensor1(scales) } else { tensor0(scales[0]) };
    let weights = numbers(case.weights().iter().product(), types.weights.0, 5);
    let zero = |(of, zero): (DatumType, i32)| tensor(&[], &[zero], of);
    let input = model.add_source("x", types.image.0.fact(case.input())).unwrap();
    let mut constant = |name: &str, value: Tensor| model.add_const(name, value).unwrap();
    let image = [input, constant("xs", tensor0(IMAGE_SCALE)), constant("xz", zero(types.image))];
    let kernel = [
        constant("w", tensor(&case.weights(), &weights, types.weights.0)),
        constant("ws", by_output(&scales)),
        constant("wz", zero(types.weights)),
    ];
    let bias = [constant("b", tensor1(&biases(outputs))), constant("bs", by_output(&bias_scales))];
    let [low, high] = LIMITS.map(|limit| tensor1(&[limit]).into_shape(&[1, 1, 1, 1]).unwrap());
    let (low, high) = (constant("low", low), constant("high", high));
    let (ys, yz) = (constant("ys", tensor0(RESULT_SCALE)), constant("yz", zero(types.result)));
    let mut wire =
        |name: &str, op: Box<dyn TypedOp>, inputs: &[OutletId]| model.wire_node(name, op, inputs).unwrap()[0];
    let dequantise = || typed(Arc::new(Dequantise::new(0)), &[0]);
    let inputs = [wire("dx", dequantise(), &image), wire("dw", dequantise(), &kernel), wire("db", dequantise(), &bias)];
    let op = Conv::new(case.spec(case.all_channels()), KernelFormat::OIHW, case.groups, None);
    let sums = wire("conv", Box::new(op), &inputs);
    let sums = wire("low.step", Box::new(max()), &[sums, low]);
    let sums = wire("high.step", Box::new(min()), &[sums, high]);
    let output = wire("q", typed(Arc::new(Quantise::new(1, None)), &[0]), &[sums, ys, yz]);
    model.select_output_outlets(&[output]).unwrap();
    model
}

/// What it gives, by the definitions of ONNX.
fn expected(case: &Case, types: &Types, x: &[i32]) -> Vec<i32> {
    let Case { images, channels: [inputs, each], image: [height, width], kernel, strides, dilations, pads, .. } = case;
    let outputs = case.all_channels()[1];
    let weights = numbers(case.weights().iter().product(), types.weights.0, 5);
    let (biases, scales) = (biases(outputs), weight_scales(outputs, types));
    let (least, most) = if types.result.0 == DatumType::I8 { (-128, 127) } else { (0, 255) };
    let mut all = vec![];
    for (n, o) in (0..*images).flat_map(|n| (0..outputs).map(move |o| (n, o))) {
        for (y, x0) in (0..case.places()[0]).flat_map(|y| (0..case.places()[1]).map(move |x| (y, x))) {
            let mut sum = biases[o];
            for (c, ky, kx) in (0..inputs * kernel[0] * kernel[1])
                .map(|at| (at / kernel[1] / kernel[0], at / kernel[1] % kernel[0], at % kernel[1]))
            {
                let row = (y * strides[0] + ky * dilations[0]).wrapping_sub(pads[0]);
                let column = (x0 * strides[1] + kx * dilations[1]).wrapping_sub(pads[1]);
                if row < *height && column < *width {
                    let pixel = ((n * case.all_channels()[0] + o / each * inputs + c) * height + row) * width + column;
                    let weight = weights[((o * inputs + c) * kernel[0] + ky) * kernel[1] + kx] - types.weights.1;
                    sum += (x[pixel] - types.image.1) * weight;
                }
            }
            let factor = scales[o % scales.len()] * IMAGE_SCALE;
            let real = (sum as f32 * factor).clamp(LIMITS[0], LIMITS[1]) / RESULT_SCALE;
            all.push((real.round_ties_even() as i32 + types.result.1).clamp(least, most));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn convolutions_of_bytes_are_exact_sums_over_their_windows(case in cases(), types in types()) {
        let x = numbers(case.input().iter().product(), types.image.0, 3);
        let (model, expected) = (model(&case, &types), expected(&case, &types, &x));
        for converted in converted(&model) {
            prop_assert!(!converted.nodes.iter().any(is_left_to_tract));
            // tract computes with fewer constants at once.
            let is_large = case.weights().iter().product::<usize>() >= 16;
            if Vnni::ask().is_some() && is_large && (case.groups == 1 || case.channels == [1, 1]) {
                prop_assert!(converted.nodes.iter().any(|node| node.op.name() == "QLinearConv"));
            }
            let got = run(converted, &tensor(&case.input(), &x, types.image.0));
            prop_assert_eq!(got.datum_type(), types.result.0);
            let got = got.cast_to::<i32>().unwrap().try_as_plain_ram().unwrap().as_slice::<i32>().unwrap().to_vec();
            prop_assert_eq!(got, &expected[..]);
        }
    }
}
