//! `ai.onnx.Pad` (version 19) in mode `wrap`: the tensor goes on from its other end. Other modes are tract's.

use tract_onnx::model::{ParsingContext, optional_inputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::array::Gather;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::{axis_of, constant_ints, integers};
use super::kernel::{Kernel, built};
use super::stand_in::of_tract;

/// Most elements of the output: the pads may be any.
const MAX_ELEMENTS: i64 = 1 << 28;

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    if node.get_attr_opt::<&str>("mode")? != Some("wrap") {
        return of_tract(context, node);
    }
    let axes = optional_inputs(node).nth(3).flatten();
    built(node, WrapPad { axes })
}

#[derive(Debug)]
struct WrapPad {
    /// The place of the input that says which axes are padded.
    axes: Option<usize>,
}

impl WrapPad {
    /// Axes and how many elements each gets before its first and after its last; fewer than none cut it.
    fn pads(pads: Vec<i64>, axes: Option<Vec<i64>>, rank: usize) -> TractResult<Vec<(usize, i64, i64)>> {
        let axes = axes.unwrap_or_else(|| (0..rank as i64).collect());
        let (count, of) = (pads.len(), axes.len());
        ensure!(count == 2 * of, "{count} pads for {of} axes");
        let bounded = |pad: i64| (-MAX_ELEMENTS..=MAX_ELEMENTS).contains(&pad);
        ensure!(pads.iter().all(|pad| bounded(*pad)), "a pad of more than {MAX_ELEMENTS}");
        let one = |(place, axis): (usize, i64)| Ok((axis_of(axis, rank)?, pads[place], pads[place + of]));
        axes.into_iter().enumerate().map(one).collect()
    }
}

impl Kernel for WrapPad {
    fn name(&self) -> &'static str {
        "Pad"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() >= 2, "Pad without pads");
        let axes = self.axes.and_then(|axes| inputs.get(axes)).map(|axes| constant_ints(axes, "axes")).transpose()?;
        let mut shape = inputs[0].shape.to_tvec();
        for (axis, before, after) in Self::pads(constant_ints(inputs[1], "pads")?, axes, shape.len())? {
            shape[axis] = shape[axis].clone() + (before + after);
            ensure!(shape[axis].as_i64().is_none_or(|side| side >= 0), "Pad cuts more than there is");
        }
        Ok(tvec![inputs[0].datum_type.fact(shape)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let axes = self.axes.and_then(|axes| inputs.get(axes)).map(|axes| integers(axes)).transpose()?;
        let mut tensor = inputs[0].clone();
        for (axis, before, after) in Self::pads(integers(&inputs[1])?, axes, tensor.rank())? {
            if (before, after) == (0, 0) {
                continue;
            }
            let length = i64::try_from(tensor.shape()[axis])?;
            let (first, end) = (-before, length + after);
            ensure!(end >= first, "Pad cuts more than there is");
            ensure!(length > 0 || end == first, "Pad of nothing to something");
            let others = tensor.shape().iter().enumerate().filter(|(other, _)| *other != axis);
            let others: i64 = others.map(|(_, side)| *side as i64).product();
            let count = others.checked_mul(end - first);
            ensure!(count.is_some_and(|count| count <= MAX_ELEMENTS), "Pad to more than {MAX_ELEMENTS} elements");
            let places = tensor1(&(first..end).map(|place| place.rem_euclid(length.max(1))).collect::<Vec<i64>>());
            let taken = tvec![tensor, places.into_tvalue()];
            tensor = EvalOp::eval(&Gather::new(axis), &EvalContext::out_of_plan(), taken)?.remove(0);
        }
        Ok(tvec![tensor.into_tensor()])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run_known};
    use super::*;

    fn padded(pads: &[i64]) -> TractResult<Tensor> {
        let x = tensor2(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        Ok(run_known(Node::new("Pad").text("mode", "wrap"), &[x], &[tensor1(pads)], 1)?.remove(0))
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn a_tensor_goes_on_from_its_other_end() {
        let row = [[3f32, 1.0, 2.0, 3.0, 1.0, 2.0], [6.0, 4.0, 5.0, 6.0, 4.0, 5.0]];
        assert_eq!(padded(&[0, 1, 0, 2]).unwrap(), tensor2(&row));
        assert_eq!(padded(&[1, 0, 0, 0]).unwrap(), tensor2(&[[4f32, 5.0, 6.0], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]));
        assert_eq!(padded(&[0, -1, 0, 0]).unwrap(), tensor2(&[[2f32, 3.0], [5.0, 6.0]]));
    }

    #[test]
    fn pads_that_do_not_fit_are_refused() {
        for pads in [&[1i64, 1][..], &[0, i64::MAX, 0, 0], &[0, -2, 0, -2], &[1 << 20, 1 << 20, 0, 0]] {
            assert!(padded(pads).is_err(), "{pads:?}");
        }
    }
}
