//! A model that is good on the whole and serves one group worse: declared columns show it.

use serde_json::{Value, json};

use super::site::Site;
use crate::support::eventually;
use crate::support::repository::TempDir;

/// Predictions of the large and of the small group.
const LARGE: usize = 90;
const SMALL: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_is_served_worse_is_seen_by_its_column() {
    let repository = TempDir::new();
    let model_yaml = json!({
        "features": {"X": ["sepal_length", "region", "petal_length", "petal_width"]},
        "quality": {"task": "classification", "output": "label", "feedback": "species", "segments": ["in_region"]},
    });
    repository.write("iris/model.yaml", model_yaml.to_string());
    repository.add_with_manifest("iris_logreg", "iris", 1);
    let site = Site::start(repository, &json!({"sync_interval": "20ms"}));
    let mut truths: Vec<Value> = vec![];
    for at in 0..LARGE + SMALL {
        let is_small = at >= LARGE;
        let answer = site.infer("iris", &[5.1, if is_small { 2.5 } else { 3.5 }, 1.4, 0.2]).await;
        let outputs = answer.json()["outputs"].clone();
        let label = outputs.as_array().unwrap().iter().find(|output| output["name"] == "label").unwrap();
        let predicted = label["data"][0].as_i64().unwrap();
        // Of the large group nine of ten are right, of the small one two.
        let is_right = if is_small { at % 5 == 0 } else { at % 10 != 0 };
        let truth = if is_right { predicted } else { (predicted + 1) % 3 };
        let id = answer.header("headgate-prediction-id");
        truths.push(json!({"prediction_id": id, "name": "species", "value": truth}));
    }
    site.feedback(&json!(truths)).await;
    let quality = eventually("all labels are in", async || match site.quality("iris").await {
        quality if quality["labelled"] == LARGE + SMALL => Ok(quality),
        quality => Err(quality.to_string()),
    })
    .await;
    assert_eq!(quality["accuracy"], 0.83, "{quality}");
    let of = |value: &str| {
        let segments = quality["segments"].as_array().unwrap();
        let segment = segments.iter().find(|one| one["column"] == "in_region" && one["value"] == value);
        segment.unwrap_or_else(|| panic!("{quality}")).clone()
    };
    assert_eq!((&of("3.5")["accuracy"], &of("3.5")["labelled"]), (&json!(0.9), &json!(LARGE)));
    assert_eq!((&of("2.5")["accuracy"], &of("2.5")["labelled"]), (&json!(0.2), &json!(SMALL)));
    for (value, accuracy, labels) in [("3.5", 0.9, LARGE), ("2.5", 0.2, SMALL)] {
        let who = format!(r#"{{model="iris",version="1",arm="stable",column="in_region",value="{value}"}}"#);
        assert_eq!(site.server.metric(&format!("headgate_quality_segment_accuracy{who}")), accuracy);
        assert_eq!(site.server.metric(&format!("headgate_quality_segment_labels{who}")), labels as f64);
    }
}
