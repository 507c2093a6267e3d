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
