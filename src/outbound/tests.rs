//! Events from the outbox to a receiver on a real socket.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::testing::{Answer, Received, Receiver};
use super::*;
use crate::store::{MemoryStore, RedbStore, Store, Write};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Answers with the statuses in turn, then with 204.
async fn receiver(statuses: &[u16]) -> Receiver {
    Receiver::start("/hook", statuses, Answer::Status(204)).await
}

/// What came next, and what it was answered with.
async fn delivered(receiver: &mut Receiver) -> (HeaderMap, Bytes, u16) {
    let Received { head, body, status } = receiver.next().await;
    assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/hook"));
    (head.headers, body, status.unwrap())
}

fn configured(url: &str) -> WebhookConfig {
    let settings = WebhookSettings { url: url.to_owned(), secret: config::Secret(SECRET.to_owned()), timeout: None };
    config::read(&[settings]).unwrap().remove(0)
}

fn start(url: &str, store: &Arc<dyn Store>, policy: RetryPolicy) -> (Webhooks, CancellationToken) {
    let stop = CancellationToken::new();
    let source = "urn:headgate:gateway:7".to_owned();
    let webhooks = Webhooks::start_with(vec![configured(url)], store.clone(), source, policy, stop.clone()).unwrap();
    (webhooks, stop)
}

/// Tries again at once, so that no test waits.
fn impatient() -> RetryPolicy {
    RetryPolicy { first: Duration::from_millis(1), most: Duration::from_millis(1), ..RetryPolicy::default() }
}

fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}

fn tell(webhooks: &Webhooks, store: &Arc<dyn Store>, event: &Event) -> OutboxRow {
    let rows = webhooks.rows(event);
    let mut writes = vec![];
    assert_eq!(outbox::insert(&**store, &rows, &mut writes).unwrap(), 0);
    store.commit(&writes).unwrap();
    webhooks.wake();
    rows[0].clone()
}

fn event(subject: &str) -> Event {
    Event {
        kind: ROLLOUT_TRANSITION,
        subject: subject.to_owned(),
        at_ms: now_ms(),
        data: json!({"from": "baking", "to": "deciding"}),
    }
}

/// Written from the specification, apart from what signs: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`.
fn expected_signature(headers: &HeaderMap, body: &[u8]) -> String {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let mut key = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    key.resize(64, 0);
    let signed = [text("webhook-id").as_bytes(), b".", text("webhook-timestamp").as_bytes(), b".", body].concat();
    let pad = |byte: u8| key.iter().map(|k| k ^ byte).collect::<Vec<u8>>();
    let inner = Sha256::digest([pad(0x36), signed].concat());
    format!("v1,{}", STANDARD.encode(Sha256::digest([pad(0x5c), inner.to_vec()].concat())))
}

async fn emptied(store: &Arc<dyn Store>) {
    for _ in 0..3000 {
        if outbox::count(&**store).unwrap() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the outbox is not emptied");
}

#[tokio::test]
async fn an_event_arrives_once_signed_as_the_standard_says() {
    let mut receiver = receiver(&[]).await;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let (webhooks, stop) = start(&receiver.url, &store, impatient());
    let event = Event { at_ms: now_ms(), ..event("digits-1") };
    let row = tell(&webhooks, &store, &event);
    let (headers, body, _) = delivered(&mut receiver).await;
    assert_eq!(headers["content-type"], "application/cloudevents+json");
    assert_eq!(headers["webhook-id"], row.id.as_str());
    assert_eq!(headers["webhook-signature"], expected_signature(&headers, &body).as_str());
    let timestamp_s: u64 = headers["webhook-timestamp"].to_str().unwrap().parse().unwrap();
    assert!(timestamp_s.abs_diff(now_ms() / 1000) < 60);
    let sent: Value = serde_json::from_slice(&body).unwrap();
    let time = humantime::parse_rfc3339(sent["time"].as_str().unwrap()).unwrap();
    assert_eq!(time, std::time::UNIX_EPOCH + Duration::from_millis(event.at_ms));
    let expected = json!({
        "specversion": "1.0",
        "id": row.id,
        "source": "urn:headgate:gateway:7",
        "type": "io.headgate.rollout.transition.v1",
        "subject": "digits-1",
        "time": sent["time"],
        "datacontenttype": "application/json",
        "data": {"from": "baking", "to": "deciding"},
    });
    assert_eq!(sent, expected);
    emptied(&store).await;
    stop.cancel();
    assert_eq!(receiver.others(), 0, "delivered twice");
}

#[tokio::test]
async fn a_refused_event_is_sent_again_under_the_same_id() {
    // A redirect is not followed, and 410 is no reason to stop.
    let mut receiver = receiver(&[500, 302, 410, 503]).await;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let (webhooks, stop) = start(&receiver.url, &store, impatient());
    let row = tell(&webhooks, &store, &event("digits-1"));
    let mut bodies = vec![];
    for expected in [500, 302, 410, 503, 204] {
        let (headers, body, status) = delivered(&mut receiver).await;
        assert_eq!((headers["webhook-id"].to_str().unwrap(), status), (row.id.as_str(), expected));
        assert_eq!(headers["webhook-signature"], expected_signature(&headers, &body).as_str());
        bodies.push(body);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    emptied(&store).await;
    stop.cancel();
}

#[tokio::test]
async fn what_was_not_taken_is_delivered_after_a_restart() {
    let mut receiver = receiver(&[500]).await;
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(dir.path()).unwrap());
    // Patient: the first process does not try twice.
    let (webhooks, stop) =
        start(&receiver.url, &store, RetryPolicy { first: Duration::from_secs(3600), ..impatient() });
    let row = tell(&webhooks, &store, &event("digits-1"));
    assert_eq!(delivered(&mut receiver).await.2, 500);
    stop.cancel();
    drop((webhooks, store));
    let store: Arc<dyn Store> = loop {
        // The thread lets go of the state once it has seen that it is to stop.
        match RedbStore::open(dir.path()) {
            Ok(store) => break Arc::new(store),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let (_webhooks, stop) = start(&receiver.url, &store, impatient());
    let (headers, _, status) = delivered(&mut receiver).await;
    assert_eq!((headers["webhook-id"].to_str().unwrap(), status), (row.id.as_str(), 204));
    emptied(&store).await;
    stop.cancel();
}

#[tokio::test]
async fn an_event_that_is_too_old_is_given_up() {
    let mut receiver = receiver(&[500; 9]).await;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let policy = RetryPolicy { give_up_after: Duration::from_secs(3600), ..impatient() };
    let (webhooks, stop) = start(&receiver.url, &store, policy);
    let old = Event { at_ms: now_ms() - 3_600_001, ..event("digits-1") };
    tell(&webhooks, &store, &old);
    assert_eq!(delivered(&mut receiver).await.2, 500, "it is tried once at least");
    emptied(&store).await;
    stop.cancel();
    assert_eq!(receiver.others(), 0);
}

#[tokio::test]
async fn a_receiver_that_is_gone_takes_its_events_with_it() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let (gone, kept) = ("http://127.0.0.1:1/gone", "http://127.0.0.1:1/kept");
    let row = |url: &str| OutboxRow { id: "msg_1".into(), url: url.into(), created_ms: 1, event: json!({}) };
    let mut writes: Vec<Write> = vec![];
    outbox::insert(&*store, &[row(gone), row(kept)], &mut writes).unwrap();
    store.commit(&writes).unwrap();
    assert_eq!(outbox::forget_others(&*store, &[kept]).unwrap(), 1);
    assert_eq!(outbox::waiting_for(&*store, kept).unwrap(), [row(kept)]);
    assert!(outbox::waiting_for(&*store, gone).unwrap().is_empty());
}

#[test]
fn without_receivers_there_is_nothing_to_send() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let webhooks = Webhooks::start(vec![], store, String::new(), CancellationToken::new()).unwrap();
    assert!(webhooks.rows(&event("digits-1")).is_empty());
    webhooks.wake();
}

#[test]
fn webhooks_that_cannot_be_are_refused_without_showing_the_secret() {
    let settings = |url: &str, secret: &str, timeout: Option<&str>| WebhookSettings {
        url: url.to_owned(),
        secret: config::Secret(secret.to_owned()),
        timeout: timeout.map(str::to_owned),
    };
    let good = || settings("http://127.0.0.1:9000/hook", SECRET, Some("500ms"));
    let read = config::read(&[good()]).unwrap();
    assert_eq!((read[0].timeout, read[0].key.len()), (Duration::from_millis(500), 24));
    for (list, at, text) in [
        (vec![good(), settings("ftp://example.org/h", SECRET, None)], 1, "url expects an address such as"),
        (vec![settings("127.0.0.1:9000", SECRET, None)], 0, "url expects an address such as"),
        (vec![settings("/hook", SECRET, None)], 0, "url expects an address such as"),
        (vec![good(), good()], 1, "is named twice"),
        (vec![settings("http://a", "sesame", None)], 0, "got a text that does not begin with whsec_"),
        (vec![settings("http://a", "whsec_sesame!", None)], 0, "got a text that is not base64"),
        (vec![settings("http://a", "whsec_c2VzYW1l", None)], 0, "got 6 bytes"),
        (vec![settings("http://a", SECRET, Some("0s"))], 0, "timeout expects a time longer than 0"),
        (vec![settings("http://a", SECRET, Some("soon"))], 0, "got 'soon'"),
        (vec![good(); 17], 16, "at most 16 are possible, got 17"),
    ] {
        let (got, fault) = config::read(&list).unwrap_err();
        assert!(got == at && fault.to_string().contains(text), "{got}: {fault}");
        assert!(!fault.to_string().contains("sesame") && !format!("{list:?}").contains("sesame"), "{fault}");
    }
}

#[test]
fn a_receiver_over_https_is_accepted_and_has_a_client() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let stop = CancellationToken::new();
    let source = String::new();
    let webhooks = Webhooks::start(vec![configured("https://example.org/hook")], store, source, stop.clone()).unwrap();
    assert_eq!(webhooks.rows(&event("digits-1")).len(), 1);
    stop.cancel();
}
