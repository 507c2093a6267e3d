//! Rows as JSON: what every typed use of a [`Store`] shares.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Store, StoreError, Table, Write};

/// Writes a row, whether or not it is there.
pub fn put<T: Serialize>(table: Table, key: String, row: &T) -> Write {
    Write::Put { table, key, value: json(row) }
}

/// Writes a row that must not be there yet.
pub fn insert<T: Serialize>(table: Table, key: String, row: &T) -> Write {
    Write::Insert { table, key, value: json(row) }
}

fn json<T: Serialize>(row: &T) -> Vec<u8> {
    serde_json::to_vec(row).expect("rows are plain structs of numbers and text")
}

/// One row.
///
/// # Errors
/// Those of the store, and `BadRow`.
pub fn read<T: DeserializeOwned>(store: &dyn Store, table: Table, key: &str) -> Result<Option<T>, StoreError> {
    store.get(table, key)?.map(|value| parse(table, key, &value)).transpose()
}

/// All rows whose keys begin with `prefix`, in the order of their keys.
///
/// # Errors
/// Those of the store, and `BadRow`.
pub fn read_all<T: DeserializeOwned>(
    store: &dyn Store,
    table: Table,
    prefix: &str,
) -> Result<Vec<(String, T)>, StoreError> {
    let rows = store.list(table, prefix)?;
    rows.into_iter().map(|(key, value)| parse(table, &key, &value).map(|row| (key, row))).collect()
}

fn parse<T: DeserializeOwned>(table: Table, key: &str, value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|fault| bad_row(table, key, fault))
}

/// The error of a row that this program can't have written.
pub fn bad_row(table: Table, key: &str, cause: impl std::fmt::Display) -> StoreError {
    StoreError::BadRow { table, key: key.to_owned(), cause: cause.to_string() }
}
