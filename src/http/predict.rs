//! `POST /v2/models/<m>/infer`, and what every kind of prediction shares.

use std::sync::OnceLock;

use http::Response;

use super::body::Received;
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
        |servable| {
            let received = body.as_mut().map_err(|error| error.clone())?;
            let (request, wished) = decode(received, servable)?;
            form.get_or_init(|| wished);
            Ok(request)
        },
        |response| match form.get() {
            Some(form) => encode(response, form),
            None => Err(Error::Internal("an answer came without a decoded request".to_owned())),
        },
    );
    let answer = answer.await;
    drop(body);
    answer
}
