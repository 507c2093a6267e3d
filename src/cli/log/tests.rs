//! The commands from their arguments to their output and exit status, on logs in temporary folders.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Metadata, Schema};
use axum::Router;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::cli::tests::{Outcome, headgate, serve};
use crate::prediction_log::known::Known;
use crate::prediction_log::read::tests::fixture::*;
use crate::prediction_log::table::Table;

mod damaged;

/// Rows 0 to 9 sealed, 10 to 11 in a segment; feedback on rows 0 to 4, that on row 1 twice.
fn log() -> tempfile::TempDir {
    let log = tempfile::tempdir().unwrap();
    let rows = |from: u32, to: u32| predictions(&(from..to).map(row).collect::<Vec<_>>());
    seal(log.path(), Table::Predictions, &format!("{SEVEN}/1000-1.parquet"), &[rows(0, 5), rows(5, 10)], &[]);
    segment(log.path(), Table::Predictions, "1000-2", &[rows(10, 12)]);
    let mut told: Vec<Told> = (0..5).map(|n| told(n, row(n).id, f64::from(n))).collect();
    told.push(Told { id: "f".repeat(32), received_us: SEVEN_US + HOUR_US, number: Some(9.0), ..told[1].clone() });
    seal(log.path(), Table::Feedback, "model=iris/date=2026-03-01/1000-3.parquet", &[feedback(&told)], &[]);
    log
}

fn run(log: &Path, args: &[&str]) -> Outcome {
    headgate(&[&["log", args[0], "--data-dir", log.to_str().unwrap()], &args[1..]].concat())
}

fn json(log: &Path, args: &[&str]) -> Value {
    let (status, out, fault) = run(log, &[args, &["--json"]].concat());
    assert_eq!((status, fault.as_str()), (0, ""));
    serde_json::from_str(&out).unwrap()
}

#[test]
fn tail_shows_the_newest_rows_last() {
    let log = log();
    let (status, out, _) = run(log.path(), &["tail", "-n", "3"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((status, lines.len()), (0, 4), "{out}");
    assert!(lines[0].starts_with("TIME") && lines[3].contains(&row(11).id.to_string()), "{out}");
    assert!(lines[3].contains("label=odd score=0.11"), "{out}");
    let seqs: Vec<Value> = json(log.path(), &["tail", "-n", "4"])["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["seq"].clone())
        .collect();
    assert_eq!(seqs, [8, 9, 10, 11].map(Value::from));
}

#[test]
fn following_shows_each_row_once() {
    let log = log();
    let scan = crate::prediction_log::read::Scan::all(log.path(), Table::Predictions);
    let mut follow = super::tail::Follow::new(scan);
    let mut seqs =
        || -> Vec<u64> { follow.look(1000).unwrap().iter().map(|row| row["seq"].as_u64().unwrap()).collect() };
    assert_eq!(seqs(), (0..12).collect::<Vec<u64>>());
    assert!(seqs().is_empty());
    segment(log.path(), Table::Predictions, "1000-4", &[predictions(&[row(12), row(13)])]);
    assert_eq!(seqs(), [12, 13]);
    // Sealed, they are not shown again.
    seal(log.path(), Table::Predictions, &format!("{SEVEN}/1000-4.parquet"), &[predictions(&[row(12), row(13)])], &[]);
    assert!(seqs().is_empty());
}

#[test]
fn show_gives_a_row_in_full_with_its_feedback() {
    let log = log();
    let id = row(1).id.to_string();
    let shown = json(log.path(), &["show", &id]);
    assert_eq!((&shown["prediction"]["seq"], &shown["prediction"]["in_x"]), (&json!(1), &json!([1.0, 0.5, -1.0, 2.0])));
    let numbers: Vec<&Value> = shown["feedback"].as_array().unwrap().iter().map(|told| &told["value_number"]).collect();
    assert_eq!(numbers, [&json!(1.0), &json!(9.0)]);
    let (_, out, _) = run(log.path(), &["show", &id]);
    assert!(out.contains("in_width") && out.contains("feedback ffff"), "{out}");
    let (status, _, fault) = run(log.path(), &["show", &row(99).id.to_string()]);
    assert!(status == 3 && fault.contains("is not in the log") && fault.contains("half a sync interval"), "{fault}");
    assert_eq!(run(log.path(), &["show", "nonsense"]).0, 2);
}

#[test]
fn query_filters_and_adds_up() {
    let log = log();
    let answer = json(log.path(), &["query", "--where", "seq >= 4", "--by", "out_label", "--select", "count,max(seq)"]);
    let expected = json!([
        {"out_label": "even", "count": 4, "max(seq)": 10},
        {"out_label": "odd", "count": 4, "max(seq)": 11},
    ]);
    assert_eq!(answer["rows"], expected);
    let (_, out, _) = run(log.path(), &["query", "--since", "2026-03-01T07:00:10Z", "--limit", "1"]);
    assert!(out.contains(&row(10).id.to_string()) && out.contains("and more"), "{out}");
    let (status, _, fault) = run(log.path(), &["query", "--where", "out_scor > 1"]);
    assert!(status == 1 && fault.contains("did you mean 'out_score'"), "{fault}");
    assert_eq!(run(log.path(), &["query", "--where", "nonsense"]).0, 2);
}

#[test]
fn stats_count_rows_files_and_gaps() {
    let log = log();
    segment(log.path(), Table::Predictions, "1000-5", &[predictions(&[row(20)])]);
    let stats = json(log.path(), &["stats"]);
    assert_eq!(stats["predictions"][0]["count"], 13);
    assert_eq!((&stats["feedback"][0]["name"], &stats["feedback"][0]["count"]), (&json!("y"), &json!(6)));
    assert_eq!(stats["incarnations"][0]["missing"], 8);
    assert_eq!(
        (&stats["files"]["predictions"]["sealed"], &stats["files"]["predictions"]["segments"]),
        (&json!(1), &json!(2))
    );
    let (_, out, _) = run(log.path(), &["stats"]);
    assert!(out.contains("predictions: 1 sealed files, 2 segments"), "{out}");
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(json(empty.path(), &["stats"])["predictions"], json!([]));
}

#[test]
fn verify_finds_what_is_wrong() {
    let log = log();
    let (status, out, fault) = run(log.path(), &["verify"]);
    assert_eq!((status, fault.as_str()), (0, ""), "{out}");
    assert!(out.contains("12 predictions and 6 pieces of feedback in 2 sealed files and 1 segments"), "{out}");
    assert!(out.contains("incarnation 1000: 12 rows, 0 to 11, 0 missing"), "{out}");
    // A row twice, a file that says another count, one that is no Parquet, and a torn segment.
    let wrong = [("headgate.rows", "7")];
    seal(log.path(), Table::Predictions, &format!("{SEVEN}/1000-6.parquet"), &[predictions(&[row(3)])], &wrong);
    std::fs::write(log.path().join("predictions").join(SEVEN).join("1000-7.parquet"), "no").unwrap();
    let torn = log.path().join("wal/predictions/1000-2.arrows");
    let whole = std::fs::read(&torn).unwrap();
    std::fs::write(&torn, [&whole[..], &[0xff; 5]].concat()).unwrap();
    let (status, out, fault) = run(log.path(), &["verify"]);
    assert!(status == 1 && fault.contains("4 faults"), "{out}{fault}");
    for expected in [
        "1 rows have the prediction id of another",
        "1 rows of incarnation 1000 have the number of another",
        "headgate.rows 7, and its rows 1",
        "1000-7.parquet can't be read",
        "1000-2.arrows: 5 bytes after the last whole batch",
    ] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
}

#[test]
fn export_writes_a_training_set_and_says_its_name() {
    let log = log();
    let file = log.path().join("train.parquet");
    let output = ["--output", file.to_str().unwrap()];
    let (status, out, fault) = run(log.path(), &[&["export", "--model", "iris", "--label", "y"], &output[..]].concat());
    assert_eq!((status, fault.as_str()), (0, ""));
    assert!(
        out.contains("5 rows of 12 predictions; left out: unlabelled 7") && out.contains("dataset sha256:"),
        "{out}"
    );
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(log.path().join("train.manifest.json")).unwrap()).unwrap();
    assert!(out.contains(manifest["dataset"].as_str().unwrap()));
    let (status, _, fault) = run(log.path(), &[&["export", "--model", "irs", "--label", "y"], &output[..]].concat());
    assert!(status == 3 && fault.contains("there are those of iris"), "{fault}");
    assert_eq!(run(log.path(), &[&["export", "--label", "y"], &output[..]].concat()).0, 2);
}

#[test]
fn an_export_beside_a_server_is_as_of_a_moment_that_is_known() {
    let log = log();
    let file = log.path().join("train.parquet");
    let year = |args: &[&str]| {
        let base = ["export", "--model", "iris", "--label", "y", "--output", file.to_str().unwrap()];
        let manifest = json(log.path(), &[&base[..], args].concat());
        manifest["query"]["as_of"].as_str().unwrap()[..4].to_owned()
    };
    let later = ["--as-of", "2200-01-01"];
    assert_eq!(year(&later), "2200");
    let known = Known::begin(log.path(), Table::Feedback, i64::MAX);
    assert_eq!((year(&later), year(&["--as-of", "2026-03-02"])), (year(&[]), "2026".to_owned()));
    drop(known);
    assert_eq!(year(&later), "2200");
}

#[test]
fn export_makes_negatives_of_what_was_not_clicked_if_it_is_told_how() {
    let log = log();
    let file = log.path().join("train.parquet");
    let clicks = |more: &[&str]| {
        let args = ["export", "--model", "iris", "--label", "y", "--output", file.to_str().unwrap()];
        run(log.path(), &[&args[..], more].concat())
    };
    let (status, out, fault) = clicks(&["--negative-after", "30m"]);
    assert_eq!((status, fault.as_str()), (0, ""));
    assert!(out.starts_with("12 rows of 12 predictions, 7 of them implicit negatives\n"), "{out}");
    let (status, _, fault) = clicks(&["--negative-after", "30m", "--exposure", "shown"]);
    assert!(status == 1 && fault.contains("no prediction has feedback 'shown': there is y"), "{fault}");
    let refused =
        [&["--exposure", "assumed"][..], &["--negative-after", "0s"], &["--negative-after", "1s", "--exposure", "y"]];
    for args in refused {
        assert_eq!(clicks(args).0, 2, "{args:?}");
    }
}

#[test]
fn compact_merges_the_files_of_a_day_and_no_row_is_lost() {
    let log = tempfile::tempdir().unwrap();
    for (n, hour) in [(0, "hour=07"), (1, "hour=07"), (2, "hour=09")] {
        let opened = (SEVEN_US + i64::from(n) * HOUR_US).to_string();
        let late = Row { ts_us: SEVEN_US + i64::from(n) * HOUR_US, ..row(n) };
        let file = format!("{}/1000-{n}.parquet", SEVEN.replace("hour=07", hour));
        seal(log.path(), Table::Predictions, &file, &[predictions(&[late])], &[("headgate.opened_us", &opened)]);
    }
    let (status, out, fault) = run(log.path(), &["compact"]);
    assert_eq!((status, fault.as_str()), (0, ""));
    assert!(out.contains("3 files of") && out.contains("became 1 files"), "{out}");
    let stats = json(log.path(), &["stats"]);
    assert_eq!((&stats["predictions"][0]["count"], &stats["files"]["predictions"]["sealed"]), (&json!(3), &json!(1)));
    let early = json(log.path(), &["query", "--until", "2026-03-01T07:30:00Z", "--select", "seq"]);
    assert_eq!(early["rows"], json!([{"seq": 0}]));
    assert_eq!(run(log.path(), &["verify"]).0, 0);
}

#[test]
fn a_directory_that_is_not_there_is_not_found() {
    let (status, _, fault) = run(Path::new("no-such-directory"), &["tail"]);
    assert_eq!((status, fault.as_str()), (3, "there is no directory no-such-directory"));
}

/// An admin listener that names a directory, or none.
fn admin(directory: Option<&Path>) -> String {
    let stats = json!({"directory": directory, "incarnation": 1000, "models": {}, "writer": null}).to_string();
    format!("http://{}", serve(Router::new().route("/admin/v1/log/stats", get(move || async { stats }))))
}

#[test]
fn without_a_directory_the_server_says_where_its_log_lies() {
    let log = log();
    let (status, out, _) = headgate(&["log", "tail", "--admin", &admin(Some(log.path()))]);
    assert!(status == 0 && out.lines().count() == 11, "{out}");
    let (status, _, fault) = headgate(&["log", "tail", "--admin", &admin(None)]);
    assert!(status == 3 && fault.contains("no --data-dir"), "{fault}");
    // More rows are missing than the server dropped.
    segment(log.path(), Table::Predictions, "1000-5", &[predictions(&[row(20)])]);
    let (status, out, _) = headgate(&["log", "verify", "--admin", &admin(Some(log.path()))]);
    assert!(status == 1 && out.contains("8 rows of incarnation 1000 are missing, and the server dropped 0"), "{out}");
}

/// Rows whose schema says how `in_x` and `out_score` are parts of tensors, as a version's rows do.
fn replayable(rows: &[Row]) -> RecordBatch {
    let batch = predictions(rows);
    let schema = batch.schema();
    let fields = schema.fields().iter().map(|field| field.as_ref().clone()).map(|field| {
        let note = |tensor: &str, side: &str, shape: &str| {
            Metadata::from([
                ("headgate.tensor", tensor),
                ("headgate.side", side),
                ("headgate.datatype", "FP32"),
                ("headgate.cut", "0"),
                ("headgate.row_shape", shape),
            ])
        };
        match field.name().as_str() {
            "in_x" => field.with_metadata(note("x", "in", "[4]")),
            "out_score" => field.with_metadata(note("score", "out", "[1]")),
            _ => field,
        }
    });
    let schema = Schema::new(fields.collect::<Vec<Field>>());
    RecordBatch::try_new(Arc::new(schema), batch.columns().to_vec()).unwrap()
}

/// A data port whose model answers a hundredth of the first element, plus `off` in version 2.
fn model(off: f32) -> String {
    let metadata = json!({"name": "iris", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]}).to_string();
    let infer = move |off: f32| {
        move |headers: HeaderMap, body: axum::body::Bytes| async move {
            let length: usize = headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
            let first = f32::from_le_bytes(body[length..length + 4].try_into().unwrap());
            let output = json!({"name": "score", "datatype": "FP32", "shape": [1, 1],
                "parameters": {"binary_data_size": 4}});
            let text = json!({"model_name": "iris", "model_version": "1", "outputs": [output]}).to_string();
            let length = [("inference-header-content-length", text.len().to_string())];
            (length, [text.as_bytes(), &(first / 100.0 + off).to_le_bytes()].concat())
        }
    };
    let other = metadata.clone();
    let router = Router::new()
        .route("/v2/models/iris/versions/1", get(|| async { metadata }))
        .route("/v2/models/iris/versions/2", get(|| async { other }))
        .route("/v2/models/iris/versions/1/infer", post(infer(0.0)))
        .route("/v2/models/iris/versions/2/infer", post(infer(off)));
    format!("http://{}", serve(router))
}

#[test]
fn replay_compares_what_a_version_says_now() {
    let log = tempfile::tempdir().unwrap();
    let rows = [row(5), row(6), Row { error: Some("no"), ..row(7) }];
    seal(log.path(), Table::Predictions, &format!("{SEVEN}/1000-1.parquet"), &[replayable(&rows)], &[]);
    let url = model(0.5);
    let id = row(5).id.to_string();
    let (status, out, fault) = run(log.path(), &["replay", &id, "--url", &url]);
    assert_eq!((status, fault.as_str()), (0, ""));
    assert!(out.contains(&format!("{id}  iris 1 -> 1  same")), "{out}");
    let (status, out, fault) = run(log.path(), &["replay", &id, "--version", "2", "--url", &url]);
    assert!(status == 1 && fault == "1 of 1 predictions differ", "{fault}");
    assert!(out.contains("out_score[0]  logged 0.05  now 0.55"), "{out}");
    assert_eq!(run(log.path(), &["replay", &id, "--version", "2", "--atol", "1", "--url", &url]).0, 0);
    let (status, out, _) = run(log.path(), &["replay", "--last", "3", "--url", &url]);
    assert!(status == 0 && out.contains("refused: the model failed then"), "{out}");
    let (status, _, fault) = run(log.path(), &["replay", &row(7).id.to_string(), "--url", &url]);
    assert!(status == 1 && fault.contains("no prediction could be sent again"), "{fault}");
    assert_eq!(run(log.path(), &["replay", &id, "--version", "9", "--url", &url]).0, 3);
    assert_eq!(run(log.path(), &["replay", "--url", &url]).0, 2);
}
