//! `durability: required`: who is answered finds the row on the disk, and nobody is answered while it can't get there.

use std::collections::BTreeSet;

use headgate::prediction_log::table::Table;
use serde_json::{Value, json};

use super::disk::Disk;
use crate::prediction_log::site::{Site, read};
use crate::support::client::{Answer, Http, grpc};
use crate::support::infer::{Call, grpc_request};
use crate::support::repository::TempDir;
use crate::support::{scaled, zoo};

/// Two models that are the same but for one setting. Nothing is written for its age in the time of a test.
fn repository() -> (TempDir, Value) {
    let repository = TempDir::new();
    repository.write("audited/model.yaml", "log: {durability: required}");
    repository.add_with_manifest("iris_logreg", "audited", 1);
    repository.add_with_manifest("iris_logreg", "plain", 1);
    (repository, json!({"sync_interval": "1h"}))
}

async fn ask(http: &Http, model: &str, timeout_ms: u32) -> Result<Answer, String> {
    let body = r#"{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[5,3,1,0.2]}]}"#;
    let request = http::Request::post("/").header("headgate-timeout-ms", timeout_ms);
    http.send(request, &format!("/v2/models/{model}/infer"), body).await
}

/// Asks until the server is gone; gives the ids of what was answered.
async fn answered(http: Http, model: &str) -> Vec<String> {
    let mut ids = vec![];
    while let Ok(answer) = ask(&http, model, 60_000).await {
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        ids.push(answer.header("headgate-prediction-id").to_owned());
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_on_the_disk_at_that_moment() {
    const CLIENTS: usize = 4;
    let (repository, log) = repository();
    let mut site = Site::start(repository, &log);
    let (mut audited, mut plain) = (vec![], vec![]);
    for kill in 0..scaled("kills between an answer and the next", 100) {
        let client = || tokio::spawn(answered(Http::new(site.server.http), "audited"));
        let clients: Vec<_> = (0..CLIENTS).map(|_| client()).collect();
        let http = Http::new(site.server.http);
        // The last answers of all come just before the end.
        for _ in 0..1 + kill % 7 {
            plain.push(ask(&http, "plain", 60_000).await.unwrap().header("headgate-prediction-id").to_owned());
            audited.push(ask(&http, "audited", 60_000).await.unwrap().header("headgate-prediction-id").to_owned());
        }
        site = site.torn_away();
        for client in clients {
            audited.extend(client.await.unwrap());
        }
    }
    let (_, data) = site.ended().await;
    let there: BTreeSet<String> =
        read(data.path(), Table::Predictions).iter().map(|row| row["prediction_id"].clone()).collect();
    println!("{} answers of the audited model, {} of the plain one", audited.len(), plain.len());
    let lost: Vec<&String> = audited.iter().filter(|id| !there.contains(*id)).collect();
    assert!(lost.is_empty(), "{} of {} lost, such as {}", lost.len(), audited.len(), lost[0]);
    assert!(plain.iter().all(|id| !there.contains(id)), "where nobody waits for them, rows wait for the interval");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_disk_an_audited_model_gives_no_answer_and_others_do() {
    let disk = Disk::new();
    let (repository, log) = repository();
    let data = TempDir::new();
    let variables = disk.below(data.path());
    let site = Site::start_with(repository, data, &json!({"prediction_log": log}), &variables);
    let (http, mut grpc) = (Http::new(site.server.http), grpc(site.server.grpc).await);
    assert_eq!(ask(&http, "audited", 60_000).await.unwrap().status, 200);
    disk.halt();
    for _ in 0..3 {
        let refused = ask(&http, "audited", 200).await.unwrap();
        assert_eq!(refused.status, 503);
        assert!(
            refused.error().contains(
                "could not be written to the prediction log, which this model's settings require: it took longer"
            ),
            "{}",
            refused.error()
        );
        let inputs = zoo::inputs("iris_logreg", "b1");
        let mut request =
            tonic::Request::new(grpc_request(&Call { model: "audited", version: "", inputs: &inputs }, true));
        request.metadata_mut().insert("headgate-timeout-ms", "200".parse().unwrap());
        assert_eq!(grpc.model_infer(request).await.unwrap_err().code(), tonic::Code::Unavailable);
        for _ in 0..20 {
            assert_eq!(ask(&http, "plain", 60_000).await.unwrap().status, 200);
        }
    }
    disk.go_on();
    assert_eq!(ask(&http, "audited", 60_000).await.unwrap().status, 200, "with the disk it answers again");
    site.ended().await;
}
