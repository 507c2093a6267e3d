//! `ai.onnx.QuantizeLinear` and `DequantizeLinear` (version 25) of scales and zero points that a run computes, of blocks, and
//! of 16 bits. Others are tract's.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::{axis_of, integers};
use super::kernel::{Kernel, built};
use super::stand_in::stand_in;
use super::unfit::unfit;

pub fn build_quantise(context: &ParsingContext, node: &NodeProto) -> Built {
    build(context, node, true)
}

pub fn build_dequantise(context: &ParsingContext, node: &NodeProto) -> Built {
    build(context, node, false)
}

fn build(context: &ParsingContext, node: &NodeProto, quantises: bool) -> Built {
    let zero = (node.input.len() > 2 && !node.input[2].is_empty()).then_some(2);
    let block = node.get_attr_opt::<i64>("block_size")?.unwrap_or(0);
    let block = usize::try_from(block).with_context(|| format!("attribute 'block_size' holds {block}"))?;
    let kind = match node.get_attr_opt::<i64>("output_dtype")?.unwrap_or(0) {
        0 => DatumType::U8,
        kind => {
            let known = i32::try_from(kind).ok().and_then(|kind| OnnxType::try_from(kind).ok());
            match known {
                Some(OnnxType::Uint8) => DatumType::U8,
                Some(OnnxType::Int8) => DatumType::I8,
                Some(OnnxType::Uint16) => DatumType::U16,
                Some(OnnxType::Int16) => DatumType::I16,
                Some(OnnxType::Float) if !quantises => DatumType::F32,
                _ => bail!("attribute 'output_dtype' holds {kind}"),
            }
        }
    };
    let axis = node.get_attr_opt("axis")?.unwrap_or(1);
    let ours = Linear { quantises, zero, axis, block, kind };
    // What tract doesn't know of a block or of another type than it takes for granted is ours from the start.
    if block > 0 || (quantises && zero.is_none() && kind != DatumType::U8) {
        return built(node, ours);
    }
    stand_in(context, node, ours, move |inputs: &[TypedFact]| {
        let is_wide = |input: &TypedFact| matches!(input.datum_type, DatumType::U16 | DatumType::I16);
        inputs.iter().skip(1).any(|input| input.konst.is_none() || is_wide(input))
    })
}

#[derive(Debug)]
struct Linear {
    quantises: bool,
    /// Where the zero point is.
    zero: Option<usize>,
    axis: i64,
    /// Places along the axis that share a scale; 0 where the scale is one, or one for each place.
    block: usize,
    /// What is made where no zero point tells it.
    kind: DatumType,
}

/// Which scale is whose.
enum Shared {
    ByAll,
    /// By those of the same place along the axis: how long that is, and how many elements lie behind each place.
    AlongAxis(usize, usize),
    /// The same, and how many of its places share a scale.
    InBlocks(usize, usize, usize),
}

impl Shared {
    fn place(&self, element: usize) -> usize {
        match *self {
            Self::ByAll => 0,
            Self::AlongAxis(length, behind) => element / behind % length,
            Self::InBlocks(length, behind, block) => {
                let (before, along) = (element / behind / length, element / behind % length);
                (before * length.div_ceil(block) + along / block) * behind + element % behind
            }
        }
    }
}

impl Linear {
    fn shared(&self, x: &[usize], scales: &[usize]) -> TractResult<Shared> {
        let wrong = || unfit(format!("{} of a tensor of {x:?} with scales of {scales:?}", self.name()));
        if self.block == 0 && scales.iter().product::<usize>() == 1 {
            return Ok(Shared::ByAll);
        }
        let axis = axis_of(self.axis, x.len())?;
        let (length, behind) = (x[axis], x[axis + 1..].iter().product());
        if self.block == 0 {
            return if scales == [length] { Ok(Shared::AlongAxis(length, behind)) } else { Err(wrong()) };
        }
        let mut expected: TVec<usize> = x.into();
        expected[axis] = length.div_ceil(self.block);
        if *scales == *expected { Ok(Shared::InBlocks(length, behind, self.block)) } else { Err(wrong()) }
    }

    fn zeros(&self, inputs: &[TValue], scales: usize) -> TractResult<Vec<i64>> {
        let Some(zeros) = self.zero.and_then(|place| inputs.get(place)) else { return Ok(vec![0; scales]) };
        if zeros.len() != scales {
            return Err(unfit(format!("{} with {} zero points for {scales} scales", self.name(), zeros.len())));
        }
        integers(zeros)
    }
}

impl Kernel for Linear {
    fn name(&self) -> &'static str {
        if self.quantises { "QuantizeLinear" } else { "DequantizeLinear" }
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!((2..=3).contains(&inputs.len()), "{} inputs instead of 2 or 3", inputs.len());
        let scale = inputs[1].datum_type;
        ensure!(scale == f32::datum_type(), "a scale of {scale:?} instead of FLOAT");
        let made = match (self.quantises, self.zero.and_then(|place| inputs.get(place))) {
            (false, _) => f32::datum_type(),
            (true, Some(zero)) => zero.datum_type,
            (true, None) => self.kind,
        };
        let whole = if self.quantises { made } else { inputs[0].datum_type };
        let known = [DatumType::U8, DatumType::I8, DatumType::U16, DatumType::I16];
        ensure!(known.contains(&whole) || (!self.quantises && whole == DatumType::I32), "integers of {whole:?}");
        Ok(tvec![made.fact(inputs[0].shape.to_tvec())])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let shared = self.shared(inputs[0].shape(), inputs[1].shape())?;
        let view = inputs[1].try_as_plain_ram()?;
        let scales = view.as_slice::<f32>()?;
        let zeros = self.zeros(inputs, scales.len())?;
        if !self.quantises {
            let each = |(element, x): (usize, i64)| {
                let place = shared.place(element);
                (x - zeros[place]) as f32 * scales[place]
            };
            let made: Vec<f32> = integers(&inputs[0])?.into_iter().enumerate().map(each).collect();
            return Ok(tvec![tensor1(&made).into_shape(inputs[0].shape())?]);
        }
        let kind = match self.zero.and_then(|place| inputs.get(place)) {
            Some(zero) => zero.datum_type(),
            None => self.kind,
        };
        let (least, most) = match kind {
            DatumType::I8 => (-128f32, 127f32),
            DatumType::U16 => (0.0, 65_535.0),
            DatumType::I16 => (-32_768.0, 32_767.0),
            _ => (0.0, 255.0),
        };
        let x = inputs[0].cast_to::<f32>()?;
        let each = |(element, x): (usize, &f32)| {
            let place = shared.place(element);
            // A NaN becomes 0, as casts make it.
            ((x / scales[place]).round_ties_even() + zeros[place] as f32).clamp(least, most) as i64
        };
        let made: Vec<i64> = x.try_as_plain_ram()?.as_slice::<f32>()?.iter().enumerate().map(each).collect();
        Ok(tvec![tensor1(&made).cast_to_dt(kind)?.into_owned().into_shape(inputs[0].shape())?])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    fn ran(node: Node, inputs: &[Tensor]) -> TractResult<Tensor> {
        Ok(run(node, inputs, 1)?.remove(0))
    }

    /// Expected values are those of ONNX's node tests of the same names, and of ONNX Runtime 1.31.1.
    #[test]
    fn scales_and_zero_points_may_come_with_the_request() {
        let widened =
            ran(Node::new("DequantizeLinear"), &[tensor1(&[0u8, 3, 128, 255]), tensor0(2f32), tensor0(128u8)]);
        assert_eq!(widened.unwrap(), tensor1(&[-256f32, -250.0, 0.0, 254.0]));
        let x = tensor1(&[0f32, 2.0, 3.0, 1000.0, -254.0, -1000.0]);
        let narrowed = ran(Node::new("QuantizeLinear"), &[x, tensor0(2f32), tensor0(128u8)]);
        assert_eq!(narrowed.unwrap(), tensor1(&[128u8, 129, 130, 255, 1, 0]));
        let rows = tensor2(&[[1i8, 2], [3, 4]]);
        let by_axis = ran(
            Node::new("DequantizeLinear").int("axis", 0),
            &[rows.clone(), tensor1(&[2f32, 10.0]), tensor1(&[1i8, 0])],
        );
        assert_eq!(by_axis.unwrap(), tensor2(&[[0f32, 2.0], [30.0, 40.0]]));
        assert!(ran(Node::new("DequantizeLinear"), &[rows, tensor1(&[1f32, 2.0, 3.0])]).is_err());
    }

    #[test]
    fn places_of_a_block_share_a_scale() {
        let x = tensor2(&[[1i8, 2, 3], [4, 5, 6]]);
        let node = || Node::new("DequantizeLinear").int("axis", 1).int("block_size", 2);
        let widened = ran(node(), &[x.clone(), tensor2(&[[1f32, 10.0], [100.0, 1000.0]])]);
        assert_eq!(widened.unwrap(), tensor2(&[[1f32, 2.0, 30.0], [400.0, 500.0, 6000.0]]));
        assert!(ran(node(), &[x, tensor2(&[[1f32], [100.0]])]).is_err());
    }
}
