//! One partition's open segment, from its first row to the moment when it is handed over for sealing. The same for
//! predictions and feedback; the caller brings the time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use super::disk::Disk;
use super::segment::Segment;
use super::table::{
    META_DIGEST, META_MODEL, META_OPENED, META_PROGRAM, META_RETAIN, META_RULES, META_SCHEMA_VERSION, META_TABLE,
    META_VERSION, SCHEMA_VERSION, SEGMENT_EXTENSION, Table, WAL_FOLDER,
};

/// Where the segments of this process go. One for both tables, shared by everybody who writes.
#[derive(Debug)]
pub struct Wal {
    pub data_dir: PathBuf,
    pub disk: Arc<dyn Disk>,
    /// When the process began, in Unix ms; in the name of each of its segments.
    pub incarnation: u64,
    pub limits: SegmentLimits,
    next: AtomicU64,
}

/// How large and how old a segment may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentLimits {
    pub max_bytes: u64,
    pub max_age: Duration,
    /// Time after which what was appended is synced.
    pub sync_interval: Duration,
}

impl Default for SegmentLimits {
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_age: Duration::from_secs(300), sync_interval: Duration::from_secs(1) }
    }
}

/// Whose rows a segment holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Partition {
    pub table: Table,
    /// `None`: not known.
    pub model: Option<String>,
    /// `None` for feedback, as what follows.
    pub version: Option<u64>,
    /// sha256 of the version's files.
    pub digest: Option<String>,
    /// sha256 of the rules of redaction and sampling.
    pub rules: Option<String>,
    /// Time after which the rows may be deleted; `None`: as the server says.
    pub retain: Option<Duration>,
}

impl Partition {
    /// Of feedback on a model, or on one that is not known.
    pub fn feedback(model: Option<&str>) -> Self {
        let model = model.map(str::to_owned);
        Self { table: Table::Feedback, model, version: None, digest: None, rules: None, retain: None }
    }
}

/// An open segment of one partition.
#[derive(Debug)]
pub struct Stream {
    segment: Segment,
    limits: SegmentLimits,
    opened: SystemTime,
    synced: SystemTime,
    is_synced: bool,
}

/// Most names that are tried for one segment; more are taken only where clocks were set back again and again.
const MAX_NAMES: u64 = 1000;

impl Wal {
    pub fn new(data_dir: &Path, disk: Arc<dyn Disk>, incarnation: u64, limits: SegmentLimits) -> Self {
        Self { data_dir: data_dir.to_owned(), disk, incarnation, limits, next: AtomicU64::new(0) }
    }

    /// Folder of a table's segments.
    pub fn folder(&self, table: Table) -> PathBuf {
        wal_folder(&self.data_dir, table)
    }
}

/// Folder of a table's segments.
pub fn wal_folder(data_dir: &Path, table: Table) -> PathBuf {
    data_dir.join(WAL_FOLDER).join(table.name())
}

impl Stream {
    /// Begins a segment: its file has the schema's fields, and metadata that says whose rows these are.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open(wal: &Wal, partition: &Partition, schema: &Schema, now: SystemTime) -> io::Result<Self> {
        let schema = described(partition, schema, now);
        let folder = wal.folder(partition.table);
        for _ in 0..MAX_NAMES {
            let number = wal.next.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{}-{number}.{SEGMENT_EXTENSION}", wal.incarnation));
            match Segment::create(&wal.disk, &path, &schema) {
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(cause),
                Ok(segment) => {
                    wal.disk.sync_folder(&folder)?;
                    return Ok(Self { segment, limits: wal.limits, opened: now, synced: now, is_synced: true });
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Writes rows of the schema that the stream was opened with.
    ///
    /// # Errors
    /// What the disk says. None of the rows is in the segment then, and later ones can be appended.
    pub fn append(&mut self, batch: &RecordBatch) -> io::Result<()> {
        self.segment.append(batch)?;
        self.is_synced = false;
        Ok(())
    }

    /// Whether there is something to sync, and it has waited for the interval.
    pub fn sync_due(&self, now: SystemTime) -> bool {
        !self.is_synced && is_due(self.synced, now, self.limits.sync_interval)
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// What the disk says. It is not known then which rows are; the stream should be closed.
    pub fn sync(&mut self, now: SystemTime) -> io::Result<()> {
        self.synced = now;
        if !self.is_synced {
            self.segment.sync()?;
            self.is_synced = true;
        }
        Ok(())
    }

    /// Whether the segment is full or old, or its hour is over. Asked before each batch, so that no row is later than the
    /// hour whose folder it will lie in.
    pub fn seal_due(&self, now: SystemTime) -> bool {
        self.segment.bytes() >= self.limits.max_bytes
            || is_due(self.opened, now, self.limits.max_age)
            || hour(self.opened) != hour(now)
    }

    pub fn rows(&self) -> u64 {
        self.segment.rows()
    }

    pub fn bytes(&self) -> u64 {
        self.segment.bytes()
    }

    /// Ends the segment. What is returned goes to the [`Sealer`](super::seal::Sealer).
    pub fn close(self) -> PathBuf {
        self.segment.path().to_owned()
    }
}

/// The schema with what the file says of itself.
fn described(partition: &Partition, schema: &Schema, now: SystemTime) -> Schema {
    let mut metadata = schema.metadata().clone();
    let version = partition.version.map(|version| version.to_string());
    let facts = [
        (META_SCHEMA_VERSION, Some(SCHEMA_VERSION.to_string())),
        (META_TABLE, Some(partition.table.name().to_owned())),
        (META_MODEL, partition.model.clone()),
        (META_VERSION, version),
        (META_DIGEST, partition.digest.clone()),
        (META_RULES, partition.rules.clone()),
        (META_PROGRAM, Some(env!("CARGO_PKG_VERSION").to_owned())),
        (META_RETAIN, partition.retain.map(|time| time.as_secs().to_string())),
        (META_OPENED, Some(unix_us(now).to_string())),
    ];
    for (key, value) in facts {
        if let Some(value) = value {
            metadata.insert(key.to_owned(), value);
        }
    }
    Schema::new_with_metadata(schema.fields().clone(), metadata)
}

/// Whether so much time has passed since `start`, or the clock was set back, so that nobody knows.
pub fn is_due(start: SystemTime, now: SystemTime, interval: Duration) -> bool {
    now.duration_since(start).is_ok_and(|passed| passed >= interval) || now < start
}

/// Unix time in µs.
pub fn unix_us(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}

fn hour(time: SystemTime) -> i64 {
    unix_us(time).div_euclid(3_600_000_000)
}
