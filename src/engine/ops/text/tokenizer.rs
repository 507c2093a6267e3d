//! `com.microsoft.Tokenizer` (version 1): the words of each text, by an expression that a word matches or by expressions
//! that separate words. scikit-learn's text vectorizers export to it.
//!
//! Follows ONNX Runtime: separators count before `tokenexp`; one empty separator takes each character for a word; the
//! marks of begin and end are only there where any text has a word.

use std::ops::Range;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::super::Built;
use super::super::attributes;
use super::super::kernel::{Kernel, built};
use super::pattern::LongestMatches;
use super::{MAX_TEXTS, only_text, table, texts};

/// What stands before the first and after the last word of a text.
const MARKS: [&str; 2] = ["\u{2}", "\u{3}"];

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let min_chars = node.get_attr::<i64>("mincharnum")?;
    ensure!(min_chars > 0, "attribute 'mincharnum' is {min_chars}, not a positive number");
    let words = match attributes::texts(node, "separators")? {
        Some(separators) => Words::separated(texts(&separators)?)?,
        None => {
            let expression = node.get_attr_opt::<String>("tokenexp")?.filter(|expression| !expression.is_empty());
            let expression = expression.context("neither attribute 'separators' nor 'tokenexp'")?;
            Words::Matching(Box::new(LongestMatches::new(&expression).context("attribute 'tokenexp'")?))
        }
    };
    ensure!(
        !matches!(words, Words::Chars) || min_chars < 2,
        "attribute 'mincharnum' is too large for single characters"
    );
    built(
        node,
        Tokenizer {
            words,
            min_chars: usize::try_from(min_chars)?,
            pad: node.get_attr::<String>("pad_value")?,
            marked: node.get_attr::<i64>("mark")? != 0,
            width: context.template.symbols.new_with_prefix("words"),
        },
    )
}

#[derive(Debug)]
struct Tokenizer {
    words: Words,
    min_chars: usize,
    pad: String,
    marked: bool,
    /// The most words of any text.
    width: Symbol,
}

#[derive(Debug)]
enum Words {
    /// Each character is one.
    Chars,
    /// What matches.
    Matching(Box<LongestMatches>),
    /// What lies between matches: each expression splits what those before it have left.
    Between(Vec<LongestMatches>),
}

impl Words {
    fn separated(separators: &[String]) -> TractResult<Self> {
        if let [only] = separators
            && only.is_empty()
        {
            return Ok(Self::Chars);
        }
        let one = |separator: &String| {
            ensure!(!separator.is_empty(), "attribute 'separators' holds an empty one beside others");
            LongestMatches::new(separator).context("attribute 'separators'")
        };
        Ok(Self::Between(separators.iter().map(one).collect::<TractResult<_>>()?))
    }

    fn of<'t>(&self, text: &'t str) -> TractResult<Vec<&'t str>> {
        match self {
            Self::Chars => Ok(text.split_inclusive(|_| true).collect()),
            Self::Matching(expression) => Ok(expression.all(text)?.into_iter().filter_map(|at| text.get(at)).collect()),
            Self::Between(separators) => {
                let mut parts = vec![text];
                for separator in separators {
                    let mut smaller = vec![];
                    for part in parts {
                        split(part, &separator.all(part)?, &mut smaller);
                    }
                    parts = smaller;
                }
                Ok(parts)
            }
        }
    }
}

/// Adds the parts of `text` that lie between the separators, which come in their order.
fn split<'t>(text: &'t str, separators: &[Range<usize>], parts: &mut Vec<&'t str>) {
    let mut from = 0;
    for separator in separators {
        parts.extend(text.get(from..separator.start).filter(|part| !part.is_empty()));
        from = separator.end;
    }
    parts.extend(text.get(from..).filter(|part| !part.is_empty()));
}

impl Kernel for Tokenizer {
    fn name(&self) -> &'static str {
        "Tokenizer"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let input = only_text(self.name(), inputs)?;
        ensure!(matches!(input.rank(), 1 | 2), "Tokenizer takes [C] or [N, C], not {} dimensions", input.rank());
        let shape: TVec<TDim> = input.shape.iter().cloned().chain([self.width.to_dim()]).collect();
        Ok(tvec![String::fact(shape)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (mut rows, mut count) = (vec![], 0);
        for text in texts(&inputs[0])? {
            let mut row = self.words.of(text)?;
            row.retain(|word| self.min_chars <= 1 || word.chars().count() >= self.min_chars);
            count += row.len();
            ensure!(count <= MAX_TEXTS, "Tokenizer would give more than {MAX_TEXTS} words");
            rows.push(row);
        }
        let is_marked = self.marked && count > 0;
        let row = |words: Vec<&str>| {
            let [begin, end] = MARKS.map(|mark| is_marked.then_some(mark));
            begin.into_iter().chain(words).chain(end).map(str::to_owned).collect()
        };
        let rows: Vec<Vec<String>> = rows.into_iter().map(row).collect();
        Ok(tvec![table(inputs[0].shape(), rows, &self.pad)?])
    }

    fn mints_symbols(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run};
    use super::*;

    fn node() -> Node {
        Node::new("Tokenizer").int("mark", 0).int("mincharnum", 1).text("pad_value", "#")
    }

    fn words(node: Node, values: &[&str]) -> (String, Vec<usize>) {
        let input = tensor1(&values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>());
        let output = run(node, &[input], 1).unwrap().remove(0);
        (texts(&output).unwrap().join("|"), output.shape().to_vec())
    }

    // The expected values are what ONNX Runtime 1.31.1 gives for the same.

    #[test]
    fn an_expression_finds_the_words_and_shorter_rows_are_filled() {
        let by_letters = || node().text("tokenexp", "[a-z]+");
        assert_eq!(words(by_letters(), &["b c", "d\0e", ""]), ("b|c|d|e|#|#".into(), vec![3, 2]));
        assert_eq!(words(by_letters().int("mincharnum", 2), &["b cc"]), ("cc".into(), vec![1, 1]));
        assert_eq!(words(by_letters(), &["", "1"]), (String::new(), vec![2, 0]));
    }

    #[test]
    fn separators_split_one_after_the_other() {
        let by = |separators: &[&str]| node().texts("separators", separators);
        assert_eq!(words(by(&[",", " "]), &["a, b,,c "]).0, "a|b|c");
        assert_eq!(words(by(&[", ", ","]).int("mincharnum", 2), &["ab, b,,cde "]).0, "ab|cde ");
        assert_eq!(words(by(&["xa", "x"]), &["xaxbx"]).0, "b");
        assert_eq!(words(by(&["x", "xa"]), &["xaxbx"]).0, "a|b");
        assert_eq!(words(by(&["."]), &["a.b"]).1, [1, 0]);
        assert_eq!(words(by(&[""]), &["héa"]).0, "h|é|a");
    }

    #[test]
    fn begin_and_end_are_marked_where_there_are_words() {
        let marked = || node().text("tokenexp", "[a-z]+").int("mark", 1);
        assert_eq!(words(marked(), &["a", ""]).0, "\u{2}|a|\u{3}|\u{2}|\u{3}|#");
        assert_eq!(words(marked(), &["", ""]).1, [2, 0]);
    }

    #[test]
    fn attributes_that_say_nothing_or_too_much_are_refused() {
        let input = [tensor1(&["a".to_owned()])];
        assert!(run(node(), &input, 1).is_err());
        assert!(run(node().text("tokenexp", "a").int("mincharnum", 0), &input, 1).is_err());
        assert!(run(node().texts("separators", &["", "a"]), &input, 1).is_err());
    }
}
