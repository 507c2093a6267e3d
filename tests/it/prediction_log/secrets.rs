//! What a model's settings redact is in no file that the server leaves.

use std::path::Path;

use headgate::prediction_log::table::Table;
use headgate::tensor::{DataType, Tensor};
use serde_json::json;

use super::site::{Site, read};
use crate::support::infer::{Call, Encoding, Wires};
use crate::support::repository::TempDir;

/// Of the model's two inputs of text a row, under the names that its settings give them.
const SETTINGS: &str = "
features: {s: [name, card]}
log:
  redact: {in_name: hmac, in_card: {mask: {keep_last: 4}}, out_o: drop}
";

const NAME: &str = "Ada Lovelace of Ockham";
const CARD: &str = "4000123412349876";

fn request(client: usize) -> Vec<(String, Tensor)> {
    let name = format!("{NAME} {}", client % 2);
    let rows = Tensor::from_byte_elements(vec![1, 2], &[name.as_str(), CARD]).unwrap();
    assert_eq!(rows.dtype(), DataType::Bytes);
    vec![("s".to_owned(), rows)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redacted_values_are_nowhere_on_the_disk() {
    let repository = TempDir::new();
    repository.add_with_manifest("string_identity", "people", 1);
    repository.write("people/model.yaml", SETTINGS);
    let site = Site::start(repository, &json!({"sync_interval": "20ms"}));
    let wires = Wires::connect(&site.server).await;
    let ask = async |client: usize| {
        let call = Call { model: "people", version: "", inputs: &request(client) };
        wires.infer(Encoding::Raw, &call).await.unwrap();
    };
    for client in 0..4 {
        ask(client).await;
    }
    site.predictions(4).await;
    // Of the segment as it lies there when the process dies, and of the sealed file.
    greps_clean(site.data.path());
    let site = site.torn_away();
    let wires = Wires::connect(&site.server).await;
    let call = Call { model: "people", version: "", inputs: &request(0) };
    wires.infer(Encoding::Json, &call).await.unwrap();
    let log = site.server.log();
    let (_, data) = site.ended().await;
    greps_clean(data.path());
    assert!(!log.contains(NAME) && !log.contains(CARD), "{log}");

    let rows = read(data.path(), Table::Predictions);
    assert_eq!(rows.len(), 5);
    for row in &rows {
        assert!(row.values().all(|value| !value.contains(NAME) && !value.contains(CARD)), "{row:?}");
        assert_eq!((row["in_card"].as_str(), row["out_o"].as_str()), ("************9876", ""));
        assert_eq!(row["in_name"].len(), 64, "HMAC-SHA256 in hexadecimal");
        assert_eq!(row["flags"].parse::<u32>().unwrap() & 2, 2);
    }
    let same = rows.iter().filter(|row| row["in_name"] == rows[0]["in_name"]).count();
    assert!(same > 1 && same < 5, "equal values stay equal, others differ, across restarts too: {same}");
}

/// Every byte of every file below a folder; what is compressed is read by the caller as rows.
fn greps_clean(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            greps_clean(&entry);
            continue;
        }
        let bytes = std::fs::read(&entry).unwrap();
        for secret in [NAME, CARD] {
            let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_there, "{secret:?} is in {entry:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_names_an_unknown_column_is_refused_at_load() {
    let repository = TempDir::new();
    repository.add_with_manifest("iris_logreg", "iris", 1);
    repository.add_with_manifest("iris_logreg", "other", 1);
    repository.write("iris/model.yaml", "log: {redact: {in_Y: drop}}");
    repository.write("other/model.yaml", "log: {sample: {rate: 0.5, by: in_user}}");
    let site = Site::start(repository, &json!({}));
    for (model, column) in [("iris", "in_Y"), ("other", "in_user")] {
        let reason = site.server.reaches(model, 1, "failed").await;
        assert!(reason.contains(column) && reason.contains("in_X"), "{reason}");
    }
}
