//! `ai.onnx.Softplus` (version 22): ln(1 + exp(x)), also where exp(x) is beyond the type's range; tract's is infinite there.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    built(node, Softplus)
}

#[derive(Debug)]
struct Softplus;

impl Kernel for Softplus {
    fn name(&self) -> &'static str {
        "Softplus"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        ensure!(input.datum_type.is_float(), "an input of {:?} instead of a float", input.datum_type);
        Ok(tvec![input.without_value()])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let x = &inputs[0];
        Ok(tvec![match x.datum_type() {
            DatumType::F64 => x.to_plain_array_view::<f64>()?.mapv(|x| x.max(0.0) + (-x.abs()).exp().ln_1p()).into(),
            given => {
                let wide = x.cast_to::<f32>()?;
                let y: Tensor =
                    wide.to_plain_array_view::<f32>()?.mapv(|x| x.max(0.0) + (-x.abs()).exp().ln_1p()).into();
                y.cast_to_dt(given)?.into_owned()
            }
        }])
    }

    fn axes(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        AxesMapping::natural(inputs, outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    #[test]
    fn large_values_are_themselves_and_small_ones_next_to_nothing() {
        let y = run(Node::new("Softplus"), &[tensor1(&[200.0f32, 0.0, -200.0])], 1).unwrap().remove(0);
        assert_eq!(y, tensor1(&[200.0f32, 2f32.ln(), 0.0]));
    }
}
