//! What holds for all inputs.

use proptest::prelude::*;

use super::super::*;

proptest! {
    #[test]
    fn events_at_once_are_events_one_by_one(
        events in prop::collection::vec((any::<bool>(), 1u8..100), 1..200), null in 0.5f64..4.0
    ) {
        let (mut single, mut batch) = (RateRatio::harm(null), RateRatio::harm(null));
        for (in_candidate, percent) in &events {
            single.observe(*in_candidate, f64::from(*percent) / 100.0);
        }
        for percent in 1u8..100 {
            let count = |arm: bool| events.iter().filter(|(x, q)| *x == arm && *q == percent).count() as u64;
            batch.observe_many(count(true), count(false), f64::from(percent) / 100.0);
        }
        prop_assert!((single.log_e() - batch.log_e()).abs() < 1e-9);
    }

    #[test]
    fn no_input_gives_a_number_that_is_none(
        counts in (0u64..1 << 40, 0u64..1 << 40), q in prop::num::f64::ANY, ratio in prop::num::f64::ANY
    ) {
        for mut evidence in [RateRatio::harm(ratio), RateRatio::safe(ratio)] {
            evidence.observe_many(counts.0, counts.1, q);
            prop_assert!(!evidence.log_e().is_nan() && (0.0..=E_VALUE_MAX).contains(&evidence.e_value()));
        }
        let mut check = SampleRatio::default();
        check.observe_many(counts.0, counts.1, q);
        prop_assert!(!check.log_e().is_nan() && (0.0..=E_VALUE_MAX).contains(&check.e_value()));
        let mut interval = RatioInterval::default();
        interval.observe_many(counts.0, counts.1, q);
        if let Some(bounds) = interval.bounds(0.05) {
            prop_assert!(bounds.low.is_finite() && bounds.high.is_none_or(f64::is_finite));
        }
    }

    #[test]
    fn bounds_hold_what_was_seen(counts in (0u64..2_000, 0u64..2_000), percent in 1u8..100) {
        let (candidate, comparator) = counts;
        let mut interval = RatioInterval::default();
        interval.observe_many(candidate, comparator, f64::from(percent) / 100.0);
        if let Some(RatioBounds { estimate: Some(estimate), low, high }) = interval.bounds(0.05) {
            prop_assert!(low <= estimate && high.is_none_or(|high| estimate <= high));
        }
        let certificate = AbsoluteCertificate::of(0.1, candidate + comparator, candidate);
        let (low, high) = certificate.bounds(0.05);
        let seen = candidate as f64 / (candidate + comparator).max(1) as f64;
        prop_assert!(low <= seen && seen <= high && 0.0 <= low && high <= 1.0);
        // The evidence against one side never speaks for the other.
        prop_assert!(certificate.log_e_below() < 1e-6 || certificate.log_e_above() < 1e-6);
    }
}
