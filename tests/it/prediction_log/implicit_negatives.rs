//! What was shown and not clicked is a "no", but not before its time. Two models that are the same but for that time: of one
//! it passes at once, of the other never.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::site::Site;
use crate::support::eventually;
use crate::support::repository::TempDir;
use crate::support::zoo;

fn site() -> Site {
    let repository = TempDir::new();
    for (model, negative_after) in [("hasty", "100ms"), ("patient", "1h")] {
        let quality = json!({
            "task": "click",
            "output": "probabilities",
            "feedback": "click",
            "exposure": "shown",
            "negative_after": negative_after,
        });
        repository.write(&format!("{model}/model.yaml"), json!({"quality": quality}).to_string());
        repository.add_with_manifest("cancer_mlp", model, 1);
    }
    Site::start(repository, &json!({"sync_interval": "20ms"}))
}

/// Seven predictions: the first five were shown, of which the first was clicked; the sixth was clicked and nobody said that
/// it was shown; of the fifth that is said twice, and of the last nothing. Gives their ids.
async fn predictions(site: &Site, model: &str) -> Vec<String> {
    let row: Vec<f32> = zoo::inputs("cancer_mlp", "b1")[0].1.elements().collect();
    let mut ids = vec![];
    for _ in 0..7 {
        ids.push(site.infer(model, &row).await.header("headgate-prediction-id").to_owned());
    }
    let of = |at: usize, name: &str| json!({"prediction_id": ids[at], "name": name, "value": 1});
    let mut told: Vec<Value> = (0..5).map(|at| of(at, "shown")).collect();
    told.extend([of(4, "shown"), of(0, "click"), of(5, "click")]);
    site.feedback(&json!(told)).await;
    ids
}

/// Waits until so many labels have matured.
async fn matured(site: &Site, model: &str, labelled: u64, click_rate: f64) -> Value {
    eventually(&format!("{model} has {labelled} labels"), async || match site.quality(model).await {
        quality if quality["labelled"] == labelled && quality["click_rate"] == click_rate => Ok(quality),
        quality => Err(quality.to_string()),
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_is_unknown_until_its_time_is_over_and_negative_then() {
    let site = site();
    let patient = predictions(&site, "patient").await;
    let hasty = predictions(&site, "hasty").await;
    // Six are known to have been shown, two of them clicked; the seventh has no label for ever.
    let quality = matured(&site, "hasty", 6, 2.0 / 6.0).await;
    assert_eq!((&quality["predicted"], &quality["exposed"]), (&json!(7), &json!(6)), "{quality}");
    assert_eq!(quality["labelled_ratio"], 1.0);
    let series = r#"headgate_quality_click_ratio{model="hasty",version="1",arm="stable"}"#;
    assert!((site.server.metric(series) - 2.0 / 6.0).abs() < 1e-6);

    // Told at the same time, and before it is over even a click is no label.
    let quality = site.quality("patient").await;
    assert_eq!((&quality["exposed"], &quality["labelled"]), (&json!(6), &json!(0)), "{quality}");
    assert_eq!((&quality["click_rate"], &quality["labelled_ratio"]), (&Value::Null, &json!(0.0)), "{quality}");

    // A click that comes late takes the place of the "no".
    let late = |id: &String| json!({"prediction_id": id, "name": "click", "value": 1});
    site.feedback(&json!([late(&hasty[1]), late(&patient[1])])).await;
    matured(&site, "hasty", 6, 3.0 / 6.0).await;

    // The next process knows it all, also what was only negative by the time that had passed.
    let site = site.restarted().await;
    matured(&site, "hasty", 6, 3.0 / 6.0).await;
    let quality = eventually("what was shown is known again", async || match site.quality("patient").await {
        quality if quality["exposed"] == 6 => Ok(quality),
        quality => Err(quality.to_string()),
    })
    .await;
    assert_eq!(quality["labelled"], 0, "{quality}");
}

/// The manifest of a training set of a model's clicks, by the settings of its quality.
async fn export(site: &Site, model: &str, negative_after: &str, more: &[&str]) -> Value {
    // What was told is on the disk then.
    let sealed = site.server.admin_http().post_json("/admin/v1/log/seal", &json!({})).await;
    assert_eq!(sealed.status, 200, "{}", String::from_utf8_lossy(&sealed.body));
    let folder = TempDir::new();
    let output = folder.path().join("train.parquet");
    let mut command = Command::new(env!("CARGO_BIN_EXE_headgate"));
    command.args(["log", "export", "--model", model, "--label", "click", "--exposure", "shown"]);
    command.args(["--negative-after", negative_after, "--output"]).arg(&output).args(more);
    let done = command.arg("--data-dir").arg(site.data.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&std::fs::read(Path::new(&output).with_extension("manifest.json")).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_training_set_has_the_negatives_of_live_quality() {
    let site = site();
    predictions(&site, "patient").await;
    let hasty = predictions(&site, "hasty").await;
    // Live quality says that the time is over.
    matured(&site, "hasty", 6, 2.0 / 6.0).await;
    let first = export(&site, "hasty", "100ms", &[]).await;
    let counts = json!({
        "predictions": 7,
        "labelled": 2,
        "exported": 6,
        "implicit_negatives": 4,
        "left_out": {"unlabelled": 1},
        "labels_without_prediction": 0,
        "sampled_out_estimate": 0,
    });
    assert_eq!(first["counts"], counts, "{first}");
    assert_eq!((&first["query"]["negative_after"], &first["query"]["exposure"]), (&json!("100ms"), &json!("shown")));
    let young = export(&site, "patient", "1h", &[]).await;
    assert_eq!(young["counts"]["exported"], 0, "{young}");
    assert_eq!(young["counts"]["left_out"], json!({"too_young": 6, "unlabelled": 1}), "{young}");

    // A late click takes the place of the "no"; the set from before can be made again.
    site.feedback(&json!({"prediction_id": hasty[1], "name": "click", "value": 1})).await;
    let late = export(&site, "hasty", "100ms", &[]).await;
    assert_eq!((&late["counts"]["exported"], &late["counts"]["implicit_negatives"]), (&json!(6), &json!(3)), "{late}");
    let as_of = first["query"]["as_of"].as_str().unwrap();
    let again = export(&site, "hasty", "100ms", &["--as-of", as_of]).await;
    assert_eq!(again["dataset"], first["dataset"], "{again}");
}
