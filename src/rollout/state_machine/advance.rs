//! What a rollout does by itself.

use super::facts::danger;
use super::{ArmsReady, Effect, Ending, Facts, Harm, HoldReason, Phase, Progress, ShadowFacts, State, Transition};
use crate::rollout::spec::{OnInconclusive, OnTimeout, Require, RolloutSpec, Step};

/// What happens next by itself; `None` where nothing does. `now_ms`: Unix time.
///
/// One call takes one transition; the caller asks again once its effects are in force.
pub fn advance(spec: &RolloutSpec, progress: &Progress, facts: &Facts, now_ms: u64) -> Option<Transition> {
    if progress.state.is_terminal() {
        return None;
    }
    if let State::RollingBack { ending } = progress.state {
        return facts.published.then(|| progress.ended(ending, now_ms));
    }
    // Before all that stops a rollout: neither a pause nor a wait for a person shields the candidate.
    if let Some(cause) = danger(progress.state, facts) {
        return Some(progress.rolled_back(Ending::RolledBack, cause, now_ms));
    }
    if let Some(cause) = unfit(progress.state, facts) {
        return Some(progress.rejected(cause, now_ms));
    }
    if progress.is_stopped() {
        return None;
    }
    if let Some(harm) = unaccepted_harm(progress, facts) {
        return Some(progress.put_on_hold(HoldReason::Harm(harm.check.clone()), harm.cause.clone()));
    }
    match progress.state {
        State::Pending => Some(progress.go(State::Validating, "taken up", vec![Effect::PinArms], now_ms)),
        State::Validating => validating(spec, progress, facts, now_ms),
        State::Warming => warming(spec, progress, facts, now_ms),
        State::Shadowing => shadowing(spec, progress, facts, now_ms),
        State::Step { index, phase } => {
            let at = At { spec, progress, index, step: spec.steps.get(index)?, now_ms };
            at.advance(phase, facts)
        }
        State::Promoting => {
            facts.published.then(|| progress.go(State::Watching, "the candidate answers everything", vec![], now_ms))
        }
        State::Watching => watching(spec, progress, facts, now_ms),
        // A person decides, or it has ended.
        State::AwaitingStart
        | State::RollingBack { .. }
        | State::Completed
        | State::RolledBack
        | State::Rejected
        | State::Aborted => None,
    }
}

/// What a rollout that the journal holds does when the process has started again. `None`: it goes on where it was.
///
/// A process that ends without saying so within a step has lost what the candidate may have done to it. That is
/// evidence by itself: the rollout is held, and rolled back at the second time within the same step.
pub fn after_restart(progress: &Progress, clean_exit: bool, now_ms: u64) -> Option<Transition> {
    let State::Step { index, .. } = progress.state else { return None };
    if clean_exit {
        return None;
    }
    let mut progress = progress.clone();
    progress.unclean_exits_in_step += 1;
    let number = index + 1;
    if progress.unclean_exits_in_step > 1 {
        let cause = format!("the process ended without a clean exit for the second time within step {number}");
        return Some(progress.rolled_back(Ending::RolledBack, cause, now_ms));
    }
    let cause = format!("the process ended without a clean exit within step {number}");
    Some(progress.put_on_hold(HoldReason::UncleanExit, cause))
}

/// The effects that put in force what a state demands, whatever was in force before: after a start of the process.
pub fn restore(spec: &RolloutSpec, progress: &Progress) -> Vec<Effect> {
    let state = progress.state;
    if state.is_terminal() || state == State::Pending {
        return vec![];
    }
    let mut effects =
        vec![Effect::PinArms, Effect::Weights(state.candidate_bp(spec)), Effect::Shadow(state.shadow_bp(spec))];
    match state {
        State::Promoting => effects.push(Effect::MoveLabel),
        State::RollingBack { ending } => effects.extend(progress.undoing(ending)),
        _ => {}
    }
    effects
}

/// Why the candidate is rejected, before it had any traffic.
fn unfit(state: State, facts: &Facts) -> Option<String> {
    let is_before_traffic = matches!(state, State::Validating | State::AwaitingStart | State::Warming);
    match (&facts.arms, &facts.validation) {
        _ if !is_before_traffic => None,
        (_, Some(Err(cause))) => Some(cause.clone()),
        (ArmsReady::Failed(cause), _) => Some(cause.clone()),
        _ => None,
    }
}

/// A check that is not critical and found harm that nobody has accepted.
fn unaccepted_harm<'a>(progress: &Progress, facts: &'a Facts) -> Option<&'a Harm> {
    let accepted = |harm: &Harm| progress.accepted_harm.contains(&harm.check);
    facts.verdict.harms.iter().find(|harm| progress.state.has_traffic() && !harm.critical && !accepted(harm))
}

fn validating(spec: &RolloutSpec, progress: &Progress, facts: &Facts, now_ms: u64) -> Option<Transition> {
    if facts.validation != Some(Ok(())) {
        return None;
    }
    let next = if spec.validate.approval { State::AwaitingStart } else { State::Warming };
    Some(progress.go(next, "the candidate is valid", vec![], now_ms))
}

fn warming(spec: &RolloutSpec, progress: &Progress, facts: &Facts, now_ms: u64) -> Option<Transition> {
    // A limit that is broken already would be charged to the candidate.
    let is_ready = facts.arms == ArmsReady::Ready && facts.guard_breach.is_none() && facts.breaker.is_none();
    is_ready.then(|| match spec.shadow_bp() {
        0 => progress.to_step(spec, 0, "the arms are ready", now_ms),
        bp => progress.go(State::Shadowing, "the arms are ready", vec![Effect::Shadow(bp)], now_ms),
    })
}

fn shadowing(spec: &RolloutSpec, progress: &Progress, facts: &Facts, now_ms: u64) -> Option<Transition> {
    let Some(phase) = &spec.shadow else {
        return Some(progress.to_step(spec, 0, "no shadow phase is asked for", now_ms));
    };
    let compared = facts.shadow.as_ref().map_or(0, |ShadowFacts { compared, .. }| *compared);
    if compared >= phase.min_samples && !facts.data_missing && facts.arms == ArmsReady::Ready {
        let cause = format!("{compared} comparisons without harm");
        return Some(progress.to_step(spec, 0, &cause, now_ms));
    }
    if u128::from(progress.bake_elapsed_ms) < phase.max_duration.as_millis() {
        return None;
    }
    let cause =
        format!("no verdict of the shadow phase in its max_duration: {compared} of {} comparisons", phase.min_samples);
    match spec.on_inconclusive {
        OnInconclusive::RollBack => Some(progress.rolled_back(Ending::RolledBack, cause, now_ms)),
        OnInconclusive::Hold | OnInconclusive::Approve => Some(progress.put_on_hold(HoldReason::Inconclusive, cause)),
    }
}

fn watching(spec: &RolloutSpec, progress: &Progress, facts: &Facts, now_ms: u64) -> Option<Transition> {
    let is_over = u128::from(progress.bake_elapsed_ms) >= spec.promote.watch.as_millis() && !facts.data_missing;
    is_over.then(|| progress.go(State::Completed, "watched without harm", vec![Effect::ReleaseArms], now_ms))
}

/// A step under way.
struct At<'a> {
    spec: &'a RolloutSpec,
    progress: &'a Progress,
    index: usize,
    step: &'a Step,
    now_ms: u64,
}

impl At<'_> {
    fn advance(&self, phase: Phase, facts: &Facts) -> Option<Transition> {
        let has_data = facts.min_samples_reached && !facts.data_missing && facts.arms == ArmsReady::Ready;
        match phase {
            Phase::Shifting => {
                let cause = format!("{} bp are in force", self.step.weight_bp);
                let is_in_force = facts.published && facts.arms == ArmsReady::Ready;
                is_in_force.then(|| self.phase(Phase::Baking, &cause))
            }
            Phase::Baking if has_data && self.has_baked(self.step.min_bake) => {
                Some(self.phase(Phase::Deciding, "min_bake and min_samples are reached"))
            }
            Phase::Deciding if has_data && self.is_passed(facts) => Some(self.pass()),
            Phase::Baking | Phase::Deciding if self.has_baked(self.step.max_bake) => Some(self.inconclusive(facts)),
            Phase::Baking | Phase::Deciding => None,
            Phase::AwaitingApproval => self.approval_timeout(),
        }
    }

    fn phase(&self, phase: Phase, cause: &str) -> Transition {
        self.progress.go(State::Step { index: self.index, phase }, cause, vec![], self.now_ms)
    }

    fn has_baked(&self, time: std::time::Duration) -> bool {
        u128::from(self.progress.bake_elapsed_ms) >= time.as_millis()
    }

    /// Harm that a person has accepted does not stand in the way of a step that asks for no more.
    fn is_passed(&self, facts: &Facts) -> bool {
        match self.step.require {
            Require::NoHarm => unaccepted_harm(self.progress, facts).is_none(),
            Require::Safe => facts.verdict.safe,
        }
    }

    fn pass(&self) -> Transition {
        let cause = match self.step.require {
            Require::NoHarm => "no check found harm",
            Require::Safe => "every check found safety",
        };
        if self.step.approval.required {
            return self.phase(Phase::AwaitingApproval, cause);
        }
        self.progress.past_step(self.spec, self.index, cause, self.now_ms)
    }

    fn inconclusive(&self, facts: &Facts) -> Transition {
        let why = if facts.data_missing {
            "observations are missing"
        } else if facts.arms != ArmsReady::Ready {
            "the arms are not ready"
        } else if !facts.min_samples_reached {
            "min_samples is not reached"
        } else {
            "the checks have not found safety"
        };
        let cause = format!("no verdict of step {} in its max_bake: {why}", self.index + 1);
        match self.spec.on_inconclusive {
            OnInconclusive::Hold => self.progress.put_on_hold(HoldReason::Inconclusive, cause),
            OnInconclusive::RollBack => self.progress.rolled_back(Ending::RolledBack, cause, self.now_ms),
            OnInconclusive::Approve => self.phase(Phase::AwaitingApproval, &cause),
        }
    }

    fn approval_timeout(&self) -> Option<Transition> {
        let waited_ms = self.now_ms.saturating_sub(self.progress.since_ms);
        if u128::from(waited_ms) < self.step.approval.timeout.as_millis() {
            return None;
        }
        let timeout = humantime::format_duration(self.step.approval.timeout);
        let cause = format!("nobody approved step {} within {timeout}", self.index + 1);
        Some(match self.step.approval.on_timeout {
            OnTimeout::Hold => self.progress.put_on_hold(HoldReason::ApprovalTimedOut, cause),
            OnTimeout::RollBack => self.progress.rolled_back(Ending::RolledBack, cause, self.now_ms),
        })
    }
}
