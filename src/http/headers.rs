//! The headers of our own, as names that were parsed when the program was compiled.

use http::HeaderMap;
use http::header::HeaderName;

use crate::inference::Attributes;

impl Attributes for HeaderMap {
    fn get(&self, name: &str) -> Option<&[u8]> {
        HeaderMap::get(self, name).map(|value| value.as_bytes())
    }
}

/// Where the JSON head of a body ends; absent, the whole body is JSON. The protocol's name for it.
pub static HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// A client's id for a request, taken over where it is harmless.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// W3C Trace Context.
pub static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// In how many milliseconds an answer stops being of use.
pub static TIMEOUT_MS: HeaderName = HeaderName::from_static("headgate-timeout-ms");

/// `high` or `low`.
pub static PRIORITY: HeaderName = HeaderName::from_static("headgate-priority");

/// The version that answered.
pub static VERSION: HeaderName = HeaderName::from_static("headgate-version");

/// The arm that answered.
pub static ARM: HeaderName = HeaderName::from_static("headgate-arm");

/// Under which id labels find the prediction.
pub static PREDICTION_ID: HeaderName = HeaderName::from_static("headgate-prediction-id");
