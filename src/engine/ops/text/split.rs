//! `ai.onnx.StringSplit` (version 20): splits each text, and says into how many parts.
//!
//! ONNX Runtime differs from ONNX's reference in two points, and is followed: without a delimiter only the space
//! separates, no other white space; and an empty text has no parts whatever the delimiter.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::super::Built;
use super::super::kernel::{Kernel, built};
use super::{MAX_TEXTS, only_text, table, tensor, texts};

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let delimiter = node.get_attr_opt::<String>("delimiter")?.unwrap_or_default();
    let maxsplit = node.get_attr_opt::<i64>("maxsplit")?;
    // A negative number is no limit, as in Python.
    let max_splits = maxsplit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let width = context.template.symbols.new_with_prefix("parts");
    built(node, StringSplit { delimiter, max_splits, width })
}

#[derive(Debug)]
struct StringSplit {
    /// Empty for runs of spaces.
    delimiter: String,
    max_splits: usize,
    /// The most parts of any text.
    width: Symbol,
}

impl Kernel for StringSplit {
    fn name(&self) -> &'static str {
        "StringSplit"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let input = only_text(self.name(), inputs)?;
        let shape: TVec<TDim> = input.shape.iter().cloned().chain([self.width.to_dim()]).collect();
        Ok(tvec![String::fact(shape), i64::fact(input.shape.clone())])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let input = &inputs[0];
        let mut rows = vec![];
        let mut parts = 0;
        for text in texts(input)? {
            rows.push(self.parts(text));
            parts += rows.last().map_or(0, Vec::len);
            ensure!(parts <= MAX_TEXTS, "StringSplit would give more than {MAX_TEXTS} texts");
        }
        let counts = rows.iter().map(|row| row.len() as i64).collect();
        Ok(tvec![table(input.shape(), rows, "")?, tensor::<i64>(input.shape(), counts)?])
    }

    fn mints_symbols(&self) -> bool {
        true
    }
}

impl StringSplit {
    fn parts(&self, text: &str) -> Vec<String> {
        if text.is_empty() {
            return vec![];
        }
        let limit = self.max_splits.saturating_add(1);
        if !self.delimiter.is_empty() {
            return text.splitn(limit, self.delimiter.as_str()).map(str::to_owned).collect();
        }
        let mut parts = vec![];
        let mut rest = text.trim_matches(' ');
        while !rest.is_empty() {
            match rest.split_once(' ') {
                Some((part, after)) if parts.len() < self.max_splits => {
                    parts.push(part.to_owned());
                    rest = after.trim_start_matches(' ');
                }
                _ => {
                    parts.push(rest.to_owned());
                    rest = "";
                }
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run};
    use super::*;

    fn split(node: Node, values: &[&str]) -> (Vec<String>, Vec<usize>, Vec<i64>) {
        let input = tensor1(&values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>());
        let outputs = run(node, &[input], 2).unwrap();
        let counts = outputs[1].try_as_plain_ram().unwrap().as_slice::<i64>().unwrap().to_vec();
        (texts(&outputs[0]).unwrap().to_vec(), outputs[0].shape().to_vec(), counts)
    }

    /// What ONNX Runtime 1.31.1 gives for the same.
    #[test]
    fn spaces_or_a_delimiter_separate_the_parts() {
        let (parts, shape, counts) = split(Node::new("StringSplit"), &["  a  b c  ", "", "\ta\n"]);
        assert_eq!((parts.join("|"), shape, counts), ("a|b|c||||\ta\n||".into(), vec![3, 3], vec![3, 0, 1]));
        let by_comma = Node::new("StringSplit").text("delimiter", ",");
        let (parts, shape, counts) = split(by_comma, &["a,b,,c,", ""]);
        assert_eq!((parts.join("|"), shape, counts), ("a|b||c||||||".into(), vec![2, 5], vec![5, 0]));
    }

    #[test]
    fn splits_are_limited_and_the_rest_stays_whole() {
        let (parts, _, counts) = split(Node::new("StringSplit").int("maxsplit", 1), &["  a  b c  "]);
        assert_eq!((parts.join("|"), counts), ("a|b c".into(), vec![2]));
        let by_comma = Node::new("StringSplit").text("delimiter", ",").int("maxsplit", 1);
        assert_eq!(split(by_comma, &["a,b,,c,"]).0.join("|"), "a|b,,c,");
    }

    #[test]
    fn no_parts_at_all_make_a_table_without_columns() {
        assert_eq!(split(Node::new("StringSplit"), &["", " "]), (vec![], vec![2, 0], vec![0, 0]));
    }
}
