//! A rollout as tests of what is shown need it, with something in every field.

use serde_json::json;

use super::view::{
    ArmView, CheckView, CountView, GuardView, RolloutView, SampleRatioView, ShadowView, StepView, TransitionView,
    WeightsView,
};

/// 2026-03-01T12:00:00Z.
pub const NOON_MS: u64 = 1_772_366_400_000;

/// `digits-3` from version 1 to 2, four minutes into the second of three steps.
pub fn rollout() -> RolloutView {
    RolloutView {
        id: "digits-3".into(),
        route: "digits".into(),
        model: "digits".into(),
        stable: 1,
        candidate: 2,
        state: "baking".into(),
        ended: false,
        waiting_for: "5m more of baking".into(),
        step: Some(1),
        steps: vec![step(100, 5, 120), step(1000, 10, 360), StepView { approval: true, ..step(5000, 30, 720) }],
        started_ms: NOON_MS,
        since_ms: NOON_MS + 300_000,
        ended_ms: None,
        requested_by: "alice".into(),
        reason: "retrained in week 9".into(),
        bake_elapsed_ms: 250_000,
        weights: WeightsView { stable: 8000, candidate: 1000, control: 1000, shadow: 0 },
        arms: vec![arm("stable", 1, 120_312), arm("candidate", 2, 15_020), arm("control", 1, 15_040)],
        checks: vec![errors(), slow()],
        guards: vec![
            GuardView { metric: "stable.p99_ms".into(), max: 50.0, value: Some(9.13), breached: false },
            GuardView { metric: "queue_wait_p99_ms".into(), max: 20.0, value: None, breached: false },
        ],
        sample_ratio: SampleRatioView {
            candidate: 15_020,
            others: 135_352,
            expected_share: 0.1,
            e_value: 0.21,
            line: 1000.0,
            mismatch: false,
        },
        shadow: Some(shadow()),
        last_transition: Some(transition(7)),
        spec: json!({"route": "digits", "candidate": 2, "steps": [{"weight_bp": 100}], "checks": []}),
    }
}

/// A transition with this number.
pub fn transition(number: u64) -> TransitionView {
    TransitionView {
        number,
        at_ms: NOON_MS + 300_000,
        from: "shifting".into(),
        to: "baking".into(),
        actor: "headgate".into(),
        cause: "10 % are in force".into(),
        weights: WeightsView { stable: 8000, candidate: 1000, control: 1000, shadow: 0 },
        evidence: json!({"e_harm": 0.4}),
    }
}

fn step(weight_bp: u16, min_bake_min: u64, max_bake_min: u64) -> StepView {
    StepView {
        weight_bp,
        min_bake_ms: min_bake_min * 60_000,
        max_bake_ms: max_bake_min * 60_000,
        min_samples: 500,
        require: if weight_bp == 5000 { "safe" } else { "no_harm" }.into(),
        approval: false,
    }
}

fn arm(arm: &str, version: u64, requests: u64) -> ArmView {
    let errors = requests / 10_000;
    let [p50_ms, p95_ms, p99_ms] = [1.2, 3.41, 9.13].map(Some);
    ArmView { arm: arm.into(), version, requests, errors, invalid: 0, p50_ms, p95_ms, p99_ms, ..ArmView::default() }
}

fn errors() -> CheckView {
    CheckView {
        name: "errors".into(),
        event: "error".into(),
        critical: true,
        dry_run: false,
        verdict: "inconclusive".into(),
        candidate: CountView { requests: 15_020, events: 3 },
        comparator: CountView { requests: 120_312, events: 12 },
        against: "stable".into(),
        ratio: Some(2.0),
        ratio_low: Some(0.41),
        ratio_high: Some(7.05),
        harm_ratio: 1.5,
        safe_ratio: 2.0,
        e_harm: 2.13,
        e_safe: 12.3,
        line: 50.0,
        safe_line: 50.0,
        note: String::new(),
        samples_to_verdict: Some(1200),
        seconds_to_verdict: Some(180.0),
    }
}

fn slow() -> CheckView {
    CheckView {
        name: "slow".into(),
        event: "latency > slo".into(),
        dry_run: true,
        verdict: "pass".into(),
        candidate: CountView { requests: 15_020, events: 700 },
        comparator: CountView { requests: 15_040, events: 760 },
        against: "control".into(),
        harm_ratio: 1.3,
        safe_ratio: 2.0,
        e_harm: 0.02,
        e_safe: 4.1e12,
        line: 100.0,
        safe_line: 100.0,
        note: "stable's p95 is frozen at 3.4 ms".into(),
        ..CheckView::default()
    }
}

fn shadow() -> ShadowView {
    ShadowView {
        percent: 20.0,
        compared: 2000,
        disagreements: 12,
        same_class: Some(1990),
        max_abs_difference: 0.0123,
        max_rel_difference: 0.5,
        dropped: 4,
        failed: 0,
        primary_p50_ms: Some(1.2),
        shadow_p50_ms: Some(1.4),
    }
}
