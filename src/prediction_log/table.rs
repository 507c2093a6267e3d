//! The two tables of the log, and where their files lie.
//!
//! ```text
//! <data-dir>/wal/predictions/<incarnation>-<n>.arrows      segments, one version's rows each
//! <data-dir>/wal/feedback/<incarnation>-<n>.arrows
//! <data-dir>/predictions/model=<m>/version=<v>/date=YYYY-MM-DD/hour=HH/<incarnation>-<n>.parquet
//! <data-dir>/feedback/model=<m>/date=YYYY-MM-DD/<incarnation>-<n>.parquet
//! ```
//! A sealed file has the name of the segment that it came from, so that a crash between its publication and the removal
//! of the segment is mended by looking. Feedback whose model is not known lies under Hive's name for no value.

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    Predictions,
    Feedback,
}

impl Table {
    pub const ALL: [Self; 2] = [Self::Predictions, Self::Feedback];

    /// Name of the folder of its sealed files, and of that of its segments under [`WAL_FOLDER`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Predictions => "predictions",
            Self::Feedback => "feedback",
        }
    }
}

/// Folder of the segments of both tables.
pub const WAL_FOLDER: &str = "wal";
/// Ending of a segment: an Arrow IPC stream, whose last batch may be torn.
pub const SEGMENT_EXTENSION: &str = "arrows";
/// The value of a partition column that has none.
pub const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// What a file is called after while it is written, or where it was set aside; no reader takes it for a part of the log.
pub const TEMPORARY_EXTENSION: &str = "tmp";
/// Ending of sealed files.
pub const SEALED_EXTENSION: &str = "parquet";

/// The version of the layout and of the columns that this program writes; one that is greater is refused.
pub const SCHEMA_VERSION: u32 = 1;

// Keys of the metadata of every segment (in its Arrow schema) and every sealed file (key-value metadata of Parquet).

/// [`SCHEMA_VERSION`] in decimal.
pub const META_SCHEMA_VERSION: &str = "headgate.schema_version";
/// [`Table::name`].
pub const META_TABLE: &str = "headgate.table";
/// The model's name; absent where it is not known.
pub const META_MODEL: &str = "headgate.model";
/// The model's version in decimal; absent for feedback.
pub const META_VERSION: &str = "headgate.version";
/// sha256 of the version's files; absent for feedback.
pub const META_DIGEST: &str = "headgate.digest";
/// Version of the program.
pub const META_PROGRAM: &str = "headgate.program";
/// sha256 of the redaction and sampling rules.
pub const META_RULES: &str = "headgate.rules";
/// When the segment was begun, in Unix µs; it says which hour's folder its rows are in. None of them is later than that
/// hour, some may be a little earlier.
pub const META_OPENED: &str = "headgate.opened_us";

// Only of sealed files.

/// Number of rows.
pub const META_ROWS: &str = "headgate.rows";
/// Lowest and highest `seq`; absent for feedback.
pub const META_SEQ_FIRST: &str = "headgate.seq_first";
pub const META_SEQ_LAST: &str = "headgate.seq_last";
/// Lowest and highest time that the rows are sorted by, in Unix µs.
pub const META_TS_FIRST: &str = "headgate.ts_first_us";
pub const META_TS_LAST: &str = "headgate.ts_last_us";
/// The files that this one was merged from and that it stands for, by name without ending, separated by commas. A reader
/// that finds one of them beside it leaves that one out.
pub const META_REPLACES: &str = "headgate.replaces";
