//! Sealed files of the prediction log on their way to a real S3 API server, moto's, from an environment of its own under
//! target/: the server is away, the server dies, the gateway's process dies.

mod compaction;
mod servers;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use headgate::outbound::{RetryPolicy, Uploads, upload::Source};
use headgate::prediction_log::{LogConfig, UploadConfig};
use headgate::store::RedbStore;
use headgate::tensor::Tensor;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::servers::{BUCKET, Moto, Relay};
use super::receiver::Receiver;
use super::site::Site;
use crate::support::infer::{Call, Encoding, Wires};
use crate::support::python::python;
use crate::support::repository::TempDir;
use crate::support::{PATIENCE, eventually, scaled};

const FOLDER: &str = "object_store";
const WHAT: &str = "uploads to a real S3 API server";
const HOUR: &str = "predictions/model=digits/version=1/date=2026-01-02/hour=03";
/// Says to the process that is killed what it uploads, and where to.
const CHILD: &str = "HEADGATE_TEST_UPLOADS";

fn settings(endpoint: &str) -> Value {
    json!({
        "url": format!("s3://{BUCKET}/prod"),
        "options": {
            "endpoint": endpoint,
            "region": "us-east-1",
            "access_key_id": "id",
            "secret_access_key": "secret",
            "allow_http": true,
        },
    })
}

fn config(endpoint: &str) -> UploadConfig {
    LogConfig::of(&json!({ "upload": settings(endpoint) })).unwrap().upload.unwrap()
}

fn start(endpoint: &str, data_dir: &Path) -> (Uploads, CancellationToken) {
    let policy = RetryPolicy {
        first: Duration::from_millis(20),
        most: Duration::from_millis(100),
        give_up_after: Duration::MAX,
    };
    let store = Arc::new(RedbStore::open(data_dir).unwrap());
    let stop = CancellationToken::new();
    let source = Source { data_dir: data_dir.to_owned(), gateway: 7 };
    (Uploads::start_with(&config(endpoint), source, store, policy, stop.clone()).unwrap(), stop)
}

/// Publishes a file as sealed ones are, and gives its object's name and its bytes.
fn seal(data_dir: &Path, name: &str, bytes: usize) -> (String, Vec<u8>) {
    let folder = data_dir.join(HOUR);
    std::fs::create_dir_all(&folder).unwrap();
    let mut content = b"PAR1".to_vec();
    content.extend((0..bytes).map(|_| fastrand::u8(..)));
    content.extend(b"PAR1");
    let temporary = folder.join(format!("{name}.tmp"));
    std::fs::write(&temporary, &content).unwrap();
    std::fs::rename(temporary, folder.join(format!("{name}.parquet"))).unwrap();
    (format!("prod/{HOUR}/7-{name}.parquet"), content)
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn files_reach_a_server_that_is_away_at_first_and_then_dies_in_the_middle_of_one() {
    let Some(python) = python(FOLDER, WHAT) else { return };
    let (dir, address) = (tempfile::tempdir().unwrap(), free_address());
    let relay = Relay::start(address);
    let mut expected = BTreeMap::from([seal(dir.path(), "5-1", 4 << 20)]);
    let (uploads, stop) = start(&relay.url, dir.path());
    eventually("it is tried again", async || match relay.connections.load(Relaxed) {
        3.. => Ok(()),
        tried => Err(format!("{tried} attempts")),
    })
    .await;
    // The first server gets a quarter of the file.
    *relay.victim.lock().unwrap() = Some((1 << 20, Moto::start(&python, address).await));
    relay.is_open.store(true, Relaxed);
    eventually("the server dies", async || match &*relay.victim.lock().unwrap() {
        None => Ok(()),
        Some((left, _)) => Err(format!("it was to get {left} more bytes")),
    })
    .await;
    let moto = Moto::start(&python, address).await;
    expected.extend((2..12).map(|n| seal(dir.path(), &format!("5-{n}"), n << 10)));
    assert!(uploads.finish(PATIENCE).await);
    let objects = moto.objects().await;
    assert_eq!(objects.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(objects == expected, "the objects' bytes are those of the files");
    stop.cancel();
}

#[tokio::test]
async fn a_process_that_is_killed_leaves_no_file_that_the_next_does_not_upload() {
    let Some(python) = python(FOLDER, WHAT) else { return };
    let (dir, address) = (tempfile::tempdir().unwrap(), free_address());
    let moto = Moto::start(&python, address).await;
    let mut expected = BTreeMap::new();
    for round in 0..scaled("kills of a process that uploads", 60) {
        expected.extend((0..8).map(|n| seal(dir.path(), &format!("{round}-{n}"), 128 << 10)));
        let before = moto.count().await;
        let mut child = uploading_process(dir.path(), &format!("http://{address}"));
        // Killed once a random part of its files has arrived; some of them may not be noted yet, others be under way.
        let enough = before + fastrand::usize(1..8);
        eventually("files arrive", async || match moto.count().await {
            arrived if arrived >= enough => Ok(()),
            arrived => Err(format!("{arrived} of {enough}")),
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (uploads, stop) = start(&format!("http://{address}"), dir.path());
    assert!(uploads.finish(PATIENCE).await);
    assert!(moto.objects().await == expected, "every file is there with its bytes, and nothing else");
    stop.cancel();
}

fn uploading_process(data_dir: &Path, endpoint: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "prediction_log::object_store::the_process_that_is_killed"])
        .env(CHILD, format!("{endpoint} {}", data_dir.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
#[ignore = "the process that another test starts and kills"]
async fn the_process_that_is_killed() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (endpoint, data_dir) = told.split_once(' ').unwrap();
    let (_uploads, _stop) = start(endpoint, Path::new(data_dir));
    std::future::pending::<()>().await;
}

/// Of the model's two inputs of text a row, under the names that its settings give them.
const REDACTED: &str = "
features: {s: [name, card]}
log:
  redact: {in_name: drop, in_card: {mask: {keep_last: 4}}, out_o: drop}
";
const SECRETS: [&str; 2] = ["Ada Lovelace of Ockham", "4000123412349876"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_uploads_what_it_sealed_and_tells_its_rows_as_it_redacted_them() {
    let Some(python) = python(FOLDER, WHAT) else { return };
    let moto = Moto::start(&python, free_address()).await;
    let receiver = Receiver::start();
    let repository = TempDir::new();
    repository.add_with_manifest("string_identity", "people", 1);
    repository.write("people/model.yaml", REDACTED);
    let log = json!({
        "sync_interval": "20ms",
        "upload": settings(&format!("http://{}", moto.address)),
        "events": {"url": receiver.url},
    });
    let site = Site::start(repository, &log);
    let wires = Wires::connect(&site.server).await;
    let inputs = [("s".to_owned(), Tensor::from_byte_elements(vec![1, 2], &SECRETS).unwrap())];
    for _ in 0..3 {
        wires.infer(Encoding::Json, &Call { model: "people", version: "", inputs: &inputs }).await.unwrap();
    }
    let rows = site.predictions(3).await;
    let told = eventually("two events a row", async || match receiver.bodies() {
        bodies if bodies.len() >= 6 => Ok(bodies),
        bodies => Err(format!("{} events", bodies.len())),
    })
    .await;
    assert!(told.iter().all(|body| SECRETS.iter().all(|secret| !body.contains(secret))), "{told:?}");
    let told: Vec<Value> = told.iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    for row in &rows {
        let of_row: Vec<&Value> = told.iter().filter(|event| event["id"] == row["prediction_id"].as_str()).collect();
        assert_eq!(of_row.len(), 2, "{told:?}");
        let request = of_row.iter().find(|event| event["type"] == "org.kubeflow.serving.inference.request").unwrap();
        let expected = json!([{"name": "s", "datatype": "BYTES", "shape": [1, 2], "data": [null, "************9876"]}]);
        assert_eq!((&request["data"]["inputs"], &request["inferenceservicename"]), (&expected, &json!("people")));
    }
    let (_, data) = site.ended().await;
    let mut expected = BTreeMap::new();
    collect(data.path(), &data.path().join("predictions"), &mut expected);
    assert!(!expected.is_empty(), "the end seals what there is");
    let objects = moto.objects().await;
    assert!(objects.into_iter().map(named_as_here).collect::<BTreeMap<_, _>>() == expected);
}

/// An object under the name that its file has here: its own has the gateway's number before it.
fn named_as_here((name, bytes): (String, Vec<u8>)) -> (String, Vec<u8>) {
    let (folder, file) = name.strip_prefix("prod/").unwrap().rsplit_once('/').unwrap();
    (format!("{folder}/{}", file.split_once('-').unwrap().1), bytes)
}

/// Every sealed file below a folder, by its name below the root.
fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|ending| ending == "parquet") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
}
