//! Aligned columns for people, as many as there are.

use std::fmt::Write;

use serde_json::Value;

use crate::prediction_log::query::{Answer, text};

/// Longest cell of a table, in characters; `--json` has all of it.
const MAX_CELL_CHARS: usize = 60;

/// A table of an answer's rows, two spaces apart. Its header is in capitals where it is no column of the log.
pub fn table(answer: &Answer) -> String {
    let rows = answer.rows.iter().map(|row| row.iter().map(cell).collect());
    lines(&answer.columns, rows.collect())
}

/// A table of texts.
pub fn lines(header: &[String], rows: Vec<Vec<String>>) -> String {
    let mut widths: Vec<usize> = header.iter().map(|name| name.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for row in std::iter::once(header).chain(rows.iter().map(Vec::as_slice)) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        // A text can be written to without fail.
        let _ = writeln!(out, "{}", cells.join("  ").trim_end());
    }
    out
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
