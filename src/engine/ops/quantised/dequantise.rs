//! DequantizeLinear: `(x - zero_point) * scale`.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::blocks::{Blocks, What};
use super::kernel::{Kernel, built};
use super::{Built, scales, wide, written};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let axis = scales::axis(node)?;
    match scales::block(node)? {
        Some(places) => built(node, Blocks { axis, places, what: What::Floats }),
        None => built(node, Dequantise::new(axis)),
    }
}

/// Takes whole numbers, a scale and perhaps a zero point, and gives FLOAT.
#[derive(Debug)]
pub struct Dequantise {
    axis: i64,
}

impl Kernel for Dequantise {
    fn name(&self) -> &'static str {
        "DequantizeLinear"
    }

    fn input_type(&self, index: usize, given: DatumType) -> TractResult<DatumType> {
        ensure!(index != 1 || given.is_float(), "a scale of {given:?} instead of a float");
        Ok(if index == 1 { DatumType::F32 } else { given })
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        scales::check(inputs, self.axis)?;
        let types = [DatumType::U8, DatumType::I8, DatumType::U16, DatumType::I16, DatumType::I32];
        let given = inputs[0].datum_type;
        ensure!(types.contains(&given), "an input of {given:?}");
        let of_zero_point = inputs.get(2).map(|fact| fact.datum_type);
        ensure!(of_zero_point.is_none_or(|of| of == given), "a zero point of {of_zero_point:?} for {given:?}");
        Ok(tvec![f32::fact(inputs[0].shape.clone())])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        Ok(tvec![match inputs[0].datum_type() {
            DatumType::U8 => self.dequantised(inputs, |x: u8| i32::from(x))?,
            DatumType::I8 => self.dequantised(inputs, |x: i8| i32::from(x))?,
            DatumType::U16 => self.dequantised(inputs, |x: u16| i32::from(x))?,
            DatumType::I16 => self.dequantised(inputs, |x: i16| i32::from(x))?,
            DatumType::I32 => self.dequantised(inputs, |x: i32| x)?,
            other => bail!("an input of {other:?}"),
        }])
    }

    /// A convolution of bytes wants its weights as they are.
    fn folds_at_once(&self) -> bool {
        false
    }

    fn axes(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        scales::axes(inputs, outputs)
    }
}

impl Dequantise {
    /// For scales along `axis`, where there are several.
    pub fn new(axis: i64) -> Self {
        Self { axis }
    }

    /// The axis whose places may have scales of their own, as the node counts it.
    pub fn axis(&self) -> i64 {
        self.axis
    }

    fn dequantised<T: Datum + Copy>(&self, inputs: &[TValue], whole: impl Fn(T) -> i32 + Copy) -> TractResult<Tensor> {
        let x = inputs[0].try_as_plain_ram()?.as_slice::<T>()?;
        let zero_points = match inputs.get(2) {
            Some(zero_points) => {
                zero_points.try_as_plain_ram()?.as_slice::<T>()?.iter().map(|&zero| whole(zero)).collect()
            }
            None => vec![0],
        };
        let scale = inputs[1].try_as_plain_ram()?.as_slice::<f32>()?;
        written(inputs[0].shape(), |to| {
            let (mut from, mut to) = (x, to);
            scales::each_run(inputs[0].shape(), self.axis, (scale, &zero_points), |count, scale, zero_point| {
                let from = from.split_off(..count).unwrap_or_default();
                let to = to.split_off_mut(..count).unwrap_or_default();
                wide::run(Run { from, to, scale, zero_point, whole });
            })
        })
    }
}

struct Run<'a, T, W> {
    from: &'a [T],
    to: &'a mut [f32],
    scale: f32,
    zero_point: i32,
    whole: W,
}

impl<T: Copy, W: Fn(T) -> i32> wide::Loop for Run<'_, T, W> {
    #[inline(always)]
    fn run(self) {
        for (to, x) in self.to.iter_mut().zip(self.from) {
            *to = (self.whole)(*x).wrapping_sub(self.zero_point) as f32 * self.scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, assert_close, run};
    use super::*;

    fn dequantise() -> Node {
        Node::new("DequantizeLinear")
    }

    #[test]
    fn whole_numbers_become_floats() {
        let one = |x, zero_point| run(dequantise(), &[x, tensor0(0.5f32), zero_point], 1).unwrap().remove(0);
        assert_close(&one(tensor1(&[0u8, 3, 255]), tensor0(128u8)), &[-64.0, -62.5, 63.5]);
        assert_close(&one(tensor1(&[-128i8, 127]), tensor0(-1i8)), &[-63.5, 64.0]);
        assert_close(&one(tensor1(&[70_000i32]), tensor0(0i32)), &[35_000.0]);
        let without = run(dequantise(), &[tensor1(&[-128i8, 2]), tensor0(0.5f32)], 1).unwrap();
        assert_close(&without[0], &[-64.0, 1.0]);
    }

    #[test]
    fn places_of_an_axis_may_have_scales_of_their_own() {
        let x = tensor2(&[[1u8, 2], [3, 4]]);
        let one = |axis, scales: &[f32], zero_points: &[u8]| {
            run(dequantise().int("axis", axis), &[x.clone(), tensor1(scales), tensor1(zero_points)], 1)
        };
        assert_close(&one(0, &[1.0, 2.0], &[1, 0]).unwrap()[0], &[0.0, 1.0, 6.0, 8.0]);
        assert_close(&one(-1, &[1.0, 2.0], &[1, 0]).unwrap()[0], &[0.0, 4.0, 2.0, 8.0]);
        assert_close(&one(1, &[1.0, 2.0], &[1]).unwrap()[0], &[0.0, 2.0, 2.0, 6.0]);
        assert!(one(1, &[1.0, 2.0, 3.0], &[1]).is_err());
        assert!(one(2, &[1.0, 2.0], &[1, 0]).is_err());
        let types = run(dequantise(), &[tensor1(&[1u8]), tensor0(0.5f32), tensor0(1i8)], 1);
        assert!(types.is_err());
    }
}
