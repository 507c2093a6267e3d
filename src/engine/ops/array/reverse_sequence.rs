//! `ai.onnx.ReverseSequence` (version 10): turns the beginning of each sequence of a batch around, as far as it is long.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::array::Gather;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let time = node.get_attr_opt::<i64>("time_axis")?.unwrap_or(0);
    let batch = node.get_attr_opt::<i64>("batch_axis")?.unwrap_or(1);
    ensure!(
        matches!((time, batch), (0, 1) | (1, 0)),
        "attributes 'time_axis' and 'batch_axis' are {time} and {batch}, not 0 and 1 in either order"
    );
    built(node, ReverseSequence { time_first: time == 0 })
}

#[derive(Debug)]
struct ReverseSequence {
    /// Whether the first axis is time and the second the batch.
    time_first: bool,
}

impl Kernel for ReverseSequence {
    fn name(&self) -> &'static str {
        "ReverseSequence"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input, lengths] = exactly(inputs)?;
        ensure!(input.rank() >= 2, "ReverseSequence takes tensors of 2 dimensions or more");
        ensure!(lengths.rank() == 1, "the lengths of ReverseSequence are not a list");
        Ok(tvec![input.without_value()])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (input, lengths) = (&inputs[0], inputs[1].cast_to::<i64>()?);
        let lengths = lengths.try_as_plain_ram()?.as_slice::<i64>()?;
        let (outer, inner) = (input.shape()[0], input.shape()[1]);
        let (steps, batch) = if self.time_first { (outer, inner) } else { (inner, outer) };
        ensure!(lengths.len() == batch, "{} lengths for {batch} sequences", lengths.len());
        let length = |&length: &i64| usize::try_from(length).ok().filter(|&length| length <= steps);
        let lengths = lengths.iter().map(length).collect::<Option<Vec<_>>>();
        let lengths = lengths.with_context(|| format!("a length is not within 0 and the {steps} steps"))?;
        let source = |place: usize| {
            let (first, second) = (place / inner, place % inner);
            let (step, sequence) = if self.time_first { (first, second) } else { (second, first) };
            let step = if step < lengths[sequence] { lengths[sequence] - 1 - step } else { step };
            (if self.time_first { step * inner + sequence } else { sequence * inner + step }) as i64
        };
        let sources: Vec<i64> = (0..outer * inner).map(source).collect();
        let shape: TVec<usize> = input.shape().into();
        let flat: TVec<usize> = [outer * inner].into_iter().chain(shape[2..].iter().copied()).collect();
        let taken =
            tvec![input.clone().into_tensor().into_shape(&flat)?.into_tvalue(), tensor1(&sources).into_tvalue()];
        let turned = EvalOp::eval(&Gather::new(0), &EvalContext::out_of_plan(), taken)?.remove(0);
        Ok(tvec![turned.into_tensor().into_shape(&shape)?])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    #[test]
    fn each_sequence_turns_as_far_as_it_is_long() {
        let by_time = tensor2(&[[0f32, 4.0], [1.0, 5.0], [2.0, 6.0]]);
        let turned = run(Node::new("ReverseSequence"), &[by_time, tensor1(&[3i64, 2])], 1).unwrap().remove(0);
        assert_eq!(turned, tensor2(&[[2f32, 5.0], [1.0, 4.0], [0.0, 6.0]]));
        let by_batch = Node::new("ReverseSequence").int("time_axis", 1).int("batch_axis", 0);
        let x = tensor2(&[[0i64, 1, 2], [4, 5, 6]]);
        assert_eq!(run(by_batch, &[x, tensor1(&[0i64, 2])], 1).unwrap(), [tensor2(&[[0i64, 1, 2], [5, 4, 6]])]);
    }

    #[test]
    fn lengths_and_axes_that_do_not_fit_are_refused() {
        let x = || tensor2(&[[0f32, 4.0], [1.0, 5.0]]);
        assert!(run(Node::new("ReverseSequence"), &[x(), tensor1(&[3i64, 2])], 1).is_err());
        assert!(run(Node::new("ReverseSequence"), &[x(), tensor1(&[-1i64, 2])], 1).is_err());
        assert!(run(Node::new("ReverseSequence"), &[x(), tensor1(&[1i64])], 1).is_err());
        assert!(run(Node::new("ReverseSequence").int("time_axis", 1), &[x(), tensor1(&[1i64, 1])], 1).is_err());
    }
}
