//! The loop: serve, log, learn what was right, export, train, and have the new version roll itself out.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use super::site::Site;
use crate::support::eventually;
use crate::support::python::python;
use crate::support::repository::TempDir;
use crate::support::server::models;

/// A rollout that goes by labels and by errors, and is over in seconds.
fn model_yaml() -> Value {
    let step = |bp: u64| json!({"weight_bp": bp, "min_bake": "100ms", "max_bake": "60s", "min_samples": 50, "require": "safe"});
    json!({
        "labels": {"stable": 1},
        "on_new_version": "rollout",
        "quality": {"task": "classification", "output": "probabilities", "feedback": "digit"},
        "rollout": {
            "steps": [step(3000), step(10000)],
            "analysis": {"checks": [{"event": "feedback"}, {"event": "error", "abs_max": 0.2}]},
            "promote": {"watch": "1s"},
        },
    })
}

/// Asks for digits and tells what they show, until it is killed.
struct Traffic(Child);

impl Traffic {
    fn start(python: &Path, site: &Site, arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/loop/ask_and_tell.py");
        let url = format!("http://{}", site.server.http);
        let mut command = Command::new(python);
        command.arg(script).args(["--url", &url]).args(arguments).stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn ends_well(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn headgate(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_headgate")).args(arguments).stdin(Stdio::null()).output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    output
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_served_trains_the_version_that_replaces_it() {
    let Some(python) = python("loop", "the retraining loop") else { return };
    let repository = TempDir::new();
    repository.write("digits/model.yaml", model_yaml().to_string());
    let copied =
        Command::new("cp").arg("-r").arg(models().join("digits/1")).arg(repository.path().join("digits")).status();
    assert!(copied.unwrap().success());
    let site = Site::start(repository, &json!({"sync_interval": "50ms"}));

    // Served by version 1, and told what was right.
    Traffic::start(&python, &site, &["--rows", "1400"]).ends_well();
    let work = TempDir::new();
    let file = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
    let data = site.data.path().to_str().unwrap().to_owned();
    let export = |name: &str| {
        let output = file(name);
        let export =
            ["log", "export", "--model", "digits", "--label", "digit", "--output", &output, "--data-dir", &data];
        headgate(&export);
        let manifest = std::fs::read(Path::new(&output).with_extension("manifest.json")).unwrap();
        serde_json::from_slice::<Value>(&manifest).unwrap()
    };
    let manifest = export("train.parquet");
    let dataset = manifest["dataset"].as_str().unwrap().to_owned();
    assert!(dataset.starts_with("sha256:") && dataset.len() == 71, "{dataset}");
    assert_eq!(manifest["counts"]["exported"], 1400, "{manifest}");
    assert_eq!(export("again.parquet")["dataset"], dataset, "the same log gives the same set");
    assert_eq!(std::fs::read(file("train.parquet")).unwrap(), std::fs::read(file("again.parquet")).unwrap());

    // Trained on it, and dropped in with its lineage while clients go on.
    let traffic = Traffic::start(&python, &site, &["--seconds", "120"]);
    let retrain = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/retrain.py");
    let output = site.repository.path().join("digits/2");
    let trained =
        Command::new(&python).arg(retrain).arg(file("train.parquet")).arg("--output").arg(&output).output().unwrap();
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    println!("{}", String::from_utf8_lossy(&trained.stdout));
    let end = eventually("the new version's rollout to end", async || {
        let answer = site.server.admin_http().get("/admin/v1/rollouts/digits").await;
        let view = answer.json();
        if view["ended"] == true { Ok(view) } else { Err(format!("{} {}", view["state"], view["waiting_for"])) }
    })
    .await;
    drop(traffic);
    assert_eq!(
        (&end["state"], &end["candidate"], &end["requested_by"]),
        (&json!("completed"), &json!(2), &json!("headgate"))
    );
    assert_eq!(site.server.model("digits")["labels"]["stable"], 2);

    // The audit log names the data set.
    let entries = site.server.admin_http().get("/admin/v1/audit?limit=1000&target=digits-1").await.json();
    let last =
        entries["entries"].as_array().unwrap().iter().find(|entry| entry["after"]["state"] == "completed").unwrap();
    assert_eq!(last["after"]["candidate"]["lineage"]["dataset"], dataset.as_str(), "{last}");
}
