//! A disk that stands still, or is slow, costs rows and nothing else: predictions are answered, and what was not written is
//! counted to the row.

mod disk;
mod required;

use std::collections::BTreeSet;

use headgate::prediction_log::table::Table;
use serde_json::{Value, json};

use self::disk::Disk;
use super::site::{Site, read};
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::repository::TempDir;

/// Requests that may wait for the writer, so that a disk that stands still is soon felt.
const RING_ENTRIES: usize = 16;

fn settings() -> Value {
    let log = json!({"sync_interval": "20ms", "segment_age": "1h", "ring_entries": RING_ENTRIES});
    json!({"prediction_log": log, "drain_timeout": "1s"})
}

fn site(disk: &Disk) -> Site {
    let repository = TempDir::new();
    repository.add_with_manifest("iris_logreg", "iris", 1);
    let data = TempDir::new();
    let variables = disk.below(data.path());
    Site::start_with(repository, data, &settings(), &variables)
}

/// Predictions, one row each, all of which must be answered.
struct Asking {
    http: Http,
    ids: BTreeSet<String>,
}

impl Asking {
    fn new(site: &Site) -> Self {
        Self { http: Http::new(site.server.http), ids: BTreeSet::new() }
    }

    async fn ask(&mut self, times: usize) {
        let body = r#"{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[5,3,1,0.2]}]}"#;
        for _ in 0..times {
            let answer = self.http.post("/v2/models/iris/infer", body).await;
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
            assert!(self.ids.insert(answer.header("headgate-prediction-id").to_owned()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn predictions_go_on_while_the_disk_stands_still_and_the_log_does_after_it() {
    let disk = Disk::new();
    let site = site(&disk);
    let mut asking = Asking::new(&site);
    asking.ask(1).await;
    site.predictions(1).await;
    disk.halt();
    eventually("the ring is full and nobody takes from it", async || {
        let before = (site.counted("iris", "written"), site.counted("iris", "dropped_ring"));
        asking.ask(50).await;
        let after = (site.counted("iris", "written"), site.counted("iris", "dropped_ring"));
        if after == (before.0, before.1 + 50) { Ok(()) } else { Err(format!("{before:?}, {after:?}")) }
    })
    .await;
    disk.go_on();
    every_row_is_written_or_counted(site, asking).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn predictions_do_not_wait_for_a_slow_disk() {
    let disk = Disk::new();
    let site = site(&disk);
    let mut asking = Asking::new(&site);
    asking.ask(1).await;
    site.predictions(1).await;
    disk.slow_down(50);
    eventually("drops", async || {
        asking.ask(RING_ENTRIES).await;
        let (written, dropped) = (site.counted("iris", "written"), site.counted("iris", "dropped_ring"));
        if written > 50 && dropped > 50 { Ok(()) } else { Err(format!("{written} written, {dropped} dropped")) }
    })
    .await;
    disk.go_on();
    every_row_is_written_or_counted(site, asking).await;
}

/// The log goes on by itself, each answered request is a row or a drop, and the gaps in the rows' numbers are the drops.
async fn every_row_is_written_or_counted(site: Site, mut asking: Asking) {
    let written = site.counted("iris", "written");
    eventually("rows again", async || {
        asking.ask(1).await;
        if site.counted("iris", "written") > written { Ok(()) } else { Err("nothing is written".to_owned()) }
    })
    .await;
    let (written, dropped) = eventually("every row counted", async || {
        let counts = (site.counted("iris", "written"), site.counted("iris", "dropped_ring"));
        let asked = asking.ids.len() as u64;
        if counts.0 + counts.1 == asked { Ok(counts) } else { Err(format!("{counts:?} of {asked}")) }
    })
    .await;
    assert_eq!(site.counted("iris", "dropped_disk"), 0);
    println!("{} predictions: {written} rows written, {dropped} dropped", asking.ids.len());
    let (_, data) = site.ended().await;
    let rows = read(data.path(), Table::Predictions);
    let ids: BTreeSet<String> = rows.iter().map(|row| row["prediction_id"].clone()).collect();
    assert_eq!((rows.len() as u64, ids.len() as u64), (written, written), "what was counted as written is there once");
    assert!(ids.is_subset(&asking.ids));
    let numbers: BTreeSet<u64> = rows.iter().map(|row| row["seq"].parse().unwrap()).collect();
    let gaps = numbers.last().unwrap() + 1 - numbers.len() as u64;
    assert_eq!(gaps, dropped, "gaps in the sequence are the drops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_ends_though_its_disk_stands_still() {
    let disk = Disk::new();
    let site = site(&disk);
    let mut asking = Asking::new(&site);
    asking.ask(3).await;
    let id = asking.ids.first().unwrap().clone();
    site.feedback(&json!({"prediction_id": id, "value": 1})).await;
    site.predictions(3).await;
    disk.halt();
    asking.ask(3 * RING_ENTRIES).await;
    // Feedback is answered when it is written, so this call hangs: at the end there are rows of both tables to write.
    let http = Http::new(site.server.http);
    let told = tokio::spawn(async move {
        let item = json!({"prediction_id": id, "value": 2}).to_string();
        http.send(http::Request::post("/"), "/v2/feedback", item).await.map(|answer| answer.status)
    });
    let Site { repository, data, mut server } = site;
    server.signal("TERM");
    assert!(server.ends().await.success(), "{}", server.log());
    assert_ne!(told.await.unwrap(), Ok(200), "what was not written was not taken");
    // The next server, on a disk that works again, finds what was written.
    let site = Site::start_with(repository, data, &settings(), &[]);
    let ids: BTreeSet<String> = site.predictions(3).await.iter().map(|row| row["prediction_id"].clone()).collect();
    assert!(ids.is_subset(&asking.ids));
    assert_eq!(site.rows(Table::Feedback, 1).await.len(), 1);
}
