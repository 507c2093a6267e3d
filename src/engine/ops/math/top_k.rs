//! `ai.onnx.TopK` (version 24): the greatest or the least elements along an axis, in their order, and their places.
//!
//! In place of tract's, which sorts all elements to give a few, may panic where one is a NaN, and takes any number for the
//! count. A NaN counts as the greatest here, as it does in NumPy. Elements that are not asked for in order come in order.

use std::cmp::Ordering;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::extremes::{for_type, is_number};
use super::inputs::{axis_of, exactly, integers};
use super::kernel::Kernel;
use super::stand_in::stand_in;
use super::unfit::unfit;

/// Up to so many are found in one walk over the elements, which pays while few of them are among the best so far.
const FEW: usize = 32;

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let of_least = node.get_attr_opt::<i64>("largest")?.unwrap_or(1) == 0;
    let axis = node.get_attr_opt("axis")?.unwrap_or(-1);
    let count = context.template.symbols.new_with_prefix("top");
    stand_in(context, node, TopK { axis, of_least, count }, |inputs| is_number(inputs[0].datum_type))
}

#[derive(Debug)]
struct TopK {
    axis: i64,
    of_least: bool,
    /// How many, where only a run tells.
    count: Symbol,
}

impl Kernel for TopK {
    fn name(&self) -> &'static str {
        "TopK"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input, count] = exactly(inputs)?;
        let axis = axis_of(self.axis, input.rank()).context("attribute 'axis'")?;
        let mut shape = input.shape.to_tvec();
        shape[axis] = match &count.konst {
            // One that hangs on a symbol, and is a number once the symbol is.
            Some(count) if count.datum_type().is_tdim() && count.len() == 1 => {
                count.try_as_plain_ram()?.as_slice::<TDim>()?[0].clone()
            }
            Some(count) => one(count)?.to_dim(),
            None => self.count.to_dim(),
        };
        Ok(tvec![input.datum_type.fact(shape.as_slice()), i64::fact(shape)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (input, count) = (&inputs[0], one(&inputs[1])?);
        let axis = axis_of(self.axis, input.rank())?;
        let mut shape = TVec::from_slice(input.shape());
        if count > shape[axis] {
            return Err(unfit(format!("TopK of {count} among {}", shape[axis])));
        }
        let lanes = Lanes { length: shape[axis], inner: shape[axis + 1..].iter().product(), count };
        shape[axis] = count;
        Ok(for_type!(input.datum_type(), top(self.of_least, lanes, input, &shape))?)
    }

    fn mints_symbols(&self) -> bool {
        true
    }
}

/// How many elements are asked for.
fn one(count: &Tensor) -> TractResult<usize> {
    let [count] = integers(count)?[..] else { bail!("TopK has {} counts instead of 1", count.len()) };
    usize::try_from(count).ok().with_context(|| format!("TopK of {count}"))
}

/// Rows of `length` elements, each `inner` elements from the next, of which `count` are wanted.
#[derive(Clone, Copy)]
struct Lanes {
    length: usize,
    inner: usize,
    count: usize,
}

fn top<T: Datum + Copy + PartialOrd>(
    of_least: bool,
    lanes: Lanes,
    input: &Tensor,
    shape: &[usize],
) -> TractResult<TVec<Tensor>> {
    let view = input.try_as_plain_ram()?;
    let elements = view.as_slice::<T>()?;
    let is_nan = |x: T| x.partial_cmp(&x).is_none();
    let order = move |a: T, b: T| a.partial_cmp(&b).unwrap_or_else(|| is_nan(a).cmp(&is_nan(b)));
    Ok(match of_least {
        true => top_by(elements, lanes, shape, order)?,
        false => top_by(elements, lanes, shape, move |a, b| order(b, a))?,
    })
}

/// The elements that come first in an order, and their places.
fn top_by<T: Datum + Copy>(
    elements: &[T],
    lanes: Lanes,
    shape: &[usize],
    order: impl Fn(T, T) -> Ordering + Copy,
) -> TractResult<TVec<Tensor>> {
    let Lanes { length, inner, count } = lanes;
    let wanted = shape.iter().product();
    // The only element to begin with is one that there is; where there is none, nothing is wanted.
    let Some(&any) = elements.first() else {
        return Ok(tvec![Tensor::zero_dt(T::datum_type(), shape)?, Tensor::zero::<i64>(shape)?]);
    };
    let (mut values, mut places) = (vec![any; wanted], vec![0i64; wanted]);
    let mut best = vec![];
    for (group, block) in elements.chunks_exact(length * inner).enumerate() {
        for lane in 0..inner {
            first(block[lane..].iter().step_by(inner).copied(), count, order, &mut best);
            for (rank, (place, value)) in best.iter().enumerate() {
                let at = (group * count + rank) * inner + lane;
                (values[at], places[at]) = (*value, *place);
            }
        }
    }
    let (values, places) = (tensor1(&values).into_shape(shape)?, tensor1(&places).into_shape(shape)?);
    Ok(tvec![values, places])
}

/// The first `count` of the elements by `order`, of equals those that come first, into `best` with their places.
fn first<T: Copy>(
    elements: impl Iterator<Item = T>,
    count: usize,
    order: impl Fn(T, T) -> Ordering + Copy,
    best: &mut Vec<(i64, T)>,
) {
    best.clear();
    let elements = elements.enumerate().map(|(place, value)| (place as i64, value));
    if count > FEW {
        let by_value = |a: &(i64, T), b: &(i64, T)| order(a.1, b.1).then(a.0.cmp(&b.0));
        best.extend(elements);
        if count < best.len() {
            best.select_nth_unstable_by(count, by_value);
            best.truncate(count);
        }
        best.sort_unstable_by(by_value);
        return;
    }
    for (place, value) in elements {
        if best.len() == count {
            if best.last().is_none_or(|last| order(value, last.1).is_ge()) {
                continue;
            }
            best.pop();
        }
        let at = best.partition_point(|held| order(held.1, value).is_le());
        best.insert(at, (place, value));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run, run_known};
    use super::*;

    fn top_of(node: Node, x: Tensor, count: i64) -> TractResult<Vec<Tensor>> {
        run_known(node, &[x], &[tensor1(&[count])], 2)
    }

    fn rows() -> Tensor {
        tensor2(&[[1f32, 4.0, 2.0, 4.0], [0.0, -1.0, -2.0, 3.0]])
    }

    /// Expected values are ONNX Runtime 1.31.1's, here and below.
    #[test]
    fn the_greatest_and_the_least_come_in_order_and_of_equals_the_first() {
        let greatest = top_of(Node::new("TopK"), rows(), 3).unwrap();
        assert_eq!(greatest, [tensor2(&[[4f32, 4.0, 2.0], [3.0, 0.0, -1.0]]), tensor2(&[[1i64, 3, 2], [3, 0, 1]])]);
        let least = top_of(Node::new("TopK").int("largest", 0), rows(), 2).unwrap();
        assert_eq!(least, [tensor2(&[[1f32, 2.0], [-2.0, -1.0]]), tensor2(&[[0i64, 2], [2, 1]])]);
        let down = top_of(Node::new("TopK").int("axis", 0), rows(), 1).unwrap();
        assert_eq!(down, [tensor2(&[[1f32, 4.0, 2.0, 4.0]]), tensor2(&[[0i64, 0, 0, 0]])]);
    }

    #[test]
    fn many_of_a_long_row_are_the_same_as_few_and_more() {
        let row: Vec<i64> = (0..500).map(|place| place * 7919 % 101).collect();
        let mut sorted: Vec<(i64, i64)> = row.iter().zip(0..).map(|(value, place)| (-value, place)).collect();
        sorted.sort_unstable();
        for count in [1, 31, 32, 33, 499, 500] {
            let top = top_of(Node::new("TopK"), tensor1(&row), count).unwrap();
            let places: Vec<i64> = sorted.iter().take(count as usize).map(|(_, place)| *place).collect();
            assert_eq!(top[1], tensor1(&places), "{count}");
        }
    }

    #[test]
    fn a_nan_is_the_greatest() {
        let row = tensor1(&[1f32, f32::NAN, 3.0, f32::NAN, 2.0]);
        assert_eq!(top_of(Node::new("TopK"), row.clone(), 3).unwrap()[1], tensor1(&[1i64, 3, 2]));
        let least = top_of(Node::new("TopK").int("largest", 0), row, 3).unwrap();
        assert_eq!(least[1], tensor1(&[0i64, 4, 2]));
    }

    #[test]
    fn the_count_may_come_with_the_request_and_has_to_fit() {
        let top = |count: i64| run(Node::new("TopK"), &[rows(), tensor1(&[count])], 2);
        assert_eq!(top(1).unwrap()[0], tensor2(&[[4f32], [3.0]]));
        assert_eq!(top(0).unwrap()[0].shape(), [2, 0]);
        for count in [5, -1, i64::MAX, i64::MIN] {
            assert!(top(count).is_err(), "{count}");
        }
    }
}
