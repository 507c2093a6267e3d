//! How fast what is there is found. The figures are the ones of the doc comments.

use super::super::*;
use super::{median, near, theta};

const RUNS: usize = 2_000;

/// The median number of events until the evidence reaches a line.
fn events_until(seed: u64, start: &RateRatio, ratio: f64, (q, line): (f64, f64)) -> f64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let run = |_| {
        let mut evidence = start.clone();
        let happen = (1..20_000).find(|_| {
            evidence.observe(random.f64() < theta(ratio, q), q);
            evidence.log_e() >= line.ln()
        });
        happen.expect("it is found")
    };
    median((0..RUNS).map(run).collect())
}

/// Candidate requests that bring so many events at a base rate of 1 %.
fn requests(events: f64, ratio: f64, q: f64) -> f64 {
    events * q / (0.01 * (q * ratio + 1.0 - q))
}

#[test]
fn harm_is_found_after_the_documented_number_of_requests() {
    let table = [
        (1.5, 6_000.0, 11_200.0),
        (2.0, 1_490.0, 2_970.0),
        (3.0, 430.0, 900.0),
        (5.0, 150.0, 330.0),
        (10.0, 47.0, 118.0),
    ];
    let harm = RateRatio::harm(1.0);
    for (ratio, at_a_tenth, at_a_half) in table {
        for (q, expected) in [(0.1, at_a_tenth), (0.5, at_a_half)] {
            let events = events_until(1, &harm, ratio, (q, 100.0));
            let got = requests(events, ratio, q);
            assert!(near(got, expected, 0.15), "ratio {ratio}, q {q}: {got} for {expected}");
        }
    }
}

#[test]
fn an_equal_candidate_is_certified_after_the_documented_number_of_requests() {
    for (safe_ratio, expected) in [(3.0, 370.0), (2.0, 1_040.0), (1.5, 3_970.0)] {
        let events = events_until(2, &RateRatio::safe(safe_ratio), 1.0, (0.1, 20.0));
        let got = requests(events, 1.0, 0.1);
        assert!(near(got, expected, 0.15), "safe ratio {safe_ratio}: {got} for {expected}");
    }
}

#[test]
fn a_rate_without_events_is_certified_after_exactly_these_requests() {
    for (max_rate, expected) in [(0.05, 116), (0.02, 320), (0.01, 680), (0.005, 1_438), (0.001, 8_062)] {
        assert_eq!(requests_without_event(max_rate, 0.05), expected);
        assert!(AbsoluteCertificate::of(max_rate, expected, 0).e_below() >= 20.0);
        assert!(AbsoluteCertificate::of(max_rate, expected - 1, 0).e_below() < 20.0);
    }
}

#[test]
fn a_rate_above_its_maximum_is_found() {
    // Ten times the maximum of 0.1 %.
    let mut random = fastrand::Rng::with_seed(3);
    let run = |_| {
        let mut certificate = AbsoluteCertificate::new(0.001);
        let found = (1..100_000).find(|_| {
            certificate.observe(1, u64::from(random.f64() < 0.01));
            certificate.e_above() >= 100.0
        });
        found.expect("it is found")
    };
    let got = median((0..500).map(run).collect());
    assert!((300.0..900.0).contains(&got), "{got}");
}

#[test]
fn a_router_that_gives_5_6_percent_for_10_is_exposed_within_a_thousand_requests() {
    let mut random = fastrand::Rng::with_seed(4);
    let run = |_| {
        let mut check = SampleRatio::default();
        let found = (1..100_000).find(|_| {
            check.observe(random.f64() < 0.056, 0.1);
            check.is_mismatch()
        });
        found.expect("it is found")
    };
    let needed: Vec<u64> = (0..1_000).map(run).collect();
    let within_1000 = needed.iter().filter(|requests| **requests <= 1_000).count();
    let got = median(needed);
    assert!(near(got, 650.0, 0.15) && within_1000 > 800, "{got} {within_1000}");
    let mut check = SampleRatio::default();
    check.observe_many(560, 9_440, 0.1);
    assert_eq!(check.expected_share(), Some(0.1));
    assert_eq!((check.candidate(), check.others()), (560, 9_440));
}

#[test]
fn pairs_show_a_worse_candidate_and_not_a_better_one() {
    let (mut worse, mut better) = (PairedSign::default(), PairedSign::default());
    for pair in 0..100 {
        worse.observe(true, pair % 10 == 0);
        better.observe(pair % 10 == 0, true);
    }
    assert_eq!((worse.candidate_only(), worse.other_only()), (90, 0));
    assert!(worse.e_worse() > 1e20 && better.e_worse() < 1.0);
    assert_eq!(worse.e_value(), better.e_value());
}

/// Where requests are too few for a bound of a tail quantile, the band says so.
#[test]
fn a_tail_quantile_is_bounded_from_the_documented_number_of_values_on() {
    for (alpha, p, first) in [
        (0.05, 0.9, 734),
        (0.05, 0.95, 2_983),
        (0.05, 0.99, 76_789),
        (0.025, 0.9, 770),
        (0.025, 0.95, 3_129),
        (0.025, 0.99, 80_428),
    ] {
        for (count, is_bounded) in [(first - 1, false), (first, true)] {
            let mut histogram = LatencyHistogram::default();
            (0..count).for_each(|value| histogram.record(value));
            let bounds = QuantileBand::new(alpha).bounds(&histogram, p).unwrap();
            assert_eq!(bounds.high_us.is_some(), is_bounded, "alpha {alpha}, p {p} of {count}");
            assert!(bounds.low_us.unwrap() < bounds.estimate_us);
        }
    }
}
