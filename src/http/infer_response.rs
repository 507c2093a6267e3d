//! `InferResponse` -> the Open Inference Protocol's answer over HTTP.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};

use super::headers::{ARM, HEADER_LENGTH, PREDICTION_ID, VERSION};
use super::reply::{self, Body};
use crate::error::{Error, Result};
use crate::inference::InferResponse;
use crate::json::writer::{self, BytesStyle, write_integer, write_string};
use crate::tensor::Tensor;

/// In which form each output is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputForm {
    /// Every output of the model.
    All { binary: bool },
    /// The outputs that were asked for, in their order.
    Each { binary: Vec<bool> },
}

impl OutputForm {
    fn is_binary(&self, position: usize) -> bool {
        match self {
            Self::All { binary } => *binary,
            Self::Each { binary } => binary.get(position).copied().unwrap_or(false),
        }
    }
}

/// Encodes an answer: JSON, or a JSON head with the binary outputs behind it, which are not copied.
///
/// An output carries `parameters` only to announce its binary size, because clients take any other for a mistake.
///
/// # Errors
/// `Invalid` when an output is wanted as JSON and holds bytes that are no text.
pub fn encode(response: &InferResponse, form: &OutputForm) -> Result<Response<Body>> {
    let mut head = Vec::with_capacity(256);
    head.push(b'{');
    if !response.id.is_empty() {
        head.extend_from_slice(b"\"id\":");
        write_string(&mut head, &response.id);
        head.push(b',');
    }
    head.extend_from_slice(b"\"model_name\":");
    write_string(&mut head, &response.model);
    head.extend_from_slice(b",\"model_version\":\"");
    write_integer(&mut head, response.version);
    head.extend_from_slice(b"\",\"outputs\":[");
    let mut tensors = Vec::new();
    for (position, (name, tensor)) in response.outputs.iter().enumerate() {
        if position > 0 {
            head.push(b',');
        }
        let binary = form.is_binary(position);
        write_output(&mut head, name, tensor, binary)?;
        if binary {
            tensors.push(tensor.data().clone());
        }
    }
    head.extend_from_slice(b"]}");
    let mut answer = with_binary(head, tensors);
    add_headers(&mut answer, response);
    Ok(answer)
}

fn write_output(head: &mut Vec<u8>, name: &str, tensor: &Tensor, binary: bool) -> Result<()> {
    head.extend_from_slice(b"{\"name\":");
    write_string(head, name);
    head.extend_from_slice(b",\"datatype\":\"");
    head.extend_from_slice(tensor.dtype().name().as_bytes());
    head.extend_from_slice(b"\",\"shape\":[");
    for (axis, &dim) in tensor.shape().iter().enumerate() {
        if axis > 0 {
            head.push(b',');
        }
        write_integer(head, dim);
    }
    head.push(b']');
    if binary {
        head.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
        write_integer(head, tensor.data().len());
        head.push(b'}');
    } else {
        head.extend_from_slice(b",\"data\":");
        writer::write_flat(head, tensor, BytesStyle::Text).map_err(|fault| {
            Error::Invalid(format!(
                "element {} of output '{name}' is not UTF-8 text and has no JSON form: ask for the output as binary data",
                fault.index
            ))
        })?;
    }
    head.push(b'}');
    Ok(())
}

fn with_binary(head: Vec<u8>, tensors: Vec<Bytes>) -> Response<Body> {
    if tensors.iter().all(Bytes::is_empty) {
        return reply::of_json_text(StatusCode::OK, head);
    }
    let length = HeaderValue::from(head.len());
    let mut answer = Response::new(std::iter::once(head.into()).chain(tensors).collect::<Body>());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(HEADER_LENGTH.clone(), length);
    answer
}

/// Says which version and arm answered, and under which id.
pub fn add_headers(answer: &mut Response<Body>, response: &InferResponse) {
    let headers = answer.headers_mut();
    headers.insert(VERSION.clone(), response.version.into());
    headers.insert(ARM.clone(), HeaderValue::from_static(response.arm));
    reply::add_header(answer, PREDICTION_ID.clone(), response.prediction_id.text(&mut [0; 36]));
}
