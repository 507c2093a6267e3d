//! A pass over one table.

use std::path::PathBuf;

use arrow::array::RecordBatch;

use super::error::ReadError;
use super::left_out::LeftOut;
use super::listing::{Source, SourceBatches, list};
use crate::prediction_log::table::Table;

/// Which rows, and which of their columns. Every bound is optional.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The server's `--data-dir`.
    pub data_dir: PathBuf,
    pub table: Table,
    /// Feedback whose model is not known is part of every model's.
    pub model: Option<String>,
    /// Of predictions alone.
    pub version: Option<u64>,
    /// Unix time in µs of the first moment, by `ts` of a prediction and `received_time` of feedback.
    pub since_us: Option<i64>,
    /// Unix time in µs of the first moment that is no longer meant.
    pub until_us: Option<i64>,
    /// Names; those that a file doesn't have are left out of its batches. `None`: all.
    pub columns: Option<Vec<String>>,
    /// Takes up the files that can't be read, and the pass goes on without them. `None`: the first one ends it.
    pub left_out: Option<LeftOut>,
}

/// The batches of a scan, file by file. Their schemas differ between models, versions, and what their settings said.
pub struct Batches {
    scan: Scan,
    sources: std::vec::IntoIter<Source>,
    current: Option<SourceBatches>,
}

impl Scan {
    /// All rows and all columns of a table.
    pub fn all(data_dir: impl Into<PathBuf>, table: Table) -> Self {
        let data_dir = data_dir.into();
        Self {
            data_dir,
            table,
            model: None,
            version: None,
            since_us: None,
            until_us: None,
            columns: None,
            left_out: None,
        }
    }

    /// Lists the files that may hold such rows; they are read as the batches are asked for.
    ///
    /// # Errors
    /// As [`list`].
    pub fn batches(&self) -> Result<Batches, ReadError> {
        Ok(Batches { scan: self.clone(), sources: list(self)?.into_iter(), current: None })
    }

    /// What reading a file gave; `None` where it can't be read and is left out.
    ///
    /// # Errors
    /// What is no single file's fault; every fault where the scan leaves nothing out.
    pub(super) fn tolerate<T>(&self, outcome: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
        let fault = match outcome {
            Ok(value) => return Ok(Some(value)),
            Err(fault) => fault,
        };
        let Some((left_out, path)) = self.left_out.as_ref().zip(fault.file()) else { return Err(fault) };
        left_out.add(path, &fault);
        Ok(None)
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(current) = &mut self.current {
                match current.next() {
                    Some(Ok(batch)) if batch.num_rows() == 0 => continue,
                    Some(outcome) => return Some(outcome),
                    None => self.current = None,
                }
            }
            match self.sources.next()?.batches(&self.scan) {
                Ok(batches) => self.current = Some(batches),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
