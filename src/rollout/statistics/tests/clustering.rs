//! Bursts of events from one key, where requests are assigned by key.

use super::super::*;
use super::at_most;

const RUNS: usize = 2_000;

/// The share of false alarms at 5 %, with 200 keys that each have a burst of events.
fn alarms(burst: usize, once_a_key: bool) -> f64 {
    let mut random = fastrand::Rng::with_seed(burst as u64);
    let run = |_| {
        let (mut evidence, mut seen, mut most) = (RateRatio::harm(1.0), KeyedEvents::default(), 0f64);
        for key in 0..200 {
            let in_candidate = random.f64() < 0.1;
            for _ in 0..burst {
                if !once_a_key || seen.first(Some(key)) {
                    evidence.observe(in_candidate, 0.1);
                }
                most = most.max(evidence.log_e());
            }
        }
        usize::from(most >= 20f64.ln())
    };
    (0..RUNS).map(run).sum::<usize>() as f64 / RUNS as f64
}

#[test]
fn counting_a_key_once_restores_the_bound_that_bursts_break() {
    for (burst, broken) in [(2, 0.1), (5, 0.3), (20, 0.4)] {
        let (each, once) = (alarms(burst, false), alarms(burst, true));
        assert!(each > broken, "bursts of {burst}: {each}");
        assert!(once <= at_most(0.05, RUNS), "bursts of {burst}, once a key: {once}");
    }
}

#[test]
fn a_key_counts_once_a_step_and_no_key_always() {
    let mut seen = KeyedEvents::default();
    assert!(seen.first(Some(7)) && !seen.first(Some(7)) && seen.first(Some(8)));
    assert!(seen.first(None) && seen.first(None));
    seen.next_step();
    assert!(seen.first(Some(7)));
}

#[test]
fn very_many_keys_are_exact_first_and_then_never_counted_twice() {
    let mut seen = KeyedEvents::default();
    let firsts = |seen: &mut KeyedEvents, keys: std::ops::Range<u64>| keys.filter(|key| seen.first(Some(*key))).count();
    assert_eq!(firsts(&mut seen, 0..100_000), 100_000);
    assert_eq!(firsts(&mut seen, 0..100_000), 0);
    let new = firsts(&mut seen, 100_000..110_000);
    assert!((9_800..10_000).contains(&new), "{new} of 10,000");
    assert_eq!(firsts(&mut seen, 0..110_000), 0);
    let later = firsts(&mut seen, 110_000..300_000);
    assert!(later > 170_000, "{later} of 190,000");
}
