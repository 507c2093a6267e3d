//! AUDIT: who changed what, when and why, in a log that shows when it was tampered with.
//!
//! One JSON line an entry in `audit.jsonl` of the data directory; without a data directory the last entries in memory.
//! Each line holds the hash of the one before it: [`line`] says exactly how. [`verify`] checks a whole file.

mod file;
mod held;
pub mod line;
mod memory;
mod tail;
pub mod verify;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::file::FileLog;
use self::line::Line;
use self::memory::MemoryLog;
pub use self::verify::{Fault, Report, verify};
use crate::telemetry::metrics;

/// The log's file in the data directory.
pub const AUDIT_FILE: &str = "audit.jsonl";
/// The actor of what no person asked for.
pub const AUTOMATIC: &str = "headgate";
/// Most entries that one query gives.
pub const MAX_QUERY_LIMIT: usize = 10_000;
/// Most bytes of lines that are held at a time; the oldest give way.
const MAX_HELD_BYTES: usize = 64 << 20;

/// What happened, before it has its place in the chain.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Unix time in ms.
    pub at_ms: u64,
    /// Who asked; [`AUTOMATIC`] for what was decided here.
    pub actor: String,
    /// Such as `label.set`, `rollout.start` or `rollout.transition`.
    pub action: String,
    /// The model, route or rollout that it is about.
    pub target: String,
    pub reason: String,
    pub before: Value,
    pub after: Value,
    /// The figures that a decision rests on.
    pub evidence: Value,
}

impl Entry {
    /// An entry of now, whose other fields are empty.
    pub fn now(actor: &str, action: &str, target: &str) -> Self {
        Self {
            at_ms: unix_ms(),
            actor: actor.to_owned(),
            action: action.to_owned(),
            target: target.to_owned(),
            ..Self::default()
        }
    }
}

/// The last line's place and hash. Kept elsewhere, it shows later that no line was cut off the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// 0 before the first entry.
    pub number: u64,
    /// SHA-256, hexadecimal; 64 zeros before the first entry.
    pub hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Self { number: 0, hash: line::NO_HASH.to_owned() }
    }
}

/// Which entries are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Exactly this target.
    pub target: Option<String>,
    /// From this Unix time in ms on.
    pub since_ms: Option<u64>,
    /// Before this Unix time in ms.
    pub until_ms: Option<u64>,
}

impl Filter {
    fn takes(&self, entry: &Entry) -> bool {
        self.target.as_ref().is_none_or(|target| *target == entry.target)
            && self.since_ms.is_none_or(|since| entry.at_ms >= since)
            && self.until_ms.is_none_or(|until| entry.at_ms < until)
    }
}

/// Why the audit log could not be opened, read or written. Texts are for operators: some hold paths.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("the audit log '{}' can't be {what}: {cause}", path.display())]
    Io { path: PathBuf, what: &'static str, cause: std::io::Error },
    #[error("an audit entry of {got} bytes is too long, expected at most {limit}")]
    TooLong { got: usize, limit: usize },
}

/// The log. Shared by reference; every method blocks, for as long as the disk takes.
pub struct AuditLog {
    sink: Sink,
}

enum Sink {
    File(Mutex<FileLog>),
    Memory(Mutex<MemoryLog>),
}

impl AuditLog {
    /// Opens the log of a data directory, or begins one in memory.
    ///
    /// The chain goes on from the file's last line. A last line that was cut off by a crash is taken away, which is an
    /// entry of its own. A chain that is broken near its end is reported to the process's log and goes on.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(data_dir: Option<&Path>) -> Result<Self, AuditError> {
        let Some(dir) = data_dir else { return Ok(Self { sink: Sink::Memory(Mutex::default()) }) };
        let (file, cut_bytes) = FileLog::open(&dir.join(AUDIT_FILE))?;
        let log = Self { sink: Sink::File(Mutex::new(file)) };
        if cut_bytes > 0 {
            log.append(Entry {
                reason: "the last line was not whole: its writer ended before its end".to_owned(),
                evidence: json!({"cut_bytes": cut_bytes}),
                ..Entry::now(AUTOMATIC, "audit.cut", AUDIT_FILE)
            })?;
        }
        Ok(log)
    }

    /// Adds an entry and gives its number. It is on the disk when this returns.
    ///
    /// # Errors
    /// `Io`, after which the entry is not in the log, and `TooLong`.
    pub fn append(&self, entry: Entry) -> Result<u64, AuditError> {
        let number = match &self.sink {
            Sink::File(log) => locked(log).append(entry)?,
            Sink::Memory(log) => locked(log).append(entry)?,
        };
        metrics::count_audit_entry();
        Ok(number)
    }

    /// The newest entries that the filter takes, at most `limit` (and [`MAX_QUERY_LIMIT`]), newest last. Reads the file
    /// from its beginning, while entries are added.
    ///
    /// # Errors
    /// `Io`.
    pub fn query(&self, filter: &Filter, limit: usize) -> Result<Vec<Line>, AuditError> {
        let limit = limit.min(MAX_QUERY_LIMIT);
        match &self.sink {
            Sink::File(log) => {
                let extent = locked(log).extent();
                file::query(extent, filter, limit)
            }
            Sink::Memory(log) => Ok(locked(log).query(filter, limit)),
        }
    }

    /// The newest entry's place and hash.
    pub fn head(&self) -> Head {
        match &self.sink {
            Sink::File(log) => locked(log).head().clone(),
            Sink::Memory(log) => locked(log).head().clone(),
        }
    }
}

/// State is replaced after what can fail, so that a panic elsewhere leaves none half changed.
fn locked<T>(log: &Mutex<T>) -> MutexGuard<'_, T> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
