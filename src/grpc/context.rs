//! What a call's metadata says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tonic::metadata::MetadataMap;

use crate::error::{Error, Result};
use crate::inference::{Attributes, Deadline, ModelRef, Priority, Protocol, RequestContext, RequestId, printable};

/// Request and response metadata of this name carries the request's id.
pub const REQUEST_ID: &str = "x-request-id";
/// Response metadata: the version that answered.
pub const VERSION: &str = "headgate-version";
/// Response metadata: the arm that answered.
pub const ARM: &str = "headgate-arm";
/// Response metadata: the id of the first row's prediction.
pub const PREDICTION_ID: &str = "headgate-prediction-id";

const TRACEPARENT: &str = "traceparent";
const TIMEOUT: &str = "grpc-timeout";
const TIMEOUT_MS: &str = "headgate-timeout-ms";
const PRIORITY: &str = "headgate-priority";

/// When the call's headers arrived; an extension of every request.
#[derive(Debug, Clone, Copy)]
pub struct Received(pub Instant);

/// The metadata of one call, which may carry many requests.
#[derive(Debug, Clone)]
pub struct CallContext {
    request_id: RequestId,
    /// Whether the client gave the id; if not, each request of a stream gets its own.
    id_offered: bool,
    traceparent: Option<String>,
    /// Of the call as a whole.
    deadline: Deadline,
    /// Of each request in it.
    timeout: Option<Duration>,
    priority: Option<Priority>,
    metadata: Arc<MetadataMap>,
}

impl Attributes for CallContext {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.metadata.get(name).map(|value| value.as_bytes())
    }
}

impl CallContext {
    /// Reads a call's metadata; `received` is when its headers arrived.
    ///
    /// # Errors
    /// `Invalid` for a timeout or priority that isn't one.
    pub fn read(metadata: MetadataMap, received: Instant) -> Result<Self> {
        let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
        let deadline = match text(TIMEOUT) {
            None => Deadline::NONE,
            Some(value) => Deadline::after(received, parse_timeout(value)?),
        };
        let timeout = text(TIMEOUT_MS).map(parse_timeout_ms).transpose()?;
        let priority = text(PRIORITY).map(parse_priority).transpose()?;
        Ok(Self {
            request_id: RequestId::take_over(text(REQUEST_ID)),
            id_offered: metadata.contains_key(REQUEST_ID),
            traceparent: text(TRACEPARENT).map(str::to_owned),
            deadline,
            timeout,
            priority,
            metadata: Arc::new(metadata),
        })
    }

    /// The id of the call's first, or only, request.
    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// The same metadata for a stream's next request.
    pub fn next(&self) -> Self {
        let mut next = self.clone();
        if !self.id_offered {
            next.request_id = RequestId::take_over(None);
        }
        next
    }

    /// When the answer to a request stops being of use that arrived at `received`.
    pub fn deadline(&self, received: Instant) -> Deadline {
        let own = self.timeout.map_or(Deadline::NONE, |timeout| Deadline::after(received, timeout));
        self.deadline.min(own)
    }

    /// The context of a request for `model` that arrived at `received`.
    pub fn request(&self, model: ModelRef, received: Instant) -> RequestContext {
        RequestContext {
            model,
            request_id: self.request_id.clone(),
            traceparent: self.traceparent.clone(),
            deadline: self.deadline(received),
            priority: self.priority,
            received,
            protocol: Protocol::Grpc,
        }
    }
}

/// Reads gRPC's own timeout: at most eight digits and a unit.
fn parse_timeout(value: &str) -> Result<Duration> {
    let wrong = || Error::invalid(format!("{TIMEOUT} expects up to 8 digits and a unit, got '{}'", printable(value)));
    let (digits, unit) = value.split_at_checked(value.len().saturating_sub(1)).ok_or_else(wrong)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let amount: u64 = digits.parse().map_err(|_| wrong())?;
    match unit {
        "H" => Ok(Duration::from_secs(amount * 3600)),
        "M" => Ok(Duration::from_secs(amount * 60)),
        "S" => Ok(Duration::from_secs(amount)),
        "m" => Ok(Duration::from_millis(amount)),
        "u" => Ok(Duration::from_micros(amount)),
        "n" => Ok(Duration::from_nanos(amount)),
        _ => Err(wrong()),
    }
}

fn parse_timeout_ms(value: &str) -> Result<Duration> {
    value.parse().map(Duration::from_millis).map_err(|_| {
        Error::invalid(format!("{TIMEOUT_MS} expects a whole number of milliseconds, got '{}'", printable(value)))
    })
}

fn parse_priority(value: &str) -> Result<Priority> {
    Priority::from_name(value)
        .ok_or_else(|| Error::invalid(format!("{PRIORITY} expects high or low, got '{}'", printable(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_of_a_timeout_is_read() {
        for (text, expected) in [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("4S", Duration::from_secs(4)),
            ("5m", Duration::from_millis(5)),
            ("6u", Duration::from_micros(6)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(parse_timeout(text).unwrap(), expected, "{text}");
        }
        for wrong in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1é"] {
            assert!(parse_timeout(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_earlier_of_two_deadlines_holds() {
        let now = Instant::now();
        let mut metadata = MetadataMap::new();
        metadata.insert(TIMEOUT, "10S".parse().unwrap());
        metadata.insert(TIMEOUT_MS, "50".parse().unwrap());
        let call = CallContext::read(metadata.clone(), now).unwrap();
        let request = call.request(ModelRef::parse("m", "").unwrap(), now);
        assert_eq!(request.deadline, Deadline::after(now, Duration::from_millis(50)));
    }

    #[test]
    fn requests_of_a_stream_share_only_an_id_that_was_given() {
        let mut metadata = MetadataMap::new();
        let own = CallContext::read(metadata.clone(), Instant::now()).unwrap();
        assert_ne!(own.next().request_id, own.request_id);
        metadata.insert(REQUEST_ID, "abc".parse().unwrap());
        let given = CallContext::read(metadata.clone(), Instant::now()).unwrap();
        assert_eq!(given.next().request_id.as_str(), "abc");
    }

    #[test]
    fn a_priority_is_high_or_low() {
        let mut metadata = MetadataMap::new();
        metadata.insert(PRIORITY, "urgent".parse().unwrap());
        let error = CallContext::read(metadata.clone(), Instant::now()).unwrap_err();
        assert_eq!(error.to_string(), "headgate-priority expects high or low, got 'urgent'");
    }
}
