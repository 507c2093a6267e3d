//! Why there is no training set.

use std::io;
use std::path::{Path, PathBuf};

use arrow::error::ArrowError;
use parquet::errors::ParquetError;

use crate::prediction_log::read::ReadError;

/// A training set that could not be made. The text is what an operator reads.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the log's rows can't be put together: {0}")]
    Arrow(#[from] ArrowError),
    #[error("the training set can't be written: {0}")]
    Parquet(#[from] ParquetError),
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("there are no predictions of model '{model}' in {}{}", data_dir.display(), nearest.as_ref().map(|name| format!(", did you mean '{name}'?")).unwrap_or_default())]
    NoModel { model: String, data_dir: PathBuf, nearest: Option<String> },
    #[error("no prediction has feedback '{label}'{}", known_text(known))]
    NoLabel { label: String, known: Vec<String> },
    #[error(
        "feedback '{label}' is a number for prediction {number} and a text for prediction {text}: one training set holds one kind; narrow it by --since, --until or --version"
    )]
    MixedLabels { label: String, number: String, text: String },
    #[error(
        "column '{column}' is {first} in some files and {second} in others: export one version at a time with --version"
    )]
    MixedColumns { column: String, first: String, second: String },
    #[error("the log changed while it was read: {expected} rows were found, then {got}; run it again")]
    Changed { expected: u64, got: u64 },
    #[error("column '{column}' of the log is missing or not {expected}")]
    Column { column: &'static str, expected: &'static str },
}

impl ExportError {
    pub(super) fn io(path: &Path, cause: io::Error) -> Self {
        Self::Io { path: path.to_owned(), cause }
    }
}

fn known_text(known: &[String]) -> String {
    if known.is_empty() { ": there is none at all".to_owned() } else { format!(": there is {}", known.join(", ")) }
}
