//! `ai.onnx.Pow` (version 15) of integers, and of a base and exponents of different types; tract has that of floats.
//!
//! The result has the base's type. As in ONNX Runtime a power of integers is computed in FP64 and what is out of their range is the
//! least of them, but a square and a cube by a single exponent are products, which wrap (there of more than one base only: here
//! a row has the same power among others as by itself).

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::{exactly, hangs_on_symbols, plain};
use super::kernel::Kernel;
use super::stand_in::stand_in;

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    stand_in(context, node, Pow, |inputs: &[TypedFact]| {
        let [base, exponent] = inputs else { return false };
        let (of_base, of_exponent) = (plain(base.datum_type), plain(exponent.datum_type));
        let mixed_floats = of_exponent.is_float() && of_base != of_exponent;
        (of_base.is_integer() || mixed_floats) && !inputs.iter().any(hangs_on_symbols)
    })
}

#[derive(Debug)]
struct Pow;

impl Kernel for Pow {
    fn name(&self) -> &'static str {
        "Pow"
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        Ok(plain(given))
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [base, exponent] = exactly(inputs)?;
        ensure!(base.datum_type.is_number() && exponent.datum_type.is_number(), "Pow of what is no number");
        Ok(tvec![base.datum_type.fact(multi_broadcast(&[&base.shape, &exponent.shape])?)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let base = &inputs[0];
        let exponents = inputs[1].cast_to::<f64>()?;
        macro_rules! whole {
            ($type:ty) => {
                powers::<$type>(base, &exponents, |a, b| (a as f64).powf(b) as $type, |a, b| a.wrapping_mul(b))
            };
        }
        macro_rules! signed {
            ($type:ty) => {
                powers::<$type>(
                    base,
                    &exponents,
                    |a, b| match (a as f64).powf(b) {
                        power if power >= -(<$type>::MIN as f64) || power.is_nan() => <$type>::MIN,
                        power => power as $type,
                    },
                    |a, b| a.wrapping_mul(b),
                )
            };
        }
        Ok(tvec![match base.datum_type() {
            DatumType::F32 => powers::<f32>(base, &exponents, |a, b| f64::from(a).powf(b) as f32, |a, b| a * b)?,
            DatumType::F64 => powers::<f64>(base, &exponents, f64::powf, |a, b| a * b)?,
            DatumType::I8 => signed!(i8)?,
            DatumType::I16 => signed!(i16)?,
            DatumType::I32 => signed!(i32)?,
            DatumType::I64 => signed!(i64)?,
            DatumType::U8 => whole!(u8)?,
            DatumType::U16 => whole!(u16)?,
            DatumType::U32 => whole!(u32)?,
            DatumType::U64 => whole!(u64)?,
            other => bail!("Pow of {other:?}"),
        }])
    }
}

fn powers<T: Datum + Copy>(
    base: &Tensor,
    exponents: &Tensor,
    power: impl Fn(T, f64) -> T,
    product: impl Fn(T, T) -> T,
) -> TractResult<Tensor> {
    let (base, by) = (base.to_plain_array_view::<T>()?, exponents.to_plain_array_view::<f64>()?);
    let shape = multi_broadcast(&[base.shape(), by.shape()])?;
    let single = by.first().copied().filter(|_| by.len() == 1);
    let by = by.broadcast(&*shape).context("shapes that don't go together")?;
    let mut made = base.broadcast(&*shape).context("shapes that don't go together")?.to_owned();
    match single {
        Some(2.0) => made.mapv_inplace(|x| product(x, x)),
        Some(3.0) => made.mapv_inplace(|x| product(product(x, x), x)),
        Some(one) => made.mapv_inplace(|x| power(x, one)),
        None => made.iter_mut().zip(&by).for_each(|(x, by)| *x = power(*x, *by)),
    }
    Ok(made.into())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run, run_known};
    use super::*;

    /// With exponents of the request and of the file.
    fn powers(base: Tensor, exponents: Tensor) -> Tensor {
        let given = run(Node::new("Pow"), &[base.clone(), exponents.clone()], 1).unwrap();
        assert_eq!(run_known(Node::new("Pow"), &[base], &[exponents], 1).unwrap(), given);
        given[0].clone()
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn a_power_has_the_type_of_its_base() {
        let by = || tensor1(&[2i64, 0, 3, 11]);
        assert_eq!(powers(tensor1(&[-3i32, 5, 2, 7]), by()), tensor1(&[9i32, 1, 8, 1_977_326_743]));
        assert_eq!(powers(tensor1(&[4f32, 2.0]), tensor1(&[0.5f64, -1.0])), tensor1(&[2f32, 0.5]));
        assert_eq!(powers(tensor1(&[4f32, 2.0]), tensor1(&[2i64, -1])), tensor1(&[16f32, 0.5]));
        assert_eq!(powers(tensor1(&[4i64, 2]), tensor1(&[0.5f32, -1.0])), tensor1(&[2i64, 0]));
        assert_eq!(powers(tensor1(&[4f64, 9.0]), tensor1(&[0.5f32])), tensor1(&[2f64, 3.0]));
        assert_eq!(powers(tensor2(&[[2i32], [3]]), tensor1(&[2i64, 3])), tensor2(&[[4i32, 8], [9, 27]]));
    }

    #[test]
    fn integers_have_powers_as_floats_do_and_products_that_wrap() {
        let by = |exponents: &[i64], base: &[i64]| powers(tensor1(base), tensor1(exponents));
        assert_eq!(by(&[-1, 0, 40], &[2, 0, 3]), tensor1(&[0i64, 1, i64::MIN]));
        assert_eq!(by(&[-1], &[0, 1, -1]), tensor1(&[i64::MIN, 1, -1]));
        assert_eq!(by(&[2], &[1 << 33, 3_037_000_499]), tensor1(&[0i64, 9_223_372_030_926_249_001]));
        assert_eq!(by(&[3], &[-5, 2_000_001]), tensor1(&[-125i64, 8_000_012_000_006_000_001]));
        assert_eq!(powers(tensor1(&[46_341i32, 3]), tensor0(2i32)), tensor1(&[-2_147_479_015i32, 9]));
        assert_eq!(powers(tensor1(&[3i32, 2]), tensor1(&[40i32, 31])), tensor1(&[i32::MIN; 2]));
    }
}
