//! Clients of the wire, as thin as can be.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use headgate::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;

/// An HTTP client with connections kept alive.
#[derive(Clone)]
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    pub address: SocketAddr,
}

/// Status, headers and body.
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|cause| panic!("{cause} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body's `error`, of an answer that has one.
    pub fn error(&self) -> String {
        assert_eq!(self.header("content-type"), "application/json", "{}", self.status);
        self.json()["error"].as_str().expect("an error text").to_owned()
    }
}

impl Http {
    pub fn new(address: SocketAddr) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), address }
    }

    pub async fn send(
        &self,
        request: http::request::Builder,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, String> {
        let uri = format!("http://{}{path}", self.address);
        let request = request.uri(uri).body(Full::new(body.into())).map_err(|cause| cause.to_string())?;
        let response = self.client.request(request).await.map_err(|cause| format!("{cause:?}"))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|cause| format!("{cause:?}"))?.to_bytes();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(http::Request::get("/"), path, Bytes::new()).await.unwrap()
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(http::Request::post("/"), path, body).await.unwrap()
    }

    pub async fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.post(path, body.to_string()).await
    }

    pub async fn put_json(&self, path: &str, body: &Value) -> Answer {
        let request = http::Request::put("/").header("content-type", "application/json");
        self.send(request, path, body.to_string()).await.unwrap()
    }
}

/// Status and body of a GET, without any runtime; status 0 when nothing answers.
pub fn get_blocking(address: SocketAddr, path: &str) -> (u16, String) {
    let ask = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().unwrap_or_default();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

/// A gRPC client without limits of its own.
pub async fn grpc(address: SocketAddr) -> GrpcInferenceServiceClient<tonic::transport::Channel> {
    GrpcInferenceServiceClient::connect(format!("http://{address}"))
        .await
        .unwrap()
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX)
}
