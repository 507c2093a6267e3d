//! The audit log: written beside each change, and shown.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::AdminState;
use super::api_error::ApiError;
use super::view::AuditList;
use crate::audit::{AuditLog, Entry, Filter};
use crate::error::{Error, Result};
use crate::inference::printable;

/// Entries that are shown where no limit is given.
const DEFAULT_LIMIT: usize = 100;

/// What is asked for. Empty is as good as absent.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditQuery {
    target: String,
    since_ms: String,
    until_ms: String,
    limit: String,
}

pub async fn list(
    State(state): State<AdminState>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<AuditList>, ApiError> {
    let Query(query) = query.map_err(|rejection| ApiError::new(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    let filter = Filter {
        target: (!query.target.is_empty()).then_some(query.target),
        since_ms: number("since_ms", &query.since_ms)?,
        until_ms: number("until_ms", &query.until_ms)?,
    };
    let limit = number("limit", &query.limit)?.unwrap_or(DEFAULT_LIMIT);
    let audit = state.audit;
    let read = spawn_blocking(move || audit.query(&filter, limit).map(|entries| (entries, audit.head())));
    match read.await {
        Ok(Ok((entries, head))) => Ok(Json(AuditList { entries, head })),
        Ok(Err(error)) => {
            tracing::error!(%error, "the audit log can't be read");
            Err(unreadable())
        }
        Err(_) => Err(unreadable()),
    }
}

fn unreadable() -> ApiError {
    Error::Internal("the audit log can't be read; the server's log has the cause".to_owned()).into()
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<Option<T>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let refused = |_| {
        let text = format!("{name} expects a whole number, got '{}'", printable(text));
        ApiError::new(StatusCode::BAD_REQUEST, text)
    };
    text.parse().map(Some).map_err(refused)
}

/// Writes an entry, which is on the disk when this returns.
///
/// # Errors
/// `Internal` where it can't be written; the process's log says why.
pub async fn record(audit: &Arc<AuditLog>, entry: Entry) -> Result<()> {
    let (audit, what) = (audit.clone(), entry.action.clone());
    match spawn_blocking(move || audit.append(entry)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => tracing::error!(%error, what, "the audit log could not be written"),
        Err(error) => tracing::error!(%error, what, "the audit log could not be written"),
    }
    let text = "the change was made, but not written to the audit log; the server's log has the cause";
    Err(Error::Internal(text.to_owned()))
}
