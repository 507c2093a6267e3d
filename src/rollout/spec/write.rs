//! A spec as a document, every default written out.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    Against, Approval, Check, Event, OnInconclusive, OnTimeout, Require, RolloutSpec, ShadowPhase, SignatureRule, Step,
};
use crate::routing::{ForceRule, Match, Unit};

impl RolloutSpec {
    /// The spec as a document that [`super::read()`] takes. What is absent and has no default is left out.
    pub fn to_value(&self) -> Value {
        let mut document = Map::new();
        let mut put = |key: &str, value: Value| _ = document.insert(key.to_owned(), value);
        if let Some(route) = &self.route {
            put("route", json!(route));
        }
        for (key, version) in [("stable", self.stable), ("candidate", self.candidate)] {
            if let Some(version) = version {
                put(key, json!(version));
            }
        }
        if let Some(digest) = &self.candidate_digest {
            put("candidate_digest", json!(digest));
        }
        put("reason", json!(self.reason));
        put("ticket", json!(self.ticket));
        put("assignment", self.assignment_value());
        put("validate", self.validate_value());
        if let Some(phase) = &self.shadow {
            put("shadow", shadow(phase));
        }
        put("steps", self.steps.iter().map(step).collect());
        put("analysis", self.analysis_value());
        put(
            "guards",
            self.guards.iter().map(|guard| json!({"metric": guard.metric.name(), "max": guard.max})).collect(),
        );
        put("on_inconclusive", json!(self.on_inconclusive.name()));
        let promote = json!({"watch": time(self.promote.watch), "keep_previous": time(self.promote.keep_previous)});
        put("promote", promote);
        Value::Object(document)
    }

    fn assignment_value(&self) -> Value {
        json!({
            "unit": self.assignment.units.iter().map(unit).collect::<Vec<_>>(),
            "salt": self.assignment.salt.as_deref().unwrap_or("auto"),
            "force": self.assignment.force.iter().map(force).collect::<Vec<_>>(),
        })
    }

    fn validate_value(&self) -> Value {
        let signature = match self.validate.signature {
            SignatureRule::Same => "same",
            SignatureRule::Any => "any",
        };
        json!({
            "signature": signature,
            "warm_up": self.validate.warm_up,
            "approval": {"required": self.validate.approval},
        })
    }

    fn analysis_value(&self) -> Value {
        json!({
            "alpha": self.analysis.alpha,
            "warmup_exclude": time(self.analysis.warmup_exclude),
            "p95_samples": self.analysis.p95_samples,
            "slack": {"ratio": self.analysis.slack.ratio, "time": time(self.analysis.slack.time)},
            "checks": self.analysis.checks.iter().map(check).collect::<Vec<_>>(),
        })
    }
}

impl OnInconclusive {
    /// The word in the spec.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::RollBack => "roll_back",
            Self::Approve => "approve",
        }
    }
}

impl Require {
    /// The word in the spec.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoHarm => "no_harm",
            Self::Safe => "safe",
        }
    }
}

impl Against {
    /// The word in the spec.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Control => "control",
        }
    }
}

fn time(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

fn unit(unit: &Unit) -> Value {
    match unit {
        Unit::Header(name) => json!({"header": name}),
        Unit::Param(name) => json!({"param": name}),
        Unit::Request => json!({"request": true}),
    }
}

fn force(rule: &ForceRule) -> Value {
    let (key, value) = match &rule.matches {
        Match::Exact(text) => ("exact", json!(text)),
        Match::Prefix(text) => ("prefix", json!(text)),
        Match::Present => ("present", json!(true)),
    };
    json!({"header": rule.header, key: value, "arm": rule.arm.name()})
}

fn shadow(phase: &ShadowPhase) -> Value {
    json!({
        "percent": phase.percent,
        "min_samples": phase.min_samples,
        "max_duration": time(phase.max_duration),
        "compare": {
            "atol": phase.compare.atol,
            "rtol": phase.compare.rtol,
            "max_disagree_rate": phase.compare.max_disagree_rate,
        },
    })
}

fn step(step: &Step) -> Value {
    json!({
        "weight_bp": step.weight_bp,
        "min_bake": time(step.min_bake),
        "max_bake": time(step.max_bake),
        "min_samples": step.min_samples,
        "require": step.require.name(),
        "approval": approval(step.approval),
    })
}

fn approval(approval: Approval) -> Value {
    let on_timeout = match approval.on_timeout {
        OnTimeout::Hold => "hold",
        OnTimeout::RollBack => "roll_back",
    };
    json!({"required": approval.required, "timeout": time(approval.timeout), "on_timeout": on_timeout})
}

fn check(check: &Check) -> Value {
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| _ = out.insert(key.to_owned(), value);
    put("name", json!(check.name));
    put("event", json!(check.event.name()));
    if let Some(feedback) = &check.feedback {
        put("feedback", json!(feedback));
    }
    if check.event != Event::ShadowDisagreement {
        put("against", json!(check.against.name()));
        put("harm_ratio", json!(check.harm_ratio));
        put("safe_ratio", json!(check.safe_ratio));
    }
    if let Some(abs_max) = check.abs_max {
        put("abs_max", json!(abs_max));
    }
    put("critical", json!(check.critical));
    put("dry_run", json!(check.dry_run));
    put("share", json!(check.share));
    Value::Object(out)
}
