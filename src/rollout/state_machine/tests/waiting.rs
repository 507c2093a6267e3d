//! Persons, clocks and restarts.

use super::super::*;
use super::{MINUTE_MS, NOW_MS, at, good, held, minutes, paused, spec, step, told};
use crate::rollout::spec::OnTimeout;
use crate::rollout::view::Action;

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
