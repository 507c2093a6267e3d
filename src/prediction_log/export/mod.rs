//! The training set that comes out of a log: one row for each prediction whose truth is known, and a manifest by which the
//! set is named and made again.
//!
//! Two passes. The first joins labels and predictions, and finds which hours have rows. The second reads the features of
//! one such hour at a time, sorts them and writes them, so that neither the files' order nor their compaction shows in what
//! comes out. Labels, and the labelled rows of one hour, are in memory.

mod columns;
mod error;
mod join;
mod labels;
mod manifest;
mod write;

use std::path::{Path, PathBuf};

pub use self::error::ExportError;
use self::join::Joined;
use self::labels::Labels;
pub use self::manifest::{Counts, Manifest, SourceFile, manifest_path};
use super::read::Scan;
use super::table::Table;

/// Which training set.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    pub data_dir: PathBuf,
    pub model: String,
    /// `None`: all.
    pub version: Option<u64>,
    /// Name of the feedback that is the label.
    pub label: String,
    /// First moment of predictions, and the first that is no longer meant; Unix time in µs.
    pub since_us: Option<i64>,
    pub until_us: Option<i64>,
    /// Feedback that arrived at this moment or later is not known yet, nor is a prediction of then; Unix time in µs.
    pub as_of_us: i64,
    /// Least age of a prediction at `as_of_us`, in µs: until then a label may still change or come. `None`: any age.
    pub mature_us: Option<i64>,
    pub weights: Weights,
}

/// What a row weighs, before the weight that its feedback gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// 1.
    Equal,
    /// Inverse propensity: 1 / (sampling probability × arm probability), so that sums over the rows estimate those over
    /// all requests.
    ///
    /// Source: Horvitz and Thompson, "A generalization of sampling without replacement from a finite universe", 1952.
    Ips,
}

impl Export {
    /// Writes the training set to `output`, and its manifest beside it. Both are replaced whole or not at all.
    ///
    /// # Errors
    /// `ExportError`; there is no new file then.
    pub fn run(&self, output: &Path) -> Result<Manifest, ExportError> {
        let labels = Labels::read(self)?;
        let joined = Joined::read(self, labels)?;
        let columns = columns::Columns::of(self)?;
        let written = write::write(self, &joined, &columns, output)?;
        let manifest = Manifest::new(self, &joined, &written, output);
        manifest.write(output)?;
        written.publish(output)?;
        Ok(manifest)
    }

    /// The moment before which predictions are meant.
    fn end_us(&self) -> i64 {
        let mature = self.as_of_us.saturating_sub(self.mature_us.unwrap_or(0));
        self.until_us.map_or(mature, |until| until.min(mature))
    }

    /// The predictions that are meant, whatever their status.
    fn predictions(&self) -> Scan {
        Scan {
            model: Some(self.model.clone()),
            version: self.version,
            since_us: self.since_us,
            until_us: Some(self.end_us()),
            ..Scan::all(&self.data_dir, Table::Predictions)
        }
    }
}

#[cfg(test)]
mod tests;
