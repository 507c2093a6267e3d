//! The evidence as people read it.

use std::sync::LazyLock;

use super::check::CheckEvidence;
use super::{Evidence, Tally, percent};
use crate::rollout::spec::{Against, Check, Event, RolloutSpec};
use crate::rollout::statistics::{Judgement, LatencyHistogram, QuantileBand, SampleRatio, Verdict};
use crate::rollout::view::{ArmView, CheckView, CountView, GuardView, QuantileView, SampleRatioView, ShadowView};
use crate::routing::Arm;

/// The band of quantiles; its constant takes a search.
static BAND: LazyLock<QuantileBand> = LazyLock::new(|| QuantileBand::new(0.05));

fn so_far(latency: &LatencyHistogram, p: f64) -> Option<QuantileView> {
    let bounds = BAND.bounds(latency, p)?;
    let ms = |us: u64| us as f64 / 1e3;
    Some(QuantileView {
        estimate_ms: ms(bounds.estimate_us),
        low_ms: bounds.low_us.map(ms),
        high_ms: bounds.high_us.map(ms),
    })
}

impl Evidence {
    /// One row an arm. `versions`: of stable and candidate.
    pub fn arm_views(&self, versions: (u64, u64)) -> Vec<ArmView> {
        let rows = [(Arm::Stable, versions.0), (Arm::Candidate, versions.1), (Arm::Control, versions.0)];
        let view = |((arm, version), tally): ((Arm, u64), &Tally)| {
            let minute = self.recent.of(&[arm]);
            let quantile = |p| minute.latency.quantile(p).map(|us| us as f64 / 1e3);
            ArmView {
                arm: arm.name().to_owned(),
                version,
                requests: tally.requests,
                errors: tally.errors,
                invalid: tally.invalid,
                p50_ms: quantile(0.5),
                p95_ms: quantile(0.95),
                p99_ms: quantile(0.99),
                p50_so_far: so_far(&tally.latency, 0.5),
                p95_so_far: so_far(&tally.latency, 0.95),
            }
        };
        rows.into_iter().zip(&self.arms).map(view).collect()
    }

    /// One row a check, in the spec's order.
    pub fn check_views(&self, spec: &RolloutSpec) -> Vec<CheckView> {
        self.checks
            .iter()
            .zip(&spec.analysis.checks)
            .map(|(evidence, check)| self.view(spec, evidence, check))
            .collect()
    }

    fn view(&self, spec: &RolloutSpec, evidence: &CheckEvidence, check: &Check) -> CheckView {
        let judgement = evidence.judgement(check, &spec.analysis);
        let ratio = evidence.ratio(check, &spec.analysis);
        let samples = match judgement.verdict {
            Verdict::Inconclusive => evidence.samples_to_verdict(check, &spec.analysis),
            _ => None,
        };
        let rate = self.recent.rate(&[Arm::Candidate]).filter(|rate| *rate > 0.0);
        let against = match (check.event, check.against) {
            (Event::ShadowDisagreement, _) => "stable's own answers",
            (_, Against::Stable) => "stable",
            (_, Against::Control) => "control",
        };
        CheckView {
            name: check.name.clone(),
            event: check.event.name().to_owned(),
            critical: check.critical,
            dry_run: check.dry_run,
            verdict: judgement.verdict.as_str().to_owned(),
            candidate: evidence.candidate,
            comparator: evidence.comparator,
            against: against.to_owned(),
            ratio: ratio.and_then(|ratio| ratio.estimate),
            ratio_low: ratio.map(|ratio| ratio.low),
            ratio_high: ratio.and_then(|ratio| ratio.high),
            harm_ratio: check.harm_ratio,
            safe_ratio: check.safe_ratio,
            e_harm: judgement.e_harm,
            e_safe: judgement.e_safe,
            line: judgement.harm_line,
            safe_line: judgement.safe_line,
            note: self.note(check, evidence, &judgement),
            samples_to_verdict: samples,
            seconds_to_verdict: samples.zip(rate).map(|(samples, rate)| samples as f64 / rate),
        }
    }

    fn note(&self, check: &Check, evidence: &CheckEvidence, judgement: &Judgement) -> String {
        let maturity = (check.event == Event::Feedback).then(|| self.maturity(check, evidence));
        let verdict = self.note_on_verdict(check, judgement);
        [Some(verdict).filter(|text| !text.is_empty()), maturity].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// How much of the truth is in. A request of several instances has as many labels.
    fn maturity(&self, check: &Check, evidence: &CheckEvidence) -> String {
        let [stable, candidate, control] = self.arms.each_ref().map(|tally| tally.requests);
        let others = if check.against == Against::Control { control } else { stable + control };
        let of = |labels: u64, answers: u64| format!("{labels} labels for {answers} answers");
        let [in_candidate, in_comparator] = evidence.labels;
        format!("candidate: {}, comparator: {}", of(in_candidate, candidate), of(in_comparator, others))
    }

    fn note_on_verdict(&self, check: &Check, judgement: &Judgement) -> String {
        if !judgement.decided_by.is_empty() {
            let words: Vec<&str> = judgement.decided_by.iter().map(|evidence| evidence.as_str()).collect();
            return format!("by {}", words.join(" and "));
        }
        match (check.event, self.slow_us) {
            (Event::SlowerThanStableP95, None) => {
                format!("stable's p95 is not known before more answers ({} so far)", self.stable_latency.count())
            }
            (Event::SlowerThanStableP95, Some(us)) => format!("slower than {} ms", us as f64 / 1e3),
            _ => String::new(),
        }
    }

    /// One sentence for a rollback.
    pub(super) fn harm_text(&self, evidence: &CheckEvidence, check: &Check, judgement: &Judgement) -> String {
        let CheckEvidence { candidate, comparator, .. } = evidence;
        let rate = |count: &CountView| {
            let share = count.events as f64 / count.requests.max(1) as f64;
            format!("{} of {} ({})", count.events, count.requests, percent(share))
        };
        let what = match (check.event, self.slow_us) {
            (Event::SlowerThanStableP95, Some(us)) => format!("slower than {} ms", us as f64 / 1e3),
            (Event::Feedback, _) => "bad answers by feedback".to_owned(),
            (event, _) => event.name().to_owned(),
        };
        format!(
            "check '{}' found harm: {what} in {} of the candidate against {} of {}, evidence {:.0} at a line of {:.0}",
            check.name,
            rate(candidate),
            rate(comparator),
            if check.against == Against::Control { "control" } else { "stable" },
            judgement.e_harm,
            judgement.harm_line,
        )
    }

    pub fn guard_views(&self, spec: &RolloutSpec) -> Vec<GuardView> {
        let view = |guard: &crate::rollout::spec::Guard| {
            let value = self.recent.metric(guard.metric);
            GuardView {
                metric: guard.metric.name().to_owned(),
                max: guard.max,
                value,
                breached: value.is_some_and(|value| value > guard.max),
            }
        };
        spec.guards.iter().map(view).collect()
    }

    pub fn sample_ratio_view(&self) -> SampleRatioView {
        let ratio = &self.sample_ratio;
        SampleRatioView {
            candidate: ratio.candidate(),
            others: ratio.others(),
            expected_share: ratio.expected_share().unwrap_or_default(),
            e_value: ratio.e_value(),
            line: SampleRatio::LINE,
            mismatch: ratio.is_mismatch(),
        }
    }

    /// `None` where the spec has no shadow phase. `dropped`: copies that were not run.
    pub fn shadow_view(&self, spec: &RolloutSpec, dropped: u64) -> Option<ShadowView> {
        let (phase, shadow) = (spec.shadow.as_ref()?, &self.shadow);
        let median = |histogram: &LatencyHistogram| histogram.quantile(0.5).map(|us| us as f64 / 1e3);
        Some(ShadowView {
            percent: phase.percent,
            compared: shadow.compared,
            disagreements: shadow.disagreements,
            same_class: (shadow.with_class > 0).then_some(shadow.same_class),
            // JSON has no infinity.
            max_abs_difference: shadow.max_abs_difference.min(f64::MAX),
            max_rel_difference: shadow.max_rel_difference.min(f64::MAX),
            dropped,
            failed: shadow.failed,
            primary_p50_ms: median(&shadow.primary),
            shadow_p50_ms: median(&shadow.copies),
        })
    }
}
