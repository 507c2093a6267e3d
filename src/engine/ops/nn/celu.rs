//! `ai.onnx.Celu` (version 12): max(0, x) + min(0, alpha (exp(x / alpha) - 1)).
//!
//! In place of tract's, which leaves out the factor alpha (`Celu` in `ops/activations.rs` of tract-hir); the cure
//! belongs there.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::math::{add, div, exp, max, min, mul, sub};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::activations::broadcast_scalar;

use super::Built;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    Ok((expand(Celu { alpha: node.get_attr_opt("alpha")?.unwrap_or(1.0) }), vec![]))
}

#[derive(Debug, Clone)]
struct Celu {
    alpha: f32,
}

impl Expansion for Celu {
    fn name(&self) -> StaticName {
        "Celu".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        solver.equals(&outputs[0].shape, &inputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let x = inputs[0];
        let dt = model.outlet_fact(x)?.datum_type;
        ensure!(dt.is_float(), "Celu of {dt:?}");
        let mut constant = |name: &str, value: f32| {
            let value = broadcast_scalar(value, model, inputs)?;
            model.add_const(format!("{prefix}.{name}"), value)
        };
        let [zero, one, alpha] = [constant("zero", 0.0)?, constant("one", 1.0)?, constant("alpha", self.alpha)?];
        let mut step = |name: &str, op: Box<dyn TypedOp>, inputs: &[OutletId]| -> TractResult<OutletId> {
            Ok(model.wire_node(format!("{prefix}.{name}"), op, inputs)?[0])
        };
        let shrunk = step("shrunk", Box::new(div()), &[x, alpha])?;
        let power = step("exp", Box::new(exp()), &[shrunk])?;
        let below = step("minus_one", Box::new(sub()), &[power, one])?;
        let below = step("times_alpha", Box::new(mul()), &[below, alpha])?;
        let below = step("below", Box::new(min()), &[below, zero])?;
        let above = step("above", Box::new(max()), &[x, zero])?;
        model.wire_node(prefix, add(), &[above, below])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, assert_close, run, shapes_for_any_rows};
    use super::*;

    #[test]
    fn what_is_below_zero_comes_near_minus_alpha() {
        let x = [tensor1(&[-3.0f32, -0.5, 0.0, 0.5])];
        // ONNX Runtime 1.31's
        let y = run(Node::new("Celu").float("alpha", 2.0), &x, 1).unwrap();
        assert_close(&y[0], &[-1.5537397, -0.4423984, 0.0, 0.5]);
        let y = run(Node::new("Celu"), &x, 1).unwrap();
        assert_close(&y[0], &[-0.9502129, -0.39346933, 0.0, 0.5]);
        assert_eq!(shapes_for_any_rows(Node::new("Celu"), &x, 1).unwrap(), ["N"]);
    }

    #[test]
    fn halves_are_computed_as_halves() {
        let halves = |values: &[f32]| tensor1(&values.iter().map(|x| f16::from_f32(*x)).collect::<Vec<f16>>());
        let y = run(Node::new("Celu").float("alpha", 2.0), &[halves(&[-3.0, -0.5, 0.0, 0.5])], 1).unwrap();
        // NumPy's, rounded
        assert_close(&y[0].cast_to::<f32>().unwrap(), &[-1.5537109, -0.4423828, 0.0, 0.5]);
    }

    #[test]
    fn integers_are_refused() {
        assert!(run(Node::new("Celu"), &[tensor1(&[1i64])], 1).is_err());
    }
}
