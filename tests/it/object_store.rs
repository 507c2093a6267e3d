//! Sealed files of the prediction log on their way to a real S3 API server, moto's, from an environment of its own under
//! target/: the server is away, the server dies, the gateway's process dies.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use headgate::outbound::{RetryPolicy, Uploads, upload::Source};
use headgate::prediction_log::{UploadConfig, UploadSettings};
use headgate::store::RedbStore;
use object_store::ObjectStoreExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use tokio_util::sync::CancellationToken;

use crate::support::python::python;
use crate::support::{PATIENCE, eventually, scaled};

const FOLDER: &str = "object_store";
const WHAT: &str = "uploads to a real S3 API server";
const BUCKET: &str = "log";
const HOUR: &str = "predictions/model=digits/version=1/date=2026-01-02/hour=03";
/// Says to the process that is killed what it uploads, and where to.
const CHILD: &str = "HEADGATE_TEST_UPLOADS";

/// moto's server, killed when it is dropped. It keeps everything in memory.
struct Moto {
    child: Child,
    address: SocketAddr,
}

impl Moto {
    async fn start(python: &Path, address: SocketAddr) -> Self {
        let child = Command::new(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self { child, address };
        eventually("moto listens and has a bucket", async || moto.make_bucket().map_err(|cause| cause.to_string()))
            .await;
        moto
    }

    fn make_bucket(&self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        write!(
            stream,
            "PUT /{BUCKET} HTTP/1.1\r\nhost: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            self.address
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(std::io::Error::other(answer)) }
    }

    /// Every object with its bytes.
    async fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let store = client(&format!("http://{}", self.address));
        let mut objects = BTreeMap::new();
        let listed: Vec<_> = object_store::ObjectStore::list(&store, None).try_collect().await.unwrap();
        for object in listed {
            let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
            objects.insert(object.location.to_string(), bytes.to_vec());
        }
        objects
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn client(endpoint: &str) -> AmazonS3 {
    _ = rustls::crypto::ring::default_provider().install_default();
    let builder = AmazonS3Builder::new().with_bucket_name(BUCKET).with_endpoint(endpoint).with_region("us-east-1");
    builder.with_access_key_id("id").with_secret_access_key("secret").with_allow_http(true).build().unwrap()
}

fn config(endpoint: &str) -> UploadConfig {
    let settings = serde_json::json!({
        "url": format!("s3://{BUCKET}/prod"),
        "options": {
            "endpoint": endpoint,
            "region": "us-east-1",
            "access_key_id": "id",
            "secret_access_key": "secret",
            "allow_http": true,
        },
    });
    serde_json::from_value::<UploadSettings>(settings).unwrap().read().unwrap()
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

/// Passes connections on to an address, and can cut the server off in the middle of an upload.
struct Relay {
    url: String,
    connections: Arc<AtomicUsize>,
    /// Whom to kill once so many more bytes were passed on to it.
    victim: Arc<Mutex<Option<(usize, Moto)>>>,
}

impl Relay {
    fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (connections, victim) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
        let (counted, shared) = (connections.clone(), victim.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Relaxed);
                let (stream, victim) = (stream.unwrap(), shared.clone());
                std::thread::spawn(move || pass_on(&stream, target, &victim));
            }
        });
        Self { url, connections, victim }
    }
}

fn pass_on(client: &TcpStream, target: SocketAddr, victim: &Mutex<Option<(usize, Moto)>>) {
    let Ok(server) = TcpStream::connect(target) else { return };
    let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = std::thread::spawn(move || {
        _ = std::io::copy(&mut from_server, &mut to_client);
        _ = to_client.shutdown(Shutdown::Both);
    });
    let (mut client, mut server, mut buffer) = (client, &server, vec![0; 16 << 10]);
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        if server.write_all(&buffer[..read]).is_err() {
            break;
        }
        let mut victim = victim.lock().unwrap();
        if let Some((left, _)) = &mut *victim {
            *left = left.saturating_sub(read);
            if *left == 0 {
                // Killed here, for it is dropped.
                *victim = None;
                break;
            }
        }
    }
    _ = server.shutdown(Shutdown::Both);
    _ = client.shutdown(Shutdown::Both);
    back.join().unwrap();
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
        let before = moto.objects().await.len();
        let mut child = uploading_process(dir.path(), &format!("http://{address}"));
        // Killed once a random part of its files has arrived; some of them may not be noted yet, others be under way.
        let enough = before + fastrand::usize(1..8);
        eventually("files arrive", async || match moto.objects().await.len() {
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
        .args(["--ignored", "--exact", "object_store::the_process_that_is_killed"])
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
