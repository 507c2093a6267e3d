//! The prediction log as the admin API shows it.

use std::sync::Mutex;

use super::*;
use crate::prediction_log::quality::{Figures, Fill, QualityReport, SegmentReport};

fn served(log: LogAdmin) -> impl FnOnce(Arc<DataPlane>, ManagerHandle, RolloutHandle) -> Router {
    let audit = Arc::new(AuditLog::open(None).unwrap());
    move |plane, manager, rollouts| router(plane, manager, rollouts, recorder::install().unwrap(), (audit, log))
}

#[tokio::test]
async fn stats_say_where_the_log_lies_and_what_became_of_rows() {
    let serve = served(LogAdmin { directory: Some("data".into()), incarnation: 5, ..LogAdmin::off() });
    let server = Server::serve(|plane, manager, rollouts| {
        let counts = plane.log.counts_of("iris");
        counts.written.store(7, std::sync::atomic::Ordering::Relaxed);
        counts.dropped_ring.store(2, std::sync::atomic::Ordering::Relaxed);
        serve(plane, manager, rollouts)
    });
    let server = server.await;
    let (status, stats) = server.call("GET", "/admin/v1/log/stats", "").await;
    assert_eq!(status, 200);
    let absolute = std::env::current_dir().unwrap().join("data");
    assert_eq!((&stats["directory"], &stats["incarnation"]), (&json!(absolute), &json!(5)));
    assert_eq!((&stats["models"]["iris"]["written"], &stats["models"]["iris"]["dropped_ring"]), (&json!(7), &json!(2)));
    let read: view::LogStats = serde_json::from_value(stats).unwrap();
    assert_eq!(read.dropped(), Some(2));
}

#[tokio::test]
async fn sealing_asks_each_table_and_says_whether_all_is_done() {
    for (predictions, feedback, expected) in [(true, true, true), (false, true, false)] {
        let asked = Arc::new(Mutex::new(vec![]));
        let seal = |name: &'static str, done: bool| -> SealNow {
            let asked = asked.clone();
            Arc::new(move |_| {
                asked.lock().unwrap().push(name);
                done
            })
        };
        let seal = vec![seal("predictions", predictions), seal("feedback", feedback)];
        let log = LogAdmin { directory: Some("data".into()), seal, ..LogAdmin::off() };
        let server = Server::serve(served(log)).await;
        let (status, answer) = server.call("POST", "/admin/v1/log/seal", "").await;
        assert_eq!((status.as_u16(), answer), (200, json!({"sealed": expected})));
        assert_eq!(*asked.lock().unwrap(), ["predictions", "feedback"]);
    }
}

#[tokio::test]
async fn without_a_data_directory_there_is_nothing_to_seal() {
    let server = Server::start().await;
    let (_, stats) = server.call("GET", "/admin/v1/log/stats", "").await;
    assert_eq!((&stats["directory"], &stats["models"]), (&Value::Null, &json!({})));
    let (status, answer) = server.call("POST", "/admin/v1/log/seal", "").await;
    assert!(status == 409 && answer["error"].as_str().unwrap().contains("--data-dir"), "{answer}");
}

#[test]
fn openapi_has_every_field_of_the_log() {
    let document: Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let figures = Figures::default;
    let segment = SegmentReport { column: String::new(), value: String::new(), figures: figures() };
    let quality = QualityReport {
        model: String::new(),
        version: 1,
        arm: String::new(),
        task: String::new(),
        output: String::new(),
        feedback: String::new(),
        since_ms: 0,
        until_ms: 0,
        unreadable: 0,
        figures: figures(),
        label_delay: vec![],
        segments: vec![],
    };
    for (schema, value) in [
        ("QualityList", serde_json::to_value(view::QualityList::of(vec![], Fill::default())).unwrap()),
        ("Quality", serde_json::to_value(quality).unwrap()),
        ("QualitySegment", serde_json::to_value(segment).unwrap()),
        ("LogStats", serde_json::to_value(view::LogStats::default()).unwrap()),
        ("LogCounts", serde_json::to_value(view::LogCounts::default()).unwrap()),
        ("LogWriter", serde_json::to_value(view::LogWriter::default()).unwrap()),
        ("LogSealed", serde_json::to_value(view::LogSealed { sealed: true }).unwrap()),
    ] {
        assert_eq!(keys(&document["components"]["schemas"][schema]["properties"]), keys(&value), "{schema}");
    }
}
