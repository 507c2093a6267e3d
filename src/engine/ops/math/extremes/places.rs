//! `ai.onnx.ArgMax` and `ArgMin` (version 13).

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::inputs::{axis_of, exactly};
use super::kernel::{Kernel, built};
use super::unfit::unfit;
use super::{Along, Built, LANES, for_type, is_number};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let flag = |name: &str, default: i64| Ok::<_, TractError>(node.get_attr_opt::<i64>(name)?.unwrap_or(default) != 0);
    built(
        node,
        Places {
            of_least: node.op_type == "ArgMin",
            axis: node.get_attr_opt("axis")?.unwrap_or(0),
            keeps_axis: flag("keepdims", 1)?,
            takes_last: flag("select_last_index", 0)?,
        },
    )
}

#[derive(Debug, Clone, Copy)]
struct Places {
    of_least: bool,
    axis: i64,
    keeps_axis: bool,
    /// Of equals the last and not the first.
    takes_last: bool,
}

impl Kernel for Places {
    fn name(&self) -> &'static str {
        if self.of_least { "ArgMin" } else { "ArgMax" }
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        Ok(if given.is_tdim() { i64::datum_type() } else { given })
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        ensure!(is_number(input.datum_type), "an input of {:?}", input.datum_type);
        let axis = axis_of(self.axis, input.rank()).context("attribute 'axis'")?;
        let mut shape = input.shape.to_tvec();
        match self.keeps_axis {
            true => shape[axis] = 1.to_dim(),
            false => drop(shape.remove(axis)),
        }
        Ok(tvec![i64::fact(shape)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (input, mut shape) = (&inputs[0], TVec::from_slice(inputs[0].shape()));
        let axis = axis_of(self.axis, shape.len())?;
        let along = Along::axes(&shape, axis, axis);
        if along.count == 0 {
            return Err(unfit(format!("{} of nothing: axis {axis} has a length of 0", self.name())));
        }
        let places = for_type!(input.datum_type(), places(*self, along, input))?;
        match self.keeps_axis {
            true => shape[axis] = 1,
            false => drop(shape.remove(axis)),
        }
        Ok(tvec![tract_ndarray::ArrayD::from_shape_vec(&*shape, places)?.into()])
    }
}

fn places<T: Datum + Copy + PartialOrd>(of: Places, along: Along, input: &Tensor) -> TractResult<Vec<i64>> {
    let view = input.try_as_plain_ram()?;
    let elements = view.as_slice::<T>()?;
    Ok(match (of.of_least, of.takes_last) {
        (false, false) => places_of(elements, along, |new, held| new > held),
        (false, true) => places_of(elements, along, |new, held| new >= held),
        (true, false) => places_of(elements, along, |new, held| new < held),
        (true, true) => places_of(elements, along, |new, held| new <= held),
    })
}

/// `is_beyond` says whether an element takes the place of the one that is held.
pub fn places_of<T: Copy>(elements: &[T], along: Along, is_beyond: impl Fn(T, T) -> bool + Copy) -> Vec<i64> {
    let mut places = Vec::with_capacity(elements.len() / along.count);
    along.for_each_group(elements, |group| match along.inner {
        1 => places.push(place_of(group, is_beyond) as i64),
        inner => {
            let (first, others) = group.split_at(inner);
            let (begin, mut held) = (places.len(), first.to_vec());
            places.resize(begin + inner, 0);
            for (turn, slice) in others.chunks_exact(inner).enumerate() {
                for ((held, place), new) in held.iter_mut().zip(&mut places[begin..]).zip(slice) {
                    if is_beyond(*new, *held) {
                        (*held, *place) = (*new, turn as i64 + 1);
                    }
                }
            }
        }
    });
    places
}

fn place_of<T: Copy>(row: &[T], is_beyond: impl Fn(T, T) -> bool + Copy) -> usize {
    let mut place = 0;
    for (index, chunk) in row.chunks(LANES).enumerate() {
        // Most of a long row is passed over without a look at each.
        let held = row[place];
        if chunk.iter().fold(false, |any, new| any | is_beyond(*new, held)) {
            for (offset, new) in chunk.iter().enumerate() {
                if is_beyond(*new, row[place]) {
                    place = index * LANES + offset;
                }
            }
        }
    }
    place
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run, shapes_for_any_rows};
    use super::*;

    fn rows() -> Tensor {
        tensor2(&[[2.0f32, 3.0, 3.0], [1.0, -1.0, -1.0]])
    }

    /// Expected places are ONNX Runtime 1.31.1's, here and below.
    #[test]
    fn the_first_or_the_last_of_equals_is_found_along_any_axis() {
        for (op_type, axis, last, expected) in [
            ("ArgMax", 1, 0, tensor1(&[1i64, 0])),
            ("ArgMax", -1, 1, tensor1(&[2i64, 0])),
            ("ArgMax", 0, 0, tensor1(&[0i64, 0, 0])),
            ("ArgMin", 1, 0, tensor1(&[0i64, 1])),
            ("ArgMin", 1, 1, tensor1(&[0i64, 2])),
            ("ArgMin", -2, 0, tensor1(&[1i64, 1, 1])),
        ] {
            let node = Node::new(op_type).int("axis", axis).int("select_last_index", last);
            assert_eq!(run(node.int("keepdims", 0), &[rows()], 1).unwrap(), [expected], "{op_type} {axis} {last}");
        }
    }

    #[test]
    fn a_long_row_is_searched_to_its_end() {
        for at in [0, 15, 16, 17, 99] {
            let row: Vec<i32> = (0..100).map(|place| if place == at { 7 } else { -place }).collect();
            let y = run(Node::new("ArgMax"), &[tensor1(&row)], 1).unwrap();
            assert_eq!(y, [tensor1(&[at as i64])]);
        }
    }

    #[test]
    fn a_nan_holds_the_first_place_alone() {
        let first = |row: [f32; 4]| run(Node::new("ArgMax"), &[tensor1(&row)], 1).unwrap().remove(0);
        assert_eq!(first([f32::NAN, 1.0, 2.0, 3.0]), tensor1(&[0i64]));
        assert_eq!(first([1.0, f32::NAN, 2.0, 3.0]), tensor1(&[3i64]));
        assert_eq!(first([1.0, 2.0, 3.0, f32::NAN]), tensor1(&[2i64]));
    }

    #[test]
    fn a_row_in_is_a_row_out() {
        let node = |keeps| Node::new("ArgMax").int("axis", 1).int("keepdims", keeps);
        assert_eq!(shapes_for_any_rows(node(1), &[rows()], 1).unwrap(), ["N,1"]);
        assert_eq!(shapes_for_any_rows(node(0), &[rows()], 1).unwrap(), ["N"]);
    }

    #[test]
    fn what_has_no_place_is_refused() {
        let nothing = Tensor::zero::<f32>(&[2, 0]).unwrap();
        let refused =
            |axis, input| format!("{:#}", run(Node::new("ArgMin").int("axis", axis), &[input], 1).unwrap_err());
        assert!(refused(1, nothing).contains("ArgMin of nothing"));
        assert!(refused(2, rows()).contains("'axis'"));
        assert!(refused(i64::MIN, rows()).contains("'axis'"));
    }
}
