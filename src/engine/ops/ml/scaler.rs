//! `ai.onnx.ml.Scaler`: `(x - offset) * scale` for each feature, in FP32.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let list = |name: &str, neutral: f32| -> TractResult<Vec<f32>> {
        let values = node.get_attr_opt_slice::<f32>(name)?.filter(|values| !values.is_empty());
        Ok(values.unwrap_or(&[neutral]).to_vec())
    };
    built(node, Scaler { offset: list("offset", 0.0)?, scale: list("scale", 1.0)? })
}

/// Each list has one value for every feature, or one for all of them.
#[derive(Debug)]
struct Scaler {
    offset: Vec<f32>,
    scale: Vec<f32>,
}

impl Scaler {
    fn check(&self, features: &TDim) -> TractResult<()> {
        for (name, list) in [("offset", &self.offset), ("scale", &self.scale)] {
            let fits = list.len() == 1 || features.to_i64().map_or(true, |features| features == list.len() as i64);
            ensure!(fits, "attribute '{name}' has {} values for {features} features", list.len());
        }
        Ok(())
    }
}

impl Kernel for Scaler {
    fn name(&self) -> &'static str {
        "Scaler"
    }

    fn input_type(&self, _: usize, _: DatumType) -> TractResult<DatumType> {
        Ok(f32::datum_type())
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        self.check(input.shape.last().unwrap_or(&1.to_dim()))?;
        Ok(tvec!(input.without_value()))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let mut output = inputs[0].clone().into_tensor();
        let features = output.shape().last().copied().unwrap_or(1);
        self.check(&features.to_dim())?;
        let full = |list: &[f32]| if list.len() == 1 { vec![list[0]; features] } else { list.to_vec() };
        let (offset, scale) = (full(&self.offset), full(&self.scale));
        let mut view = output.try_as_plain_ram_mut()?;
        for row in view.as_slice_mut::<f32>()?.chunks_exact_mut(features.max(1)) {
            for ((x, offset), scale) in row.iter_mut().zip(&offset).zip(&scale) {
                *x = (*x - offset) * scale;
            }
        }
        Ok(tvec!(output))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run};
    use super::*;

    fn scaler(offset: &[f32], scale: &[f32]) -> Node {
        Node::new("Scaler").floats("offset", offset).floats("scale", scale)
    }

    #[test]
    fn each_feature_is_moved_and_then_scaled() {
        let x = tensor2(&[[1.0f32, 2.0], [3.0, 4.0]]);
        let y = run(scaler(&[1.0, 0.0], &[2.0, 10.0]), &[x], 1).unwrap();
        assert_eq!(y, [tensor2(&[[0.0f32, 20.0], [4.0, 40.0]])]);
    }

    #[test]
    fn one_value_serves_all_features_and_integers_become_floats() {
        let y = run(scaler(&[1.0], &[0.5]), &[tensor2(&[[1i64, 2, 3]])], 1).unwrap();
        assert_eq!(y, [tensor2(&[[0.0f32, 0.5, 1.0]])]);
    }

    #[test]
    fn another_number_of_values_than_features_is_refused() {
        let error = run(scaler(&[1.0, 2.0], &[1.0]), &[tensor2(&[[1.0f32, 2.0, 3.0]])], 1).unwrap_err();
        assert!(format!("{error:#}").contains("'offset' has 2 values for 3 features"), "{error:#}");
        assert!(run(scaler(&[1.0, 2.0], &[1.0]), &[tensor2(&[[1.0f32]])], 1).is_err(), "must not broadcast the input");
    }
}
