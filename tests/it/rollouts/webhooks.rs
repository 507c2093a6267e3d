//! A receiver hears of each transition, signed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::operator::Site;
use super::{long_step, quick_with};
use crate::support::PATIENCE;
use crate::support::repository::TempDir;

const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

type Delivered = (HeaderMap, Bytes);

/// A receiver on loopback: its address, and what comes.
async fn receiver() -> (String, mpsc::UnboundedReceiver<Delivered>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (told, delivered) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let told = told.clone();
            let answer = service_fn(move |request: Request<Incoming>| {
                let told = told.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let _ = told.send((parts.headers, body.collect().await?.to_bytes()));
                    Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::new())))
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    (url, delivered)
}

/// As Standard Webhooks specify: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`.
fn signature(headers: &HeaderMap, body: &[u8]) -> String {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let mut key = STANDARD.decode(SECRET).unwrap();
    key.resize(64, 0);
    let signed = [text("webhook-id").as_bytes(), b".", text("webhook-timestamp").as_bytes(), b".", body].concat();
    let pad = |byte: u8| key.iter().map(|k| k ^ byte).collect::<Vec<u8>>();
    let inner = Sha256::digest([pad(0x36), signed].concat());
    format!("v1,{}", STANDARD.encode(Sha256::digest([pad(0x5c), inner.to_vec()].concat())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_transition_is_told_with_a_signature() {
    let (url, mut delivered) = receiver().await;
    let config = TempDir::new();
    let webhooks = json!({"webhooks": [{"url": url, "secret": format!("whsec_{SECRET}")}]});
    config.write("headgate.yaml", webhooks.to_string());
    let file = config.path().join("headgate.yaml");
    let versions = [(1, "digits_cnn_v1"), (2, "digits_cnn_v2")];
    let site = Site::with("labels: {stable: 1}", &versions, &["--config", file.to_str().unwrap()]);
    site.begin(2, &quick_with(&json!({"steps": long_step(1000)}))).await;
    site.reaches("baking").await;
    site.act("abort").await;
    site.reaches("aborted").await;

    let transitions = site.transitions().await;
    // At least once and in no order: by the number of the transition.
    let mut told = BTreeMap::new();
    while told.len() < transitions.len() {
        let next = tokio::time::timeout(PATIENCE, delivered.recv()).await;
        let (headers, body) = next.unwrap_or_else(|_| panic!("{} of {}", told.len(), transitions.len())).unwrap();
        assert_eq!(headers["webhook-signature"].to_str().unwrap(), signature(&headers, &body));
        assert_eq!(headers["content-type"], "application/cloudevents+json");
        let event: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&event["specversion"], &event["subject"]), (&json!("1.0"), &json!("digits-1")), "{event}");
        assert_eq!(event["type"], "io.headgate.rollout.transition.v1");
        assert_eq!(event["id"], headers["webhook-id"].to_str().unwrap());
        let data = &event["data"];
        assert_eq!((&data["route"], &data["stable"], &data["candidate"]), (&json!("digits"), &json!(1), &json!(2)));
        told.insert(data["transition"]["number"].as_u64().unwrap(), data["transition"].clone());
    }
    assert_eq!(told.into_values().collect::<Vec<_>>(), transitions);
}
