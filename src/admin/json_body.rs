//! The JSON bodies of changes: what they may be, and how large.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::api_error::ApiError;
use super::{BODY_TIMEOUT, MAX_BODY_BYTES, MAX_SPEC_BYTES};
use crate::inference::printable;
use crate::rollout::view::StartRequest;

/// Something that a change's body says.
pub trait Content: DeserializeOwned {
    /// A body that would do, for error texts.
    const EXAMPLE: &'static str;
    /// Largest body, in bytes; the route's limit must be the same.
    const LIMIT_BYTES: usize = MAX_BODY_BYTES;

    /// What no body at all means; `None` where there must be one.
    fn absent() -> Option<Self> {
        None
    }
}

/// Where a label is to point.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelBody {
    pub version: u64,
}

impl Content for LabelBody {
    const EXAMPLE: &'static str = "{\"version\": 3}";
}

/// Why an operator acts on a rollout.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReasonBody {
    pub reason: String,
}

impl Content for ReasonBody {
    const EXAMPLE: &'static str = "{\"reason\": \"errors of region west\"}";

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

impl Content for StartRequest {
    const EXAMPLE: &'static str = "{\"route\": \"digits\", \"to\": 3}";
    const LIMIT_BYTES: usize = MAX_SPEC_BYTES;
}

/// A body that was read, and fits.
pub struct JsonBody<T>(pub T);

impl<T: Content, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let content_type =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let refused = T::absent().is_none().then(|| check_content_type(&content_type)).transpose();
        refused?;
        let body = timeout(BODY_TIMEOUT, Bytes::from_request(request, state)).await.map_err(|_| {
            let text = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            ApiError::new(StatusCode::REQUEST_TIMEOUT, text)
        })?;
        let body = body.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body exceeds the limit of {} bytes", T::LIMIT_BYTES),
            ),
            _ => ApiError::new(StatusCode::BAD_REQUEST, "the body was cut off before its end"),
        })?;
        if let (true, Some(absent)) = (body.is_empty(), T::absent()) {
            return Ok(Self(absent));
        }
        check_content_type(&content_type)?;
        serde_json::from_slice(&body).map(Self).map_err(|cause| {
            let text = format!("expected a body such as {}: {cause}", T::EXAMPLE);
            ApiError::new(StatusCode::BAD_REQUEST, text)
        })
    }
}

/// A page of another origin can't say that its body is JSON without asking first.
fn check_content_type(content_type: &str) -> Result<(), ApiError> {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let text = format!("the content-type must be application/json, got '{}'", printable(content_type));
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
}
