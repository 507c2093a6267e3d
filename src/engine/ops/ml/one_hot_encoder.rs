//! `ai.onnx.ml.OneHotEncoder` (version 1): each element becomes a vector with a 1 at the place of its category.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let texts: Vec<String> = node.get_attr_opt_vec("cats_strings")?.unwrap_or_default();
    let integers: Vec<i64> = node.get_attr_opt_vec("cats_int64s")?.unwrap_or_default();
    ensure!(texts.is_empty() != integers.is_empty(), "it needs one of the attributes 'cats_strings' and 'cats_int64s'");
    let count = texts.len() + integers.len();
    // Of equal categories the last counts, as in ONNX Runtime.
    let categories = match integers.is_empty() {
        true => Categories::Texts(texts.into_iter().enumerate().map(|(place, text)| (text, place)).collect()),
        false => Categories::Integers(integers.into_iter().enumerate().map(|(place, key)| (key, place)).collect()),
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
}

impl Categories {
    fn places(&self, input: &Tensor) -> TractResult<Vec<Option<usize>>> {
        let view = input.try_as_plain_ram()?;
        Ok(match self {
            Self::Texts(places) => view.as_slice::<String>()?.iter().map(|text| places.get(text).copied()).collect(),
            Self::Integers(places) if input.datum_type().is_float() => {
                let cut = |x: &f64| if x.abs() < i64::MAX as f64 { Some(*x as i64) } else { None };
                let keys = view.as_slice::<f64>()?.iter().map(cut);
                keys.map(|key| key.and_then(|key| places.get(&key).copied())).collect()
            }
            Self::Integers(places) => view.as_slice::<i64>()?.iter().map(|key| places.get(key).copied()).collect(),
        })
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
        let rows = view.as_slice_mut::<f32>()?.chunks_exact_mut(self.count);
        for (row, place) in rows.zip(self.categories.places(&inputs[0])?) {
            match place {
                Some(place) => row[place] = 1.0,
                None => ensure!(self.allows_unknown, "an input is none of the categories, and 'zeros' is 0"),
            }
        }
        Ok(tvec!(output))
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn an_unknown_category_is_an_error_where_the_file_says_so() {
        let node = || Node::new("OneHotEncoder").ints("cats_int64s", &[3]).int("zeros", 0);
        assert!(run(node(), &[tensor1(&[3i64])], 1).is_ok());
        let error = run(node(), &[tensor1(&[4i64])], 1).unwrap_err();
        assert!(format!("{error:#}").contains("none of the categories"), "{error:#}");
        assert!(run(node().texts("cats_strings", &["a"]), &[tensor1(&[3i64])], 1).is_err());
        assert!(run(Node::new("OneHotEncoder"), &[tensor1(&[3i64])], 1).is_err());
    }
}
