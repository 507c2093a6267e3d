//! THE path of a prediction: route, look, decode, check, pad, admit, run, cut, encode, copy, record.

use std::time::Instant;

use crate::batching::{Answer, NoAnswer, Work};
use crate::classification::classify;
use crate::data_plane::DataPlane;
use crate::engine::RunError;
use crate::error::{Error, Result};
use crate::inference::{Attributes, Deadline, InferRequest, InferResponse, RequestContext, RequestedOutput};
use crate::record::Record;
use crate::routing::shadow::Copied;
use crate::routing::{Backend, Lane};
use crate::servable::Servable;
use crate::tensor::Tensor;

/// Answers one inference request.
///
/// `decode` turns the wire's bytes into a request, knowing the version that will answer; `encode` turns the answer into
/// the wire's. Both run on the calling task. When this future is dropped the request is dropped with it, and counted
/// as cancelled. `caller` is what the request says of itself outside its body: a split route may go by it.
///
/// # Errors
/// Whatever stops the request; every outcome is recorded once, here.
pub async fn infer<R>(
    plane: &DataPlane,
    context: &RequestContext,
    caller: &dyn Attributes,
    decode: impl FnOnce(&Servable) -> Result<InferRequest>,
    encode: impl FnOnce(InferResponse) -> Result<R>,
) -> Result<R> {
    let mut record = Record::open(plane, context);
    let outcome = serve(&mut record, caller, decode, encode).await;
    let outcome = record.synced(outcome).await;
    record.close(outcome.as_ref().err());
    outcome
}

async fn serve<R>(
    record: &mut Record<'_>,
    caller: &dyn Attributes,
    decode: impl FnOnce(&Servable) -> Result<InferRequest>,
    encode: impl FnOnce(InferResponse) -> Result<R>,
) -> Result<R> {
    let (plane, context) = (record.plane, record.context);
    let mut lane = plane.lane(&context.model, caller, context.deadline).await?;
    record.routed(&lane);

    // Under overload a refusal must not cost a decode.
    let priority = context.priority.unwrap_or_default();
    lane.backend.pool.look(priority, context.deadline, Instant::now())?;

    let started = Instant::now();
    let request = decode(&lane.backend.servable)?;
    record.decoded(started, caller, &request);
    if lane.settle(caller, &request.parameters) {
        record.routed(&lane);
    }
    let Lane { backend, share } = lane;
    let servable = &backend.servable;
    let id = request.id.clone();
    let deadline = deadline(context, &request);
    let priority = context.priority.or(request.priority).unwrap_or_default();
    let checked = servable.check(request)?;
    record.checked(&id, &checked);

    let now = Instant::now();
    if deadline.passed(now) {
        return Err(Error::DeadlineExceeded { stage: "before the request was admitted" });
    }
    let copied = Copied::of(share.as_ref(), &checked.inputs, checked.rows);
    let (inputs, length) = servable.pad(checked.inputs);
    let start_by = start_by(context, deadline, servable);
    let work = Work { inputs, rows: checked.rows, deadline, start_by, priority };
    let ticket = backend.pool.admit(work, now)?;
    let mut answer = ticket.outcome().await.map_err(|why| unanswered(context, &backend, why))?;
    answer.tensors = servable.cut(answer.tensors, length).map_err(|cause| run_failed(context, servable, &cause))?;
    record.answered(&answer);

    let started = Instant::now();
    let outputs = wanted_outputs(servable, checked.outputs, &answer)?;
    let encoded = encode(respond(record, &backend, id, outputs))?;
    record.encoded(started);
    match copied {
        None => record.keep(|| answer.tensors, answer.batch_size),
        Some(copied) => {
            record.keep(|| answer.tensors.clone(), answer.batch_size);
            plane.shadows.offer(copied, answer);
        }
    }
    Ok(encoded)
}

/// The version's limit on waiting, for a request without a deadline of its own.
fn start_by(context: &RequestContext, deadline: Deadline, servable: &Servable) -> Option<Instant> {
    let limit = servable.limits.default_timeout.filter(|_| deadline == Deadline::NONE)?;
    context.received.checked_add(limit)
}

/// The earlier of the protocol's deadline and the request's own timeout.
fn deadline(context: &RequestContext, request: &InferRequest) -> Deadline {
    let own = request.timeout.map_or(Deadline::NONE, |timeout| Deadline::after(context.received, timeout));
    context.deadline.min(own)
}

/// The outputs that were asked for, in that order, each as a tensor or as its top classes.
fn wanted_outputs(
    servable: &Servable,
    wanted: Vec<(usize, RequestedOutput)>,
    answer: &Answer,
) -> Result<Vec<(String, Tensor)>> {
    let output = |(position, wanted): (usize, RequestedOutput)| {
        let tensor = &answer.tensors[position];
        let tensor = match wanted.classification {
            None => tensor.clone(),
            Some(k) => classify(servable, position, &wanted.name, tensor, k)?,
        };
        Ok((wanted.name, tensor))
    };
    wanted.into_iter().map(output).collect()
}

fn respond(record: &mut Record<'_>, backend: &Backend, id: String, outputs: Vec<(String, Tensor)>) -> InferResponse {
    let Backend { arm, servable, .. } = backend;
    let context = record.context;
    InferResponse {
        model: context.model.asked.clone(),
        version: servable.id.version,
        id,
        outputs,
        prediction_id: record.prediction_id(),
        arm: arm.name(),
        request_id: context.request_id.clone(),
    }
}

/// The error of a request that was taken in and yet has no answer.
fn unanswered(context: &RequestContext, backend: &Backend, why: NoAnswer) -> Error {
    match why {
        NoAnswer::Expired => Error::DeadlineExceeded { stage: "while the request waited or ran" },
        NoAnswer::Shed(cause) => backend.pool.shed(cause),
        NoAnswer::Run(RunError::Stopped) => Error::DeadlineExceeded { stage: "while the model ran" },
        NoAnswer::Run(RunError::BadInput(text)) => Error::Invalid(text),
        NoAnswer::Run(RunError::Failed(cause)) => run_failed(context, &backend.servable, &cause),
    }
}

fn run_failed(context: &RequestContext, servable: &Servable, cause: &str) -> Error {
    let request_id = context.request_id.as_str();
    tracing::warn!(request_id, servable = %servable.id, cause, "the model could not run a request");
    Error::RunFailed {
        model: servable.id.model.clone(),
        version: servable.id.version,
        request_id: request_id.to_owned(),
    }
}
