//! State in a file of the data directory, through redb.
//!
//! After an I/O error redb refuses everything until the file is closed and opened again. A disk that was full for a moment
//! must not cost a restart, so the store does that by itself, once the disk takes writes again.

mod disk;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageError, TableDefinition,
    TableError, WriteTransaction,
};

use self::disk::{DataDir, Disk, make_private_dir};
use super::{Store, StoreError, Table, Write, check_lengths};

/// The state's file in the data directory.
pub const STATE_FILE: &str = "state.redb";

/// The layout that this program writes. One that is newer is refused; an older one would be migrated on opening.
const SCHEMA_VERSION: u64 = 1;
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const SCHEMA_KEY: &str = "schema_version";

/// Rows in `<data-dir>/state.redb`. Every commit is on the disk when it returns. Holds a lock on the file, so that one
/// process at a time has it open.
#[derive(Debug)]
pub struct RedbStore {
    data_dir: PathBuf,
    disk: Box<dyn Disk>,
    opened: RwLock<Opened>,
}

#[derive(Debug)]
struct Opened {
    /// `None` while it could not be opened again.
    database: Option<Database>,
    /// How often it was opened.
    times: u64,
}

/// Why an operation did not succeed.
enum Fault {
    /// It would not at another time either.
    Refused(StoreError),
    /// An I/O error, or one before it: the file is to be opened again.
    Disk(redb::Error),
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
        let store = Self::on(data_dir, Box::new(DataDir(data_dir.into())))?;
        // The file's name is durable only once its folder is.
        File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(unusable)?;
        Ok(store)
    }

    fn on(data_dir: &Path, disk: Box<dyn Disk>) -> Result<Self, StoreError> {
        let file = data_dir.join(STATE_FILE);
        let database = disk.create().map_err(|fault| open_error(fault, data_dir, &file))?;
        check_schema(&database, &file)?;
        Ok(Self { data_dir: data_dir.into(), disk, opened: RwLock::new(Opened { database: Some(database), times: 1 }) })
    }

    /// Does it. After an I/O error it is done once more, on the file opened again.
    fn done<T>(&self, operation: impl Fn(&Database) -> Result<T, Fault>) -> Result<T, StoreError> {
        let (times, cause) = {
            let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
            match opened.database.as_ref().map(&operation) {
                Some(Ok(value)) => return Ok(value),
                Some(Err(Fault::Refused(fault))) => return Err(fault),
                Some(Err(Fault::Disk(cause))) => (opened.times, Some(cause)),
                None => (opened.times, None),
            }
        };
        // Nobody reads or writes from here on: at no time are there two handles of one file.
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        // Another caller may have opened it in the meantime.
        if opened.times == times || opened.database.is_none() {
            self.open_again(&mut opened, cause)?;
        }
        match opened.database.as_ref().map(operation) {
            Some(Ok(value)) => Ok(value),
            Some(Err(Fault::Refused(fault))) => Err(fault),
            Some(Err(Fault::Disk(cause))) => Err(failed(cause)),
            None => Err(failed("its file is not open")),
        }
    }

    /// Closes the file and opens it again, unless the disk takes no writes: then what was read before can still be read.
    fn open_again(&self, opened: &mut Opened, cause: Option<redb::Error>) -> Result<(), StoreError> {
        self.disk.takes_writes().map_err(failed)?;
        // The old handle holds the file's lock.
        opened.database = None;
        let database =
            self.disk.open().map_err(|fault| open_error(fault, &self.data_dir, &self.data_dir.join(STATE_FILE)))?;
        opened.database = Some(database);
        opened.times += 1;
        let cause = cause.map_or_else(|| "it could not be opened before".to_owned(), |cause| cause.to_string());
        tracing::warn!(cause, "the state in the data directory was opened again after an error of the disk");
        Ok(())
    }
}

fn check_schema(database: &Database, file: &Path) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(failed)?;
    let found = {
        let mut meta = transaction.open_table(META).map_err(|fault| damaged(file, &fault))?;
        let found = meta.get(SCHEMA_KEY).map_err(|fault| damaged(file, &fault))?.map(|version| version.value());
        if found.is_none() {
            meta.insert(SCHEMA_KEY, SCHEMA_VERSION).map_err(failed)?;
        }
        found
    };
    match found {
        Some(got) if got > SCHEMA_VERSION => Err(StoreError::Newer { file: file.into(), got, known: SCHEMA_VERSION }),
        _ => transaction.commit().map_err(failed),
    }
}

impl Store for RedbStore {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.done(|database| value_of(database, table, key))
    }

    fn list(&self, table: Table, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.done(|database| rows_of(database, table, prefix))
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        check_lengths(writes)?;
        // A commit that failed may be on the disk all the same; its inserts would find their own rows.
        let is_in_doubt = Cell::new(false);
        self.done(|database| {
            if is_in_doubt.get() && holds(database, writes)? {
                return Ok(());
            }
            // redb commits with an fsync unless told otherwise, and a transaction that is dropped leaves no trace.
            let transaction = database.begin_write().map_err(fault)?;
            for write in writes {
                apply(&transaction, write)?;
            }
            transaction.commit().map_err(|cause| {
                is_in_doubt.set(true);
                fault(cause)
            })
        })
    }
}

fn value_of(database: &Database, table: Table, key: &str) -> Result<Option<Vec<u8>>, Fault> {
    let transaction = database.begin_read().map_err(fault)?;
    match transaction.open_table(definition(table)) {
        Ok(rows) => Ok(rows.get(key).map_err(fault)?.map(|value| value.value().to_vec())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(cause) => Err(fault(cause)),
    }
}

fn rows_of(database: &Database, table: Table, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, Fault> {
    let transaction = database.begin_read().map_err(fault)?;
    let rows = match transaction.open_table(definition(table)) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other.map_err(fault)?,
    };
    let mut listed = Vec::new();
    for row in rows.range(prefix..).map_err(fault)? {
        let (key, value) = row.map_err(fault)?;
        if !key.value().starts_with(prefix) {
            break;
        }
        listed.push((key.value().to_owned(), value.value().to_vec()));
    }
    Ok(listed)
}

/// Whether the rows are as these writes leave them.
fn holds(database: &Database, writes: &[Write]) -> Result<bool, Fault> {
    let mut left: BTreeMap<(Table, &str), Option<&[u8]>> = BTreeMap::new();
    for write in writes {
        match write {
            Write::Put { table, key, value } | Write::Insert { table, key, value } => {
                left.insert((*table, key), Some(value))
            }
            Write::Delete { table, key } => left.insert((*table, key), None),
        };
    }
    for ((table, key), value) in left {
        if value_of(database, table, key)?.as_deref() != value {
            return Ok(false);
        }
    }
    Ok(true)
}

fn apply(transaction: &WriteTransaction, write: &Write) -> Result<(), Fault> {
    match write {
        Write::Delete { table, key } => {
            transaction.open_table(definition(*table)).map_err(fault)?.remove(key.as_str()).map_err(fault)?;
        }
        Write::Insert { table, key, value } | Write::Put { table, key, value } => {
            let mut rows = transaction.open_table(definition(*table)).map_err(fault)?;
            let exists = rows.get(key.as_str()).map_err(fault)?.is_some();
            if exists && matches!(write, Write::Insert { .. }) {
                return Err(Fault::Refused(StoreError::Exists { table: *table, key: key.clone() }));
            }
            if !exists && rows.len().map_err(fault)? >= table.row_limit() {
                return Err(Fault::Refused(StoreError::Full { table: *table, limit: table.row_limit() }));
            }
            rows.insert(key.as_str(), value.as_slice()).map_err(fault)?;
        }
    }
    Ok(())
}

fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(table.name())
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

fn fault(cause: impl Into<redb::Error>) -> Fault {
    match cause.into() {
        cause @ (redb::Error::Io(_) | redb::Error::PreviousIo) => Fault::Disk(cause),
        cause => Fault::Refused(failed(cause)),
    }
}

fn failed(cause: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(cause.to_string())
}

#[cfg(test)]
mod tests;
