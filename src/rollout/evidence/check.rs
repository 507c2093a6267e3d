//! The evidence of one check.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::prediction_log::quality::name_hash;
use crate::rollout::spec::{Against, Analysis, Check, Event};
use crate::rollout::statistics::{
    self, AbsoluteCertificate, Judgement, KeyedEvents, Observed, RateRatio, RatioBounds, RatioInterval, forecast, judge,
};
use crate::rollout::view::CountView;
use crate::routing::{Arm, LabelSample, Sample, ShadowSample, Weights};

/// Slow answers of one arm within such a time are one event as far as harm goes.
const STALL_MS: u64 = 50;

/// What a check has counted, and what follows from it. A unit is a request, or all requests of one key in one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckEvidence {
    harm: RateRatio,
    safe: RateRatio,
    interval: RatioInterval,
    /// The rate that the candidate's units are certified against.
    max_rate: Option<f64>,
    units: KeyedEvents,
    events: KeyedEvents,
    /// When a slow answer last counted for harm: of the comparator, of the candidate.
    stalled: [Option<u64>; 2],
    pub candidate: CountView,
    pub comparator: CountView,
    /// Labels that have come: for the candidate, for the comparator.
    #[serde(default)]
    pub labels: [u64; 2],
    /// The candidate's share of what is compared, at the last unit.
    q: f64,
}

impl CheckEvidence {
    /// `max_disagree_rate` is the shadow phase's.
    pub fn new(check: &Check, max_disagree_rate: Option<f64>) -> Self {
        let max_rate = match check.event {
            Event::ShadowDisagreement => max_disagree_rate,
            _ => check.abs_max,
        };
        Self {
            harm: RateRatio::harm(check.harm_ratio),
            safe: RateRatio::safe(check.safe_ratio),
            interval: RatioInterval::default(),
            max_rate,
            units: KeyedEvents::default(),
            events: KeyedEvents::default(),
            stalled: [None; 2],
            candidate: CountView::default(),
            comparator: CountView::default(),
            labels: [0; 2],
            q: 0.0,
        }
    }

    /// Keys count anew. Of labels they don't: these come in a later step than their requests, and go by the weights of
    /// those.
    pub fn next_step(&mut self, check: &Check) {
        if check.event == Event::Feedback {
            return;
        }
        self.units.next_step();
        self.events.next_step();
    }

    /// One answered request. `slow_us`: what stable's frozen p95 tolerates; `None` before it is known.
    pub fn observe(&mut self, check: &Check, sample: &Sample, slow_us: Option<u64>, now_ms: u64) {
        let is_event = match check.event {
            Event::Error => sample.error,
            Event::InvalidOutput => sample.invalid,
            Event::SlowerThanStableP95 => match slow_us {
                Some(slow_us) if !sample.error => u64::from(sample.latency_us) > slow_us,
                _ => return,
            },
            Event::ShadowDisagreement | Event::Feedback => return,
        };
        let Some(in_candidate) = side(sample.arm, check.against) else { return };
        self.q = share_of_candidate(sample.weights, check.against);
        if self.units.first(sample.key) {
            self.count(in_candidate, 1, 0);
        }
        if is_event && self.events.first(sample.key) {
            self.count(in_candidate, 0, 1);
            if check.event != Event::SlowerThanStableP95 || self.is_another_stall(in_candidate, now_ms) {
                self.harm.observe(in_candidate, self.q);
            }
            self.safe.observe(in_candidate, self.q);
            self.interval.observe(in_candidate, self.q);
        }
    }

    /// Slow answers come in bursts: whatever is under way in an arm when its core is taken away is slow together. Such a
    /// burst is one event, or chance would look like harm. For safety each counts, which errs on the careful side.
    fn is_another_stall(&mut self, in_candidate: bool, now_ms: u64) -> bool {
        let slot = Some(now_ms / STALL_MS);
        std::mem::replace(&mut self.stalled[usize::from(in_candidate)], slot) != slot
    }

    /// One label. A key counts once for all of its requests under the same weights, that is of one step, whenever their
    /// labels come: each key met one arm then.
    pub fn observe_label(&mut self, check: &Check, sample: &LabelSample) {
        let is_asked_for = match (check.event, &check.feedback) {
            (Event::Feedback, None) => sample.is_truth,
            (Event::Feedback, Some(name)) => sample.feedback == name_hash(name),
            _ => false,
        };
        let Some(in_candidate) = side(sample.arm, check.against).filter(|_| is_asked_for) else { return };
        self.labels[usize::from(!in_candidate)] += 1;
        let key = sample.key.map(|key| key_in_step(key, sample.weights));
        self.q = share_of_candidate(sample.weights, check.against);
        if self.units.first(key) {
            self.count(in_candidate, 1, 0);
        }
        if sample.wrong && self.events.first(key) {
            self.count(in_candidate, 0, 1);
            self.harm.observe(in_candidate, self.q);
            self.safe.observe(in_candidate, self.q);
            self.interval.observe(in_candidate, self.q);
        }
    }

    /// One compared copy.
    pub fn observe_shadow(&mut self, check: &Check, sample: &ShadowSample) {
        if check.event != Event::ShadowDisagreement {
            return;
        }
        if self.units.first(sample.key) {
            self.count(true, 1, 0);
        }
        if (sample.disagrees || sample.failed) && self.events.first(sample.key) {
            self.count(true, 0, 1);
        }
    }

    fn count(&mut self, in_candidate: bool, requests: u64, events: u64) {
        let count = if in_candidate { &mut self.candidate } else { &mut self.comparator };
        count.requests += requests;
        count.events += events;
    }

    /// What it comes to.
    pub fn judgement(&self, check: &Check, analysis: &Analysis) -> Judgement {
        let absolute = self.absolute();
        judge(&self.statistics(check, analysis, absolute.as_ref()))
    }

    /// The ratio of the rates with its interval at the check's level; `None` before the first event.
    pub fn ratio(&self, check: &Check, analysis: &Analysis) -> Option<RatioBounds> {
        self.interval.bounds(check.alpha(analysis))
    }

    /// Candidate requests until the verdict is pass, if things go on as they are.
    pub fn samples_to_verdict(&self, check: &Check, analysis: &Analysis) -> Option<u64> {
        let observed = Observed {
            candidate_requests: self.candidate.requests,
            candidate_events: self.candidate.events,
            comparator_requests: self.comparator.requests,
            comparator_events: self.comparator.events,
        };
        let absolute = self.absolute();
        forecast(&self.statistics(check, analysis, absolute.as_ref()), self.q, &observed)
    }

    fn absolute(&self) -> Option<AbsoluteCertificate> {
        let CountView { requests, events } = self.candidate;
        self.max_rate.map(|max_rate| AbsoluteCertificate::of(max_rate, requests, events))
    }

    fn statistics<'a>(
        &'a self,
        check: &Check,
        analysis: &Analysis,
        absolute: Option<&'a AbsoluteCertificate>,
    ) -> statistics::Check<'a> {
        let is_ratio = check.event != Event::ShadowDisagreement;
        statistics::Check {
            alpha: analysis.alpha,
            share: check.share,
            harm: is_ratio.then_some(&self.harm),
            safe: is_ratio.then_some(&self.safe),
            absolute,
        }
    }
}

/// Whether an answer counts for the candidate or for its comparator; `None`: for neither.
fn side(arm: Arm, against: Against) -> Option<bool> {
    match (arm, against) {
        (Arm::Candidate, _) => Some(true),
        (Arm::Control, _) | (Arm::Stable, Against::Stable) => Some(false),
        (Arm::Stable, Against::Control) | (Arm::Shadow, _) => None,
    }
}

/// A key under the weights of a step, which rise from step to step: another number in each.
fn key_in_step(key: u64, weights: Weights) -> u64 {
    let weights = [weights.candidate().to_le_bytes(), weights.control().to_le_bytes()].concat();
    xxh3_64_with_seed(&weights, key)
}

/// The probability that an event of equal rates falls to the candidate.
fn share_of_candidate(weights: Weights, against: Against) -> f64 {
    let candidate = f64::from(weights.candidate());
    let comparator = match against {
        Against::Stable => f64::from(weights.stable()) + f64::from(weights.control()),
        Against::Control => f64::from(weights.control()),
    };
    if candidate + comparator > 0.0 { candidate / (candidate + comparator) } else { 0.0 }
}
