//! Questions to a log of two files and a segment, with answers worked out by hand.

use arrow::array::RecordBatch;
use serde_json::json;

use super::*;
use crate::prediction_log::read::tests::fixture::*;
use crate::prediction_log::table::Table;

/// Rows 0 to 9 of version 1, 10 to 13 of version 2, whose `out_score` is not there.
fn log() -> tempfile::TempDir {
    let log = tempfile::tempdir().unwrap();
    let rows = |from: u32, to: u32| predictions(&(from..to).map(row).collect::<Vec<_>>());
    seal(log.path(), Table::Predictions, &format!("{SEVEN}/1000-1.parquet"), &[rows(0, 6)], &[]);
    segment(log.path(), Table::Predictions, "1000-2", &[rows(6, 10)]);
    let second: Vec<Row> = (10..14).map(|n| Row { version: 2, ..row(n) }).collect();
    let second = predictions(&second);
    let narrow: Vec<usize> = (0..second.num_columns() - 1).collect();
    let second: RecordBatch = second.project(&narrow).unwrap();
    let folder = SEVEN.replace("version=1", "version=2");
    seal(log.path(), Table::Predictions, &format!("{folder}/1000-3.parquet"), &[second], &[("headgate.version", "2")]);
    log
}

fn ask(log: &tempfile::TempDir, conditions: &[&str], by: &[&str], select: &[&str]) -> Result<Answer, QueryError> {
    let query = Query {
        scan: Scan::all(log.path(), Table::Predictions),
        conditions: conditions.iter().map(|text| text.parse().unwrap()).collect(),
        by: by.iter().map(|name| (*name).to_owned()).collect(),
        select: select.iter().map(|text| text.parse().unwrap()).collect(),
        limit: 100,
    };
    query.run()
}

#[test]
fn rows_add_up_by_the_values_of_columns() {
    let log = log();
    let answer = ask(&log, &[], &["model_version"], &["count", "avg(out_score)", "min(in_width)", "max(ts)"]).unwrap();
    assert_eq!(answer.columns, ["model_version", "count", "avg(out_score)", "min(in_width)", "max(ts)"]);
    let rows: Vec<Value> = answer.rows.into_iter().map(Value::from).collect();
    let mean: f64 = (0..10).map(|n| f64::from(n as f32 / 100.0)).sum::<f64>() / 10.0;
    assert_eq!(rows[0][2].as_f64().map(|found| (found - mean).abs() < 1e-12), Some(true), "{rows:?}");
    assert_eq!((&rows[0][0], &rows[0][1], &rows[0][3]), (&json!(1), &json!(10), &json!(0.0)));
    assert_eq!(rows[1], json!([2, 4, null, 5.0, "2026-03-01T07:00:13.000000Z"]));
}

#[test]
fn groups_come_in_the_order_of_their_values_and_sums_are_exact() {
    let log = log();
    let answer = ask(&log, &["seq != 13"], &["out_label", "model_version"], &["sum(seq)", "count(error)"]).unwrap();
    let rows: Vec<Value> = answer.rows.into_iter().map(Value::from).collect();
    assert_eq!(
        rows,
        [json!(["even", 1, 20, 0]), json!(["even", 2, 22, 0]), json!(["odd", 1, 25, 0]), json!(["odd", 2, 11, 0]),]
    );
    let none = ask(&log, &["seq > 100"], &[], &["count", "sum(seq)", "avg(seq)"]).unwrap();
    assert_eq!(none.rows, [vec![json!(0), Value::Null, Value::Null]]);
    assert_eq!(ask(&log, &[], &["arm"], &[]).unwrap().rows, [vec![json!("stable"), json!(14)]]);
}

#[test]
fn rows_are_shown_as_they_are() {
    let log = log();
    let answer = ask(&log, &["seq >= 5", "seq <= 10"], &[], &["seq", "out_score"]).unwrap();
    let rows: Vec<Value> = answer.rows.into_iter().map(Value::from).collect();
    assert_eq!(
        rows,
        [json!([5, 0.05]), json!([10, null]), json!([6, 0.06]), json!([7, 0.07]), json!([8, 0.08]), json!([9, 0.09]),]
    );
    let cut = Query { limit: 2, ..query_of(&log, "seq >= 0") };
    let answer = cut.run().unwrap();
    assert_eq!((answer.rows.len(), answer.is_cut, answer.columns.len()), (2, true, 32));
}

fn query_of(log: &tempfile::TempDir, condition: &str) -> Query {
    let scan = Scan::all(log.path(), Table::Predictions);
    Query { scan, conditions: vec![condition.parse().unwrap()], by: vec![], select: vec![], limit: 100 }
}

#[test]
fn a_column_that_no_file_has_is_refused_with_the_nearest() {
    let log = log();
    for (conditions, by, select) in [
        (vec!["out_scor > 1"], vec![], vec![]),
        (vec![], vec!["out_scor"], vec![]),
        (vec![], vec![], vec!["avg(out_scor)"]),
    ] {
        let fault = ask(&log, &conditions, &by, &select).unwrap_err().to_string();
        assert!(fault.contains("'out_scor', did you mean 'out_score'?"), "{fault}");
    }
    // One that only some have is null in the others.
    assert_eq!(ask(&log, &["out_score is null"], &[], &["count"]).unwrap().rows, [vec![json!(4)]]);
}

#[test]
fn what_cannot_be_added_up_is_refused() {
    let log = log();
    for (by, select, expected) in [
        (vec![], "sum(out_label)", "sum(out_label) needs numbers, and the column holds Utf8"),
        (vec!["in_x"], "count", "'in_x' holds lists"),
        (vec![], "avg(ts)", "needs numbers"),
    ] {
        let fault = ask(&log, &[], &by, &[select]).unwrap_err().to_string();
        assert!(fault.contains(expected), "{fault}");
    }
    assert!(ask(&log, &[], &[], &["seq", "count"]).unwrap_err().to_string().contains("put it into --by"));
}
