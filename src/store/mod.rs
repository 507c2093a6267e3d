//! Durable state: what must be known after a restart.
//!
//! One small trait, rows of JSON by table and key, with two implementations: [`MemoryStore`] lives and dies with the
//! process, [`RedbStore`] is a file in the data directory. [`records`] gives the rows of models their types; rollouts and
//! webhooks have theirs where they are written. [`rows`] is what these share.

mod memory;
pub mod records;
mod redb;
pub mod rows;

#[cfg(test)]
mod conformance;

use std::path::PathBuf;

pub use memory::MemoryStore;
pub use redb::{RedbStore, STATE_FILE};

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// Longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// A set of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// What is true of the whole gateway, such as its id.
    Gateway,
    /// Labels moved through the API.
    LabelMoves,
    /// The version that answers a model's bare name.
    Answers,
    /// Versions not to be loaded.
    Quarantine,
    /// Models loaded or unloaded through the API.
    Control,
    /// Digests that loaded well.
    KnownGood,
    /// Slots of prediction ids.
    Slots,
    /// Rollouts, ended ones too.
    Rollouts,
    /// Transitions of rollouts.
    RolloutJournal,
    /// The last figures of each rollout.
    RolloutCheckpoints,
    /// Who served a route from when on.
    RouteHistory,
    /// Events that webhooks have not taken yet.
    Outbox,
    /// Log files that were uploaded and are still here.
    Uploads,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 13] = [
        Self::Gateway,
        Self::LabelMoves,
        Self::Answers,
        Self::Quarantine,
        Self::Control,
        Self::KnownGood,
        Self::Slots,
        Self::Rollouts,
        Self::RolloutJournal,
        Self::RolloutCheckpoints,
        Self::RouteHistory,
        Self::Outbox,
        Self::Uploads,
    ];

    /// The table's name in files; never changes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::LabelMoves => "label_moves",
            Self::Answers => "answers",
            Self::Quarantine => "quarantine",
            Self::Control => "control",
            Self::KnownGood => "known_good",
            Self::Slots => "slots",
            Self::Rollouts => "rollouts",
            Self::RolloutJournal => "rollout_journal",
            Self::RolloutCheckpoints => "rollout_checkpoints",
            Self::RouteHistory => "route_history",
            Self::Outbox => "outbox",
            Self::Uploads => "uploads",
        }
    }

    /// Most rows that the table may hold.
    pub fn row_limit(self) -> u64 {
        match self {
            Self::Gateway => 100,
            Self::LabelMoves | Self::Answers | Self::Quarantine | Self::Control | Self::KnownGood => 100_000,
            // A slot has 24 bits, and 0 stands for none.
            Self::Slots => (1 << 24) - 1,
            // Old rows of these are taken away long before.
            Self::Rollouts | Self::RolloutCheckpoints => 10_000,
            Self::RolloutJournal | Self::RouteHistory | Self::Uploads => 1_000_000,
            Self::Outbox => 20_000,
        }
    }
}

/// One row to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Whether or not the row is there.
    Put { table: Table, key: String, value: Vec<u8> },
    /// Only if it is not there yet.
    Insert { table: Table, key: String, value: Vec<u8> },
    /// Whether or not the row is there.
    Delete { table: Table, key: String },
}

/// Rows that outlive the process, as far as the implementation promises it.
///
/// The contract, which one set of tests holds every implementation to:
/// - [`Store::commit`] is atomic: all of its writes are seen and kept, or none. They apply in order.
/// - When `commit` returns `Ok`, an implementation on disk has the writes on the disk (fsync); a crash after that loses
///   nothing, a crash before it leaves the state before.
/// - Reads see every commit that returned before they began. Keys of one table list in byte order.
/// - All calls block, for as long as the disk takes. Call them from threads that may, never from an I/O thread.
/// - Callers on several threads are served one after the other.
pub trait Store: Send + Sync {
    /// The value of a row.
    ///
    /// # Errors
    /// `Failed` if the disk does.
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// All rows of a table whose keys begin with `prefix`, in the byte order of the keys.
    ///
    /// # Errors
    /// `Failed` if the disk does.
    fn list(&self, table: Table, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Writes all of these rows, or none.
    ///
    /// # Errors
    /// `Exists` for an `Insert` whose row is there, `Full` and `TooLong` at the bounds, `Failed` if the disk does.
    fn commit(&self, writes: &[Write]) -> Result<(), StoreError>;
}

/// Why state could not be read or kept. Texts are for operators: some hold paths.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the data directory '{}' is in use by another process; give each its own --data-dir", dir.display())]
    InUse { dir: PathBuf },
    #[error(
        "'{}' was written by a newer version of this program: schema version {got}, expected at most {known}",
        file.display()
    )]
    Newer { file: PathBuf, got: u64, known: u64 },
    #[error(
        "'{}' is damaged or not a state file: {cause}. Restore it from a backup, or move it away to start without state",
        file.display()
    )]
    Damaged { file: PathBuf, cause: String },
    #[error("the data directory '{}' can't be used: {cause}", dir.display())]
    Unusable { dir: PathBuf, cause: String },
    #[error("the state holds '{key}' in table {} already", table.name())]
    Exists { table: Table, key: String },
    #[error("table {} of the state is full: it holds {limit} rows", table.name())]
    Full { table: Table, limit: u64 },
    #[error("a row of the state is too long: {got} bytes of {what}, expected at most {limit}")]
    TooLong { what: &'static str, got: usize, limit: usize },
    #[error("row '{key}' in table {} of the state can't be understood: {cause}", table.name())]
    BadRow { table: Table, key: String, cause: String },
    #[error("the state can't be read or written: {0}")]
    Failed(String),
}

/// Refuses writes beyond the bounds on keys and values.
fn check_lengths(writes: &[Write]) -> Result<(), StoreError> {
    for write in writes {
        let (key, value) = match write {
            Write::Put { key, value, .. } | Write::Insert { key, value, .. } => (key, value.len()),
            Write::Delete { key, .. } => (key, 0),
        };
        for (what, got, limit) in [("key", key.len(), MAX_KEY_BYTES), ("value", value, MAX_VALUE_BYTES)] {
            if got > limit {
                return Err(StoreError::TooLong { what, got, limit });
            }
        }
    }
    Ok(())
}
