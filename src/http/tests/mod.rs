//! The room as a client sees it: whole requests into `HttpService::handle`, whole answers out.

mod agreement;
mod bad_input;
mod feedback;
mod infer;
mod splits;
mod surface;
mod v1;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;

use super::{HttpLimits, HttpService};
use crate::data_plane::DataPlane;
use crate::engine::Model;
use crate::signature::{BatchAxes, Batching, Dim, Signature, TensorSpec};
use crate::tensor::{DataType, Tensor};
use crate::testing::{self, FunctionModel};

/// A client of a service in this process.
struct Client {
    service: HttpService,
}

/// What came back.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Client {
    fn of(models: &[(&str, u64, Arc<dyn Model>)]) -> Self {
        Self::on(testing::data_plane(models))
    }

    fn on(plane: Arc<DataPlane>) -> Self {
        Self { service: HttpService { plane, limits: HttpLimits::default() } }
    }

    fn plane(&self) -> &DataPlane {
        &self.service.plane
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let answer = self.service.handle(request).await;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Full::default()).unwrap()).await
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut request = Request::post(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::new(body.into())).unwrap()).await
    }

    async fn post_json(&self, path: &str, body: &str) -> Answer {
        self.post(path, &[], body.to_owned()).await
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The text of an error answer, which has the form that every client can read.
    #[track_caller]
    fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{:?}", self.body);
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert!(self.header("x-request-id").is_some());
        self.json()["error"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{:?}", self.body);
        assert!(self.header("x-request-id").is_some());
        self
    }
}

/// A request body with a JSON head and binary tensors behind it, and the length of the head as its header wants it.
fn with_head(head: &str, tensors: &[&[u8]]) -> (String, Bytes) {
    (head.len().to_string(), [head.as_bytes(), &tensors.concat()].concat().into())
}

fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// `x` of `[N, 2]` comes back as `x_out`.
fn identity(dtype: DataType) -> Arc<dyn Model> {
    FunctionModel::identity(&[("x", dtype, 2)])
}

fn spec(name: &str, dtype: DataType, dims: Vec<Dim>) -> TensorSpec {
    TensorSpec { name: name.to_owned(), dtype, dims: Some(dims), classes: vec![] }
}

/// `a` and `b` of `[N]` -> `sum` of `[N]` and `pair` of `[N, 2]`, all FP32.
fn add() -> Arc<dyn Model> {
    let n = || Dim::Named("N".to_owned());
    let signature = Signature {
        inputs: vec![spec("a", DataType::Fp32, vec![n()]), spec("b", DataType::Fp32, vec![n()])],
        outputs: vec![spec("sum", DataType::Fp32, vec![n()]), spec("pair", DataType::Fp32, vec![n(), Dim::Fixed(2)])],
        batching: Batching::Proven(BatchAxes { inputs: vec![Some(0); 2], outputs: vec![Some(0); 2] }),
    };
    FunctionModel::model(signature, |inputs| {
        let (a, b): (Vec<f32>, Vec<f32>) = (inputs[0].elements().collect(), inputs[1].elements().collect());
        let sum: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let pair: Vec<f32> = a.iter().zip(&b).flat_map(|(a, b)| [*a, *b]).collect();
        let rows = a.len();
        Ok(vec![
            Tensor::from_elements(DataType::Fp32, vec![rows], &sum).unwrap(),
            Tensor::from_elements(DataType::Fp32, vec![rows, 2], &pair).unwrap(),
        ])
    })
}
