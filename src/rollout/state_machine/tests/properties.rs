//! What holds whatever happens, in random sequences of facts, actions and restarts.

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::super::*;
use super::{NOW_MS, good, spec};
use crate::rollout::view::Action;
use crate::routing::Weights;
use crate::telemetry::exposition::ROLLOUT_STATES as STATES;

/// What may happen next.
#[derive(Debug, Clone)]
enum Happening {
    Time { elapsed_ms: u64, facts: Box<Facts> },
    Action(Action),
    Restart { clean: bool },
}

fn facts() -> impl Strategy<Value = Facts> {
    let text = |weight: f64| proptest::option::weighted(weight, Just("it is bad".to_owned()));
    let arms = prop_oneof![
        30 => Just(ArmsReady::Ready),
        3 => Just(ArmsReady::NotYet),
        1 => Just(ArmsReady::Failed("no memory".to_owned())),
    ];
    let validation = prop_oneof![20 => Just(Some(Ok(()))), 5 => Just(None), 1 => Just(Some(Err("unfit".to_owned())))];
    let harm = proptest::option::weighted(0.05, any::<bool>());
    let shadow = (0..3000u64, text(0.02)).prop_map(|(compared, harm)| Some(ShadowFacts { compared, harm }));
    let likely = || proptest::bool::weighted(0.8);
    let flags = (likely(), likely(), likely(), proptest::bool::weighted(0.1));
    (arms, validation, flags, harm, text(0.02), text(0.02), shadow).prop_map(
        |(arms, validation, (published, min_samples_reached, safe, data_missing), harm, guard, breaker, shadow)| {
            let harms: Vec<Harm> = harm
                .into_iter()
                .map(|critical| Harm { check: "slow".to_owned(), critical, cause: "slow".to_owned() })
                .collect();
            let safe = safe && harms.is_empty();
            let verdict = Overall { harms, safe };
            let guard_breach = guard;
            Facts {
                arms,
                validation,
                published,
                min_samples_reached,
                verdict,
                guard_breach,
                breaker,
                shadow,
                data_missing,
            }
        },
    )
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let time = (0..40 * 60_000u64, facts())
        .prop_map(|(elapsed_ms, facts)| Happening::Time { elapsed_ms, facts: Box::new(facts) });
    let usual = prop_oneof![
        4 => Just(Action::Resume), 2 => Just(Action::Approve), 2 => Just(Action::Pause),
    ];
    let rare = prop_oneof![Just(Action::Promote), Just(Action::Abort)];
    let happening = prop_oneof![
        60 => time,
        20 => usual.prop_map(Happening::Action),
        1 => rare.prop_map(Happening::Action),
        3 => any::<bool>().prop_map(|clean| Happening::Restart { clean }),
    ];
    proptest::collection::vec(happening, 1..80)
}

fn specs() -> impl Strategy<Value = RolloutSpec> {
    let choice = prop_oneof![Just("hold"), Just("roll_back"), Just("approve")];
    (any::<bool>(), any::<bool>(), any::<bool>(), choice).prop_map(|(shadow, start, approval, choice)| {
        let shadow = if shadow { "shadow: {}\n" } else { "" };
        let mut spec =
            spec(&format!("{shadow}validate: {{approval: {{required: {start}}}}}\non_inconclusive: {choice}"));
        spec.steps[1].approval.required = approval;
        spec
    })
}

/// How far a rollout has come; a rollback is no way forward.
fn rank(state: State) -> usize {
    match state {
        State::Pending => 0,
        State::Validating => 1,
        State::AwaitingStart => 2,
        State::Warming => 3,
        State::Shadowing => 4,
        State::Step { index, phase } => 10 + index * 10 + phase as usize,
        State::Promoting => 1000,
        State::Watching => 1001,
        State::Completed => 1002,
        State::RollingBack { .. } | State::RolledBack | State::Rejected | State::Aborted => 0,
    }
}

/// A rollout under test, and what was put in force for it.
struct World {
    spec: RolloutSpec,
    progress: Progress,
    now_ms: u64,
    is_pinned: bool,
    candidate_bp: u16,
    shadow_bp: u16,
    label_moved: bool,
}

impl World {
    fn happens(&mut self, happening: &Happening) -> Result<(), TestCaseError> {
        let before = self.progress.clone();
        let transition = match happening {
            Happening::Time { elapsed_ms, facts } => {
                self.now_ms += elapsed_ms;
                self.progress.tick(*elapsed_ms);
                prop_assert!(!before.is_stopped() || before.bake_elapsed_ms == self.progress.bake_elapsed_ms);
                let transition = advance(&self.spec, &self.progress, facts, self.now_ms);
                self.check_advance(&before, facts, transition.as_ref())?;
                transition
            }
            Happening::Action(action) => {
                let answer = command(&self.spec, &self.progress, *action, "ann", self.now_ms);
                prop_assert!(*action != Action::Abort || answer.is_ok() != before.state.is_terminal());
                answer.ok()
            }
            Happening::Restart { clean } => {
                (self.is_pinned, self.candidate_bp, self.shadow_bp) = (false, 0, 0);
                let effects = restore(&self.spec, &self.progress);
                self.take(&effects, before.state)?;
                after_restart(&self.progress, *clean, self.now_ms)
            }
        };
        let Some(transition) = transition else { return Ok(()) };
        prop_assert!(!before.state.is_terminal(), "terminal states stay");
        prop_assert!(!transition.cause.is_empty() && !transition.to.cause.is_empty());
        self.take(&transition.effects, transition.to.state)?;
        self.progress = transition.to;
        self.check_state(&before)
    }

    /// Puts effects in force, in their order.
    fn take(&mut self, effects: &[Effect], state: State) -> Result<(), TestCaseError> {
        for effect in effects {
            match effect {
                Effect::PinArms => self.is_pinned = true,
                Effect::Weights(bp) => {
                    prop_assert!(self.is_pinned || *bp == 0, "a weight before the arms are pinned");
                    prop_assert!(*bp == 0 || *bp >= self.candidate_bp, "a weight fell from {}", self.candidate_bp);
                    self.candidate_bp = *bp;
                }
                Effect::Shadow(bp) => {
                    prop_assert!(self.is_pinned || *bp == 0, "a shadow before the arms are pinned");
                    self.shadow_bp = *bp;
                }
                Effect::ReleaseArms => {
                    prop_assert!(state.is_terminal(), "released in {state:?}");
                    (self.is_pinned, self.candidate_bp, self.shadow_bp) = (false, 0, 0);
                }
                Effect::MoveLabel => self.label_moved = true,
                Effect::MoveLabelBack => self.label_moved = false,
                Effect::Quarantine(reason) => prop_assert!(!reason.is_empty()),
            }
        }
        let releases = effects.iter().filter(|effect| **effect == Effect::ReleaseArms).count();
        prop_assert_eq!(releases, usize::from(state.is_terminal() && !effects.is_empty()), "released once, at the end");
        Ok(())
    }

    fn check_state(&self, before: &Progress) -> Result<(), TestCaseError> {
        let state = self.progress.state;
        let weights = Weights::of_candidate(state.candidate_bp(&self.spec));
        prop_assert_eq!(weights.stable() + weights.candidate() + weights.control(), 10_000);
        prop_assert_eq!(self.candidate_bp, weights.candidate(), "what the state demands is in force");
        prop_assert_eq!(self.shadow_bp, state.shadow_bp(&self.spec));
        let is_over = state.is_terminal();
        prop_assert!(self.is_pinned != is_over || rank(state) == 0, "pinned until the end");
        prop_assert!(self.is_pinned || is_over || !before.state.has_traffic(), "stable is kept until the end");
        let is_promoted = matches!(state, State::Promoting | State::Watching | State::Completed);
        prop_assert_eq!(self.label_moved, is_promoted, "the label is where the traffic is");
        prop_assert!(STATES.contains(&state.name()), "a state without a series on /metrics");
        Ok(())
    }

    fn check_advance(&self, before: &Progress, facts: &Facts, to: Option<&Transition>) -> Result<(), TestCaseError> {
        let Some(Transition { to, .. }) = to else {
            let is_bad = facts.guard_breach.is_some() || facts.breaker.is_some();
            prop_assert!(!(is_bad && before.state.has_traffic()), "a breach was let pass in {:?}", before.state);
            return Ok(());
        };
        let is_forward = rank(to.state) > rank(before.state);
        prop_assert!(!(is_forward && before.is_stopped()), "went on while stopped");
        let is_deciding = matches!(before.state, State::Step { phase: Phase::Deciding | Phase::Baking, .. });
        let is_next_step = to.state.step() != before.state.step();
        let lacks_data = facts.data_missing || !facts.min_samples_reached;
        prop_assert!(!(is_deciding && is_forward && is_next_step && lacks_data), "went on without data");
        let is_watched = matches!(before.state, State::Shadowing | State::Watching);
        prop_assert!(!(is_watched && is_forward && facts.data_missing), "went on without data");
        let is_waiting =
            matches!(before.state, State::AwaitingStart | State::Step { phase: Phase::AwaitingApproval, .. });
        prop_assert!(!(is_waiting && is_forward), "went on without a person");
        Ok(())
    }
}

fn run(strategy: impl Strategy<Value = (RolloutSpec, Vec<Happening>)>, mut ended: impl FnMut(&World)) {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
    let config = ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() };
    let ended = std::cell::RefCell::new(&mut ended);
    TestRunner::new_with_rng(config, rng)
        .run(&strategy, |(spec, happenings)| {
            let mut world = World {
                spec,
                progress: Progress::new("begun", NOW_MS),
                now_ms: NOW_MS,
                is_pinned: false,
                candidate_bp: 0,
                shadow_bp: 0,
                label_moved: false,
            };
            for happening in &happenings {
                world.happens(happening)?;
            }
            (ended.borrow_mut())(&world);
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_invariants_hold_whatever_happens() {
    let mut seen = std::collections::BTreeSet::new();
    run((specs(), happenings()), |world| _ = seen.insert(world.progress.state.name()));
    // A hold and a pause are shown in place of the state that they stop.
    let states = STATES.iter().filter(|name| !["held", "paused"].contains(*name));
    let missing: Vec<&&str> = states.filter(|name| !seen.contains(**name)).collect();
    assert!(missing.is_empty(), "no sequence ended in {missing:?}");
}

#[test]
fn without_traffic_no_rollout_is_ever_promoted_by_itself() {
    let idle = (0..40 * 60_000u64).prop_map(|elapsed_ms| {
        let facts = Facts { min_samples_reached: false, verdict: Overall::default(), shadow: None, ..good() };
        Happening::Time { elapsed_ms, facts: Box::new(facts) }
    });
    let sequences = proptest::collection::vec(idle, 80);
    run((Just(spec("")), sequences), |world| {
        assert_eq!(world.progress.state.step(), Some(0));
        assert!(world.progress.held.is_some());
    });
}
