//! State that lives and dies with the process, for a gateway without a data directory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Store, StoreError, Table, Write, check_lengths};

type Rows = BTreeMap<Table, BTreeMap<String, Vec<u8>>>;

/// Rows in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    rows: Mutex<Rows>,
}

impl MemoryStore {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        // Rows are replaced whole, so that a panic elsewhere leaves none half written.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows().get(&table).and_then(|rows| rows.get(key)).cloned())
    }

    fn list(&self, table: Table, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let rows = self.rows();
        let Some(rows) = rows.get(&table) else { return Ok(Vec::new()) };
        let from = rows.range(prefix.to_owned()..);
        Ok(from
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        check_lengths(writes)?;
        let mut rows = self.rows();
        // What each touched row was before, newest last, to be put back if a later write is refused.
        let mut undo: Vec<(Table, &str, Option<Vec<u8>>)> = Vec::with_capacity(writes.len());
        for write in writes {
            match apply(&mut rows, write) {
                Ok((table, key, before)) => undo.push((table, key, before)),
                Err(fault) => {
                    for (table, key, before) in undo.into_iter().rev() {
                        let rows = rows.entry(table).or_default();
                        match before {
                            Some(value) => _ = rows.insert(key.to_owned(), value),
                            None => _ = rows.remove(key),
                        }
                    }
                    return Err(fault);
                }
            }
        }
        Ok(())
    }
}

/// Does one write and says what was there before.
fn apply<'a>(rows: &mut Rows, write: &'a Write) -> Result<(Table, &'a str, Option<Vec<u8>>), StoreError> {
    match write {
        Write::Delete { table, key } => Ok((*table, key, rows.entry(*table).or_default().remove(key))),
        Write::Insert { table, key, value } | Write::Put { table, key, value } => {
            let rows = rows.entry(*table).or_default();
            let exists = rows.contains_key(key);
            if exists && matches!(write, Write::Insert { .. }) {
                return Err(StoreError::Exists { table: *table, key: key.clone() });
            }
            if !exists && rows.len() as u64 >= table.row_limit() {
                return Err(StoreError::Full { table: *table, limit: table.row_limit() });
            }
            Ok((*table, key, rows.insert(key.clone(), value.clone())))
        }
    }
}
