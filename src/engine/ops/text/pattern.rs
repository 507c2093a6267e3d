//! Regular expressions as RE2 reads them, which is what ONNX Runtime runs them with.
//!
//! Time is linear in the text, and the compiled form is bounded. RE2's classes of characters (`\w`, `\d`, `\s`, `\b`)
//! are of ASCII alone, and a bracket within a class stands for itself: the expression is rewritten so that it means that
//! here too.

use std::ops::Range;

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::meta::Regex;
use regex_automata::nfa::thompson;
use regex_automata::util::pool::Pool;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};
use tract_onnx::tract_hir::internal::*;

/// Most bytes of a compiled expression.
const MAX_COMPILED_BYTES: usize = 4 << 20;
/// Most bytes that one thread's search keeps to be faster.
const MAX_CACHE_BYTES: usize = 2 << 20;
/// Deepest nesting of an expression.
const MAX_NESTING: u32 = 100;

/// An expression that a whole text must match.
#[derive(Debug)]
pub struct WholeMatch(Regex);

impl WholeMatch {
    /// # Errors
    /// Where it is no expression, or too large.
    pub fn new(expression: &str) -> TractResult<Self> {
        let rewritten = translated(expression)?;
        // On its own first: within the group it might close a bracket that isn't its own.
        regex(&rewritten, expression)?;
        Ok(Self(regex(&format!(r"\A(?:{rewritten})\z"), expression)?))
    }

    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// An expression whose matches are found from left to right, each as long as it can be.
pub struct LongestMatches {
    /// Finds where a match begins, which is the same for every rule of how long it is.
    begins: Regex,
    /// Finds the longest match from there on.
    ends: DFA,
    caches: Pool<Cache, Box<dyn Fn() -> Cache + Send + Sync>>,
}

impl std::fmt::Debug for LongestMatches {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("LongestMatches")
    }
}

impl LongestMatches {
    /// # Errors
    /// Where it is no expression, or too large.
    pub fn new(expression: &str) -> TractResult<Self> {
        let rewritten = translated(expression)?;
        let begins = regex(&rewritten, expression)?;
        let ends = DFA::builder()
            .configure(DFA::config().match_kind(MatchKind::All).cache_capacity(MAX_CACHE_BYTES))
            .thompson(thompson::Config::new().nfa_size_limit(Some(MAX_COMPILED_BYTES)))
            .syntax(syntax::Config::new().nest_limit(MAX_NESTING))
            .build(&rewritten)
            .map_err(|_| format_err!("'{expression}' is too large an expression"))?;
        let maker = ends.clone();
        let make: Box<dyn Fn() -> Cache + Send + Sync> = Box::new(move || maker.create_cache());
        Ok(Self { begins, ends, caches: Pool::new(make) })
    }

    /// Where the matches lie that are not empty.
    ///
    /// # Errors
    /// Where the search gives up, which RE2's expressions don't make it do.
    pub fn all(&self, text: &str) -> TractResult<Vec<Range<usize>>> {
        let mut found = vec![];
        let mut cache = self.caches.get();
        let mut from = 0;
        while let Some(begin) = self.begins.search(&Input::new(text).range(from..)).map(|found| found.start()) {
            let input = Input::new(text).range(begin..).anchored(Anchored::Yes);
            let end =
                self.ends.try_search_fwd(&mut cache, &input).map_err(|error| format_err!("searching: {error}"))?;
            let end = end.map_or(begin, |half| half.offset());
            if end > begin {
                found.push(begin..end);
                from = end;
            } else {
                let Some(next) = text.get(begin..).and_then(|rest| rest.chars().next()) else { break };
                from = begin + next.len_utf8();
            }
        }
        Ok(found)
    }
}

fn regex(rewritten: &str, shown: &str) -> TractResult<Regex> {
    Regex::builder()
        .configure(
            Regex::config()
                .nfa_size_limit(Some(MAX_COMPILED_BYTES))
                .onepass_size_limit(Some(MAX_COMPILED_BYTES))
                .hybrid_cache_capacity(MAX_CACHE_BYTES),
        )
        .syntax(syntax::Config::new().nest_limit(MAX_NESTING))
        .build(rewritten)
        .map_err(|error| format_err!("'{shown}' is no expression that can be searched for: {error}"))
}

/// The expression in this crate's syntax.
fn translated(expression: &str) -> TractResult<String> {
    let mut rewritten = String::with_capacity(expression.len());
    let mut chars = expression.chars().peekable();
    let mut in_class = false;
    // A `]` that comes first in a class stands for itself.
    let mut at_class_start = false;
    while let Some(char) = chars.next() {
        let first = std::mem::take(&mut at_class_start);
        match char {
            '\\' => rewritten.push_str(&escape(chars.next(), in_class)?),
            '[' if in_class && chars.peek() == Some(&':') => {
                rewritten.push('[');
                for inner in chars.by_ref() {
                    rewritten.push(inner);
                    if inner == ']' {
                        break;
                    }
                }
            }
            '[' if in_class => rewritten.push_str(r"\["),
            '[' => {
                in_class = true;
                at_class_start = true;
                rewritten.push('[');
                if chars.peek() == Some(&'^') {
                    rewritten.push('^');
                    chars.next();
                }
            }
            ']' if in_class && first => rewritten.push_str(r"\]"),
            ']' => {
                in_class = false;
                rewritten.push(']');
            }
            // Two of these within a class would be an operation on sets.
            '&' | '~' if in_class => rewritten.extend(['\\', char]),
            '-' if in_class && chars.peek() == Some(&'-') => rewritten.push_str(r"\-"),
            char => rewritten.push(char),
        }
    }
    Ok(rewritten)
}

/// An escape: RE2's classes know ASCII alone.
fn escape(escaped: Option<char>, in_class: bool) -> TractResult<String> {
    Ok(match escaped {
        Some('w') => "[0-9A-Za-z_]".into(),
        Some('W') => "[^0-9A-Za-z_]".into(),
        Some('d') => "[0-9]".into(),
        Some('D') => "[^0-9]".into(),
        Some('s') => r"[\t\n\f\r ]".into(),
        Some('S') => r"[^\t\n\f\r ]".into(),
        Some('b') if !in_class => r"(?-u:\b)".into(),
        // It may lie within a character, which a text here can't be split at.
        Some('B') => bail!(r"the expression holds \B, which is not known here"),
        Some(other) => format!("\\{other}"),
        None => bail!("the expression ends in a backslash"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(expression: &str, text: &str) -> String {
        let found = LongestMatches::new(expression).unwrap().all(text).unwrap();
        found.into_iter().map(|range| &text[range]).collect::<Vec<_>>().join("|")
    }

    /// What ONNX Runtime 1.31.1's Tokenizer gives for the same.
    #[test]
    fn the_longest_of_the_leftmost_matches_is_found() {
        assert_eq!(found("a|ab", "ab abc"), "ab|ab");
        assert_eq!(found("a+?b*?", "ab abc"), "ab|ab");
        assert_eq!(found("a*", "a b a"), "a|a");
        assert_eq!(found(".", "hé a"), "h|é| |a");
    }

    #[test]
    fn classes_of_characters_are_of_ascii() {
        assert_eq!(found(r"\w+", "héé ab"), "h|ab");
        assert_eq!(found(r"\b\w\w+\b", "héé ab"), "ab");
        assert_eq!(found(r"[\w-]+", "a-b é"), "a-b");
        assert_eq!(found(r"[^\s]+", "é\u{a0}b c"), "é\u{a0}b|c");
    }

    #[test]
    fn a_bracket_within_a_class_stands_for_itself() {
        assert_eq!(found(r"[[a]+", "[a] b"), "[a");
        assert_eq!(found(r"[]a]+", "[a] b"), "a]");
        assert_eq!(found(r"[[:alpha:]&&b]+", "x&1b"), "x&|b");
    }

    #[test]
    fn the_whole_text_must_match() {
        let matches = |expression: &str, text: &str| WholeMatch::new(expression).unwrap().matches(text);
        assert!(matches("a|ab", "ab") && matches(r"\p{L}", "é") && matches(".", "é") && matches("", ""));
        assert!(!matches("a$", "a\n") && !matches(r"\w", "é") && !matches("a|b", "ab"));
    }

    #[test]
    fn what_is_no_expression_or_is_too_large_is_refused() {
        let nested = format!("{}a{}", "(".repeat(5_000), ")".repeat(5_000));
        for expression in ["[", "a)(b", r"a\", r"(?<=a)b", "((a{1000}){1000}){1000}", r"\Ba", &nested] {
            assert!(WholeMatch::new(expression).is_err(), "{expression}");
            assert!(LongestMatches::new(expression).is_err(), "{expression}");
        }
    }
}
