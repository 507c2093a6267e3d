//! The prediction log: what it counts, and its sealing on demand.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use tokio::task::spawn_blocking;

use super::AdminState;
use super::api_error::ApiError;
use super::view::{LogCounts, LogSealed, LogStats, LogWriter};
use crate::error::Error;
use crate::prediction_log::writer::WriterHandle;
use crate::prediction_log::{PredictionLog, RowCounts};

/// Time that sealing may take before the answer says that it is not done yet.
const SEAL_TIMEOUT: Duration = Duration::from_secs(60);

/// Seals what is open, and says whether all of it is; may block for as long as it is told.
pub type SealNow = Arc<dyn Fn(Duration) -> bool + Send + Sync>;

/// The log as an operator may see it.
#[derive(Clone)]
pub struct LogAdmin {
    /// The data directory; `None`: there is no log.
    pub directory: Option<PathBuf>,
    /// When the process began, as in the rows' `incarnation`.
    pub incarnation: u64,
    pub writer: Option<WriterHandle>,
    /// One for each table.
    pub seal: Vec<SealNow>,
}

impl LogAdmin {
    /// Of a process without a data directory.
    pub fn off() -> Self {
        Self { directory: None, incarnation: 0, writer: None, seal: vec![] }
    }

    fn stats(&self, log: &PredictionLog) -> LogStats {
        // A command asks with another working directory.
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let directory = self.directory.as_ref().map(|path| absolute(path).to_string_lossy().into_owned());
        LogStats {
            incarnation: directory.as_ref().map(|_| self.incarnation),
            directory,
            models: rows(log),
            writer: self.writer.as_ref().map(writer),
        }
    }
}

impl fmt::Debug for LogAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogAdmin").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// What became of the rows of each model.
pub fn rows(log: &PredictionLog) -> BTreeMap<String, LogCounts> {
    let read = |counts: &RowCounts| LogCounts {
        written: counts.written.load(Relaxed),
        sampled_out: counts.sampled_out.load(Relaxed),
        dropped_ring: counts.dropped_ring.load(Relaxed),
        dropped_disk: counts.dropped_disk.load(Relaxed),
        truncated: counts.truncated.load(Relaxed),
        refused: counts.refused.load(Relaxed),
    };
    log.counts().into_iter().map(|(model, counts)| (model, read(&counts))).collect()
}

fn writer(handle: &WriterHandle) -> LogWriter {
    let (stats, sealing) = (handle.stats(), handle.seal_stats());
    LogWriter {
        open_segments: stats.open_segments as u64,
        pending_bytes: stats.pending_bytes as u64,
        waiting_segments: sealing.waiting as u64,
        sealed_files: sealing.sealed_files,
        sealed_rows: sealing.sealed_rows,
        set_aside: sealing.set_aside,
        disk_share: stats.disk_share,
        errors: stats.errors + sealing.failures,
        last_error: stats.last_error.or(sealing.last_error),
    }
}

pub async fn stats(State(state): State<AdminState>) -> Json<LogStats> {
    Json(state.log.stats(&state.plane.log))
}

/// Ends all segments and waits until they are sealed.
pub async fn seal(State(state): State<AdminState>) -> Result<Json<LogSealed>, ApiError> {
    if state.log.directory.is_none() {
        let text = "there is no prediction log: the server was started without --data-dir";
        return Err(ApiError::new(StatusCode::CONFLICT, text.to_owned()));
    }
    let seal = state.log.seal;
    // Each of them is asked, whatever the one before says.
    let each = move || seal.iter().map(|seal| seal(SEAL_TIMEOUT)).filter(|is_done| !is_done).count() == 0;
    let sealed = spawn_blocking(each).await;
    let sealed = sealed.map_err(|_| Error::Internal("the log can't be sealed".to_owned()))?;
    Ok(Json(LogSealed { sealed }))
}
