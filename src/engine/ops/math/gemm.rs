//! `ai.onnx.Gemm` (version 13): alpha A B + beta C, wired as tract does it, but with alpha and beta of the type of the rest: tract's
//! are FP32, and it refuses others beside them.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::math::{add, mul};
use tract_onnx::tract_hir::internal::*;

use super::Built;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let factor = |name: &str| Ok::<f32, TractError>(node.get_attr_opt::<f32>(name)?.unwrap_or(1.0));
    let turned = |name: &str| Ok::<bool, TractError>(node.get_attr_opt::<i64>(name)?.unwrap_or(0) != 0);
    let turned = [turned("transA")?, turned("transB")?];
    Ok((expand(Gemm { alpha: factor("alpha")?, beta: factor("beta")?, turned }), vec![]))
}

#[derive(Debug, Clone)]
struct Gemm {
    alpha: f32,
    beta: f32,
    /// Whether A, and whether B, is transposed.
    turned: [bool; 2],
}

impl Expansion for Gemm {
    fn name(&self) -> StaticName {
        "Gemm".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(matches!(inputs.len(), 2 | 3), "Gemm of {} inputs", inputs.len());
        check_output_arity(outputs, 1)?;
        for input in inputs {
            solver.equals(&input.datum_type, &outputs[0].datum_type)?;
        }
        for matrix in [&inputs[0], &inputs[1], &outputs[0]] {
            solver.equals(&matrix.rank, 2)?;
        }
        let [rows, inner] = if self.turned[0] { [1, 0] } else { [0, 1] };
        let [given, columns] = if self.turned[1] { [1, 0] } else { [0, 1] };
        solver.equals(&inputs[0].shape[rows], &outputs[0].shape[0])?;
        solver.equals(&inputs[0].shape[inner], &inputs[1].shape[given])?;
        solver.equals(&inputs[1].shape[columns], &outputs[0].shape[1])
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let datum_type = model.outlet_fact(inputs[0])?.datum_type;
        let axes = AxesMapping::for_numpy_matmul(2, self.turned[0], self.turned[1], false)?;
        let mut wire =
            model.wire_node(format!("{prefix}.ab"), EinSum::new(axes, datum_type), &[inputs[0], inputs[1]])?[0];
        let scaled = |model: &mut TypedModel, name: &str, by: f32, wire: OutletId| -> TractResult<OutletId> {
            let by = tensor0(by).cast_to_dt(datum_type)?.into_owned().broadcast_into_rank(2)?;
            let by = model.add_const(format!("{prefix}.{name}.cst"), by)?;
            Ok(model.wire_node(format!("{prefix}.{name}"), mul(), &[by, wire])?[0])
        };
        if self.alpha != 1.0 {
            wire = scaled(model, "alpha_ab", self.alpha, wire)?;
        }
        let Some(&given) = inputs.get(2).filter(|_| self.beta != 0.0) else { return Ok(tvec![wire]) };
        let mut c = given;
        let rank = model.outlet_fact(c)?.rank();
        ensure!(rank <= 2, "Gemm adds a C of {rank} axes");
        for axis in rank..2 {
            c = model.wire_node(format!("{prefix}.c_add_axis_{axis}"), AxisOp::Add(0), &[c])?[0];
        }
        let c = scaled(model, "beta_c", self.beta, c)?;
        model.wire_node(prefix, add(), &[wire, c])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run, run_known};
    use super::*;

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn products_of_any_float_are_scaled_and_added_to() {
        let x = || tensor2(&[[1f64, 2.0], [-3.0, 0.5]]);
        let gemm = |node: Node, known: &[Tensor]| run_known(node, &[x()], known, 1).unwrap();
        let w = || tensor2(&[[1f64, 0.0, -1.0], [2.0, 1.0, 4.0]]);
        let made = tensor2(&[[5.5f64, 2.5, 7.5], [-1.5, 1.0, 5.5]]);
        assert_eq!(gemm(Node::new("Gemm"), &[w(), tensor1(&[0.5f64])]), std::slice::from_ref(&made));
        assert_eq!(gemm(Node::new("Gemm"), &[w(), tensor0(0.5f64)]), [made]);
        let column = tensor2(&[[1f64], [2.0]]);
        assert_eq!(gemm(Node::new("Gemm"), &[column.clone(), tensor1(&[1f64])]), [tensor2(&[[6f64], [-1.0]])]);
        let node = || Node::new("Gemm").float("alpha", 0.5).float("beta", 2.0).int("transA", 1).int("transB", 1);
        let turned = tensor2(&[[1f64, 2.0]]);
        let made = tensor2(&[[-0.5f64], [5.5]]);
        assert_eq!(gemm(node(), &[turned.clone(), column.clone()]), std::slice::from_ref(&made));
        let floats = [x(), turned, column].map(|x| x.cast_to::<f32>().unwrap().into_owned());
        assert_eq!(run(node(), &floats, 1).unwrap(), [made.cast_to::<f32>().unwrap().into_owned()]);
    }
}
