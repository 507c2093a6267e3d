//! What was uploaded, in the state: a row for each file that is still here.
//!
//! The log's folders are the queue: a file that is there and has no row waits. So nothing can be forgotten, and a row that
//! was lost in a crash costs one more upload of equal bytes under the same name.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::upload_policy::stem;
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
    /// The files that this one was merged from, by name without ending: none of them is uploaded any more.
    #[serde(default)]
    pub replaces: Vec<String>,
    /// Whether their objects are gone.
    #[serde(default)]
    pub is_cleared: bool,
}

impl Uploaded {
    /// Whether objects are left that it stands for.
    pub fn is_to_clear(&self) -> bool {
        !self.is_cleared && !self.replaces.is_empty()
    }
}

/// The rows of one destination, and a copy of them in memory.
pub struct Ledger {
    store: Arc<dyn Store>,
    /// What the keys begin with: another destination has not got these files.
    prefix: String,
    /// By name; as many as there are files here.
    rows: HashMap<String, Uploaded>,
    /// The files that those of `rows` were merged from.
    replaced: HashSet<String>,
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
        let rows: HashMap<String, Uploaded> = rows.map(|(_, row): (_, Uploaded)| (row.name.clone(), row)).collect();
        let replaced = replaced(&rows);
        Ok(Self { store, prefix, rows, replaced })
    }

    /// What was uploaded under this name.
    pub fn get(&self, name: &str) -> Option<&Uploaded> {
        self.rows.get(name)
    }

    /// Whether a file that was uploaded was merged from this one.
    pub fn is_replaced(&self, name: &str) -> bool {
        self.replaced.contains(stem(name))
    }

    /// Notes an upload; on the disk when this returns.
    ///
    /// # Errors
    /// Those of the store.
    pub fn add(&mut self, row: Uploaded) -> Result<(), StoreError> {
        self.store.commit(&[put(Table::Uploads, self.key(&row.name), &row)])?;
        self.replaced.extend(row.replaces.iter().cloned());
        self.rows.insert(row.name.clone(), row);
        Ok(())
    }

    /// Notes that the objects are gone that a file stands for, and takes their rows away.
    ///
    /// # Errors
    /// Those of the store.
    pub fn clear(&mut self, name: &str) -> Result<(), StoreError> {
        let Some(row) = self.rows.get(name).cloned() else { return Ok(()) };
        let row = Uploaded { is_cleared: true, ..row };
        let names: HashSet<&str> = row.replaces.iter().map(String::as_str).collect();
        let gone: Vec<String> = self.rows.keys().filter(|name| names.contains(stem(name))).cloned().collect();
        let deletes = gone.iter().map(|name| delete(self.key(name)));
        let writes: Vec<Write> = deletes.chain([put(Table::Uploads, self.key(name), &row)]).collect();
        self.store.commit(&writes)?;
        gone.iter().for_each(|name| _ = self.rows.remove(name));
        self.rows.insert(name.to_owned(), row);
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
        self.replaced = replaced(&self.rows);
        Ok(())
    }

    /// A hash, because a key is short and a name may not be.
    fn key(&self, name: &str) -> String {
        format!("{}{}", self.prefix, digits(name, 16))
    }
}

fn replaced(rows: &HashMap<String, Uploaded>) -> HashSet<String> {
    rows.values().flat_map(|row| row.replaces.iter().cloned()).collect()
}

fn delete(key: String) -> Write {
    Write::Delete { table: Table::Uploads, key }
}

fn digits(text: &str, bytes: usize) -> String {
    Sha256::digest(text.as_bytes()).iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}
