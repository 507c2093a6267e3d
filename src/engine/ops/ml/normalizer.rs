//! `ai.onnx.ml.Normalizer` (version 1): each row divided by its largest value, or by its L1 or L2 norm, in FP32.
//!
//! tract has it, but divides by the largest magnitude where ONNX and ONNX Runtime divide by the largest value.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};
use super::labels::matrix;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let normalizer = match node.get_attr_opt::<&str>("norm")?.unwrap_or("MAX") {
        "MAX" => Normalizer::Max,
        "L1" => Normalizer::L1,
        "L2" => Normalizer::L2,
        other => bail!("attribute 'norm' holds '{other}'"),
    };
    built(node, normalizer)
}

#[derive(Debug, Clone, Copy)]
enum Normalizer {
    Max,
    L1,
    L2,
}

impl Normalizer {
    /// As in ONNX Runtime, a row whose norm is 0 stays as it is.
    fn apply(self, row: &mut [f32]) {
        let norm = match self {
            Self::Max => row.iter().copied().fold(f32::MIN, f32::max),
            Self::L1 => row.iter().map(|x| x.abs()).sum(),
            Self::L2 => row.iter().map(|x| x * x).sum(),
        };
        if norm == 0.0 {
            return;
        }
        match self {
            Self::Max | Self::L1 => row.iter_mut().for_each(|x| *x /= norm),
            Self::L2 => row.iter_mut().for_each(|x| *x = (*x * *x / norm).sqrt().copysign(*x)),
        }
    }
}

impl Kernel for Normalizer {
    fn name(&self) -> &'static str {
        "Normalizer"
    }

    fn input_type(&self, _: usize, _: DatumType) -> TractResult<DatumType> {
        Ok(f32::datum_type())
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        matrix(&input.shape)?;
        Ok(tvec!(input.without_value()))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (_, columns) = matrix(inputs[0].shape())?;
        let mut output = inputs[0].clone().into_tensor();
        let mut view = output.try_as_plain_ram_mut()?;
        view.as_slice_mut::<f32>()?.chunks_exact_mut(columns.max(1)).for_each(|row| self.apply(row));
        Ok(tvec!(output))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run};
    use super::*;

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn rows_are_divided_by_their_norm_and_zeros_stay() {
        let x = || tensor2(&[[1.0f32, -4.0, 2.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -3.0]]);
        for (norm, expected) in [
            ("MAX", [[0.5f32, -2.0, 1.0], [0.0; 3], [1.0, 2.0, 3.0]]),
            ("L1", [[1.0 / 7.0, -4.0 / 7.0, 2.0 / 7.0], [0.0; 3], [-1.0 / 6.0, -1.0 / 3.0, -0.5]]),
            ("L2", [[0.2182179, -0.8728716, 0.4364358], [0.0; 3], [-0.2672612, -0.5345225, -0.8017837]]),
        ] {
            let y = run(Node::new("Normalizer").text("norm", norm), &[x()], 1).unwrap().remove(0);
            y.close_enough(&tensor2(&expected), Approximation::Close).unwrap();
        }
        let y = run(Node::new("Normalizer").text("norm", "L1"), &[tensor2(&[[1i64, 3]])], 1).unwrap();
        assert_eq!(y, [tensor2(&[[0.25f32, 0.75]])]);
    }

    #[test]
    fn an_unknown_norm_is_refused() {
        let error = run(Node::new("Normalizer").text("norm", "L3"), &[tensor2(&[[1.0f32]])], 1).unwrap_err();
        assert!(format!("{error:#}").contains("'norm' holds 'L3'"), "{error:#}");
    }
}
