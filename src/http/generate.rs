//! `generate`: the easy JSON call. `{"x": [1, 2, 3]}` in, outputs by name out.

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};

use super::body::Received;
use super::call::Call;
use super::infer_response::add_headers;
use super::parameters;
use super::predict::predict;
use super::rank::{self, Side};
use super::reply::{self, Body};
use crate::error::{Error, Fault, Result, nearest};
use crate::inference::{InferRequest, InferResponse, ModelRef, keep_parameter, printable};
use crate::json::reader::Kind;
use crate::json::tensor::TensorReader;
use crate::json::writer::{self, BytesStyle, Elements, write_integer, write_string};
use crate::json::{Reader, once};
use crate::servable::Servable;

/// The content type of an answer in events.
pub const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// Answers with one JSON object.
///
/// # Errors
/// Whatever stops the request.
pub async fn generate(call: &Call<'_>, model: ModelRef, body: Result<Received>) -> Result<Response<Body>> {
    predict(call, model, body, decode, |response, ()| encode(&response)).await
}

/// Answers with a stream of server-sent events; a model here gives exactly one. An error is an event too, under the
/// error's status.
pub async fn stream(call: &Call<'_>, model: ModelRef, body: Result<Received>) -> Response<Body> {
    let answer = generate(call, model, body).await.unwrap_or_else(|error| reply::error(&error));
    let (mut head, object) = answer.into_parts();
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    let pieces = [&b"data: "[..]].into_iter().map(Into::into).chain(object.pieces().cloned());
    Response::from_parts(head, pieces.chain([b"\n\n"[..].into()]).collect())
}

/// Keys that name inputs fill them; leading dimensions of 1 may be left out. Other keys are parameters.
fn decode(body: &mut Received, servable: &Servable) -> Result<(InferRequest, ())> {
    let text = body.bytes.clone();
    let specs = &servable.signature().inputs;
    let mut request = InferRequest::default();
    let (mut id, mut nested) = (None, None);
    let mut reader = Reader::new(&text);
    reader.object(|key, reader| {
        if let Some(spec) = specs.iter().find(|spec| spec.name == key) {
            let mut tensor = TensorReader::of_any_shape(spec.dtype);
            let read = tensor.read_value(0, reader, &mut body.lease).and_then(|()| tensor.finish());
            let tensor = read.map_err(|fault| fault.of_input(key))?;
            request.inputs.push((key.to_owned(), rank::fit(tensor, spec, Side::Front)));
            return Ok(());
        }
        match (key, reader.peek()?) {
            ("id", Kind::String) => once(&mut id, key, reader.string()?.into_owned()),
            ("parameters", Kind::Object) => {
                once(&mut nested, key, ())?;
                let parameters = parameters::of_request(reader)?;
                (request.timeout, request.priority) = (parameters.timeout, parameters.priority);
                for (name, value) in &parameters.own {
                    keep_parameter(&mut request.parameters, name, value);
                }
                Ok(())
            }
            // Nobody writes a parameter as a list: an input's name is mistaken.
            (_, Kind::Array | Kind::Object) => {
                let nearest = nearest(key, specs.iter().map(|spec| spec.name.as_str()));
                let fault = Fault::UnknownInput { input: printable(key), nearest };
                Err(Error::mismatch(&servable.id.model, "", fault))
            }
            _ => parameters::custom(key, reader, &mut request.parameters),
        }
    })?;
    reader.finish()?;
    request.id = id.unwrap_or_default();
    Ok((request, ()))
}

/// One member an output: a single element bare, else an array without the leading dimensions of 1.
fn encode(response: &InferResponse) -> Result<Response<Body>> {
    let mut text = Vec::with_capacity(256);
    text.push(b'{');
    if !response.id.is_empty() {
        text.extend_from_slice(b"\"id\":");
        write_string(&mut text, &response.id);
        text.push(b',');
    }
    text.extend_from_slice(b"\"model_name\":");
    write_string(&mut text, &response.model);
    text.extend_from_slice(b",\"model_version\":\"");
    write_integer(&mut text, response.version);
    text.push(b'"');
    for (name, tensor) in &response.outputs {
        text.push(b',');
        write_string(&mut text, name);
        text.push(b':');
        let leading = tensor.shape().iter().take_while(|&&dim| dim == 1).count();
        let mut elements = Elements::new(tensor, BytesStyle::TextOrBase64);
        writer::write_nested(&mut text, &mut elements, &tensor.shape()[leading..])
            .map_err(|_| Error::Internal(format!("output '{name}' has no JSON form")))?;
    }
    text.push(b'}');
    let mut answer = reply::of_json_text(StatusCode::OK, text);
    add_headers(&mut answer, response);
    Ok(answer)
}
