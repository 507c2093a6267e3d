//! Why there is no training set.

use std::io;
use std::path::{Path, PathBuf};

use arrow::error::ArrowError;
use parquet::errors::ParquetError;

use crate::inference::PredictionId;
use crate::prediction_log::read::ReadError;

/// A training set that could not be made. The text is what an operator reads.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Read(ReadError),
    #[error(
        "{0}. A training set must not lack rows unnoticed: put a whole copy of the file in its place, or make the set without it by --skip-damaged, which the manifest then says"
    )]
    Damaged(ReadError),
    #[error(
        "{0}. Without it clicks would count as negatives: put a whole copy of the file in its place, or make the set without --negative-after"
    )]
    DamagedFeedback(ReadError),
    #[error("the log's rows can't be put together: {0}")]
    Arrow(#[from] ArrowError),
    #[error("the training set can't be written: {0}")]
    Parquet(#[from] ParquetError),
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("no prediction has feedback '{label}'{}", known_text(known))]
    NoLabel { label: String, known: Vec<String> },
    #[error(
        "feedback '{label}' is a number for {numbers} predictions, the first {number}, and a text for {texts}, the first {text}: one training set holds one kind. --label-type number leaves the texts out, --label-type text writes all as texts; --since, --until and --version narrow it"
    )]
    MixedLabels { label: String, numbers: usize, number: PredictionId, texts: usize, text: PredictionId },
    #[error(
        "column '{column}' is {first} in some files and {second} in others: export one version at a time with --version"
    )]
    MixedColumns { column: String, first: String, second: String },
    #[error("the log changed while it was read: {expected} rows were found, then {got}; run it again")]
    Changed { expected: u64, got: u64 },
    #[error("column '{column}' of the log is missing or not {expected}")]
    Column { column: &'static str, expected: &'static str },
}

impl From<ReadError> for ExportError {
    fn from(fault: ReadError) -> Self {
        if fault.file().is_some() { Self::Damaged(fault) } else { Self::Read(fault) }
    }
}

impl ExportError {
    pub(super) fn io(path: &Path, cause: io::Error) -> Self {
        Self::Io { path: path.to_owned(), cause }
    }
}

fn known_text(known: &[String]) -> String {
    if known.is_empty() { ": there is none at all".to_owned() } else { format!(": there is {}", known.join(", ")) }
}
