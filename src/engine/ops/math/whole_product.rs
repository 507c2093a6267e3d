//! `ai.onnx.MatMul` (version 13) of integers, which wrap, and of two vectors, which give a scalar; tract has all the others.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::{exactly, hangs_on_symbols};
use super::kernel::Kernel;
use super::modulo::plain;
use super::stand_in::stand_in;

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let is_whole = |input: &TypedFact| plain(input.datum_type).is_integer() && !hangs_on_symbols(input);
    stand_in(context, node, Product, move |inputs: &[TypedFact]| {
        inputs.iter().all(|input| input.rank() == 1) || inputs.iter().all(is_whole)
    })
}

#[derive(Debug)]
struct Product;

/// The operand's shape as one of matrices: a vector is a row on the left, a column on the right.
fn as_matrices<D: Clone>(shape: &[D], is_left: bool, one: D) -> TVec<D> {
    match shape {
        [length] if is_left => tvec![one, length.clone()],
        [length] => tvec![length.clone(), one],
        _ => shape.into(),
    }
}

impl Kernel for Product {
    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        Ok(plain(given))
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [x, y] = exactly(inputs)?;
        ensure!(x.datum_type == y.datum_type, "MatMul of {:?} and {:?}", x.datum_type, y.datum_type);
        let (a, b) = (as_matrices(&x.shape, true, 1.to_dim()), as_matrices(&y.shape, false, 1.to_dim()));
        let (batches_of_a, [rows, inner]) = a.split_last_chunk().context("MatMul of a scalar")?;
        let (batches_of_b, [given, columns]) = b.split_last_chunk().context("MatMul of a scalar")?;
        ensure!(inner.compatible_with(given), "MatMul of rows of {inner} and columns of {given}");
        let mut shape = multi_broadcast(&[batches_of_a, batches_of_b])?;
        shape.extend((x.rank() > 1).then(|| rows.clone()));
        shape.extend((y.rank() > 1).then(|| columns.clone()));
        Ok(tvec![x.datum_type.fact(shape)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (x, y) = (&inputs[0], &inputs[1]);
        macro_rules! whole {
            ($type:ty) => {
                product::<$type>(x, y, |sum, a, b| sum.wrapping_add(a.wrapping_mul(b)))?
            };
        }
        Ok(tvec![match x.datum_type() {
            DatumType::F32 => product::<f32>(x, y, |sum, a, b| sum + a * b)?,
            DatumType::F64 => product::<f64>(x, y, |sum, a, b| sum + a * b)?,
            DatumType::I8 => whole!(i8),
            DatumType::I16 => whole!(i16),
            DatumType::I32 => whole!(i32),
            DatumType::I64 => whole!(i64),
            DatumType::U8 => whole!(u8),
            DatumType::U16 => whole!(u16),
            DatumType::U32 => whole!(u32),
            DatumType::U64 => whole!(u64),
            other => bail!("MatMul of {other:?}"),
        }])
    }
}

/// `add` gives the sum with a product.
fn product<T: Datum + Copy + Default>(x: &Tensor, y: &Tensor, add: impl Fn(T, T, T) -> T) -> TractResult<Tensor> {
    let (is_row, is_column) = (x.rank() == 1, y.rank() == 1);
    let (a, b) = (as_matrices(x.shape(), true, 1), as_matrices(y.shape(), false, 1));
    let (batches_of_a, [rows, inner]) = a.split_last_chunk().context("MatMul of a scalar")?;
    let (batches_of_b, [given, columns]) = b.split_last_chunk().context("MatMul of a scalar")?;
    ensure!(inner == given, "MatMul of rows of {inner} and columns of {given}");
    let batches = multi_broadcast(&[batches_of_a, batches_of_b])?;
    let spread = |tensor: &Tensor, shape: &[usize], matrix: [usize; 2]| {
        let whole: TVec<usize> = batches.iter().copied().chain(matrix).collect();
        tensor.clone().into_shape(shape)?.broadcast_to_shape(&whole)
    };
    let (x, y) = (spread(x, &a, [*rows, *inner])?, spread(y, &b, [*inner, *columns])?);
    let (x, y) = (x.try_as_plain_ram()?, y.try_as_plain_ram()?);
    let (x, y) = (x.as_slice::<T>()?, y.as_slice::<T>()?);
    let mut made = vec![T::default(); batches.iter().product::<usize>() * rows * columns];
    if made.len() * inner > 0 {
        for (place, to) in made.chunks_exact_mut(*columns).enumerate() {
            let of_batch = &y[place / rows * inner * columns..][..inner * columns];
            for (a, b) in x[place * inner..].iter().zip(of_batch.chunks_exact(*columns)) {
                to.iter_mut().zip(b).for_each(|(to, b)| *to = add(*to, *a, *b));
            }
        }
    }
    let mut shape = batches;
    shape.extend((!is_row).then_some(*rows));
    shape.extend((!is_column).then_some(*columns));
    tensor1(&made).into_shape(&shape)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    fn product_of(x: Tensor, y: Tensor) -> TractResult<Vec<Tensor>> {
        run(Node::new("MatMul"), &[x, y], 1)
    }

    #[test]
    fn two_vectors_give_a_scalar_and_other_products_are_as_they_were() {
        let (x, y) = (tensor1(&[1f32, 2.0, 3.0]), tensor1(&[4f32, 5.0, 6.0]));
        assert_eq!(product_of(x.clone(), y).unwrap(), [tensor0(32f32)]);
        assert_eq!(product_of(tensor1(&[3i64, -1]), tensor1(&[2i64, 5])).unwrap(), [tensor0(1i64)]);
        assert_eq!(product_of(tensor2(&[[1f32, 0.0, 1.0]]), x.clone()).unwrap(), [tensor1(&[4f32])]);
        assert!(product_of(x, tensor1(&[1f32])).is_err());
    }

    #[test]
    fn integers_of_any_type_are_multiplied_and_wrap() {
        let (x, y) = (tensor2(&[[1i64, 2], [-3, i64::MAX]]), tensor2(&[[5i64, 0, 1], [7, 1, 2]]));
        let far = i64::MAX.wrapping_mul(7).wrapping_sub(15);
        let made = tensor2(&[[19i64, 2, 5], [far, i64::MAX, i64::MAX.wrapping_mul(2).wrapping_sub(3)]]);
        assert_eq!(product_of(x.clone(), y).unwrap(), [made]);
        assert_eq!(product_of(x.clone(), tensor1(&[1i64, 1])).unwrap(), [tensor1(&[3i64, i64::MAX - 3])]);
        assert_eq!(product_of(tensor1(&[1i64, 0]), x).unwrap(), [tensor1(&[1i64, 2])]);
        let small =
            |x: &[u32], y: &[u32]| product_of(tensor1(x).into_shape(&[2, 1, 2])?, tensor1(y).into_shape(&[2, 1])?);
        let made = tensor1(&[u32::MAX, 6]).into_shape(&[2, 1, 1]).unwrap();
        assert_eq!(small(&[0, 1, 3, 0], &[2, u32::MAX]).unwrap(), [made]);
        let nothing = product_of(Tensor::zero::<i32>(&[2, 0]).unwrap(), Tensor::zero::<i32>(&[0, 3]).unwrap()).unwrap();
        assert_eq!(nothing, [Tensor::zero::<i32>(&[2, 3]).unwrap()]);
    }
}
