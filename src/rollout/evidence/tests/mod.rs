//! Whole rollouts without a clock: seeded users ask, the router assigns, evidence and state machine decide.

mod detection;
mod gates;
mod honest;
mod keys;
mod labels;

use std::collections::VecDeque;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Evidence;
use crate::inference::Attributes;
use crate::rollout::spec::{self, RolloutSpec};
use crate::rollout::state_machine::{ArmsReady, Effect, Facts, Progress, State, Transition, advance};
use crate::rollout::testing::NOON_MS;
use crate::routing::{Arm, Assignment, Choice, Dial, LabelSample, Observation, Sample, Weights, split};

/// How a version answers.
#[derive(Debug, Clone, Copy)]
struct Version {
    error_rate: f64,
    invalid_rate: f64,
    /// Latencies are lognormal: their median, and the standard deviation of their logarithm.
    median_us: f64,
    spread: f64,
    /// Share of the answers that turn out to be bad ones.
    wrong_rate: f64,
}

const FAULTLESS: Version =
    Version { error_rate: 0.0, invalid_rate: 0.0, median_us: 2_000.0, spread: 0.5, wrong_rate: 0.0 };

/// Who asks.
#[derive(Debug, Clone, Copy)]
enum Users {
    /// Nobody in particular: each request is assigned at random.
    Anonymous,
    /// So many users with a sticky key, of whom the first ask far more often than the last: the busiest tenth makes about
    /// half of the requests.
    Sticky(u64),
    /// The same, and what is bad is so for every request of the same users: a rate is a share of the users.
    WithBadInputs(u64),
}

/// The header of a request's key.
struct Key(String);

impl Attributes for Key {
    fn get(&self, name: &str) -> Option<&[u8]> {
        (name == "headgate-key" && !self.0.is_empty()).then_some(self.0.as_bytes())
    }
}

/// A rollout under way and the world around it, driven as the controller drives it.
struct Simulation {
    spec: RolloutSpec,
    evidence: Evidence,
    progress: Progress,
    dial: Dial,
    observations: mpsc::Receiver<Observation>,
    assignment: Assignment,
    random: fastrand::Rng,
    users: Users,
    stable: Version,
    candidate: Version,
    now_ms: u64,
    /// Requests between two looks, and the time between them in ms.
    pace: (u32, u64),
    /// What the router gives the candidate, where that is not what the weights say.
    skewed_to: Option<Weights>,
    /// Observations lost so far, and when that was seen.
    lost: (u64, Option<u64>),
    /// Answered by the candidate.
    candidate_requests: u64,
    /// When labels come after their answers, in ms; `None`: never. Those that are to come, with their times.
    label_delay_ms: Option<u64>,
    labels: VecDeque<(u64, LabelSample)>,
}

/// Three quick steps with the checks of an empty spec.
fn quick() -> Value {
    json!({
        "steps": [
            {"weight_bp": 1000, "min_bake": "1s", "max_bake": "10m"},
            {"weight_bp": 2500, "min_bake": "1s", "max_bake": "10m"},
            {"weight_bp": 5000, "min_bake": "1s", "max_bake": "10m"},
        ],
        "promote": {"watch": "500ms"},
    })
}

/// One step at this weight from the first request on, in which nothing passes by itself.
fn at_weight(weight_bp: u16) -> Value {
    json!({"steps": [{"weight_bp": weight_bp, "min_bake": "10h", "max_bake": "20h"}]})
}

impl Simulation {
    fn new(spec: &Value, seed: u64) -> Self {
        let spec = spec::read(spec).unwrap().resolved("m", Some(2), 1).unwrap();
        let (dial, observations) = Dial::new();
        Self {
            evidence: Evidence::new(&spec),
            progress: Progress::new("asked for", NOON_MS),
            assignment: spec.assignment(split::salt(&format!("m-{seed}"), "m")),
            spec,
            dial,
            observations,
            random: fastrand::Rng::with_seed(seed),
            users: Users::Anonymous,
            stable: FAULTLESS,
            candidate: FAULTLESS,
            now_ms: NOON_MS,
            pace: (20, 20),
            skewed_to: None,
            lost: (0, None),
            candidate_requests: 0,
            label_delay_ms: None,
            labels: VecDeque::new(),
        }
    }

    /// Lets time pass until the rollout ends, or a request number is passed.
    fn run(&mut self, most_requests: u64) -> State {
        let mut requests = 0;
        self.look(0);
        while !self.progress.state.is_terminal() && requests < most_requests {
            let (count, elapsed_ms) = self.pace;
            (0..count).for_each(|_| self.request());
            requests += u64::from(count);
            self.look(elapsed_ms);
        }
        self.progress.state
    }

    /// One request from its assignment to the observation of its answer.
    fn request(&mut self) {
        let user = match self.users {
            Users::Anonymous => None,
            Users::Sticky(users) | Users::WithBadInputs(users) => {
                Some((self.random.f64().powi(3) * users as f64) as u64)
            }
        };
        let key = Key(user.map(|user| format!("user-{user}")).unwrap_or_default());
        let weights = self.dial.weights();
        let given = self.skewed_to.filter(|_| weights.candidate() > 0).unwrap_or(weights);
        let Choice::Assigned(assigned) = self.assignment.choose(&key, Some(&[]), given, self.random.u64(..)) else {
            panic!("the parameters are there");
        };
        let version = if assigned.arm == Arm::Candidate { self.candidate } else { self.stable };
        self.candidate_requests += u64::from(assigned.arm == Arm::Candidate);
        // Whether a user is a bad one is the same on every arm, and independent of it.
        let of_user = |salt| user.map_or(0.0, |user| split::hash(salt, &user.to_le_bytes()) as f64 / u64::MAX as f64);
        let [error_draw, invalid_draw] = match self.users {
            Users::WithBadInputs(_) => [of_user(11), of_user(12)],
            _ => [self.random.f64(), self.random.f64()],
        };
        let error = error_draw < version.error_rate;
        let invalid = !error && invalid_draw < version.invalid_rate;
        let latency_us = (version.median_us * (version.spread * self.normal()).exp()) as u32;
        self.dial.note(assigned.arm, invalid, error);
        let sample = Sample { arm: assigned.arm, weights, key: assigned.key, error, invalid, latency_us, queue_us: 0 };
        self.dial.observe(Observation::Served(sample));
        if let Some(delay_ms) = self.label_delay_ms {
            let wrong_draw =
                if matches!(self.users, Users::WithBadInputs(_)) { of_user(13) } else { self.random.f64() };
            let (wrong, key) = (wrong_draw < version.wrong_rate, assigned.key);
            let label = LabelSample { arm: assigned.arm, weights, key, wrong, feedback: 0, is_truth: true };
            self.labels.push_back((self.now_ms + delay_ms, label));
        }
    }

    /// A standard normal number (Box and Muller, 1958).
    fn normal(&mut self) -> f64 {
        let (a, b) = (self.random.f64().max(f64::MIN_POSITIVE), self.random.f64());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    /// What the controller does at every tick.
    fn look(&mut self, elapsed_ms: u64) {
        self.now_ms += elapsed_ms;
        self.progress.tick(elapsed_ms);
        let now_ms = self.now_ms;
        while let Some((_, label)) = self.labels.pop_front_if(|(due_ms, _)| *due_ms <= now_ms) {
            self.dial.observe(Observation::Labelled(label));
        }
        while let Ok(observation) = self.observations.try_recv() {
            self.evidence.observe(&self.spec, &observation, self.now_ms);
        }
        self.evidence.tick(self.now_ms);
        let lost = self.dial.observations_dropped();
        if lost > self.lost.0 {
            self.lost = (lost, Some(self.now_ms));
        }
        while let Some(transition) = advance(&self.spec, &self.progress, &self.facts(), self.now_ms) {
            self.apply(transition);
        }
    }

    fn facts(&self) -> Facts {
        let state = self.progress.state;
        let candidate_bp = state.candidate_bp(&self.spec);
        let step = state.step().and_then(|index| self.spec.steps.get(index));
        let lost_lately = self.lost.1.is_some_and(|last_ms| self.now_ms - last_ms < 10_000);
        Facts {
            arms: ArmsReady::Ready,
            validation: Some(Ok(())),
            published: self.dial.weights() == Weights::of_candidate(candidate_bp),
            min_samples_reached: step.is_some_and(|step| self.evidence.has_samples(step.min_samples, candidate_bp)),
            verdict: self.evidence.overall(&self.spec),
            guard_breach: self.evidence.guard_breach(&self.spec),
            breaker: self.dial.tripped().map(|trip| trip.cause.name().to_owned()),
            shadow: self.evidence.shadow_facts(&self.spec),
            data_missing: lost_lately || self.evidence.sample_ratio_view().mismatch,
        }
    }

    fn apply(&mut self, transition: Transition) {
        let step_before = self.progress.state.step();
        self.progress = transition.to;
        for effect in transition.effects {
            match effect {
                Effect::Weights(0) => self.dial.shut(),
                Effect::Weights(bp) => self.dial.set_weights(Weights::of_candidate(bp)),
                _ => {}
            }
        }
        if self.progress.state.step() != step_before {
            self.evidence.next_step(&self.spec, self.now_ms);
        }
    }
}
