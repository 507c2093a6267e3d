use super::*;
use crate::rollout::testing::{NOON_MS, rollout};
use crate::rollout::view::QuantileView;

const COLOURED: Look = Look { width: 80, colour: true };

/// Without escape sequences.
fn plain(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |out, part| out + part.split_once('m').unwrap().1)
}

#[test]
fn a_screen_shows_the_whole_of_a_rollout() {
    let text = render(&rollout(), Look::PLAIN, NOON_MS + 550_000);
    assert_eq!(text, include_str!("baking.txt"));
}

#[test]
fn quantiles_of_the_whole_rollout_show_what_they_lie_between() {
    let mut view = rollout();
    let quantile = |estimate_ms, high_ms| Some(QuantileView { estimate_ms, low_ms: Some(0.5), high_ms });
    (view.arms[1].p50_so_far, view.arms[1].p95_so_far) = (quantile(1.25, Some(1.5)), quantile(3.5, None));
    let text = render(&view, Look::PLAIN, NOON_MS);
    assert!(text.contains("\ncandidate so far: P50 1.25 (0.5 to 1.5), P95 3.5 (0.5 to ?) ms\n"), "{text}");
}

#[test]
fn colours_change_nothing_but_colours() {
    let mut view = rollout();
    view.guards[0].breached = true;
    view.sample_ratio.mismatch = true;
    let coloured = render(&view, COLOURED, NOON_MS);
    assert_eq!(plain(&coloured), render(&view, Look::PLAIN, NOON_MS));
    for painted in ["\x1b[32mpass\x1b[0m", "\x1b[31mGUARD stable.p99_ms", "\x1b[33mwaiting for:", "MISMATCH\x1b[0m"] {
        assert!(coloured.contains(painted), "{painted:?} in {coloured:?}");
    }
    assert!(!render(&view, Look::PLAIN, NOON_MS).contains('\x1b'));
}

#[test]
fn no_line_is_wider_than_the_screen_and_none_breaks() {
    let mut view = rollout();
    let long = "a very long text\nwith breaks \x1b[31m and more ".repeat(9);
    view.id = long.clone();
    view.reason = long.clone();
    view.waiting_for = long.clone();
    view.state = long.clone();
    view.checks[0].name = long.clone();
    view.checks[0].verdict = long.clone();
    view.checks[1].note = long.clone();
    view.guards[0].metric = long.clone();
    view.arms[0].requests = u64::MAX;
    view.checks[0].e_harm = 1e300;
    if let Some(last) = &mut view.last_transition {
        last.cause = long.clone();
    }
    for width in [40, 80, 120] {
        let text = render(&view, Look { width, colour: false }, u64::MAX);
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= width, "{widest} of {width}: {text}");
        assert!(!text.contains('\x1b'), "{text}");
        assert_eq!(text.lines().count(), include_str!("baking.txt").lines().count());
    }
    assert_eq!(line(&view).lines().count(), 1);
    assert!(!line(&view).contains('\x1b'));
}

#[test]
fn an_ended_rollout_says_when_and_why() {
    let mut view = rollout();
    (view.state, view.ended, view.ended_ms) = ("rolled_back".into(), true, Some(NOON_MS + 600_000));
    (view.step, view.waiting_for) = (None, String::new());
    view.arms.clear();
    view.checks.clear();
    view.guards.clear();
    view.shadow = None;
    let text = render(&view, COLOURED, NOON_MS + 7_800_000);
    assert!(text.contains("\x1b[31mrolled_back 2h ago\x1b[0m"), "{text}");
    assert!(text.contains("started 2026-03-01T12:00:00Z by alice, 10m in all: retrained in week 9"), "{text}");
    assert_eq!(
        line(&view),
        "digits-3 rolled_back 1 -> 2; stable 80 %, candidate 10 %, control 10 %; 10 % are in force"
    );
}

#[test]
fn a_bake_fills_its_first_half_until_min_and_its_second_until_max() {
    let step = &rollout().steps[1];
    for (elapsed_min, bar) in [
        (0, "░░░░░░░░│░░░░░░░░ 0s"),
        (5, "████░░░░│░░░░░░░░ 5m"),
        (10, "████████│░░░░░░░░ 10m"),
        (185, "████████│████░░░░ 3h 5m"),
        (400, "████████│████████ 6h 40m"),
    ] {
        assert_eq!(bake(step, elapsed_min * 60_000), format!("{bar} of 10m to 6h"));
    }
}

#[test]
fn a_forecast_says_what_is_known() {
    let mut check = rollout().checks.remove(0);
    assert_eq!(forecast(&check), "pass in about 3m (1,200 requests)");
    check.seconds_to_verdict = None;
    assert_eq!(forecast(&check), "pass after about 1,200 more requests");
    check.samples_to_verdict = None;
    assert_eq!(forecast(&check), "");
    check.seconds_to_verdict = Some(30.0);
    assert_eq!(forecast(&check), "pass in about 30s");
    check.verdict = "fail".into();
    assert_eq!(forecast(&check), "");
}

#[test]
fn a_line_for_a_pipe_has_what_a_person_would_look_for() {
    assert_eq!(
        line(&rollout()),
        "digits-3 baking 1 -> 2; step 2/3 bake 4m 10s; stable 80 %, candidate 10 %, control 10 %; \
         candidate requests 15020 errors 1 invalid 0; \
         errors: inconclusive harm 2.13 of 50 safe 12.3 of 50, pass in about 3m (1,200 requests); \
         slow: pass harm 0.02 of 100 safe 4.1e12 of 100; waiting for 5m more of baking"
    );
}
