//! The body of a label's change: `{"version": 3}`.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use serde::Deserialize;
use tokio::time::timeout;

use super::BODY_TIMEOUT;
use super::api_error::ApiError;

/// Where a label is to point.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelBody {
    pub version: u64,
}

impl<S: Send + Sync> FromRequest<S> for LabelBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let content_type =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            let got = crate::inference::printable(content_type);
            let text = format!("the content-type must be application/json, got '{got}'");
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
        }
        let body = timeout(BODY_TIMEOUT, Bytes::from_request(request, state)).await.map_err(|_| {
            let text = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            ApiError::new(StatusCode::REQUEST_TIMEOUT, text)
        })??;
        serde_json::from_slice(&body).map_err(|cause| {
            let text = format!("expected a body such as {{\"version\": 3}}: {cause}");
            ApiError::new(StatusCode::BAD_REQUEST, text)
        })
    }
}
