//! What the commands do about files that can't be read, and about models that are not there.

use super::*;

/// The log of the other tests, with a sealed file of rows 20 and 21 that is damaged in one column.
fn worn(column: &str) -> tempfile::TempDir {
    let log = log();
    let rows = predictions(&[row(20), row(21)]);
    damage(&seal(log.path(), Table::Predictions, &format!("{SEVEN}/1000-8.parquet"), &[rows], &[]), column);
    log
}

#[test]
fn readers_give_the_rest_and_end_with_a_status_of_their_own() {
    let log = worn("seq");
    let first = row(1).id.to_string();
    for (args, expected) in [
        (&["tail"][..], row(11).id.to_string()),
        (&["query", "--select", "count,max(seq)"], "12     11".to_owned()),
        (&["stats"], "iris        1              ok      12".to_owned()),
        (&["show", &first], first.clone()),
    ] {
        let (status, out, fault) = run(log.path(), args);
        assert!(out.contains(&expected), "{args:?}: {out}");
        if args[0] != "show" {
            assert_eq!(status, 5, "{args:?}: {fault}");
            assert!(fault.contains("all rows of 1 file are left out") && fault.contains("1000-8.parquet"), "{fault}");
        }
    }
    // With --json as well: what is printed is whole, and the status says what it lacks.
    let (status, out, _) = run(log.path(), &["query", "--select", "count,max(seq)", "--json"]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &answer["rows"][0]["count"]), (5, &json!(12)));
}

#[test]
fn what_is_not_found_may_lie_where_it_cannot_be_read() {
    let log = worn("seq");
    std::fs::write(log.path().join("predictions").join(SEVEN).join("1000-9.parquet"), "no").unwrap();
    let (status, _, fault) = run(log.path(), &["show", &row(99).id.to_string()]);
    assert_eq!(status, 5, "{fault}");
    assert!(fault.contains("is not in the log") && fault.contains("1000-9.parquet can't be read"), "{fault}");
}

#[test]
fn replay_sends_what_can_be_read() {
    let log = tempfile::tempdir().unwrap();
    seal(log.path(), Table::Predictions, &format!("{SEVEN}/1000-1.parquet"), &[replayable(&[row(5)])], &[]);
    std::fs::write(log.path().join("predictions").join(SEVEN).join("1000-9.parquet"), "no").unwrap();
    let (status, out, fault) = run(log.path(), &["replay", "--last", "3", "--url", &model(0.5)]);
    assert!(status == 5 && out.contains("same") && fault.contains("1000-9.parquet"), "{out}{fault}");
}

#[test]
fn export_refuses_or_leaves_the_file_out_by_request() {
    let log = worn("status");
    let file = log.path().join("train.parquet");
    let args = ["export", "--model", "iris", "--label", "y", "--output", file.to_str().unwrap()];
    let (status, _, fault) = run(log.path(), &args);
    assert!(status == 1 && fault.contains("1000-8.parquet") && fault.contains("--skip-damaged"), "{fault}");
    assert!(!file.exists());
    let (status, out, fault) = run(log.path(), &[&args[..], &["--skip-damaged"]].concat());
    assert_eq!((status, fault.as_str()), (0, ""));
    assert!(out.contains("5 rows of 12 predictions") && out.contains("without the rows of predictions/"), "{out}");
}

#[test]
fn export_says_why_there_are_no_rows() {
    let log = log();
    let file = log.path().join("train.parquet");
    let args = ["export", "--model", "iris", "--label", "y", "--output", file.to_str().unwrap()];
    let young = ["--as-of", "2026-03-02", "--mature", "7d"];
    let (status, out, _) = run(log.path(), &[&args[..], &young].concat());
    assert!(status == 0 && out.contains("0 rows of 12 predictions; left out: too_young 12"), "{out}");
}

#[test]
fn a_model_that_has_no_predictions_is_not_found() {
    let log = log();
    for args in [&["query"][..], &["tail"], &["replay", "--last", "1"]] {
        let (status, out, fault) = run(log.path(), &[args, &["--model", "irs"]].concat());
        assert_eq!((status, out.as_str()), (3, ""), "{args:?}");
        assert!(fault.contains("model 'irs'") && fault.contains("there are those of iris"), "{fault}");
    }
}
