//! What was uploaded, in the state: a row for each file that is still here.
//!
//! The log's folders are the queue: a file that is there and has no row waits. So nothing can be forgotten, and a row that
//! was lost in a crash costs one more upload of equal bytes under the same name.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::store::rows::{put, read_all};
use crate::store::{Store, StoreError, Table, Write};

/// One file that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploaded {
    /// Below the data directory.
    pub name: String,
    pub bytes: u64,
    /// When the file was last changed; Unix time in ms.
    pub modified_ms: u64,
    pub uploaded_ms: u64,
}

/// The rows of one destination, and a copy of them in memory.
pub struct Ledger {
    store: Arc<dyn Store>,
    /// What the keys begin with: another destination has not got these files.
    prefix: String,
    /// By name; as many as there are files here.
    rows: HashMap<String, Uploaded>,
}

impl Ledger {
    /// Reads the rows of a destination, and takes away those of others.
    ///
    /// # Errors
    /// Those of the store.
    pub fn open(store: Arc<dyn Store>, url: &str) -> Result<Self, StoreError> {
        let prefix = format!("{}/", digits(url, 8));
        let keys = store.list(Table::Uploads, "")?.into_iter().map(|(key, _)| key);
        let others: Vec<Write> = keys.filter(|key| !key.starts_with(&prefix)).map(delete).collect();
        if !others.is_empty() {
            store.commit(&others)?;
        }
        let rows = read_all(&*store, Table::Uploads, &prefix)?.into_iter();
        let rows = rows.map(|(_, row): (String, Uploaded)| (row.name.clone(), row)).collect();
        Ok(Self { store, prefix, rows })
    }

    /// What was uploaded under this name.
    pub fn get(&self, name: &str) -> Option<&Uploaded> {
        self.rows.get(name)
    }

    /// Notes an upload; on the disk when this returns.
    ///
    /// # Errors
    /// Those of the store.
    pub fn add(&mut self, row: Uploaded) -> Result<(), StoreError> {
        self.store.commit(&[put(Table::Uploads, self.key(&row.name), &row)])?;
        self.rows.insert(row.name.clone(), row);
        Ok(())
    }

    /// Takes away the rows of all files but these.
    ///
    /// # Errors
    /// Those of the store.
    pub fn keep_only(&mut self, names: &HashSet<&str>) -> Result<(), StoreError> {
        let gone: Vec<String> = self.rows.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
        if gone.is_empty() {
            return Ok(());
        }
        let writes: Vec<Write> = gone.iter().map(|name| delete(self.key(name))).collect();
        self.store.commit(&writes)?;
        gone.iter().for_each(|name| _ = self.rows.remove(name));
        Ok(())
    }

    /// A hash, because a key is short and a name may not be.
    fn key(&self, name: &str) -> String {
        format!("{}{}", self.prefix, digits(name, 16))
    }
}

fn delete(key: String) -> Write {
    Write::Delete { table: Table::Uploads, key }
}

fn digits(text: &str, bytes: usize) -> String {
    Sha256::digest(text.as_bytes()).iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}
