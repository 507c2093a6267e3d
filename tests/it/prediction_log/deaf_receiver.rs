//! Who listens to rows and does not answer, refuses or is away costs events and nothing else: predictions are answered, the
//! log is written, and every event is counted once.

use headgate::prediction_log::table::Table;
use serde_json::json;

use super::receiver::Receiver;
use super::site::{Site, read};
use crate::support::eventually;
use crate::support::repository::TempDir;

const ROWS: usize = 200;
/// Events that may wait, two for each row.
const MAX_WAITING: usize = 20;

async fn rows_are_told_to(url: &str) -> (u64, u64) {
    let repository = TempDir::new();
    repository.add_with_manifest("iris_logreg", "iris", 1);
    let events = json!({"url": url, "timeout": "100ms", "max_waiting": MAX_WAITING});
    let site = Site::start(repository, &json!({"sync_interval": "20ms", "events": events}));
    let counted =
        |outcome: &str| site.server.metric(&format!(r#"headgate_log_events_total{{outcome="{outcome}"}}"#)) as u64;
    for _ in 0..ROWS {
        site.infer("iris", &[5.0, 3.0, 1.0, 0.2]).await;
        assert!(site.server.metric("headgate_log_events_waiting") <= MAX_WAITING as f64);
    }
    let (given_up, dropped) = eventually("every event has ended", async || {
        let counts = (counted("given_up"), counted("dropped"));
        if counts.0 + counts.1 == 2 * ROWS as u64 { Ok(counts) } else { Err(format!("{counts:?}")) }
    })
    .await;
    println!("{url}: {given_up} events given up, {dropped} dropped");
    assert!(given_up >= MAX_WAITING as u64 && dropped > 0);
    assert_eq!((counted("delivered"), counted("failed")), (0, 4 * given_up), "each is sent four times");
    assert_eq!(site.server.metric("headgate_log_events_waiting"), 0.0);
    let (_, data) = site.ended().await;
    assert_eq!(read(data.path(), Table::Predictions).len(), ROWS);
    (given_up, dropped)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_refuses_gets_each_event_four_times() {
    let receiver = Receiver::answering(Some("503 Service Unavailable"));
    let (given_up, _) = rows_are_told_to(&receiver.url).await;
    assert_eq!(receiver.bodies().len() as u64, 4 * given_up);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_hangs_holds_up_nobody() {
    let receiver = Receiver::answering(None);
    rows_are_told_to(&receiver.url).await;
    assert!(!receiver.bodies().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_away_holds_up_nobody() {
    // Nobody but the system may listen there, and it does not.
    rows_are_told_to("http://127.0.0.1:1/events").await;
}
