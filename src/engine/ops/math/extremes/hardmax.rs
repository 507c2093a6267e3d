//! `ai.onnx.Hardmax` (version 13, and before it over all axes from one on): one at the first of the greatest, else zero.
//!
//! In place of tract's, which needs the sizes of these axes when it plans, and an element along them.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::inputs::{axis_of, exactly};
use super::kernel::{Kernel, built};
use super::places::places_of;
use super::{Along, Built};

/// The version since which one axis counts.
const OF_ONE_AXIS: i64 = 13;

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let of_one_axis = context.onnx_operator_set_version >= OF_ONE_AXIS;
    let axis = node.get_attr_opt("axis")?.unwrap_or(if of_one_axis { -1 } else { 1 });
    built(node, Hardmax { axis, of_one_axis })
}

#[derive(Debug)]
struct Hardmax {
    axis: i64,
    of_one_axis: bool,
}

impl Hardmax {
    /// The elements of which one is the greatest.
    fn along(&self, shape: &[usize]) -> TractResult<Along> {
        let axis = axis_of(self.axis, shape.len()).context("attribute 'axis'")?;
        Ok(Along::axes(shape, axis, if self.of_one_axis { axis } else { shape.len() - 1 }))
    }
}

impl Kernel for Hardmax {
    fn name(&self) -> &'static str {
        "Hardmax"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        ensure!(input.datum_type.is_float(), "an input of {:?}", input.datum_type);
        axis_of(self.axis, input.rank()).context("attribute 'axis'")?;
        Ok(tvec![input.without_value()])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let along = self.along(inputs[0].shape())?;
        let made = match inputs[0].datum_type() {
            DatumType::F16 => hardmax::<f16>(&inputs[0], along, f16::from_f32(1.0)),
            DatumType::F64 => hardmax::<f64>(&inputs[0], along, 1.0),
            _ => hardmax::<f32>(&inputs[0], along, 1.0),
        };
        Ok(tvec![made?])
    }
}

fn hardmax<T: Datum + Copy + PartialOrd>(input: &Tensor, along: Along, one: T) -> TractResult<Tensor> {
    let mut output = Tensor::zero_dt(T::datum_type(), input.shape())?;
    if input.len() > 0 {
        let places = places_of(input.try_as_plain_ram()?.as_slice::<T>()?, along, |new, held| new > held);
        let mut view = output.try_as_plain_ram_mut()?;
        let to = view.as_slice_mut::<T>()?;
        for (lane, place) in places.into_iter().enumerate() {
            let (group, within) = (lane / along.inner, lane % along.inner);
            to[(group * along.count + place as usize) * along.inner + within] = one;
        }
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run, shapes_for_any_rows};
    use super::*;

    fn cube() -> Tensor {
        tensor3(&[[[1f32, 4.0, 4.0], [2.0, -1.0, 3.0]], [[0.0, 0.0, 9.0], [7.0, 8.0, 9.0]]])
    }

    /// Expected values are ONNX Runtime 1.31.1's, here and below.
    #[test]
    fn the_first_of_the_greatest_along_an_axis_is_one() {
        let along = |axis: i64| run(Node::new("Hardmax").int("axis", axis), &[cube()], 1).unwrap().remove(0);
        assert_eq!(along(-1), tensor3(&[[[0f32, 1.0, 0.0], [0.0, 0.0, 1.0]], [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]]));
        assert_eq!(along(1), tensor3(&[[[0f32, 1.0, 1.0], [1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]]));
        assert_eq!(along(0), tensor3(&[[[1f32, 1.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]]));
    }

    #[test]
    fn before_version_13_all_axes_from_one_on_count() {
        let flat = |axis: i64| {
            let kernel = Hardmax { axis, of_one_axis: false };
            kernel.eval(&[cube().into_tvalue()]).unwrap().remove(0)
        };
        assert_eq!(flat(1), tensor3(&[[[0f32, 1.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]]));
        assert_eq!(flat(0), tensor3(&[[[0f32, 0.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]]));
    }

    #[test]
    fn rows_of_nothing_give_rows_of_nothing() {
        let nothing = run(Node::new("Hardmax"), &[Tensor::zero::<f32>(&[2, 0]).unwrap()], 1).unwrap();
        assert_eq!(nothing[0].shape(), [2, 0]);
        assert_eq!(shapes_for_any_rows(Node::new("Hardmax"), &[tensor2(&[[1f32]])], 1).unwrap(), ["N,1"]);
        assert!(run(Node::new("Hardmax").int("axis", 2), &[tensor2(&[[1f32]])], 1).is_err());
    }
}
