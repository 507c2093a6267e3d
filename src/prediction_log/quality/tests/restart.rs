//! A process that goes on where another ended.

use std::sync::Mutex;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow::datatypes::Float32Type;

use super::*;
use crate::prediction_log::feedback::Feedback;
use crate::prediction_log::quality::{RestoreBounds, Tracker, restored};
use crate::routing::{LabelSample, Weights};

/// Four rows of the log: one failed, one was a copy's, one has a null in place of its answer.
fn batch() -> RecordBatch {
    let answers = [[0.1f32, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.5, 0.5]];
    let rows = answers.iter().enumerate().map(|(at, row)| (at != 4).then(|| row.map(Some).to_vec()));
    let texts = |texts: [&str; 5]| Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
    let ids: Vec<String> = (1..=5).map(|n| id(n).to_string()).collect();
    let key: Vec<Option<u64>> = vec![Some(7), None, None, None, None];
    let weight: Vec<Option<u16>> = vec![Some(1000), None, None, None, None];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("prediction_id", Arc::new(StringArray::from(ids))),
        ("request_id", texts(["a", "b", "c", "d", "e"])),
        ("row_index", Arc::new(UInt32Array::from(vec![0; 5]))),
        ("n_rows", Arc::new(UInt32Array::from(vec![1; 5]))),
        ("ts", Arc::new(TimestampMicrosecondArray::from_iter_values((1..=5).map(|n| n * SECOND)))),
        ("model_name", texts(["m"; 5])),
        ("model_version", Arc::new(UInt64Array::from(vec![1; 5]))),
        ("arm", texts(["candidate", "stable", "shadow", "stable", "stable"])),
        ("rollout_id", Arc::new(StringArray::from(vec![Some("r1"), None, None, None, None]))),
        ("weight_bp", Arc::new(UInt16Array::from(weight.clone()))),
        ("control_bp", Arc::new(UInt16Array::from(weight))),
        ("key_hash", Arc::new(UInt64Array::from(key))),
        ("assigned_by", texts(["key", "none", "none", "none", "none"])),
        ("status", texts(["ok", "ok", "ok", "error", "ok"])),
        ("in_age", Arc::new(Int64Array::from(vec![Some(30), None, Some(1), Some(2), Some(3)]))),
        ("out_y", Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, 2))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn with_age() -> Arc<Plan> {
    plan(QualitySettings { segments: vec!["in_age".into()], ..settings(Task::Classification) })
}

#[test]
fn rows_of_the_log_become_predictions_again() {
    let plan = with_age();
    let rows = restored(&batch(), |model, version| (model == "m" && version == 1).then(|| plan.clone()));
    assert_eq!(rows.len(), 2, "{rows:?}");
    let first = &rows[0];
    assert_eq!((first.id, first.request.as_str(), first.row, first.ended_us), (id(1), "a", 0, SECOND));
    assert_eq!(first.instance, Instance { segments: vec!["30".into()], ..scored(f64::from(0.9f32)) });
    let rollout = first.rollout.as_ref().unwrap();
    assert_eq!((&*rollout.id, rollout.weights, rollout.key), ("r1", Weights::new(1000, 1000), Some(7)));
    assert_eq!((rows[1].arm, rows[1].rollout.is_none()), (Arm::Stable, true));
    assert_eq!(rows[1].instance.segments, [""], "null");
    assert!(restored(&batch(), |_, _| None).is_empty());
}

#[test]
fn a_number_and_a_text_are_read_from_plain_columns() {
    let columns = |answer: ArrayRef| {
        let batch = batch();
        let mut columns: Vec<(String, ArrayRef)> =
            batch.schema().fields().iter().map(|field| field.name().clone()).zip(batch.columns().to_vec()).collect();
        columns.last_mut().unwrap().1 = answer;
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let numbers: ArrayRef = Arc::new(Float32Array::from(vec![1.5; 5]));
    let of = plan(settings(Task::Regression));
    let rows = restored(&columns(numbers), |_, _| Some(of.clone()));
    assert_eq!(rows[0].instance.prediction.as_ref().unwrap().score, 1.5);
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["cat"; 5]));
    let of = plan(settings(Task::Classification));
    let rows = restored(&columns(texts), |_, _| Some(of.clone()));
    assert_eq!(rows[0].instance.prediction.as_ref().unwrap().class, Some(Class::named(&[], "cat")));
}

fn feedback(n: u64, name: &str, value: f64, received_s: i64) -> Feedback {
    Feedback {
        subject: about(n),
        name: name.into(),
        value: Value::Number(value),
        event_us: received_s * SECOND,
        received_us: received_s * SECOND,
        source: None,
        weight: None,
    }
}

#[test]
fn feedback_after_a_restart_finds_its_prediction_and_what_was_evidence_is_not_again() {
    use crate::prediction_log::feedback::Judge;
    let tracker = Tracker::new(Bounds::default());
    let sent: Arc<Mutex<Vec<(String, LabelSample)>>> = Arc::default();
    let into = sent.clone();
    tracker.send_evidence_to(Box::new(move |rollout, sample| into.lock().unwrap().push((rollout.to_owned(), sample))));
    let plan = with_age();
    let rows = || restored(&batch(), |_, _| Some(plan.clone())).into_iter();
    let known = vec![feedback(2, "label", 0.0, 6)];
    // One that came while the files were read.
    tracker.judge().judge(&feedback(1, "label", 0.0, 8), None);
    assert_eq!(tracker.restore(rows(), known.clone().into_iter()), (2, 1));
    assert_eq!(tracker.restore(rows(), known.into_iter()), (2, 1), "again is as good as once");
    let reports = tracker.report(Some("m"));
    let figures: Vec<_> =
        reports.iter().map(|of| (of.arm.as_str(), of.figures.labelled, of.figures.accuracy)).collect();
    assert_eq!(figures, [("candidate", 1, Some(0.0)), ("stable", 1, Some(1.0))]);
    let sent = sent.lock().unwrap();
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].0 == "r1" && sent[0].1.wrong && sent[0].1.key == Some(7));
    assert!(tracker.report(Some("other")).is_empty());
}

#[test]
fn a_click_whose_time_was_over_before_the_restart_is_no_evidence_again() {
    let (mut join, plan) = (join(), clicks(Exposure::Assumed));
    let part = RolloutPart { id: "r1".into(), weights: Weights::of_candidate(1000), key: None, forced: false };
    join.silence_until(15 * SECOND);
    see(&mut join, &plan, 1, scored(0.5), Some(&part));
    see(&mut join, &plan, 10, scored(0.5), Some(&part));
    join.tick(60 * SECOND);
    assert_eq!(report(&join).figures.labelled, 2);
    assert_eq!(join.take_evidence().len(), 1, "only the one that became due later");
}

/// Ten rows in files: sealed, and in a segment whose process died; the odd ones have labels, one of them another's.
#[test]
fn the_newest_rows_are_read_back_from_the_files() {
    use crate::prediction_log::read::tests::fixture::{
        SECOND_US, SEVEN_US, Told, feedback, predictions, row, seal, segment, told,
    };
    use crate::prediction_log::table::Table;

    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<_> = (0..10).map(row).collect();
    seal(
        folder.path(),
        Table::Predictions,
        "model=iris/version=1/date=2026-03-01/hour=07/1-1.parquet",
        &[predictions(&rows[..6])],
        &[],
    );
    segment(folder.path(), Table::Predictions, "1-2", &[predictions(&rows[6..])]);
    let labels: Vec<_> =
        (1..10).step_by(2).map(|n| Told { weight: Some(2.0), ..told(n, rows[n as usize].id, 0.5) }).collect();
    segment(folder.path(), Table::Feedback, "1-3", &[feedback(&labels)]);
    let plan = Arc::new(Plan {
        output_column: Some("out_score".into()),
        ..Plan::clone(&plan(QualitySettings { feedback: labels[0].name.into(), ..settings(Task::Regression) }))
    });
    let restore = |max_rows, plan: Option<&Arc<Plan>>| {
        let tracker = Tracker::new(Bounds::default());
        let bounds = RestoreBounds { max_rows, ..RestoreBounds::default() };
        let now_us = SEVEN_US + 3600 * SECOND_US;
        let counts = tracker.restore_from(folder.path(), &bounds, now_us, |_, _| plan.cloned()).unwrap();
        (counts, tracker.report(None))
    };
    let ((predictions, _), reports) = restore(100, Some(&plan));
    assert_eq!((predictions, reports.len()), (10, 1));
    let figures = &reports[0].figures;
    assert_eq!((figures.predicted, figures.labelled, figures.label_weight), (10, 5, 10.0));
    let errors = (1..10).step_by(2).map(|n| f64::from((0.5 - n as f32 / 100.0).abs())).sum::<f64>();
    assert!((reports[0].figures.mae.unwrap() - errors / 5.0).abs() < 1e-6, "{reports:?}");
    let ((predictions, _), reports) = restore(3, Some(&plan));
    assert_eq!((predictions, reports[0].figures.predicted), (3, 3), "the newest");
    assert_eq!(restore(100, None).1, []);
    let later = SEVEN_US + 48 * 3600 * SECOND_US;
    let tracker = Tracker::new(Bounds::default());
    let counts = tracker.restore_from(folder.path(), &RestoreBounds::default(), later, |_, _| Some(plan.clone()));
    assert_eq!(counts.unwrap().0, 0, "too old");
}

#[test]
fn what_this_process_has_answered_is_not_read_back() {
    let tracker = Tracker::new(Bounds::default());
    tracker.with(|join| join.tick(2 * SECOND));
    let plan = with_age();
    let rows = || restored(&batch(), |_, _| Some(plan.clone())).into_iter();
    tracker.restore(rows(), [feedback(1, "label", 1.0, 3)].into_iter());
    let reports = tracker.report(None);
    assert_eq!((reports.len(), reports[0].figures.predicted, reports[0].figures.labelled), (1, 1, 0));
}
