//! `headgate log compact` beside a gateway that uploads: the bucket holds each row once, as the disk does.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::json;

use super::servers::Moto;
use super::{FOLDER, WHAT, collect, free_address, named_as_here, settings};
use crate::prediction_log::site::Site;
use crate::support::client::Http;
use crate::support::python::python;
use crate::support::repository::TempDir;

const BODY: &str = r#"{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[5,3,1,0.2]}]}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_were_merged_here_are_merged_there() {
    let Some(python) = python(FOLDER, WHAT) else { return };
    let moto = Moto::start(&python, free_address()).await;
    let repository = TempDir::new();
    repository.add_with_manifest("iris_logreg", "iris", 1);
    let log = json!({"sync_interval": "20ms", "upload": settings(&format!("http://{}", moto.address))});
    let mut site = Site::start(repository, &log);
    // The end of each process seals a file and uploads it.
    for _ in 0..3 {
        assert_eq!(Http::new(site.server.http).post("/v2/models/iris/infer", BODY).await.status, 200);
        site = site.restarted().await;
    }
    assert_eq!(moto.count().await, 3);
    let compacted = Command::new(env!("CARGO_BIN_EXE_headgate"))
        .args(["log", "compact", "--data-dir"])
        .arg(site.data.path())
        .output()
        .unwrap();
    assert!(compacted.status.success(), "{compacted:?}");
    let (_, data) = site.ended().await;
    let mut expected = BTreeMap::new();
    collect(data.path(), &data.path().join("predictions"), &mut expected);
    // Where the hour of midnight falls between them, there is one of each day.
    assert!(expected.len() < 3, "{:?}", expected.keys());
    let objects: BTreeMap<String, Vec<u8>> = moto.objects().await.into_iter().map(named_as_here).collect();
    assert!(objects == expected, "{:?}, here {:?}", objects.keys(), expected.keys());
}
