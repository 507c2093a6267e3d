//! `ai.onnx.Div` (version 14) of integers, towards zero. Floats are tract's, which panics where an integer is divided by zero.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::{exactly, hangs_on_symbols};
use super::kernel::Kernel;
use super::modulo::{each, plain};
use super::stand_in::stand_in;

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let is_whole = |input: &TypedFact| plain(input.datum_type).is_integer() && !hangs_on_symbols(input);
    stand_in(context, node, WholeDiv, move |inputs: &[TypedFact]| inputs.iter().all(is_whole))
}

#[derive(Debug)]
struct WholeDiv;

impl Kernel for WholeDiv {
    fn name(&self) -> &'static str {
        "Div"
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        Ok(plain(given))
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [a, b] = exactly(inputs)?;
        ensure!(a.datum_type == b.datum_type, "inputs of {:?} and {:?}", a.datum_type, b.datum_type);
        Ok(tvec![a.datum_type.fact(multi_broadcast(&[&a.shape, &b.shape])?)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        macro_rules! whole {
            ($type:ty) => {
                // The least number by -1 is itself, in as many bits.
                each::<$type>("Div", inputs, |a, b| (b != 0).then(|| a.wrapping_div(b)))?
            };
        }
        Ok(tvec![match inputs[0].datum_type() {
            DatumType::I8 => whole!(i8),
            DatumType::I16 => whole!(i16),
            DatumType::I32 => whole!(i32),
            DatumType::I64 => whole!(i64),
            DatumType::U8 => whole!(u8),
            DatumType::U16 => whole!(u16),
            DatumType::U32 => whole!(u32),
            DatumType::U64 => whole!(u64),
            other => bail!("an input of {other:?}"),
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::is_unfit;
    use super::super::testing::{Node, run};
    use super::*;

    #[test]
    fn integers_are_divided_towards_zero_and_by_zero_not_at_all() {
        let divided = |a: &[i64], b: &[i64]| run(Node::new("Div"), &[tensor1(a), tensor1(b)], 1);
        assert_eq!(divided(&[-7, 7, i64::MIN], &[2, -2, -1]).unwrap(), [tensor1(&[-3i64, -3, i64::MIN])]);
        assert_eq!(divided(&[9, -8], &[4]).unwrap(), [tensor1(&[2i64, -2])]);
        let error = divided(&[1, 2], &[1, 0]).unwrap_err();
        assert!(is_unfit(&error) && format!("{error:#}").contains("Div of an integer by zero"), "{error:#}");
        let error = run(Node::new("Mod"), &[tensor1(&[1i32]), tensor1(&[0i32])], 1).unwrap_err();
        assert!(is_unfit(&error), "{error:#}");
        assert_eq!(
            run(Node::new("Div"), &[tensor1(&[1f32]), tensor1(&[0f32])], 1).unwrap(),
            [tensor1(&[f32::INFINITY])]
        );
    }
}
