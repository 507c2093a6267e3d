//! Operators that no file has: passes write them into a graph (see `clean_up`), in the domain `headgate`.

use half::{bf16, f16};
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::{axis_of, exactly};
use super::kernel::{Kernel, built};

/// Gives its input as it is. tract's optimisations don't see through it, but for a constant; a second input that is none
/// keeps a constant from it too.
pub fn barrier(_: &ParsingContext, node: &NodeProto) -> Built {
    built(node, Barrier)
}

/// Reverses its input along the attribute `axis`.
pub fn reverse(_: &ParsingContext, node: &NodeProto) -> Built {
    built(node, Reverse { axis: node.get_attr::<usize>("axis")? })
}

/// Rounds a FLOAT to what the type of the attribute `to` (FLOAT16 or BFLOAT16) can hold, to the nearest and there to the
/// even one; it stays a FLOAT.
pub fn round_to(_: &ParsingContext, node: &NodeProto) -> Built {
    let to = node.get_attr::<i64>("to")?;
    match i32::try_from(to).ok().and_then(|to| OnnxType::try_from(to).ok()) {
        Some(OnnxType::Float16) => built(node, Round(|x| f16::from_f32(x).to_f32())),
        Some(OnnxType::Bfloat16) => built(node, Round(|x| bf16::from_f32(x).to_f32())),
        _ => bail!("attribute 'to' holds {to}"),
    }
}

/// The bits of a BFLOAT16, kept as UINT16, as a FLOAT.
pub fn widen_bf16(_: &ParsingContext, node: &NodeProto) -> Built {
    built(node, WidenBf16)
}

/// Zeros for the initial state of a recurrence, from its inputs X and R and its `layout`.
pub fn zero_state(_: &ParsingContext, node: &NodeProto) -> Built {
    built(node, ZeroState { rows_first: node.get_attr::<i64>("layout")? != 0 })
}

/// Joins the slices of a tensor along its first axis as ConcatFromSequence joins the tensors of a sequence, by its attributes
/// `axis` and `new_axis`.
pub fn join(_: &ParsingContext, node: &NodeProto) -> Built {
    let is_new = node.get_attr_opt::<i64>("new_axis")?.unwrap_or(0) != 0;
    built(node, Join { axis: node.get_attr("axis")?, is_new })
}

#[derive(Debug)]
struct Barrier;

impl Kernel for Barrier {
    fn name(&self) -> &'static str {
        "Barrier"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let ([input] | [input, _]) = inputs else { bail!("{} inputs instead of 1 or 2", inputs.len()) };
        Ok(tvec!(input.without_value()))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        Ok(tvec!(inputs[0].clone().into_tensor()))
    }
}

#[derive(Debug)]
struct Reverse {
    axis: usize,
}

impl Kernel for Reverse {
    fn name(&self) -> &'static str {
        "Reverse"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        ensure!(self.axis < input.rank(), "attribute 'axis' holds {} for {} axes", self.axis, input.rank());
        ensure!(input.datum_type == DatumType::F32, "an input of {:?} instead of FLOAT", input.datum_type);
        Ok(tvec!(input.without_value()))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let mut view = inputs[0].to_plain_array_view::<f32>()?;
        view.invert_axis(tract_ndarray::Axis(self.axis));
        Ok(tvec!(view.as_standard_layout().into_owned().into()))
    }
}

#[derive(Debug)]
struct Round(fn(f32) -> f32);

impl Kernel for Round {
    fn name(&self) -> &'static str {
        "Round16"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        ensure!(input.datum_type == DatumType::F32, "an input of {:?} instead of FLOAT", input.datum_type);
        Ok(tvec!(input.without_value()))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        Ok(tvec!(inputs[0].to_plain_array_view::<f32>()?.mapv(self.0).into()))
    }

    fn axes(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        AxesMapping::natural(inputs, outputs)
    }
}

#[derive(Debug)]
struct WidenBf16;

impl Kernel for WidenBf16 {
    fn name(&self) -> &'static str {
        "WidenBf16"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        ensure!(input.datum_type == DatumType::U16, "an input of {:?} instead of UINT16", input.datum_type);
        Ok(tvec!(f32::fact(input.shape.clone())))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let wide = |&bits: &u16| bf16::from_bits(bits).to_f32();
        Ok(tvec!(inputs[0].to_plain_array_view::<u16>()?.map(wide).into()))
    }
}

#[derive(Debug)]
struct ZeroState {
    rows_first: bool,
}

impl Kernel for ZeroState {
    fn name(&self) -> &'static str {
        "ZeroState"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [x, r] = exactly(inputs)?;
        ensure!(x.rank() == 3 && r.rank() == 3, "X of {} axes and R of {} instead of 3", x.rank(), r.rank());
        let (directions, hidden) = (r.shape[0].clone(), r.shape[2].clone());
        Ok(tvec!(x.datum_type.fact(match self.rows_first {
            true => [x.shape[0].clone(), directions, hidden],
            false => [directions, x.shape[1].clone(), hidden],
        })))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (x, r) = (inputs[0].shape(), inputs[1].shape());
        let shape = if self.rows_first { [x[0], r[0], r[2]] } else { [r[0], x[1], r[2]] };
        Ok(tvec!(Tensor::zero_dt(inputs[0].datum_type(), &shape)?))
    }
}

#[derive(Debug)]
struct Join {
    axis: i64,
    is_new: bool,
}

impl Join {
    /// Where the first axis goes.
    fn axis(&self, rank: usize) -> TractResult<usize> {
        ensure!(rank > 0, "slices of a scalar");
        axis_of(self.axis, if self.is_new { rank } else { rank - 1 }).context("attribute 'axis'")
    }
}

impl Kernel for Join {
    fn name(&self) -> &'static str {
        "ConcatFromSequence"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        let axis = self.axis(input.rank())?;
        let mut shape = input.shape.to_tvec();
        let slices = shape.remove(0);
        match self.is_new {
            true => shape.insert(axis, slices),
            false => shape[axis] = slices * shape[axis].clone(),
        }
        Ok(tvec!(input.datum_type.fact(shape)))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let axis = self.axis(inputs[0].rank())?;
        let moved = inputs[0].clone().into_tensor().move_axis(0, axis)?;
        if self.is_new {
            return Ok(tvec!(moved));
        }
        let mut shape = TVec::from_slice(moved.shape());
        let slices = shape.remove(axis);
        shape[axis] *= slices;
        Ok(tvec!(moved.into_shape(&shape)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    #[test]
    fn the_bits_of_bfloat16_become_floats() {
        let y = run(Node::new("HeadgateWidenBf16"), &[tensor1(&[0x3f80u16, 0xc040])], 1).unwrap();
        assert_eq!(y, [tensor1(&[1.0f32, -3.0])]);
    }

    #[test]
    fn slices_are_joined_along_any_axis() {
        let x = tensor3(&[[[1f32, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]);
        let join = |axis, is_new| {
            run(Node::new("HeadgateJoin").int("axis", axis).int("new_axis", is_new), std::slice::from_ref(&x), 1)
        };
        assert_eq!(join(0, 0).unwrap(), [tensor2(&[[1f32, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])]);
        assert_eq!(join(-1, 0).unwrap(), [tensor2(&[[1f32, 2.0, 5.0, 6.0], [3.0, 4.0, 7.0, 8.0]])]);
        assert_eq!(join(2, 1).unwrap(), [tensor3(&[[[1f32, 5.0], [2.0, 6.0]], [[3.0, 7.0], [4.0, 8.0]]])]);
        assert!(join(2, 0).is_err());
        assert!(join(3, 1).is_err());
    }

    #[test]
    fn an_axis_is_reversed_and_must_be_one_of_the_inputs() {
        let reverse = |axis| run(Node::new("HeadgateReverse").int("axis", axis), &[tensor2(&[[1.0f32, 2.0]])], 1);
        assert_eq!(reverse(1).unwrap(), [tensor2(&[[2.0f32, 1.0]])]);
        assert!(reverse(2).is_err());
        assert!(reverse(-1).is_err());
    }
}
