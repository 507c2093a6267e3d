//! What a rollout does when its process ends: with and without notice, in every state. No key changes its arm, nothing
//! that was decided is forgotten, and the audit log stays whole.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::operator::Site;
use super::traffic::{Served, Traffic, Wire, arms_of, images, keys};
use super::{long_step, quick, quick_with};

const KEYS: usize = 200;

/// Who answers some keys, the same over both wires.
async fn arms(site: &Site) -> BTreeMap<String, Served> {
    let http = arms_of(&site.server, Wire::Http, keys(KEYS)).await;
    assert_eq!(http, arms_of(&site.server, Wire::Grpc, keys(KEYS)).await);
    http
}

/// What a rollout has counted.
fn figures(view: &Value) -> Value {
    let arms: Vec<Value> = view["arms"].as_array().unwrap().iter().map(|arm| arm["requests"].clone()).collect();
    let check = |check: &Value| json!([check["candidate"], check["comparator"], check["e_harm"], check["e_safe"]]);
    let checks: Vec<Value> = view["checks"].as_array().unwrap().iter().map(check).collect();
    json!({"arms": arms, "checks": checks, "sample_ratio": view["sample_ratio"]})
}

/// Waits until what was counted so far is written, which happens each second, and gives the view.
async fn written(site: &Site) -> Value {
    let bake = site.view().await["bake_elapsed_ms"].as_u64().unwrap();
    site.sees("a second more", |view| view["bake_elapsed_ms"].as_u64().unwrap() > bake + 1200).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn torn_away_within_a_step_it_is_held_with_its_figures_and_at_the_second_time_rolled_back() {
    let site = Site::start(&[(1, "digits_cnn_v1"), (2, "digits_cnn_v2")]);
    site.begin(2, &quick_with(&json!({"steps": long_step(3000)}))).await;
    site.reaches("baking").await;
    let traffic = Traffic::start(&site.server, images()).await;
    traffic.answers(500).await;
    traffic.ends_well().await;
    let before = arms(&site).await;
    assert!(before.values().any(|served| served.version == 2) && before.values().any(|served| served.version == 1));
    let view = written(&site).await;

    let site = site.torn_away();
    let held = site.view().await;
    assert_eq!((&held["state"], &held["weights"]), (&json!("held"), &view["weights"]), "{held}");
    assert_eq!(held["waiting_for"], "the process ended without a clean exit within step 1");
    assert_eq!(figures(&held), figures(&view));
    assert_eq!(arms(&site).await, before);
    assert_eq!(site.view().await["bake_elapsed_ms"], held["bake_elapsed_ms"], "the clock stands still");
    let approved = site.ask("approve").await;
    assert!(approved.status == 409 && approved.error().contains("resume it first"), "{}", approved.error());
    assert_eq!(site.act("resume").await["state"], "baking");
    assert_eq!(arms(&site).await, before);

    let site = site.torn_away();
    let end = site.ends().await;
    assert_eq!(end["state"], "rolled_back", "{end}");
    let cause = end["last_transition"]["cause"].as_str().unwrap();
    assert!(cause.contains("for the second time within step 1"), "{cause}");
    assert!(arms(&site).await.values().all(|served| served.version == 1));
    assert!(site.server.reaches("digits", 2, "failed").await.contains("quarantined"));
    let site = site.torn_away();
    assert_eq!(site.view().await["state"], "rolled_back");
    assert!(arms(&site).await.values().all(|served| served.version == 1));
    site.audit_is_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn torn_away_while_a_person_is_waited_for_within_a_step_it_is_held() {
    let site = Site::start(&[(1, "digits_cnn_v1"), (2, "digits_cnn_v2")]);
    let step = json!([{"weight_bp": 2000, "min_bake": "0s", "max_bake": "200ms", "min_samples": 1, "require": "no_harm",
        "approval": {"required": true}}]);
    site.begin(2, &quick_with(&json!({"steps": step}))).await;
    // Nobody asks anything.
    assert!(site.reaches("held").await["waiting_for"].as_str().unwrap().starts_with("no verdict"));
    let site = site.torn_away();
    let held = site.view().await;
    assert_eq!((&held["state"], &held["weights"]["candidate"]), (&json!("held"), &json!(2000)), "{held}");
    assert!(held["waiting_for"].as_str().unwrap().contains("clean exit"), "{held}");
    let before = arms(&site).await;
    site.act("resume").await;
    site.reaches("awaiting_approval").await;

    // An orderly end is none of the rollout's business.
    let site = site.restarted().await;
    let waiting = site.view().await;
    assert_eq!((&waiting["state"], &waiting["weights"]["candidate"]), (&json!("awaiting_approval"), &json!(2000)));
    assert_eq!(arms(&site).await, before);
    site.act("approve").await;
    site.reaches("completed").await;
    site.audit_is_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn torn_away_while_an_approval_is_waited_for_it_is_held_and_approved_after() {
    let site = Site::start(&[(1, "digits_cnn_v1"), (2, "digits_cnn_v2")]);
    let step = json!([{"weight_bp": 2000, "min_bake": "0s", "max_bake": "1m", "min_samples": 1, "require": "no_harm",
        "approval": {"required": true}}]);
    site.begin(2, &quick_with(&json!({"steps": step}))).await;
    let before = arms(&site).await;
    site.reaches("awaiting_approval").await;
    let site = site.torn_away();
    let held = site.view().await;
    assert_eq!((&held["state"], &held["weights"]["candidate"]), (&json!("held"), &json!(2000)), "{held}");
    assert_eq!(arms(&site).await, before);
    assert_eq!(site.ask("approve").await.status, 409);
    assert_eq!(site.act("resume").await["state"], "awaiting_approval");
    site.act("approve").await;
    site.reaches("completed").await;
    site.audit_is_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_an_orderly_end_within_a_step_it_goes_on_by_itself() {
    let site = Site::start(&[(1, "digits_cnn_v1"), (2, "digits_cnn_v2")]);
    site.begin(2, &quick_with(&json!({"steps": long_step(3000)}))).await;
    site.reaches("baking").await;
    let before = arms(&site).await;
    let asked = 2 * KEYS as u64;
    let sum = |view: &Value| view["arms"].as_array().unwrap().iter().map(|arm| arm["requests"].as_u64().unwrap()).sum();
    let view = site
        .sees("every answer", |view| {
            let all: u64 = sum(view);
            all == asked
        })
        .await;
    let mut site = site;
    for _ in 0..4 {
        site = site.restarted().await;
        let after = site.view().await;
        assert_eq!((&after["state"], &after["waiting_for"]), (&json!("baking"), &json!("")), "{after}");
        assert_eq!((&after["weights"], figures(&after)), (&view["weights"], figures(&view)));
        assert!(after["bake_elapsed_ms"].as_u64() >= view["bake_elapsed_ms"].as_u64());
    }
    assert_eq!(arms(&site).await, before);
    site.audit_is_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn torn_away_before_its_steps_it_goes_on_by_itself() {
    let site = Site::start(&[(1, "digits_cnn_v1"), (2, "digits_cnn_v2")]);
    let spec = quick_with(&json!({
        "validate": {"approval": {"required": true}},
        "shadow": {"percent": 100, "min_samples": 60, "compare": {"atol": 2.0, "rtol": 0.0}},
        "steps": long_step(1000),
    }));
    let begun = site.begin(2, &spec).await;
    assert_eq!(begun["state"], "awaiting_start");
    let before = arms(&site).await;
    assert!(before.values().all(|served| served.version == 1));
    let site = site.torn_away();
    assert_eq!(site.view().await["state"], "awaiting_start");
    assert_eq!(arms(&site).await, before);

    site.act("approve").await;
    site.reaches("shadowing").await;
    let site = site.torn_away();
    let shadowing = site.view().await;
    assert_eq!((&shadowing["state"], &shadowing["weights"]["shadow"]), (&json!("shadowing"), &json!(10_000)));
    assert_eq!(shadowing["waiting_for"], "");
    let traffic = Traffic::of(&site.server, images(), 2).await;
    let baking = site.reaches("baking").await;
    traffic.ends_well().await;
    assert!(baking["shadow"]["compared"].as_u64().unwrap() >= 60, "{}", baking["shadow"]);
    assert_eq!(baking["weights"], json!({"stable": 8000, "candidate": 1000, "control": 1000, "shadow": 0}));
    site.audit_is_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn torn_away_while_it_validates_it_validates_again() {
    let site = Site::start(&[(2, "digits_cnn_v2"), (4, "digits_cnn_v4_slow")]);
    // Of 1 to so many rows: seconds, on the slow version.
    let spec = quick_with(&json!({"validate": {"warm_up": 100}, "steps": long_step(1000)}));
    let (admin, body) = (site.server.admin_http(), json!({"route": "digits", "to": 4, "spec": spec}).to_string());
    // Its answer never comes.
    let started = tokio::spawn(async move {
        let request = http::Request::post("/").header("content-type", "application/json");
        admin.send(request, "/admin/v1/rollouts", body).await.is_err()
    });
    site.reaches("validating").await;
    let site = site.torn_away();
    assert!(started.await.unwrap());
    assert_eq!(site.view().await["state"], "validating");
    assert!(arms(&site).await.values().all(|served| served.version == 2));
    let baking = site.reaches("baking").await;
    assert_eq!((&baking["weights"]["candidate"], &baking["waiting_for"]), (&json!(1000), &json!("")));
    site.audit_is_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn torn_away_while_it_watches_it_completes_by_itself_and_stays_completed() {
    let site = Site::start(&[(1, "digits_cnn_v1"), (2, "digits_cnn_v2")]);
    let spec = quick_with(&json!({"steps": long_step(1000), "promote": {"watch": "8s"}}));
    site.begin(2, &spec).await;
    site.act("promote").await;
    site.reaches("watching").await;
    let site = site.torn_away();
    let watching = site.view().await;
    assert_eq!((&watching["state"], &watching["weights"]["candidate"]), (&json!("watching"), &json!(10_000)));
    assert!(arms(&site).await.values().all(|served| (served.version, served.arm.as_str()) == (2, "candidate")));
    site.reaches("completed").await;
    for _ in 0..2 {
        assert_eq!(site.server.model("digits")["labels"]["stable"], 2);
        assert!(arms(&site).await.values().all(|served| (served.version, served.arm.as_str()) == (2, "stable")));
        assert_eq!(site.view().await["state"], "completed");
    }
    let site = site.torn_away();
    assert_eq!(
        (&site.view().await["state"], &site.server.model("digits")["labels"]["stable"]),
        (&json!("completed"), &json!(2))
    );
    assert!(arms(&site).await.values().all(|served| served.version == 2));
    site.audit_is_sound().await;
}

/// What an abort undoes while it is watched stays undone.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_abort_while_it_watches_gives_the_route_and_its_label_back() {
    let site = Site::start(&[(1, "digits_cnn_v1"), (2, "digits_cnn_v2")]);
    site.begin(2, &quick_with(&json!({"promote": {"watch": "10m"}}))).await;
    site.act("promote").await;
    site.reaches("watching").await;
    assert_eq!(site.server.model("digits")["labels"]["stable"], 2);
    site.act("abort").await;
    assert_eq!(site.ends().await["state"], "aborted");
    let site = site.torn_away();
    assert_eq!(site.server.model("digits")["labels"]["stable"], 1);
    assert!(arms(&site).await.values().all(|served| served.version == 1));
    // An abort says nothing against the version.
    site.begin(2, &quick()).await;
    site.audit_is_sound().await;
}
