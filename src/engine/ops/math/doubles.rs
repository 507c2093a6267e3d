//! `Sigmoid`, `Round` and `LeakyRelu` of FP64, which tract has for narrower floats only, and `IsNaN` and `IsInf` of any float, which
//! tract takes for floats themselves where they are of FP64.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};
use super::stand_in::stand_in;

pub fn build_sigmoid(context: &ParsingContext, node: &NodeProto) -> Built {
    for_doubles(context, node, Of::Sigmoid)
}

pub fn build_round(context: &ParsingContext, node: &NodeProto) -> Built {
    for_doubles(context, node, Of::Round)
}

pub fn build_leaky_relu(context: &ParsingContext, node: &NodeProto) -> Built {
    let alpha = node.get_attr_opt::<f32>("alpha")?.unwrap_or(0.01);
    for_doubles(context, node, Of::LeakyRelu { alpha: alpha.into() })
}

pub fn build_is_nan(_: &ParsingContext, node: &NodeProto) -> Built {
    built(node, Of::IsNan)
}

pub fn build_is_inf(_: &ParsingContext, node: &NodeProto) -> Built {
    let finds = |name: &str| Ok::<bool, TractError>(node.get_attr_opt::<i64>(name)?.unwrap_or(1) != 0);
    let of = Of::IsInf { positive: finds("detect_positive")?, negative: finds("detect_negative")? };
    built(node, of)
}

fn for_doubles(context: &ParsingContext, node: &NodeProto, of: Of) -> Built {
    stand_in(context, node, of, |inputs| inputs[0].datum_type == DatumType::F64)
}

#[derive(Debug, Clone, Copy)]
enum Of {
    Sigmoid,
    /// To the nearest, and halves to the even one.
    Round,
    LeakyRelu {
        alpha: f64,
    },
    IsNan,
    IsInf {
        positive: bool,
        negative: bool,
    },
}

impl Kernel for Of {
    fn name(&self) -> &'static str {
        match self {
            Self::Sigmoid => "Sigmoid",
            Self::Round => "Round",
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::IsNan => "IsNaN",
            Self::IsInf { .. } => "IsInf",
        }
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        ensure!(input.datum_type.is_float(), "{} of {:?}", Kernel::name(self), input.datum_type);
        let says_whether = matches!(self, Self::IsNan | Self::IsInf { .. });
        let datum_type = if says_whether { DatumType::Bool } else { DatumType::F64 };
        Ok(tvec![datum_type.fact(input.shape.clone())])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let x = inputs[0].cast_to::<f64>()?;
        let x = x.to_plain_array_view::<f64>()?;
        Ok(tvec![match *self {
            // What is far below 0 has an exponential that is no number any more, of which the quotient is 0.
            Self::Sigmoid => x.mapv(|x| 1.0 / (1.0 + (-x).exp())).into(),
            Self::Round => x.mapv(f64::round_ties_even).into(),
            Self::LeakyRelu { alpha } => x.mapv(|x| if x >= 0.0 { x } else { alpha * x }).into(),
            Self::IsNan => x.mapv(f64::is_nan).into(),
            Self::IsInf { positive, negative } => {
                x.mapv(|x| (positive && x == f64::INFINITY) || (negative && x == f64::NEG_INFINITY)).into()
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

    fn of(node: Node, x: &[f64]) -> Tensor {
        run(node, &[tensor1(x)], 1).unwrap().remove(0)
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn doubles_are_computed_as_doubles() {
        let sigmoid = of(Node::new("Sigmoid"), &[-800.0, -1.0, 0.0, 0.1, 40.0, 800.0]);
        let expected = tensor1(&[0.0, 0.268_941_421_369_995_1, 0.5, 0.524_979_187_478_94, 1.0, 1.0]);
        sigmoid.close_enough(&expected, Approximation::Close).unwrap();
        assert_eq!(
            of(Node::new("Round"), &[0.5, 1.5, 2.5, -0.5, -1.5, 1e300, 2.4]),
            tensor1(&[0f64, 2.0, 2.0, -0.0, -2.0, 1e300, 2.0])
        );
        let leaky = of(Node::new("LeakyRelu").float("alpha", 0.25), &[-2.0, 0.0, 3.0]);
        assert_eq!(leaky, tensor1(&[-0.5f64, 0.0, 3.0]));
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.0];
        assert_eq!(of(Node::new("IsNaN"), &odd), tensor1(&[true, false, false, false]));
        assert_eq!(of(Node::new("IsInf"), &odd), tensor1(&[false, true, true, false]));
        let single = tensor1(&odd.map(|x| x as f32));
        assert_eq!(run(Node::new("IsNaN"), &[single], 1).unwrap(), [tensor1(&[true, false, false, false])]);
        let negative = Node::new("IsInf").int("detect_positive", 0);
        assert_eq!(of(negative, &odd), tensor1(&[false, false, true, false]));
    }
}
