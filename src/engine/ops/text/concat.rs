//! `ai.onnx.StringConcat` (version 20): joins two texts element by element, each input stretched to the other's shape as
//! in NumPy.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::internal::*;

use super::super::Built;
use super::super::inputs::exactly;
use super::super::kernel::{Kernel, built};
use super::{MAX_TEXTS, ensure_text, tensor, texts};

/// Most bytes that the joined texts hold in all: a chain of these operators doubles a text at each step.
const MAX_BYTES: usize = 1 << 28;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    built(node, StringConcat)
}

#[derive(Debug)]
struct StringConcat;

impl Kernel for StringConcat {
    fn name(&self) -> &'static str {
        "StringConcat"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [left, right] = exactly(inputs)?;
        ensure_text(self.name(), left)?;
        ensure_text(self.name(), right)?;
        let shape = multi_broadcast(&[left.shape.to_tvec(), right.shape.to_tvec()])?;
        Ok(tvec![String::fact(shape)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (left, right) = (&inputs[0], &inputs[1]);
        if left.shape() == right.shape() {
            let pairs = texts(left)?.iter().zip(texts(right)?);
            return Ok(tvec![tensor(left.shape(), joined(pairs)?)?]);
        }
        let shape = multi_broadcast(&[left.shape(), right.shape()])?;
        let count = shape.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim));
        ensure!(count.is_some_and(|count| count <= MAX_TEXTS), "StringConcat would give more than {MAX_TEXTS} texts");
        let (left, right) = (left.to_plain_array_view::<String>()?, right.to_plain_array_view::<String>()?);
        let stretched = "the shapes don't stretch to each other";
        let (left, right) = (left.broadcast(&*shape).context(stretched)?, right.broadcast(&*shape).context(stretched)?);
        Ok(tvec![tensor(&shape, joined(left.iter().zip(right.iter()))?)?])
    }
}

fn joined<'a>(pairs: impl Iterator<Item = (&'a String, &'a String)>) -> TractResult<Vec<String>> {
    let mut bytes = 0usize;
    let join = |(left, right): (&String, &String)| {
        bytes = bytes.saturating_add(left.len()).saturating_add(right.len());
        ensure!(bytes <= MAX_BYTES, "StringConcat would give more than {MAX_BYTES} bytes");
        Ok([left.as_str(), right.as_str()].concat())
    };
    pairs.map(join).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run};
    use super::*;

    fn text(values: &[&str]) -> Tensor {
        tensor1(&values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn texts_are_joined_with_whatever_bytes_they_hold() {
        let joined = run(Node::new("StringConcat"), &[text(&["a\0", "é"]), text(&["b", ""])], 1).unwrap();
        assert_eq!(joined, [text(&["a\0b", "é"])]);
    }

    #[test]
    fn one_text_is_joined_to_each_of_the_others() {
        let joined = run(Node::new("StringConcat"), &[text(&["a", "b"]), text(&["."])], 1).unwrap();
        assert_eq!(joined, [text(&["a.", "b."])]);
        assert!(run(Node::new("StringConcat"), &[text(&["a", "b"]), text(&["a", "b", "c"])], 1).is_err());
    }
}
