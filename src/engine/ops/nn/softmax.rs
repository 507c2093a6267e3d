//! Softmax (ONNX, version 13) of short rows, as classifiers end with: tract's goes row by row through kernels for long ones.

use tract_onnx::tract_core::ops::nn::{Softmax, SoftmaxKind};
use tract_onnx::tract_hir::internal::*;

use super::inputs::exactly;
use super::kernel::{Kernel, typed};
use super::wide;
use super::written::written;

/// Longest rows for which it is faster.
const MAX_WIDTH: usize = 48;

/// Puts ours in the place of those of tract's that are of FP32 along a last axis of few places.
pub fn narrow(model: &mut TypedModel) {
    for id in 0..model.nodes.len() {
        let node = &model.nodes[id];
        let Some(op) = node.op_as::<Softmax>() else { continue };
        let fact = &node.outputs[0].fact;
        let last = fact.rank().checked_sub(1);
        let width = last.and_then(|last| fact.shape[last].to_usize().ok());
        let is_plain =
            op.kind == SoftmaxKind::Softmax && op.quant_output_dt.is_none() && fact.datum_type == DatumType::F32;
        if is_plain && op.axes.iter().copied().eq(last) && width.is_some_and(|width| (1..=MAX_WIDTH).contains(&width)) {
            model.nodes[id].op = typed(Arc::new(Narrow), &[0]);
        }
    }
}

/// Along the last axis.
#[derive(Debug)]
struct Narrow;

impl Kernel for Narrow {
    fn name(&self) -> &'static str {
        "Softmax"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        ensure!(input.datum_type == DatumType::F32 && input.rank() > 0, "{input:?} instead of rows of FLOAT");
        Ok(tvec![input.without_value()])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let shape = inputs[0].shape();
        let width = shape.last().copied().unwrap_or(1).max(1);
        let from = inputs[0].try_as_plain_ram()?.as_slice::<f32>()?;
        let softmax = written::<f32>(shape, |to| {
            for (to, from) in to.chunks_exact_mut(width).zip(from.chunks_exact(width)) {
                let greatest =
                    from.iter().fold(f32::NEG_INFINITY, |greatest, &x| if x > greatest { x } else { greatest });
                to.iter_mut().zip(from).for_each(|(to, x)| *to = x - greatest);
            }
            wide::run(Exponentials(to));
            for row in to.chunks_exact_mut(width) {
                let sum: f32 = row.iter().sum();
                row.iter_mut().for_each(|power| *power /= sum);
            }
            Ok(())
        })?;
        Ok(tvec![softmax])
    }
}

/// Powers of e of numbers that aren't greater than 0, in their place.
struct Exponentials<'a>(&'a mut [f32]);

/// The least of which the power is a normal number.
const LEAST: f32 = -87.33;
/// A float of this size has no places behind the point: adding it rounds what is added.
const ROUNDER: f32 = 12_582_912.0;
/// The logarithm of 2 in two parts, of which the first times a whole number of few digits is exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// The terms of a polynomial for the rest, from the fifth power on: those of Cephes' `expf` (S. L. Moshier).
const TERMS: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];

impl wide::Loop for Exponentials<'_> {
    #[inline(always)]
    fn run(self) {
        for x in self.0 {
            let kept = if *x > LEAST { *x } else { LEAST };
            let shifted = kept * std::f32::consts::LOG2_E + ROUNDER;
            let whole = shifted - ROUNDER;
            let rest = kept - whole * LN_2[0] - whole * LN_2[1];
            let mut sum = TERMS[0];
            for term in &TERMS[1..] {
                sum = sum * rest + term;
            }
            let power = sum * rest * rest + rest + 1.0;
            let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32);
            let scale = f32::from_bits(((exponent + 127) << 23) as u32);
            let value = if *x > LEAST { power * scale } else { 0.0 };
            // What is not a number stays so.
            *x = if *x <= 0.0 { value } else { f32::NAN };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn softmax(rows: &Tensor) -> Vec<f32> {
        let softmax = Narrow.eval(&[rows.clone().into_tvalue()]).unwrap().remove(0);
        softmax.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
    }

    #[test]
    fn every_place_is_its_share_of_the_powers() {
        for width in [1, 2, 3, 10, 48] {
            let x: Vec<f32> = (0..width * 50).map(|at| ((at * 7919) % 1013) as f32 / 17.0 - 30.0).collect();
            let got = softmax(&Tensor::from_shape(&[50, width], &x).unwrap());
            for (row, got) in x.chunks(width).zip(got.chunks(width)) {
                let greatest = row.iter().copied().fold(f32::MIN, f32::max);
                let power = |x: f32| f64::from(x - greatest).exp();
                let sum: f64 = row.iter().map(|&x| power(x)).sum();
                for (x, got) in row.iter().zip(got) {
                    let expected = power(*x) / sum;
                    assert!((f64::from(*got) - expected).abs() < 3e-7 * expected + 1e-37, "{x}: {got} for {expected}");
                }
            }
        }
    }

    #[test]
    fn what_has_no_share_is_not_a_number() {
        assert_eq!(softmax(&tensor1(&[1e30f32, -1e30, f32::NEG_INFINITY])), [1.0, 0.0, 0.0]);
        let all_nan = |row: &[f32]| softmax(&tensor1(row)).iter().all(|share| share.is_nan());
        assert!(all_nan(&[1.0, f32::NAN, 2.0]));
        assert!(all_nan(&[1.0, f32::INFINITY]));
        assert!(all_nan(&[f32::NEG_INFINITY; 2]));
    }
}
