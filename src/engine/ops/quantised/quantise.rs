//! QuantizeLinear: `saturate(round(x / scale) + zero_point)`, halves to the even number.
//!
//! As in ONNX Runtime what is not a number becomes the least that the type holds.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::tract_hir::internal::*;

use super::blocks::{Blocks, What};
use super::kernel::{Kernel, built};
use super::{Built, scales, wide, written};

/// A float of this size has no places behind the point: adding it rounds what is added, halves to even, and the sum's bits count up
/// from its own by whole numbers. What is added must be less than 2^22.
const ROUNDER: f32 = 12_582_912.0;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let output_type = node.get_attr_opt::<i64>("output_dtype")?.unwrap_or(0);
    let has_zero_point = node.input.get(2).is_some_and(|name| !name.is_empty());
    let output = match i32::try_from(output_type).ok().and_then(|output| OnnxType::try_from(output).ok()) {
        Some(OnnxType::Undefined) if has_zero_point => None,
        Some(OnnxType::Undefined | OnnxType::Uint8) => Some(DatumType::U8),
        Some(OnnxType::Int8) => Some(DatumType::I8),
        Some(OnnxType::Uint16) => Some(DatumType::U16),
        Some(OnnxType::Int16) => Some(DatumType::I16),
        _ => bail!("attribute 'output_dtype' holds {output_type}"),
    };
    let axis = scales::axis(node)?;
    match scales::block(node)? {
        Some(places) => built(node, Blocks { axis, places, what: What::Integers(output) }),
        None => built(node, Quantise::new(axis, output)),
    }
}

/// Takes FLOAT, a scale and perhaps a zero point.
#[derive(Debug)]
pub struct Quantise {
    axis: i64,
    /// The type of the result; that of the zero point where it isn't said.
    output: Option<DatumType>,
}

impl Kernel for Quantise {
    fn name(&self) -> &'static str {
        "QuantizeLinear"
    }

    fn input_type(&self, index: usize, given: DatumType) -> TractResult<DatumType> {
        match index {
            2 => Ok(given),
            _ => {
                ensure!(given.is_float() || given == DatumType::I32, "an input of {given:?} instead of a float");
                Ok(DatumType::F32)
            }
        }
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        scales::check(inputs, self.axis)?;
        let of_zero_point = inputs.get(2).map(|fact| fact.datum_type);
        let output = self.output.or(of_zero_point).context("a type for the result")?;
        ensure!(of_zero_point.is_none_or(|of| of == output), "a zero point of {of_zero_point:?} for {output:?}");
        ensure!(
            [DatumType::U8, DatumType::I8, DatumType::U16, DatumType::I16].contains(&output),
            "a result of {output:?}"
        );
        Ok(tvec![output.fact(inputs[0].shape.clone())])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let output = self.output.or(inputs.get(2).map(|zero_point| zero_point.datum_type()));
        Ok(tvec![match output {
            Some(DatumType::U8) => self.quantised(inputs, f32::from(u8::MIN), f32::from(u8::MAX), |bits| bits as u8)?,
            Some(DatumType::I8) => self.quantised(inputs, f32::from(i8::MIN), f32::from(i8::MAX), |bits| bits as i8)?,
            Some(DatumType::U16) =>
                self.quantised(inputs, f32::from(u16::MIN), f32::from(u16::MAX), |bits| bits as u16)?,
            Some(DatumType::I16) =>
                self.quantised(inputs, f32::from(i16::MIN), f32::from(i16::MAX), |bits| bits as i16)?,
            other => bail!("a result of {other:?}"),
        }])
    }

    fn axes(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        scales::axes(inputs, outputs)
    }
}

impl Quantise {
    /// For scales along `axis`, where there are several.
    pub fn new(axis: i64, output: Option<DatumType>) -> Self {
        Self { axis, output }
    }

    /// `whole` makes the type's number of one that it holds.
    fn quantised<T: Datum + Copy>(
        &self,
        inputs: &[TValue],
        least: f32,
        most: f32,
        whole: impl Fn(i32) -> T + Copy,
    ) -> TractResult<Tensor> {
        let x = inputs[0].try_as_plain_ram()?.as_slice::<f32>()?;
        let zero_points = inputs.get(2).map(|zero_point| zero_point.cast_to::<f32>()).transpose()?;
        let zero_points = match &zero_points {
            Some(zero_points) => zero_points.try_as_plain_ram()?.as_slice::<f32>()?,
            None => &[0.0],
        };
        let scale = inputs[1].try_as_plain_ram()?.as_slice::<f32>()?;
        written(inputs[0].shape(), |to| {
            let (mut from, mut to) = (x, to);
            scales::each_run(inputs[0].shape(), self.axis, (scale, zero_points), |count, scale, zero_point| {
                let from = from.split_off(..count).unwrap_or_default();
                let to = to.split_off_mut(..count).unwrap_or_default();
                wide::run(Run { from, to, scale, zero_point, limits: [least, most], whole });
            })
        })
    }
}

struct Run<'a, T, W> {
    from: &'a [f32],
    to: &'a mut [T],
    scale: f32,
    zero_point: f32,
    limits: [f32; 2],
    whole: W,
}

impl<T, W: Fn(i32) -> T> wide::Loop for Run<'_, T, W> {
    #[inline(always)]
    fn run(self) {
        // Limits before the zero point is added are whole numbers, so that it doesn't matter whether they or the rounding come first.
        let [least, most] = self.limits.map(|limit| limit - self.zero_point);
        let from_bits = (self.zero_point as i32).wrapping_sub(ROUNDER.to_bits() as i32);
        for (to, x) in self.to.iter_mut().zip(self.from) {
            let scaled = x / self.scale;
            let scaled = if scaled > least { scaled } else { least };
            let scaled = if scaled < most { scaled } else { most };
            *to = (self.whole)(((scaled + ROUNDER).to_bits() as i32).wrapping_add(from_bits));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    fn quantise() -> Node {
        Node::new("QuantizeLinear")
    }

    /// ONNX Runtime 1.31.1's.
    #[test]
    fn halves_go_to_the_even_number_and_what_is_beyond_to_the_limits() {
        let x = [0.1f32, 0.3, 0.5, -0.5, -0.1, 1e9, -1e9, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 25.35, 0.15];
        let quantised = |zero_point| run(quantise(), &[tensor1(&x), tensor0(0.2f32), zero_point], 1).unwrap();
        assert_eq!(quantised(tensor0(3u8)), [tensor1(&[3u8, 5, 5, 1, 3, 255, 0, 0, 255, 0, 130, 4])]);
        let eight = tensor1(&[-3i8, -1, -1, -5, -3, 127, -128, -128, 127, -128, 124, -2]);
        assert_eq!(quantised(tensor0(-3i8)), [eight]);
        let sixteen = tensor1(&[3u16, 5, 5, 1, 3, 65535, 0, 0, 65535, 0, 130, 4]);
        assert_eq!(quantised(tensor0(3u16)), [sixteen]);
    }

    /// ONNX Runtime 1.31.1's.
    #[test]
    fn places_of_an_axis_may_have_scales_of_their_own() {
        let x = tensor2(&[
            [0.1f32, 0.3, 0.5, -0.5],
            [-0.1, 1e9, -1e9, f32::NAN],
            [f32::INFINITY, f32::NEG_INFINITY, 25.35, 0.15],
        ]);
        let scales = [tensor1(&[0.2f32, 0.1, 1.0]), tensor1(&[0i8, 1, 2])];
        let expected = tensor2(&[[0i8, 2, 2, -2], [0, 127, -128, -128], [127, -128, 27, 2]]);
        let [scale, zero_point] = &scales;
        let inputs = [x.clone(), scale.clone(), zero_point.clone()];
        for axis in [0, -2] {
            assert_eq!(run(quantise().int("axis", axis), &inputs, 1).unwrap()[0], expected);
        }
        assert!(run(quantise().int("axis", 1), &inputs, 1).is_err());
        assert!(run(quantise().int("axis", 2), &inputs, 1).is_err());
    }

    #[test]
    fn the_type_is_the_zero_points_or_the_one_named_or_uint8() {
        let one = |node: Node| run(node, &[tensor1(&[-1.0f32, 200.0]), tensor0(1.0f32)], 1);
        assert_eq!(one(quantise()).unwrap(), [tensor1(&[0u8, 200])]);
        assert_eq!(one(quantise().int("output_dtype", 3)).unwrap(), [tensor1(&[-1i8, 127])]);
        assert!(one(quantise().int("output_dtype", 1)).is_err());
        let both = [tensor1(&[1.0f32]), tensor0(1.0f32), tensor0(0u8)];
        assert!(run(quantise().int("output_dtype", 3), &both, 1).is_err());
    }

    #[test]
    fn every_float_rounds_as_by_definition() {
        let x: Vec<f32> = (-6000..6000).map(|x| x as f32 / 16.0).collect();
        for zero_point in [0, 128, 255u8] {
            let got = run(quantise(), &[tensor1(&x), tensor0(0.75f32), tensor0(zero_point)], 1).unwrap();
            let whole = |x: &f32| ((x / 0.75).round_ties_even() + f32::from(zero_point)).clamp(0.0, 255.0) as u8;
            assert_eq!(got, [tensor1(&x.iter().map(whole).collect::<Vec<u8>>())]);
        }
    }
}
