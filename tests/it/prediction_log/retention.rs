//! What is older than `retain` goes, predictions and feedback, and what is younger stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::site::Site;
use crate::support::eventually;
use crate::support::repository::TempDir;

/// Sealed files below a folder.
fn sealed(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { sealed(&path) } else { vec![path] };
    let is_sealed = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "parquet");
    entries.flat_map(below).filter(is_sealed).collect()
}

/// The file again as if it had been written so many days ago: in the folder of that day.
fn aged(file: &Path, days: u64) -> PathBuf {
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    let date = humantime::format_rfc3339_seconds(then).to_string()[..10].to_owned();
    let part = |part: &str| if part.starts_with("date=") { format!("date={date}") } else { part.to_owned() };
    let path: PathBuf = file.iter().map(|name| part(name.to_str().unwrap())).collect();
    let path = path.with_file_name(format!("{days}-0.parquet"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy(file, &path).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_its_model_keeps_it_is_deleted() {
    let repository = TempDir::new();
    repository.write("short/model.yaml", "log: {retain: 30d}");
    for model in ["short", "plain"] {
        repository.add_with_manifest("iris_logreg", model, 1);
    }
    let site = Site::start(repository, &json!({"sync_interval": "20ms", "retain": "300d"}));
    for model in ["short", "plain"] {
        let answer = site.infer(model, &[5.0, 3.0, 1.0, 0.2]).await;
        let id = answer.header("headgate-prediction-id");
        site.feedback(&json!({"prediction_id": id, "value": 1})).await;
    }
    // The end seals what there is.
    let (repository, data) = site.ended().await;
    let (mut kept, mut gone) = (vec![], vec![]);
    for table in ["predictions", "feedback"] {
        for (model, retain_days) in [("short", 30), ("plain", 300)] {
            let files = sealed(&data.path().join(table).join(format!("model={model}")));
            assert_eq!(files.len(), 1, "{table} of {model}");
            // A day more and a day less than a limit would do but for midnight.
            for days in [20, 100, 400] {
                let file = aged(&files[0], days);
                if days < retain_days { kept.push(file) } else { gone.push(file) }
            }
            kept.extend(files);
        }
    }
    assert_eq!((kept.len(), gone.len()), (10, 6));
    let site = Site::start_in(repository, data, &json!({"sync_interval": "20ms", "retain": "300d"}));
    // With a model's first row its rule is known, and followed at once.
    for model in ["short", "plain"] {
        site.infer(model, &[5.0, 3.0, 1.0, 0.2]).await;
    }
    eventually("old files are gone", async || {
        let left: Vec<&PathBuf> = gone.iter().filter(|path| path.exists()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert!(kept.iter().all(|path| path.exists()), "{kept:?}");
    assert!(gone.iter().all(|path| !path.parent().unwrap().exists()), "an empty hour or day goes with its files");
}
