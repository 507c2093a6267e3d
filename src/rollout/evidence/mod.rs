//! What is known of the candidate: the sum of all observations of a rollout, and the verdicts that follow.
//!
//! Pure: the time of an observation comes with it. All of it but the last minute is kept across restarts.

mod check;
mod recent;
mod report;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use self::check::CheckEvidence;
use self::recent::{Recent, index};
use super::spec::{Event, RolloutSpec};
use super::state_machine::{Harm, Overall, ShadowFacts};
use super::statistics::{AbsoluteCertificate, KeyedEvents, LatencyHistogram, SampleRatio, Verdict};
use crate::routing::{Arm, LabelSample, Observation, Sample, ShadowSample};

/// The sum of a rollout's observations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// In the order of the spec's.
    checks: Vec<CheckEvidence>,
    /// Stable, candidate, control.
    arms: [Tally; 3],
    step: Step,
    /// Of the stable version, until its p95 is frozen.
    stable_latency: LatencyHistogram,
    slow_us: Option<u64>,
    sample_ratio: SampleRatio,
    shadow: Shadow,
    #[serde(skip)]
    recent: Recent,
}

/// What one arm has answered in this rollout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Tally {
    requests: u64,
    errors: u64,
    invalid: u64,
    latency: LatencyHistogram,
}

/// What came since the weights changed last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Step {
    candidate: u64,
    others: u64,
    /// Keys of this step, for the sample ratio: one draw each.
    keys: KeyedEvents,
    /// Until then the checks look away.
    excluded_until_ms: u64,
}

/// What the copies have shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Shadow {
    compared: u64,
    failed: u64,
    disagreements: u64,
    with_class: u64,
    same_class: u64,
    max_abs_difference: f64,
    max_rel_difference: f64,
    primary: LatencyHistogram,
    copies: LatencyHistogram,
    /// At most one disagreement a key.
    units: KeyedEvents,
    events: KeyedEvents,
    unit_count: u64,
    event_count: u64,
}

impl Evidence {
    pub fn new(spec: &RolloutSpec) -> Self {
        let max_disagree_rate = spec.shadow.as_ref().map(|shadow| shadow.compare.max_disagree_rate);
        let checks = spec.analysis.checks.iter().map(|check| CheckEvidence::new(check, max_disagree_rate)).collect();
        Self {
            checks,
            arms: Default::default(),
            step: Step::default(),
            stable_latency: LatencyHistogram::default(),
            slow_us: None,
            sample_ratio: SampleRatio::default(),
            shadow: Shadow::default(),
            recent: Recent::default(),
        }
    }

    /// Whether it could be the evidence of a rollout with this spec.
    pub fn fits(&self, spec: &RolloutSpec) -> bool {
        self.checks.len() == spec.analysis.checks.len()
    }

    /// The weights have changed: keys count anew, and the arms are given time to warm up.
    pub fn next_step(&mut self, spec: &RolloutSpec, now_ms: u64) {
        let excluded = u64::try_from(spec.analysis.warmup_exclude.as_millis()).unwrap_or(u64::MAX);
        self.step.keys.next_step();
        self.step = Step {
            excluded_until_ms: now_ms.saturating_add(excluded),
            keys: std::mem::take(&mut self.step.keys),
            ..Step::default()
        };
        for (evidence, check) in self.checks.iter_mut().zip(&spec.analysis.checks) {
            evidence.next_step(check);
        }
        self.shadow.units.next_step();
        self.shadow.events.next_step();
    }

    /// Takes note of one observation.
    pub fn observe(&mut self, spec: &RolloutSpec, observation: &Observation, now_ms: u64) {
        match observation {
            Observation::Served(sample) => self.served(spec, sample, now_ms),
            Observation::Mirrored(sample) => self.mirrored(spec, sample),
            Observation::Labelled(sample) => self.labelled(spec, sample),
        }
    }

    fn served(&mut self, spec: &RolloutSpec, sample: &Sample, now_ms: u64) {
        let Some(arm) = index(sample.arm) else { return };
        let tally = &mut self.arms[arm];
        tally.requests += 1;
        tally.errors += u64::from(sample.error);
        tally.invalid += u64::from(sample.invalid);
        tally.latency.record(sample.latency_us.into());
        self.recent.observe(sample, now_ms);
        let in_candidate = sample.arm == Arm::Candidate;
        if self.slow_us.is_none() && !in_candidate && !sample.error {
            self.stable_latency.record(sample.latency_us.into());
            if self.stable_latency.count() >= spec.analysis.p95_samples {
                self.slow_us = self.stable_latency.quantile(0.95).map(|us| spec.analysis.slack.over(us));
            }
        }
        if sample.weights.candidate() == 0 || now_ms < self.step.excluded_until_ms {
            return;
        }
        if in_candidate {
            self.step.candidate += 1;
        } else {
            self.step.others += 1;
        }
        if self.step.keys.first(sample.key) {
            self.sample_ratio.observe(in_candidate, f64::from(sample.weights.candidate()) / 10_000.0);
        }
        for (evidence, check) in self.checks.iter_mut().zip(&spec.analysis.checks) {
            evidence.observe(check, sample, self.slow_us, now_ms);
        }
    }

    fn mirrored(&mut self, spec: &RolloutSpec, sample: &ShadowSample) {
        let shadow = &mut self.shadow;
        shadow.compared += 1;
        shadow.failed += u64::from(sample.failed);
        shadow.disagreements += u64::from(sample.disagrees);
        if let Some(same) = sample.same_class {
            shadow.with_class += 1;
            shadow.same_class += u64::from(same);
        }
        // A checkpoint holds finite numbers only.
        let larger = |a: f64, b: f64| if b.is_finite() { a.max(b) } else { f64::MAX };
        shadow.max_abs_difference = larger(shadow.max_abs_difference, sample.max_abs_difference);
        shadow.max_rel_difference = larger(shadow.max_rel_difference, sample.max_rel_difference);
        shadow.primary.record(sample.primary_us.into());
        shadow.copies.record(sample.shadow_us.into());
        shadow.unit_count += u64::from(shadow.units.first(sample.key));
        let is_event = (sample.disagrees || sample.failed) && shadow.events.first(sample.key);
        shadow.event_count += u64::from(is_event);
        for (evidence, check) in self.checks.iter_mut().zip(&spec.analysis.checks) {
            evidence.observe_shadow(check, sample);
        }
    }

    /// Says nothing of the step: the request may have been answered in an earlier one.
    fn labelled(&mut self, spec: &RolloutSpec, sample: &LabelSample) {
        if sample.weights.candidate() == 0 {
            return;
        }
        for (evidence, check) in self.checks.iter_mut().zip(&spec.analysis.checks) {
            evidence.observe_label(check, sample);
        }
    }

    /// Whether candidate and comparator have answered so many requests each since the weights changed. Where nobody is
    /// left to compare with, the candidate alone.
    pub fn has_samples(&self, min_samples: u64, candidate_bp: u16) -> bool {
        let is_whole = candidate_bp == crate::routing::BASIS_POINTS;
        self.step.candidate >= min_samples && (is_whole || self.step.others >= min_samples)
    }

    /// What the checks say together; those of `dry_run` say nothing.
    pub fn overall(&self, spec: &RolloutSpec) -> Overall {
        let analysis = &spec.analysis;
        let acting = || self.checks.iter().zip(&analysis.checks).filter(|(_, check)| !check.dry_run);
        let mut overall = Overall { harms: vec![], safe: acting().next().is_some() };
        for (evidence, check) in acting() {
            let judgement = evidence.judgement(check, analysis);
            overall.safe &= judgement.verdict == Verdict::Pass;
            if judgement.verdict == Verdict::Fail {
                let cause = self.harm_text(evidence, check, &judgement);
                overall.harms.push(Harm { check: check.name.clone(), critical: check.critical, cause });
            }
        }
        overall
    }

    /// What the copies have shown; `None` before the first.
    pub fn shadow_facts(&self, spec: &RolloutSpec) -> Option<ShadowFacts> {
        if self.shadow.compared == 0 {
            return None;
        }
        let shadow = &self.shadow;
        // A check of its own judges it, if the spec has one.
        let is_checked = spec.analysis.checks.iter().any(|check| check.event == Event::ShadowDisagreement);
        let line = 1.0 / spec.analysis.alpha;
        let max_rate = spec.shadow.as_ref().filter(|_| !is_checked).map(|phase| phase.compare.max_disagree_rate);
        let certificate = max_rate.map(|rate| AbsoluteCertificate::of(rate, shadow.unit_count, shadow.event_count));
        let harm = certificate.filter(|certificate| certificate.e_above() >= line);
        let harm = harm.map(|certificate| {
            format!(
                "{} of {} copies were answered otherwise, more than {} of them may be",
                certificate.events(),
                certificate.requests(),
                percent(certificate.max_rate())
            )
        });
        Some(ShadowFacts { compared: shadow.compared, harm })
    }

    /// The first guard whose limit is passed.
    pub fn guard_breach(&self, spec: &RolloutSpec) -> Option<String> {
        spec.guards.iter().find_map(|guard| {
            let value = self.recent.metric(guard.metric).filter(|value| *value > guard.max)?;
            Some(format!("{} is {value:.3}, at most {} is allowed", guard.metric.name(), guard.max))
        })
    }

    /// Leaves out of the last minute what is older.
    pub fn tick(&mut self, now_ms: u64) {
        self.recent.forget(now_ms);
    }
}

fn percent(share: f64) -> String {
    format!("{:.3} %", share * 100.0)
}
