//! Which models there are predictions of.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::error::ReadError;
use super::listing::{entries, segments};
use super::place::Place;
use super::scan::Scan;
use crate::prediction_log::table::META_MODEL;

impl Scan {
    /// Refuses a model that the table has nothing of.
    ///
    /// # Errors
    /// `NoModel` with those that there are; what keeps folders from being listed.
    pub fn check_model(&self) -> Result<(), ReadError> {
        let Some(model) = &self.model else { return Ok(()) };
        let known = self.models()?;
        if known.contains(model) {
            return Ok(());
        }
        let known = known.into_iter().collect();
        Err(ReadError::NoModel { model: model.clone(), data_dir: self.data_dir.clone(), known })
    }

    /// By the names of folders, and what segments say of themselves.
    fn models(&self) -> Result<BTreeSet<String>, ReadError> {
        let folders = entries(&self.data_dir.join(self.table.name()))?;
        let name = |folder: &PathBuf| Place::default().below(&folder.file_name()?.to_string_lossy()).model;
        let mut found: BTreeSet<String> = folders.iter().filter_map(name).filter(|name| !name.is_empty()).collect();
        let any = Self { model: None, version: None, ..self.clone() };
        for source in segments(&any)? {
            let schema = source.schema(&any)?;
            found.extend(schema.and_then(|schema| schema.metadata().get(META_MODEL).cloned()));
        }
        Ok(found)
    }
}
