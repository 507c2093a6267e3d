//! What was shown and not clicked, in training sets; clicks are feedback `y`.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::inference::PredictionId;
use crate::prediction_log::feedback::{Subject, Value};
use crate::prediction_log::quality::early;
use crate::prediction_log::quality::extract::Instance;
use crate::prediction_log::quality::label::Weight;
use crate::prediction_log::quality::outcome::Prediction;
use crate::prediction_log::quality::{Bounds, Join, Plan, Sight};
use crate::prediction_log::settings::{QualitySettings, Task};
use crate::routing::Arm;

/// What is not clicked within ten seconds is not clicked, in second `as_of` after seven.
fn clicks(log: &tempfile::TempDir, exposure: &str, as_of: i64) -> Export {
    let negatives = Negatives { after_us: 10 * SECOND_US, exposure: Exposure::named(exposure) };
    Export { negatives: Some(negatives), as_of_us: SEVEN_US + as_of * SECOND_US, ..export(log) }
}

fn shown(n: u32, prediction: PredictionId) -> Told {
    Told { name: "shown", ..told(n, prediction, 1.0) }
}

fn by_request(told: Told, request: &str) -> Told {
    Told { prediction: None, request: Some((request.to_owned(), 0)), ..told }
}

fn left_out(manifest: &Manifest) -> Vec<(&str, u64)> {
    manifest.counts.left_out.iter().map(|(reason, count)| (*reason, *count)).collect()
}

fn numbers(export: &Export) -> Vec<String> {
    run(export).1.into_iter().map(|row| row.1).collect()
}

#[test]
fn what_has_no_label_in_time_is_negative_and_what_is_younger_is_too_young() {
    let log = log(&[row(0), row(1), row(2), row(3)], &[told(4, row(1).id, 1.0), told(5, row(3).id, 1.0)]);
    let (manifest, found) = run(&clicks(&log, "assumed", 12));
    let ids = [0, 1, 2].map(|n| row(n).id.to_string());
    assert_eq!(labels(&found), [(ids[0].as_str(), "0.0"), (ids[1].as_str(), "1.0"), (ids[2].as_str(), "0.0")]);
    // The fourth is young, although it is clicked.
    assert_eq!(left_out(&manifest), [("too_young", 1)]);
    let counts = &manifest.counts;
    assert_eq!((counts.predictions, counts.labelled, counts.exported, counts.implicit_negatives), (4, 2, 3, 2));
    assert_eq!(manifest.query.negative_after.as_deref(), Some("10s"));
    assert_eq!(manifest.query.exposure.as_deref(), Some("assumed"));
    let rows = read(&log.path().join("train.parquet"));
    let sources = rows.column_by_name("label_source").unwrap().as_string::<i32>();
    assert_eq!(sources.iter().flatten().collect::<Vec<_>>(), ["implicit", "feedback", "implicit"]);
    // Without it there are the clicks alone, and nothing says where a label is from.
    let told_alone = Export { negatives: None, ..clicks(&log, "assumed", 12) };
    assert_eq!(numbers(&told_alone), ["1.0", "1.0"]);
    assert!(read(&log.path().join("train.parquet")).column_by_name("label_source").is_none());
}

#[test]
fn a_late_click_takes_the_place_of_the_no() {
    let log = log(&[row(0)], &[told(0, row(9).id, 1.0), told(30, row(0).id, 1.0)]);
    assert_eq!(numbers(&clicks(&log, "assumed", 30)), ["0.0"]);
    let (manifest, found) = run(&clicks(&log, "assumed", 31));
    assert_eq!((found[0].1.as_str(), manifest.counts.implicit_negatives), ("1.0", 0));
}

#[test]
fn the_time_runs_from_when_it_was_shown_and_what_was_not_shown_is_unlabelled() {
    // Shown in second 5 and again in second 8, as was told in second 9; clicked, which shows it, in second 6; of the
    // last nothing is known.
    let at = |event: i64, told: Told| Told { event_us: Some(SEVEN_US + event * SECOND_US), ..told };
    let first = row(0).id;
    let told = [at(8, shown(9, first)), at(5, Told { number: Some(0.0), ..shown(9, first) }), told(6, row(1).id, 1.0)];
    let log = log(&[row(0), row(1), row(2)], &told);
    let at = |as_of| {
        let (manifest, found) = run(&clicks(&log, "shown", as_of));
        let reasons = left_out(&manifest).into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect();
        (found.into_iter().map(|row| row.1).collect::<Vec<_>>(), reasons)
    };
    let expected = |labels: &[&str], young| {
        let reasons: Vec<(String, u64)> = [("too_young".to_owned(), young), ("unlabelled".to_owned(), 1)].into();
        let reasons = reasons.into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>();
        (labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>(), reasons)
    };
    assert_eq!(at(14), expected(&[], 2));
    assert_eq!(at(15), expected(&["0.0"], 1));
    assert_eq!(at(16), expected(&["0.0", "1.0"], 0));
}

#[test]
fn rows_that_can_be_no_example_are_no_negatives_either() {
    let failed = Row { error: Some("no"), ..row(0) };
    let shadow = Row { arm: "shadow", ..row(1) };
    let (cut, dropped) = (Row { flags: 1, ..row(2) }, Row { flags: 16, ..row(3) });
    let sampled = Row { sample_probability: 0.25, ..row(4) };
    let log = log(&[failed, shadow, cut, dropped, sampled], &[told(0, row(9).id, 1.0)]);
    let (manifest, found) = run(&Export { weights: Weights::Ips, ..clicks(&log, "assumed", 99) });
    assert_eq!(left_out(&manifest), [("error", 1), ("payload_dropped", 1), ("shadow", 1), ("truncated", 1)]);
    assert_eq!(found, [(row(4).id.to_string(), "0.0".to_owned(), 4.0)]);
}

#[test]
fn a_click_that_may_be_on_either_of_two_leaves_no_negative_behind() {
    // Second 2 and second 10 have the same name; rows came half a millisecond before they ended.
    let rows = [2, 10].map(|n| Row { request: "same".to_owned(), ..row(n) });
    let of = |exposure: &str, told: &[Told]| {
        let log = log(&rows, told);
        let (manifest, found) = run(&clicks(&log, exposure, 99));
        let left_out: Vec<(String, u64)> = left_out(&manifest).into_iter().map(|(of, n)| (of.to_owned(), n)).collect();
        (found.into_iter().map(|row| row.1).collect::<Vec<_>>(), left_out, manifest.counts.labelled)
    };
    let is = |labels: &[&str], reasons: &[(&str, u64)], labelled| {
        let reasons: Vec<(String, u64)> = reasons.iter().map(|(of, n)| ((*of).to_owned(), *n)).collect();
        (labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>(), reasons, labelled)
    };
    let click = |n| by_request(told(n, row(0).id, 1.0), "same");
    let seen = |n| by_request(shown(n, row(0).id), "same");
    // Told before the name came again it is on the first: the second was not clicked.
    assert_eq!(of("assumed", &[click(5)]), is(&["1.0", "0.0"], &[], 1));
    assert_eq!(of("assumed", &[click(20)]), is(&[], &[("ambiguous_request", 2)], 2));
    // What was shown is told in the same way.
    let other = told(0, row(9).id, 1.0);
    assert_eq!(of("shown", &[seen(5), other.clone()]), is(&["0.0"], &[("unlabelled", 1)], 0));
    assert_eq!(of("shown", &[seen(20), other]), is(&[], &[("ambiguous_request", 2)], 0));
    // What is told by a prediction's id holds whatever the name says.
    let own = Told { id: "f".repeat(32), ..told(30, rows[1].id, 1.0) };
    assert_eq!(of("assumed", &[click(20), own]), is(&["1.0"], &[("ambiguous_request", 1)], 2));
}

#[test]
fn where_labels_are_texts_the_no_is_one_too() {
    let text = Told { number: None, label: Some("click"), ..told(1, row(0).id, 0.0) };
    let log = log(&[row(0), row(1)], &[text]);
    assert_eq!(numbers(&clicks(&log, "assumed", 99)), ["click", "0"]);
}

#[test]
fn a_name_that_no_feedback_has_is_refused() {
    let log = log(&[row(0)], &[told(1, row(0).id, 1.0), shown(2, row(0).id)]);
    let fault = clicks(&log, "shwon", 99).run(&log.path().join("train.parquet")).unwrap_err().to_string();
    assert!(fault.contains("no prediction has feedback 'shwon': there is shown, y"), "{fault}");
}

#[test]
fn feedback_that_can_not_be_read_makes_no_negatives() {
    let log = log(&[row(0), row(1)], &[told(0, row(0).id, 1.0)]);
    std::fs::write(log.path().join("wal/feedback/1000-9.arrows"), "no segment, though long enough for one").unwrap();
    let skipping = Export { left_out: Some(LeftOut::default()), ..clicks(&log, "assumed", 99) };
    let fault = skipping.run(&log.path().join("train.parquet")).unwrap_err().to_string();
    assert!(fault.contains("1000-9.arrows") && fault.contains("without --negative-after"), "{fault}");
    assert!(!log.path().join("train.parquet").exists());
}

#[test]
fn the_same_reading_time_gives_the_same_bytes_whatever_is_learnt_later() {
    let rows: Vec<Row> = (0..20).map(row).collect();
    let early: Vec<Told> = (0..20).map(|n| shown(n, row(n).id)).chain([told(5, row(3).id, 1.0)]).collect();
    let one = log(&rows, &early);
    let (first, _) = run(&clicks(&one, "shown", 25));
    assert_eq!((first.counts.exported, first.counts.implicit_negatives), (16, 15));
    let late = (0..20).map(|n| told(30 + n, row(n).id, 1.0));
    let other = log(&rows, &early.into_iter().chain(late).rev().collect::<Vec<_>>());
    assert_eq!(run(&clicks(&other, "shown", 25)).0.dataset, first.dataset);
    assert_ne!(run(&clicks(&other, "shown", 99)).0.dataset, first.dataset);
}

/// Not a whole second: live quality looks once a second, and so sees each within the second in which it comes.
const AFTER_US: i64 = 9_500_000;

/// The predictions, three seconds apart: some feedback is said to have happened before.
fn answered(n: u32) -> Row {
    row(3 * n)
}

/// Prediction, name, value, and the seconds in which it happened and arrived.
type Piece = (u32, &'static str, u8, i64, i64);

/// Labels of live quality, and the share of them that are clicks.
fn live(pieces: &[Piece], exposure: &Exposure, as_of: i64) -> (u64, Option<f64>) {
    let settings = QualitySettings {
        task: Task::Click,
        output: None,
        feedback: "y".to_owned(),
        segments: vec![],
        negative_after: Some(Duration::from_micros(AFTER_US as u64)),
        exposure: exposure.clone(),
        tolerance: None,
    };
    let plan = Arc::new(Plan {
        settings,
        output: 0,
        output_name: "score".to_owned(),
        output_column: None,
        axis: Some(0),
        classes: vec![],
        segments: vec![],
    });
    let mut join = Join::new(Bounds::default());
    for n in 0..4 {
        let prediction = Prediction { class: None, score: 0.5, probabilities: None };
        join.see(Sight {
            plan: &plan,
            model: "iris",
            version: 1,
            arm: Arm::Stable,
            id: answered(n).id,
            row: 0,
            request: &answered(n).request,
            ended_us: answered(n).ts_us,
            rollout: None,
            rows: 1,
            instances: vec![Instance { prediction: Some(prediction), segments: vec![] }],
        });
    }
    for (n, name, value, event_s, received_s) in pieces.iter().filter(|piece| piece.4 < as_of) {
        let told = early::Told {
            name: (*name).to_owned(),
            value: Value::Number(f64::from(*value)),
            weight: Weight::ONE,
            event_us: SEVEN_US + event_s * SECOND_US,
            received_us: SEVEN_US + received_s * SECOND_US,
            silent: false,
        };
        join.tell(&Subject::Prediction(answered(*n).id), told);
    }
    join.tick(SEVEN_US + as_of * SECOND_US);
    let figures = join.groups().next().unwrap().report().figures;
    (figures.labelled, figures.click_rate)
}

fn any_piece() -> impl Strategy<Value = Piece> {
    (0u32..4, prop_oneof![Just("y"), Just("shown"), Just("noise")], 0u8..2, 0i64..12, 0i64..16)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_training_set_has_the_labels_of_live_quality(
        pieces in prop::collection::vec(any_piece(), 0..12),
        exposure in prop_oneof![Just(Exposure::Assumed), Just(Exposure::Feedback("shown".to_owned()))],
        as_of in 10i64..26,
    ) {
        let feedback = |(at, piece): (usize, &Piece)| {
            let (n, name, value, event_s, received_s) = *piece;
            // Live quality lets the greater of two decide that arrive at once, exports their ids.
            let id = format!("{value}{at:031x}");
            let (event_us, received_us) = (Some(SEVEN_US + event_s * SECOND_US), SEVEN_US + received_s * SECOND_US);
            Told { id, name, event_us, received_us, ..told(0, answered(n).id, f64::from(value)) }
        };
        let unknown = row(10).id;
        let others = ["y", "shown"].map(|name| Told { name, ..told(0, unknown, 1.0) });
        let told: Vec<Told> = pieces.iter().enumerate().map(feedback).chain(others).collect();
        let log = log(&(0..4).map(answered).collect::<Vec<_>>(), &told);
        let negatives = Some(Negatives { after_us: AFTER_US, exposure: exposure.clone() });
        let (_, found) = run(&Export { negatives, ..clicks(&log, "assumed", as_of) });
        let clicked = found.iter().filter(|row| row.1 == "1.0").count();
        let rate = (!found.is_empty()).then(|| clicked as f64 / found.len() as f64);
        prop_assert_eq!((found.len() as u64, rate), live(&pieces, &exposure, as_of));
    }
}
