//! `ai.onnx.ml.ZipMap`: a row of scores becomes a map from class to score.
//!
//! Served as the tensor of its scores: the protocol has no maps, and the classes are the same in every row.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;

pub fn build(_: &ParsingContext, _: &NodeProto) -> Built {
    Ok((expand(ZipMap), vec![]))
}

#[derive(Debug, Clone)]
struct ZipMap;

impl Expansion for ZipMap {
    fn name(&self) -> StaticName {
        "ZipMap".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        solver.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(&self, _: &str, _: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        Ok(tvec!(inputs[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run};
    use super::*;

    #[test]
    fn scores_pass_through_as_a_tensor() {
        let scores = tensor2(&[[0.25f32, 0.75], [0.5, 0.5]]);
        let node = Node::new("ZipMap").ints("classlabels_int64s", &[0, 1]);
        assert_eq!(run(node, std::slice::from_ref(&scores), 1).unwrap(), [scores]);
    }
}
