//! What a person can ask of a rollout under way.

use super::{Ending, HoldReason, Phase, Progress, State, Transition};
use crate::rollout::spec::RolloutSpec;
use crate::rollout::view::Action;

/// What an operator's action does. `now_ms`: Unix time.
///
/// # Errors
/// Why the present state does not allow it, as a sentence.
pub fn command(
    spec: &RolloutSpec,
    progress: &Progress,
    action: Action,
    actor: &str,
    now_ms: u64,
) -> Result<Transition, String> {
    let state = progress.state;
    if state.is_terminal() {
        return Err(format!("the rollout has ended: it is {}", state.name()));
    }
    match (action, state) {
        (Action::Abort, _) => Ok(abort(progress, actor, now_ms)),
        (_, State::RollingBack { .. }) => Err(format!("can't {}: the rollout is rolling back", action.name())),
        (Action::Pause, _) => pause(progress, actor),
        (Action::Resume, _) => resume(progress, actor, now_ms),
        (Action::Approve, _) => approve(spec, progress, actor, now_ms),
        (Action::Promote, State::Step { .. }) => {
            let transition = progress.promoted(spec, &format!("promoted by {actor}"), now_ms);
            Ok(set_going(transition))
        }
        (Action::Promote, _) => Err(format!("only a rollout within its steps can be promoted, it is {}", state.name())),
    }
}

fn set_going(mut transition: Transition) -> Transition {
    (transition.to.paused, transition.to.held) = (false, None);
    transition
}

/// Evidence that has already taken the traffic away keeps its own ending.
fn abort(progress: &Progress, actor: &str, now_ms: u64) -> Transition {
    let State::RollingBack { ending } = progress.state else {
        return progress.rolled_back(Ending::Aborted, format!("aborted by {actor}"), now_ms);
    };
    let mut transition = progress.rolled_back(ending, progress.cause.clone(), progress.since_ms);
    transition.cause = format!("aborted by {actor}, while it was rolling back");
    transition
}

fn pause(progress: &Progress, actor: &str) -> Result<Transition, String> {
    if progress.paused {
        return Err("the rollout is paused already".to_owned());
    }
    let to = Progress { paused: true, ..progress.clone() };
    Ok(Transition { to, cause: format!("paused by {actor}"), effects: vec![] })
}

fn resume(progress: &Progress, actor: &str, now_ms: u64) -> Result<Transition, String> {
    if !progress.is_stopped() {
        return Err("the rollout is neither paused nor held".to_owned());
    }
    let mut to = Progress { paused: false, ..progress.clone() };
    let mut cause = format!("resumed by {actor}");
    if let Some(hold) = to.held.take() {
        cause = format!("{cause} ({})", hold.cause);
        match hold.reason {
            // Time for a verdict, from now on; what was counted stays.
            HoldReason::Inconclusive => to.bake_elapsed_ms = 0,
            HoldReason::Harm(check) => to.accepted_harm.push(check),
            HoldReason::ApprovalTimedOut | HoldReason::UncleanExit => {}
        }
    }
    if matches!(to.state, State::Step { phase: Phase::AwaitingApproval, .. }) {
        to.since_ms = now_ms;
    }
    Ok(Transition { to, cause, effects: vec![] })
}

fn approve(spec: &RolloutSpec, progress: &Progress, actor: &str, now_ms: u64) -> Result<Transition, String> {
    let reason = progress.held.as_ref().map(|hold| &hold.reason);
    let cause = format!("approved by {actor}");
    if progress.paused {
        return Err("the rollout is paused: resume it first".to_owned());
    }
    if let (Some(HoldReason::Harm(_) | HoldReason::UncleanExit), Some(hold)) = (reason, &progress.held) {
        return Err(format!("the rollout is held: resume it first ({})", hold.cause));
    }
    match progress.state {
        State::AwaitingStart => Ok(progress.go(State::Warming, &cause, vec![], now_ms)),
        State::Shadowing if reason == Some(&HoldReason::Inconclusive) => {
            Ok(set_going(progress.to_step(spec, 0, &cause, now_ms)))
        }
        State::Step { index, phase: Phase::AwaitingApproval } => {
            Ok(set_going(progress.past_step(spec, index, &cause, now_ms)))
        }
        State::Step { index, .. } if reason == Some(&HoldReason::Inconclusive) => {
            Ok(set_going(progress.past_step(spec, index, &cause, now_ms)))
        }
        state => Err(format!("nothing waits for an approval: the rollout is {}", state.name())),
    }
}
