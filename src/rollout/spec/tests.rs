use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use super::*;
use crate::routing::{Arm, Match};

fn fault(text: &str) -> String {
    read_text(text).expect_err(text).to_string()
}

#[test]
fn an_empty_document_is_a_whole_spec() {
    let spec = read_text("").unwrap();
    assert_eq!(spec, RolloutSpec::default());
    assert_eq!(read(&Value::Null).unwrap(), spec);
    let steps: Vec<(u16, u64, u64, u64, Require)> = spec
        .steps
        .iter()
        .map(|s| (s.weight_bp, s.min_bake.as_secs() / 60, s.max_bake.as_secs() / 3600, s.min_samples, s.require))
        .collect();
    assert_eq!(
        steps,
        [(100, 5, 2, 100, Require::NoHarm), (1000, 10, 6, 100, Require::NoHarm), (5000, 30, 12, 100, Require::Safe)]
    );
    assert_eq!((spec.shadow.clone(), spec.shadow_bp()), (None, 0));
    assert_eq!((spec.analysis.alpha, spec.analysis.p95_samples), (0.05, 500));
    let checks: Vec<(&str, bool, f64)> =
        spec.analysis.checks.iter().map(|check| (check.name.as_str(), check.critical, check.share)).collect();
    assert_eq!(checks, [("errors", true, 0.4), ("slow", true, 0.3), ("invalid", true, 0.3)]);
    assert!((spec.analysis.checks[0].alpha(&spec.analysis) - 0.02).abs() < 1e-12);
    assert_eq!(spec.guards, []);
}

#[test]
fn the_example_of_the_manual_is_read_and_its_defaults_are_those_that_it_says() {
    let manual = include_str!("../../../docs/rollout-spec.md");
    let example = manual.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let spec = read_text(example).unwrap();
    assert_eq!((spec.stable, spec.candidate, spec.route.as_deref()), (Some(1), Some(2), Some("digits")));
    assert_eq!(spec.shadow_bp(), 2000);
    assert_eq!(spec.analysis.checks[3].abs_max, Some(0.02));
    assert!(spec.steps[2].approval.required);
    // A spec that prints every key prints none that the manual does not name.
    fn keys(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, inside)| {
                found.push(key.clone());
                keys(inside, found);
            }),
            Value::Array(items) => items.iter().for_each(|inside| keys(inside, found)),
            _ => {}
        }
    }
    let mut printed = vec![];
    keys(&spec.to_value(), &mut printed);
    assert!(printed.len() > 60);
    for key in printed {
        assert!(manual.contains(&key), "{key}");
    }
    // What the tables say of the defaults.
    let defaults = RolloutSpec::default();
    assert_eq!(Some(&spec.analysis.checks[0]), defaults.analysis.checks.first());
    assert_eq!((spec.promote, spec.on_inconclusive), (defaults.promote, defaults.on_inconclusive));
    assert_eq!(spec.shadow, read_text("shadow: {}").unwrap().shadow);
}

#[test]
fn yaml_json_and_a_string_of_either_are_the_same_spec() {
    let yaml = "candidate: 3\nsteps: [{weight_bp: 500, min_bake: 0s}]\n";
    let document = json!({"candidate": 3, "steps": [{"weight_bp": 500, "min_bake": "0s"}]});
    let spec = read_text(yaml).unwrap();
    assert_eq!(spec.steps[0].require, Require::Safe, "the last step");
    assert_eq!(read(&document).unwrap(), spec);
    assert_eq!(read(&Value::String(yaml.to_owned())).unwrap(), spec);
    assert_eq!(read(&Value::String(document.to_string())).unwrap(), spec);
}

#[test]
fn each_refusal_names_the_key_and_the_reason() {
    let long_list = |item: &str, count: usize| vec![item; count].join(", ");
    for (text, expected) in [
        ("shados: {}", "unknown key 'shados', did you mean 'shadow'?"),
        ("[1]", "the file: expected a mapping of keys to values, got a list of 1"),
        ("route: a/b", "route: expected the name of a route, got it holds '/', '\\', '@' or a control character"),
        ("stable: 0", "stable: expected a whole number from 1 to 9223372036854775807, got 0"),
        ("stable: 2\ncandidate: 2", "candidate: expected another version than stable, got 2"),
        ("candidate_digest: abc", "candidate_digest: expected a SHA-256 digest of 64 hexadecimal digits, got 'abc'"),
        ("reason: [a]", "reason: expected text (put it in quotes), got a list of 1"),
        ("assignment: {salts: a}", "unknown key 'assignment.salts', did you mean 'assignment.salt'?"),
        ("assignment: {salt: ''}", "assignment.salt: expected text of 1 to 1024 bytes, got ''"),
        (
            "assignment: {unit: [{}]}",
            "assignment.unit[0]: expected exactly one of header, param, request: true, got a mapping",
        ),
        (
            "assignment: {unit: [{request: true}, {header: a}]}",
            "assignment.unit[1]: expected nothing after {request: true}, which every request has, got a mapping",
        ),
        (
            "assignment: {unit: [{header: 'a b'}]}",
            "assignment.unit[0].header: expected the name of a header: letters, digits, '-', '_' and '.', got 'a b'",
        ),
        (
            "assignment: {force: [{header: a, exact: b}]}",
            "assignment.force[0]: expected header, arm and one of exact, prefix, present, got a mapping",
        ),
        (
            "assignment: {force: [{header: a, arm: stable}]}",
            "assignment.force[0]: expected exactly one of exact, prefix, present: true, got a mapping",
        ),
        (
            "assignment: {force: [{header: a, present: true, arm: shadow}]}",
            "assignment.force[0].arm: expected one of stable, candidate, control, got 'shadow'",
        ),
        ("validate: {signature: near}", "validate.signature: expected one of same, any, got 'near'"),
        ("validate: {approval: {required: yes}}", "validate.approval.required: expected true or false, got 'yes'"),
        ("validate: {warm_up: -1}", "validate.warm_up: expected a whole number from 0 to 10000, got -1"),
        ("shadow: {percent: 0}", "shadow.percent: expected a number from 0.01 to 100, got 0"),
        ("shadow: {percent: 101}", "shadow.percent: expected a number from 0.01 to 100, got 101"),
        ("shadow: {max_duration: 0s}", "shadow.max_duration: expected a time above 0, got '0s'"),
        (
            "shadow: {compare: {max_disagree_rate: 0}}",
            "shadow.compare.max_disagree_rate: expected a number above 0 and at most 1, got 0",
        ),
        ("shadow: {compare: {atol: -1}}", "shadow.compare.atol: expected a number of at least 0, got -1"),
        ("steps: []", "steps: expected a list of 1 to 100 steps, got a list of 0"),
        ("steps: [{}]", "steps[0].weight_bp: expected basis points from 1 to 10000, got nothing"),
        ("steps: [{weight_bp: 0}]", "steps[0].weight_bp: expected a whole number from 1 to 10000, got 0"),
        ("steps: [{weight_bp: 10001}]", "steps[0].weight_bp: expected a whole number from 1 to 10000, got 10001"),
        (
            "steps: [{weight_bp: 500}, {weight_bp: 500}]",
            "steps[1].weight_bp: expected more than the step before (500), weights rise, got 500",
        ),
        (
            "steps: [{weight_bp: 1, min_bake: 2h, max_bake: 1h}]",
            "steps[0].min_bake: expected at most max_bake (1h), got 2h",
        ),
        ("steps: [{weight_bp: 1, max_bake: 0s}]", "steps[0].max_bake: expected a time above 0, got '0s'"),
        (
            "steps: [{weight_bp: 1, min_bake: 5}]",
            "steps[0].min_bake: expected a time with its unit, such as 5m or 2h, got 5",
        ),
        (
            "steps: [{weight_bp: 1, max_bake: 2years}]",
            "steps[0].max_bake: expected a time of at most 1year, got '2years'",
        ),
        (
            "steps: [{weight_bp: 1, min_samples: 0}]",
            "steps[0].min_samples: expected a whole number from 1 to 1000000000000, got 0",
        ),
        ("steps: [{weight_bp: 1, require: pass}]", "steps[0].require: expected one of no_harm, safe, got 'pass'"),
        (
            "steps: [{weight_bp: 1, approval: {on_timeout: go}}]",
            "steps[0].approval.on_timeout: expected one of hold, roll_back, got 'go'",
        ),
        ("steps: [{weight_bp: 1, wait: 1h}]", "unknown key 'steps[0].wait'"),
        ("analysis: {alpha: 0}", "analysis.alpha: expected a number above 0 and at most 0.5, got 0"),
        ("analysis: {alpha: 0.6}", "analysis.alpha: expected a number above 0 and at most 0.5, got 0.6"),
        (
            "analysis: {p95_samples: 19}",
            "analysis.p95_samples: expected a whole number from 20 to 1000000000000, got 19",
        ),
        (
            "analysis: {checks: [{name: a}]}",
            "analysis.checks[0].event: expected one of error, slower_than_stable_p95, invalid_output, shadow_disagreement, feedback, got nothing",
        ),
        (
            "analysis: {checks: [{event: shadow_disagreement}]}",
            "analysis.checks[0].event: expected a shadow phase (key shadow) as the source of this event, got 'shadow_disagreement'",
        ),
        (
            "analysis: {checks: [{event: error, feedback: click}]}",
            "analysis.checks[0].feedback: expected nothing here: only the event feedback has it, error has not, got 'click'",
        ),
        (
            "analysis: {checks: [{event: feedback, feedback: ''}]}",
            "analysis.checks[0].feedback: expected the name of a feedback, 1 to 255 bytes, got ''",
        ),
        (
            "shadow: {}\nanalysis: {checks: [{event: shadow_disagreement, harm_ratio: 2}]}",
            "analysis.checks[0].harm_ratio: expected nothing here: shadow_disagreement is a rate of its own, limited by abs_max, got 2",
        ),
        (
            "analysis: {checks: [{event: error}, {event: error}]}",
            "analysis.checks[1].name: expected a name that no other check has, got 'errors'",
        ),
        (
            "analysis: {checks: [{event: error, name: 'a b'}]}",
            "analysis.checks[0].name: expected a name of 1 to 64 letters, digits, '-' and '_', got 'a b'",
        ),
        (
            "analysis: {checks: [{event: error, harm_ratio: 0}]}",
            "analysis.checks[0].harm_ratio: expected a number above 0 and at most 100, got 0",
        ),
        (
            "analysis: {checks: [{event: error, safe_ratio: 1}]}",
            "analysis.checks[0].safe_ratio: expected a ratio above 1 and at most 100, got 1",
        ),
        (
            "analysis: {checks: [{event: error, abs_max: 2}]}",
            "analysis.checks[0].abs_max: expected a number above 0 and at most 1, got 2",
        ),
        (
            "analysis: {checks: [{event: error, against: all}]}",
            "analysis.checks[0].against: expected one of stable, control, got 'all'",
        ),
        (
            "analysis: {checks: [{event: error, share: 0.7}, {event: invalid_output, share: 0.5}]}",
            "analysis.checks: expected shares that sum to at most 1, got 1.2",
        ),
        (
            "analysis: {checks: [{event: error, share: 1}, {event: invalid_output}]}",
            "analysis.checks: expected shares that leave some of 1 for the checks without one, got 1",
        ),
        (
            "analysis: {checks: []}",
            "steps[2].require: expected no_harm where no check acts, got 'safe' without a check that is not dry_run",
        ),
        ("guards: [{max: 1}]", "guards[0].metric: expected the name of a metric, got nothing"),
        ("guards: [{metric: stable.p99_ms}]", "guards[0].max: expected a limit, got nothing"),
        (
            "guards: [{metric: stable.p99_ms, max: 0}]",
            "guards[0].max: expected a number above 0 and at most 31536000000, got 0",
        ),
        (
            "guards: [{metric: stable.p98_ms, max: 1}]",
            "guards[0].metric: expected a known metric (did you mean 'stable.p99_ms'?), got 'stable.p98_ms'",
        ),
        (
            "guards: [{metric: candidate.error_rate, max: 5}]",
            "guards[0].max: expected a number above 0 and at most 1, got 5",
        ),
        (
            "guards: [{metric: stable.p99_ms, max: 5}, {metric: stable.p99_ms, max: 6}]",
            "guards[1].metric: expected a metric that no other guard has, got stable.p99_ms",
        ),
        ("on_inconclusive: promote", "on_inconclusive: expected one of hold, roll_back, approve, got 'promote'"),
        ("promote: {watch: 2h, keep_previous: 1h}", "promote.keep_previous: expected at least watch (2h), got '1h'"),
        (&format!("guards: [{}]", long_list("{}", 33)), "guards: expected at most 32 guards, got a list of 33"),
        (
            &format!("assignment: {{unit: [{}]}}", long_list("{}", 65)),
            "assignment.unit: expected at most 64 units, got a list of 65",
        ),
        (&format!("reason: {}", "a".repeat(4097)), "reason: expected at most 4096 bytes, got 4097"),
    ] {
        assert_eq!(fault(text), expected, "{text}");
    }
    assert!(fault("steps: [").starts_with("not valid YAML (line"), "{}", fault("steps: ["));
}

#[test]
fn what_is_left_out_follows_what_is_there() {
    let spec =
        read_text("steps: [{weight_bp: 1, max_bake: 1m}, {weight_bp: 2, min_bake: 3h}, {weight_bp: 3}]").unwrap();
    let minutes = |time: Duration| time.as_secs() / 60;
    let bakes: Vec<_> = spec.steps.iter().map(|step| (minutes(step.min_bake), minutes(step.max_bake))).collect();
    assert_eq!(bakes, [(1, 1), (180, 180), (5, 120)]);
    let checks = "analysis: {checks: [{event: error, share: 0.5}, {event: invalid_output}, {event: error, name: e2}]}";
    let shares: Vec<f64> = read_text(checks).unwrap().analysis.checks.iter().map(|check| check.share).collect();
    assert_eq!(shares, [0.5, 0.25, 0.25]);
    assert_eq!(read_text("promote: {watch: 48h}").unwrap().promote.keep_previous, Duration::from_secs(48 * 3600));
    let digest = format!("candidate_digest: 'sha256:{}'", "AB".repeat(32));
    assert_eq!(read_text(&digest).unwrap().candidate_digest, Some("ab".repeat(32)));
    let no_checks = "analysis: {checks: []}\nsteps: [{weight_bp: 1, require: no_harm}]";
    assert_eq!(read_text(no_checks).unwrap().analysis.checks, []);
}

#[test]
fn rules_of_the_operator_come_before_those_for_the_arm_header() {
    let spec = read_text("assignment: {unit: [{header: X-User}], force: [{header: X-Team, prefix: a, arm: control}]}");
    let assignment = spec.unwrap().assignment(7);
    assert_eq!(assignment.units, [Unit::Header("x-user".to_owned()), Unit::Request]);
    assert_eq!(assignment.salt, 7);
    let rule = |header: &str, matches, arm| ForceRule { header: header.to_owned(), matches, arm };
    let own = |arm: Arm| rule("headgate-arm", Match::Exact(arm.name().to_owned()), arm);
    let team = rule("x-team", Match::Prefix("a".to_owned()), Arm::Control);
    assert_eq!(assignment.force, [team, own(Arm::Stable), own(Arm::Candidate), own(Arm::Control)]);
    assert_eq!(RolloutSpec::default().salt("digits-4"), "digits-4");
    assert_eq!(read_text("assignment: {salt: winter}").unwrap().salt("digits-4"), "winter");
}

#[test]
fn the_start_call_and_the_spec_must_agree() {
    let resolved = |text: &str, to| read_text(text).unwrap().resolved("digits", to, 1);
    let spec = resolved("", Some(3)).unwrap();
    assert_eq!((spec.route.as_deref(), spec.stable, spec.candidate), (Some("digits"), Some(1), Some(3)));
    assert_eq!(resolved("{stable: 2, candidate: 3}", Some(3)).unwrap().stable, Some(2));
    for (text, to, expected) in [
        ("route: other", Some(2), "route: expected 'digits', which the rollout is started on, got 'other'"),
        ("candidate: 2", Some(3), "candidate: expected version 3, which the rollout is started to, got 2"),
        ("", None, "candidate: expected the version to be tried, got nothing"),
        ("", Some(1), "candidate: expected another version than stable (1), got 1"),
        ("stable: 3", Some(3), "candidate: expected another version than stable (3), got 3"),
    ] {
        assert_eq!(resolved(text, to).unwrap_err().to_string(), expected, "{text}");
    }
}

/// Documents that are read, with random parts.
fn documents() -> impl Strategy<Value = Value> {
    let steps = proptest::collection::btree_set(1..=10_000u16, 1..6).prop_map(|weights| {
        let step = |weight: u16| json!({"weight_bp": weight, "min_bake": format!("{weight}ms"), "max_bake": "3h"});
        weights.into_iter().map(step).collect::<Value>()
    });
    let shadow = proptest::option::of((0.01..100.0f64).prop_map(|percent| json!({"percent": percent})));
    let checks = proptest::collection::vec((0..3usize, any::<bool>(), proptest::option::of(0.01..0.2f64)), 1..5)
        .prop_map(|checks| {
            let check = |(at, (event, critical, share)): (usize, (usize, bool, Option<f64>))| {
                json!({"name": format!("c{at}"), "event": Event::ALL[event].name(), "critical": critical, "share": share})
            };
            checks.into_iter().enumerate().map(check).collect::<Value>()
        });
    let guards = proptest::sample::subsequence(Metric::ALL.to_vec(), 0..9).prop_map(|metrics| {
        metrics.into_iter().map(|metric| json!({"metric": metric.name(), "max": 0.5})).collect::<Value>()
    });
    let words = (prop_oneof![Just("hold"), Just("roll_back"), Just("approve")], "[a-z]{1,9}");
    (steps, shadow, checks, guards, words, 1e-6..0.5f64).prop_map(|(steps, shadow, checks, guards, words, alpha)| {
        json!({
            "steps": steps,
            "shadow": shadow,
            "analysis": {"alpha": alpha, "checks": checks},
            "guards": guards,
            "on_inconclusive": words.0,
            "assignment": {"salt": words.1, "force": [{"header": words.1, "present": true, "arm": "stable"}]},
        })
    })
}

#[test]
fn what_is_printed_is_read_back_as_the_same_spec() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let config = ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new_with_rng(config, rng)
        .run(&documents(), |document| {
            let spec = read(&document).map_err(|fault| TestCaseError::fail(fault.to_string()))?;
            let printed = spec.to_value();
            prop_assert_eq!(&read(&printed).unwrap(), &spec);
            prop_assert_eq!(&read_text(&printed.to_string()).unwrap(), &spec);
            prop_assert_eq!(read(&printed).unwrap().to_value(), printed);
            Ok(())
        })
        .unwrap();
    let resolved = RolloutSpec::default().resolved("digits", Some(2), 1).unwrap();
    assert_eq!(read(&resolved.to_value()).unwrap(), resolved);
}
