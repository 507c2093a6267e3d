//! The files of one day: which of them are merged, and how that is made to hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{Metadata, Schema, SchemaRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::Report;
use super::merge::{Part, merged};
use crate::prediction_log::disk::Disk;
use crate::prediction_log::seal::Origin;
use crate::prediction_log::seal::file::{NewFile, temporary_path};
use crate::prediction_log::stream::wal_folder;
use crate::prediction_log::table::{
    META_DIGEST, META_REPLACES, META_ROWS, META_RULES, META_SEQ_FIRST, META_SEQ_LAST, META_TS_FIRST, META_TS_LAST,
    SEALED_EXTENSION, SEGMENT_EXTENSION, Table,
};

/// Most files that become one, and so most that may be open at one time.
const MAX_MERGED: usize = 256;

/// A day of one version, or of one model's feedback.
pub struct Day<'a> {
    pub data_dir: &'a Path,
    pub folder: &'a Path,
    pub disk: &'a Arc<dyn Disk>,
}

/// Files that become one: sorted by the time of their first rows.
pub struct Plan {
    table: Table,
    schema: SchemaRef,
    files: Vec<SealedFile>,
    /// The one that is replaced: that of the latest hour, so that no row comes into an hour that is earlier than itself.
    target: PathBuf,
}

impl Plan {
    pub fn target(&self) -> &Path {
        &self.target
    }
}

/// A file as its metadata describes it.
#[derive(Debug, Clone)]
struct SealedFile {
    path: PathBuf,
    bytes: u64,
    rows: u64,
    origin: Origin,
    /// Of its rows in Unix µs.
    first_us: i64,
    schema: SchemaRef,
    replaces: BTreeSet<String>,
}

/// What must be the same for files to become one.
type Kind = (Table, Vec<String>, Option<String>, Option<String>);

impl Day<'_> {
    /// Removes files that another stands for, and what a merge left that was not finished.
    pub fn finish_interrupted(&self) -> io::Result<()> {
        let paths = self.paths();
        let mut replaced = BTreeSet::new();
        for path in &paths {
            let temporary = temporary_path(path);
            // That of a segment has no file beside it.
            if temporary.exists() {
                self.disk.remove(&temporary)?;
            }
            if let Ok(file) = SealedFile::read(path) {
                replaced.extend(file.replaces);
            }
        }
        self.remove(paths.iter().filter(|path| replaced.contains(&stem(path))))
    }

    /// What is to be merged. Files that can't be read come into the report.
    pub fn plans(&self, max_bytes: u64, report: &mut Report) -> io::Result<Vec<Plan>> {
        let mut kinds: BTreeMap<Kind, Vec<SealedFile>> = BTreeMap::new();
        for path in self.paths() {
            match SealedFile::read(&path) {
                // Were it gone before its segment, the segment would be sealed again.
                Ok(file) if self.has_segment(&file) => {}
                Ok(file) => kinds.entry(file.kind()).or_default().push(file),
                // Deleted in the meantime, for its age.
                Err(_) if !path.exists() => {}
                Err(cause) => report.failed.push((path, cause.to_string())),
            }
        }
        let mut plans = vec![];
        for mut files in kinds.into_values() {
            files.sort_by_key(|file| (file.first_us, file.path.clone()));
            let mut next: Vec<SealedFile> = vec![];
            for file in files {
                let bytes: u64 = next.iter().map(|file| file.bytes).sum();
                if bytes + file.bytes > max_bytes || next.len() == MAX_MERGED {
                    plans.extend(plan(std::mem::take(&mut next)));
                }
                next.push(file);
            }
            plans.extend(plan(next));
        }
        Ok(plans)
    }

    /// Makes one file of many.
    pub fn merge(&self, plan: Plan, report: &mut Report) -> io::Result<()> {
        let mut new = NewFile::create(self.disk, &plan.target, plan.table, &plan.schema)?;
        let parts = plan.files.iter().map(|file| Part { path: file.path.clone(), first_us: file.first_us }).collect();
        merged(parts, plan.table, &mut |batch| new.write(&batch))?;
        let expected: u64 = plan.files.iter().map(|file| file.rows).sum();
        let others = || plan.files.iter().filter(|file| file.path != plan.target);
        // Those that a merged file stood for may still lie elsewhere, uploaded before it.
        let before = plan.files.iter().flat_map(|file| file.replaces.iter().cloned());
        let replaces: BTreeSet<String> = others().map(|file| stem(&file.path)).chain(before).collect();
        let replaces: Vec<String> = replaces.into_iter().collect();
        if new.rows() != expected {
            let got = new.rows();
            return Err(io::Error::other(format!("the files have {expected} rows, and {got} could be read")));
        }
        new.publish(&replaces)?;
        report.merged_files += plan.files.len() as u64;
        report.merged_bytes += plan.files.iter().map(|file| file.bytes).sum::<u64>();
        report.new_files += 1;
        report.new_bytes += plan.target.metadata().map_or(0, |found| found.len());
        report.rows += expected;
        self.remove(others().map(|file| &file.path))
    }

    fn remove<'p>(&self, paths: impl Iterator<Item = &'p PathBuf>) -> io::Result<()> {
        let mut folders = BTreeSet::new();
        for path in paths {
            self.disk.remove(path)?;
            folders.extend(path.parent().map(Path::to_owned));
        }
        for folder in folders {
            self.disk.sync_folder(&folder)?;
            if folder != *self.folder {
                // An hour that has no files left; one that has stays.
                let _ = fs::remove_dir(&folder);
            }
        }
        Ok(())
    }

    /// Sealed files of the day and of its hours, sorted.
    fn paths(&self) -> Vec<PathBuf> {
        let hours = super::folders(self.folder, "hour=");
        let mut found = vec![];
        for folder in std::iter::once(self.folder).chain(hours.iter().map(PathBuf::as_path)) {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let is_sealed = |path: &PathBuf| path.extension().is_some_and(|extension| extension == SEALED_EXTENSION);
            found.extend(entries.map(|entry| entry.path()).filter(is_sealed));
        }
        found.sort();
        found
    }

    fn has_segment(&self, file: &SealedFile) -> bool {
        let name = format!("{}.{SEGMENT_EXTENSION}", stem(&file.path));
        wal_folder(self.data_dir, file.origin.table).join(name).exists()
    }
}

/// What files become; nothing if it is one alone.
fn plan(files: Vec<SealedFile>) -> Option<Plan> {
    let target = files.iter().max_by_key(|file| (file.origin.opened_us, &file.path)).filter(|_| files.len() > 1)?;
    let mut metadata = target.schema.metadata().clone();
    for key in [META_ROWS, META_SEQ_FIRST, META_SEQ_LAST, META_TS_FIRST, META_TS_LAST, META_REPLACES] {
        metadata.remove(key);
    }
    let schema = Arc::new(Schema::new_with_metadata(target.schema.fields().clone(), metadata));
    Some(Plan { table: target.origin.table, schema, target: target.path.clone(), files })
}

impl SealedFile {
    fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(io::Error::other)?;
        let schema = builder.schema().clone();
        let metadata: &Metadata = schema.metadata();
        let origin = Origin::read(path, metadata).map_err(io::Error::other)?;
        let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).map_err(io::Error::other)?;
        let first_us = metadata.get(META_TS_FIRST).and_then(|text| text.parse().ok()).unwrap_or(origin.opened_us);
        let replaces = metadata.get(META_REPLACES).map(|list| list.split(',').map(str::to_owned).collect());
        let replaces = replaces.unwrap_or_default();
        Ok(Self { path: path.to_owned(), bytes, rows, origin, first_us, schema: schema.clone(), replaces })
    }

    fn kind(&self) -> Kind {
        let metadata = self.schema.metadata();
        let fields = self.schema.fields().iter().map(|field| format!("{field:?}")).collect();
        (self.origin.table, fields, metadata.get(META_RULES).cloned(), metadata.get(META_DIGEST).cloned())
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
