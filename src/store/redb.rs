//! State in a file of the data directory, through redb.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageError, TableDefinition,
    TableError, WriteTransaction,
};

use super::{Store, StoreError, Table, Write, check_lengths};

/// The state's file in the data directory.
pub const STATE_FILE: &str = "state.redb";

/// The layout that this program writes. One that is newer is refused; an older one would be migrated on opening.
const SCHEMA_VERSION: u64 = 1;
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const SCHEMA_KEY: &str = "schema_version";

/// The state is small and read at start; this is plenty.
const CACHE_BYTES: usize = 8 << 20;
/// How long a lock that another process holds is waited for, and how often it is tried.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Rows in `<data-dir>/state.redb`. Every commit is on the disk when it returns. Holds a lock on the file, so that one
/// process at a time has it open.
#[derive(Debug)]
pub struct RedbStore {
    database: Database,
}

impl RedbStore {
    /// Opens the state of a data directory, and makes both if they are not there. Reads the whole file once, to find
    /// damage now rather than later. Waits for a moment where another process has it open.
    ///
    /// # Errors
    /// `InUse`, `Newer`, `Damaged` or `Unusable`.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let unusable = |cause: std::io::Error| StoreError::Unusable { dir: data_dir.into(), cause: cause.to_string() };
        make_private_dir(data_dir).map_err(unusable)?;
        let file = data_dir.join(STATE_FILE);
        let store = Self { database: open_database(&file).map_err(|fault| open_error(fault, data_dir, &file))? };
        store.check_schema(&file)?;
        // The file's name is durable only once its folder is.
        File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(unusable)?;
        Ok(store)
    }

    fn check_schema(&self, file: &Path) -> Result<(), StoreError> {
        let transaction = self.database.begin_write().map_err(failed)?;
        let found = {
            let mut meta = transaction.open_table(META).map_err(|fault| damaged(file, &fault))?;
            let found = meta.get(SCHEMA_KEY).map_err(|fault| damaged(file, &fault))?.map(|version| version.value());
            if found.is_none() {
                meta.insert(SCHEMA_KEY, SCHEMA_VERSION).map_err(failed)?;
            }
            found
        };
        match found {
            Some(got) if got > SCHEMA_VERSION => {
                Err(StoreError::Newer { file: file.into(), got, known: SCHEMA_VERSION })
            }
            _ => transaction.commit().map_err(failed),
        }
    }
}

/// A process that was killed while it started a child leaves its lock to that child for as long as the child has not
/// become another program.
fn open_database(file: &Path) -> Result<Database, DatabaseError> {
    let started = Instant::now();
    loop {
        let opened = Database::builder().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).create(file);
        match opened {
            Err(DatabaseError::DatabaseAlreadyOpen) if started.elapsed() < LOCK_PATIENCE => thread::sleep(LOCK_RETRY),
            opened => return opened,
        }
    }
}

impl Store for RedbStore {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        match transaction.open_table(definition(table)) {
            Ok(rows) => Ok(rows.get(key).map_err(failed)?.map(|value| value.value().to_vec())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(fault) => Err(failed(fault)),
        }
    }

    fn list(&self, table: Table, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let rows = match transaction.open_table(definition(table)) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            other => other.map_err(failed)?,
        };
        let mut listed = Vec::new();
        for row in rows.range(prefix..).map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            if !key.value().starts_with(prefix) {
                break;
            }
            listed.push((key.value().to_owned(), value.value().to_vec()));
        }
        Ok(listed)
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        check_lengths(writes)?;
        // redb commits with an fsync unless told otherwise, and a transaction that is dropped leaves no trace.
        let transaction = self.database.begin_write().map_err(failed)?;
        for write in writes {
            apply(&transaction, write)?;
        }
        transaction.commit().map_err(failed)
    }
}

fn apply(transaction: &WriteTransaction, write: &Write) -> Result<(), StoreError> {
    match write {
        Write::Delete { table, key } => {
            transaction.open_table(definition(*table)).map_err(failed)?.remove(key.as_str()).map_err(failed)?;
        }
        Write::Insert { table, key, value } | Write::Put { table, key, value } => {
            let mut rows = transaction.open_table(definition(*table)).map_err(failed)?;
            let exists = rows.get(key.as_str()).map_err(failed)?.is_some();
            if exists && matches!(write, Write::Insert { .. }) {
                return Err(StoreError::Exists { table: *table, key: key.clone() });
            }
            if !exists && rows.len().map_err(failed)? >= table.row_limit() {
                return Err(StoreError::Full { table: *table, limit: table.row_limit() });
            }
            rows.insert(key.as_str(), value.as_slice()).map_err(failed)?;
        }
    }
    Ok(())
}

fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(table.name())
}

/// State may come to hold what clients sent: other users of the machine have no business in it.
fn make_private_dir(dir: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

fn open_error(fault: DatabaseError, dir: &Path, file: &Path) -> StoreError {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match fault {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::InUse { dir: dir.into() }
        }
        // A file without redb's mark, or one that was cut off.
        DatabaseError::Storage(StorageError::Io(cause)) if !matches!(cause.kind(), InvalidData | UnexpectedEof) => {
            StoreError::Unusable { dir: dir.into(), cause: cause.to_string() }
        }
        other => damaged(file, &other),
    }
}

fn damaged(file: &Path, cause: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged { file: PathBuf::from(file), cause: cause.to_string() }
}

fn failed(cause: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str) -> Write {
        Write::Put { table: Table::Gateway, key: key.to_owned(), value: b"1".to_vec() }
    }

    #[test]
    fn what_was_committed_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("a/b");
        RedbStore::open(&data_dir).unwrap().commit(&[put("x")]).unwrap();
        let store = RedbStore::open(&data_dir).unwrap();
        assert_eq!(store.get(Table::Gateway, "x").unwrap().as_deref(), Some(b"1".as_slice()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&data_dir).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = RedbStore::open(dir.path()).unwrap();
        let fault = RedbStore::open(dir.path()).unwrap_err();
        assert!(matches!(fault, StoreError::InUse { .. }));
        assert!(fault.to_string().contains("in use by another process"), "{fault}");
        drop(first);
        RedbStore::open(dir.path()).unwrap();
    }

    /// This very test binary, run again as the second process.
    #[test]
    fn another_process_is_refused() {
        const DIR: &str = "HEADGATE_TEST_STATE_DIR";
        if let Some(dir) = std::env::var_os(DIR) {
            let fault = RedbStore::open(Path::new(&dir)).unwrap_err();
            assert!(matches!(fault, StoreError::InUse { .. }), "{fault}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let _first = RedbStore::open(dir.path()).unwrap();
        let name = "store::redb::tests::another_process_is_refused";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(DIR, dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        {
            let store = RedbStore::open(dir.path()).unwrap();
            let transaction = store.database.begin_write().unwrap();
            transaction.open_table(META).unwrap().insert(SCHEMA_KEY, 7).unwrap();
            transaction.commit().unwrap();
        }
        let text = RedbStore::open(dir.path()).unwrap_err().to_string();
        assert!(text.ends_with("newer version of this program: schema version 7, expected at most 1"), "{text}");
    }

    #[test]
    fn a_damaged_file_is_an_error_and_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(STATE_FILE);
        fs::write(&file, b"this is not a database").unwrap();
        let fault = RedbStore::open(dir.path()).unwrap_err();
        assert!(matches!(fault, StoreError::Damaged { .. }), "{fault}");
        fs::remove_file(&file).unwrap();

        let keys: Vec<String> = (0..20).map(|i| format!("key {i}")).collect();
        let writes: Vec<Write> = keys.iter().map(|key| put(key)).collect();
        RedbStore::open(dir.path()).unwrap().commit(&writes).unwrap();
        let sound = fs::read(&file).unwrap();
        let mut refused = 0;
        for at in (0..sound.len()).step_by(sound.len() / 200) {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x55;
            fs::write(&file, &bytes).unwrap();
            match RedbStore::open(dir.path()) {
                // Bytes that nothing uses.
                Ok(store) => assert_eq!(store.list(Table::Gateway, "").unwrap().len(), keys.len(), "byte {at}"),
                Err(StoreError::Damaged { .. }) => refused += 1,
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
        assert!(refused > 0);
        for length in [1, 100, 4096, sound.len() / 2] {
            fs::write(&file, &sound[..length]).unwrap();
            let fault = RedbStore::open(dir.path()).unwrap_err();
            assert!(matches!(fault, StoreError::Damaged { .. }), "{length} bytes: {fault}");
        }
    }

    #[test]
    fn a_data_directory_that_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(matches!(RedbStore::open(&path), Err(StoreError::Unusable { .. })));
    }
}
