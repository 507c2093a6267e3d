//! The training set that comes out of a log: one row for each prediction whose truth is known, and a manifest by which the
//! set is named and made again.
//!
//! Two passes. The first joins labels and predictions, and finds which hours have rows. The second reads the features of
//! one such hour at a time, sorts them and writes them, so that neither the files' order nor their compaction shows in what
//! comes out. Labels, the ids of the rows that have one, and those rows of one hour are in memory.

mod columns;
mod error;
mod join;
mod labels;
mod manifest;
mod standing;
mod write;

use std::path::{Path, PathBuf};

pub use self::error::ExportError;
use self::join::Joined;
use self::labels::Labels;
pub use self::manifest::{Counts, Manifest, SourceFile, manifest_path};
use super::read::{LeftOut, Scan, settled};
use super::settings::Exposure;
use super::table::Table;

/// Which training set.
#[derive(Debug, Clone)]
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
    /// `None`: only what was told is a label.
    pub negatives: Option<Negatives>,
    pub weights: Weights,
    /// `None`: labels of one kind alone.
    pub label_type: Option<LabelType>,
    /// Takes up the files that can't be read, and the set is made without them; `None`: the first one refuses it.
    pub left_out: Option<LeftOut>,
}

/// Predictions that were shown and of which nothing was told in time are negative, as in realised quality.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negatives {
    /// How long after it was shown, in µs.
    pub after_us: i64,
    pub exposure: Exposure,
}

/// What becomes of labels where some are numbers and some are texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelType {
    /// Texts are left out.
    Number,
    /// Numbers are written as texts.
    Text,
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
        settled(self.left_out.as_ref(), || self.once(output))
    }

    fn once(&self, output: &Path) -> Result<Manifest, ExportError> {
        let labels = Labels::read(self)?;
        let joined = Joined::read(self, &labels)?;
        let columns = columns::Columns::of(self)?;
        let written = write::write(self, &joined, &columns, output)?;
        let manifest = Manifest::new(self, &joined, &written, output);
        manifest.write(output)?;
        written.publish(output)?;
        Ok(manifest)
    }

    /// The moment from which on predictions are too young.
    fn mature_until_us(&self) -> i64 {
        self.as_of_us.saturating_sub(self.mature_us.unwrap_or(0))
    }

    /// Name of the feedback that says that a prediction was shown, where that matters.
    fn exposure(&self) -> Option<&str> {
        match &self.negatives.as_ref()?.exposure {
            Exposure::Assumed => None,
            Exposure::Feedback(name) => Some(name),
        }
    }

    /// The predictions that are meant, whatever their status and their age.
    fn predictions(&self) -> Scan {
        Scan {
            version: self.version,
            since_us: self.since_us,
            until_us: Some(self.until_us.map_or(self.as_of_us, |until| until.min(self.as_of_us))),
            ..self.table(Table::Predictions)
        }
    }

    /// Those of them that are old enough.
    fn mature(&self) -> Scan {
        let meant = self.predictions();
        let until_us = meant.until_us.map(|until| until.min(self.mature_until_us()));
        Scan { until_us, ..meant }
    }

    /// All that a table has of the model.
    fn table(&self, table: Table) -> Scan {
        Scan { model: Some(self.model.clone()), left_out: self.left_out.clone(), ..Scan::all(&self.data_dir, table) }
    }
}

#[cfg(test)]
mod tests;
