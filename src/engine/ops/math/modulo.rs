//! `ai.onnx.Mod` (version 28): the remainder with the sign of the divisor, as NumPy's `mod`, or with `fmod` that of the dividend.
//!
//! In place of tract's, which gives a remainder of the dividend's sign where it doesn't know the type when it reads the graph.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::internal::*;

use super::Built;
pub use super::inputs::plain;
use super::inputs::{exactly, hangs_on_symbols};
use super::kernel::Kernel;
use super::stand_in::stand_in;
use super::unfit::unfit;

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let ours = Mod { of_dividend: node.get_attr_opt::<i64>("fmod")?.unwrap_or(0) != 0 };
    stand_in(context, node, ours, |inputs| !inputs.iter().any(hangs_on_symbols))
}

#[derive(Debug)]
struct Mod {
    /// Whether the remainder has the dividend's sign.
    of_dividend: bool,
}

impl Kernel for Mod {
    fn name(&self) -> &'static str {
        "Mod"
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        Ok(plain(given))
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [a, b] = exactly(inputs)?;
        ensure!(a.datum_type != f16::datum_type(), "inputs of FLOAT16, which a pass widens");
        ensure!(a.datum_type == b.datum_type, "inputs of {:?} and {:?}", a.datum_type, b.datum_type);
        Ok(tvec![a.datum_type.fact(multi_broadcast(&[&a.shape, &b.shape])?)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        macro_rules! whole {
            ($type:ty) => {
                each::<$type>("Mod", inputs, |a, b| match (a.checked_rem(b), self.of_dividend) {
                    (None, _) if b == 0 => None,
                    // The least number by -1.
                    (None, _) => Some(0),
                    (Some(rest), true) => Some(rest),
                    (Some(rest), false) => Some(if rest != 0 && (rest > 0) != (b > 0) { rest + b } else { rest }),
                })
            };
        }
        macro_rules! float {
            ($type:ty) => {
                each::<$type>("Mod", inputs, |a, b| match a % b {
                    rest if self.of_dividend || rest.is_nan() => Some(rest),
                    rest if rest == 0.0 => Some((0.0 as $type).copysign(b)),
                    rest => Some(if (rest > 0.0) != (b > 0.0) { rest + b } else { rest }),
                })
            };
        }
        Ok(tvec![match inputs[0].datum_type() {
            DatumType::I8 => whole!(i8)?,
            DatumType::I16 => whole!(i16)?,
            DatumType::I32 => whole!(i32)?,
            DatumType::I64 => whole!(i64)?,
            DatumType::U8 => whole!(u8)?,
            DatumType::U16 => whole!(u16)?,
            DatumType::U32 => whole!(u32)?,
            DatumType::U64 => whole!(u64)?,
            DatumType::F32 => float!(f32)?,
            DatumType::F64 => float!(f64)?,
            other => bail!("an input of {other:?}"),
        }])
    }
}

/// What `of` gives for each pair; `None` is a division by zero.
///
/// # Errors
/// `Unfit` for such a division, as ONNX Runtime refuses it.
pub fn each<T: Datum + Copy>(name: &str, inputs: &[TValue], of: impl Fn(T, T) -> Option<T>) -> TractResult<Tensor> {
    let (a, b) = (inputs[0].to_plain_array_view::<T>()?, inputs[1].to_plain_array_view::<T>()?);
    let shape = multi_broadcast(&[a.shape(), b.shape()])?;
    let by = b.broadcast(&*shape).context("shapes that don't go together")?;
    let mut made = a.broadcast(&*shape).context("shapes that don't go together")?.to_owned();
    for (a, &b) in made.iter_mut().zip(&by) {
        *a = of(*a, b).ok_or_else(|| unfit(format!("{name} of an integer by zero")))?;
    }
    Ok(made.into())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    #[test]
    fn remainders_have_the_divisors_sign_or_the_dividends() {
        let rests = |fmod, by: i64| {
            let node = Node::new("Mod").int("fmod", fmod);
            run(node, &[tensor1(&[-5i64, 2, 6, i64::MIN]), tensor1(&[by])], 1)
        };
        assert_eq!(rests(0, 3).unwrap(), [tensor1(&[1i64, 2, 0, 1])]);
        assert_eq!(rests(0, -3).unwrap(), [tensor1(&[-2i64, -1, 0, -2])]);
        assert_eq!(rests(1, 3).unwrap(), [tensor1(&[-2i64, 2, 0, -2])]);
        assert_eq!(rests(0, -1).unwrap(), [tensor1(&[0i64, 0, 0, 0])]);
        assert!(rests(0, 0).is_err());
        let floats =
            |fmod| run(Node::new("Mod").int("fmod", fmod), &[tensor1(&[-5f32, 2.5]), tensor1(&[2f32])], 1).unwrap();
        assert_eq!((floats(0), floats(1)), (vec![tensor1(&[1f32, 0.5])], vec![tensor1(&[-1f32, 0.5])]));
    }
}
