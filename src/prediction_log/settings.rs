//! What a model's settings say of its log: the keys `log`, `features` and `quality` of model.yaml.

use std::collections::BTreeMap;
use std::time::Duration;

/// Sampling, redaction and durability of one model's rows.
#[derive(Debug, Clone, PartialEq)]
pub struct LogSettings {
    /// Share of predictions that are written, 0 to 1; errors and the arms of a canary are written whatever it says.
    pub sample: f64,
    /// Predictions that agree here are kept or left out together.
    pub sample_by: SampleBy,
    /// By column, as `in_age`.
    pub redact: BTreeMap<String, Redaction>,
    pub durability: Durability,
    /// A row's tensor beyond this is not written; the row says so.
    pub max_tensor_bytes: usize,
    /// Files whose rows are all older are deleted; `None`: kept.
    pub retain: Option<Duration>,
    /// Names of the elements of an input's rows, by input: each becomes a column of its own.
    pub features: BTreeMap<String, Vec<String>>,
    /// What the numbers of an output should lie in, ends included, by output; a row outside is marked.
    pub output_ranges: BTreeMap<String, (f64, f64)>,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            sample: 1.0,
            sample_by: SampleBy::Key,
            redact: BTreeMap::new(),
            durability: Durability::Interval,
            max_tensor_bytes: 64 << 10,
            retain: None,
            features: BTreeMap::new(),
            output_ranges: BTreeMap::new(),
        }
    }
}

/// What sampling goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SampleBy {
    /// The request's sticky key (`headgate-key`), or else its request id.
    Key,
    /// The value of this column, as `in_user`.
    Column(String),
}

/// What becomes of a column's values before they reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redaction {
    /// Always null.
    Drop,
    /// HMAC-SHA256 under the log's key, as hexadecimal text: equal values stay equal.
    Hmac,
    /// To so many decimals; negative ones round to tens, hundreds and so on.
    Round(i32),
    /// All but the last so many characters become `*`.
    Mask { keep_last: usize },
}

/// How long a caller waits for its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Not at all, and rows are not synced but when a segment is sealed.
    None,
    /// Not at all; rows are synced once an interval.
    #[default]
    Interval,
    /// Until the row is on the disk, within the request's deadline. For models that are audited.
    Required,
}

/// How predictions are held against feedback.
#[derive(Debug, Clone, PartialEq)]
pub struct QualitySettings {
    pub task: Task,
    /// The output that holds the prediction; `None`: the first that fits the task.
    pub output: Option<String>,
    /// Name of the feedback that is the truth.
    pub feedback: String,
    /// Columns, at most [`MAX_SEGMENTS`], by whose values quality is also shown apart.
    pub segments: Vec<String>,
    /// Without positive feedback for so long the label is negative; `None`: unknown for ever.
    pub negative_after: Option<Duration>,
    pub exposure: Exposure,
    /// Regression: an absolute error beyond this is an event of the rollout's `feedback` check.
    pub tolerance: Option<f64>,
}

impl QualitySettings {
    /// With nothing said but the task.
    pub fn of(task: Task) -> Self {
        Self {
            task,
            output: None,
            feedback: "label".to_owned(),
            segments: vec![],
            negative_after: None,
            exposure: Exposure::Assumed,
            tolerance: None,
        }
    }
}

/// Most columns that quality is shown by.
pub const MAX_SEGMENTS: usize = 3;

/// What is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    Classification,
    Regression,
    /// Whether what was shown is clicked, bought, opened; the output is a score from 0 to 1.
    Click,
}

/// Whether a prediction counts as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exposure {
    /// Each one.
    Assumed,
    /// One with feedback of this name.
    Feedback(String),
}

impl Exposure {
    /// As settings name it.
    pub fn named(name: &str) -> Self {
        if name == Self::Assumed.name() { Self::Assumed } else { Self::Feedback(name.to_owned()) }
    }

    /// As [`Exposure::named`] takes it.
    pub fn name(&self) -> &str {
        match self {
            Self::Assumed => "assumed",
            Self::Feedback(name) => name,
        }
    }
}
