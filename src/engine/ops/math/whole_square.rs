//! Squares of integers, which wrap: tract makes a square of a number by itself, and has that of floats alone.

use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::Square;
use tract_onnx::tract_hir::internal::*;

use super::inputs::exactly;
use super::kernel::{Kernel, typed};

/// Puts ours in the place of those of an optimised plan that are of integers.
pub fn square_integers(model: &mut TypedModel) {
    for node in &mut model.nodes {
        let is_square = node.op_as::<ElementWiseOp>().is_some_and(|op| op.0.is::<Square>());
        if is_square && node.outputs[0].fact.datum_type.is_integer() && !node.outputs[0].fact.datum_type.is_tdim() {
            node.op = typed(Arc::new(WholeSquare), &[0]);
        }
    }
}

#[derive(Debug)]
struct WholeSquare;

impl Kernel for WholeSquare {
    fn name(&self) -> &'static str {
        "Mul"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        Ok(tvec![input.without_value()])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let mut made = inputs[0].clone().into_tensor();
        macro_rules! squared {
            ($type:ty) => {
                made.try_as_plain_ram_mut()?.as_slice_mut::<$type>()?.iter_mut().for_each(|x| *x = x.wrapping_mul(*x))
            };
        }
        match made.datum_type() {
            DatumType::I8 => squared!(i8),
            DatumType::I16 => squared!(i16),
            DatumType::I32 => squared!(i32),
            DatumType::I64 => squared!(i64),
            DatumType::U8 => squared!(u8),
            DatumType::U16 => squared!(u16),
            DatumType::U32 => squared!(u32),
            DatumType::U64 => squared!(u64),
            other => bail!("the square of {other:?}"),
        }
        Ok(tvec![made])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run_graph};
    use super::*;

    #[test]
    fn an_integer_by_itself_is_its_square() {
        let squared = |x: Tensor| {
            let mut graph = Node::new("Mul").into_graph(std::slice::from_ref(&x), 1);
            let input = graph.node[0].input[0].clone();
            graph.node[0].input.push(input);
            run_graph(graph, &[x]).unwrap().remove(0)
        };
        assert_eq!(squared(tensor1(&[3i64, -4, 1 << 40])), tensor1(&[9i64, 16, 0]));
        assert_eq!(squared(tensor1(&[3u32, u32::MAX])), tensor1(&[9u32, 1]));
        assert_eq!(squared(tensor1(&[3f32])), tensor1(&[9f32]));
    }
}
