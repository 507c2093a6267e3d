//! Every transition, as a table of scenarios.

mod properties;
mod waiting;

use super::*;
use crate::rollout::spec::{OnInconclusive, read_text};
use crate::rollout::view::Action;

const MINUTE_MS: u64 = 60_000;
/// The moment of every test.
const NOW_MS: u64 = 1_000_000_000;

/// Two steps: 1 % (5 to 60 minutes), then half (the same) with safety asked for.
fn spec(more: &str) -> RolloutSpec {
    let steps = "steps: [{weight_bp: 100, min_bake: 5m, max_bake: 1h}, {weight_bp: 5000, min_bake: 5m, max_bake: 1h}]";
    read_text(&format!("{steps}\n{more}")).unwrap()
}

fn at(state: State) -> Progress {
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
fn quiet() -> Facts {
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
fn good() -> Facts {
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
            "validating > rejected: its outputs are not finite [Quarantine(\"its outputs are not finite\"), ReleaseArms]",
        ),
        (&approved_start, at(State::Validating), good(), "validating > awaiting_start: the candidate is valid []"),
        (&approved_start, at(State::AwaitingStart), good(), "awaiting_start stays"),
        (
            &approved_start,
            at(State::AwaitingStart),
            invalid,
            "awaiting_start > rejected: its outputs are not finite [Quarantine(\"its outputs are not finite\"), ReleaseArms]",
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
    assert_eq!(
        told(&at(State::Warming), rejected),
        "warming > rejected: no memory [Quarantine(\"no memory\"), ReleaseArms]"
    );
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
