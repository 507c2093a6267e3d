//! `ai.onnx.ml.Binarizer` (version 1): 1 where a value is above the threshold, else 0.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    built(node, Binarizer { threshold: node.get_attr_opt("threshold")?.unwrap_or(0.0) })
}

#[derive(Debug)]
struct Binarizer {
    threshold: f32,
}

impl Kernel for Binarizer {
    fn name(&self) -> &'static str {
        "Binarizer"
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        ensure!(given.is_number(), "it takes numbers, not {given:?}");
        Ok(given)
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        Ok(tvec!(input.without_value()))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let threshold = f64::from(self.threshold);
        let mut wide = inputs[0].cast_to::<f64>()?.into_owned();
        let mut view = wide.try_as_plain_ram_mut()?;
        view.as_slice_mut::<f64>()?.iter_mut().for_each(|x| *x = f64::from(*x > threshold));
        Ok(tvec!(wide.cast_to_dt(inputs[0].datum_type())?.into_owned()))
    }

    fn axes(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        AxesMapping::natural(inputs, outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run};
    use super::*;

    #[test]
    fn only_what_is_above_the_threshold_is_one() {
        let node = || Node::new("Binarizer").float("threshold", 1.0);
        let y = run(node(), &[tensor1(&[0.5f32, 1.0, 1.5, f32::NAN])], 1).unwrap();
        assert_eq!(y, [tensor1(&[0.0f32, 0.0, 1.0, 0.0])]);
        assert_eq!(run(node(), &[tensor1(&[1i64, 2])], 1).unwrap(), [tensor1(&[0i64, 1])]);
        assert_eq!(run(Node::new("Binarizer"), &[tensor1(&[-1i32, 2])], 1).unwrap(), [tensor1(&[0i32, 1])]);
    }
}
