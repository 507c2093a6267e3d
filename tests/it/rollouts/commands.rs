//! The operator's commands, with their exit status.

use serde_json::{Value, json};

use super::operator::{Site, headgate, said};
use super::traffic::{Ask, Wire, ask, images};
use super::{long_step, quick_with};
use crate::support::infer::Wires;

impl Site {
    /// Runs `headgate rollout`, expects an exit status, and gives what it says.
    async fn rollout(&self, args: &[&str], status: i32) -> String {
        let output = self.cli(&[&["rollout"], args].concat()).await;
        assert_eq!(output.status.code(), Some(status), "{args:?}: {}", said(&output));
        said(&output)
    }

    /// The same as JSON, of a command that does well.
    async fn rollout_json(&self, args: &[&str]) -> Value {
        let text = self.rollout(&[args, &["--json"]].concat(), 0).await;
        serde_json::from_str(&text).unwrap_or_else(|cause| panic!("{cause}: {text}"))
    }
}

fn words(text: &str, words: &[&str]) {
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} are not all in:\n{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_leads_a_rollout_by_hand() {
    let site = Site::start(&[(1, "digits_cnn_v1"), (2, "digits_cnn_v2")]);
    words(&site.rollout(&["pause"], 2).await, &["there is no rollout"]);
    site.rollout(&["status", "digits-7"], 3).await;
    site.rollout(&["start", "digist", "--to", "2"], 3).await;
    site.rollout(&["start", "digits", "--to", "7"], 3).await;
    site.rollout(&["start", "digits", "--to", "2", "--spec", "/nowhere.yaml"], 3).await;

    let started = site.rollout(&["start", "digits", "--to", "2", "--reason", "retrained"], 0).await;
    words(&started, &["digits-1", "steps:", "weight_bp: 100", "on_inconclusive: hold", "watch: 30m", "event: error"]);
    let first = &site.transitions().await;
    let in_force = first.iter().find(|row| row["to"] == "step 1 baking").expect("the first step");
    let taken_ms = in_force["at_ms"].as_u64().unwrap() - site.view().await["started_ms"].as_u64().unwrap();
    assert!(taken_ms < 2000, "the first step was in force after {taken_ms} ms");
    // What it prints can be given back.
    let spec = site.data.path().join("printed.yaml");
    std::fs::write(&spec, &started).unwrap();
    words(&site.rollout(&["start", "digits", "--to", "2"], 1).await, &["digits-1", "under way"]);
    words(&site.rollout(&["status"], 0).await, &["digits-1", "baking", "errors", "slow", "invalid"]);

    site.rollout(&["pause", "--reason", "lunch"], 0).await;
    words(&site.rollout(&["pause"], 1).await, &["paused already"]);
    words(&site.rollout(&["approve", "digits"], 1).await, &["resume it first"]);
    let paused = site.rollout_json(&["status", "digits"]).await;
    assert_eq!((&paused["state"], &paused["weights"]["candidate"]), (&json!("paused"), &json!(100)));
    site.rollout(&["resume", "digits-1"], 0).await;
    words(&site.rollout(&["resume"], 1).await, &["neither paused nor held"]);
    words(&site.rollout(&["approve"], 1).await, &["nothing waits for an approval"]);
    site.rollout(&["abort", "--reason", "enough"], 0).await;
    words(&site.rollout(&["status", "digits-1", "--watch"], 1).await, &["aborted"]);
    words(&site.rollout(&["promote", "digits-1"], 1).await, &["has ended"]);

    site.rollout(&["start", "digits", "--to", "2", "--spec", spec.to_str().unwrap()], 0).await;
    site.rollout(&["promote", "digits-2"], 0).await;
    assert_eq!(site.reaches("watching").await["weights"]["candidate"], 10_000);
    words(&site.rollout(&["promote"], 1).await, &["only a rollout within its steps"]);
    words(&site.rollout(&["history"], 0).await, &["FROM", "promoting", "watching"]);
    let history = site.rollout_json(&["history", "digits-1"]).await;
    let causes: Vec<&Value> = history["transitions"].as_array().unwrap().iter().map(|row| &row["cause"]).collect();
    assert!(causes.iter().any(|cause| cause.as_str().unwrap().starts_with("paused by")), "{causes:?}");

    let reasons: Vec<Value> = site.audit("digits-1").await.iter().map(|entry| entry["reason"].clone()).collect();
    assert!(["lunch", "enough"].iter().all(|reason| reasons.contains(&json!(reason))), "{reasons:?}");
    let unreachable = headgate(&["rollout", "status", "--admin", "http://127.0.0.1:9"]).await;
    assert_eq!(unreachable.status.code(), Some(4), "{}", said(&unreachable));
    site.audit_is_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_lets_a_rollout_begin_and_go_on() {
    let site = Site::start(&[(1, "digits_cnn_v1"), (2, "digits_cnn_v2")]);
    let step = json!([{"weight_bp": 5000, "min_bake": "0s", "max_bake": "1m", "min_samples": 1, "require": "no_harm",
        "approval": {"required": true}}]);
    let spec = quick_with(&json!({"steps": step, "validate": {"approval": {"required": true}}}));
    let file = site.spec_file(&spec);
    words(&site.rollout(&["start", "digits", "--to", "2", "--spec", &file], 0).await, &["awaiting_start"]);
    words(&site.rollout(&["status"], 0).await, &["approval of the start"]);
    site.rollout(&["approve"], 0).await;
    site.reaches("baking").await;
    words(&site.rollout(&["approve"], 1).await, &["nothing waits"]);
    let (wires, image) = (Wires::connect(&site.server).await, &images()[0]);
    for number in 0..40 {
        ask(&wires, Wire::BOTH[number % 2], image, &Ask::keyed(&number.to_string())).await.unwrap();
    }
    let waiting = site.reaches("awaiting_approval").await;
    assert_eq!(waiting["waiting_for"], "approval of step 1: no check found harm");
    site.rollout(&["approve"], 0).await;
    words(&site.rollout(&["status", "digits", "--watch"], 0).await, &["completed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn which_version_served_at_a_time_is_one_command() {
    let site = Site::start(&[(1, "digits_cnn_v1"), (2, "digits_cnn_v2")]);
    site.begin(2, &quick_with(&json!({"steps": long_step(2500)}))).await;
    site.reaches("baking").await;
    site.act("promote").await;
    site.reaches("completed").await;
    let rows = site.get("/admin/v1/routes/digits/history").await["served"].as_array().unwrap().clone();
    let shown = |row: &Value| (row["stable"].clone(), row["candidate"].clone(), row["weights"]["candidate"].clone());
    let (split, whole, after) = (&rows[rows.len() - 3], &rows[rows.len() - 2], &rows[rows.len() - 1]);
    assert_eq!(shown(split), (json!(1), json!(2), json!(2500)));
    assert_eq!(shown(whole), (json!(1), json!(2), json!(10_000)));
    assert_eq!(shown(after), (json!(2), Value::Null, json!(0)));
    for (row, expected) in [
        (split, &["stable version 1 50 %", "candidate version 2 25 %", "control version 1 25 %", "by digits-1"][..]),
        (whole, &["candidate version 2 100 %"]),
        (after, &["stable version 2 100 %"]),
    ] {
        words(&site.rollout(&["history", "digits", "--at", &row["at_ms"].to_string()], 0).await, expected);
    }
    // A moment before the split, and one before anything is known.
    let before = (split["at_ms"].as_u64().unwrap() - 1).to_string();
    words(&site.rollout(&["history", "digits", "--at", &before], 0).await, &["stable version 1 100 %"]);
    site.rollout(&["history", "digits", "--at", "1970-01-02T00:00:00Z"], 3).await;
}
