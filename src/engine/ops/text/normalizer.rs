//! `ai.onnx.StringNormalizer` (version 10): drops stop words and changes the case of the rest.
//!
//! Case is changed character by character, as ONNX Runtime does in every locale but those of Turkish and Azeri; a
//! character that has no single other case stays. `locale` is not looked at.

use std::collections::HashSet;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::super::Built;
use super::super::attributes;
use super::super::kernel::{Kernel, built};
use super::{only_text, tensor, texts};

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let case = match node.get_attr_opt::<&str>("case_change_action")?.unwrap_or("NONE") {
        "NONE" => Case::Kept,
        "LOWER" => Case::Lower,
        "UPPER" => Case::Upper,
        other => bail!("attribute 'case_change_action' is '{other}', not NONE, LOWER or UPPER"),
    };
    let is_case_sensitive = node.get_attr_opt::<i64>("is_case_sensitive")?.unwrap_or(0) != 0;
    let compared = if is_case_sensitive { Case::Kept } else { Case::Lower };
    let stop_words = match attributes::texts(node, "stopwords")? {
        Some(words) => texts(&words)?.iter().map(|word| compared.of(word)).collect(),
        None => HashSet::new(),
    };
    let kept = context.template.symbols.new_with_prefix("kept");
    built(node, StringNormalizer { stop_words, compared, case, kept })
}

#[derive(Debug)]
struct StringNormalizer {
    /// In the case that they are compared in.
    stop_words: HashSet<String>,
    compared: Case,
    case: Case,
    /// How many texts are left.
    kept: Symbol,
}

#[derive(Debug, Clone, Copy)]
enum Case {
    Kept,
    Lower,
    Upper,
}

impl Case {
    fn of(self, text: &str) -> String {
        match self {
            Self::Kept => text.to_owned(),
            Self::Lower => text.chars().map(|char| only(char.to_lowercase(), char)).collect(),
            Self::Upper => text.chars().map(|char| only(char.to_uppercase(), char)).collect(),
        }
    }
}

/// The only character of `changed`, or `char` if that has several.
fn only(mut changed: impl Iterator<Item = char>, char: char) -> char {
    match (changed.next(), changed.next()) {
        (Some(one), None) => one,
        _ => char,
    }
}

impl Kernel for StringNormalizer {
    fn name(&self) -> &'static str {
        "StringNormalizer"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape = only_text(self.name(), inputs)?.shape.to_tvec();
        let is_row = shape.len() == 1 || (shape.len() == 2 && shape.first().is_some_and(|rows| rows.is_one()));
        ensure!(is_row, "StringNormalizer takes [C] or [1, C]");
        if let Some(last) = shape.last_mut().filter(|_| !self.stop_words.is_empty()) {
            *last = self.kept.to_dim();
        }
        Ok(tvec![String::fact(shape)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let is_kept =
            |text: &&String| self.stop_words.is_empty() || !self.stop_words.contains(self.compared.of(text).as_str());
        let mut kept: Vec<String> = texts(&inputs[0])?.iter().filter(is_kept).map(|text| self.case.of(text)).collect();
        if kept.is_empty() && !self.stop_words.is_empty() {
            kept.push(String::new());
        }
        let mut shape = inputs[0].shape().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = kept.len();
        }
        Ok(tvec![tensor(&shape, kept)?])
    }

    fn mints_symbols(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run};
    use super::*;

    fn normalized(node: Node, values: &[&str]) -> Vec<String> {
        let input = tensor1(&values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>());
        texts(&run(node, &[input], 1).unwrap()[0]).unwrap().to_vec()
    }

    /// The days of ONNX's node tests of this operator.
    #[test]
    fn stop_words_go_and_the_rest_changes_its_case() {
        let node = || Node::new("StringNormalizer").texts("stopwords", &["monday"]);
        let days = ["monday", "Tuesday", "MONDAY"];
        assert_eq!(normalized(node(), &days), ["Tuesday"]);
        assert_eq!(normalized(node().int("is_case_sensitive", 1), &days), ["Tuesday", "MONDAY"]);
        assert_eq!(normalized(node().text("case_change_action", "UPPER"), &days), ["TUESDAY"]);
        assert_eq!(normalized(node(), &["monday", "monday"]), [""]);
    }

    #[test]
    fn letters_change_one_by_one_and_nul_stays() {
        let upper = Node::new("StringNormalizer").text("case_change_action", "UPPER");
        assert_eq!(normalized(upper, &["straße\0é"]), ["STRAßE\0É"]);
    }

    #[test]
    fn several_rows_and_unknown_actions_are_refused() {
        let rows = tensor2(&[["a".to_owned()], ["b".to_owned()]]);
        assert!(run(Node::new("StringNormalizer"), &[rows], 1).is_err());
        let odd = Node::new("StringNormalizer").text("case_change_action", "TITLE");
        assert!(run(odd, &[tensor1(&["a".to_owned()])], 1).is_err());
    }
}
