//! The ways from one state to another, each with its effects.

use super::{Effect, Ending, Hold, HoldReason, Phase, Progress, State, Transition};
use crate::rollout::spec::RolloutSpec;

impl Progress {
    /// Another state, with its clock at 0 unless it is another phase of the same step.
    pub(super) fn go(&self, state: State, cause: &str, effects: Vec<Effect>, now_ms: u64) -> Transition {
        let mut to = Self { state, since_ms: now_ms, cause: cause.to_owned(), ..self.clone() };
        if state.step().is_none() || state.step() != self.state.step() {
            (to.bake_elapsed_ms, to.unclean_exits_in_step) = (0, 0);
        }
        Transition { to, cause: cause.to_owned(), effects }
    }

    /// The first phase of a step.
    pub(super) fn to_step(&self, spec: &RolloutSpec, index: usize, cause: &str, now_ms: u64) -> Transition {
        let state = State::Step { index, phase: Phase::Shifting };
        let mut effects = vec![Effect::Weights(state.candidate_bp(spec))];
        if self.state == State::Shadowing {
            effects.insert(0, Effect::Shadow(0));
        }
        self.go(state, cause, effects, now_ms)
    }

    /// The step after this one, or the promotion.
    pub(super) fn past_step(&self, spec: &RolloutSpec, index: usize, cause: &str, now_ms: u64) -> Transition {
        if index + 1 < spec.steps.len() {
            self.to_step(spec, index + 1, cause, now_ms)
        } else {
            self.promoted(spec, cause, now_ms)
        }
    }

    pub(super) fn promoted(&self, spec: &RolloutSpec, cause: &str, now_ms: u64) -> Transition {
        let effects = vec![Effect::Weights(State::Promoting.candidate_bp(spec)), Effect::MoveLabel];
        let mut transition = self.go(State::Promoting, cause, effects, now_ms);
        transition.to.label_moved = true;
        transition
    }

    /// The way back. It is not stopped by anything.
    pub(super) fn rolled_back(&self, ending: Ending, cause: String, now_ms: u64) -> Transition {
        let mut transition = self.go(State::RollingBack { ending }, &cause, vec![], now_ms);
        (transition.to.paused, transition.to.held) = (false, None);
        transition.effects = vec![Effect::Weights(0), Effect::Shadow(0)];
        transition.effects.extend(transition.to.undoing(ending));
        transition
    }

    /// What a rollback does beside taking the traffic away.
    pub(super) fn undoing(&self, ending: Ending) -> Vec<Effect> {
        let label = self.label_moved.then_some(Effect::MoveLabelBack);
        let quarantine = (ending == Ending::RolledBack).then(|| Effect::Quarantine(self.cause.clone()));
        label.into_iter().chain(quarantine).collect()
    }

    pub(super) fn rejected(&self, cause: String, now_ms: u64) -> Transition {
        let effects = vec![Effect::Quarantine(cause.clone()), Effect::ReleaseArms];
        let mut transition = self.go(State::Rejected, &cause, effects, now_ms);
        (transition.to.paused, transition.to.held) = (false, None);
        transition
    }

    pub(super) fn ended(&self, ending: Ending, now_ms: u64) -> Transition {
        let state = match ending {
            Ending::RolledBack => State::RolledBack,
            Ending::Aborted => State::Aborted,
        };
        self.go(state, &self.cause, vec![Effect::ReleaseArms], now_ms)
    }

    pub(super) fn put_on_hold(&self, reason: HoldReason, cause: String) -> Transition {
        let hold = Hold { reason, cause: cause.clone() };
        let to = Self { held: Some(hold), cause: cause.clone(), ..self.clone() };
        Transition { to, cause, effects: vec![] }
    }
}
