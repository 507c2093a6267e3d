//! A better version gets all of the traffic by itself, and no request fails on the way.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::operator::{Site, said};
use super::traffic::{Ask, Traffic, Wire, ask, counted, images};
use super::{STEPS, quick, quick_with};
use crate::support::infer::Wires;
use crate::support::scaled;

/// Keys whose arms are counted in each step.
const COUNTED: usize = 1500;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_better_version_is_promoted_through_all_steps() {
    let site = Site::start(&[(1, "digits_cnn_v1"), (2, "digits_cnn_v2")]);
    let traffic = Traffic::start(&site.server, images()).await;
    let mut spec = quick();
    // Time to pause each step before it has passed.
    spec["steps"].as_array_mut().unwrap().iter_mut().for_each(|step| step["min_bake"] = json!("1500ms"));
    let begun = site.begin(2, &spec).await;
    assert_eq!((&begun["id"], &begun["requested_by"]), (&json!("digits-1"), &json!("olga")));
    for (index, weight) in STEPS.into_iter().enumerate() {
        let in_step = |view: &Value| view["step"] == index && view["weights"]["candidate"] == weight;
        site.sees(&format!("step {}", index + 1), in_step).await;
        // What is counted is counted at one weight.
        site.act("pause").await;
        let weights = site.view().await["weights"].clone();
        assert_eq!(
            weights,
            json!({"stable": 10_000 - 2 * weight, "candidate": weight, "control": weight, "shadow": 0})
        );
        shares_are_as_the_weights(&counted(&site.server, COUNTED).await, &weights);
        site.act("resume").await;
    }
    let end = site.ends().await;
    let seen = traffic.ends_well().await;
    assert_eq!(end["state"], "completed", "{end}");
    assert!(seen.of_version(1) > 0 && seen.of_version(2) > 0, "{seen:?}");
    assert!(end["checks"].as_array().unwrap().iter().all(|check| check["verdict"] == "pass"), "{}", end["checks"]);

    let digits = site.server.model("digits");
    assert_eq!((&digits["labels"]["stable"], &digits["default_version"]), (&json!(2), &json!(2)), "{digits}");
    let wires = Wires::connect(&site.server).await;
    for wire in Wire::BOTH {
        for model in ["digits", "digits@stable"] {
            let served = ask(&wires, wire, &images()[0], &Ask { model, ..Ask::default() }).await.unwrap();
            assert_eq!((served.version, served.arm.as_str()), (2, "stable"), "{model}");
        }
    }
    the_audit_log_shows_why(&site).await;
}

/// Within 3 σ of a binomial draw.
fn shares_are_as_the_weights(counts: &BTreeMap<String, u64>, weights: &Value) {
    for arm in ["stable", "candidate", "control"] {
        let share = weights[arm].as_f64().unwrap() / 10_000.0;
        let (mean, sigma) = (COUNTED as f64 * share, (COUNTED as f64 * share * (1.0 - share)).sqrt());
        let count = counts.get(arm).copied().unwrap_or_default() as f64;
        assert!((count - mean).abs() <= 3.0 * sigma, "{arm}: {count} of {COUNTED}, expected {mean}: {counts:?}");
    }
}

/// Every transition is in the log, those that evidence decided with their figures.
async fn the_audit_log_shows_why(site: &Site) {
    let transitions = site.transitions().await;
    let entries = site.audit("digits-1").await;
    let entries: Vec<&Value> = entries.iter().filter(|entry| entry["action"] == "rollout.transition").collect();
    let states = |rows: Vec<&Value>| rows.iter().map(|row| row.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(
        states(entries.iter().map(|entry| &entry["after"]["state"]).collect()),
        states(transitions.iter().map(|row| &row["to"]).collect())
    );
    for step in 1..=STEPS.len() {
        let deciding = format!("step {step} deciding");
        let passed = transitions.iter().find(|row| row["from"] == deciding && row["to"] != deciding).unwrap();
        assert_eq!(passed["actor"], "headgate", "{passed}");
        let check = &passed["evidence"]["checks"][0];
        assert!(check["candidate"]["requests"].as_u64().unwrap() >= 50 && check["e_harm"].is_number(), "{passed}");
        assert!(entries.iter().any(|entry| entry["evidence"] == passed["evidence"]), "{passed}");
    }
    site.audit_is_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_version_that_is_dropped_into_the_directory_is_promoted_without_a_command() {
    let model_yaml = json!({"labels": {"stable": 1}, "on_new_version": "rollout", "rollout": quick()}).to_string();
    let site = Site::with(&model_yaml, &[(1, "digits_cnn_v1")], &[]);
    let traffic = Traffic::start(&site.server, images()).await;
    traffic.answers(100).await;
    site.repository.add_with_manifest("digits_cnn_v2", "digits", 2);
    let end = site.ends().await;
    let seen = traffic.ends_well().await;
    assert_eq!((&end["state"], &end["requested_by"]), (&json!("completed"), &json!("headgate")), "{end}");
    assert!(seen.of_version(1) > 0 && seen.of_version(2) > 0, "{seen:?}");
    let transitions = site.transitions().await;
    assert!(transitions.iter().all(|row| row["actor"] == "headgate"), "{transitions:?}");
    let steps: Vec<&Value> = transitions.iter().filter(|row| row["to"].as_str().unwrap().ends_with("baking")).collect();
    assert_eq!(steps.iter().map(|row| row["weights"]["candidate"].as_u64().unwrap()).collect::<Vec<_>>(), STEPS);
    assert_eq!(site.server.model("digits")["labels"]["stable"], 2);
    site.audit_is_sound().await;
}

/// The same file twice: what differs is chance.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_honest_twin_is_never_rolled_back() {
    let rollouts = scaled("rollouts of a twin", 5).max(2);
    let site = Site::start(&[(1, "digits_cnn_v2"), (2, "digits_cnn_v2")]);
    let traffic = Traffic::start(&site.server, images()).await;
    // A check is allowed one false alarm in a hundred twins, which is too many for every run of the tests.
    let slow = json!({"event": "slower_than_stable_p95", "share": 0.2, "dry_run": rollouts < 5});
    let mut spec = quick_with(&json!({"on_inconclusive": "hold"}));
    spec["analysis"]["checks"].as_array_mut().unwrap().push(slow);
    spec["steps"][2]["max_bake"] = json!("5s");
    for number in 1..=rollouts {
        let (from, to) = if number % 2 == 1 { (1, 2) } else { (2, 1) };
        let begun = site.begin(to, &spec).await;
        assert_eq!((&begun["stable"], &begun["candidate"]), (&json!(from), &json!(to)));
        let end = site.sees("an end or a hold", |view| view["ended"] == true || view["state"] == "held").await;
        println!("twin {number}: {} {}", end["state"], end["waiting_for"]);
        if end["state"] == "held" {
            assert!(end["waiting_for"].as_str().unwrap().starts_with("no verdict"), "{end}");
            site.act("promote").await;
            site.reaches("completed").await;
        } else {
            assert_eq!(end["state"], "completed", "{end}");
        }
    }
    traffic.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_traffic_nothing_is_promoted() {
    let site = Site::start(&[(1, "digits_cnn_v1"), (2, "digits_cnn_v2")]);
    let step = json!([{"weight_bp": 1000, "min_bake": "100ms", "max_bake": "300ms", "min_samples": 1}]);
    site.begin(2, &quick_with(&json!({"steps": step}))).await;
    let held = site.reaches("held").await;
    assert_eq!((&held["step"], &held["weights"]["candidate"]), (&json!(0), &json!(1000)), "{held}");
    let why = held["waiting_for"].as_str().unwrap();
    assert!(why.contains("no verdict of step 1") && why.contains("min_samples"), "{why}");
    // With as much time again it is held again.
    site.act("resume").await;
    site.reaches("held").await;
    assert_eq!(site.server.model("digits")["labels"]["stable"], 1);
    let output = site.cli(&["rollout", "status"]).await;
    assert!(output.status.success() && said(&output).contains("held"), "{}", said(&output));
}
