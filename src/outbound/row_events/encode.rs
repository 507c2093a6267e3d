//! Rows as CloudEvents, in the types that KServe's agent sends.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>; the types and the
//! attributes beyond it are those of KServe's `pkg/logger`.

use std::time::{Duration, UNIX_EPOCH};

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::{TimestampMicrosecondType, UInt64Type};
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::json;

use super::tensors::{Tensors, push_text};
use crate::outbound::event;
use crate::prediction_log::columns::Side;
use crate::prediction_log::destinations::EventMode;

const REQUEST: &str = "org.kubeflow.serving.inference.request";
const RESPONSE: &str = "org.kubeflow.serving.inference.response";
/// What a header's value may not hold as it is (section 3.1.3.2 of the binding); what is not ASCII is encoded too.
const NOT_IN_HEADERS: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Which event of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Request,
    Response,
}

/// What is the same in all events.
#[derive(Debug, Clone)]
pub struct Common {
    /// Names this gateway.
    pub source: String,
    pub namespace: Option<String>,
    pub mode: EventMode,
}

/// An event ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

/// A batch, and where its tensors lie.
#[derive(Debug)]
pub struct Rows {
    batch: RecordBatch,
    inputs: Tensors,
    outputs: Tensors,
}

impl Rows {
    pub fn new(batch: RecordBatch) -> Self {
        Self { inputs: Tensors::of(&batch, Side::Input), outputs: Tensors::of(&batch, Side::Output), batch }
    }

    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// One of a row's two events.
    pub fn encode(&self, row: usize, part: Part, common: &Common) -> Encoded {
        let (attributes, data) = (self.attributes(row, part, common), self.data(row, part));
        match common.mode {
            EventMode::Structured => structured(&attributes, &data),
            EventMode::Binary => binary(&attributes, data),
        }
    }

    fn attributes(&self, row: usize, part: Part, common: &Common) -> Vec<(&'static str, String)> {
        let text = |name: &str| self.text(name, row).unwrap_or_default().to_owned();
        let (kind, time) = match part {
            Part::Request => (REQUEST, self.time("ts_received", row)),
            Part::Response => (RESPONSE, self.time("ts", row)),
        };
        let mut attributes = vec![
            ("specversion", "1.0".to_owned()),
            ("id", text("prediction_id")),
            ("source", common.source.clone()),
            ("type", kind.to_owned()),
            ("time", time),
            ("inferenceservicename", text("model_name")),
            ("component", "predictor".to_owned()),
            ("endpoint", endpoint(&text("arm")).to_owned()),
            ("metadata", self.metadata(row)),
        ];
        attributes.extend(common.namespace.clone().map(|namespace| ("namespace", namespace)));
        // An attribute that is empty is left out.
        attributes.retain(|(_, value)| !value.is_empty());
        attributes
    }

    /// Headers, as KServe has them here: those that the answer carried.
    fn metadata(&self, row: usize) -> String {
        let text = |name: &str| self.text(name, row).unwrap_or_default();
        let version = self.number("model_version", row).map(|version| version.to_string()).unwrap_or_default();
        json!({
            "headgate-prediction-id": [text("prediction_id")],
            "headgate-version": [version],
            "headgate-arm": [text("arm")],
            "x-request-id": [text("request_id")],
        })
        .to_string()
    }

    /// A request or a response of the Open Inference Protocol with this row alone; for a model that failed, its error.
    fn data(&self, row: usize, part: Part) -> Vec<u8> {
        let mut out = b"{".to_vec();
        if part == Part::Response {
            if self.text("status", row) == Some("error") {
                out.extend(b"\"error\":");
                push_text(self.text("error", row).unwrap_or("the model failed"), &mut out);
                out.push(b'}');
                return out;
            }
            out.extend(b"\"model_name\":");
            push_text(self.text("model_name", row).unwrap_or_default(), &mut out);
            let version = self.number("model_version", row).unwrap_or_default();
            out.extend(format!(",\"model_version\":\"{version}\",").bytes());
        }
        if let Some(id) = self.text("request_id", row) {
            out.extend(b"\"id\":");
            push_text(id, &mut out);
            out.push(b',');
        }
        let (key, tensors) = match part {
            Part::Request => ("inputs", &self.inputs),
            Part::Response => ("outputs", &self.outputs),
        };
        out.extend(format!("\"{key}\":[").bytes());
        tensors.write(&self.batch, row, &mut out);
        out.extend(b"]}");
        out
    }

    fn column(&self, name: &str, row: usize) -> Option<&ArrayRef> {
        self.batch.column_by_name(name).filter(|column| column.is_valid(row))
    }

    fn text(&self, name: &str, row: usize) -> Option<&str> {
        Some(self.column(name, row)?.as_string_opt::<i32>()?.value(row))
    }

    fn number(&self, name: &str, row: usize) -> Option<u64> {
        Some(self.column(name, row)?.as_primitive_opt::<UInt64Type>()?.value(row))
    }

    fn time(&self, name: &str, row: usize) -> String {
        let micros = self.column(name, row).and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
        let micros = micros.map_or(0, |column| u64::try_from(column.value(row)).unwrap_or_default());
        // Beyond the year 9999 there is no text for a time.
        const LAST_US: u64 = 253_402_300_799_999_999;
        humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_micros(micros.min(LAST_US))).to_string()
    }
}

/// KServe's words for the two that it knows.
fn endpoint(arm: &str) -> &str {
    match arm {
        "stable" => "default",
        "candidate" => "canary",
        other => other,
    }
}

fn structured(attributes: &[(&'static str, String)], data: &[u8]) -> Encoded {
    let mut body = b"{".to_vec();
    for (name, value) in attributes {
        body.extend(format!("\"{name}\":").bytes());
        push_text(value, &mut body);
        body.push(b',');
    }
    body.extend(b"\"datacontenttype\":\"application/json\",\"data\":");
    body.extend(data);
    body.push(b'}');
    Encoded { headers: vec![("content-type".to_owned(), event::CONTENT_TYPE.to_owned())], body: body.into() }
}

fn binary(attributes: &[(&'static str, String)], data: Vec<u8>) -> Encoded {
    let header = |(name, value): &(&'static str, String)| {
        (format!("ce-{name}"), utf8_percent_encode(value, NOT_IN_HEADERS).to_string())
    };
    let mut headers: Vec<(String, String)> = attributes.iter().map(header).collect();
    headers.push(("content-type".to_owned(), "application/json".to_owned()));
    Encoded { headers, body: data.into() }
}
