//! `POST /v2/models/<m>/infer`, and what every kind of prediction shares.

use std::sync::OnceLock;

use http::Response;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::body::{INLINE_CODING_BYTES, Received};
use super::call::Call;
use super::reply::Body;
use super::{infer_request, infer_response};
use crate::error::{Error, Result};
use crate::inference::{InferRequest, InferResponse, ModelRef};
use crate::pipeline;
use crate::servable::Servable;

/// Answers an Open Inference Protocol request.
///
/// # Errors
/// Whatever stops the request.
pub async fn infer(call: &Call<'_>, model: ModelRef, body: Result<Received>) -> Result<Response<Body>> {
    let decode = |body: &mut Received, servable: &Servable| {
        let decoded = infer_request::decode(call.headers, body, servable.signature())?;
        Ok((decoded.request, decoded.form))
    };
    predict(call, model, body, decode, |response, form| infer_response::encode(&response, form)).await
}

/// Sends a prediction down the path. What `decode` learns of the wished form, `encode` is given; what the body holds
/// of the budget is held until the answer is encoded.
///
/// # Errors
/// Whatever stops the request, the reading of its body included.
pub async fn predict<F: Send + Sync>(
    call: &Call<'_>,
    model: ModelRef,
    mut body: Result<Received>,
    decode: impl FnOnce(&mut Received, &Servable) -> Result<(InferRequest, F)>,
    encode: impl FnOnce(InferResponse, &F) -> Result<Response<Body>>,
) -> Result<Response<Body>> {
    let context = call.context(model)?;
    let form = OnceLock::new();
    let answer = pipeline::infer(
        call.plane,
        &context,
        call.headers,
        |servable| {
            let received = body.as_mut().map_err(|error| error.clone())?;
            let (request, wished) = off_the_reactor(received.bytes.len(), || decode(received, servable))?;
            form.get_or_init(|| wished);
            Ok(request)
        },
        |response| match form.get() {
            Some(form) => {
                let size = response.outputs.iter().map(|(_, tensor)| tensor.data().len()).sum();
                off_the_reactor(size, || encode(response, form))
            }
            None => Err(Error::Internal("an answer came without a decoded request".to_owned())),
        },
    );
    let answer = answer.await;
    drop(body);
    answer
}

/// Does work whose cost goes with `bytes` where it stands, or, if it would take long, after handing this thread's other
/// tasks on: health answers must not wait behind a picture in JSON.
fn off_the_reactor<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let can_hand_on = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes >= INLINE_CODING_BYTES && can_hand_on { tokio::task::block_in_place(work) } else { work() }
}
