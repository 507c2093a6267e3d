//! Operators whose output's shape hangs on a value that only a run computes: Reshape, Slice, Expand, OneHot and Pad, as they stand in
//! loops and behind branches.
//!
//! tract's own want that value when a plan is made, and make the better plans where it is known. So each is tract's where
//! it can be, and ours where it can't: all dimensions that hang on the value are then open.

mod expand;
mod one_hot;
mod pad;
mod reshape;
mod slice;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

pub use self::one_hot::build as build_one_hot;
pub use self::pad::build as build_pad;
use super::Built;
use super::inputs::{hangs_on_symbols, integers};
use super::kernel::Kernel;
use super::stand_in::stand_in;

/// Highest rank of an output.
const MAX_RANK: usize = 8;

pub fn build_expand(context: &ParsingContext, node: &NodeProto) -> Built {
    built(context, node, expand::Expand { dims: Open::of(context) })
}

pub fn build_reshape(context: &ParsingContext, node: &NodeProto) -> Built {
    let takes_zero = node.get_attr_opt::<i64>("allowzero")?.unwrap_or(0) != 0;
    built(context, node, reshape::Reshape { takes_zero, dims: Open::of(context) })
}

pub fn build_slice(context: &ParsingContext, node: &NodeProto) -> Built {
    built(context, node, slice::Slice::of(context, node))
}

fn built(context: &ParsingContext, node: &NodeProto, ours: impl Kernel) -> Built {
    stand_in(context, node, ours, |inputs| inputs.iter().skip(1).any(|input| input.konst.is_none()))
}

/// Open dimensions, the same for the same axis of one operator.
#[derive(Debug)]
pub struct Open(Vec<Symbol>);

impl Open {
    pub fn of(context: &ParsingContext) -> Self {
        Self((0..MAX_RANK).map(|_| context.template.symbols.new_with_prefix("at_run")).collect())
    }

    /// # Errors
    /// An axis that no tensor has.
    pub fn axis(&self, axis: usize) -> TractResult<TDim> {
        let symbol = self.0.get(axis).with_context(|| format!("an output of more than {MAX_RANK} dimensions"))?;
        Ok(symbol.to_dim())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    fn ran(op_type: &str, inputs: &[Tensor]) -> TractResult<Tensor> {
        Ok(run(Node::new(op_type), inputs, 1)?.remove(0))
    }

    fn numbers() -> Tensor {
        tensor2(&[[0i64, 1, 2, 3], [4, 5, 6, 7]])
    }

    #[test]
    fn a_slice_of_computed_bounds_is_cut_as_in_numpy() {
        let sliced = |starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]| {
            ran("Slice", &[numbers(), tensor1(starts), tensor1(ends), tensor1(axes), tensor1(steps)])
        };
        assert_eq!(sliced(&[1], &[3], &[1], &[1]).unwrap(), tensor2(&[[1i64, 2], [5, 6]]));
        assert_eq!(sliced(&[-1, 1], &[-100, 2], &[-1, 0], &[-2, 1]).unwrap(), tensor2(&[[7i64, 5]]));
        assert_eq!(sliced(&[i64::MAX], &[i64::MIN], &[1], &[-3]).unwrap(), tensor2(&[[3i64, 0], [7, 4]]));
        assert_eq!(sliced(&[3], &[i64::MAX], &[1], &[i64::MAX]).unwrap(), tensor2(&[[3i64], [7]]));
        assert_eq!(sliced(&[3], &[1], &[1], &[1]).unwrap().shape(), [2, 0]);
        assert!(sliced(&[0], &[1], &[2], &[1]).is_err());
        assert!(sliced(&[0], &[1], &[1], &[0]).is_err());
        assert!(sliced(&[0, 0], &[1, 1], &[1, -1], &[1, 1]).is_err());
        let by_rank = ran("Slice", &[numbers(), tensor1(&[1i64]), tensor1(&[2i64])]).unwrap();
        assert_eq!(by_rank, tensor2(&[[4i64, 5, 6, 7]]));
    }

    #[test]
    fn a_computed_shape_is_taken_on() {
        let reshaped = |shape: &[i64]| ran("Reshape", &[numbers(), tensor1(shape)]);
        assert_eq!(reshaped(&[4, -1]).unwrap().shape(), [4, 2]);
        assert_eq!(reshaped(&[0, 2, 2]).unwrap().shape(), [2, 2, 2]);
        for wrong in [&[3i64, -1][..], &[-1, -1], &[i64::MAX, i64::MAX], &[-2, 4], &[8, 1, 0]] {
            assert!(reshaped(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_tensor_stretches_to_a_computed_shape() {
        let stretched = |shape: &[i64]| ran("Expand", &[tensor2(&[[1i64], [2]]), tensor1(shape)]);
        assert_eq!(stretched(&[1, 3]).unwrap(), tensor2(&[[1i64, 1, 1], [2, 2, 2]]));
        assert_eq!(stretched(&[2, 1, 1]).unwrap().shape(), [2, 2, 1]);
        for wrong in [&[3i64, 1][..], &[-1, 1], &[1 << 40, 1 << 40, 1, 1]] {
            assert!(stretched(wrong).is_err(), "{wrong:?}");
        }
    }
}
