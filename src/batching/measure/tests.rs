//! Measuring models whose run times are scripted.

use super::*;
use crate::engine::fake_plans::PlannedModel;
use crate::signature::{Batching, Dim};

const MS: Duration = Duration::from_millis(1);

/// What `measure` makes of a model, and what is prepared after it.
fn measured(model: PlannedModel, max_rows: Option<usize>, limits: MeasureLimits) -> (BatchCurve, Vec<usize>) {
    let model = Arc::new(model);
    let curve = measure(&(model.clone() as Arc<dyn Model>), max_rows, &limits);
    (curve, model.prepared())
}

fn usual(model: PlannedModel) -> (BatchCurve, Vec<usize>) {
    measured(model, None, MeasureLimits::default())
}

fn sizes(curve: &BatchCurve) -> Vec<usize> {
    curve.points().iter().map(|point| point.rows).collect()
}

/// 100 µs for a run and `row` for each row.
fn affine(row: u32) -> impl Fn(usize, bool) -> Duration {
    move |rows, _| MS / 10 + MS * row * rows as u32 / 1000
}

#[test]
fn a_model_that_gains_everywhere_is_measured_to_the_end() {
    let (curve, prepared) = usual(PlannedModel::new(affine(1)));
    assert_eq!(sizes(&curve), [1, 2, 4, 8, 16, 32, 64, 128, 256]);
    assert_eq!((curve.cap(), curve.note()), (256, ""));
    assert!((curve.estimate_s(3) - 103e-6).abs() < 1e-9, "{}", curve.estimate_s(3));
    assert!(prepared.is_empty(), "a plan that is no faster is not kept");
}

#[test]
fn measuring_ends_where_rows_gain_nothing() {
    let (curve, _) = usual(PlannedModel::new(|rows, _| MS * rows as u32));
    assert_eq!((curve.cap(), sizes(&curve)), (1, vec![1, 2, 4]));
}

#[test]
fn plans_are_kept_where_they_pay_and_not_beyond_the_cap() {
    // Prepared plans take half the time, and batches gain up to four rows.
    let time = |rows: usize, prepared: bool| {
        MS * [0, 20, 24, 0, 32, 0, 0, 0, 80][rows.min(8)] / 10 / (1 + u32::from(prepared))
            * if rows > 8 { 9 } else { 1 }
    };
    let (curve, prepared) = usual(PlannedModel::new(time));
    assert_eq!((curve.cap(), prepared), (4, vec![2, 4]));
    assert_eq!(curve.points()[2].prepared_s, Some(1.6e-3));
    assert_eq!(curve.points()[3].prepared_s, None, "given up with its plan");
    assert_eq!(curve.run_rows(3), 4);
}

#[test]
fn a_machine_that_was_slow_for_a_while_does_not_look_like_a_gain() {
    // The first runs of one row take three times as long as later ones, so that two rows seem to gain.
    let runs = std::sync::atomic::AtomicU32::new(0);
    let time = move |rows: usize, _: bool| {
        let slow = rows == 1 && runs.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 3;
        MS * rows as u32 * if slow { 3 } else { 1 }
    };
    let limits = MeasureLimits { time_per_size: 5 * MS, ..MeasureLimits::default() };
    let (curve, _) = measured(PlannedModel::new(time), None, limits);
    assert_eq!((curve.cap(), curve.estimate_s(1)), (1, 1e-3));
}

#[test]
fn plans_are_bounded_by_their_memory() {
    let time = |rows: usize, prepared: bool| MS + MS * rows as u32 / if prepared { 100 } else { 10 };
    let limits = MeasureLimits { max_plan_bytes: 250, ..MeasureLimits::default() };
    let (_, prepared) = measured(PlannedModel::new(time).with_plan_bytes(100), None, limits);
    assert_eq!(prepared.len(), 2, "{prepared:?}");
}

#[test]
fn a_slow_model_gets_fewer_sizes() {
    let (curve, _) = usual(PlannedModel::new(|_, _| 900 * MS));
    assert_eq!((sizes(&curve), curve.cap()), (vec![1], 1));
    assert!(curve.note().contains("2 rows would run longer than 200ms"), "{}", curve.note());
    let limits = MeasureLimits { time: 200 * MS, ..MeasureLimits::default() };
    let (curve, _) = measured(PlannedModel::new(|_, _| 20 * MS), None, limits);
    assert_eq!(sizes(&curve), [1]);
    assert!(curve.note().contains("no time was left"), "{}", curve.note());
}

#[test]
fn a_configured_limit_is_the_last_size() {
    let (curve, _) = measured(PlannedModel::new(affine(1)), Some(6), MeasureLimits::default());
    assert_eq!((sizes(&curve), curve.cap()), (vec![1, 2, 4, 6], 6));
    let limits = MeasureLimits { max_input_bytes: 64, ..MeasureLimits::default() };
    let (curve, _) = measured(PlannedModel::new(affine(1)), None, limits);
    assert_eq!(curve.cap(), 4, "four rows of four floats have 64 bytes");
}

#[test]
fn without_a_batch_axis_one_row_is_measured() {
    let model = PlannedModel::new(affine(1));
    let mut signature = model.signature().clone();
    signature.batching = Batching::Unproven("rows mix".into());
    let (curve, _) = usual(model.with_signature(signature));
    assert_eq!((curve.cap(), sizes(&curve), curve.is_measured()), (1, vec![1], true));
}

#[test]
fn where_shapes_need_plans_only_prepared_sizes_are_used() {
    let (curve, prepared) = measured(PlannedModel::new(affine(1)).needing_plans(), Some(4), MeasureLimits::default());
    assert_eq!((curve.cap(), prepared), (4, vec![2, 4]));
    assert_eq!((curve.run_rows(3), curve.points()[1].unprepared_s), (4, None));
}

#[test]
fn where_other_dimensions_vary_too_no_plan_is_prepared() {
    let open = |model: PlannedModel| {
        let mut signature = model.signature().clone();
        signature.inputs[0].dims = Some(vec![Dim::Named("N".into()), Dim::Named("T".into())]);
        usual(model.with_signature(signature))
    };
    let faster_prepared = |rows: usize, prepared: bool| affine(1)(rows, prepared) / (1 + u32::from(prepared));
    let (curve, prepared) = open(PlannedModel::new(faster_prepared));
    assert_eq!((curve.cap(), prepared), (256, vec![]));
    assert!((curve.estimate_s(4) - 52e-6).abs() < 1e-9, "measured on a plan: {}", curve.estimate_s(4));
    let (curve, _) = open(PlannedModel::new(affine(1)).needing_plans());
    assert_eq!((curve.cap(), curve.note()), (1, "every shape needs a plan of its own, so rows run alone"));
}

#[test]
fn made_up_values_that_do_not_run_give_way_to_zeros() {
    let (curve, _) = measured(PlannedModel::new(affine(1)).refusing_above(0.0), Some(4), MeasureLimits::default());
    assert_eq!(curve.cap(), 4);
    let (curve, _) = usual(PlannedModel::new(affine(1)).refusing_above(-1.0));
    assert!(!curve.is_measured());
    assert_eq!(curve.note(), "it ran on no made-up inputs: out of range");
}

#[test]
fn a_model_that_reports_no_time_is_not_measured() {
    let (curve, _) = usual(PlannedModel::new(|_, _| Duration::ZERO));
    assert_eq!((curve.is_measured(), curve.cap()), (false, 1));
}

#[test]
fn a_measurement_is_restored_without_a_run() {
    let time = |rows: usize, prepared: bool| MS + MS * rows as u32 / if prepared { 100 } else { 5 };
    let (curve, prepared) = measured(PlannedModel::new(time), Some(8), MeasureLimits::default());
    let kept = curve.measured().unwrap().clone();
    let again = Arc::new(PlannedModel::new(time));
    let model: Arc<dyn Model> = again.clone();
    assert_eq!(restore(&model, Some(8), kept.clone()).unwrap().points(), curve.points());
    assert_eq!((again.prepared(), again.runs()), (prepared, 0));
    assert_eq!(restore(&model, Some(4), kept.clone()).unwrap().cap(), 4);
    assert!(restore(&model, None, kept).is_none(), "larger sizes were not measured");
}
