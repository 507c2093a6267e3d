//! Against values of other implementations: `tests/reference/statistics.py` says which ones and what they cover.

use serde::Deserialize;

use super::super::numeric::{log_beta_mixture, log_gamma, log_likelihood};
use super::super::*;

#[derive(Deserialize)]
struct Table {
    quantile_epsilon: Vec<Epsilon>,
    beta_mixture: Vec<Mixture>,
    sign_test: Vec<Pairs>,
    certificate: Vec<Certificate>,
    rate_ratio: Vec<History>,
    ratio_interval: Vec<Interval>,
}

#[derive(Debug, Deserialize)]
struct Epsilon {
    alpha: f64,
    n: u64,
    epsilon: f64,
}

#[derive(Debug, Deserialize)]
struct Mixture {
    rate: f64,
    a: f64,
    b: f64,
    yes: f64,
    no: f64,
    log_e: f64,
}

#[derive(Debug, Deserialize)]
struct Pairs {
    candidate_only: u64,
    other_only: u64,
    log_e: f64,
}

#[derive(Debug, Deserialize)]
struct Certificate {
    max_rate: f64,
    n: u64,
    x: u64,
    log_e_below: f64,
    log_e_above: f64,
}

/// Events in the candidate, in the comparator, and q.
type Events = Vec<(u64, u64, f64)>;

#[derive(Debug, Deserialize)]
struct History {
    side: String,
    null: f64,
    events: Events,
    log_e: f64,
}

#[derive(Debug, Deserialize)]
struct Interval {
    alpha: f64,
    events: Events,
    estimate: f64,
    low: f64,
    high: f64,
}

fn table() -> Table {
    serde_json::from_str(include_str!("../../../../tests/reference/statistics.json")).unwrap()
}

#[track_caller]
fn equal(got: f64, expected: f64, row: &dyn std::fmt::Debug) {
    assert!((got - expected).abs() <= 1e-8 * expected.abs().max(1.0), "{got} for {expected}: {row:?}");
}

#[test]
fn the_width_of_the_quantile_band_is_that_of_confseq() {
    let rows = table().quantile_epsilon;
    assert!(rows.len() > 30);
    for row in rows {
        equal(QuantileBand::new(row.alpha).epsilon(row.n), row.epsilon, &row);
    }
    for (alpha, constant) in [(0.05, 8.12), (0.025, 8.62), (0.01, 9.28)] {
        assert!((QuantileBand::new(alpha).constant() - constant).abs() < 0.005);
    }
}

#[test]
fn the_beta_mixture_is_that_of_confseq() {
    let rows = table().beta_mixture;
    assert!(rows.len() > 30);
    for row in rows {
        let log_e = log_beta_mixture((row.a, row.b), row.yes, row.no) - log_likelihood(row.rate, row.yes, row.no);
        equal(log_e, row.log_e, &row);
    }
}

#[test]
fn the_sign_test_is_that_of_confseq() {
    let rows = table().sign_test;
    assert!(rows.len() > 5);
    for row in rows {
        let mut pairs = PairedSign::default();
        (0..row.candidate_only).for_each(|_| pairs.observe(true, false));
        (0..row.other_only).for_each(|_| pairs.observe(false, true));
        equal(pairs.log_e(), row.log_e, &row);
    }
}

#[test]
fn the_certificate_is_that_of_high_precision() {
    let rows = table().certificate;
    assert!(rows.len() > 5);
    for row in rows {
        let certificate = AbsoluteCertificate::of(row.max_rate, row.n, row.x);
        equal(certificate.log_e_below(), row.log_e_below, &row);
        equal(certificate.log_e_above(), row.log_e_above, &row);
    }
}

#[test]
fn the_rate_ratio_is_that_of_high_precision() {
    let rows = table().rate_ratio;
    assert!(rows.len() > 20);
    for row in rows {
        let mut evidence = if row.side == "harm" { RateRatio::harm(row.null) } else { RateRatio::safe(row.null) };
        row.events.iter().for_each(|(x, y, q)| evidence.observe_many(*x, *y, *q));
        equal(evidence.log_e(), row.log_e, &row);
    }
}

#[test]
fn the_interval_is_that_of_high_precision() {
    let rows = table().ratio_interval;
    assert!(rows.len() > 5);
    for row in rows {
        let mut interval = RatioInterval::default();
        row.events.iter().for_each(|(x, y, q)| interval.observe_many(*x, *y, *q));
        let bounds = interval.bounds(row.alpha).unwrap();
        equal(bounds.estimate.unwrap(), row.estimate, &row);
        equal(bounds.low, row.low, &row);
        equal(bounds.high.unwrap(), row.high, &row);
    }
}

#[test]
fn the_gamma_function_has_its_known_values() {
    let mut log_factorial = 0.0;
    for n in 1..200 {
        log_factorial += f64::from(n).ln();
        equal(log_gamma(f64::from(n) + 1.0), log_factorial, &n);
    }
    equal(log_gamma(0.5), std::f64::consts::PI.sqrt().ln(), &"a half");
    equal(log_gamma(1e-3), 6.907178885383853, &"small");
}
