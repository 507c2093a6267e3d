//! Sealed files on their way to stores that answer on a real socket.

mod destinations;
mod merged;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::super::testing::{Answer, Received, Receiver, free_address};
use super::*;
use crate::prediction_log::LogConfig;
use crate::store::{MemoryStore, RedbStore, StoreError, Table, Write};

const PATIENCE: Duration = Duration::from_secs(60);
const GATEWAY: u16 = 7;

fn config(settings: Value) -> UploadConfig {
    LogConfig::of(&json!({ "upload": settings })).unwrap().upload.unwrap()
}

fn s3(endpoint: &str) -> UploadConfig {
    config(json!({
        "url": "s3://log/prod",
        "options": {
            "endpoint": endpoint,
            "region": "us-east-1",
            "access_key_id": "id",
            "secret_access_key": "secret",
            "allow_http": true,
        },
    }))
}

/// Tries again at once, so that no test waits.
fn impatient() -> RetryPolicy {
    RetryPolicy { first: Duration::from_millis(1), most: Duration::from_millis(1), ..RetryPolicy::default() }
}

fn start(config: &UploadConfig, data_dir: &Path, store: &Arc<dyn Store>) -> (Uploads, CancellationToken) {
    let stop = CancellationToken::new();
    let source = Source { data_dir: data_dir.to_owned(), gateway: GATEWAY };
    let uploads = Uploads::start_with(config, source, store.clone(), impatient(), stop.clone()).unwrap();
    (uploads, stop)
}

/// Answers with the statuses in turn, then with 200.
async fn receiver(statuses: &[u16]) -> Receiver {
    Receiver::start("", statuses, Answer::Status(200)).await
}

/// The path, decoded, and the bytes of what was put next.
async fn put(receiver: &mut Receiver) -> (String, Vec<u8>) {
    let Received { head, body, .. } = receiver.next().await;
    assert_eq!(head.method, "PUT");
    (percent_decode_str(head.uri.path()).decode_utf8().unwrap().into_owned(), body.to_vec())
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::default())
}

const HOUR: &str = "predictions/model=a b/version=3/date=2026-01-02/hour=03";

/// Writes a file as sealed ones are published, and gives its bytes.
fn seal(data_dir: &Path, name: &str, content: &str) -> Vec<u8> {
    let path = data_dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let bytes = [b"PAR1", content.as_bytes(), b"PAR1"].concat();
    fs::write(path.with_extension("tmp"), &bytes).unwrap();
    fs::rename(path.with_extension("tmp"), &path).unwrap();
    bytes
}

/// A store that does not take uploads while `closed`.
struct Closing {
    inner: MemoryStore,
    closed: AtomicBool,
    refused: AtomicBool,
}

impl Store for Closing {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(table, key)
    }

    fn list(&self, table: Table, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.inner.list(table, prefix)
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        if self.closed.swap(false, Relaxed) {
            self.refused.store(true, Relaxed);
            return Err(StoreError::Failed("no space".to_owned()));
        }
        self.inner.commit(writes)
    }
}

#[tokio::test]
async fn sealed_files_arrive_with_their_bytes_and_once() {
    let mut receiver = receiver(&[]).await;
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    let first = seal(dir.path(), &format!("{HOUR}/5-1.parquet"), "first segment");
    let feedback = seal(dir.path(), "feedback/model=a b/date=2026-01-02/5-2.parquet", "feedback");
    // None of these is a sealed file.
    for name in ["predictions/x.tmp", "predictions/.y.parquet", "wal/predictions/5-9.parquet", "predictions/5-9.arrows"]
    {
        fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
        fs::write(dir.path().join(name), "PAR1....PAR1").unwrap();
    }
    let (uploads, stop) = start(&s3(&receiver.url), dir.path(), &store);
    assert!(uploads.finish(PATIENCE).await);
    let mut both = [put(&mut receiver).await, put(&mut receiver).await];
    both.sort();
    let expected = [
        ("/log/prod/feedback/model=a b/date=2026-01-02/7-5-2.parquet".to_owned(), feedback),
        (format!("/log/prod/{HOUR}/7-5-1.parquet"), first),
    ];
    assert_eq!(both, expected);
    stop.cancel();
    // Another process sends what is new alone.
    let (uploads, stop) = start(&s3(&receiver.url), dir.path(), &store);
    let second = seal(dir.path(), &format!("{HOUR}/6-1.parquet"), "second segment");
    assert!(uploads.finish(PATIENCE).await);
    assert_eq!(put(&mut receiver).await, (format!("/log/prod/{HOUR}/7-6-1.parquet"), second));
    // What was told of needs no look at the folders.
    let third = seal(dir.path(), &format!("{HOUR}/6-2.parquet"), "third segment");
    uploads.notify(&dir.path().join(HOUR).join("6-2.parquet"));
    assert_eq!(put(&mut receiver).await, (format!("/log/prod/{HOUR}/7-6-2.parquet"), third));
    assert_eq!(receiver.others(), 0);
    stop.cancel();
}

#[tokio::test]
async fn another_destination_gets_everything_that_is_here() {
    let (mut first, mut second) = (receiver(&[]).await, receiver(&[]).await);
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    let bytes = seal(dir.path(), &format!("{HOUR}/5-1.parquet"), "segment");
    for (receiver, url) in [(&mut first, "s3://log/prod"), (&mut second, "s3://other")] {
        let config = UploadConfig { url: url.to_owned(), ..s3(&receiver.url) };
        let (uploads, stop) = start(&config, dir.path(), &store);
        assert!(uploads.finish(PATIENCE).await);
        assert_eq!(put(receiver).await.1, bytes, "{url}");
        assert_eq!(store.list(Table::Uploads, "").unwrap().len(), 1, "rows of the other are gone");
        stop.cancel();
    }
}

#[tokio::test]
async fn a_refused_file_is_sent_again_and_others_are_not_held_up() {
    // Also what looks final may be mended: credentials that are renewed, a bucket that is made.
    let statuses = [503, 500, 403, 404, 429];
    let mut receiver = receiver(&statuses).await;
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    let files: Vec<Vec<u8>> =
        (0..4).map(|n| seal(dir.path(), &format!("{HOUR}/5-{n}.parquet"), &format!("segment {n}"))).collect();
    let (uploads, stop) = start(&s3(&receiver.url), dir.path(), &store);
    assert!(uploads.finish(PATIENCE).await);
    let mut attempts = vec![];
    for _ in 0..statuses.len() + files.len() {
        attempts.push(put(&mut receiver).await);
    }
    assert_eq!(receiver.others(), 0);
    for (n, bytes) in files.iter().enumerate() {
        let name = format!("/log/prod/{HOUR}/7-5-{n}.parquet");
        let of_file: Vec<_> = attempts.iter().filter(|(path, _)| *path == name).collect();
        assert!(!of_file.is_empty() && of_file.iter().all(|(_, sent)| sent == bytes), "{name}");
    }
    stop.cancel();
}

#[tokio::test]
async fn a_store_that_is_away_is_waited_for_across_a_restart() {
    let address = free_address();
    let url = format!("http://{address}");
    let dir = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let bytes = seal(dir.path(), &format!("{HOUR}/5-1.parquet"), "segment");
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(state.path()).unwrap());
    let (uploads, stop) = start(&s3(&url), dir.path(), &store);
    assert!(!uploads.finish(Duration::from_millis(50)).await, "nobody is there to take it");
    stop.cancel();
    drop((uploads, store));
    let store: Arc<dyn Store> = loop {
        // The thread lets go of the state once it has seen that it is to stop.
        match RedbStore::open(state.path()) {
            Ok(store) => break Arc::new(store),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let (uploads, stop) = start(&s3(&url), dir.path(), &store);
    assert!(!uploads.finish(Duration::from_millis(50)).await);
    let mut receiver = Receiver::start_at(address, "", &[], Answer::Status(200)).await;
    assert!(uploads.finish(PATIENCE).await);
    assert_eq!(put(&mut receiver).await, (format!("/log/prod/{HOUR}/7-5-1.parquet"), bytes));
    assert_eq!(receiver.others(), 0);
    stop.cancel();
}

#[tokio::test]
async fn an_upload_that_could_not_be_noted_is_made_again_under_the_same_name() {
    let mut receiver = receiver(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let bytes = seal(dir.path(), &format!("{HOUR}/5-1.parquet"), "segment");
    let closed = AtomicBool::new(true);
    let closing = Arc::new(Closing { inner: MemoryStore::default(), closed, refused: AtomicBool::new(false) });
    let store: Arc<dyn Store> = closing.clone();
    let (uploads, stop) = start(&s3(&receiver.url), dir.path(), &store);
    assert!(uploads.finish(PATIENCE).await);
    assert!(closing.refused.load(Relaxed));
    let expected = (format!("/log/prod/{HOUR}/7-5-1.parquet"), bytes);
    assert_eq!([put(&mut receiver).await, put(&mut receiver).await], [expected.clone(), expected]);
    assert_eq!(receiver.others(), 0);
    stop.cancel();
}

#[tokio::test]
async fn of_a_torn_file_nothing_leaves_until_it_is_whole() {
    let mut receiver = receiver(&[]).await;
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    let name = format!("{HOUR}/5-1.parquet");
    fs::create_dir_all(dir.path().join(HOUR)).unwrap();
    fs::write(dir.path().join(&name), "PAR1 torn by a disk that lost its end").unwrap();
    let other = seal(dir.path(), &format!("{HOUR}/5-2.parquet"), "whole");
    let (uploads, stop) = start(&s3(&receiver.url), dir.path(), &store);
    assert_eq!(put(&mut receiver).await.1, other);
    assert!(!uploads.finish(Duration::from_millis(50)).await);
    assert_eq!(receiver.others(), 0);
    let mended = seal(dir.path(), &name, "mended");
    assert!(uploads.finish(PATIENCE).await);
    assert_eq!(put(&mut receiver).await.1, mended);
    stop.cancel();
}

#[tokio::test]
async fn a_local_file_goes_once_it_is_uploaded_and_not_before() {
    let mut receiver = receiver(&[500]).await;
    let (dir, store) = (tempfile::tempdir().unwrap(), memory());
    let name = format!("{HOUR}/5-1.parquet");
    seal(dir.path(), &name, "segment");
    let config = UploadConfig { retain_local: Some(Duration::ZERO), ..s3(&receiver.url) };
    let (uploads, stop) = start(&config, dir.path(), &store);
    // The first attempt is over and has failed, and the file is there for the second.
    put(&mut receiver).await;
    put(&mut receiver).await;
    assert!(uploads.finish(PATIENCE).await);
    assert!(uploads.finish(PATIENCE).await);
    assert!(!dir.path().join(&name).exists(), "it is old from the beginning");
    assert_eq!(receiver.others(), 0);
    assert_eq!(store.list(Table::Uploads, "").unwrap().len(), 0, "and so is its row");
    stop.cancel();
}
