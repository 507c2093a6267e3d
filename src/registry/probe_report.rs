//! What the child process that tries an unknown model file says on its standard output: one JSON object.
//!
//! `{"ok":true}`, or `{"ok":false,"kind":"missing_operators","error":"…"}`. A child that says neither has crashed.

use serde::{Deserialize, Serialize};

use crate::engine::LoadError;

/// What the child must find in its environment: the allocator otherwise reserves address space a gibibyte at a time, and
/// a limit of address space does not see what is taken out of that.
pub const CHILD_ENVIRONMENT: (&str, &str) = ("MIMALLOC_ARENA_RESERVE", "32MiB");

/// The outcome of a try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum ProbeReport {
    /// The file was loaded and has run once.
    Loaded,
    /// The engine refuses the file; `error` is for the operator.
    Refused { kind: RefusalKind, error: String },
}

/// The kind of a [`LoadError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    MissingOperators,
    Invalid,
    Unreadable,
    Unsupported,
    WarmUp,
}

impl From<&LoadError> for RefusalKind {
    fn from(error: &LoadError) -> Self {
        match error {
            LoadError::Unreadable(_) => Self::Unreadable,
            LoadError::Invalid(_) => Self::Invalid,
            LoadError::MissingOperators { .. } => Self::MissingOperators,
            LoadError::Unsupported { .. } | LoadError::EngineAbsent(_) => Self::Unsupported,
            LoadError::WarmUp(_) => Self::WarmUp,
            LoadError::NoEngine { tract, .. } => Self::from(&**tract),
        }
    }
}

impl From<&LoadError> for ProbeReport {
    fn from(error: &LoadError) -> Self {
        Self::Refused { kind: error.into(), error: error.to_string() }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<RefusalKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<ProbeReport> for Written {
    fn from(report: ProbeReport) -> Self {
        match report {
            ProbeReport::Loaded => Self { ok: true, kind: None, error: None },
            ProbeReport::Refused { kind, error } => Self { ok: false, kind: Some(kind), error: Some(error) },
        }
    }
}

impl TryFrom<Written> for ProbeReport {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written { ok: true, kind: None, error: None } => Ok(Self::Loaded),
            Written { ok: false, kind: Some(kind), error: Some(error) } => Ok(Self::Refused { kind, error }),
            _ => Err("expected kind and error exactly where ok is false"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_it_was_written() {
        let refused = ProbeReport::from(&LoadError::WarmUp("no".into()));
        for (report, text) in [
            (ProbeReport::Loaded, r#"{"ok":true}"#),
            (refused, r#"{"ok":false,"kind":"warm_up","error":"the warm-up run failed: no"}"#),
        ] {
            assert_eq!(serde_json::to_string(&report).unwrap(), text);
            assert_eq!(serde_json::from_str::<ProbeReport>(text).unwrap(), report);
        }
        for broken in ["", "{}", r#"{"ok":false}"#, r#"{"ok":true,"error":"x"}"#] {
            assert!(serde_json::from_str::<ProbeReport>(broken).is_err(), "{broken}");
        }
    }
}
