//! Feedback over HTTP, kept by a log whose disk is a list.

use serde_json::json;

use super::*;
use crate::prediction_log::feedback::testing::{Kept, feedback_log, prediction};

/// A client, and what its feedback became.
fn client() -> (Client, Kept) {
    let (log, kept) = feedback_log();
    let mut plane = testing::data_plane(&[]);
    Arc::get_mut(&mut plane).unwrap().feedback = log;
    (Client::on(plane), kept)
}

const PATH: &str = "/v2/feedback";

#[tokio::test]
async fn one_item_or_many_are_kept_and_credited() {
    let (client, kept) = client();
    let one = json!({"prediction_id": prediction(1, 0), "value": 3});
    let answer = client.post_json(PATH, &one.to_string()).await.ok().json();
    assert_eq!(answer, json!({"accepted": 1, "unknown": 0}));
    let many = json!([
        {"prediction_id": prediction(2, 0), "name": "click", "value": true, "event_time": "2026-03-01T12:00:00Z"},
        {"prediction_id": prediction(2, 1), "value": "cat", "event_time": 1_772_366_400.5, "source": "app", "weight": 2},
        {"request_id": "seen", "row_index": 1, "value": 0.5},
    ]);
    let answer = client.post_json(PATH, &many.to_string()).await.ok().json();
    assert_eq!(answer, json!({"accepted": 3, "unknown": 0}));
    let expected = ["m 10 stable label 3", "m 20 stable click 1", "m 20 stable label cat", "m 10 stable label 0.5"];
    assert_eq!(kept.rows(), expected);
    let times: Vec<i64> = kept.items().iter().map(|item| item.event_us).collect();
    assert_eq!(times[1..3], [1_772_366_400_000_000, 1_772_366_400_500_000]);
}

#[tokio::test]
async fn what_is_sent_again_is_accepted_and_kept_once() {
    let (client, kept) = client();
    let item = json!({"prediction_id": prediction(1, 0), "value": 3, "event_time": 1_772_366_400});
    for _ in 0..3 {
        let answer = client.post_json(PATH, &json!([item, item]).to_string()).await.ok().json();
        assert_eq!(answer, json!({"accepted": 2, "unknown": 0}));
    }
    assert_eq!(kept.rows(), ["m 10 stable label 3"]);
}

#[tokio::test]
async fn an_unknown_prediction_is_kept_and_counted() {
    let (client, kept) = client();
    let elsewhere = "019ca949-0a80-8fff-8000-008000000001";
    let items = json!([{"prediction_id": elsewhere, "value": 1}, {"prediction_id": prediction(1, 0), "value": 1}]);
    let answer = client.post_json(PATH, &items.to_string()).await.ok().json();
    assert_eq!(answer, json!({"accepted": 2, "unknown": 1}));
    assert_eq!(kept.rows(), ["nobody label 1", "m 10 stable label 1"]);
}

#[tokio::test]
async fn bad_items_are_named_and_the_good_ones_kept() {
    let (client, kept) = client();
    let items = json!([
        {"prediction_id": prediction(1, 0), "value": 1},
        {"prediction_id": "17", "value": 1},
        {"prediction_id": prediction(1, 1), "value": [1]},
        {"prediction_id": prediction(1, 1), "value": 1, "event_time": "today"},
        {"prediction_id": prediction(1, 1), "value": 1, "wieght": 1},
        {"prediction_id": prediction(1, 1), "value": 1, "row_index": -1},
        {"prediction_id": 5, "value": 1},
        7,
        {"prediction_id": prediction(1, 2), "value": 2},
    ]);
    let answer = client.post_json(PATH, &items.to_string()).await;
    let id_fault = "prediction_id: expected the id of a prediction, a UUID of version 8, got '17'";
    assert_eq!(answer.error(400), format!("item 1: {id_fault} (and 6 more)"));
    let reply = answer.json();
    assert_eq!((&reply["accepted"], &reply["unknown"]), (&json!(2), &json!(0)));
    let time = "event_time: expected a time as RFC 3339 writes it, such as 2026-03-01T12:00:00Z, or Unix seconds, \
                got 'today'";
    let expected = json!([
        {"index": 1, "error": id_fault},
        {"index": 2, "error": "value: expected a number, a text or a boolean, got an array"},
        {"index": 3, "error": time},
        {"index": 4, "error":
            "wieght: expected a member that items have (did you mean 'weight'?), got one that they don't have"},
        {"index": 5, "error": "row_index: expected a whole number, got -1"},
        {"index": 6, "error": "prediction_id: expected a text, got 5"},
        {"index": 7, "error": "item: expected an object, got 7"},
    ]);
    assert_eq!(reply["errors"], expected);
    assert_eq!(kept.rows(), ["m 10 stable label 1", "m 10 stable label 2"]);
}

#[tokio::test]
async fn a_body_that_holds_no_items_is_refused_whole() {
    let (client, kept) = client();
    for body in ["", "{", "7", "\"x\"", "[{}", r#"{"value": 1e999}"#] {
        let text = client.post_json(PATH, body).await.error(400);
        assert!(text.starts_with("failed to parse the request JSON buffer: "), "{text}");
    }
    let single = client.post_json(PATH, "{}").await.error(400);
    assert_eq!(single, "item 0: prediction_id: expected prediction_id or request_id, got neither");
    let twice = format!(r#"{{"prediction_id": "{}", "value": 1, "value": 2}}"#, prediction(1, 0));
    let twice = client.post_json(PATH, &twice).await.error(400);
    assert_eq!(twice, "item 0: value: expected it once in an item, got it twice");
    let item = json!({"prediction_id": prediction(1, 0), "value": 1});
    let many = vec![item; 10_001];
    let text = client.post_json(PATH, &json!(many).to_string()).await.error(400);
    assert_eq!(text, "expected at most 10000 items of feedback at a time, got 10001");
    assert!(kept.rows().is_empty());
    client.post_json(PATH, "[]").await.ok();
}

#[tokio::test]
async fn a_disk_that_refuses_is_told_and_the_call_can_be_repeated() {
    let (client, kept) = client();
    let item = json!({"prediction_id": prediction(1, 0), "value": 1, "event_time": 1_772_366_400}).to_string();
    kept.refuse(true);
    let answer = client.post_json(PATH, &item).await;
    assert_eq!(answer.error(503), "feedback can't be written now: the disk refused it");
    assert_eq!(answer.header("retry-after"), Some("1"));
    kept.refuse(false);
    client.post_json(PATH, &item).await.ok();
    assert_eq!(kept.rows(), ["m 10 stable label 1"]);
}

#[tokio::test]
async fn a_server_without_a_log_says_so() {
    let client = Client::of(&[]);
    let item = json!({"prediction_id": prediction(1, 0), "value": 1});
    let text = client.post_json(PATH, &item.to_string()).await.error(501);
    assert_eq!(text, "this server keeps no feedback: it runs without a data directory (--data-dir)");
    client.get(PATH).await.error(405);
}
