//! RECORD: the prediction log. Every prediction can be written down, joined with what really happened, and handed back for
//! retraining, and none of it costs a caller anything.
//!
//! A request ends by handing an [`Entry`] to the [`PredictionLog`], which takes it if there is room and else counts it as
//! dropped. One thread ([`writer`]) turns entries into rows, one for each instance: it samples, redacts, and appends them
//! to a write-ahead segment, an Arrow IPC stream of one version's rows. A segment that is full or old is sealed: written
//! as Parquet under another name, then renamed to its place. What a reader finds under `predictions/` is whole.
//!
//! The log is at most once: nothing is lost when the process dies, at most a sync interval when the machine does, and what
//! was dropped for want of room is counted and shows as a gap in the rows' sequence numbers.

pub mod columns;
pub mod compact;
pub mod config;
pub mod destinations;
pub mod disk;
pub mod disk_policy;
pub mod entry;
pub mod export;
pub mod feedback;
pub mod known;
pub mod quality;
pub mod query;
pub mod read;
pub mod open;
pub mod recovery;
pub mod redaction;
pub mod retention;
pub mod ring;
pub mod sampling_policy;
pub mod seal;
pub mod segment;
pub mod settings;
pub mod standing_policy;
pub mod stream;
pub mod table;
pub mod writer;
#[cfg(test)]
pub mod testing;

pub use self::columns::{RowContext, RowsBuilder, RuleError, VersionLog};
pub use self::config::LogConfig;
pub use self::destinations::{EventsConfig, UploadConfig};
pub use self::entry::{Entry, NotSynced, Outcome, RolloutPart, RowsWitness, Synced, Witness};
pub use self::ring::{Offered, PredictionLog, RowCounts};
pub use self::settings::{Durability, LogSettings, QualitySettings};
