//! Events that wait in the state until their receivers have taken them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::store::rows::{put, read_all};
use crate::store::{Store, StoreError, Table, Write};
use crate::telemetry::metrics;

/// Rows that may wait for all receivers together; beyond it the oldest are dropped.
pub const MAX_ROWS: usize = 10_000;

/// One event for one receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// The `webhook-id`, the same at every attempt.
    pub id: String,
    pub url: String,
    /// Unix time in ms.
    pub created_ms: u64,
    /// The whole CloudEvent.
    pub event: Value,
}

impl OutboxRow {
    /// Sorts by receiver, then by time.
    pub fn key(&self) -> String {
        format!("{}{:020}/{}", prefix_of(&self.url), self.created_ms, self.id)
    }
}

/// What the keys of a receiver's rows begin with. A hash, because a key is short and a URL may not be.
pub fn prefix_of(url: &str) -> String {
    let hash = Sha256::digest(url.as_bytes());
    let digits: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{digits}/")
}

/// Adds the writes that put these rows into the outbox, and gives how many of the oldest they push out.
///
/// # Errors
/// Those of the store.
pub fn insert(store: &dyn Store, rows: &[OutboxRow], writes: &mut Vec<Write>) -> Result<usize, StoreError> {
    if rows.is_empty() {
        return Ok(0);
    }
    writes.extend(rows.iter().map(|row| put(Table::Outbox, row.key(), row)));
    let mut waiting: Vec<String> = store.list(Table::Outbox, "")?.into_iter().map(|(key, _)| key).collect();
    let surplus = (waiting.len() + rows.len()).saturating_sub(MAX_ROWS).min(waiting.len());
    // The time stands after the receiver's hash.
    waiting.sort_by(|a, b| a.split('/').nth(1).cmp(&b.split('/').nth(1)));
    writes.extend(waiting.into_iter().take(surplus).map(|key| Write::Delete { table: Table::Outbox, key }));
    Ok(surplus)
}

/// Counts and logs rows that were pushed out, once the commit that did so is through.
pub fn note_dropped(rows: usize) {
    if rows > 0 {
        metrics::count_webhooks("dropped", rows as u64);
        tracing::error!(rows, limit = MAX_ROWS, "the outbox of webhooks is full: the oldest events were dropped");
    }
}

/// Every row that waits for this receiver, oldest first.
///
/// # Errors
/// Those of the store.
pub fn waiting_for(store: &dyn Store, url: &str) -> Result<Vec<OutboxRow>, StoreError> {
    Ok(read_all(store, Table::Outbox, &prefix_of(url))?.into_iter().map(|(_, row)| row).collect())
}

/// Takes rows away whose receivers are no longer configured, and gives how many.
///
/// # Errors
/// Those of the store.
pub fn forget_others(store: &dyn Store, urls: &[&str]) -> Result<usize, StoreError> {
    let known: Vec<String> = urls.iter().map(|url| prefix_of(url)).collect();
    let keys = store.list(Table::Outbox, "")?.into_iter().map(|(key, _)| key);
    let others = keys.filter(|key| !known.iter().any(|prefix| key.starts_with(prefix)));
    let writes: Vec<Write> = others.map(|key| Write::Delete { table: Table::Outbox, key }).collect();
    if !writes.is_empty() {
        store.commit(&writes)?;
    }
    Ok(writes.len())
}

/// Takes one row away.
///
/// # Errors
/// Those of the store.
pub fn remove(store: &dyn Store, row: &OutboxRow) -> Result<(), StoreError> {
    store.commit(&[Write::Delete { table: Table::Outbox, key: row.key() }])
}

/// How many rows wait for all receivers.
///
/// # Errors
/// Those of the store.
pub fn count(store: &dyn Store) -> Result<usize, StoreError> {
    Ok(store.list(Table::Outbox, "")?.len())
}
