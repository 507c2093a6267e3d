//! The path of feedback.

use serde_json::{Value, json};

use super::schemas::{body, operation, reference};
use crate::prediction_log::feedback::MAX_ITEMS;

/// `/v2/feedback` with what it answers.
pub fn path() -> (String, Value) {
    let mut post = operation(
        "send_feedback",
        "What really happened after predictions: one item, or an array of them; repeats do no harm",
        &reference("FeedbackTaken"),
    );
    let item = reference("Feedback");
    let many = json!({ "type": "array", "items": item, "maxItems": MAX_ITEMS });
    post["requestBody"] = body(&json!({ "oneOf": [item, many] }), None);
    post["responses"]["400"] = json!({
        "description": "Some items are at fault; the others are kept",
        "content": { "application/json": { "schema": reference("FeedbackErrors") } },
    });
    ("/v2/feedback".to_owned(), json!({ "post": post }))
}

/// (name, schema) of the components that the path refers to.
pub fn schemas() -> [(&'static str, Value); 3] {
    let count = |text: &str| json!({ "type": "integer", "minimum": 0, "description": text });
    let accepted = count("Items that were kept, repeats among them");
    let unknown = count("Those of them whose prediction is not known here");
    let errors = json!({ "type": "array", "items": { "type": "object", "required": ["index", "error"], "properties": {
        "index": count("Place in the call, from 0"),
        "error": { "type": "string", "description": "The field, what was expected and what came" },
    } } });
    let taken = json!({ "type": "object", "required": ["accepted", "unknown"], "properties": {
        "accepted": accepted, "unknown": unknown,
    } });
    let with_errors = json!({ "type": "object", "required": ["error"], "properties": {
        "error": { "type": "string" }, "accepted": accepted, "unknown": unknown, "errors": errors,
    } });
    [("Feedback", item()), ("FeedbackTaken", taken), ("FeedbackErrors", with_errors)]
}

fn item() -> Value {
    json!({
        "type": "object",
        "required": ["value"],
        "oneOf": [{ "required": ["prediction_id"] }, { "required": ["request_id"] }],
        "additionalProperties": false,
        "properties": {
            "prediction_id": { "type": "string", "format": "uuid" },
            "request_id": { "type": "string", "description": "Of the request, in place of a prediction's id" },
            "row_index": { "type": "integer", "minimum": 0, "default": 0, "description": "Beside request_id" },
            "name": { "type": "string", "default": "label" },
            "value": { "type": ["number", "string", "boolean"], "description": "true is 1, false is 0" },
            "event_time": { "type": ["string", "number"], "description": "RFC 3339, or Unix seconds; default: now" },
            "source": { "type": "string" },
            "weight": { "type": "number", "minimum": 0 },
        },
    })
}
