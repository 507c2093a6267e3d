//! What every handler is given: the request's head and when it came.

use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::HeaderName;

use super::headers;
use crate::data_plane::DataPlane;
use crate::error::{Error, Result};
use crate::inference::{Deadline, ModelRef, Priority, Protocol, RequestContext, RequestId, printable};

/// One request, without its body.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    pub plane: &'a DataPlane,
    pub headers: &'a HeaderMap,
    pub request_id: &'a RequestId,
    pub received: Instant,
}

impl Call<'_> {
    /// From `headgate-timeout-ms`, counted from the receipt of the head.
    ///
    /// # Errors
    /// `Invalid` for anything but a whole number.
    pub fn deadline(&self) -> Result<Deadline> {
        let Some(text) = self.header(&headers::TIMEOUT_MS) else { return Ok(Deadline::NONE) };
        let milliseconds = text.trim().parse().map_err(|_| {
            Error::Invalid(format!(
                "header 'headgate-timeout-ms' expects a whole number of milliseconds, got '{}'",
                printable(&text)
            ))
        })?;
        Ok(Deadline::after(self.received, Duration::from_millis(milliseconds)))
    }

    /// The context of a prediction.
    ///
    /// # Errors
    /// `Invalid` for a header of ours that does not hold what it should.
    pub fn context(&self, model: ModelRef) -> Result<RequestContext> {
        Ok(RequestContext {
            model,
            request_id: self.request_id.clone(),
            traceparent: self.header(&headers::TRACEPARENT).filter(|value| is_traceparent(value)),
            deadline: self.deadline()?,
            priority: self.priority()?,
            received: self.received,
            protocol: Protocol::Http,
        })
    }

    fn priority(&self) -> Result<Option<Priority>> {
        let Some(text) = self.header(&headers::PRIORITY) else { return Ok(None) };
        match Priority::from_name(&text) {
            None => Err(Error::Invalid(format!(
                "header 'headgate-priority' expects high or low, got '{}'",
                printable(&text)
            ))),
            priority => Ok(priority),
        }
    }

    fn header(&self, name: &HeaderName) -> Option<String> {
        Some(String::from_utf8_lossy(self.headers.get(name)?.as_bytes()).into_owned())
    }
}

/// `<version>-<trace id>-<parent id>-<flags>` in lower-case hexadecimal (W3C Trace Context, section 3.2); later versions
/// may append more. Anything else is as good as absent.
fn is_traceparent(value: &str) -> bool {
    const LONGEST: usize = 128;
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut parts = value.split('-');
    let lengths_fit = [2, 32, 16, 2].into_iter().all(|length| parts.next().is_some_and(|part| part.len() == length));
    value.len() <= LONGEST && lengths_fit && value.split('-').all(is_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_traceparent_is_taken_over() {
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        for bad in ["", "00-4bf9-00f0-01", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", "x\ny"] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }
}
