//! Receivers that are slow, that fail or that are not there: the writer never waits, and every event is accounted for.

use bytes::Bytes;

use super::*;

#[tokio::test]
async fn a_slow_receiver_gets_what_there_was_room_for_and_the_rest_is_counted() {
    let mut receiver = receiver(&[], Answer::Never).await;
    let (events, stop) = start(&config(&receiver.url, json!({"max_waiting": 10})));
    // Nothing ends while nobody answers, so what is taken follows from the room alone.
    for (rows, waiting, dropped) in [(3, 6, 0), (4, 10, 4), (5, 10, 14), (1, 10, 16)] {
        events.offer(&simple(rows));
        assert_eq!(events.load().counts(), counts(waiting, 0, 0, dropped), "{rows} rows");
    }
    assert!(!events.load().finish(Duration::from_millis(20)).await, "the end does not wait for ever");
    receiver.answer.send_replace(Answer::Status(202));
    assert!(events.load().finish(Duration::from_secs(60)).await);
    assert_eq!(settled(&events).await, counts(0, 10, 0, 16));
    assert_eq!(receiver.others(), 10);
    // There is room again.
    events.offer(&simple(2));
    assert_eq!(settled(&events).await, counts(0, 14, 0, 16));
    stop.cancel();
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_a_few_times_and_each_event_given_up_once() {
    let mut receiver = receiver(&[], Answer::Status(503)).await;
    let (events, stop) = start(&config(&receiver.url, json!({})));
    events.offer(&simple(25));
    assert_eq!(settled(&events).await, counts(0, 0, 50, 0));
    assert_eq!(receiver.others(), 50 * delivery::MAX_ATTEMPTS as usize);
    receiver.answer.send_replace(Answer::Status(200));
    events.offer(&simple(1));
    assert_eq!(settled(&events).await, counts(0, 2, 50, 0));
    stop.cancel();
}

#[tokio::test]
async fn an_event_that_is_refused_at_first_arrives_unchanged() {
    // A redirect is a refusal: it is not followed.
    let mut receiver = receiver(&[500, 307], Answer::Status(204)).await;
    let (events, stop) = start(&config(&receiver.url, json!({"max_waiting": 2})));
    events.offer(&simple(1));
    assert_eq!(settled(&events).await, counts(0, 2, 0, 0));
    let mut bodies: Vec<Bytes> = vec![];
    for _ in 0..4 {
        bodies.push(next_event(&mut receiver).await.1);
    }
    bodies.sort();
    bodies.dedup();
    assert_eq!((bodies.len(), receiver.others()), (2, 0), "two events, each as it was");
    stop.cancel();
}

#[tokio::test]
async fn a_receiver_that_is_not_there_costs_the_events_alone() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (events, stop) = start(&config(&format!("http://{address}/events"), json!({"max_waiting": 100})));
    events.offer(&simple(50));
    assert_eq!(settled(&events).await, counts(0, 0, 100, 0));
    stop.cancel();
}

#[tokio::test]
async fn what_waits_is_bounded_in_bytes_by_whole_batches() {
    let receiver = receiver(&[], Answer::Never).await;
    let (events, stop) = start(&config(&receiver.url, json!({"max_waiting": 1_000_000})));
    let long = "x".repeat(MAX_WAITING_BYTES + 1);
    let mut columns = standard(2);
    let text = noted("in_t", &ArrowType::Utf8, &[("side", "in"), ("tensor", "t"), ("datatype", "BYTES"), ("cut", "0")]);
    columns.push((text, texts(&[&long, ""])));
    let large = batch(columns);
    events.offer(&large);
    assert_eq!(events.load().counts(), counts(4, 0, 0, 0), "it is taken by itself");
    events.offer(&simple(3));
    assert_eq!(events.load().counts(), counts(4, 0, 0, 6), "and nothing beside it");
    receiver.answer.send_replace(Answer::Status(200));
    assert_eq!(settled(&events).await, counts(0, 4, 0, 6));
    stop.cancel();
}

#[tokio::test]
async fn more_batches_than_there_are_places_for_are_dropped() {
    let receiver = receiver(&[], Answer::Never).await;
    let (events, stop) = start(&config(&receiver.url, json!({"max_waiting": 1_000_000})));
    let one = simple(1);
    let offered = 2 * MAX_BATCHES as u64;
    (0..offered).for_each(|_| events.offer(&one));
    let found = events.load().counts();
    assert_eq!(found.waiting + found.dropped, 2 * offered);
    // Beside the places some are under way.
    assert!(found.waiting >= 2 * MAX_BATCHES as u64 && found.waiting < 2 * MAX_BATCHES as u64 + 100, "{found:?}");
    stop.cancel();
}
