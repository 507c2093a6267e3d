//! Training sets from logs in temporary folders, read back from their files.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;
use crate::prediction_log::read::tests::fixture::*;

mod negatives;

const DAY_US: i64 = 24 * HOUR_US;

fn export(log: &tempfile::TempDir) -> Export {
    Export {
        data_dir: log.path().to_owned(),
        model: "iris".to_owned(),
        version: None,
        label: "y".to_owned(),
        since_us: None,
        until_us: None,
        as_of_us: SEVEN_US + DAY_US,
        mature_us: None,
        negatives: None,
        weights: Weights::Equal,
        label_type: None,
        left_out: None,
    }
}

fn log(rows: &[Row], told: &[Told]) -> tempfile::TempDir {
    let log = tempfile::tempdir().unwrap();
    seal(log.path(), Table::Predictions, &format!("{SEVEN}/1000-1.parquet"), &[predictions(rows)], &[]);
    segment(log.path(), Table::Feedback, "1000-2", &[feedback(told)]);
    log
}

/// The manifest, and (prediction, label, weight) of each row.
fn run(export: &Export) -> (Manifest, Vec<(String, String, f64)>) {
    let output = export.data_dir.join("train.parquet");
    let manifest = export.run(&output).unwrap();
    let rows = read(&output);
    let text = |name: &str, row: usize| {
        let column = rows.column_by_name(name).unwrap();
        arrow::util::display::array_value_to_string(column, row).unwrap()
    };
    let weight = rows.column_by_name("weight").unwrap().as_primitive::<Float64Type>();
    let of = |row: usize| (text("prediction_id", row), text("label", row), weight.value(row));
    (manifest, (0..rows.num_rows()).map(of).collect())
}

fn read(output: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(output).unwrap()).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

fn labels(rows: &[(String, String, f64)]) -> Vec<(&str, &str)> {
    rows.iter().map(|(id, label, _)| (id.as_str(), label.as_str())).collect()
}

#[test]
fn rows_with_a_label_are_exported_and_others_counted_by_reason() {
    let failed = Row { error: Some("no"), ..row(2) };
    let shadow = Row { arm: "shadow", ..row(3) };
    let (cut, dropped) = (Row { flags: 1, ..row(4) }, Row { flags: 16, ..row(5) });
    let rows = [row(0), row(1), failed, shadow, cut, dropped, row(6)];
    let told: Vec<Told> = [0, 2, 3, 4, 5, 6].map(|n| told(n, row(n).id, f64::from(n))).to_vec();
    let log = log(&rows, &told);
    let (manifest, found) = run(&export(&log));
    let ids = [row(0).id.to_string(), row(6).id.to_string()];
    assert_eq!(labels(&found), [(ids[0].as_str(), "0.0"), (ids[1].as_str(), "6.0")]);
    let left_out: Vec<(&str, u64)> = manifest.counts.left_out.iter().map(|(reason, count)| (*reason, *count)).collect();
    let expected = [("error", 1), ("payload_dropped", 1), ("shadow", 1), ("truncated", 1), ("unlabelled", 1)];
    assert_eq!(left_out, expected);
    assert_eq!((manifest.counts.predictions, manifest.counts.labelled, manifest.counts.exported), (7, 5, 2));
    let names: Vec<&str> = manifest.schema.iter().map(|column| column.name.as_str()).collect();
    let own = ["label", "weight", "prediction_id", "ts", "model_version"];
    assert_eq!(names, [&["in_width", "in_x"][..], &own, &["out_label", "out_score"]].concat());
    assert_eq!(manifest.files.len(), 1);
    assert_eq!(
        (manifest.files[0].path.as_str(), manifest.files[0].rows_used),
        (&*format!("predictions/{SEVEN}/1000-1.parquet"), 2)
    );
}

#[test]
fn labels_of_what_is_not_there_are_counted_once_for_each_row() {
    let failed = Row { error: Some("no"), ..row(2) };
    let gone = Told { prediction: None, request: Some(("gone".to_owned(), 0)), ..told(5, row(0).id, 1.0) };
    let twice = Told { received_us: SEVEN_US + 9 * SECOND_US, ..told(4, row(8).id, 2.0) };
    let told = [told(0, row(0).id, 1.0), told(2, failed.id, 1.0), told(3, row(8).id, 1.0), twice, gone];
    let log = log(&[row(0), row(1), failed], &told);
    let (manifest, found) = run(&export(&log));
    assert_eq!((found.len(), manifest.counts.labels_without_prediction), (1, 2));
    let later = Export { since_us: Some(SEVEN_US + 2 * SECOND_US), ..export(&log) };
    assert_eq!(run(&later).0.counts.labels_without_prediction, 3);
}

#[test]
fn the_latest_feedback_counts_and_a_repetition_is_no_revision() {
    let id = row(0).id;
    let first = told(1, id, 1.0);
    let revised = Told { weight: Some(3.0), ..told(2, id, 2.0) };
    let repeated = Told { received_us: SEVEN_US + 9 * SECOND_US, ..first.clone() };
    let other = Told { name: "z", received_us: SEVEN_US + 20 * SECOND_US, ..told(9, id, 9.0) };
    let mut told = [first, revised, repeated, other];
    for turn in 0..4 {
        told.rotate_left(turn);
        let log = log(&[row(0)], &told);
        assert_eq!(run(&export(&log)).1, [(id.to_string(), "2.0".to_owned(), 3.0)], "{told:?}");
        // Before the revision arrived.
        let earlier = Export { as_of_us: SEVEN_US + 2 * SECOND_US, ..export(&log) };
        assert_eq!(run(&earlier).1, [(id.to_string(), "1.0".to_owned(), 1.0)]);
    }
}

#[test]
fn feedback_may_name_the_request_and_the_row() {
    let by_request = |n: u32, request: &str, row: u32| Told {
        prediction: None,
        request: Some((request.to_owned(), row)),
        ..told(n, id_at(0, 0), f64::from(n))
    };
    let second = Row { request: "request-0".to_owned(), row: 1, ..row(1) };
    let twice = [Row { request: "same".to_owned(), ..row(2) }, Row { request: "same".to_owned(), ..row(3) }];
    let rows = [&[row(0), second][..], &twice].concat();
    let log = log(&rows, &[by_request(7, "request-0", 0), by_request(8, "request-0", 1), by_request(9, "same", 0)]);
    let (manifest, found) = run(&export(&log));
    let ids = [row(0).id.to_string(), row(1).id.to_string()];
    assert_eq!(labels(&found), [(ids[0].as_str(), "7.0"), (ids[1].as_str(), "8.0")]);
    assert_eq!(manifest.counts.left_out, [("ambiguous_request", 2)].into());
}

#[test]
fn feedback_on_a_request_told_before_its_name_came_again_is_on_the_first() {
    // Second 2 and second 10 have the same name; rows came half a millisecond before they ended.
    let rows = [2, 10].map(|n| Row { request: "same".to_owned(), ..row(n) });
    let told_at = |us: i64, rows: &[Row], mature_us: Option<i64>| {
        let by_request = Told {
            prediction: None,
            request: Some(("same".to_owned(), 0)),
            received_us: SEVEN_US + us,
            ..told(1, id_at(0, 0), 7.0)
        };
        let log = log(rows, &[by_request]);
        let (manifest, found) = run(&Export { mature_us, ..export(&log) });
        (found.into_iter().map(|row| row.0).collect::<Vec<_>>(), manifest.counts.left_out)
    };
    let came_again_us = 10 * SECOND_US - 500;
    let first = vec![rows[0].id.to_string()];
    assert_eq!(told_at(came_again_us - 1, &rows, None), (first, [("unlabelled", 1)].into()));
    // From then on it may mean either; told before both, it may be another gateway's clock.
    for us in [came_again_us, 0] {
        assert_eq!(told_at(us, &rows, None), (vec![], [("ambiguous_request", 2)].into()), "{us}");
    }
    // One that is left out for another reason may be the one that is meant.
    let cut = [Row { flags: 1, ..rows[0].clone() }, rows[1].clone()];
    let left_out = [("truncated", 1), ("unlabelled", 1)].into();
    assert_eq!(told_at(came_again_us - 1, &cut, None), (vec![], left_out));
    let left_out = [("ambiguous_request", 1), ("too_young", 1)].into();
    assert_eq!(told_at(HOUR_US, &rows, Some(DAY_US - 5 * SECOND_US)), (vec![], left_out));
}

#[test]
fn a_damaged_file_refuses_the_set_and_is_named_where_it_is_left_out() {
    // The first pass meets damage in `status`, the second one that in `in_x`.
    for column in ["status", "in_x"] {
        let told: Vec<Told> = (0..4).map(|n| told(n, row(n).id, 1.0)).collect();
        let log = log(&[row(0), row(1)], &told);
        let file = format!("{SEVEN}/1000-4.parquet");
        let path = seal(log.path(), Table::Predictions, &file, &[predictions(&[row(2), row(3)])], &[]);
        damage(&path, column);
        let fault = export(&log).run(&log.path().join("train.parquet")).unwrap_err().to_string();
        assert!(fault.contains("1000-4.parquet") && fault.contains("--skip-damaged"), "{column}: {fault}");
        assert!(!log.path().join("train.parquet").exists());
        let skipping = Export { left_out: Some(LeftOut::default()), ..export(&log) };
        let (manifest, found) = run(&skipping);
        assert_eq!((found.len(), manifest.counts.predictions), (2, 2), "{column}");
        assert_eq!(manifest.damaged.len(), 1);
        assert_eq!(manifest.damaged[0].path, format!("predictions/{file}"));
        assert!(manifest.damaged[0].reason.contains("can't be read"), "{:?}", manifest.damaged);
        // The same rows as from a log without it.
        std::fs::remove_file(path).unwrap();
        assert_eq!(run(&export(&log)).0.dataset, manifest.dataset);
    }
}

#[test]
fn damaged_feedback_refuses_the_set_too() {
    let log = log(&[row(0), row(1)], &[told(0, row(0).id, 1.0)]);
    std::fs::write(log.path().join("wal/feedback/1000-9.arrows"), "no segment, though long enough for one").unwrap();
    let fault = export(&log).run(&log.path().join("train.parquet")).unwrap_err().to_string();
    assert!(fault.contains("1000-9.arrows") && fault.contains("--skip-damaged"), "{fault}");
    let (manifest, found) = run(&Export { left_out: Some(LeftOut::default()), ..export(&log) });
    assert_eq!((found.len(), manifest.damaged[0].path.as_str()), (1, "wal/feedback/1000-9.arrows"));
}

#[test]
fn what_sampling_left_out_is_estimated() {
    let rows = [0, 1, 2].map(|n| Row { sample_probability: if n == 0 { 1.0 } else { 0.25 }, ..row(n) });
    let log = log(&rows, &[told(0, row(0).id, 1.0)]);
    assert_eq!(run(&export(&log)).0.counts.sampled_out_estimate, 6);
}

#[test]
fn weights_undo_sampling_and_splitting() {
    let rows = [Row { sample_probability: 0.5, arm_probability: 0.25, ..row(0) }, row(1)];
    let log = log(&rows, &[Told { weight: Some(2.0), ..told(0, row(0).id, 1.0) }, told(1, row(1).id, 0.0)]);
    let weights = |weights| run(&Export { weights, ..export(&log) }).1.iter().map(|row| row.2).collect::<Vec<_>>();
    assert_eq!(weights(Weights::Ips), [16.0, 1.0]);
    assert_eq!(weights(Weights::Equal), [2.0, 1.0]);
}

#[test]
fn young_predictions_wait_for_their_labels_to_ripen() {
    let told: Vec<Told> = (0..10).map(|n| told(n, row(n).id, 1.0)).collect();
    let log = log(&(0..10).map(row).collect::<Vec<_>>(), &told);
    let aged = |as_of: i64| Export {
        as_of_us: SEVEN_US + DAY_US + as_of * SECOND_US,
        mature_us: Some(DAY_US),
        ..export(&log)
    };
    assert_eq!(run(&aged(4)).1.len(), 4);
    assert_eq!(run(&aged(60)).1.len(), 10);
    let until = Export { until_us: Some(SEVEN_US + 2 * SECOND_US), ..aged(4) };
    assert_eq!(run(&until).0.counts.predictions, 2);
    // It is said how many are too young.
    let young = run(&aged(0)).0;
    assert_eq!((young.counts.predictions, young.counts.labelled, young.counts.exported), (10, 10, 0));
    assert_eq!(young.counts.left_out, [("too_young", 10)].into());
    assert!(young.files.is_empty());
}

#[test]
fn the_same_log_gives_the_same_bytes_however_it_lies_on_the_disk() {
    let rows: Vec<Row> = (0..40).map(|n| Row { ts_us: SEVEN_US + i64::from(n) * HOUR_US / 20, ..row(n) }).collect();
    let told: Vec<Told> = rows.iter().map(|row| told(row.seq as u32, row.id, 1.0)).collect();
    let one = log(&rows, &told);
    let (first, _) = run(&export(&one));
    assert_eq!(run(&export(&one)).0, first);
    assert_eq!(first.dataset, format!("sha256:{}", first.output.sha256));
    let other = tempfile::tempdir().unwrap();
    let (late, early) = (predictions(&rows[17..]), predictions(&rows[..17]));
    segment(other.path(), Table::Predictions, "2000-1", &[early]);
    seal(other.path(), Table::Predictions, &format!("{SEVEN}/1000-9.parquet"), &[late], &[]);
    let backwards: Vec<Told> = told.into_iter().rev().collect();
    seal(other.path(), Table::Feedback, "model=iris/date=2026-03-01/1-1.parquet", &[feedback(&backwards)], &[]);
    assert_eq!(run(&export(&other)).0.dataset, first.dataset);
    let written = std::fs::read(other.path().join("train.parquet")).unwrap();
    assert_eq!(written, std::fs::read(one.path().join("train.parquet")).unwrap());
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(other.path().join("train.manifest.json")).unwrap()).unwrap();
    assert_eq!((&manifest["dataset"], &manifest["counts"]["exported"]), (&first.dataset.into(), &40.into()));
}

#[test]
fn texts_are_labels_too_but_not_beside_numbers() {
    let text = |n: u32, label| Told { number: None, label: Some(label), ..told(n, row(n).id, 0.0) };
    let texts = log(&[row(0), row(1)], &[text(0, "cat"), text(1, "dog")]);
    assert_eq!(run(&export(&texts)).1.iter().map(|row| row.1.as_str()).collect::<Vec<_>>(), ["cat", "dog"]);
    let told = [text(0, "cat"), told(1, row(1).id, 1.0), told(2, row(2).id, 2.5)];
    let mixed = log(&[row(0), row(1), row(2)], &told);
    let fault = export(&mixed).run(&mixed.path().join("train.parquet")).unwrap_err().to_string();
    let (number, text) = (row(1).id, row(0).id);
    let expected = format!("a number for 2 predictions, the first {number}, and a text for 1, the first {text}");
    assert!(fault.contains(&expected) && fault.contains("--label-type"), "{fault}");
    assert!(!mixed.path().join("train.parquet").exists());
    let (manifest, found) = run(&Export { label_type: Some(LabelType::Number), ..export(&mixed) });
    let ids = [0, 1, 2].map(|n| row(n).id.to_string());
    assert_eq!(labels(&found), [(ids[1].as_str(), "1.0"), (ids[2].as_str(), "2.5")]);
    assert_eq!((manifest.counts.left_out, manifest.counts.labelled), ([("text_label", 1)].into(), 3));
    assert_eq!(manifest.query.label_type, Some("number"));
    let (_, found) = run(&Export { label_type: Some(LabelType::Text), ..export(&mixed) });
    assert_eq!(labels(&found), [(ids[0].as_str(), "cat"), (ids[1].as_str(), "1"), (ids[2].as_str(), "2.5")]);
}

#[test]
fn what_is_not_there_is_said() {
    let log = log(&[row(0)], &[told(0, row(0).id, 1.0)]);
    let fault = |export: Export| export.run(&log.path().join("train.parquet")).unwrap_err().to_string();
    let text = fault(Export { model: "irs".to_owned(), ..export(&log) });
    assert!(text.contains("no predictions of model 'irs'") && text.contains("there are those of iris"), "{text}");
    let text = fault(Export { label: "label".to_owned(), ..export(&log) });
    assert!(text.contains("no prediction has feedback 'label': there is y"), "{text}");
    let none: Vec<String> = std::fs::read_dir(log.path())
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("train"))
        .collect();
    assert!(none.is_empty(), "{none:?}");
}

#[test]
fn a_column_of_two_types_is_refused_and_one_that_is_new_is_null_before() {
    let second = predictions(&[Row { version: 2, ..row(1) }]);
    let renamed = |name: &str, column: arrow::array::ArrayRef| {
        let mut fields: Vec<(String, arrow::array::ArrayRef)> = second
            .schema()
            .fields()
            .iter()
            .zip(second.columns())
            .map(|(field, column)| (field.name().clone(), column.clone()))
            .collect();
        fields.push((name.to_owned(), column));
        fields.reverse();
        let mut seen = std::collections::BTreeSet::new();
        fields.retain(|(name, _)| seen.insert(name.clone()));
        RecordBatch::try_from_iter_with_nullable(fields.into_iter().map(|(name, column)| (name, column, true))).unwrap()
    };
    let text: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::StringArray::from(vec!["new"]));
    let told = [told(0, row(0).id, 1.0), told(1, row(1).id, 2.0)];
    let folder = SEVEN.replace("version=1", "version=2");
    let with = |batch: RecordBatch| {
        let log = log(&[row(0)], &told);
        let version = [("headgate.version", "2")];
        seal(log.path(), Table::Predictions, &format!("{folder}/1000-5.parquet"), &[batch], &version);
        log
    };
    let mixed = with(renamed("in_width", text.clone()));
    let fault = export(&mixed).run(&mixed.path().join("train.parquet")).unwrap_err().to_string();
    assert!(fault.contains("column 'in_width' is Float64 in some files and Utf8 in others"), "{fault}");
    assert_eq!(run(&Export { version: Some(1), ..export(&mixed) }).1.len(), 1);
    let grown = with(renamed("in_colour", text));
    assert_eq!(run(&export(&grown)).1.len(), 2);
    let rows = read(&grown.path().join("train.parquet"));
    let colour = rows.column_by_name("in_colour").unwrap().as_string::<i32>();
    assert_eq!((colour.is_null(0), colour.value(1)), (true, "new"));
}
