//! `InferResponse` -> `{"predictions": [...]}` or `{"outputs": ...}`, nested as the tensors' shapes.

use http::{Response, StatusCode};

use crate::error::{Error, Result};
use crate::http::infer_response::add_headers;
use crate::http::reply::{self, Body};
use crate::inference::InferResponse;
use crate::json::writer::{self, BytesStyle, Elements, NotText, write_string};
use crate::tensor::Tensor;

/// How a request gave its tensors, and so how the answer gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `instances`: an array with a member a row.
    Rows,
    /// `inputs`: whole tensors by name.
    Columns,
}

/// Encodes an answer. A single output stands bare, several by their names; bytes of outputs named `…_bytes`, and bytes
/// that are no text, are base64.
///
/// # Errors
/// `Invalid` when outputs of different lengths were asked for by rows.
pub fn encode(response: &InferResponse, form: Form) -> Result<Response<Body>> {
    let mut text = Vec::with_capacity(256);
    let written = match (form, response.outputs.as_slice()) {
        (Form::Rows, [(name, tensor)]) => {
            text.extend_from_slice(b"{\"predictions\":");
            let shape = if tensor.shape().is_empty() { &[1] } else { tensor.shape() };
            write_shaped(&mut text, name, tensor, shape)
        }
        (Form::Rows, outputs) => {
            text.extend_from_slice(b"{\"predictions\":");
            write_rows(&mut text, outputs, row_count(outputs)?)
        }
        (Form::Columns, [(name, tensor)]) => {
            text.extend_from_slice(b"{\"outputs\":");
            write_shaped(&mut text, name, tensor, tensor.shape())
        }
        (Form::Columns, outputs) => {
            text.extend_from_slice(b"{\"outputs\":");
            write_columns(&mut text, outputs)
        }
    };
    written.map_err(|_| Error::Internal("an output has no JSON form".to_owned()))?;
    text.push(b'}');
    let mut answer = reply::of_json_text(StatusCode::OK, text);
    add_headers(&mut answer, response);
    Ok(answer)
}

fn row_count(outputs: &[(String, Tensor)]) -> Result<usize> {
    let mut lengths = outputs.iter().map(|(_, tensor)| tensor.shape().first().copied());
    match lengths.next().flatten() {
        None if outputs.is_empty() => Ok(0),
        Some(rows) if lengths.all(|length| length == Some(rows)) => Ok(rows),
        _ => Err(Error::invalid(
            "the model's outputs differ in their first dimension and can't be given by rows: \
             expected 'inputs' in the request, got 'instances'",
        )),
    }
}

fn write_rows(text: &mut Vec<u8>, outputs: &[(String, Tensor)], rows: usize) -> Result<(), NotText> {
    let mut cursors: Vec<Elements<'_>> =
        outputs.iter().map(|(name, tensor)| Elements::new(tensor, style(name))).collect();
    text.push(b'[');
    for row in 0..rows {
        if row > 0 {
            text.push(b',');
        }
        text.push(b'{');
        for (position, ((name, tensor), cursor)) in outputs.iter().zip(&mut cursors).enumerate() {
            write_key(text, position, name);
            writer::write_nested(text, cursor, &tensor.shape()[1..])?;
        }
        text.push(b'}');
    }
    text.push(b']');
    Ok(())
}

fn write_columns(text: &mut Vec<u8>, outputs: &[(String, Tensor)]) -> Result<(), NotText> {
    text.push(b'{');
    for (position, (name, tensor)) in outputs.iter().enumerate() {
        write_key(text, position, name);
        write_shaped(text, name, tensor, tensor.shape())?;
    }
    text.push(b'}');
    Ok(())
}

fn write_key(text: &mut Vec<u8>, position: usize, name: &str) {
    if position > 0 {
        text.push(b',');
    }
    write_string(text, name);
    text.push(b':');
}

fn write_shaped(text: &mut Vec<u8>, name: &str, tensor: &Tensor, shape: &[usize]) -> Result<(), NotText> {
    writer::write_nested(text, &mut Elements::new(tensor, style(name)), shape)
}

fn style(output: &str) -> BytesStyle {
    if output.ends_with("_bytes") { BytesStyle::Base64 } else { BytesStyle::TextOrBase64 }
}
