//! Whether intervals hold the truth at all times.

use super::super::*;
use super::{at_most, theta};

#[test]
fn the_interval_holds_the_true_ratio_at_every_look() {
    const RUNS: usize = 500;
    for (seed, ratio) in [(1, 1.0), (2, 2.0), (3, 0.3)] {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut wrong = 0;
        for _ in 0..RUNS {
            let mut interval = RatioInterval::default();
            let missed = (0..300).any(|event| {
                let q = if event < 150 { 0.1 } else { 0.5 };
                interval.observe(random.f64() < theta(ratio, q), q);
                let looks = event % 10 == 9;
                looks && {
                    let bounds = interval.bounds(0.1).unwrap();
                    ratio < bounds.low || bounds.high.is_some_and(|high| ratio > high)
                }
            });
            wrong += usize::from(missed);
        }
        assert!(wrong as f64 / RUNS as f64 <= at_most(0.1, RUNS), "ratio {ratio}: {wrong}");
        assert!(wrong > 0, "ratio {ratio}");
    }
}

#[test]
fn the_interval_narrows_around_the_truth() {
    let mut interval = RatioInterval::default();
    assert_eq!(interval.bounds(0.05), None);
    interval.observe_many(0, 5, 0.1);
    let bounds = interval.bounds(0.05).unwrap();
    assert_eq!((bounds.estimate, bounds.low), (Some(0.0), 0.0));
    let mut interval = RatioInterval::default();
    interval.observe(true, 0.1);
    assert_eq!(
        interval.bounds(0.05),
        Some(RatioBounds { estimate: None, low: interval.bounds(0.05).unwrap().low, high: None })
    );
    let mut widths = vec![];
    for events in [100, 1_000, 10_000, 100_000] {
        let mut interval = RatioInterval::default();
        interval.observe_many(events / 5, events - events / 5, 0.1);
        let bounds = interval.bounds(0.05).unwrap();
        let estimate = bounds.estimate.unwrap();
        assert!((estimate - 2.25).abs() < 1e-9 && bounds.low < 2.25);
        widths.push(bounds.high.unwrap() / bounds.low);
    }
    assert!(widths.is_sorted_by(|wide, narrow| wide > narrow), "{widths:?}");
    assert!(widths[3] < 1.08, "{widths:?}");
}

/// In how many runs the empirical distribution of values that are evenly spread over 0 to 99 leaves a band; looked at
/// after every value up to 16 and then more and more seldom.
fn misses(runs: usize, epsilon: impl Fn(u64) -> f64) -> usize {
    let mut random = fastrand::Rng::with_seed(4);
    let mut run = || {
        let (mut counts, mut next_look, mut missed) = ([0u32; 100], 1, false);
        for n in 1..=2_000u64 {
            counts[random.usize(..100)] += 1;
            if n == next_look {
                next_look += 1 + n / 16;
                let mut below = 0;
                missed |= (0..100).any(|value| {
                    below += counts[value];
                    (f64::from(below) / n as f64 - (value + 1) as f64 / 100.0).abs() > epsilon(n)
                });
            }
        }
        missed
    };
    (0..runs).filter(|_| run()).count()
}

#[test]
fn the_band_holds_the_whole_distribution_at_all_looks() {
    const RUNS: usize = 1_000;
    for alpha in [0.5, 0.05] {
        let band = QuantileBand::new(alpha);
        let wrong = misses(RUNS, |n| band.epsilon(n));
        assert!(wrong as f64 / RUNS as f64 <= at_most(alpha, RUNS), "{alpha}: {wrong}");
        // The theorem is on the safe side, but half the width would not do.
        let too_narrow = misses(RUNS, |n| 0.5 * band.epsilon(n));
        assert!(too_narrow as f64 / RUNS as f64 > alpha, "{alpha}: {too_narrow}");
    }
}

#[test]
fn the_absolute_bounds_hold_the_true_rate() {
    const RUNS: usize = 1_000;
    let mut random = fastrand::Rng::with_seed(5);
    let mut wrong = 0;
    for _ in 0..RUNS {
        let mut certificate = AbsoluteCertificate::new(0.5);
        let missed = (0..500).any(|_| {
            certificate.observe(1, u64::from(random.f64() < 0.1));
            let (low, high) = certificate.bounds(0.1);
            !(low..=high).contains(&0.1)
        });
        wrong += usize::from(missed);
    }
    assert!(wrong as f64 / RUNS as f64 <= at_most(0.1, RUNS) && wrong > 5, "{wrong}");
}
