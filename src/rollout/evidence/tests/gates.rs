//! What keeps a rollout from going on, and what ends it whatever the checks say.

use super::*;
use crate::rollout::state_machine::{HoldReason, Phase};

/// The state and the reason of a hold.
fn held(simulation: &Simulation) -> (State, Option<&HoldReason>) {
    (simulation.progress.state, simulation.progress.held.as_ref().map(|hold| &hold.reason))
}

const FIRST_BAKING: State = State::Step { index: 0, phase: Phase::Baking };

#[test]
fn without_traffic_nothing_is_promoted() {
    let mut simulation = Simulation::new(&json!({}), 1);
    simulation.pace = (0, 60_000);
    for _ in 0..3 * 24 * 60 {
        simulation.look(60_000);
    }
    assert_eq!(held(&simulation), (FIRST_BAKING, Some(&HoldReason::Inconclusive)));
    assert!(simulation.progress.cause.contains("min_samples is not reached"), "{}", simulation.progress.cause);
    assert!(!simulation.evidence.overall(&simulation.spec).safe);
}

/// What comes before the candidate has its share says nothing of it.
#[test]
fn traffic_that_the_candidate_gets_none_of_promotes_nothing() {
    let mut simulation = Simulation::new(&quick(), 1);
    simulation.skewed_to = Some(Weights::ALL_STABLE);
    simulation.run(200_000);
    assert_eq!(simulation.progress.state, FIRST_BAKING);
    assert!(simulation.evidence.sample_ratio_view().mismatch);
}

#[test]
fn a_router_that_does_not_split_as_it_should_stops_the_way_forward() {
    let mut simulation = Simulation::new(&quick(), 2);
    simulation.skewed_to = Some(Weights::of_candidate(560));
    simulation.run(1_000_000);
    assert_eq!(held(&simulation), (FIRST_BAKING, Some(&HoldReason::Inconclusive)));
    assert!(simulation.progress.cause.contains("observations are missing"), "{}", simulation.progress.cause);
    let view = simulation.evidence.sample_ratio_view();
    assert!(view.mismatch && (view.expected_share - 0.1).abs() < 1e-9, "{view:?}");
}

#[test]
fn lost_observations_stop_the_way_forward_for_ten_seconds() {
    let mut simulation = Simulation::new(&quick(), 3);
    simulation.look(0);
    // More between two looks than can wait.
    (0..70_000).for_each(|_| simulation.request());
    simulation.look(2_000);
    assert!(simulation.dial.observations_dropped() > 4_000 && simulation.facts().min_samples_reached);
    simulation.look(9_999);
    assert_eq!(simulation.progress.state, FIRST_BAKING);
    simulation.look(1);
    assert!(simulation.progress.state.step() > Some(0), "{:?}", simulation.progress.state);
}

#[test]
fn a_guard_sees_the_last_minute_and_rolls_back_a_paused_rollout() {
    let mut spec = at_weight(5000);
    spec["guards"] = json!([{"metric": "candidate.error_rate", "max": 0.05}]);
    spec["steps"][0]["require"] = json!("no_harm");
    spec["analysis"] = json!({"checks": [{"event": "error", "dry_run": true}]});
    let mut simulation = Simulation::new(&spec, 4);
    simulation.run(100);
    simulation.progress.paused = true;
    // Few requests are no evidence, and what is over a minute old has no say.
    let breach = |simulation: &Simulation| simulation.evidence.guard_breach(&simulation.spec);
    simulation.now_ms += 70_000;
    simulation.candidate.error_rate = 0.2;
    simulation.run(20);
    assert_eq!((breach(&simulation), simulation.progress.state.is_terminal()), (None, false));
    assert_eq!(simulation.run(200), State::RolledBack);
    assert!(simulation.progress.cause.starts_with("candidate.error_rate is 0."), "{}", simulation.progress.cause);
    assert!(breach(&simulation).is_some());
    simulation.look(61_000);
    assert_eq!(breach(&simulation), None);
}

#[test]
fn latency_has_no_verdict_before_the_line_is_frozen() {
    let mut simulation = Simulation::new(&at_weight(5000), 5);
    simulation.candidate.median_us *= 20.0;
    simulation.look(0);
    let slow = |simulation: &Simulation| simulation.evidence.check_views(&simulation.spec)[1].clone();
    while simulation.evidence.slow_us.is_none() {
        let view = slow(&simulation);
        assert_eq!((view.candidate.requests, view.verdict.as_str()), (0, "inconclusive"));
        assert!(view.note.starts_with("stable's p95 is not known"), "{}", view.note);
        simulation.request();
        simulation.look(1);
    }
    assert_eq!(simulation.evidence.stable_latency.count(), 500);
    // Stable's p95, exp(1.645 · 0.5) medians, with a half and 0.5 ms on top; three sigma of 500 samples.
    let line = simulation.evidence.slow_us;
    assert!(line.is_some_and(|us| (6_000..=8_900).contains(&us)), "{line:?}");
    assert_eq!(simulation.run(5_000), State::RolledBack);
    assert_eq!(simulation.evidence.slow_us, line, "frozen");
    assert_eq!(slow(&simulation).verdict, "fail");
}

#[test]
fn figures_that_were_written_and_read_back_give_the_same_verdicts() {
    for users in [Users::Anonymous, Users::Sticky(500)] {
        let mut simulation = Simulation::new(&quick(), 6);
        simulation.users = users;
        simulation.candidate = Version { error_rate: 0.02, invalid_rate: 0.001, ..FAULTLESS };
        simulation.stable = simulation.candidate;
        simulation.run(1_500);
        let text = serde_json::to_string(&simulation.evidence).unwrap();
        let mut read: Evidence = serde_json::from_str(&text).unwrap();
        assert!(read.fits(&simulation.spec));
        for _ in 0..3_000 {
            simulation.request();
            let observation = simulation.observations.try_recv().unwrap();
            for evidence in [&mut simulation.evidence, &mut read] {
                evidence.observe(&simulation.spec, &observation, simulation.now_ms);
            }
            assert_eq!(read.overall(&simulation.spec), simulation.evidence.overall(&simulation.spec));
        }
        let written = |evidence: &Evidence| serde_json::to_value(evidence).unwrap();
        assert_eq!(read.checks, simulation.evidence.checks);
        assert_eq!(written(&read), written(&simulation.evidence));
    }
}

#[test]
fn quantiles_of_the_whole_rollout_come_with_what_they_lie_between() {
    let mut simulation = Simulation::new(&at_weight(5000), 7);
    simulation.run(2_000);
    let candidate = simulation.evidence.arm_views((1, 2))[1].clone();
    let (p50, p95) = (candidate.p50_so_far.unwrap(), candidate.p95_so_far.unwrap());
    let median_ms = simulation.candidate.median_us / 1e3;
    assert!(p50.low_ms.unwrap() < median_ms && median_ms < p50.high_ms.unwrap(), "{median_ms}: {p50:?}");
    assert!(p95.low_ms.unwrap() < p95.estimate_ms && p95.estimate_ms > p50.estimate_ms, "{p95:?}");
    assert_eq!(p95.high_ms, None, "a bound above needs about three thousand answers");
}
