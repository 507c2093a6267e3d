//! `ai.onnx.ml.FeatureVectorizer` (version 1): the rows of several inputs behind one another, in FP32.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::kernel::{Kernel, built};
use super::{Built, MAX_OUTPUTS};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let widths = node.get_attr_opt_slice::<i64>("inputdimensions")?.unwrap_or_default();
    let inputs = node.input.len();
    ensure!(
        !widths.is_empty() && widths.len() == inputs,
        "attribute 'inputdimensions' has {} entries for {inputs} inputs",
        widths.len()
    );
    let width = |width: &i64| usize::try_from(*width).ok().filter(|width| *width <= MAX_OUTPUTS);
    let widths = widths.iter().map(width).collect::<Option<Vec<usize>>>();
    let widths = widths.context("attribute 'inputdimensions' holds a size that is out of range")?;
    let total: usize = widths.iter().sum();
    ensure!((1..=MAX_OUTPUTS).contains(&total), "attribute 'inputdimensions' adds up to {total}");
    built(node, FeatureVectorizer { widths, total })
}

#[derive(Debug)]
struct FeatureVectorizer {
    /// What each input takes up of the output. As in ONNX Runtime, a wider input is cut and a narrower one filled up with
    /// zeros.
    widths: Vec<usize>,
    total: usize,
}

impl Kernel for FeatureVectorizer {
    fn name(&self) -> &'static str {
        "FeatureVectorizer"
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        ensure!(given.is_number(), "it takes numbers, not {given:?}");
        Ok(f32::datum_type())
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let (given, wanted) = (inputs.len(), self.widths.len());
        ensure!(given == wanted, "{given} inputs for {wanted} widths");
        let rows = match &*inputs[0].shape {
            [] => bail!("an input has no dimensions"),
            [_] => 1.to_dim(),
            [rows, ..] => rows.clone(),
        };
        Ok(tvec!(f32::fact([rows, self.total.to_dim()])))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let rows_of = |shape: &[usize]| if shape.len() == 1 { 1 } else { shape[0] };
        let rows = rows_of(inputs[0].shape());
        let mut output = Tensor::zero::<f32>(&[rows, self.total])?;
        let mut view = output.try_as_plain_ram_mut()?;
        let values = view.as_slice_mut::<f32>()?;
        let mut begin = 0;
        for (input, width) in inputs.iter().zip(&self.widths) {
            ensure!(input.rank() > 0 && rows_of(input.shape()) == rows, "its inputs have different numbers of rows");
            let given = input.len() / rows.max(1);
            let copied = given.min(*width);
            let view = input.try_as_plain_ram()?;
            let sources = view.as_slice::<f32>()?.chunks_exact(given.max(1));
            for (target, source) in values.chunks_exact_mut(self.total).zip(sources) {
                target[begin..begin + copied].copy_from_slice(&source[..copied]);
            }
            begin += width;
        }
        Ok(tvec!(output))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run};
    use super::*;

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn inputs_stand_side_by_side_cut_or_filled_up_to_their_width() {
        let node = |widths: &[i64]| Node::new("FeatureVectorizer").ints("inputdimensions", widths);
        let inputs = || [tensor2(&[[1.0f32, 2.0], [3.0, 4.0]]), tensor2(&[[5.0f32], [6.0]])];
        let expected = tensor2(&[[1.0f32, 2.0, 5.0], [3.0, 4.0, 6.0]]);
        assert_eq!(run(node(&[2, 1]), &inputs(), 1).unwrap(), [expected]);
        let expected = tensor2(&[[1.0f32, 5.0, 0.0], [3.0, 6.0, 0.0]]);
        assert_eq!(run(node(&[1, 2]), &inputs(), 1).unwrap(), [expected]);
        assert_eq!(run(node(&[2]), &[tensor1(&[7i64, 8])], 1).unwrap(), [tensor2(&[[7.0f32, 8.0]])]);
    }

    #[test]
    fn widths_that_make_no_sense_are_refused() {
        let refused = |widths: &[i64]| {
            let node = Node::new("FeatureVectorizer").ints("inputdimensions", widths);
            assert!(run(node, &[tensor1(&[1.0f32])], 1).is_err(), "{widths:?}");
        };
        refused(&[]);
        refused(&[1, 1]);
        refused(&[-1]);
        refused(&[i64::MAX]);
        refused(&[0]);
    }
}
