//! ModelStreamInfer: many requests and their answers on one call.

use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

use super::context::CallContext;
use super::deframer::{Leases, MessageLease};
use super::encode::Answer;
use super::infer::infer;
use super::status::with_request_id;
use crate::data_plane::DataPlane;
use crate::error::Error;
use crate::proto::inference::infer_parameter::ParameterChoice;
use crate::proto::inference::{InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};

/// Request metadata: `true` asks that an error ends the stream with its status.
const STATUS_ERRORS: &str = "triton_grpc_error";
/// Parameter of every response: a request has one response here, so each is the last of its request.
const FINAL_RESPONSE: &str = "triton_final_response";

/// What the answers of one stream share.
pub struct StreamCall {
    pub plane: Arc<DataPlane>,
    pub context: CallContext,
    pub leases: Option<Arc<Leases>>,
    /// Requests under way at one time.
    pub max_in_flight: usize,
    /// Whether an error ends the stream.
    pub status_errors: bool,
}

/// Whether a stream's metadata asks for errors as statuses.
pub fn wants_status_errors(metadata: &MetadataMap) -> bool {
    metadata.get(STATUS_ERRORS).is_some_and(|value| value == "true")
}

/// The answers to `requests`, in their order.
///
/// Ends when the requests end and are answered, or with UNAVAILABLE once `drain` is cancelled and those taken in are
/// answered.
pub fn answers(
    call: StreamCall,
    requests: Streaming<ModelInferRequest>,
    drain: CancellationToken,
) -> BoxStream<'static, Result<ModelStreamInferResponse, Status>> {
    let max_in_flight = call.max_in_flight;
    let call = Arc::new(call);
    let draining = drain.clone();
    let taken_in = requests.take_until(drain.cancelled_owned()).map(move |message| {
        let lease = call.leases.as_ref().and_then(|leases| leases.take());
        answer(call.clone(), call.context.next(), lease, message)
    });
    let closing = stream::once(async move { draining.is_cancelled().then(|| Err(shutting_down())) });
    taken_in.buffered(max_in_flight).chain(closing.filter_map(std::future::ready)).boxed()
}

/// The status of a long-lived call that ends because the server does.
pub fn shutting_down() -> Status {
    Error::Unavailable("the server is shutting down".to_owned()).into()
}

async fn answer(
    call: Arc<StreamCall>,
    context: CallContext,
    mut lease: Option<MessageLease>,
    message: Result<ModelInferRequest, Status>,
) -> Result<ModelStreamInferResponse, Status> {
    // What can't be framed or decoded leaves no way to find the next message: the stream ends.
    let message = message?;
    let received = Instant::now();
    let failed = ModelInferResponse {
        model_name: message.model_name.clone(),
        model_version: message.model_version.clone(),
        id: message.id.clone(),
        ..ModelInferResponse::default()
    };
    match infer(&call.plane, &context, received, lease.as_mut(), message).await {
        Ok(Answer { mut message, tags }) => {
            tags.write_parameters(&mut message.parameters);
            Ok(response(String::new(), message))
        }
        Err(error) if call.status_errors => Err(with_request_id(error.into(), context.request_id())),
        Err(error) => Ok(response(Status::from(error).message().to_owned(), failed)),
    }
}

fn response(error_message: String, mut message: ModelInferResponse) -> ModelStreamInferResponse {
    let last = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    message.parameters.insert(FINAL_RESPONSE.to_owned(), last);
    ModelStreamInferResponse { error_message, infer_response: Some(message) }
}
