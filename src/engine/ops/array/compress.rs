//! `ai.onnx.Compress` (version 11): the slices along an axis, or the elements, for which a condition holds.
//!
//! In place of tract's, which wants the condition when a plan is made.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::array::Gather;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::{axis_of, exactly};
use super::kernel::{Kernel, built};

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let kept = context.template.symbols.new_with_prefix("kept");
    built(node, Compress { axis: node.get_attr_opt("axis")?, kept })
}

#[derive(Debug)]
struct Compress {
    /// Without one the elements are one row.
    axis: Option<i64>,
    kept: Symbol,
}

impl Kernel for Compress {
    fn name(&self) -> &'static str {
        "Compress"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input, condition] = exactly(inputs)?;
        let is_list = condition.datum_type == bool::datum_type() && condition.rank() == 1;
        ensure!(is_list, "a condition of {:?} {:?}", condition.datum_type, condition.shape);
        let Some(axis) = self.axis else { return Ok(tvec![input.datum_type.fact([self.kept.to_dim()])]) };
        let mut shape = input.shape.to_tvec();
        let axis = axis_of(axis, shape.len()).context("attribute 'axis'")?;
        shape[axis] = self.kept.to_dim();
        Ok(tvec![input.datum_type.fact(shape)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let mut input = inputs[0].clone();
        let axis = match self.axis {
            Some(axis) => axis_of(axis, input.rank())?,
            None => {
                let count = input.len();
                input = input.into_tensor().into_shape(&[count])?.into_tvalue();
                0
            }
        };
        let view = inputs[1].try_as_plain_ram()?;
        let holds = view.as_slice::<bool>()?.iter().enumerate().filter(|(_, holds)| **holds);
        let places: Vec<i64> = holds.map(|(place, _)| place as i64).collect();
        let length = input.shape()[axis];
        let fits = places.last().is_none_or(|&last| (last as usize) < length);
        ensure!(fits, "the condition is for more than the {length} slices of axis {axis}");
        let taken = tvec![input, tensor1(&places).into_tvalue()];
        Ok(tvec![EvalOp::eval(&Gather::new(axis), &EvalContext::out_of_plan(), taken)?.remove(0).into_tensor()])
    }

    fn mints_symbols(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    fn compressed(node: Node, condition: &[bool]) -> TractResult<Tensor> {
        let x = tensor2(&[[1f32, 2.0], [3.0, 4.0], [5.0, 6.0]]);
        Ok(run(node, &[x, tensor1(condition)], 1)?.remove(0))
    }

    /// Expected values are those of ONNX's own tests.
    #[test]
    fn what_the_condition_holds_for_is_kept() {
        let node = |axis| Node::new("Compress").int("axis", axis);
        assert_eq!(compressed(node(0), &[false, true, true]).unwrap(), tensor2(&[[3f32, 4.0], [5.0, 6.0]]));
        assert_eq!(compressed(node(-1), &[false, true]).unwrap(), tensor2(&[[2f32], [4.0], [6.0]]));
        let elements = compressed(Node::new("Compress"), &[false, true, false, false, true]).unwrap();
        assert_eq!(elements, tensor1(&[2f32, 5.0]));
        assert_eq!(compressed(node(0), &[false]).unwrap().shape(), [0, 2]);
    }

    #[test]
    fn a_condition_for_what_is_not_there_is_refused() {
        assert!(compressed(Node::new("Compress").int("axis", 1), &[true, true, true]).is_err());
        assert!(compressed(Node::new("Compress").int("axis", 2), &[true]).is_err());
    }
}
