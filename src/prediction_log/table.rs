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

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

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

    /// The table of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// The column by which the rows of a sealed file are sorted: when a request ended, or when feedback arrived.
    pub fn time_column(self) -> &'static str {
        match self {
            Self::Predictions => "ts",
            Self::Feedback => "received_time",
        }
    }

    /// The column that no two rows agree in.
    pub fn id_column(self) -> &'static str {
        match self {
            Self::Predictions => "prediction_id",
            Self::Feedback => "feedback_id",
        }
    }
}

/// Folder of the sealed rows of a segment that was begun at this time (Unix µs).
pub fn sealed_folder(data_dir: &Path, table: Table, (model, version): (Option<&str>, Option<u64>), us: i64) -> PathBuf {
    let time = UNIX_EPOCH + Duration::from_micros(us.unsigned_abs());
    let text = humantime::format_rfc3339_seconds(time).to_string();
    let (date, hour) = (text.get(..10).unwrap_or_default(), text.get(11..13).unwrap_or_default());
    let model = model.map_or(Cow::Borrowed(NO_VALUE), partition_value);
    let folder = data_dir.join(table.name()).join(format!("model={model}"));
    match table {
        Table::Predictions => folder
            .join(format!("version={}", version.unwrap_or(0)))
            .join(format!("date={date}"))
            .join(format!("hour={hour}")),
        Table::Feedback => folder.join(format!("date={date}")),
    }
}

/// A text as a folder's name holds it: what means something in a path or to Hive is percent-encoded, and readers decode it.
pub fn partition_value(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, SPECIAL).into()
}

/// What Hive escapes in the values of partitions, and what globs take for patterns.
const SPECIAL: &AsciiSet = &CONTROLS
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'\'')
    .add(b'*')
    .add(b'/')
    .add(b':')
    .add(b'=')
    .add(b'?')
    .add(b'\\')
    .add(b'{')
    .add(b'}')
    .add(b'[')
    .add(b']')
    .add(b'^')
    .add(b' ');

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

/// Time in s after which the rows may be deleted, as it was when they were written; absent: as the server says.
pub const META_RETAIN: &str = "headgate.retain_s";

// Only of sealed files.

/// Number of rows.
pub const META_ROWS: &str = "headgate.rows";
/// Lowest and highest `seq`; absent for feedback.
pub const META_SEQ_FIRST: &str = "headgate.seq_first";
pub const META_SEQ_LAST: &str = "headgate.seq_last";
/// Lowest and highest time that the rows are sorted by, in Unix µs.
pub const META_TS_FIRST: &str = "headgate.ts_first_us";
pub const META_TS_LAST: &str = "headgate.ts_last_us";
/// The files that this one was merged from and that it stands for, and those that these were merged from, by name without
/// ending, separated by commas. A reader that finds one of them beside it leaves that one out.
pub const META_REPLACES: &str = "headgate.replaces";
