//! One message through the one path: what unary calls and streams share.

use std::time::Instant;

use super::context::CallContext;
use super::encode::{self, Answer};
use super::{decode, deframer::MessageLease};
use crate::data_plane::DataPlane;
use crate::error::{Error, Result};
use crate::inference::{ModelRef, Protocol};
use crate::pipeline;
use crate::proto::inference::ModelInferRequest;
use crate::telemetry::metrics;

/// Answers a message that arrived at `received`, whose share of the byte budget is `lease`.
///
/// # Errors
/// Whatever stops the request; every outcome is counted.
pub async fn infer(
    plane: &DataPlane,
    call: &CallContext,
    received: Instant,
    lease: Option<&mut MessageLease>,
    message: ModelInferRequest,
) -> Result<Answer> {
    let model = admit(lease, &message).inspect_err(|error| {
        // Without a model there is no path to go, so the path doesn't count it.
        metrics::count_request(Protocol::Grpc, Some(error.kind()));
    })?;
    let context = call.request(model, received);
    let encode = |response| Ok(encode::answer(response));
    pipeline::infer(plane, &context, call, |_| decode::infer_request(message), encode).await
}

fn admit(lease: Option<&mut MessageLease>, message: &ModelInferRequest) -> Result<ModelRef, Error> {
    if let Some(lease) = lease {
        lease.settle(message)?;
    }
    ModelRef::parse(&message.model_name, &message.model_version)
}
