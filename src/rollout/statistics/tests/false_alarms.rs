//! Runs in which the null hypothesis holds, inspected after every event.

use super::super::*;
use super::{at_most, theta};

const RUNS: usize = 10_000;
const EVENTS: usize = 400;

/// q as events pass: constant, or through the steps of a rollout.
fn constant(_: usize) -> f64 {
    0.1
}

fn stepwise(event: usize) -> f64 {
    [0.01, 0.05, 0.1, 0.25, 0.5][event * 5 / EVENTS]
}

/// The shares of runs that ever reach the lines of 5 % and 1 %.
fn alarms(seed: u64, start: &RateRatio, ratio: f64, q: fn(usize) -> f64) -> (f64, f64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut at_5, mut at_1) = (0, 0);
    for _ in 0..RUNS {
        let (mut evidence, mut most) = (start.clone(), f64::NEG_INFINITY);
        for event in 0..EVENTS {
            evidence.observe(random.f64() < theta(ratio, q(event)), q(event));
            most = most.max(evidence.log_e());
        }
        at_5 += usize::from(most >= 20f64.ln());
        at_1 += usize::from(most >= 100f64.ln());
    }
    (at_5 as f64 / RUNS as f64, at_1 as f64 / RUNS as f64)
}

fn holds(seed: u64, start: &RateRatio, ratio: f64, q: fn(usize) -> f64) {
    let (at_5, at_1) = alarms(seed, start, ratio, q);
    assert!(at_5 <= at_most(0.05, RUNS) && at_1 <= at_most(0.01, RUNS), "{start:?} at {ratio}: {at_5} {at_1}");
    // The lines are not out of reach either.
    assert!(at_5 > 0.005, "{at_5}");
}

#[test]
fn an_equal_candidate_is_seldom_called_harmful_however_often_one_looks() {
    holds(1, &RateRatio::harm(1.0), 1.0, constant);
    holds(2, &RateRatio::harm(1.0), 1.0, stepwise);
}

#[test]
fn a_candidate_at_the_harm_ratio_is_seldom_called_harmful() {
    holds(3, &RateRatio::harm(1.5), 1.5, constant);
    holds(4, &RateRatio::harm(1.5), 1.5, stepwise);
}

#[test]
fn a_candidate_at_the_safe_ratio_is_seldom_called_safe() {
    holds(5, &RateRatio::safe(2.0), 2.0, constant);
    holds(6, &RateRatio::safe(2.0), 2.0, stepwise);
}

#[test]
fn a_rate_at_its_maximum_is_seldom_certified_or_called_above() {
    let mut random = fastrand::Rng::with_seed(7);
    let (mut below, mut above) = (0, 0);
    for _ in 0..2_000 {
        let mut certificate = AbsoluteCertificate::new(0.05);
        let (mut called_below, mut called_above) = (false, false);
        for _ in 0..1_000 {
            certificate.observe(1, u64::from(random.f64() < 0.05));
            called_below |= certificate.log_e_below() >= 20f64.ln();
            called_above |= certificate.log_e_above() >= 20f64.ln();
        }
        below += usize::from(called_below);
        above += usize::from(called_above);
    }
    for called in [below, above] {
        assert!(called as f64 / 2_000.0 <= at_most(0.05, 2_000) && called > 2, "{below} {above}");
    }
}

#[test]
fn a_router_that_keeps_to_its_weights_is_seldom_blamed() {
    let mut random = fastrand::Rng::with_seed(8);
    let mut blamed = 0;
    for _ in 0..2_000 {
        let (mut check, mut most) = (SampleRatio::default(), 0f64);
        for request in 0..1_000 {
            let share = stepwise(request * EVENTS / 1_000);
            check.observe(random.f64() < share, share);
            most = most.max(check.log_e());
        }
        blamed += usize::from(most >= 20f64.ln());
    }
    assert!(blamed as f64 / 2_000.0 <= at_most(0.05, 2_000) && blamed > 5, "{blamed}");
}

#[test]
fn two_equal_versions_seldom_look_different_in_pairs() {
    let mut random = fastrand::Rng::with_seed(9);
    let (mut differ, mut worse) = (0, 0);
    for _ in 0..2_000 {
        let (mut pairs, mut most, mut most_worse) = (PairedSign::default(), 0f64, 0f64);
        for _ in 0..500 {
            let candidate = random.bool();
            pairs.observe(candidate, !candidate);
            most = most.max(pairs.log_e());
            most_worse = most_worse.max(pairs.log_e_worse());
        }
        differ += usize::from(most >= 20f64.ln());
        worse += usize::from(most_worse >= 20f64.ln());
    }
    let allowed = at_most(0.05, 2_000);
    assert!(differ as f64 / 2_000.0 <= allowed && differ > 5, "{differ}");
    assert!(worse as f64 / 2_000.0 <= allowed && worse > 2, "{worse}");
}
