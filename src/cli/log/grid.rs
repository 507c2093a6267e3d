//! Answers for people.

use serde_json::Value;

use crate::cli::table::aligned;
use crate::prediction_log::query::{Answer, text};

/// Longest cell of a table, in characters; `--json` has all of it.
const MAX_CELL_CHARS: usize = 60;

/// A table of an answer's rows.
pub fn table(answer: &Answer) -> String {
    let rows = answer.rows.iter().map(|row| row.iter().map(cell).collect());
    let rows: Vec<Vec<String>> = std::iter::once(answer.columns.clone()).chain(rows).collect();
    aligned(&rows)
}

/// A cell that keeps its row on one line.
pub fn cell(value: &Value) -> String {
    let text = text(value).replace(char::is_control, " ");
    if text.chars().count() <= MAX_CELL_CHARS {
        return text;
    }
    text.chars().take(MAX_CELL_CHARS - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stay_short_and_on_their_line() {
        let rows = vec![vec!["a".into(), Value::Null], vec![Value::from("x\ny"), "é".repeat(100).into()]];
        let answer = Answer { columns: vec!["one".into(), "two".into()], rows, is_cut: false };
        let long = format!("{}…", "é".repeat(59));
        assert_eq!(table(&answer), format!("one  two\na    -\nx y  {long}\n"));
    }
}
