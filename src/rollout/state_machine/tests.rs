//! Every transition, as a table of scenarios.

mod properties;

use super::*;
use crate::rollout::spec::{OnInconclusive, OnTimeout, read_text};
use crate::rollout::view::Action;

const MINUTE_MS: u64 = 60_000;
/// The moment of every test.
pub(super) const NOW_MS: u64 = 1_000_000_000;

/// Two steps: 1 % (5 to 60 minutes), then half (the same) with safety asked for.
pub(super) fn spec(more: &str) -> RolloutSpec {
    let steps = "steps: [{weight_bp: 100, min_bake: 5m, max_bake: 1h}, {weight_bp: 5000, min_bake: 5m, max_bake: 1h}]";
    read_text(&format!("{steps}\n{more}")).unwrap()
}

pub(super) fn at(state: State) -> Progress {
    let label_moved = matches!(state, State::Promoting | State::Watching);
    Progress { state, label_moved, ..Progress::new("begun", NOW_MS) }
}

fn step(index: usize, phase: Phase) -> Progress {
    at(State::Step { index, phase })
}

fn minutes(mut progress: Progress, minutes: u64) -> Progress {
    progress.bake_elapsed_ms = minutes * MINUTE_MS;
    progress
}

fn held(mut progress: Progress, reason: HoldReason) -> Progress {
    progress.held = Some(Hold { reason, cause: "a reason".to_owned() });
    progress
}

fn paused(progress: Progress) -> Progress {
    Progress { paused: true, ..progress }
}

/// Nothing wrong, and nothing known yet.
pub(super) fn quiet() -> Facts {
    Facts {
        arms: ArmsReady::Ready,
        validation: None,
        published: false,
        min_samples_reached: false,
        verdict: Overall::default(),
        guard_breach: None,
        breaker: None,
        shadow: None,
        data_missing: false,
    }
}

/// All that a rollout needs to go on.
pub(super) fn good() -> Facts {
    Facts {
        validation: Some(Ok(())),
        published: true,
        min_samples_reached: true,
        verdict: Overall { harms: vec![], safe: true },
        shadow: Some(ShadowFacts { compared: 2000, harm: None }),
        ..quiet()
    }
}

fn harm(critical: bool) -> Overall {
    let harm = Harm { check: "slow".to_owned(), critical, cause: "slow: 3 times as often".to_owned() };
    Overall { harms: vec![harm], safe: false }
}

/// `state > state: cause [effects]`, with `paused` and `held` beside the state.
fn told(from: &Progress, transition: Option<Transition>) -> String {
    let name = |progress: &Progress| {
        let index = progress.state.step().map(|index| format!(" {index}")).unwrap_or_default();
        let paused = if progress.paused { " paused" } else { "" };
        let held = if progress.held.is_some() { " held" } else { "" };
        format!("{}{index}{paused}{held}", progress.state.name())
    };
    match transition {
        None => format!("{} stays", name(from)),
        Some(Transition { to, cause, effects }) => {
            format!("{} > {}: {cause} {effects:?}", name(from), name(&to))
        }
    }
}

#[test]
fn what_a_rollout_does_by_itself() {
    use Phase::{AwaitingApproval, Baking, Deciding, Shifting};
    let plain = spec("");
    let shadow = spec("shadow: {}");
    let approved_start = spec("validate: {approval: {required: true}}");
    let mut approved_step = plain.clone();
    approved_step.steps[0].approval.required = true;
    let no_data = Facts { data_missing: true, ..good() };
    let few = Facts { min_samples_reached: false, ..good() };
    let unsure = Facts { verdict: Overall::default(), ..good() };
    let not_ready = Facts { arms: ArmsReady::NotYet, ..good() };
    let invalid = Facts { validation: Some(Err("its outputs are not finite".to_owned())), ..quiet() };
    let in_time = Facts { shadow: None, ..good() };
    for (spec, from, facts, expected) in [
        (&plain, at(State::Pending), quiet(), "pending > validating: taken up [PinArms]"),
        (&plain, at(State::Validating), quiet(), "validating stays"),
        (&plain, at(State::Validating), good(), "validating > warming: the candidate is valid []"),
        (
            &plain,
            at(State::Validating),
            invalid.clone(),
            "validating > rejected: its outputs are not finite [ReleaseArms]",
        ),
        (&approved_start, at(State::Validating), good(), "validating > awaiting_start: the candidate is valid []"),
        (&approved_start, at(State::AwaitingStart), good(), "awaiting_start stays"),
        (
            &approved_start,
            at(State::AwaitingStart),
            invalid,
            "awaiting_start > rejected: its outputs are not finite [ReleaseArms]",
        ),
        (&plain, at(State::Warming), not_ready.clone(), "warming stays"),
        (&plain, at(State::Warming), good(), "warming > shifting 0: the arms are ready [Weights(100)]"),
        (&shadow, at(State::Warming), good(), "warming > shadowing: the arms are ready [Shadow(2000)]"),
        (&shadow, at(State::Shadowing), in_time.clone(), "shadowing stays"),
        (&shadow, at(State::Shadowing), no_data.clone(), "shadowing stays"),
        (
            &shadow,
            at(State::Shadowing),
            good(),
            "shadowing > shifting 0: 2000 comparisons without harm [Shadow(0), Weights(100)]",
        ),
        (&shadow, minutes(at(State::Shadowing), 119), in_time.clone(), "shadowing stays"),
        (
            &shadow,
            minutes(at(State::Shadowing), 120),
            in_time,
            "shadowing > shadowing held: no verdict of the shadow phase in its max_duration: 0 of 2000 comparisons []",
        ),
        (&plain, step(0, Shifting), quiet(), "shifting 0 stays"),
        (&plain, step(0, Shifting), not_ready.clone(), "shifting 0 stays"),
        (&plain, step(0, Shifting), good(), "shifting 0 > baking 0: 100 bp are in force []"),
        (&plain, minutes(step(0, Baking), 4), good(), "baking 0 stays"),
        (&plain, minutes(step(0, Baking), 5), few.clone(), "baking 0 stays"),
        (&plain, minutes(step(0, Baking), 5), no_data.clone(), "baking 0 stays"),
        (&plain, minutes(step(0, Baking), 5), good(), "baking 0 > deciding 0: min_bake and min_samples are reached []"),
        (
            &plain,
            minutes(step(0, Baking), 60),
            few,
            "baking 0 > baking 0 held: no verdict of step 1 in its max_bake: min_samples is not reached []",
        ),
        (
            &plain,
            minutes(step(0, Baking), 60),
            no_data.clone(),
            "baking 0 > baking 0 held: no verdict of step 1 in its max_bake: observations are missing []",
        ),
        (
            &plain,
            minutes(step(0, Baking), 60),
            not_ready,
            "baking 0 > baking 0 held: no verdict of step 1 in its max_bake: the arms are not ready []",
        ),
        (&plain, step(0, Deciding), no_data.clone(), "deciding 0 stays"),
        (&plain, step(0, Deciding), unsure.clone(), "deciding 0 > shifting 1: no check found harm [Weights(5000)]"),
        (&approved_step, step(0, Deciding), good(), "deciding 0 > awaiting_approval 0: no check found harm []"),
        (&approved_step, step(0, AwaitingApproval), good(), "awaiting_approval 0 stays"),
        (&plain, step(1, Deciding), unsure.clone(), "deciding 1 stays"),
        (
            &plain,
            minutes(step(1, Deciding), 60),
            unsure,
            "deciding 1 > deciding 1 held: no verdict of step 2 in its max_bake: the checks have not found safety []",
        ),
        (
            &plain,
            minutes(step(1, Deciding), 60),
            good(),
            "deciding 1 > promoting: every check found safety [Weights(10000), MoveLabel]",
        ),
        (&plain, at(State::Promoting), quiet(), "promoting stays"),
        (&plain, at(State::Promoting), good(), "promoting > watching: the candidate answers everything []"),
        (&plain, minutes(at(State::Watching), 29), good(), "watching stays"),
        (&plain, minutes(at(State::Watching), 30), no_data, "watching stays"),
        (&plain, minutes(at(State::Watching), 30), quiet(), "watching > completed: watched without harm [ReleaseArms]"),
        (&plain, at(State::RollingBack { ending: Ending::RolledBack }), quiet(), "rolling_back stays"),
        (
            &plain,
            at(State::RollingBack { ending: Ending::RolledBack }),
            good(),
            "rolling_back > rolled_back: begun [ReleaseArms]",
        ),
        (
            &plain,
            at(State::RollingBack { ending: Ending::Aborted }),
            good(),
            "rolling_back > aborted: begun [ReleaseArms]",
        ),
        (&plain, at(State::Completed), good(), "completed stays"),
        (&plain, at(State::RolledBack), good(), "rolled_back stays"),
        (&plain, at(State::Rejected), good(), "rejected stays"),
        (&plain, at(State::Aborted), good(), "aborted stays"),
    ] {
        assert_eq!(told(&from, advance(spec, &from, &facts, NOW_MS)), expected);
    }
}

#[test]
fn harm_takes_the_traffic_away_in_every_state_that_has_some_and_nothing_shields_the_candidate() {
    let spec = spec("shadow: {}");
    let text = |text: &str| Some(text.to_owned());
    let dangers = [
        (Facts { guard_breach: text("stable.p99_ms is 80, above 50"), ..good() }, "stable.p99_ms is 80, above 50"),
        (Facts { breaker: text("the candidate panicked"), ..good() }, "the candidate panicked"),
        (Facts { verdict: harm(true), ..good() }, "slow: 3 times as often"),
        (Facts { arms: ArmsReady::Failed("no memory".to_owned()), ..good() }, "no memory"),
    ];
    let phases = [Phase::Shifting, Phase::Baking, Phase::Deciding, Phase::AwaitingApproval];
    let steps = phases.map(|phase| State::Step { index: 1, phase });
    let with_traffic = [&steps[..], &[State::Shadowing, State::Promoting, State::Watching]].concat();
    for state in with_traffic {
        for (facts, cause) in &dangers {
            for from in [at(state), paused(at(state)), held(at(state), HoldReason::UncleanExit)] {
                let transition = advance(&spec, &from, facts, NOW_MS).unwrap();
                assert_eq!(transition.to.state, State::RollingBack { ending: Ending::RolledBack }, "{state:?}");
                assert_eq!((transition.cause.as_str(), transition.to.is_stopped()), (*cause, false));
                let mut effects = vec![Effect::Weights(0), Effect::Shadow(0)];
                if matches!(state, State::Promoting | State::Watching) {
                    effects.push(Effect::MoveLabelBack);
                }
                effects.push(Effect::Quarantine((*cause).to_owned()));
                assert_eq!(transition.effects, effects, "{state:?}");
            }
        }
    }
    // Before any traffic, a broken limit keeps the candidate from getting some, and a failed arm rejects it.
    assert_eq!(advance(&spec, &at(State::Warming), &dangers[0].0, NOW_MS), None);
    let rejected = advance(&spec, &at(State::Warming), &dangers[3].0, NOW_MS);
    assert_eq!(told(&at(State::Warming), rejected), "warming > rejected: no memory [ReleaseArms]");
}

#[test]
fn shadow_harm_rolls_back_and_only_in_the_shadow_phase() {
    let spec = spec("shadow: {}");
    let facts = Facts { shadow: Some(ShadowFacts { compared: 50, harm: Some("9 of 50 differ".to_owned()) }), ..good() };
    let told = |from: Progress| told(&from, advance(&spec, &from, &facts, NOW_MS));
    assert_eq!(
        told(at(State::Shadowing)),
        "shadowing > rolling_back: 9 of 50 differ [Weights(0), Shadow(0), Quarantine(\"9 of 50 differ\")]"
    );
    assert_eq!(told(step(0, Phase::Baking)), "baking 0 stays");
}

#[test]
fn harm_that_is_not_critical_holds_until_a_person_accepts_it() {
    let spec = spec("");
    let facts = Facts { verdict: harm(false), ..good() };
    let from = step(0, Phase::Deciding);
    let transition = advance(&spec, &from, &facts, NOW_MS);
    assert_eq!(told(&from, transition.clone()), "deciding 0 > deciding 0 held: slow: 3 times as often []");
    let held = transition.unwrap().to;
    assert_eq!(held.waiting_for(), "slow: 3 times as often");
    assert_eq!(advance(&spec, &held, &facts, NOW_MS), None);
    let resumed = command(&spec, &held, Action::Resume, "ann", NOW_MS).unwrap();
    assert_eq!(resumed.cause, "resumed by ann (slow: 3 times as often)");
    let next = advance(&spec, &resumed.to, &facts, NOW_MS);
    assert_eq!(told(&resumed.to, next), "deciding 0 > shifting 1: no check found harm [Weights(5000)]");
    let another = Harm { check: "errors".to_owned(), critical: false, cause: "errors".to_owned() };
    let facts = Facts { verdict: Overall { harms: vec![another], safe: false }, ..good() };
    assert!(advance(&spec, &resumed.to, &facts, NOW_MS).unwrap().to.held.is_some(), "accepted is one check alone");
}

#[test]
fn checks_on_trial_have_no_part_in_what_the_checks_say_together() {
    let spec = read_text("analysis: {checks: [{event: error}, {event: invalid_output, dry_run: true}]}").unwrap();
    let overall = |errors, invalid| {
        let verdicts = spec.analysis.checks.iter().zip([errors, invalid]);
        Overall::of(verdicts.map(|(check, verdict)| (check, verdict, check.name.clone())))
    };
    assert_eq!(overall(Verdict::Pass, Verdict::Fail), Overall { harms: vec![], safe: true });
    assert_eq!(overall(Verdict::Inconclusive, Verdict::Pass), Overall { harms: vec![], safe: false });
    let harm = Harm { check: "errors".to_owned(), critical: true, cause: "errors".to_owned() };
    assert_eq!(overall(Verdict::Fail, Verdict::Pass), Overall { harms: vec![harm], safe: false });
    assert!(!Overall::of([]).safe, "nothing looked at is nothing found");
}

#[test]
fn a_step_without_a_verdict_does_what_the_spec_says() {
    let unsure = Facts { verdict: Overall::default(), ..good() };
    let from = minutes(step(1, Phase::Deciding), 60);
    let cause = "no verdict of step 2 in its max_bake: the checks have not found safety";
    for (choice, expected) in [
        (OnInconclusive::Hold, format!("deciding 1 > deciding 1 held: {cause} []")),
        (OnInconclusive::Approve, format!("deciding 1 > awaiting_approval 1: {cause} []")),
        (
            OnInconclusive::RollBack,
            format!("deciding 1 > rolling_back: {cause} [Weights(0), Shadow(0), Quarantine({cause:?})]"),
        ),
    ] {
        let spec = RolloutSpec { on_inconclusive: choice, ..spec("") };
        assert_eq!(told(&from, advance(&spec, &from, &unsure, NOW_MS)), expected);
    }
    let shadow = RolloutSpec { on_inconclusive: OnInconclusive::RollBack, ..spec("shadow: {}") };
    let ended = advance(&shadow, &minutes(at(State::Shadowing), 120), &quiet(), NOW_MS).unwrap();
    assert_eq!(ended.to.state, State::RollingBack { ending: Ending::RolledBack });
}

#[test]
fn an_approval_that_nobody_gives_times_out() {
    let mut spec = spec("");
    let from = step(0, Phase::AwaitingApproval);
    let late_ms = NOW_MS + 24 * 60 * MINUTE_MS;
    assert_eq!(from.waiting_for(), "approval of step 1: begun");
    assert_eq!(advance(&spec, &from, &good(), late_ms - 1), None);
    assert_eq!(advance(&spec, &paused(from.clone()), &good(), late_ms), None);
    let timed_out = advance(&spec, &from, &good(), late_ms).unwrap();
    let held = "awaiting_approval 0 > awaiting_approval 0 held: nobody approved step 1 within 1day []";
    assert_eq!(told(&from, Some(timed_out.clone())), held);
    let resumed = command(&spec, &timed_out.to, Action::Resume, "ann", late_ms).unwrap().to;
    assert_eq!(advance(&spec, &resumed, &good(), late_ms), None, "it waits anew");
    let approved = command(&spec, &timed_out.to, Action::Approve, "ann", late_ms).ok();
    assert_eq!(told(&timed_out.to, approved), "awaiting_approval 0 held > shifting 1: approved by ann [Weights(5000)]");
    spec.steps[0].approval.on_timeout = OnTimeout::RollBack;
    let ended = advance(&spec, &from, &good(), late_ms).unwrap();
    assert_eq!(ended.to.state, State::RollingBack { ending: Ending::RolledBack });
}

#[test]
fn what_a_person_can_ask_for() {
    use HoldReason::{Harm, Inconclusive, UncleanExit};
    use Phase::{AwaitingApproval, Baking, Deciding};
    let spec = spec("shadow: {}");
    let rolling_back = at(State::RollingBack { ending: Ending::RolledBack });
    for (from, action, expected) in [
        (at(State::AwaitingStart), Action::Approve, "awaiting_start > warming: approved by ann []"),
        (
            held(at(State::Shadowing), Inconclusive),
            Action::Approve,
            "shadowing held > shifting 0: approved by ann [Shadow(0), Weights(100)]",
        ),
        (
            step(0, AwaitingApproval),
            Action::Approve,
            "awaiting_approval 0 > shifting 1: approved by ann [Weights(5000)]",
        ),
        (
            step(1, AwaitingApproval),
            Action::Approve,
            "awaiting_approval 1 > promoting: approved by ann [Weights(10000), MoveLabel]",
        ),
        (
            held(step(1, Baking), Inconclusive),
            Action::Approve,
            "baking 1 held > promoting: approved by ann [Weights(10000), MoveLabel]",
        ),
        (step(0, Baking), Action::Approve, "nothing waits for an approval: the rollout is baking"),
        (at(State::Pending), Action::Approve, "nothing waits for an approval: the rollout is pending"),
        (paused(step(0, AwaitingApproval)), Action::Approve, "the rollout is paused: resume it first"),
        (
            held(step(0, AwaitingApproval), UncleanExit),
            Action::Approve,
            "the rollout is held: resume it first (a reason)",
        ),
        (
            held(step(0, Deciding), Harm("slow".to_owned())),
            Action::Approve,
            "the rollout is held: resume it first (a reason)",
        ),
        (step(0, Baking), Action::Promote, "baking 0 > promoting: promoted by ann [Weights(10000), MoveLabel]"),
        (
            paused(held(step(0, Baking), UncleanExit)),
            Action::Promote,
            "baking 0 paused held > promoting: promoted by ann [Weights(10000), MoveLabel]",
        ),
        (at(State::Shadowing), Action::Promote, "only a rollout within its steps can be promoted, it is shadowing"),
        (at(State::Watching), Action::Promote, "only a rollout within its steps can be promoted, it is watching"),
        (at(State::Validating), Action::Pause, "validating > validating paused: paused by ann []"),
        (at(State::Watching), Action::Pause, "watching > watching paused: paused by ann []"),
        (paused(step(0, Baking)), Action::Pause, "the rollout is paused already"),
        (rolling_back.clone(), Action::Pause, "can't pause: the rollout is rolling back"),
        (rolling_back.clone(), Action::Promote, "can't promote: the rollout is rolling back"),
        (step(0, Baking), Action::Resume, "the rollout is neither paused nor held"),
        (paused(step(0, Baking)), Action::Resume, "baking 0 paused > baking 0: resumed by ann []"),
        (held(step(0, Baking), UncleanExit), Action::Resume, "baking 0 held > baking 0: resumed by ann (a reason) []"),
        (at(State::Pending), Action::Abort, "pending > rolling_back: aborted by ann [Weights(0), Shadow(0)]"),
        (
            paused(step(0, Baking)),
            Action::Abort,
            "baking 0 paused > rolling_back: aborted by ann [Weights(0), Shadow(0)]",
        ),
        (
            at(State::Watching),
            Action::Abort,
            "watching > rolling_back: aborted by ann [Weights(0), Shadow(0), MoveLabelBack]",
        ),
        (
            rolling_back,
            Action::Abort,
            "rolling_back > rolling_back: aborted by ann, while it was rolling back [Weights(0), Shadow(0), Quarantine(\"begun\")]",
        ),
    ] {
        let answer = command(&spec, &from, action, "ann", NOW_MS);
        assert_eq!(answer.map_or_else(|refusal| refusal, |transition| told(&from, Some(transition))), expected);
    }
    for state in [State::Completed, State::RolledBack, State::Rejected, State::Aborted] {
        for action in Action::ALL {
            let refusal = command(&spec, &at(state), action, "ann", NOW_MS).unwrap_err();
            assert_eq!(refusal, format!("the rollout has ended: it is {}", state.name()));
        }
    }
}

#[test]
fn resuming_an_inconclusive_step_gives_it_as_much_time_again() {
    let spec = spec("");
    let from = minutes(step(1, Phase::Deciding), 60);
    let unsure = Facts { verdict: Overall::default(), ..good() };
    let held = advance(&spec, &from, &unsure, NOW_MS).unwrap().to;
    let resumed = command(&spec, &held, Action::Resume, "ann", NOW_MS).unwrap().to;
    assert_eq!(resumed.bake_elapsed_ms, 0);
    assert_eq!(advance(&spec, &resumed, &unsure, NOW_MS), None);
}

#[test]
fn the_clock_runs_under_observation_alone() {
    use Phase::{AwaitingApproval, Baking, Deciding, Shifting};
    let running = [at(State::Shadowing), step(0, Baking), step(0, Deciding), at(State::Watching)];
    let resting = [at(State::Warming), step(0, Shifting), step(0, AwaitingApproval), at(State::Promoting)];
    let ticked = |mut progress: Progress| {
        progress.tick(7);
        progress.bake_elapsed_ms
    };
    for progress in running {
        assert_eq!(ticked(progress.clone()), 7, "{:?}", progress.state);
        assert_eq!(ticked(paused(progress.clone())), 0);
        assert_eq!(ticked(held(progress, HoldReason::Inconclusive)), 0);
    }
    for progress in resting {
        assert_eq!(ticked(progress.clone()), 0, "{:?}", progress.state);
    }
    let next = advance(&spec(""), &minutes(step(0, Deciding), 9), &good(), NOW_MS).unwrap().to;
    assert_eq!(next.bake_elapsed_ms, 0, "each step has a clock of its own");
}

#[test]
fn an_unclean_exit_within_a_step_holds_it_and_a_second_one_rolls_back() {
    let spec = spec("");
    let from = minutes(step(1, Phase::Baking), 7);
    assert_eq!(after_restart(&from, true, NOW_MS), None);
    let held = after_restart(&from, false, NOW_MS).unwrap();
    assert_eq!(
        told(&from, Some(held.clone())),
        "baking 1 > baking 1 held: the process ended without a clean exit within step 2 []"
    );
    assert_eq!((held.to.bake_elapsed_ms, held.to.state.candidate_bp(&spec)), (7 * MINUTE_MS, 5000));
    let resumed = command(&spec, &held.to, Action::Resume, "ann", NOW_MS).unwrap().to;
    let second = after_restart(&resumed, false, NOW_MS).unwrap();
    assert_eq!(second.to.state, State::RollingBack { ending: Ending::RolledBack });
    let text = "the process ended without a clean exit for the second time within step 2";
    assert_eq!(second.effects.last(), Some(&Effect::Quarantine(text.to_owned())));
    let next = advance(&spec, &Progress { state: step(0, Phase::Deciding).state, ..resumed }, &good(), NOW_MS);
    assert_eq!(next.unwrap().to.unclean_exits_in_step, 0, "another step counts anew");
    for state in
        [State::Pending, State::Validating, State::Warming, State::Shadowing, State::Promoting, State::Watching]
    {
        assert_eq!(after_restart(&at(state), false, NOW_MS), None, "{state:?}");
    }
}

#[test]
fn a_restart_puts_in_force_what_the_state_demands() {
    use Effect::{MoveLabel, MoveLabelBack, PinArms, Quarantine, Shadow, Weights};
    let spec = spec("shadow: {percent: 5}");
    let back = |ending, label_moved| Progress { label_moved, ..at(State::RollingBack { ending }) };
    for (progress, expected) in [
        (at(State::Pending), vec![]),
        (at(State::Warming), vec![PinArms, Weights(0), Shadow(0)]),
        (at(State::Shadowing), vec![PinArms, Weights(0), Shadow(500)]),
        (paused(step(1, Phase::Baking)), vec![PinArms, Weights(5000), Shadow(0)]),
        (at(State::Promoting), vec![PinArms, Weights(10_000), Shadow(0), MoveLabel]),
        (at(State::Watching), vec![PinArms, Weights(10_000), Shadow(0)]),
        (back(Ending::Aborted, true), vec![PinArms, Weights(0), Shadow(0), MoveLabelBack]),
        (back(Ending::RolledBack, false), vec![PinArms, Weights(0), Shadow(0), Quarantine("begun".to_owned())]),
        (at(State::Completed), vec![]),
    ] {
        assert_eq!(restore(&spec, &progress), expected, "{:?}", progress.state);
    }
}

#[test]
fn progress_is_the_same_after_the_journal() {
    let progress = paused(held(step(1, Phase::AwaitingApproval), HoldReason::Harm("slow".to_owned())));
    let text = serde_json::to_string(&progress).unwrap();
    assert!(
        text.starts_with(r#"{"state":{"name":"step","index":1,"phase":"awaiting_approval"},"paused":true"#),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<Progress>(&text).unwrap(), progress);
    let state = State::RollingBack { ending: Ending::Aborted };
    assert_eq!(serde_json::from_str::<State>(&serde_json::to_string(&state).unwrap()).unwrap(), state);
}
