//! `POST /v2/feedback`: what really happened, one item or many.

mod items;

use std::time::SystemTime;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::body::Received;
use super::reply::{self, Body};
use crate::data_plane::DataPlane;
use crate::error::Result;
use crate::prediction_log::feedback::{ItemFault, Taken, unix_us};

/// Keeps the items that are sound. 200 if all are, else 400 with those that aren't.
///
/// # Errors
/// `Invalid` for a body that is no item and no array of at most [`MAX_ITEMS`](crate::prediction_log::feedback::MAX_ITEMS) items; nothing is kept of it. Else as
/// [`FeedbackLog::take`](crate::prediction_log::feedback::FeedbackLog::take).
pub async fn take(plane: &DataPlane, body: &Received) -> Result<Response<Body>> {
    let now_us = unix_us(SystemTime::now());
    let items = items::read(&body.bytes)?;
    let checked = items.into_iter().map(|item| item.and_then(|told| told.check(now_us))).collect();
    let taken = plane.feedback.take(checked).await?;
    Ok(match taken.errors.first() {
        None => reply::json(&counts(&taken)),
        Some(_) => reply::with_status(StatusCode::BAD_REQUEST, &with_errors(&taken)),
    })
}

fn counts(taken: &Taken) -> Value {
    json!({ "accepted": taken.accepted, "unknown": taken.unknown })
}

fn with_errors(taken: &Taken) -> Value {
    let error = |(index, fault): &(usize, ItemFault)| json!({ "index": index, "error": fault.to_string() });
    let errors: Vec<Value> = taken.errors.iter().map(error).collect();
    // What every error says of itself, for clients that look no further.
    let first = taken.errors.first().map(|(index, fault)| format!("item {index}: {fault}")).unwrap_or_default();
    let more = match taken.errors.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let mut reply = json!({ "error": format!("{first}{more}") });
    reply["accepted"] = json!(taken.accepted);
    reply["unknown"] = json!(taken.unknown);
    reply["errors"] = json!(errors);
    reply
}
