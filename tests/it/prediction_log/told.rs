//! Feedback is credited to the version and arm that answered, whatever has changed since.

use std::collections::BTreeMap;

use headgate::prediction_log::table::Table;
use serde_json::{Value, json};

use super::site::Site;
use crate::support::client::Http;
use crate::support::repository::TempDir;
use crate::support::zoo;

fn site() -> Site {
    let repository = TempDir::new();
    repository.write("digits/model.yaml", "labels: {stable: 1}");
    repository.add_with_manifest("digits_cnn_v1", "digits", 1);
    repository.add_with_manifest("digits_cnn_v2", "digits", 2);
    Site::start(repository, &json!({"sync_interval": "20ms"}))
}

/// One image, asked with a key. Gives (prediction id, version, arm).
async fn ask(site: &Site, key: &str) -> (String, String, String) {
    let (name, image) = zoo::inputs("digits_cnn_v1", "b1").remove(0);
    let data = crate::support::tensors::to_json(&image).unwrap();
    let body = format!(r#"{{"inputs":[{{"name":"{name}","shape":[1,1,8,8],"datatype":"FP32","data":{data}}}]}}"#);
    let request = http::Request::post("/").header("headgate-key", key);
    let answer = Http::new(site.server.http).send(request, "/v2/models/digits/infer", body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let header = |name: &str| answer.header(name).to_owned();
    (header("headgate-prediction-id"), header("headgate-version"), header("headgate-arm"))
}

async fn admin(site: &Site, path: &str, body: Value) -> Value {
    let request = http::Request::post("/").header("content-type", "application/json");
    let answer = site.server.admin_http().send(request, path, body.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credit_goes_to_who_really_answered_after_weight_changes_and_restarts() {
    let site = site();
    let step = |bp: u64| json!({"weight_bp": bp, "min_bake": "1h", "max_bake": "2h", "min_samples": 1});
    let spec = json!({"steps": [step(3000), step(7000), step(10000)]});
    let started = admin(&site, "/admin/v1/rollouts", json!({"route": "digits", "to": 2, "spec": spec})).await;
    assert_eq!(started["id"], "digits-1");
    crate::support::eventually("the first step", async || {
        let view = site.server.admin_http().get("/admin/v1/rollouts/digits").await.json();
        if view["weights"]["candidate"] == 3000 { Ok(()) } else { Err(view["state"].to_string()) }
    })
    .await;
    let mut answered = BTreeMap::new();
    for number in 0..60 {
        let (id, version, arm) = ask(&site, &format!("user-{number}")).await;
        answered.insert(id, (version, arm));
    }
    let arms: std::collections::BTreeSet<&str> = answered.values().map(|(_, arm)| arm.as_str()).collect();
    assert_eq!(arms.into_iter().collect::<Vec<_>>(), ["candidate", "control", "stable"]);

    // All of it changes before the first label comes.
    admin(&site, "/admin/v1/rollouts/digits/abort", json!({"reason": "a test"})).await;
    let site = site.torn_away().restarted().await;
    let items: Vec<Value> = answered.keys().map(|id| json!({"prediction_id": id, "value": 3})).collect();
    let taken = site.feedback(&json!(items)).await;
    assert_eq!((&taken["accepted"], &taken["unknown"]), (&json!(60), &json!(0)), "{taken}");
    for row in site.rows(Table::Feedback, 60).await {
        let (version, arm) = &answered[&row["prediction_id"]];
        assert_eq!((&row["model_version"], &row["arm"]), (version, arm), "{row:?}");
        assert_eq!(
            (row["model_name"].as_str(), row["name"].as_str(), row["value_number"].as_str()),
            ("digits", "label", "3.0")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_items_are_named_and_good_ones_kept() {
    let site = site();
    let (id, ..) = ask(&site, "ann").await;
    let items = json!([
        {"prediction_id": id, "value": 1},
        {"prediction_id": "not an id", "value": 1},
        {"prediction_id": id, "value": [1]},
        {"prediction_id": id, "value": 1, "event_time": "yesterday"},
        {"prediction_id": id, "name": "click", "value": true},
    ]);
    let answer = site.try_feedback(&items).await;
    assert_eq!(answer.status, 400);
    let body = answer.json();
    assert_eq!(body["accepted"], 2, "{body}");
    let indices: Vec<u64> = body["errors"].as_array().unwrap().iter().map(|e| e["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [1, 2, 3], "{body}");
    assert_eq!(site.rows(Table::Feedback, 2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feedback_on_another_gateways_prediction_is_kept_and_counted() {
    let site = site();
    let foreign = "0198c0de-0000-8fff-8000-004000000001";
    let taken = site.feedback(&json!([{"prediction_id": foreign, "value": "cat"}])).await;
    assert_eq!((&taken["accepted"], &taken["unknown"]), (&json!(1), &json!(1)), "{taken}");
    let rows = site.rows(Table::Feedback, 1).await;
    assert_eq!((rows[0]["model_name"].as_str(), rows[0]["value_label"].as_str()), ("", "cat"));
}
