//! QuantizeLinear and DequantizeLinear with scales for blocks: some places along an axis share one.

use tract_onnx::tract_hir::internal::*;

use super::inputs::{axis_of, integers};
use super::kernel::Kernel;
use super::unfit::unfit;

/// Scales, and zero points where there are any, have the input's shape but along the axis, where each stands for a block.
#[derive(Debug)]
pub struct Blocks {
    pub axis: i64,
    /// Places of a block; the last may have fewer.
    pub places: usize,
    pub what: What,
}

/// What is made.
#[derive(Debug, Clone, Copy)]
pub enum What {
    Floats,
    /// Whole numbers of this type; of the zero point's where it isn't said.
    Integers(Option<DatumType>),
}

/// Which scale is whose.
struct Shared {
    /// Of the axis, and elements behind each of its places.
    length: usize,
    behind: usize,
    block: usize,
}

impl Shared {
    fn place(&self, element: usize) -> usize {
        let Self { length, behind, block } = *self;
        let (before, along) = (element / behind / length, element / behind % length);
        (before * length.div_ceil(block) + along / block) * behind + element % behind
    }
}

impl Blocks {
    fn shared(&self, x: &[usize], scales: &[usize]) -> TractResult<Shared> {
        let axis = axis_of(self.axis, x.len())?;
        let mut expected: TVec<usize> = x.into();
        expected[axis] = x[axis].div_ceil(self.places);
        if *scales != *expected {
            return Err(unfit(format!("{} of a tensor of {x:?} with scales of {scales:?}", self.name())));
        }
        Ok(Shared { length: x[axis], behind: x[axis + 1..].iter().product(), block: self.places })
    }

    fn zeros(&self, inputs: &[TValue], scales: usize) -> TractResult<Vec<i64>> {
        let Some(zeros) = inputs.get(2) else { return Ok(vec![0; scales]) };
        if zeros.len() != scales {
            return Err(unfit(format!("{} with {} zero points for {scales} scales", self.name(), zeros.len())));
        }
        integers(zeros)
    }

    fn made(&self, zero: Option<DatumType>) -> TractResult<DatumType> {
        match self.what {
            What::Floats => Ok(DatumType::F32),
            What::Integers(kind) => kind.or(zero).context("a type for the result"),
        }
    }
}

impl Kernel for Blocks {
    fn name(&self) -> &'static str {
        if matches!(self.what, What::Floats) { "DequantizeLinear" } else { "QuantizeLinear" }
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!((2..=3).contains(&inputs.len()), "{} inputs instead of 2 or 3", inputs.len());
        let scale = inputs[1].datum_type;
        ensure!(scale == f32::datum_type(), "a scale of {scale:?} instead of FLOAT");
        let made = self.made(inputs.get(2).map(|zero| zero.datum_type))?;
        let whole = if matches!(self.what, What::Floats) { inputs[0].datum_type } else { made };
        let known = [DatumType::U8, DatumType::I8, DatumType::U16, DatumType::I16, DatumType::I32];
        ensure!(known.contains(&whole), "whole numbers of {whole:?}");
        Ok(tvec![made.fact(inputs[0].shape.to_tvec())])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let shared = self.shared(inputs[0].shape(), inputs[1].shape())?;
        let scales = inputs[1].try_as_plain_ram()?.as_slice::<f32>()?;
        let zeros = self.zeros(inputs, scales.len())?;
        if matches!(self.what, What::Floats) {
            let each = |(element, x): (usize, i64)| {
                let place = shared.place(element);
                x.wrapping_sub(zeros[place]) as f32 * scales[place]
            };
            let made: Vec<f32> = integers(&inputs[0])?.into_iter().enumerate().map(each).collect();
            return Ok(tvec![tensor1(&made).into_shape(inputs[0].shape())?]);
        }
        let kind = self.made(inputs.get(2).map(|zero| zero.datum_type()))?;
        let (least, most) = match kind {
            DatumType::I8 => (-128f32, 127f32),
            DatumType::U16 => (0.0, 65_535.0),
            DatumType::I16 => (-32_768.0, 32_767.0),
            _ => (0.0, 255.0),
        };
        let x = inputs[0].cast_to::<f32>()?;
        let each = |(element, x): (usize, &f32)| {
            let place = shared.place(element);
            // What is no number becomes the least, as `Quantise` has it.
            ((x / scales[place]).round_ties_even() + zeros[place] as f32).max(least).min(most) as i64
        };
        let made: Vec<i64> = x.try_as_plain_ram()?.as_slice::<f32>()?.iter().enumerate().map(each).collect();
        Ok(tvec![tensor1(&made).cast_to_dt(kind)?.into_owned().into_shape(inputs[0].shape())?])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn places_of_a_block_share_a_scale() {
        let x = tensor2(&[[1i8, 2, 3], [4, 5, 6]]);
        let node = || Node::new("DequantizeLinear").int("axis", 1).int("block_size", 2);
        let widened = run(node(), &[x.clone(), tensor2(&[[1f32, 10.0], [100.0, 1000.0]])], 1);
        assert_eq!(widened.unwrap(), [tensor2(&[[1f32, 2.0, 30.0], [400.0, 500.0, 6000.0]])]);
        assert!(run(node(), &[x, tensor2(&[[1f32], [100.0]])], 1).is_err());
    }

    #[test]
    fn whole_numbers_are_made_by_the_scale_of_their_block_too() {
        let x = tensor2(&[[1f32, -3.0, 30.0], [f32::NAN, 1e9, 5000.0]]);
        let inputs = [x, tensor2(&[[1f32, 10.0], [100.0, 1000.0]]), tensor2(&[[0i8, 1], [0, 0]])];
        let node = || Node::new("QuantizeLinear").int("axis", 1);
        let made = run(node().int("block_size", 2), &inputs, 1).unwrap();
        assert_eq!(made, [tensor2(&[[1i8, -3, 4], [-128, 127, 5]])]);
        assert!(run(node().int("block_size", -2), &inputs, 1).is_err());
    }
}
