//! `kill -9` at any moment: what is published is whole, nothing is there twice, and what is missing is younger than a
//! sync interval.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use headgate::prediction_log::table::Table;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;

use super::site::{Row, Site, read};
use crate::support::client::Http;
use crate::support::repository::TempDir;
use crate::support::scaled;

/// Rows that were answered before this and the kill must be there. The writer looks every few milliseconds and appends at
/// the interval; the rest is for a busy machine, and for a busy disk what [`Disk`] measures.
const SYNC: Duration = Duration::from_millis(100);
const SLACK: Duration = Duration::from_millis(400);
/// Syncs that a row may wait for at most: those of a segment that ends, of the next one's beginning, and its own.
const SYNCS: u32 = 4;
const CLIENTS: usize = 4;

const BODY: &str = r#"{"inputs":[{"name":"X","shape":[2,4],"datatype":"FP32","data":[5,3,1,0.2,6,3,4,1.3]}]}"#;

/// Prediction ids of first rows, and when each was answered.
type Answered = Arc<Mutex<Vec<(String, Instant)>>>;

/// Syncs a file beside the server, again and again, to know how long that takes.
struct Disk {
    longest: Arc<Mutex<Duration>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    fn watch(folder: &Path) -> Self {
        let (longest, ends) = (Arc::<Mutex<Duration>>::default(), Arc::<AtomicBool>::default());
        let mut file = File::create(folder.join("synced-beside")).unwrap();
        let (to, until) = (longest.clone(), ends.clone());
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                let begun = Instant::now();
                file.write_all(&[0; 4096]).unwrap();
                file.sync_data().unwrap();
                let mut longest = to.lock().unwrap();
                *longest = longest.max(begun.elapsed());
                drop(longest);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { longest, ends, thread: Some(thread) }
    }

    /// What a row may wait for, by what was measured so far.
    fn wait(&self) -> Duration {
        *self.longest.lock().unwrap() * SYNCS
    }

    /// The same with the sync that is under way.
    fn ended(mut self) -> Duration {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.wait()
    }
}

async fn client(http: Http, answered: Answered) {
    // Ends with the server.
    while let Ok(answer) = http.send(http::Request::post("/"), "/v2/models/iris/infer", BODY.to_owned()).await {
        if answer.status == 200 {
            let id = answer.header("headgate-prediction-id").to_owned();
            answered.lock().unwrap().push((id, Instant::now()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kills_under_load_lose_nothing_that_is_older_than_a_sync_interval() {
    let kills = scaled("kills", 200);
    let (repository, beside) = (TempDir::new(), TempDir::new());
    repository.add_with_manifest("iris_logreg", "iris", 1);
    // Segments are sealed often, so that kills meet that too.
    let settings = json!({"sync_interval": "100ms", "segment_bytes": 65_536, "segment_age": "300ms"});
    let mut site = Site::start(repository, &settings);
    let (mut due, mut unsure) = (BTreeSet::new(), 0);
    for kill in 0..kills {
        let answered = Answered::default();
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| tokio::spawn(client(Http::new(site.server.http), answered.clone()))).collect();
        let disk = Disk::watch(beside.path());
        let wait = Duration::from_millis(100 + (kill as u64 * 7919) % 900);
        tokio::time::sleep(wait).await;
        tokio::time::sleep(disk.wait()).await;
        let killed = Instant::now();
        site = site.torn_away();
        let disk = disk.ended();
        for client in clients {
            client.await.unwrap();
        }
        for (id, at) in answered.lock().unwrap().drain(..) {
            if killed.saturating_duration_since(at) > SYNC + SLACK + disk {
                due.insert(id);
            } else {
                unsure += 1;
            }
        }
    }
    let (_, data) = site.ended().await;
    let rows = read(data.path(), Table::Predictions);
    println!("{kills} kills: {} rows, {} answers that must be there, {unsure} that may be", rows.len(), due.len());
    assert!(due.len() > kills, "hardly any answers");
    each_row_is_there_once(&rows);
    let there: BTreeSet<&str> = rows.iter().map(|row| row["prediction_id"].as_str()).collect();
    let lost: Vec<&String> = due.iter().filter(|id| !there.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} lost, such as {:?}", lost.len(), due.len(), lost[0]);
    sequences_have_no_gaps(&rows);
    assert!(published_files(data.path()) > 0);
}

fn each_row_is_there_once(rows: &[Row]) {
    let mut seen = BTreeSet::new();
    for row in rows {
        assert!(seen.insert(&row["prediction_id"]), "{} is there twice", row["prediction_id"]);
    }
}

/// Nothing was dropped, so no number is missing but at the end of a process.
fn sequences_have_no_gaps(rows: &[Row]) {
    let mut numbers: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for row in rows {
        numbers.entry(&row["incarnation"]).or_default().insert(row["seq"].parse().unwrap());
    }
    for (incarnation, numbers) in numbers {
        let expected: BTreeSet<u64> = (0..numbers.len() as u64).collect();
        assert_eq!(numbers, expected, "process {incarnation}");
    }
}

/// Opens every sealed file to its end.
fn published_files(data_dir: &Path) -> usize {
    let mut folders = vec![data_dir.join(Table::Predictions.name())];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "parquet") {
                let file = std::fs::File::open(&entry).unwrap();
                let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
                assert!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>() > 0, "{entry:?}");
                files += 1;
            }
        }
    }
    files
}
