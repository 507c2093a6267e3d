//! A disk that fails: no I/O error may outlive its cause, and no row may be lost or doubled by one.

use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, Database, DatabaseError, StorageBackend};

use super::super::disk::{Disk, builder};
use super::{RedbStore, STATE_FILE};
use crate::store::{Store, StoreError, Table, Write};

/// What goes wrong, shared by a disk and the files that are open on it.
#[derive(Debug, Default)]
struct Weather {
    /// Writes and syncs that still succeed; negative once one has failed.
    left: AtomicI64,
    /// Whether all fail after that one, as on a full disk.
    lasts: AtomicBool,
    /// Whether the file can't be opened though writes succeed.
    is_shut: AtomicBool,
}

impl Weather {
    fn fine() -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(i64::MAX), ..Self::default() })
    }

    /// After so many writes and syncs one fails, or all from then on.
    fn storm(&self, after: i64, lasts: bool) {
        self.lasts.store(lasts, Ordering::SeqCst);
        self.left.store(after, Ordering::SeqCst);
    }

    fn clear(&self) {
        self.storm(i64::MAX, false);
    }

    fn has_struck(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    fn check(&self) -> io::Result<()> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            1.. => Ok(()),
            0 => Err(io::Error::from(io::ErrorKind::StorageFull)),
            _ if self.lasts.load(Ordering::SeqCst) => Err(io::Error::from(io::ErrorKind::StorageFull)),
            _ => Ok(()),
        }
    }
}

#[derive(Debug)]
struct FailingDisk {
    file: PathBuf,
    weather: Arc<Weather>,
}

impl Disk for FailingDisk {
    fn create(&self) -> Result<Database, DatabaseError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.file)?;
        builder().create_with_backend(FailingFile { file: FileBackend::new(file)?, weather: self.weather.clone() })
    }

    fn open(&self) -> Result<Database, DatabaseError> {
        if self.weather.is_shut.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
        self.create()
    }

    fn takes_writes(&self) -> io::Result<()> {
        self.weather.check()
    }
}

/// What fails may have reached the disk all the same, as after an fsync that fails.
#[derive(Debug)]
struct FailingFile {
    file: FileBackend,
    weather: Arc<Weather>,
}

impl StorageBackend for FailingFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.weather.check()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.weather.check()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    weather: Arc<Weather>,
    store: RedbStore,
}

fn fixture() -> Fixture {
    let (dir, weather) = (tempfile::tempdir().unwrap(), Weather::fine());
    let disk = FailingDisk { file: dir.path().join(STATE_FILE), weather: weather.clone() };
    let store = RedbStore::on(dir.path(), Box::new(disk)).unwrap();
    store.commit(&[put("before")]).unwrap();
    Fixture { dir, weather, store }
}

fn put(key: &str) -> Write {
    Write::Put { table: Table::Gateway, key: key.to_owned(), value: b"1".to_vec() }
}

fn insert(key: &str) -> Write {
    Write::Insert { table: Table::Slots, key: key.to_owned(), value: b"1".to_vec() }
}

fn keys(store: &RedbStore, table: Table) -> Vec<String> {
    store.list(table, "").unwrap().into_iter().map(|(key, _)| key).collect()
}

#[test]
fn after_a_full_disk_everything_is_written_again_without_a_restart() {
    for after in 0.. {
        let Fixture { dir, weather, store } = fixture();
        weather.storm(after, true);
        let first = store.commit(&[put("during")]);
        if !weather.has_struck() {
            assert!(after > 2, "a commit is some writes and a sync");
            break;
        }
        assert!(matches!(first, Err(StoreError::Failed(_))), "after {after}: {first:?}");
        for _ in 0..3 {
            let text = store.commit(&[put("during")]).unwrap_err().to_string();
            assert!(!text.contains("re-open"), "the cause and no advice: {text}");
            assert!(store.get(Table::Gateway, "before").unwrap().is_some(), "what was there can be read");
        }
        weather.clear();
        store.commit(&[put("after")]).unwrap();
        store.commit(&[insert("1")]).unwrap();
        drop(store);
        let store = RedbStore::open(dir.path()).unwrap();
        let kept = keys(&store, Table::Gateway);
        assert!(["after", "before"].iter().all(|key| kept.iter().any(|kept| kept == key)), "after {after}: {kept:?}");
        assert_eq!(keys(&store, Table::Slots), ["1"]);
    }
}

#[test]
fn a_commit_that_fails_once_is_made_once() {
    for after in 0.. {
        let Fixture { dir, weather, store } = fixture();
        weather.storm(after, false);
        // Where the sync failed the rows may be there: an insert must not take its own row for another's.
        store
            .commit(&[put("during"), insert("1"), Write::Delete { table: Table::Gateway, key: "before".into() }])
            .unwrap();
        if !weather.has_struck() {
            break;
        }
        weather.clear();
        let taken = store.commit(&[insert("1")]);
        assert!(matches!(taken, Err(StoreError::Exists { .. })), "after {after}: {taken:?}");
        drop(store);
        let store = RedbStore::open(dir.path()).unwrap();
        assert_eq!(keys(&store, Table::Gateway), ["during"], "after {after}");
        assert_eq!(keys(&store, Table::Slots), ["1"], "after {after}");
    }
}

#[test]
fn a_file_that_can_not_be_opened_again_is_tried_at_the_next_operation() {
    let Fixture { dir: _dir, weather, store } = fixture();
    weather.storm(0, false);
    weather.is_shut.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert!(store.commit(&[put("during")]).is_err());
        assert!(store.get(Table::Gateway, "before").is_err());
    }
    weather.is_shut.store(false, Ordering::SeqCst);
    assert_eq!(keys(&store, Table::Gateway), ["before"]);
    store.commit(&[put("during")]).unwrap();
}

#[test]
fn callers_on_many_threads_open_it_again_once_in_all() {
    let Fixture { dir: _dir, weather, store } = fixture();
    weather.storm(0, false);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let store = &store;
            scope.spawn(move || store.commit(&[insert(&number.to_string())]).unwrap());
        }
    });
    assert_eq!(keys(&store, Table::Slots).len(), 8);
    assert_eq!(store.opened.read().unwrap().times, 2);
}
