//! Feedback over the wire, kept by a log whose disk is a list.

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::*;
use crate::prediction_log::feedback::testing::{Kept, feedback_log, prediction};
use crate::proto::headgate::v1::feedback::{Subject, Value};
use crate::proto::headgate::v1::feedback_service_client::FeedbackServiceClient;
use crate::proto::headgate::v1::{Feedback, FeedbackBatch, FeedbackSummary, RequestRow};

async fn server() -> (Served, Kept) {
    let (log, kept) = feedback_log();
    let mut plane = data_plane(&[]);
    Arc::get_mut(&mut plane).unwrap().feedback = log;
    (start(plane, GrpcConfig::default()).await, kept)
}

async fn send(server: &Served, batches: Vec<Vec<Feedback>>) -> Result<FeedbackSummary, Status> {
    let mut client = FeedbackServiceClient::new(server.channel().await);
    let batches: Vec<FeedbackBatch> = batches.into_iter().map(|items| FeedbackBatch { items }).collect();
    let sent = client.send_feedback(tokio_stream::iter(batches));
    timeout(PATIENCE, sent).await.unwrap().map(|answer| answer.into_inner())
}

fn about(id: &str, value: Value) -> Feedback {
    Feedback { subject: Some(Subject::PredictionId(id.to_owned())), value: Some(value), ..Feedback::default() }
}

#[tokio::test]
async fn batches_of_a_stream_are_kept_and_credited() {
    let (server, kept) = server().await;
    let time = prost_types::Timestamp { seconds: 1_772_366_400, nanos: 500_000_000 };
    let of_request = Subject::Request(RequestRow { id: "seen".to_owned(), row_index: 1 });
    let batches = vec![
        vec![about(&prediction(1, 0), Value::Number(3.0)), about(&prediction(2, 0), Value::Label("cat".into()))],
        vec![],
        vec![Feedback {
            subject: Some(of_request),
            name: "click".to_owned(),
            event_time: Some(time),
            source: "app".to_owned(),
            weight: Some(2.0),
            ..about("", Value::Flag(true))
        }],
    ];
    let summary = send(&server, batches).await.unwrap();
    assert_eq!(summary, FeedbackSummary { accepted: 3, ..FeedbackSummary::default() });
    assert_eq!(kept.rows(), ["m 10 stable label 3", "m 20 stable label cat", "m 10 stable click 1"]);
    let last = kept.items().pop().unwrap();
    assert_eq!((last.event_us, last.weight, last.source.as_deref()), (1_772_366_400_500_000, Some(2.0), Some("app")));
    assert_eq!(server.plane.budget.in_use(), 0);
}

#[tokio::test]
async fn bad_items_are_named_by_their_place_in_the_stream() {
    let (server, kept) = server().await;
    let good = || about(&prediction(1, 0), Value::Number(1.0));
    let nothing = Feedback { value: None, ..good() };
    let old = Feedback { event_time: Some(prost_types::Timestamp::default()), ..good() };
    let batches = vec![
        vec![good(), about("17", Value::Flag(true))],
        vec![nothing, old, about(&prediction(9, 1), Value::Flag(true))],
    ];
    let summary = send(&server, batches).await.unwrap();
    assert_eq!((summary.accepted, summary.unknown, summary.refused), (2, 0, 3));
    let errors: Vec<(u64, &str, &str)> =
        summary.errors.iter().map(|error| (error.index, error.field.as_str(), error.error.as_str())).collect();
    let time = "event_time: expected a time from the year 2000 to a day from now, numbers being Unix seconds, \
                got 0 s after 1970";
    let expected = [
        (1, "prediction_id", "prediction_id: expected the id of a prediction, a UUID of version 8, got '17'"),
        (2, "value", "value: expected a number, a text or a boolean, got nothing"),
        (3, "event_time", time),
    ];
    assert_eq!(errors, expected);
    assert_eq!(kept.rows().len(), 2);
}

#[tokio::test]
async fn a_summary_names_the_first_hundred_faults_and_counts_them_all() {
    let (server, _) = server().await;
    let summary = send(&server, vec![vec![Feedback::default(); 90], vec![Feedback::default(); 90]]).await.unwrap();
    assert_eq!((summary.refused, summary.errors.len(), summary.errors[99].index), (180, 100, 99));
}

#[tokio::test]
async fn a_batch_of_too_many_items_ends_the_stream() {
    let (server, _) = server().await;
    for (count, expected) in [
        // As HTTP has it.
        (10_001, "expected at most 10000 items of feedback at a time, got 10001"),
        (16_385, "the message has more than 16384 inputs, outputs, parameters, contents or items"),
    ] {
        let status = send(&server, vec![vec![Feedback::default(); count]]).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, expected));
    }
    let most = send(&server, vec![vec![Feedback::default(); 10_000]]).await.unwrap();
    assert_eq!(most.refused, 10_000, "each for its own fault");
}

#[tokio::test]
async fn a_log_that_is_off_or_whose_disk_refuses_ends_the_stream() {
    let item = || vec![vec![about(&prediction(1, 0), Value::Number(1.0))]];
    let off = start(data_plane(&[]), GrpcConfig::default()).await;
    let status = send(&off, item()).await.unwrap_err();
    let text = "this server keeps no feedback: it runs without a data directory (--data-dir)";
    assert_eq!((status.code(), status.message()), (Code::Unimplemented, text));
    let (server, kept) = server().await;
    kept.refuse(true);
    let status = send(&server, item()).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "feedback can't be written now: the disk refused it")
    );
    assert!(!status.details().is_empty(), "it says when to come back");
}

#[tokio::test]
async fn a_drain_ends_a_stream_that_is_still_sent_to() {
    let (server, kept) = server().await;
    let (batches, receiver) = mpsc::channel(10);
    let mut client = FeedbackServiceClient::new(server.channel().await);
    batches.send(FeedbackBatch { items: vec![about(&prediction(1, 0), Value::Number(1.0))] }).await.unwrap();
    let call = tokio::spawn(async move { client.send_feedback(ReceiverStream::new(receiver)).await });
    let taken_in = async {
        while kept.rows().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, taken_in).await.unwrap();
    server.drain.cancel();
    let status = timeout(PATIENCE, call).await.unwrap().unwrap().unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the server is shutting down"));
}
