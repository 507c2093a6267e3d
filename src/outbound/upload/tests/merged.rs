//! Files that were merged here: in the store, too, each row is there once.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::prediction_log::disk::RealDisk;
use crate::prediction_log::seal::file::NewFile;
use crate::prediction_log::table;
use crate::prediction_log::testing::{numbers, schema};

const DAY: &str = "predictions/model=m/version=3/date=2026-01-02";

/// A sealed file of these rows, which stands for others.
fn publish(data_dir: &Path, name: &str, rows: std::ops::Range<u64>, replaces: &[&str]) {
    let path = data_dir.join(DAY).join(name);
    let mut file = NewFile::create(&RealDisk::shared(), &path, table::Table::Predictions, &schema()).unwrap();
    file.write(&numbers(rows)).unwrap();
    file.publish(&replaces.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
}

/// What `headgate log compact` does with two of three files.
fn merge(data_dir: &Path) {
    publish(data_dir, "hour=04/5-2.parquet", 0..20, &["5-1"]);
    fs::remove_file(data_dir.join(DAY).join("hour=03/5-1.parquet")).unwrap();
}

fn three_files(data_dir: &Path) {
    for (name, rows) in
        [("hour=03/5-1.parquet", 0..10), ("hour=04/5-2.parquet", 10..20), ("hour=04/5-3.parquet", 20..30)]
    {
        publish(data_dir, name, rows, &[]);
    }
}

/// Every file of a day below a folder, by its name without the gateway's number.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for hour in fs::read_dir(root.join(DAY)).unwrap().map(|entry| entry.unwrap().path()) {
        for path in fs::read_dir(&hour).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let name = name.strip_prefix("7-").unwrap_or(name);
            let hour = hour.file_name().unwrap().to_str().unwrap();
            found.insert(format!("{hour}/{name}"), fs::read(&path).unwrap());
        }
    }
    found
}

fn folder(there: &Path) -> UploadConfig {
    config(json!({"url": format!("file://{}", there.display())}))
}

#[tokio::test]
async fn a_merged_file_takes_the_place_of_those_that_it_was_merged_from() {
    let (here, there, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), memory());
    three_files(here.path());
    let (uploads, stop) = start(&folder(there.path()), here.path(), &store);
    assert!(uploads.finish(PATIENCE).await);
    assert_eq!(files(there.path()), files(here.path()));
    // Another gateway's file of that name is none of ours.
    let other = there.path().join(DAY).join("hour=03/8-5-1.parquet");
    fs::write(&other, "another's").unwrap();
    merge(here.path());
    assert!(uploads.finish(PATIENCE).await);
    fs::remove_file(other).unwrap();
    assert_eq!(files(there.path()), files(here.path()));
    assert_eq!(store.list(Table::Uploads, "").unwrap().len(), 2);
    stop.cancel();
}

#[tokio::test]
async fn what_a_merge_that_was_cut_off_left_here_is_not_uploaded_again() {
    let (here, there, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), memory());
    publish(here.path(), "hour=03/5-1.parquet", 0..10, &[]);
    publish(here.path(), "hour=04/5-2.parquet", 0..20, &["5-1"]);
    let (uploads, stop) = start(&folder(there.path()), here.path(), &store);
    for _ in 0..2 {
        assert!(uploads.finish(PATIENCE).await);
        assert_eq!(files(there.path()).into_keys().collect::<Vec<_>>(), ["hour=04/5-2.parquet"]);
    }
    stop.cancel();
}

/// A store that dies after so many commits.
struct Dying {
    inner: Arc<dyn Store>,
    commits_left: AtomicUsize,
    is_dead: AtomicBool,
}

impl Store for Dying {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(table, key)
    }

    fn list(&self, table: Table, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.inner.list(table, prefix)
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        if self.commits_left.load(Relaxed) == 0 {
            self.is_dead.store(true, Relaxed);
            return Err(StoreError::Failed("dead".to_owned()));
        }
        self.commits_left.fetch_sub(1, Relaxed);
        self.inner.commit(writes)
    }
}

#[tokio::test]
async fn a_process_that_dies_between_any_two_steps_leaves_nothing_twice() {
    // Uploads are noted, one each, then the merged file, then that the store is cleared, then which files are here.
    for commits in 0..8 {
        let (here, there, inner) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), memory());
        three_files(here.path());
        for is_merged in [false, true] {
            if is_merged {
                merge(here.path());
            }
            let dying = Arc::new(Dying {
                inner: inner.clone(),
                commits_left: AtomicUsize::new(commits),
                is_dead: AtomicBool::new(false),
            });
            let store: Arc<dyn Store> = dying.clone();
            let (uploads, stop) = start(&folder(there.path()), here.path(), &store);
            while !dying.is_dead.load(Relaxed) {
                if uploads.finish(Duration::from_millis(20)).await {
                    break;
                }
            }
            stop.cancel();
            // The thread is over once it lets go of its store.
            drop((store, uploads));
            while Arc::strong_count(&dying) > 1 {
                tokio::task::yield_now().await;
            }
        }
        let (uploads, stop) = start(&folder(there.path()), here.path(), &inner);
        assert!(uploads.finish(PATIENCE).await);
        assert_eq!(files(there.path()), files(here.path()), "after {commits} commits");
        assert_eq!(inner.list(Table::Uploads, "").unwrap().len(), 2, "after {commits} commits");
        stop.cancel();
    }
}
