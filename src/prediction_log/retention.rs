//! Deletes what is old enough. Whole files go, by the date of their folder first, so that hardly any has to be opened.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::disk::Disk;
use super::disk_policy::{Span, Verdict, date_span, hour_span, verdict};
use super::seal::file::metadata_of;
use super::stream::unix_us;
use super::table::{META_RETAIN, META_TS_FIRST, META_TS_LAST, SEALED_EXTENSION, Table, partition_value};

/// How long whose rows are kept.
#[derive(Debug, Default)]
pub struct Retention {
    /// Of models that say nothing of it; `None`: for ever.
    default: Option<Duration>,
    /// What loaded models say, by the name of their folder.
    told: Mutex<BTreeMap<String, Option<Duration>>>,
}

/// What was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    pub files: u64,
    pub bytes: u64,
}

impl Retention {
    pub fn new(default: Option<Duration>) -> Self {
        Self { default, told: Mutex::default() }
    }

    /// What a model's settings say now, and whether that is news. Files of a model that nobody told of are kept for as long
    /// as they say themselves.
    pub fn tell(&self, model: &str, retain: Option<Duration>) -> bool {
        let folder = format!("model={}", partition_value(model));
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(folder, retain) != Some(retain)
    }

    /// Deletes the files whose newest row is too old. Blocks; on the thread that seals, so that nobody writes to a folder
    /// that is removed.
    pub fn expire(&self, data_dir: &Path, disk: &dyn Disk, now: SystemTime) -> Expired {
        let mut expired = Expired::default();
        for table in Table::ALL {
            for folder in folders(&data_dir.join(table.name())) {
                let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).get(&name(&folder)).copied();
                let rule = match told {
                    Some(retain) => Rule::Model(retain.or(self.default)),
                    None => Rule::File { default: self.default },
                };
                let mut sweep = Sweep { disk, rule, now_us: unix_us(now), expired: &mut expired };
                match table {
                    Table::Predictions => folders(&folder).iter().for_each(|version| sweep.days(version)),
                    Table::Feedback => sweep.days(&folder),
                }
            }
        }
        if expired.files > 0 {
            tracing::info!(
                files = expired.files,
                bytes = expired.bytes,
                "old files of the prediction log were deleted"
            );
        }
        expired
    }
}

/// Who says how long a file is kept.
#[derive(Debug, Clone, Copy)]
enum Rule {
    Model(Option<Duration>),
    File { default: Option<Duration> },
}

struct Sweep<'a> {
    disk: &'a dyn Disk,
    rule: Rule,
    now_us: i64,
    expired: &'a mut Expired,
}

impl Sweep<'_> {
    fn days(&mut self, folder: &Path) {
        if matches!(self.rule, Rule::Model(None)) {
            return;
        }
        for day_folder in folders(folder) {
            let Some(day) = date_span(&name(&day_folder)) else { continue };
            // Rows may be a little earlier than their folder, never later.
            if self.verdict(day) == Verdict::Keep {
                continue;
            }
            for hour_folder in folders(&day_folder) {
                let Some(hour) = hour_span(day, &name(&hour_folder)) else { continue };
                self.files(&hour_folder, hour);
                // Only an empty one goes.
                let _ = fs::remove_dir(&hour_folder);
            }
            self.files(&day_folder, day);
            let _ = fs::remove_dir(&day_folder);
        }
    }

    fn files(&mut self, folder: &Path, span: Span) {
        if self.verdict(span) == Verdict::Keep {
            return;
        }
        let Ok(entries) = fs::read_dir(folder) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let is_sealed = path.extension().is_some_and(|extension| extension == SEALED_EXTENSION);
            if is_sealed && self.is_expired(&path, span) {
                let bytes = path.metadata().map_or(0, |found| found.len());
                if self.disk.remove(&path).is_ok() {
                    self.expired.files += 1;
                    self.expired.bytes += bytes;
                }
            }
        }
    }

    /// Of a folder, as far as its name tells.
    fn verdict(&self, span: Span) -> Verdict {
        match self.rule {
            Rule::Model(None) => Verdict::Keep,
            Rule::Model(Some(retain)) => verdict(span, retain, self.now_us),
            Rule::File { .. } => Verdict::LookInside,
        }
    }

    fn is_expired(&self, path: &Path, folder: Span) -> bool {
        let is_old = |span: Span, retain: Duration| verdict(span, retain, self.now_us) == Verdict::Delete;
        if let Rule::Model(Some(retain)) = self.rule
            && is_old(folder, retain)
        {
            return true;
        }
        // One that can't be read is not deleted for that.
        let Ok(metadata) = metadata_of(path) else { return false };
        let number = |key| metadata.get(key).and_then(|text| text.parse::<i64>().ok());
        let retain = match self.rule {
            Rule::Model(retain) => retain,
            Rule::File { default } => {
                let own = metadata.get(META_RETAIN).and_then(|text| text.parse().ok()).map(Duration::from_secs);
                own.or(default)
            }
        };
        let rows = number(META_TS_FIRST).zip(number(META_TS_LAST)).map(|(first, last)| Span { first, last });
        retain.is_some_and(|retain| is_old(folder, retain) || rows.is_some_and(|rows| is_old(rows, retain)))
    }
}

fn folders(above: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(above) else { return vec![] };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction_log::seal::seal;
    use crate::prediction_log::stream::{Partition, Stream};
    use crate::prediction_log::testing::{FakeDisk, all_seqs, at, batch, partition, schema, wal};

    const HOUR_S: u64 = 3600;

    /// A file for each of these hours, its row in the hour's middle, of this model.
    fn files(data_dir: &Path, partition: &Partition, hours: &[u64]) {
        let wal = wal(data_dir, FakeDisk::default().shared(), 7);
        for &hour in hours {
            let time = hour * HOUR_S + HOUR_S / 2;
            let mut stream = Stream::open(&wal, partition, &schema(), at(time)).unwrap();
            stream.append(&batch(&[(hour, time)])).unwrap();
            seal(data_dir, &wal.disk, &stream.close()).unwrap();
        }
    }

    fn expire(retention: &Retention, data_dir: &Path, hours: u64) -> (u64, Vec<u64>) {
        let expired = retention.expire(data_dir, &FakeDisk::default(), at(hours * HOUR_S));
        (expired.files, all_seqs(data_dir))
    }

    fn hours(of: u64) -> Option<Duration> {
        Some(Duration::from_secs(of * HOUR_S))
    }

    #[test]
    fn files_go_when_their_newest_row_is_too_old() {
        let dir = tempfile::tempdir().unwrap();
        files(dir.path(), &partition("iris"), &[0, 1, 2, 40]);
        let retention = Retention::new(None);
        retention.tell("iris", hours(24));
        assert_eq!(expire(&retention, dir.path(), 24), (0, vec![0, 1, 2, 40]));
        assert_eq!(expire(&retention, dir.path(), 25), (1, vec![1, 2, 40]));
        assert_eq!(expire(&retention, dir.path(), 48), (2, vec![40]));
        assert_eq!(expire(&retention, dir.path(), 100), (1, vec![]));
        // Empty folders went with them.
        assert!(folders(&dir.path().join("predictions/model=iris/version=1")).is_empty());
    }

    #[test]
    fn a_model_that_says_nothing_goes_by_the_servers_rule() {
        let dir = tempfile::tempdir().unwrap();
        files(dir.path(), &partition("iris"), &[0, 1]);
        let retention = Retention::new(hours(10));
        retention.tell("iris", hours(20));
        assert_eq!(expire(&retention, dir.path(), 12).0, 0);
        retention.tell("iris", None);
        assert_eq!(expire(&retention, dir.path(), 12), (2, vec![]));
    }

    #[test]
    fn files_of_a_model_that_is_not_loaded_say_themselves_how_long_they_stay() {
        let dir = tempfile::tempdir().unwrap();
        files(dir.path(), &Partition { retain: hours(50), ..partition("long") }, &[0]);
        files(dir.path(), &partition("plain"), &[1]);
        assert_eq!(expire(&Retention::new(None), dir.path(), 45), (0, vec![0, 1]));
        assert_eq!(expire(&Retention::new(hours(10)), dir.path(), 45), (1, vec![0]));
        assert_eq!(expire(&Retention::new(hours(10)), dir.path(), 60), (1, vec![]));
    }
}
