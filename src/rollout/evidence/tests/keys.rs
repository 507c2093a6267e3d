//! Users who stay on an arm count once a step.

use super::*;
use crate::rollout::view::CountView;

fn sample(arm: Arm, key: Option<u64>, error: bool) -> Observation {
    let weights = Weights::of_candidate(1000);
    Observation::Served(Sample { arm, weights, key, error, invalid: false, latency_us: 1_000, queue_us: 0 })
}

fn counts(evidence: &Evidence) -> [CountView; 2] {
    [evidence.checks[0].candidate, evidence.checks[0].comparator]
}

fn count(requests: u64, events: u64) -> CountView {
    CountView { requests, events }
}

#[test]
fn a_key_is_one_request_and_one_event_a_step() {
    let spec = spec::read(&json!({})).unwrap();
    let mut evidence = Evidence::new(&spec);
    let key = Some(7);
    for error in [false, true, true, false] {
        evidence.observe(&spec, &sample(Arm::Candidate, key, error), NOON_MS);
    }
    assert_eq!(counts(&evidence), [count(1, 1), count(0, 0)]);
    let once = evidence.overall(&spec);
    evidence.observe(&spec, &sample(Arm::Candidate, key, true), NOON_MS);
    assert_eq!(evidence.overall(&spec), once);
    assert_eq!(evidence.sample_ratio_view().candidate, 1);
    // Requests without a key count each.
    for _ in 0..3 {
        evidence.observe(&spec, &sample(Arm::Stable, None, true), NOON_MS);
    }
    assert_eq!(counts(&evidence), [count(1, 1), count(3, 3)]);
    // Every answer is in the arm's own figures.
    let rows = evidence.arm_views((1, 2));
    assert_eq!((rows[1].requests, rows[1].errors, rows[0].requests), (5, 3, 3));
}

#[test]
fn a_key_counts_again_in_the_next_step_on_the_arm_that_it_has_then() {
    let spec = spec::read(&json!({})).unwrap();
    let mut evidence = Evidence::new(&spec);
    evidence.observe(&spec, &sample(Arm::Stable, Some(7), true), NOON_MS);
    evidence.next_step(&spec, NOON_MS);
    for _ in 0..2 {
        evidence.observe(&spec, &sample(Arm::Candidate, Some(7), true), NOON_MS);
    }
    assert_eq!(counts(&evidence), [count(1, 1), count(1, 1)]);
    assert_eq!((evidence.step.candidate, evidence.step.others), (2, 0));
}

/// A user with a storm of errors is one event, whichever arm has the user.
#[test]
fn one_busy_user_rolls_nothing_back() {
    let spec = spec::read(&json!({"analysis": {"warmup_exclude": "0s"}})).unwrap();
    let mut evidence = Evidence::new(&spec);
    for user in 0..2_000 {
        evidence.observe(&spec, &sample(Arm::Stable, Some(user), user % 100 == 0), NOON_MS);
    }
    for _ in 0..1_000 {
        evidence.observe(&spec, &sample(Arm::Candidate, Some(5_000), true), NOON_MS);
    }
    assert!(evidence.overall(&spec).harms.is_empty());
    // The same errors of users of their own are harm.
    for user in 6_000..6_030 {
        evidence.observe(&spec, &sample(Arm::Candidate, Some(user), true), NOON_MS);
    }
    assert_eq!(evidence.overall(&spec).harms.len(), 1);
}

/// The first seconds after a change of the weights are looked away from, where the spec asks for it.
#[test]
fn what_is_excluded_as_warm_up_counts_for_no_check() {
    let spec = spec::read(&json!({"analysis": {"warmup_exclude": "30s"}})).unwrap();
    let mut evidence = Evidence::new(&spec);
    evidence.next_step(&spec, NOON_MS + 1_000);
    evidence.observe(&spec, &sample(Arm::Candidate, None, true), NOON_MS + 30_999);
    assert_eq!((counts(&evidence), evidence.has_samples(1, 10_000)), ([count(0, 0); 2], false));
    evidence.observe(&spec, &sample(Arm::Candidate, None, true), NOON_MS + 31_000);
    assert_eq!((counts(&evidence), evidence.has_samples(1, 10_000)), ([count(1, 1), count(0, 0)], true));
}
