//! The Prometheus text of the prediction log: what became of each model's rows, and what waits to be written.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::exposition::{escape, header};

const ROWS: &str = "headgate_log_rows_total";
const TRUNCATED: &str = "headgate_log_truncated_rows_total";
const REFUSED: &str = "headgate_log_unwritten_requests_total";
const RING_BYTES: &str = "headgate_log_ring_bytes";

/// What became of one model's rows since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCounts {
    pub written: u64,
    pub sampled_out: u64,
    /// There was no room in memory.
    pub dropped_ring: u64,
    /// The disk did not take them, or has too little room left.
    pub dropped_disk: u64,
    /// Written without tensors that were too large.
    pub truncated: u64,
    /// Requests that were refused, expired or left by their client: counted and never written.
    pub refused: u64,
}

/// Appends the families; nothing without a log. `ring_bytes`: of tensors that wait for the writer.
pub fn write(out: &mut String, ring_bytes: Option<usize>, models: &BTreeMap<String, LogCounts>) {
    let Some(ring_bytes) = ring_bytes else { return };
    header(out, ROWS, "Rows of predictions by what became of them", "counter");
    for (model, counts) in models {
        for (outcome, count) in [
            ("written", counts.written),
            ("sampled_out", counts.sampled_out),
            ("dropped_ring", counts.dropped_ring),
            ("dropped_disk", counts.dropped_disk),
        ] {
            line(out, ROWS, model, &format!(",outcome=\"{outcome}\""), count);
        }
    }
    header(out, TRUNCATED, "Rows that were written without tensors that were too large", "counter");
    models.iter().for_each(|(model, counts)| line(out, TRUNCATED, model, "", counts.truncated));
    header(out, REFUSED, "Requests that were refused, expired or left, and are not written", "counter");
    models.iter().for_each(|(model, counts)| line(out, REFUSED, model, "", counts.refused));
    header(out, RING_BYTES, "Bytes of tensors that wait for the log's writer", "gauge");
    // Writing into a String can't fail.
    let _ = writeln!(out, "{RING_BYTES} {ring_bytes}");
}

fn line(out: &mut String, name: &str, model: &str, more: &str, count: u64) {
    let _ = writeln!(out, "{name}{{model=\"{}\"{more}}} {count}", escape(model));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_models_rows_are_told_by_what_became_of_them() {
        let mut text = String::new();
        write(&mut text, None, &BTreeMap::new());
        assert_eq!(text, "", "no log, no series");
        let counts = LogCounts { written: 7, dropped_disk: 2, ..LogCounts::default() };
        write(&mut text, Some(64), &[("a\"b".to_owned(), counts)].into());
        for line in [
            r#"headgate_log_rows_total{model="a\"b",outcome="written"} 7"#,
            r#"headgate_log_rows_total{model="a\"b",outcome="dropped_disk"} 2"#,
            r#"headgate_log_truncated_rows_total{model="a\"b"} 0"#,
            "headgate_log_ring_bytes 64",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
