//! Our products against tract's, and those of bytes against sums written out.

use proptest::prelude::*;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::math::{add, max, mul};
use tract_onnx::tract_hir::internal::*;

use super::super::bytes::Vnni;
use super::super::products::convert;
use super::super::vector::Simd;
use super::{assert_near, run, values};
use crate::engine::ops::kernel::typed;
use crate::engine::ops::quantised::{Dequantise, Quantise};

/// A product, a factor and a term of each of its columns, and Relu.
fn product(shape: &[usize], outputs: usize, turned: bool, rows: Option<TDim>) -> TypedModel {
    let mut model = TypedModel::default();
    let inputs = shape[shape.len() - 1];
    let mut dims: TVec<TDim> = shape.iter().map(|size| size.to_dim()).collect();
    dims[0] = rows.unwrap_or(dims[0].clone());
    let input = model.add_source("x", f32::fact(&*dims)).unwrap();
    let matrix = if turned { [outputs, inputs] } else { [inputs, outputs] };
    let mut along = vec![1; shape.len()];
    along[shape.len() - 1] = outputs;
    let mut constant = |name: &str, value: Tensor| model.add_const(name, value).unwrap();
    let [matrix, factor, term] = [("w", values(&matrix, 1)), ("f", values(&along, 2)), ("t", values(&along, 3))]
        .map(|(name, value)| constant(name, value));
    let zero = constant("zero", tensor0(0f32).broadcast_into_rank(shape.len()).unwrap());
    let axes = match (shape.len(), turned) {
        (2, false) => "mk,kn->mn",
        (2, true) => "mk,nk->mn",
        (_, false) => "amk,kn->amn",
        (_, true) => "amk,nk->amn",
    };
    let op = EinSum { axes: axes.parse().unwrap(), operating_dt: f32::datum_type(), q_params: None };
    let mut wire = model.wire_node("product", op, &[input, matrix]).unwrap();
    let steps: [(&str, Box<dyn TypedOp>, OutletId); 3] =
        [("mul", Box::new(mul()), factor), ("add", Box::new(add()), term), ("max", Box::new(max()), zero)];
    for (name, op, other) in steps {
        wire = model.wire_node(name, op, &[wire[0], other]).unwrap();
    }
    model.select_output_outlets(&wire).unwrap();
    model
}

fn is_ours(model: &TypedModel) -> bool {
    Simd::all().is_empty() || !model.eval_order().unwrap().iter().any(|&node| model.node(node).op_is::<EinSum>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn products_give_what_tract_gives(
        rows in 1..=110usize, more in proptest::option::of(1..=3usize), inputs in 1..=40usize, outputs in 1..=150usize, turned: bool,
    ) {
        let shape: Vec<usize> = more.into_iter().chain([rows, inputs]).collect();
        let (x, expected) = (values(&shape, 9), product(&shape, outputs, turned, None));
        let ours = convert(expected.clone()).unwrap();
        prop_assert!(is_ours(&ours));
        assert_near(&run(ours, &x), &run(expected, &x));
    }
}

#[test]
fn one_product_serves_any_number_of_rows() {
    let symbols = SymbolScope::default();
    let model = |rows: Option<TDim>| product(&[7, 5], 20, false, rows);
    let any = convert(model(Some(symbols.sym("N").to_dim()))).unwrap();
    assert!(is_ours(&any));
    let x = values(&[7, 5], 9);
    assert_near(&run(any, &x), &run(model(None), &x));
}

/// A product of bytes with a bias, whose sums are scaled by 1/64 in all.
#[test]
fn products_of_bytes_are_exact() {
    let (rows, inputs, outputs) = (100, 37, 70);
    let byte = |at: usize| (at as u32).wrapping_mul(2_654_435_761) >> 24;
    let x: Vec<u8> = (0..rows * inputs).map(|at| byte(at) as u8).collect();
    let weights: Vec<i8> = (0..inputs * outputs).map(|at| byte(at + 7) as u8 as i8).collect();
    let mut model = TypedModel::default();
    let input = model.add_source("x", u8::fact([rows, inputs])).unwrap();
    let mut constant = |name: &str, value: Tensor| model.add_const(name, value).unwrap();
    let image = [input, constant("xs", tensor0(0.5f32)), constant("xz", tensor0(100u8))];
    let matrix = Tensor::from_shape(&[inputs, outputs], &weights).unwrap();
    let matrix = [constant("w", matrix), constant("ws", tensor0(0.125f32))];
    let bias: Vec<f32> = (0..outputs).map(|output| 4.0 * output as f32 / 16.0).collect();
    let bias = constant("b", Tensor::from_shape(&[1, outputs], &bias).unwrap());
    let result = [constant("ys", tensor0(4.0f32)), constant("yz", tensor0(-3i8))];
    let mut wire =
        |name: &str, op: Box<dyn TypedOp>, inputs: &[OutletId]| model.wire_node(name, op, inputs).unwrap()[0];
    let dequantise = || typed(Arc::new(Dequantise::new(1)), &[0]);
    let operands = [wire("dx", dequantise(), &image), wire("dw", dequantise(), &matrix)];
    let op = EinSum { axes: "mk,kn->mn".parse().unwrap(), operating_dt: f32::datum_type(), q_params: None };
    let sums = wire("product", Box::new(op), &operands);
    let sums = wire("add", Box::new(add()), &[sums, bias]);
    let output = wire("q", typed(Arc::new(Quantise::new(1, None)), &[0]), &[sums, result[0], result[1]]);
    model.select_output_outlets(&[output]).unwrap();
    let model = convert(model).unwrap();
    let names: Vec<String> = model.nodes.iter().map(|node| node.op.name().into()).collect();
    assert!(Vnni::ask().is_none() || names.iter().any(|name| name == "QLinearMatMul"), "{names:?}");
    let expected = (0..rows).flat_map(|row| (0..outputs).map(move |output| (row, output))).map(|(row, output)| {
        let term = |at: usize| (i32::from(x[row * inputs + at]) - 100) * i32::from(weights[at * outputs + output]);
        let sum = (0..inputs).map(term).sum::<i32>() + 4 * output as i32;
        ((f64::from(sum) / 64.0).round_ties_even() as i32 - 3).clamp(-128, 127) as i8
    });
    let expected: Vec<i8> = expected.collect();
    let got = run(model, &Tensor::from_shape(&[rows, inputs], &x).unwrap());
    assert_eq!(got, Tensor::from_shape(&[rows, outputs], &expected).unwrap());
}
