//! `ai.onnx.OneHot` (version 11): of a depth, or of values, that a run computes too, and of indices beyond the depth, which
//! tract writes beside the tensor.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::array::Gather;
use tract_onnx::tract_hir::internal::*;

use super::super::Built;
use super::super::bounded;
use super::super::inputs::{axis_of, exactly};
use super::super::kernel::Kernel;
use super::super::stand_in::stand_in;
use super::super::unfit::unfit;
use super::{Open, hangs_on_symbols, integers};

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let ours = OneHot { axis: node.get_attr_opt("axis")?.unwrap_or(-1), depth: Open::of(context) };
    // A depth that hangs on symbols is tract's to count with.
    stand_in(context, node, ours, |inputs| !inputs.get(1).is_some_and(hangs_on_symbols))
}

#[derive(Debug)]
struct OneHot {
    /// Among the output's.
    axis: i64,
    depth: Open,
}

impl Kernel for OneHot {
    fn name(&self) -> &'static str {
        "OneHot"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [indices, depth, values] = exactly(inputs)?;
        let axis = axis_of(self.axis, indices.rank() + 1)?;
        let depth = match &depth.konst {
            Some(depth) => depth_of(depth)?.to_dim(),
            None => self.depth.axis(axis)?,
        };
        let mut shape = indices.shape.to_tvec();
        shape.insert(axis, depth);
        Ok(tvec![values.datum_type.fact(shape)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (indices, depth) = (integers(&inputs[0])?, depth_of(&inputs[1])?);
        let axis = axis_of(self.axis, inputs[0].rank() + 1)?;
        let mut shape: TVec<usize> = inputs[0].shape().into();
        let behind: usize = shape[axis..].iter().product();
        shape.insert(axis, depth);
        for kind in [DatumType::I64, inputs[2].datum_type()] {
            bounded::check_made("OneHot", &shape, kind)?;
        }
        if inputs[2].len() != 2 {
            return Err(unfit(format!("OneHot of {} values instead of 2", inputs[2].len())));
        }
        // 1 where the second value is to be.
        let mut places = Tensor::zero::<i64>(&shape)?;
        let mut view = places.try_as_plain_ram_mut()?;
        let marks = view.as_slice_mut::<i64>()?;
        for (at, index) in indices.into_iter().enumerate() {
            let index = if index < 0 { index.saturating_add(depth as i64) } else { index };
            // What lies beyond either end marks nothing.
            if let Some(index) = usize::try_from(index).ok().filter(|index| *index < depth) {
                marks[(at / behind * depth + index) * behind + at % behind] = 1;
            }
        }
        let taken = tvec![inputs[2].clone(), places.into_tvalue()];
        let made = EvalOp::eval(&Gather::new(0), &EvalContext::out_of_plan(), taken)?.remove(0);
        Ok(tvec![made.into_tensor()])
    }

    fn mints_symbols(&self) -> bool {
        true
    }
}

fn depth_of(depth: &Tensor) -> TractResult<usize> {
    let depths = integers(depth)?;
    let depth = depths.first().and_then(|depth| usize::try_from(*depth).ok());
    let fits = depth.filter(|depth| depths.len() == 1 && *depth > 0);
    fits.ok_or_else(|| unfit(format!("OneHot of a depth of {depths:?}")))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run, run_known};
    use super::*;

    fn hot(indices: &[i64], depth: i64, axis: i64) -> TractResult<Tensor> {
        let inputs = [tensor1(indices), tensor0(depth), tensor1(&[0f32, 5.0])];
        Ok(run(Node::new("OneHot").int("axis", axis), &inputs, 1)?.remove(0))
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn the_depth_may_come_with_the_request() {
        let rows = [[5f32, 0.0, 0.0], [0.0, 0.0, 5.0], [0.0; 3], [0.0; 3]];
        assert_eq!(hot(&[0, -1, 3, -4], 3, -1).unwrap(), tensor2(&rows));
        assert_eq!(hot(&[1, 0], 2, 0).unwrap(), tensor2(&[[0f32, 5.0], [5.0, 0.0]]));
        assert_eq!(hot(&[], 2, -1).unwrap().shape(), [0, 2]);
        let known = [tensor0(3i64), tensor1(&[0f32, 5.0])];
        let inputs = [tensor1(&[0i64, -1, 3, -4])];
        assert_eq!(run_known(Node::new("OneHot"), &inputs, &known, 1).unwrap(), [tensor2(&rows)]);
    }

    #[test]
    fn a_depth_beyond_all_reason_is_refused_before_anything_is_made() {
        for depth in [0, -1, 1 << 40, i64::MAX] {
            assert!(super::super::super::is_unfit(&hot(&[0, 1], depth, -1).unwrap_err()), "{depth}");
        }
    }
}
