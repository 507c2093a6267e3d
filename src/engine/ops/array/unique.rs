//! `ai.onnx.Unique` (version 11): the values of a tensor, or its slices along an axis, each once; where each is first,
//! which of them each was, and how often each is.
//!
//! NaN counts as one value and sorts last; ONNX is silent on it.

use std::cmp::Ordering;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::array::Gather;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let sorted = match node.get_attr_opt::<i64>("sorted")?.unwrap_or(1) {
        0 => false,
        1 => true,
        other => bail!("attribute 'sorted' is {other}, not 0 or 1"),
    };
    let axis = node.get_attr_opt::<i64>("axis")?;
    built(node, Unique { sorted, axis, kept: context.template.symbols.new_with_prefix("unique") })
}

#[derive(Debug)]
struct Unique {
    sorted: bool,
    /// `None` for the values one by one.
    axis: Option<i64>,
    kept: Symbol,
}

impl Kernel for Unique {
    fn name(&self) -> &'static str {
        "Unique"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        let kept = self.kept.to_dim();
        let list = |length: TDim| i64::fact([length]);
        let (values, all) = match self.axis(input.rank())? {
            None => (input.datum_type.fact([kept.clone()]), input.shape.volume()),
            Some(axis) => {
                let mut shape = input.shape.to_tvec();
                shape[axis] = kept.clone();
                (input.datum_type.fact(shape), input.shape[axis].clone())
            }
        };
        Ok(tvec![values, list(kept.clone()), list(all), list(kept)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let input = &inputs[0];
        let axis = self.axis(input.rank())?;
        let (tensor, axis) = match axis {
            Some(axis) => (input.clone().into_tensor(), axis),
            None => (input.clone().into_tensor().into_shape(&[input.len()])?, 0),
        };
        let length = tensor.shape()[axis];
        // The slices side by side, each one run of elements.
        let rows = tensor.clone().move_axis(axis, 0)?;
        let width = rows.len().checked_div(length).unwrap_or(0);
        let orders = Orders::of(&rows)?;
        let compare = |left: usize, right: usize| orders.compare(left * width, right * width, width);
        let mut sorted: Vec<usize> = (0..length).collect();
        sorted.sort_by(|&left, &right| compare(left, right));
        let mut groups: Vec<Vec<usize>> = vec![];
        for index in sorted {
            match groups.last_mut() {
                // The sort is stable: the first of a group is the first of the tensor.
                Some(group) if compare(group[0], index) == Ordering::Equal => group.push(index),
                _ => groups.push(vec![index]),
            }
        }
        if !self.sorted {
            groups.sort_by_key(|group| group[0]);
        }
        let firsts: Vec<i64> = groups.iter().map(|group| group[0] as i64).collect();
        let counts: Vec<i64> = groups.iter().map(|group| group.len() as i64).collect();
        let mut inverse = vec![0i64; length];
        for (number, group) in (0..).zip(&groups) {
            group.iter().for_each(|&index| inverse[index] = number);
        }
        let firsts = tensor1(&firsts);
        let taken = tvec![tensor.into_tvalue(), firsts.clone().into_tvalue()];
        let values = EvalOp::eval(&Gather::new(axis), &EvalContext::out_of_plan(), taken)?.remove(0).into_tensor();
        Ok(tvec![values, firsts, tensor1(&inverse), tensor1(&counts)])
    }

    fn mints_symbols(&self) -> bool {
        true
    }
}

impl Unique {
    fn axis(&self, rank: usize) -> TractResult<Option<usize>> {
        let Some(axis) = self.axis else { return Ok(None) };
        let from_front = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
        let axis = from_front.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank);
        Ok(Some(axis.with_context(|| format!("attribute 'axis' is not one of {rank} dimensions"))?))
    }
}

/// The elements of a tensor in a type that can be compared.
enum Orders {
    Integers(Vec<i128>),
    Floats(Vec<f64>),
    Texts(Vec<String>),
}

impl Orders {
    fn of(tensor: &Tensor) -> TractResult<Self> {
        let datum_type = tensor.datum_type();
        if datum_type == String::datum_type() {
            return Ok(Self::Texts(tensor.try_as_plain_ram()?.as_slice::<String>()?.to_vec()));
        }
        if datum_type.is_float() {
            return Ok(Self::Floats(tensor.cast_to::<f64>()?.try_as_plain_ram()?.as_slice::<f64>()?.to_vec()));
        }
        if datum_type == u64::datum_type() {
            let values = tensor.try_as_plain_ram()?.as_slice::<u64>()?.iter().copied().map(i128::from);
            return Ok(Self::Integers(values.collect()));
        }
        let values = tensor.cast_to::<i64>()?;
        let values = values.try_as_plain_ram()?.as_slice::<i64>()?.iter().copied().map(i128::from);
        Ok(Self::Integers(values.collect()))
    }

    /// Compares two runs of elements, the first that differ deciding.
    fn compare(&self, left: usize, right: usize, width: usize) -> Ordering {
        let float = |left: &f64, right: &f64| {
            let by_nan = left.is_nan().cmp(&right.is_nan());
            left.partial_cmp(right).unwrap_or(by_nan)
        };
        match self {
            Self::Integers(values) => values[left..left + width].cmp(&values[right..right + width]),
            Self::Texts(values) => values[left..left + width].cmp(&values[right..right + width]),
            Self::Floats(values) => {
                let pairs = values[left..left + width].iter().zip(&values[right..right + width]);
                pairs.map(|(left, right)| float(left, right)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    /// `test_unique_sorted_without_axis` and `test_unique_not_sorted_without_axis` of ONNX's node tests.
    #[test]
    fn each_value_is_there_once_with_its_places() {
        let x = [tensor1(&[2f32, 1.0, 1.0, 3.0, 4.0, 3.0])];
        let sorted = run(Node::new("Unique"), &x, 4).unwrap();
        let expected = [
            tensor1(&[1f32, 2.0, 3.0, 4.0]),
            tensor1(&[1i64, 0, 3, 4]),
            tensor1(&[1i64, 0, 0, 2, 3, 2]),
            tensor1(&[2i64, 1, 2, 1]),
        ];
        assert_eq!(sorted, expected);
        let as_they_come = run(Node::new("Unique").int("sorted", 0), &x, 4).unwrap();
        assert_eq!(as_they_come[0], tensor1(&[2f32, 1.0, 3.0, 4.0]));
        assert_eq!(as_they_come[2], tensor1(&[0i64, 1, 1, 2, 3, 2]));
    }

    /// `test_unique_sorted_with_axis` of ONNX's node tests.
    #[test]
    fn slices_along_an_axis_are_compared_whole() {
        let x = [tensor2(&[[1f32, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 3.0, 4.0]])];
        let by_rows = run(Node::new("Unique").int("axis", 0), &x, 4).unwrap();
        assert_eq!(by_rows[0], tensor2(&[[1f32, 0.0, 0.0], [2.0, 3.0, 4.0]]));
        assert_eq!(by_rows[3], tensor1(&[2i64, 1]));
        let by_columns = run(Node::new("Unique").int("axis", -1), &x, 1).unwrap();
        assert_eq!(by_columns[0], tensor2(&[[0f32, 0.0, 1.0], [0.0, 0.0, 1.0], [3.0, 4.0, 2.0]]));
        assert!(run(Node::new("Unique").int("axis", 2), &x, 1).is_err());
    }

    #[test]
    fn texts_and_nan_and_nothing_have_values_too() {
        let texts = tensor1(&["b".to_owned(), "a\0".to_owned(), "b".to_owned()]);
        assert_eq!(run(Node::new("Unique"), &[texts], 1).unwrap()[0], tensor1(&["a\0".to_owned(), "b".to_owned()]));
        let counts = run(Node::new("Unique"), &[tensor1(&[f32::NAN, 1.0, f32::NAN])], 4).unwrap().remove(3);
        assert_eq!(counts, tensor1(&[1i64, 2]));
        let nothing = Tensor::zero::<i64>(&[0, 2]).unwrap();
        assert_eq!(run(Node::new("Unique"), &[nothing], 4).unwrap()[0].shape(), [0]);
    }
}
