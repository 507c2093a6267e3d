//! Verdicts and forecasts as tables.

use super::super::*;
use super::near;

fn check<'a>(harm: &'a RateRatio, safe: &'a RateRatio, absolute: Option<&'a AbsoluteCertificate>) -> Check<'a> {
    Check { alpha: 0.05, share: 0.4, harm: Some(harm), safe: Some(safe), absolute }
}

/// Both processes after events in the candidate and the comparator, at q = 0.1.
fn ratios(candidate: u64, comparator: u64) -> (RateRatio, RateRatio) {
    let (mut harm, mut safe) = (RateRatio::harm(1.5), RateRatio::safe(2.0));
    harm.observe_many(candidate, comparator, 0.1);
    safe.observe_many(candidate, comparator, 0.1);
    (harm, safe)
}

#[test]
fn the_verdict_follows_the_evidence() {
    let fine = AbsoluteCertificate::of(0.01, 700, 0);
    let bad = AbsoluteCertificate::of(0.01, 700, 40);
    let few = AbsoluteCertificate::of(0.01, 100, 0);
    for (events, absolute, verdict, decided_by) in [
        ((0, 0), None, Verdict::Inconclusive, vec![]),
        ((2, 18), Some(&few), Verdict::Inconclusive, vec![]),
        ((60, 60), None, Verdict::Fail, vec![Evidence::HarmRatio]),
        ((20, 180), None, Verdict::Pass, vec![Evidence::SafeRatio]),
        ((0, 0), Some(&fine), Verdict::Pass, vec![Evidence::BelowMaximum]),
        ((20, 180), Some(&fine), Verdict::Pass, vec![Evidence::SafeRatio, Evidence::BelowMaximum]),
        // A high rate that both arms have is not the candidate's fault.
        ((0, 0), Some(&bad), Verdict::Inconclusive, vec![]),
        ((20, 180), Some(&bad), Verdict::Pass, vec![Evidence::SafeRatio]),
        // Harm outweighs safety.
        ((60, 60), Some(&fine), Verdict::Fail, vec![Evidence::HarmRatio]),
    ] {
        let (harm, safe) = ratios(events.0, events.1);
        let judgement = judge(&check(&harm, &safe, absolute));
        assert_eq!((judgement.verdict, &judgement.decided_by), (verdict, &decided_by), "{events:?} {absolute:?}");
    }
}

#[test]
fn lines_follow_the_budget() {
    let (harm, safe) = ratios(0, 0);
    let judgement = judge(&check(&harm, &safe, None));
    assert!(near(judgement.harm_line, 50.0, 1e-9) && near(judgement.safe_line, 20.0, 1e-9));
    assert_eq!((judgement.e_harm, judgement.e_safe), (1.0, 1.0));
    // Nothing to compare with: the maximum judges.
    let bad = AbsoluteCertificate::of(0.01, 700, 40);
    let alone = Check { alpha: 0.05, share: 0.4, harm: None, safe: None, absolute: Some(&bad) };
    assert_eq!(judge(&alone).decided_by, [Evidence::AboveMaximum]);
    let (harm, safe) = ratios(1_000_000, 0);
    let judgement = judge(&check(&harm, &safe, None));
    assert_eq!((judgement.e_harm, judgement.e_safe), (E_VALUE_MAX, 0.0));
    let nothing = Check { alpha: 0.05, share: 1.0, harm: None, safe: None, absolute: None };
    assert_eq!(judge(&nothing).verdict, Verdict::Inconclusive);
    assert_eq!(forecast(&nothing, 0.1, &Observed::default()), None);
}

#[test]
fn an_event_that_could_only_be_in_one_arm_says_nothing() {
    let (harm, _) = ratios(5, 20);
    for q in [0.0, 1.0, -0.1, 1.1, f64::NAN] {
        let mut same = harm.clone();
        same.observe(true, q);
        same.observe(false, q);
        assert_eq!(same, harm, "{q}");
        let (mut interval, mut router) = (RatioInterval::default(), SampleRatio::default());
        interval.observe(true, q);
        router.observe(true, q);
        assert_eq!((interval.bounds(0.05), router.expected_share()), (None, None), "{q}");
    }
}

#[test]
fn names_are_those_of_json() {
    for verdict in [Verdict::Pass, Verdict::Fail, Verdict::Inconclusive] {
        assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.as_str());
    }
    for evidence in [Evidence::HarmRatio, Evidence::AboveMaximum, Evidence::SafeRatio, Evidence::BelowMaximum] {
        assert_eq!(serde_json::to_value(evidence).unwrap(), evidence.as_str());
    }
}

#[test]
fn the_forecast_without_events_is_what_the_certificate_lacks() {
    let (harm, safe) = ratios(0, 0);
    for (seen, expected) in [(0, 680), (100, 580), (679, 1), (680, 0), (5_000, 0)] {
        let absolute = AbsoluteCertificate::of(0.01, seen, 0);
        let observed = Observed { candidate_requests: seen, comparator_requests: 9 * seen, ..Observed::default() };
        assert_eq!(forecast(&check(&harm, &safe, Some(&absolute)), 0.1, &observed), Some(expected), "{seen}");
        assert_eq!(forecast(&check(&harm, &safe, None), 0.1, &observed), None);
    }
}

#[test]
fn the_forecast_of_the_ratio_comes_near_what_is_needed_and_shrinks() {
    // Equal rates of 1 %: in simulations the mean need is 1,360 requests and the median one 1,060.
    let mut left = vec![];
    for so_far in [200, 400, 800] {
        let (harm, safe) = ratios(so_far / 100, so_far * 9 / 100);
        let observed = Observed {
            candidate_requests: so_far,
            candidate_events: so_far / 100,
            comparator_requests: 9 * so_far,
            comparator_events: so_far * 9 / 100,
        };
        let more = forecast(&check(&harm, &safe, None), 0.1, &observed).unwrap();
        assert!(near((so_far + more) as f64, 1_360.0, 0.3), "{so_far} and {more} more");
        left.push(more);
    }
    assert!(left.is_sorted_by(|more, less| more > less), "{left:?}");
}

#[test]
fn a_candidate_that_would_never_pass_has_no_forecast() {
    let (harm, safe) = ratios(40, 100);
    let observed = Observed {
        candidate_requests: 1_000,
        candidate_events: 40,
        comparator_requests: 9_000,
        comparator_events: 100,
    };
    let absolute = AbsoluteCertificate::of(0.01, 1_000, 40);
    assert_eq!(forecast(&check(&harm, &safe, Some(&absolute)), 0.1, &observed), None);
}
