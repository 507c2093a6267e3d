//! Every refusal as JSON: `{"error": "…"}` with the status that fits.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::error::Error;

/// A refused request.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    text: String,
    retry_after_s: Option<u64>,
}

impl ApiError {
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), retry_after_s: None }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        // 499 and the like are in the table, so every status of it is a valid one.
        let status = StatusCode::from_u16(error.kind().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after_s = error.retry_after().map(|wait| wait.as_secs().max(1));
        Self { status, text: error.to_string(), retry_after_s }
    }
}

impl From<PathRejection> for ApiError {
    fn from(_: PathRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "a name in the path is not UTF-8 once its escapes are decoded")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({"error": self.text}))).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}
