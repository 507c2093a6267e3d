//! `ai.onnx.ml.Scaler`: `(x - offset) * scale` for each feature, in FP32.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::{cast::cast, math};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::logic::wire_with_rank_broadcast;

use super::Built;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let list = |name: &str, neutral: f32| -> TractResult<Arc<Tensor>> {
        let values = node.get_attr_opt_slice::<f32>(name)?.filter(|values| !values.is_empty());
        Ok(rctensor1(values.unwrap_or(&[neutral])))
    };
    Ok((expand(Scaler { offset: list("offset", 0.0)?, scale: list("scale", 1.0)? }), vec![]))
}

/// Each list has one value for every feature, or one for all of them.
#[derive(Debug, Clone)]
struct Scaler {
    offset: Arc<Tensor>,
    scale: Arc<Tensor>,
}

impl Expansion for Scaler {
    fn name(&self) -> StaticName {
        "Scaler".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].datum_type, f32::datum_type())?;
        solver.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let features = model.outlet_fact(inputs[0])?.shape.last().cloned().unwrap_or_else(|| 1.to_dim());
        for (name, list) in [("offset", &self.offset), ("scale", &self.scale)] {
            let fits = list.len() == 1 || list.len().to_dim() == features;
            ensure!(fits, "attribute '{name}' has {} values for {features} features", list.len());
        }
        let x = model.wire_node(format!("{prefix}.cast"), cast(f32::datum_type()), &[inputs[0]])?[0];
        let offset = model.add_const(format!("{prefix}.offset"), self.offset.clone())?;
        let scale = model.add_const(format!("{prefix}.scale"), self.scale.clone())?;
        let moved = wire_with_rank_broadcast(format!("{prefix}.sub"), model, math::sub(), &[x, offset])?[0];
        wire_with_rank_broadcast(format!("{prefix}.mul"), model, math::mul(), &[moved, scale])
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
