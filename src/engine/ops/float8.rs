//! The four 8-bit floats of ONNX, held as FLOAT: what rounds to them and what scales them. Passes write these operators into a
//! graph (see `clean_up`), in the domain `headgate`; tract has no type for such values.
//!
//! The formats, and what becomes of values beyond them, are those of ONNX's Cast (version 19), and checked against ONNX Runtime.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};

/// One of the formats: a sign, an exponent, a mantissa.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    mantissa_bits: u32,
    bias: i32,
    /// The bits of the largest finite value.
    largest: u8,
    /// Whether there are infinities.
    infinite: bool,
    /// Whether a zero has a sign; where it has none, the bits of the negative one are the only NaN.
    signed_zero: bool,
}

impl Format {
    /// The format of an element type of ONNX, if it is one of these.
    pub fn of(elem_type: i32) -> Option<Self> {
        let (mantissa_bits, bias, largest, infinite, signed_zero) = match OnnxType::try_from(elem_type).ok()? {
            OnnxType::Float8e4m3fn => (3, 7, 0x7e, false, true),
            OnnxType::Float8e4m3fnuz => (3, 8, 0x7f, false, false),
            OnnxType::Float8e5m2 => (2, 15, 0x7b, true, true),
            OnnxType::Float8e5m2fnuz => (2, 16, 0x7f, false, false),
            _ => return None,
        };
        Some(Self { mantissa_bits, bias, largest, infinite, signed_zero })
    }

    /// The value of these bits.
    pub fn value(self, bits: u8) -> f32 {
        let (is_negative, magnitude) = (bits & 0x80 != 0, bits & 0x7f);
        if !self.signed_zero && bits == 0x80 {
            return f32::NAN;
        }
        let value = match magnitude > self.largest {
            true if self.infinite && magnitude == self.largest + 1 => f32::INFINITY,
            true => f32::NAN,
            false => self.finite(magnitude),
        };
        if is_negative { -value } else { value }
    }

    fn finite(self, magnitude: u8) -> f32 {
        let (exponent, mantissa) = (magnitude >> self.mantissa_bits, magnitude & ((1 << self.mantissa_bits) - 1));
        let implied = u8::from(exponent > 0) << self.mantissa_bits;
        let power = i32::from(exponent.max(1)) - self.bias - self.mantissa_bits as i32;
        f32::from(mantissa | implied) * (power as f32).exp2()
    }

    /// The value of the format that is nearest, of two the one whose last bit is 0. What is larger than all finite values
    /// becomes the largest of them if `saturate`, else an infinity, or NaN in a format without. Where a zero has no sign, an
    /// infinity is NaN either way. (Without `saturate` ONNX Runtime 1.31 has other values close above the largest.)
    pub fn round(self, x: f32, saturate: bool) -> f32 {
        if x.is_nan() || x.is_infinite() && !self.signed_zero {
            return f32::NAN;
        }
        let largest = self.finite(self.largest);
        let least_power = 1 - self.bias;
        // In 64 bits all of these are exact.
        let magnitude = f64::from(x.abs());
        let power = if magnitude > 0.0 { (magnitude.to_bits() >> 52) as i32 - 1023 } else { least_power };
        let step = f64::from(power.max(least_power) - self.mantissa_bits as i32).exp2();
        let rounded = if x.is_infinite() { f64::INFINITY } else { (magnitude / step).round_ties_even() * step };
        let kept = match rounded > f64::from(largest) {
            false => rounded as f32,
            true if saturate => largest,
            true if self.infinite => f32::INFINITY,
            true => return f32::NAN,
        };
        if kept == 0.0 && !self.signed_zero { 0.0 } else { kept.copysign(x) }
    }
}

/// Rounds a FLOAT to what the type of the attribute `to` can hold; it stays a FLOAT.
pub fn round(_: &ParsingContext, node: &NodeProto) -> Built {
    let to = node.get_attr::<i64>("to")?;
    let format = i32::try_from(to).ok().and_then(Format::of).with_context(|| format!("attribute 'to' holds {to}"))?;
    built(node, Round8 { format, saturate: node.get_attr::<i64>("saturate")? != 0 })
}

/// A FLOAT times a scale, or by it if the attribute `divide` is 1: one number, or one for each place along `axis`.
pub fn scale(_: &ParsingContext, node: &NodeProto) -> Built {
    built(node, Scale { axis: node.get_attr::<i64>("axis")?, divide: node.get_attr::<i64>("divide")? != 0 })
}

#[derive(Debug)]
struct Round8 {
    format: Format,
    saturate: bool,
}

impl Kernel for Round8 {
    fn name(&self) -> &'static str {
        "Round8"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        ensure!(input.datum_type == DatumType::F32, "an input of {:?} instead of FLOAT", input.datum_type);
        Ok(tvec!(input.without_value()))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let round = |x| self.format.round(x, self.saturate);
        Ok(tvec!(inputs[0].to_plain_array_view::<f32>()?.mapv(round).into()))
    }

    fn axes(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        AxesMapping::natural(inputs, outputs)
    }
}

#[derive(Debug)]
struct Scale {
    axis: i64,
    divide: bool,
}

impl Kernel for Scale {
    fn name(&self) -> &'static str {
        "Scale"
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        ensure!(given.is_float(), "an input of {given:?} instead of a float");
        Ok(DatumType::F32)
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input, scale] = exactly(inputs)?;
        ensure!(scale.rank() <= 1, "a scale of {} axes instead of 0 or 1", scale.rank());
        Ok(tvec!(input.without_value()))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (x, scale) = (inputs[0].to_plain_array_view::<f32>()?, inputs[1].to_plain_array_view::<f32>()?);
        let scale = scale.to_shape(scale.len())?;
        let mut y = x.to_owned();
        let apply = |value: &mut f32, scale: f32| if self.divide { *value /= scale } else { *value *= scale };
        if scale.len() == 1 {
            y.iter_mut().for_each(|value| apply(value, scale[0]));
            return Ok(tvec!(y.into()));
        }
        let rank = y.ndim() as i64;
        ensure!((-rank..rank).contains(&self.axis), "attribute 'axis' holds {} for {rank} axes", self.axis);
        let axis = self.axis.rem_euclid(rank) as usize;
        ensure!(y.shape()[axis] == scale.len(), "{} scales for {} places of axis {axis}", scale.len(), y.shape()[axis]);
        for (mut part, &scale) in y.axis_iter_mut(tract_ndarray::Axis(axis)).zip(&scale) {
            part.iter_mut().for_each(|value| apply(value, scale));
        }
        Ok(tvec!(y.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    const FORMATS: [OnnxType; 4] =
        [OnnxType::Float8e4m3fn, OnnxType::Float8e4m3fnuz, OnnxType::Float8e5m2, OnnxType::Float8e5m2fnuz];

    #[test]
    fn every_value_of_a_format_rounds_to_itself_and_what_lies_between_two_to_the_even_one() {
        for format in FORMATS.map(|of| Format::of(of as i32).unwrap()) {
            let values: Vec<f32> = (0..=format.largest).map(|bits| format.value(bits)).collect();
            for (bits, pair) in values.windows(2).enumerate() {
                let (low, high) = (pair[0], pair[1]);
                assert!(low < high, "{format:?} {bits}");
                for x in [low, high] {
                    assert_eq!((format.round(x, true), format.round(-x, true)), (x, -x), "{format:?} {x}");
                }
                let even = if bits % 2 == 0 { low } else { high };
                assert_eq!(format.round((low + high) / 2.0, true), even, "{format:?} between {low} and {high}");
            }
        }
    }

    /// As ONNX Runtime 1.31.1 casts.
    #[test]
    fn what_is_beyond_a_format_becomes_its_largest_value_or_none() {
        let rounded = |of: OnnxType, saturate: bool| {
            let format = Format::of(of as i32).unwrap();
            [1.1, 300.0, -1e9, 0.003, f32::INFINITY].map(|x| format!("{}", format.round(x, saturate)))
        };
        assert_eq!(rounded(FORMATS[0], true), ["1.125", "288", "-448", "0.00390625", "448"]);
        assert_eq!(rounded(FORMATS[0], false), ["1.125", "288", "NaN", "0.00390625", "NaN"]);
        assert_eq!(rounded(FORMATS[1], true), ["1.125", "240", "-240", "0.0029296875", "NaN"]);
        assert_eq!(rounded(FORMATS[1], false), ["1.125", "NaN", "NaN", "0.0029296875", "NaN"]);
        assert_eq!(rounded(FORMATS[2], true), ["1", "320", "-57344", "0.0029296875", "57344"]);
        assert_eq!(rounded(FORMATS[2], false), ["1", "320", "-inf", "0.0029296875", "inf"]);
        assert_eq!(rounded(FORMATS[3], true), ["1", "320", "-57344", "0.0029296875", "NaN"]);
        assert_eq!(rounded(FORMATS[3], false), ["1", "320", "NaN", "0.0029296875", "NaN"]);
    }

    #[test]
    fn a_scale_is_one_number_or_one_for_each_place_of_an_axis() {
        let scale = |axis, scale: Tensor| {
            let node = Node::new("HeadgateScale").int("axis", axis).int("divide", 1);
            run(node, &[tensor2(&[[2.0f32, 4.0], [6.0, 8.0]]), scale], 1)
        };
        assert_eq!(scale(1, tensor0(2.0f32)).unwrap(), [tensor2(&[[1.0f32, 2.0], [3.0, 4.0]])]);
        assert_eq!(scale(-1, tensor1(&[2.0f32, 4.0])).unwrap(), [tensor2(&[[1.0f32, 1.0], [3.0, 2.0]])]);
        assert_eq!(scale(0, tensor1(&[2.0f32, 4.0])).unwrap(), [tensor2(&[[1.0f32, 2.0], [1.5, 2.0]])]);
        assert!(scale(2, tensor1(&[2.0f32, 4.0])).is_err());
        assert!(scale(0, tensor1(&[2.0f32, 4.0, 8.0])).is_err());
    }
}
