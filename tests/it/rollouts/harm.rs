//! What harms is taken back before many have met it, and doesn't come again by itself.

use serde_json::{Value, json};

use super::operator::{Site, said};
use super::traffic::{Ask, Traffic, Wire, ask, bright, images};
use super::{long_step, quick, quick_with};
use crate::support::infer::Wires;

/// Answers that aren't numbers until a rollback; what is under way when it comes is on top of about 20.
const MOST_NOT_FINITE: u64 = 40;

/// Everything is answered by a version, with numbers, for images that the bad one can't do.
async fn only_answers(site: &Site, version: u64) {
    let wires = Wires::connect(&site.server).await;
    for (number, image) in bright().iter().cycle().take(100).enumerate() {
        let key = format!("after-{number}");
        let served = ask(&wires, Wire::BOTH[number % 2], image, &Ask::keyed(&key)).await.unwrap();
        assert!(served.version == version && served.finite, "{served:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_version_with_nan_on_bright_images_is_rolled_back_and_stays_away() {
    let rollout = json!({"on_new_version": "rollout", "labels": {"stable": 2}, "rollout": quick()}).to_string();
    let site = Site::with(&rollout, &[(2, "digits_cnn_v2")], &[]);
    let traffic = Traffic::start(&site.server, images()).await;
    traffic.answers(100).await;
    site.repository.add_with_manifest("digits_cnn_v6_nan_on_bright", "digits", 6);
    let end = site.ends().await;
    assert_eq!(end["state"], "rolled_back", "{end}");
    only_answers(&site, 2).await;
    let seen = traffic.ends_well().await;
    let (bad, all) = (seen.not_finite(6), seen.of_version(6));
    println!("rolled back after {bad} answers that were not finite, of {all}: {}", end["last_transition"]["cause"]);
    assert!((1..=MOST_NOT_FINITE).contains(&bad), "{bad} of {all} answers were not finite");
    let transitions = site.transitions().await;
    let back = transitions.iter().find(|row| row["to"] == "rolling_back").unwrap();
    let cause = back["cause"].as_str().unwrap();
    assert!(cause.contains("'invalid'") || cause.contains("invalid_outputs"), "{cause}");
    assert_eq!((&back["actor"], &back["weights"]["candidate"]), (&json!("headgate"), &json!(0)));

    let reason = site.server.reaches("digits", 6, "failed").await;
    assert!(reason.contains("quarantined"), "{reason}");
    let site = site.torn_away();
    assert_eq!(site.server.reaches("digits", 6, "failed").await, reason);
    only_answers(&site, 2).await;
    // Neither by itself nor by a command, while it is quarantined.
    let list = site.get("/admin/v1/rollouts").await;
    assert_eq!(list["rollouts"].as_array().unwrap().len(), 1, "{list}");
    let again = site.ask_start(6, &quick()).await;
    assert!(again.status == 409 && again.error().contains("quarantine"), "{}: {}", again.status, again.error());
    site.audit_is_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn guards_run_while_a_person_is_waited_for() {
    let site = Site::start(&[(2, "digits_cnn_v2"), (6, "digits_cnn_v6_nan_on_bright")]);
    let mut steps = quick()["steps"].clone();
    steps[0]["approval"] = json!({"required": true});
    let dark = Traffic::start(&site.server, super::traffic::dark()).await;
    site.begin(6, &quick_with(&json!({"steps": steps}))).await;
    let waiting = site.reaches("awaiting_approval").await;
    assert!(waiting["waiting_for"].as_str().unwrap().starts_with("approval of step 1"), "{waiting}");
    dark.ends_well().await;
    let traffic = Traffic::start(&site.server, images()).await;
    let end = site.ends().await;
    let seen = traffic.ends_well().await;
    assert_eq!(end["state"], "rolled_back", "{end}");
    assert!((1..=MOST_NOT_FINITE).contains(&seen.not_finite(6)), "{seen:?}");
    let transitions = site.transitions().await;
    let back = transitions.iter().find(|row| row["to"] == "rolling_back").unwrap();
    assert_eq!(back["from"], "step 1 awaiting_approval", "{back}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pause_does_not_shield_a_storm_of_bad_answers() {
    let site = Site::start(&[(2, "digits_cnn_v2"), (6, "digits_cnn_v6_nan_on_bright")]);
    site.begin(6, &quick_with(&json!({"steps": long_step(5000)}))).await;
    site.reaches("baking").await;
    site.act("pause").await;
    let traffic = Traffic::start(&site.server, bright()).await;
    let end = site.ends().await;
    let seen = traffic.ends_well().await;
    assert_eq!(end["state"], "rolled_back", "{end}");
    assert!((1..=MOST_NOT_FINITE).contains(&seen.not_finite(6)), "{seen:?}");
    only_answers(&site, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_guard_of_the_spec_takes_a_paused_rollout_back() {
    let site = Site::start(&[(1, "digits_cnn_v1"), (2, "digits_cnn_v2")]);
    // No answer comes that fast.
    let guards = json!([{"metric": "candidate.p50_ms", "max": 0.001}]);
    site.begin(2, &quick_with(&json!({"steps": long_step(5000), "guards": guards}))).await;
    site.act("pause").await;
    let traffic = Traffic::of(&site.server, images(), 2).await;
    let end = site.ends().await;
    traffic.ends_well().await;
    assert_eq!(end["state"], "rolled_back", "{end}");
    let cause = end["last_transition"]["cause"].as_str().unwrap();
    assert!(cause.starts_with("candidate.p50_ms is") && cause.ends_with("is allowed"), "{cause}");
    only_answers(&site, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_version_is_rolled_back_for_latency() {
    let site = Site::start(&[(2, "digits_cnn_v2"), (4, "digits_cnn_v4_slow")]);
    let slow = json!({"checks": [{"event": "slower_than_stable_p95", "critical": true}], "p95_samples": 300});
    let traffic = Traffic::of(&site.server, images(), 4).await;
    site.begin(4, &quick_with(&json!({"steps": long_step(100), "analysis": slow}))).await;
    let end = site.ends().await;
    let seen = traffic.ends_well().await;
    let cause = end["last_transition"]["cause"].as_str().unwrap();
    println!("rolled back after {} slow answers: {cause}", seen.of_version(4));
    assert_eq!(end["state"], "rolled_back", "{end}");
    assert!(cause.contains("'slow'"), "{cause}");
    let check: &Value = &end["checks"][0];
    // At ten times the base rate of 5 % and more, the table says 9 events of both arms at an evidence of 100. Slow answers
    // within 50 ms are one event, so these take a second or two of the candidate's hundredth. The more of the control's
    // answers a busy machine makes slow, the less says a slow one of the candidate's.
    let count = |arm: &str, what: &str| check[arm][what].as_f64().unwrap();
    let noise = count("comparator", "events") / count("comparator", "requests") / 0.05;
    assert!(count("candidate", "requests") <= 500.0 * noise.max(1.0), "{check}");
    let output = site.cli(&["rollout", "status", "digits"]).await;
    assert!(said(&output).contains("slow"), "{}", said(&output));
}
