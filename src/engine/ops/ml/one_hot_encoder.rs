//! `ai.onnx.ml.OneHotEncoder` (version 1): each element becomes a vector with a 1 at the place of its category.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};
use super::unfit::unfit;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let texts: Vec<String> = node.get_attr_opt_vec("cats_strings")?.unwrap_or_default();
    let integers: Vec<i64> = node.get_attr_opt_vec("cats_int64s")?.unwrap_or_default();
    ensure!(texts.is_empty() != integers.is_empty(), "it needs one of the attributes 'cats_strings' and 'cats_int64s'");
    let count = texts.len() + integers.len();
    let categories = match integers.is_empty() {
        true => Categories::Texts(texts.into_iter().enumerate().map(|(place, text)| (text, place)).collect()),
        false => Categories::of_integers(&integers),
    };
    let allows_unknown = node.get_attr_opt::<i64>("zeros")?.unwrap_or(1) != 0;
    built(node, OneHotEncoder { categories, count, allows_unknown })
}

#[derive(Debug)]
struct OneHotEncoder {
    categories: Categories,
    count: usize,
    /// An unknown category becomes zeros; without, it is an error.
    allows_unknown: bool,
}

#[derive(Debug)]
enum Categories {
    Texts(HashMap<String, usize>),
    /// Floats count as the integers they are cut to.
    Integers(HashMap<i64, usize>),
    /// The places of integers that follow one another, more or less, from the first on.
    Range(i64, Vec<Option<usize>>),
}

/// How many integers a range may have for each category.
const MAX_SPREAD: usize = 16;

impl Categories {
    /// Of equal categories the last counts, as in ONNX Runtime.
    fn of_integers(integers: &[i64]) -> Self {
        let (least, most) = (integers.iter().min().copied().unwrap_or(0), integers.iter().max().copied().unwrap_or(0));
        let spread = most.checked_sub(least).and_then(|spread| usize::try_from(spread).ok());
        let places = integers.iter().enumerate().map(|(place, key)| (*key, place));
        match spread.filter(|&spread| spread < integers.len() * MAX_SPREAD) {
            Some(spread) => {
                let mut range = vec![None; spread + 1];
                places.for_each(|(key, place)| range[(key - least) as usize] = Some(place));
                Self::Range(least, range)
            }
            None => Self::Integers(places.collect()),
        }
    }

    fn place(&self, key: i64) -> Option<usize> {
        match self {
            Self::Range(first, places) => *places.get(usize::try_from(key.checked_sub(*first)?).ok()?)?,
            Self::Integers(places) => places.get(&key).copied(),
            Self::Texts(_) => None,
        }
    }

    /// Calls `each` with the place of every element.
    fn each_place(&self, input: &Tensor, mut each: impl FnMut(Option<usize>) -> TractResult<()>) -> TractResult<()> {
        let view = input.try_as_plain_ram()?;
        match self {
            Self::Texts(places) => {
                view.as_slice::<String>()?.iter().try_for_each(|text| each(places.get(text).copied()))
            }
            _ if input.datum_type().is_float() => {
                let cut = |x: f64| if x.abs() < i64::MAX as f64 { self.place(x as i64) } else { None };
                view.as_slice::<f64>()?.iter().try_for_each(|&x| each(cut(x)))
            }
            _ => view.as_slice::<i64>()?.iter().try_for_each(|&key| each(self.place(key))),
        }
    }
}

impl Kernel for OneHotEncoder {
    fn name(&self) -> &'static str {
        "OneHotEncoder"
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        let takes_texts = matches!(self.categories, Categories::Texts(_));
        ensure!(takes_texts == (given == DatumType::String), "its categories are not of the input's type {given:?}");
        Ok(match given {
            DatumType::String => given,
            number if number.is_float() => f64::datum_type(),
            _ => i64::datum_type(),
        })
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        let mut shape = input.shape.to_tvec();
        shape.push(self.count.to_dim());
        Ok(tvec!(f32::fact(shape)))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let mut shape: TVec<usize> = inputs[0].shape().into();
        shape.push(self.count);
        let mut output = Tensor::zero::<f32>(&shape)?;
        let mut view = output.try_as_plain_ram_mut()?;
        let mut rows = view.as_slice_mut::<f32>()?.chunks_exact_mut(self.count);
        self.categories.each_place(&inputs[0], |place| {
            match (rows.next(), place) {
                (Some(row), Some(place)) => row[place] = 1.0,
                _ if self.allows_unknown => {}
                _ => {
                    return Err(unfit("an input of a OneHotEncoder is none of its categories, and it allows no other"));
                }
            }
            Ok(())
        })?;
        Ok(tvec!(output))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::is_unfit;
    use super::super::super::testing::{Node, run};
    use super::*;

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn each_element_becomes_a_vector() {
        let node = || Node::new("OneHotEncoder").ints("cats_int64s", &[3, 5, 7]);
        let expected = || tensor3(&[[[0.0f32, 1.0, 0.0]], [[0.0, 0.0, 0.0]]]);
        assert_eq!(run(node(), &[tensor2(&[[5i64], [4]])], 1).unwrap(), [expected()]);
        assert_eq!(run(node(), &[tensor2(&[[5.9f32], [f32::NAN]])], 1).unwrap(), [expected()]);
        let texts = Node::new("OneHotEncoder").texts("cats_strings", &["a", "b"]);
        let y = run(texts, &[tensor1(&["b".to_owned(), "c".to_owned()])], 1).unwrap();
        assert_eq!(y, [tensor2(&[[0.0f32, 1.0], [0.0, 0.0]])]);
    }

    /// The last of equal ones as in ONNX Runtime 1.31.1.
    #[test]
    fn categories_may_lie_far_apart_or_be_equal() {
        let encode = |categories: &[i64], x: &[i64]| {
            run(Node::new("OneHotEncoder").ints("cats_int64s", categories), &[tensor1(x)], 1).unwrap()
        };
        let far = encode(&[i64::MIN, 7, i64::MAX], &[i64::MAX, 7, 8, i64::MIN]);
        assert_eq!(far, [tensor2(&[[0.0f32, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])]);
        let equal = encode(&[2, 1, 2], &[2, 1, 0, 3, i64::MIN]);
        let none = [0.0f32; 3];
        assert_eq!(equal, [tensor2(&[[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], none, none, none])]);
    }

    #[test]
    fn an_unknown_category_is_an_error_where_the_file_says_so() {
        let node = || Node::new("OneHotEncoder").ints("cats_int64s", &[3]).int("zeros", 0);
        assert!(run(node(), &[tensor1(&[3i64])], 1).is_ok());
        let error = run(node(), &[tensor1(&[4i64])], 1).unwrap_err();
        assert!(is_unfit(&error) && format!("{error:#}").contains("none of its categories"), "{error:#}");
        assert!(run(node().texts("cats_strings", &["a"]), &[tensor1(&[3i64])], 1).is_err());
        assert!(run(Node::new("OneHotEncoder"), &[tensor1(&[3i64])], 1).is_err());
    }
}
