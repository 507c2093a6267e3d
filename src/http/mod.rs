//! HTTP: wire <-> `InferRequest` and `InferResponse`.
//!
//! The Open Inference Protocol (V2), KServe V1 and TensorFlow Serving's REST API on one port. A call goes through
//! [`route`] (what is asked), [`body`] (its bytes, under limits), a handler, and out through [`coding`].

mod body;
mod call;
mod coding;
mod feedback;
mod generate;
pub mod headers;
pub mod infer_request;
pub mod infer_response;
mod metadata;
mod openapi;
mod parameters;
mod predict;
mod rank;
mod raw_tensor;
pub mod reply;
mod repository;
mod route;
mod settings;
mod statistics;
mod v1;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};

use self::body::BodyDeadline;
pub use self::body::Received;
use self::call::Call;
use self::coding::Coding;
pub use self::reply::Body;
use self::route::{Miss, ModelCall, Route};
use crate::data_plane::DataPlane;
use crate::error::{Error, Result};
use crate::inference::{Deadline, RequestId};

/// Limits of this protocol; the size of a body is the data plane's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// A request's whole body must be there within this time of its header.
    pub body_timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { body_timeout: Duration::from_secs(60) }
    }
}

/// Answers HTTP requests; the accept loop calls [`HttpService::handle`] for each.
#[derive(Clone)]
pub struct HttpService {
    pub plane: Arc<DataPlane>,
    pub limits: HttpLimits,
}

impl HttpService {
    /// Answers one request. Never fails: every error is an answer.
    ///
    /// Dropping the future cancels the request.
    pub async fn handle<B: http_body::Body<Error: Into<body::BoxError>>>(&self, request: Request<B>) -> Response<Body> {
        let received = Instant::now();
        let (head, body) = request.into_parts();
        let offered = head.headers.get(&headers::REQUEST_ID).and_then(|id| id.to_str().ok());
        let request_id = RequestId::take_over(offered);
        let call = Call { plane: &self.plane, headers: &head.headers, request_id: &request_id, received };
        let mut answer = match route::find(&head.method, head.uri.path()) {
            Ok(route) => self.answer(&call, &head.method, route, body).await,
            Err(Miss::NotFound) => reply::error_text(StatusCode::NOT_FOUND, "Not Found"),
            Err(Miss::MethodNotAllowed(allowed)) => reply::method_not_allowed(allowed),
            Err(Miss::Bad(error)) => reply::error(&error),
        };
        if coding::of_request(&head.headers).is_err() {
            answer.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(coding::ACCEPTED));
        }
        reply::add_header(&mut answer, headers::REQUEST_ID.clone(), request_id.as_str());
        if head.version < Version::HTTP_2 && self.plane.health.is_draining() {
            // The client sends its next request elsewhere, rather than into a connection that is about to be closed.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    async fn answer<B: http_body::Body<Error: Into<body::BoxError>>>(
        &self,
        call: &Call<'_>,
        method: &Method,
        route: Route,
        body: B,
    ) -> Response<Body> {
        let deadline = match call.deadline() {
            Ok(deadline) => deadline,
            Err(error) => return reply::error(&error),
        };
        if method != Method::POST {
            return read(call, route, deadline).await.unwrap_or_else(|error| reply::error(&error));
        }
        let until = BodyDeadline { received: call.received, timeout: self.limits.body_timeout, request: deadline };
        let received = body::receive(&self.plane, call.headers, body, until).await;
        let answer = match route {
            // A prediction whose body failed goes down its path all the same, to be recorded there.
            Route::Model(model, ModelCall::Infer) => encoded(call, predict::infer(call, model, received).await).await,
            Route::Model(model, ModelCall::Generate) => {
                encoded(call, generate::generate(call, model, received).await).await
            }
            Route::Model(model, ModelCall::GenerateStream) => Ok(generate::stream(call, model, received).await),
            Route::V1(model, verb) => encoded(call, Ok(v1::post(call, model, verb, received).await)).await,
            route => match received {
                Ok(received) => write(call, route, &received).await,
                Err(error) => Err(error),
            },
        };
        answer.unwrap_or_else(|error| reply::error(&error))
    }
}

/// What GET asks for.
async fn read(call: &Call<'_>, route: Route, deadline: Deadline) -> Result<Response<Body>> {
    let plane = call.plane;
    match route {
        Route::Alive => Ok(metadata::alive()),
        Route::Live => Ok(metadata::live()),
        Route::Ready => Ok(metadata::ready(plane)),
        Route::ServerMetadata => Ok(metadata::server(plane)),
        Route::OpenApi => Ok(openapi::document(plane)),
        Route::Model(model, ModelCall::Metadata) => metadata::model(plane, &model, deadline).await,
        Route::Model(model, ModelCall::Ready) => metadata::model_ready(plane, &model),
        Route::Model(model, ModelCall::Config) => metadata::config(plane, &model, deadline).await,
        Route::Model(model, ModelCall::Statistics) => statistics::of_model(plane, &model),
        Route::AllStatistics => Ok(statistics::of_all(plane)),
        Route::GlobalTrace(_) => Ok(settings::trace(plane, None)),
        Route::ModelTrace(model, _) => settings::model_trace(plane, &model),
        Route::Logging(_) => Ok(settings::log(plane)),
        Route::SharedMemory => Err(repository::no_shared_memory()),
        Route::V1Models => Ok(v1::models(plane)),
        Route::V1(model, verb) => Ok(v1::get(call, &model, verb).await),
        // The router lets no other route through with GET.
        _ => Ok(reply::error_text(StatusCode::NOT_FOUND, "Not Found")),
    }
}

/// What POST asks for, predictions apart.
async fn write(call: &Call<'_>, route: Route, body: &Received) -> Result<Response<Body>> {
    let plane = call.plane;
    match route {
        Route::Feedback => feedback::take(plane, body).await,
        Route::RepositoryIndex => repository::index(plane, &body.bytes),
        Route::Load(model) => repository::load(plane, model, &body.bytes).await,
        Route::Unload(model) => repository::unload(plane, model, &body.bytes).await,
        Route::NamedRepository => Err(repository::no_named_repository()),
        Route::GlobalTrace(_) => settings::update_trace(plane, None, &body.bytes),
        Route::ModelTrace(model, _) => settings::update_trace(plane, Some(&model), &body.bytes),
        Route::Logging(_) => settings::update_log(plane, &body.bytes),
        Route::SharedMemory => Err(repository::no_shared_memory()),
        // The router lets no other route through with POST.
        _ => Ok(reply::error_text(StatusCode::NOT_FOUND, "Not Found")),
    }
}

/// Codes a prediction as its reader likes it. Everything else goes out plain: it is short, and tritonclient's aio
/// client asks for gzip without reading it anywhere but here.
async fn encoded(call: &Call<'_>, answer: Result<Response<Body>>) -> Result<Response<Body>> {
    let answer = answer?;
    let coding = coding::for_response(call.headers);
    let Some(name) = coding.name().filter(|_| answer.status().is_success()) else { return Ok(answer) };
    let (mut head, plain) = answer.into_parts();
    let coded = encode_body(coding, plain).await;
    let coded = coded.map_err(|_| Error::Internal("the answer could not be compressed".to_owned()))?;
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    Ok(Response::from_parts(head, coded))
}

async fn encode_body(coding: Coding, plain: Body) -> std::io::Result<Body> {
    if plain.len() < body::INLINE_CODING_BYTES {
        return coding::encode(coding, &plain);
    }
    let encode = tokio::task::spawn_blocking(move || coding::encode(coding, &plain));
    encode.await.unwrap_or_else(|_| Err(std::io::ErrorKind::Interrupted.into()))
}
