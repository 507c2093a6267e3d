//! `ai.onnx.MatMul` (version 13) of two vectors, which gives a scalar; tract has all the others.

use std::iter::Sum;
use std::ops::Mul;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::Kernel;
use super::stand_in::stand_in;

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    stand_in(context, node, Dot, |inputs| inputs.iter().all(|input| input.rank() == 1))
}

#[derive(Debug)]
struct Dot;

impl Kernel for Dot {
    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [x, y] = exactly(inputs)?;
        ensure!(x.datum_type == y.datum_type, "MatMul of {:?} and {:?}", x.datum_type, y.datum_type);
        ensure!(x.shape[0].compatible_with(&y.shape[0]), "MatMul of {} values and {}", x.shape[0], y.shape[0]);
        Ok(tvec![x.datum_type.fact([0usize; 0])])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (x, y) = (&inputs[0], &inputs[1]);
        ensure!(x.len() == y.len(), "MatMul of {} values and {}", x.len(), y.len());
        Ok(tvec![match x.datum_type() {
            DatumType::F32 => dot::<f32>(x, y)?,
            DatumType::F64 => dot::<f64>(x, y)?,
            DatumType::I32 => dot::<i32>(x, y)?,
            DatumType::I64 => dot::<i64>(x, y)?,
            other => bail!("MatMul of vectors of {other:?}"),
        }])
    }
}

fn dot<T: Datum + Copy + Mul<Output = T> + Sum>(x: &Tensor, y: &Tensor) -> TractResult<Tensor> {
    let (x, y) = (x.try_as_plain_ram()?, y.try_as_plain_ram()?);
    Ok(tensor0(x.as_slice::<T>()?.iter().zip(y.as_slice::<T>()?).map(|(x, y)| *x * *y).sum::<T>()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    #[test]
    fn two_vectors_give_a_scalar_and_other_products_are_as_they_were() {
        let product = |x: Tensor, y: Tensor| run(Node::new("MatMul"), &[x, y], 1);
        let (x, y) = (tensor1(&[1f32, 2.0, 3.0]), tensor1(&[4f32, 5.0, 6.0]));
        assert_eq!(product(x.clone(), y).unwrap(), [tensor0(32f32)]);
        assert_eq!(product(tensor1(&[3i64, -1]), tensor1(&[2i64, 5])).unwrap(), [tensor0(1i64)]);
        assert_eq!(product(tensor2(&[[1f32, 0.0, 1.0]]), x.clone()).unwrap(), [tensor1(&[4f32])]);
        assert!(product(x, tensor1(&[1f32])).is_err());
    }
}
