//! One line a request: every error, and a sample of the rest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{Error, Kind};
use crate::inference::RequestContext;

/// Which successful requests get a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLogMode {
    /// No line at all, not even for errors.
    Off,
    /// Errors, and one success in `every`.
    Sample {
        every: u64,
    },
    All,
}

/// Decides who gets a line, and writes it.
#[derive(Debug)]
pub struct AccessLog {
    mode: AccessLogMode,
    successes: AtomicU64,
}

/// What a line says.
pub struct AccessLine<'a> {
    pub context: &'a RequestContext,
    /// `None` where the request was not routed.
    pub version: Option<u64>,
    pub rows: usize,
    pub total: Duration,
    pub error: Option<&'a Error>,
}

impl AccessLog {
    pub fn new(mode: AccessLogMode) -> Self {
        Self { mode, successes: AtomicU64::new(0) }
    }

    pub fn write(&self, line: &AccessLine<'_>) {
        if !self.wants(line.error) {
            return;
        }
        let AccessLine { context, version, rows, total, error } = line;
        let kind = error.map_or("ok", |error| error.kind().label());
        let error_text = error.map(ToString::to_string).unwrap_or_default();
        tracing::info!(
            target: "headgate::access",
            request_id = context.request_id.as_str(),
            traceparent = context.traceparent.as_deref().unwrap_or(""),
            protocol = context.protocol.name(),
            model = %crate::inference::printable(&context.model.asked),
            version = version.unwrap_or(0),
            rows,
            total_us = total.as_micros() as u64,
            outcome = kind,
            error = error_text,
            "request"
        );
    }

    fn wants(&self, error: Option<&Error>) -> bool {
        match (self.mode, error) {
            (AccessLogMode::Off, _) => false,
            (AccessLogMode::All, _) => true,
            // A client that leaves is no error of anyone's.
            (AccessLogMode::Sample { .. }, Some(error)) if error.kind() != Kind::Cancelled => true,
            (AccessLogMode::Sample { every }, _) => {
                self.successes.fetch_add(1, Ordering::Relaxed).is_multiple_of(every.max(1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_always_and_one_success_in_so_many() {
        let log = AccessLog::new(AccessLogMode::Sample { every: 10 });
        let successes = (0..30).filter(|_| log.wants(None)).count();
        assert_eq!(successes, 3);
        assert!((0..30).all(|_| log.wants(Some(&Error::invalid("x")))));
        assert!(!AccessLog::new(AccessLogMode::Off).wants(Some(&Error::invalid("x"))));
    }
}
