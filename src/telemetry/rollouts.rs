//! The Prometheus text of the rollouts. It is written from what the controller last published, so a series ends with
//! its rollout's reading.

use std::fmt::{Display, Write};

use super::exposition::{escape, header};

/// What `/metrics` says of one route's rollout.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RolloutReading {
    pub route: String,
    /// One of [`STATES`].
    pub state: &'static str,
    /// Arms with their weight in basis points.
    pub weights: Vec<(&'static str, u16)>,
    pub checks: Vec<CheckReading>,
    /// Observations that found their ring full, since the rollout began.
    pub observations_dropped: u64,
    /// Copies of requests by what became of them, such as `compared`, since the rollout began.
    pub shadow_requests: Vec<(&'static str, u64)>,
}

/// One check of a rollout.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckReading {
    /// From the spec, whose length is bounded.
    pub name: String,
    pub e_harm: f64,
    pub e_safe: f64,
    /// -1 fail, 0 inconclusive, 1 pass.
    pub verdict: i8,
}

const STATE: &str = "headgate_rollout_state";
const WEIGHT: &str = "headgate_rollout_weight_ratio";
const E_VALUE: &str = "headgate_rollout_e_value";
const VERDICT: &str = "headgate_rollout_verdict";
const DROPPED: &str = "headgate_rollout_observations_dropped_total";
const SHADOW: &str = "headgate_shadow_requests_total";

/// The words of a rollout's states, each a series that is 1 or 0.
pub const STATES: [&str; 18] = [
    "pending",
    "validating",
    "awaiting_start",
    "warming",
    "shadowing",
    "shifting",
    "baking",
    "deciding",
    "awaiting_approval",
    "held",
    "paused",
    "promoting",
    "watching",
    "rolling_back",
    "completed",
    "rolled_back",
    "rejected",
    "aborted",
];

/// Appends every family of these rollouts; nothing where there are none.
pub fn write(out: &mut String, rollouts: &[RolloutReading]) {
    if rollouts.is_empty() {
        return;
    }
    header(out, STATE, "1 for the state that the route's rollout is in, 0 for the others", "gauge");
    for rollout in rollouts {
        let unknown = (!STATES.contains(&rollout.state)).then_some(rollout.state);
        for state in STATES.into_iter().chain(unknown) {
            sample(out, STATE, rollout, &label("state", state), u8::from(state == rollout.state));
        }
    }
    header(out, WEIGHT, "Share of the route's requests that an arm gets", "gauge");
    for rollout in rollouts {
        for (arm, basis_points) in &rollout.weights {
            sample(out, WEIGHT, rollout, &label("arm", arm), f64::from(*basis_points) / 10_000.0);
        }
    }
    write_checks(out, rollouts);
    header(out, DROPPED, "Observations of a rollout that were dropped because their ring was full", "counter");
    for rollout in rollouts {
        sample(out, DROPPED, rollout, "", rollout.observations_dropped);
    }
    header(out, SHADOW, "Copies of requests for a candidate, by what became of them", "counter");
    for rollout in rollouts {
        for (outcome, count) in &rollout.shadow_requests {
            sample(out, SHADOW, rollout, &label("outcome", outcome), count);
        }
    }
}

fn write_checks(out: &mut String, rollouts: &[RolloutReading]) {
    let checks = || rollouts.iter().flat_map(|rollout| rollout.checks.iter().map(move |check| (rollout, check)));
    header(out, E_VALUE, "Evidence of a check for harm and for safety", "gauge");
    for (rollout, check) in checks() {
        let name = label("check", &check.name);
        for (test, e_value) in [("harm", check.e_harm), ("safe", check.e_safe)] {
            // With an exponent where it is large.
            sample(out, E_VALUE, rollout, &format!("{name}{}", label("test", test)), format_args!("{e_value:?}"));
        }
    }
    header(out, VERDICT, "Verdict of a check: -1 fail, 0 inconclusive, 1 pass", "gauge");
    for (rollout, check) in checks() {
        sample(out, VERDICT, rollout, &label("check", &check.name), check.verdict);
    }
}

/// One more label behind the route's.
fn label(name: &str, value: &str) -> String {
    format!(",{name}=\"{}\"", escape(value))
}

fn sample(out: &mut String, name: &str, of: &RolloutReading, more_labels: &str, value: impl Display) {
    let _ = writeln!(out, "{name}{{route=\"{}\"{more_labels}}} {value}", escape(&of.route));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_stands_together_and_ends_with_its_readings() {
        let of = |route: &str, state| RolloutReading {
            route: route.to_owned(),
            state,
            weights: vec![("stable", 9900), ("candidate", 100)],
            checks: vec![CheckReading { name: "a\"b".into(), e_harm: 0.5, e_safe: 1e300, verdict: -1 }],
            observations_dropped: 3,
            shadow_requests: vec![("compared", 7)],
        };
        let mut text = String::new();
        write(&mut text, &[of("digits", "baking"), of("iris", "held")]);
        for line in [
            "headgate_rollout_state{route=\"digits\",state=\"baking\"} 1\n",
            "headgate_rollout_state{route=\"digits\",state=\"held\"} 0\n",
            "headgate_rollout_state{route=\"iris\",state=\"held\"} 1\n",
            "headgate_rollout_weight_ratio{route=\"digits\",arm=\"candidate\"} 0.01\n",
            "headgate_rollout_e_value{route=\"digits\",check=\"a\\\"b\",test=\"harm\"} 0.5\n",
            "headgate_rollout_e_value{route=\"digits\",check=\"a\\\"b\",test=\"safe\"} 1e300\n",
            "headgate_rollout_verdict{route=\"digits\",check=\"a\\\"b\"} -1\n",
            "headgate_rollout_observations_dropped_total{route=\"digits\"} 3\n",
            "headgate_shadow_requests_total{route=\"iris\",outcome=\"compared\"} 7\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert_eq!(text.matches("# TYPE headgate_rollout_state gauge").count(), 1);
        assert_eq!(text.matches("\"} 1\n").count(), 2, "one state of each route is 1");
        text.clear();
        write(&mut text, &[]);
        assert_eq!(text, "");
    }
}
