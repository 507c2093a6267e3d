//! What rollouts are told.

use super::*;
use crate::prediction_log::quality::name_hash;
use crate::routing::{LabelSample, Weights};

fn part(forced: bool) -> RolloutPart {
    RolloutPart { id: "r1".into(), weights: Weights::of_candidate(1000), key: Some(7), forced }
}

#[test]
fn the_first_label_is_evidence_and_stays_it() {
    let (mut join, plan) = (join(), plan(settings(Task::Classification)));
    see(&mut join, &plan, 1, of_class(3), Some(&part(false)));
    see(&mut join, &plan, 2, of_class(3), Some(&part(true)));
    see(&mut join, &plan, 3, of_class(3), None);
    for n in 1..=3 {
        join.tell(&about(n), told("label", 4.0, 5, 5));
    }
    join.tell(&about(1), told("label", 3.0, 6, 6));
    let evidence = join.take_evidence();
    let sample = LabelSample {
        arm: Arm::Candidate,
        weights: Weights::of_candidate(1000),
        key: Some(7),
        wrong: true,
        feedback: name_hash("label"),
        is_truth: true,
    };
    assert_eq!(evidence, [("r1".into(), sample)], "what was forced, or is in no rollout, is none");
    assert!(join.take_evidence().is_empty());
}

#[test]
fn another_name_is_evidence_of_its_own_once() {
    let (mut join, plan) = (join(), plan(settings(Task::Regression)));
    see(&mut join, &plan, 1, scored(1.0), Some(&part(false)));
    for value in [9.0, 1.0] {
        join.tell(&about(1), told("survey", value, 5, 5));
    }
    join.tell(&about(1), told("label", 1.2, 5, 5));
    let evidence: Vec<_> = join.take_evidence().into_iter().map(|(_, of)| (of.is_truth, of.wrong)).collect();
    assert_eq!(evidence, [(false, true), (true, false)], "0.2 is within the tolerance");
}

#[test]
fn a_click_that_does_not_come_is_evidence_when_its_time_is_over() {
    let (mut join, plan) = (join(), clicks(Exposure::Assumed));
    see(&mut join, &plan, 1, scored(0.9), Some(&part(false)));
    see(&mut join, &plan, 2, scored(0.9), Some(&part(false)));
    join.tell(&about(2), told("click", 1.0, 3, 3));
    assert!(join.take_evidence().is_empty());
    join.tick(20 * SECOND);
    join.tell(&about(1), told("click", 1.0, 30, 30));
    let wrong: Vec<bool> = join.take_evidence().into_iter().map(|(_, sample)| sample.wrong).collect();
    assert_eq!(wrong, [true, false], "what was evidence can't be taken back");
}

#[test]
fn the_instances_of_a_request_are_one_unit_after_a_restart_too() {
    let plan = plan(settings(Task::Classification));
    let part = RolloutPart { key: None, ..part(false) };
    let sight = |row: u32, instances: Vec<Instance>| Sight {
        plan: &plan,
        model: "m",
        version: 1,
        arm: Arm::Candidate,
        id: id(1).row(row.into()),
        row,
        request: "",
        ended_us: SECOND,
        rollout: Some(&part),
        rows: 3,
        instances,
    };
    let keys = |join: &mut Join| {
        for row in 0..3 {
            join.tell(&Subject::Prediction(id(1).row(row)), told("label", 3.0, 2, 2));
        }
        join.take_evidence().into_iter().map(|(_, sample)| sample.key).collect::<Vec<_>>()
    };
    let (mut live, mut again) = (join(), join());
    live.see(sight(0, vec![of_class(3); 3]));
    (0..3).for_each(|row| again.see(sight(row, vec![of_class(3)])));
    let of_live = keys(&mut live);
    assert!(of_live.len() == 3 && of_live[0].is_some() && of_live.iter().all(|key| *key == of_live[0]), "{of_live:?}");
    assert_eq!(keys(&mut again), of_live);
}
