//! `Det` (ONNX 11): determinants of square matrices, by elimination with the largest pivot of each column.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    built(node, Det)
}

#[derive(Debug)]
struct Det;

impl Kernel for Det {
    fn name(&self) -> &'static str {
        "Det"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        ensure!(input.datum_type.is_float(), "an input of {:?}", input.datum_type);
        let mut shape = input.shape.to_tvec();
        let (Some(columns), Some(rows)) = (shape.pop(), shape.pop()) else {
            bail!("an input of {} axes", input.rank())
        };
        ensure!(columns.compatible_with(&rows), "matrices of {rows} by {columns} are not square");
        Ok(tvec!(input.datum_type.fact(shape)))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (shape, dt) = (inputs[0].shape(), inputs[0].datum_type());
        let (outer, side) = (&shape[..shape.len() - 2], shape[shape.len() - 1]);
        ensure!(side == shape[shape.len() - 2], "matrices of {shape:?} are not square");
        let mut matrices = inputs[0].cast_to::<f64>()?.into_owned();
        let view = matrices.try_as_plain_ram_mut()?;
        let mut view = view;
        let numbers = view.as_slice_mut::<f64>()?;
        let count = outer.iter().product();
        let size = side * side;
        let made = (0..count).map(|at| determinant(&mut numbers[at * size..(at + 1) * size], side)).collect();
        let made: Tensor = tract_ndarray::ArrayD::<f64>::from_shape_vec(outer, made)?.into();
        Ok(tvec!(made.cast_to_dt(dt)?.into_owned()))
    }
}

/// The determinant of one matrix, which is used up.
fn determinant(matrix: &mut [f64], side: usize) -> f64 {
    let mut determinant = 1.0;
    for column in 0..side {
        let size = |row: &usize| matrix[row * side + column].abs();
        let pivot = (column..side).max_by(|a, b| size(a).total_cmp(&size(b))).unwrap_or(column);
        if pivot != column {
            determinant = -determinant;
            (0..side).for_each(|at| matrix.swap(pivot * side + at, column * side + at));
        }
        let head = matrix[column * side + column];
        if head == 0.0 {
            return 0.0;
        }
        determinant *= head;
        for row in column + 1..side {
            let factor = matrix[row * side + column] / head;
            (column..side).for_each(|at| matrix[row * side + at] -= factor * matrix[column * side + at]);
        }
    }
    determinant
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    #[test]
    fn determinants_of_one_and_of_many() {
        // ONNX's node tests det_2d and det_nd
        let one = run(Node::new("Det"), &[tensor2(&[[0.0f32, 1.0], [2.0, 3.0]])], 1).unwrap();
        assert_eq!(one, [tensor0(-2.0f32)]);
        let many = tensor3(&[[[1.0f32, 2.0], [3.0, 4.0]], [[1.0, 2.0], [2.0, 1.0]], [[1.0, 3.0], [3.0, 1.0]]]);
        let many = run(Node::new("Det"), &[many], 1).unwrap();
        assert!(many[0].close_enough(&tensor1(&[-2.0f32, -3.0, -8.0]), true).is_ok(), "{many:?}");
        assert_eq!(run(Node::new("Det"), &[tensor2(&[[1.0f32, 2.0], [2.0, 4.0]])], 1).unwrap(), [tensor0(0.0f32)]);
        assert!(run(Node::new("Det"), &[tensor2(&[[1.0f32, 2.0]])], 1).is_err());
    }
}
