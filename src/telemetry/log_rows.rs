//! The Prometheus text of the prediction log: what became of each model's rows, and what waits to be written.

use std::fmt::Write;

use super::exposition::{escape, header};

const ROWS: &str = "headgate_log_rows_total";
const TRUNCATED: &str = "headgate_log_truncated_rows_total";
const REFUSED: &str = "headgate_log_unwritten_requests_total";
const RING_BYTES: &str = "headgate_log_ring_bytes";

/// What `/metrics` says of one model's rows. The counts are the process's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogRowsReading {
    pub model: String,
    pub written: u64,
    pub sampled_out: u64,
    pub dropped_ring: u64,
    pub dropped_disk: u64,
    pub truncated: u64,
    pub refused: u64,
}

/// Appends the families; nothing without a log. `ring_bytes`: of tensors that wait for the writer.
pub fn write(out: &mut String, ring_bytes: Option<usize>, models: &[LogRowsReading]) {
    let Some(ring_bytes) = ring_bytes else { return };
    header(out, ROWS, "Rows of predictions by what became of them", "counter");
    for model in models {
        for (outcome, count) in [
            ("written", model.written),
            ("sampled_out", model.sampled_out),
            ("dropped_ring", model.dropped_ring),
            ("dropped_disk", model.dropped_disk),
        ] {
            line(out, ROWS, &model.model, &format!(",outcome=\"{outcome}\""), count);
        }
    }
    header(out, TRUNCATED, "Rows that were written without tensors that were too large", "counter");
    models.iter().for_each(|model| line(out, TRUNCATED, &model.model, "", model.truncated));
    header(out, REFUSED, "Requests that were refused, expired or left, and are not written", "counter");
    models.iter().for_each(|model| line(out, REFUSED, &model.model, "", model.refused));
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
        write(&mut text, None, &[]);
        assert_eq!(text, "", "no log, no series");
        let model = LogRowsReading { model: "a\"b".into(), written: 7, dropped_disk: 2, ..LogRowsReading::default() };
        write(&mut text, Some(64), &[model]);
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
