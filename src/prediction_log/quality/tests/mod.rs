//! Predictions and feedback in every order: what the figures say, and what rollouts are told.

mod bounds;
mod evidence;
mod join;
mod orderings;
mod restart;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::early::Told;
use super::extract::Instance;
use super::group::QualityReport;
use super::join::{Join, Sight};
use super::label::Weight;
use super::outcome::{Class, Prediction};
use super::plan::{Plan, Segment};
use super::record::Bounds;
use crate::inference::PredictionId;
use crate::prediction_log::entry::RolloutPart;
use crate::prediction_log::feedback::{Subject, Value};
use crate::prediction_log::settings::{Exposure, QualitySettings, Task};
use crate::routing::Arm;

const SECOND: i64 = 1_000_000;

fn settings(task: Task) -> QualitySettings {
    QualitySettings { tolerance: Some(0.5), ..QualitySettings::of(task) }
}

/// Of one output, `y`, whose rows lie along the first axis.
pub(super) fn plan(settings: QualitySettings) -> Arc<Plan> {
    let segment = |column: &String| Segment { column: column.clone(), input: 0, axis: Some(0), element: 0 };
    Arc::new(Plan {
        output: 0,
        output_name: "y".into(),
        output_column: Some("out_y".into()),
        axis: Some(0),
        classes: vec![],
        segments: settings.segments.iter().map(segment).collect(),
        settings,
    })
}

/// Clicks within ten seconds of being shown.
fn clicks(exposure: Exposure) -> Arc<Plan> {
    let negative_after = Some(Duration::from_secs(10));
    plan(QualitySettings { negative_after, exposure, feedback: "click".into(), ..settings(Task::Click) })
}

/// The id of the `n`th prediction, which was answered in second `n`.
fn id(n: u64) -> PredictionId {
    PredictionId::new(UNIX_EPOCH + Duration::from_secs(n), 1, 1, 0, n)
}

fn scored(score: f64) -> Instance {
    let class = Some(if score >= 0.5 { Class::POSITIVE } else { Class::NEGATIVE });
    Instance { prediction: Some(Prediction { class, score, probabilities: None }), segments: vec![] }
}

fn of_class(place: usize) -> Instance {
    let prediction = Prediction { class: Some(Class::at(place)), score: f64::NAN, probabilities: None };
    Instance { prediction: Some(prediction), segments: vec![] }
}

fn see(join: &mut Join, plan: &Arc<Plan>, n: u64, instance: Instance, rollout: Option<&RolloutPart>) {
    join.see(Sight {
        plan,
        model: "m",
        version: 1,
        arm: if rollout.is_some() { Arm::Candidate } else { Arm::Stable },
        id: id(n),
        row: 0,
        request: &format!("request-{n}"),
        ended_us: n as i64 * SECOND,
        rollout,
        rows: 1,
        instances: vec![instance],
    });
}

fn told(name: &str, value: f64, event_s: i64, received_s: i64) -> Told {
    Told {
        name: name.into(),
        value: Value::Number(value),
        weight: Weight::ONE,
        event_us: event_s * SECOND,
        received_us: received_s * SECOND,
        silent: false,
    }
}

fn about(n: u64) -> Subject {
    Subject::Prediction(id(n))
}

fn report(join: &Join) -> QualityReport {
    let mut reports: Vec<QualityReport> = join.groups().map(|group| group.report()).collect();
    assert_eq!(reports.len(), 1, "{reports:?}");
    reports.remove(0)
}

fn join() -> Join {
    Join::new(Bounds::default())
}
