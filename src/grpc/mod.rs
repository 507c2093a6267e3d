//! DECODE / ENCODE over gRPC: the Open Inference Protocol, feedback, health and reflection.
//!
//! [`GrpcService`] is the door: it frames each request's body ([`framing`]), sends the call to the service its path
//! names, and holds the call's share of the byte budget until the answer is out. Predictions, in one call or in a
//! stream, all go through [`crate::pipeline::infer`].

pub mod codec;

mod contents;
mod context;
mod decode;
mod deframer;
mod encode;
mod feedback;
mod framing;
mod health;
mod infer;
mod metadata;
mod parameters;
mod repository;
mod service;
mod settings;
mod statistics;
mod status;
mod stream;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::{Status, body};

use crate::data_plane::DataPlane;
use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::headgate::v1::feedback_service_server::FeedbackServiceServer;
use crate::proto::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use context::Received;
use deframer::Leases;
use framing::{FramedBody, Pace};
use service::InferenceService;

/// What can be set about gRPC calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcConfig {
    /// A message must arrive whole within this time, and a unary call's body must end within it.
    pub body_timeout: Duration,
    /// Requests of one stream that may be under way at one time; further ones wait in the client's send window.
    pub max_stream_in_flight: usize,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self { body_timeout: Duration::from_secs(30), max_stream_in_flight: 32 }
    }
}

/// Answers every gRPC call. Cloning shares it.
#[derive(Clone)]
pub struct GrpcService {
    shared: Arc<Shared>,
}

struct Shared {
    plane: Arc<DataPlane>,
    config: GrpcConfig,
    routes: Vec<(&'static str, Route)>,
    /// The inference service again, for calls whose client compresses: those are answered compressed.
    compressing: Route,
}

type Route = Box<dyn Fn(Request<FramedBody<Incoming>>) -> BoxFuture<'static, Response<body::Body>> + Send + Sync>;

impl GrpcService {
    /// `drain` ends long-lived streams: each answers what it has taken in, then closes with UNAVAILABLE.
    pub fn new(plane: Arc<DataPlane>, config: GrpcConfig, drain: CancellationToken) -> Self {
        let limit = plane.max_body_bytes;
        let inference = InferenceService::new(plane.clone(), config.clone(), drain.clone());
        let inference = GrpcInferenceServiceServer::new(inference)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate)
            .max_decoding_message_size(limit)
            .max_encoding_message_size(usize::MAX);
        // Existing clients always offer to read compressed answers, whether they want them or not, so an answer is
        // compressed only where the request was.
        let compressing =
            inference.clone().send_compressed(CompressionEncoding::Gzip).send_compressed(CompressionEncoding::Deflate);
        let feedback = FeedbackServiceServer::new(feedback::Service::new(plane.clone(), drain.clone()))
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate)
            .max_decoding_message_size(limit);
        let health =
            tonic_health::pb::health_server::HealthServer::new(health::HealthService::new(plane.clone(), drain));
        let described = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let v1 = described().build_v1().expect("the build script made a readable descriptor set");
        let v1alpha = described().build_v1alpha().expect("the build script made a readable descriptor set");
        let routes = vec![named(inference), named(feedback), named(health), named(v1), named(v1alpha)];
        Self { shared: Arc::new(Shared { plane, config, routes, compressing: route(compressing) }) }
    }

    async fn answer(self, request: Request<Incoming>) -> Response<AnswerBody> {
        let Shared { plane, config, routes, compressing } = &*self.shared;
        if !is_grpc(request.headers()) {
            return unsupported_media_type();
        }
        let path = request.uri().path();
        let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
            return unknown(path);
        };
        let Some((_, plain)) = routes.iter().find(|(name, _)| *name == service) else { return unknown(path) };
        let route = if service == routes[0].0 && is_compressed(request.headers()) { compressing } else { plain };

        let pace = if sends_a_stream(method) { Pace::EachMessage } else { Pace::WholeBody };
        let leases = Leases::new(plane.budget.clone());
        let mut request =
            request.map(|body| FramedBody::new(body, leases.clone(), plane.max_body_bytes, pace, config.body_timeout));
        request.extensions_mut().insert(Received(Instant::now()));
        request.extensions_mut().insert(leases.clone());
        route(request).await.map(|inner| AnswerBody { inner, _leases: Some(leases) })
    }
}

impl hyper::service::Service<Request<Incoming>> for GrpcService {
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}

fn named<S>(server: S) -> (&'static str, Route)
where
    S: NamedService + TonicServer,
    S::Future: Send,
{
    (S::NAME, route(server))
}

/// Makes one kind of route of every generated server. None of them is ever "not ready".
fn route<S>(server: S) -> Route
where
    S: TonicServer,
    S::Future: Send,
{
    Box::new(move |request| {
        let mut server = server.clone();
        Box::pin(async move {
            let Ok(response) = server.call(request).await;
            response
        })
    })
}

/// What tonic generates of a service.
trait TonicServer:
    Service<Request<FramedBody<Incoming>>, Response = Response<body::Body>, Error = Infallible>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> TonicServer for S where
    S: Service<Request<FramedBody<Incoming>>, Response = Response<body::Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static
{
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get("grpc-encoding").is_some_and(|value| value != "identity")
}

/// Methods whose requests come as a stream, which may pause for as long as its client likes.
fn sends_a_stream(method: &str) -> bool {
    matches!(method, "ModelStreamInfer" | "SendFeedback" | "ServerReflectionInfo")
}

fn unknown(path: &str) -> Response<AnswerBody> {
    let path = crate::inference::printable(path);
    Status::unimplemented(format!("this server has no method '{path}'")).into_http()
}

/// The answer that the protocol prescribes for what isn't gRPC at all.
fn unsupported_media_type() -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::default());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

/// A call's answer, with the call's share of the byte budget.
#[derive(Default)]
pub struct AnswerBody {
    inner: body::Body,
    _leases: Option<Arc<Leases>>,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
