//! What can go wrong with a request, and the one table that turns it into an answer.
//!
//! A variant says what was expected and what came. Texts that existing clients match on are Triton's, word for word.
//! Nothing here holds a path, a panic's text or the name of a type of ours: the text goes to the client as it is.

use std::fmt;
use std::time::Duration;

use crate::tensor::{DataType, TensorError};

/// The outcome of anything a client asks for.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A request that is answered with an error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("Request for unknown model: '{model}' is not found{}", nearest_text(nearest))]
    UnknownModel { model: String, nearest: Option<String> },
    #[error("Request for unknown model: '{model}' version {version} is not found{}", ready_text(ready))]
    UnknownVersion { model: String, version: String, ready: Vec<u64> },
    #[error("Request for unknown model: '{model}' has no label '{label}'{}", nearest_text(nearest))]
    UnknownLabel { model: String, label: String, nearest: Option<String> },
    #[error("Request for unknown model: '{model}' version {version} is not at ready state: {reason}")]
    NotReady { model: String, version: u64, reason: String },
    #[error("Request for unknown model: '{model}' has no available versions{}", reason_text(reason))]
    NoVersions { model: String, reason: String },
    #[error("there is no rollout '{rollout}'{}", nearest_text(nearest))]
    UnknownRollout { rollout: String, nearest: Option<String> },
    /// What is asked for does not go with what is; the text says what is.
    #[error("{0}")]
    Conflict(String),
    #[error("'{name}' is not a model name: {reason}")]
    BadName { name: String, reason: &'static str },

    /// The request does not fit the model's signature.
    #[error(transparent)]
    Mismatch(Box<Mismatch>),
    #[error("input '{input}': {source}")]
    InputTensor { input: String, source: TensorError },
    /// Anything else the client got wrong; the text says what was expected and what came.
    #[error("{0}")]
    Invalid(String),

    #[error("request of {got} bytes exceeds the limit of {limit} bytes{hint}")]
    TooLarge { got: u64, limit: u64, hint: &'static str },
    #[error("{0}")]
    Unsupported(String),
    #[error(transparent)]
    Overloaded(Box<Overload>),
    #[error(
        "Exceeds maximum bytes in flight: {in_use} of {limit} bytes (--max-bytes-in-flight) are taken by requests, {wanted} more were asked for"
    )]
    OutOfBudget { in_use: u64, limit: u64, wanted: u64 },
    #[error("Request timeout expired{}", stage_text(stage))]
    DeadlineExceeded { stage: &'static str },
    #[error("the request's body did not arrive within {seconds} s")]
    BodyTimeout { seconds: f64 },
    #[error("the client went away")]
    Cancelled,
    #[error("{0}")]
    Unavailable(String),
    #[error(
        "inference failed in model '{model}' version {version}: the model could not run on these inputs; the server's log has the cause under request id '{request_id}'"
    )]
    RunFailed { model: String, version: u64, request_id: String },
    /// A failure of the server itself; the text must be safe to show.
    #[error("{0}")]
    Internal(String),
}

/// A request that is shed: what it found, and which bound it would have passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overload {
    pub model: String,
    /// Requests that wait for the model.
    pub depth: usize,
    /// Most that may.
    pub limit: usize,
    /// How long a newcomer must expect to wait.
    pub expected_wait: Duration,
    pub cause: ShedCause,
}

/// Why a request is shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShedCause {
    QueueSize,
    QueueBytes {
        waiting: usize,
        limit: usize,
    },
    QueueWait {
        limit: Duration,
    },
    /// The wait would outlast the deadline.
    Deadline {
        left: Duration,
    },
    /// A request of the high class took its place.
    Preempted,
    /// A request of the low class that waited for too long.
    Waited,
}

#[cfg(test)]
impl Overload {
    /// One that expects this wait, for tests of how it is told.
    pub fn example(expected_wait: Duration) -> Self {
        Self { model: "m".into(), depth: 1, limit: 1, expected_wait, cause: ShedCause::QueueSize }
    }
}

impl ShedCause {
    /// The value of a `reason` label, in the order of `index`.
    pub const LABELS: [&str; 6] = ["queue_size", "queue_bytes", "queue_wait", "deadline", "preempted", "waited"];

    pub fn index(self) -> usize {
        match self {
            Self::QueueSize => 0,
            Self::QueueBytes { .. } => 1,
            Self::QueueWait { .. } => 2,
            Self::Deadline { .. } => 3,
            Self::Preempted => 4,
            Self::Waited => 5,
        }
    }

    pub fn label(self) -> &'static str {
        Self::LABELS[self.index()]
    }
}

impl std::error::Error for Overload {}

impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, depth, limit, expected_wait, cause } = self;
        write!(f, "Exceeds maximum queue size: {depth} of {limit} requests are waiting for model '{model}', ")?;
        write!(f, "expected wait {} ms", millis(*expected_wait))?;
        match cause {
            ShedCause::QueueSize => Ok(()),
            ShedCause::QueueBytes { waiting, limit } => write!(f, ", {waiting} of {limit} bytes are taken"),
            ShedCause::QueueWait { limit } => write!(f, " of at most {} ms", millis(*limit)),
            ShedCause::Deadline { left } => write!(f, " with {} ms left until the request's deadline", millis(*left)),
            ShedCause::Preempted => write!(f, ", and requests of high priority go first"),
            ShedCause::Waited => write!(f, ", and this one of low priority has waited for as long as it may"),
        }
    }
}

/// Milliseconds with one digit behind the point.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 10.0
}

/// Where a request and the signature of the model it goes to differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The client's request id; may be empty.
    pub id: String,
    pub model: String,
    pub fault: Fault,
}

/// What differs. Each text names what was expected and what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    InputCount {
        expected: usize,
        got: usize,
        missing: Vec<String>,
    },
    UnknownInput {
        input: String,
        nearest: Option<String>,
    },
    DuplicateInput {
        input: String,
    },
    UnknownOutput {
        output: String,
        nearest: Option<String>,
    },
    DuplicateOutput {
        output: String,
    },
    InputType {
        input: String,
        expected: DataType,
        got: DataType,
    },
    /// Shapes as texts, -1 for a dimension that varies.
    InputShape {
        input: String,
        expected: String,
        got: String,
    },
    /// Two inputs share a named dimension and differ in it.
    InconsistentDim {
        input: String,
        axis: usize,
        dim: String,
        expected: usize,
        other: String,
        got: usize,
    },
    BatchSize {
        limit: usize,
        got: usize,
    },
}

impl std::error::Error for Mismatch {}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, model, fault } = self;
        if !id.is_empty() {
            write!(f, "[request id: {id}] ")?;
        }
        match fault {
            Fault::InputCount { expected, got, missing } => {
                write!(f, "expected {expected} inputs but got {got} inputs for model '{model}'")?;
                write!(f, ", missing: '{}'", missing.join("', '"))
            }
            Fault::UnknownInput { input, nearest } => {
                write!(f, "unexpected inference input '{input}' for model '{model}'{}", nearest_text(nearest))
            }
            Fault::DuplicateInput { input } => write!(f, "input '{input}' is given twice for model '{model}'"),
            Fault::UnknownOutput { output, nearest } => {
                write!(f, "unexpected inference output '{output}' for model '{model}'{}", nearest_text(nearest))
            }
            Fault::DuplicateOutput { output } => write!(f, "output '{output}' of model '{model}' is asked for twice"),
            Fault::InputType { input, expected, got } => {
                write!(f, "inference input '{input}' data-type is '{got}', but model '{model}' expects '{expected}'")
            }
            Fault::InputShape { input, expected, got } => {
                write!(f, "unexpected shape for input '{input}' for model '{model}'. Expected {expected}, got {got}")
            }
            Fault::InconsistentDim { input, axis, dim, expected, other, got } => write!(
                f,
                "unexpected shape for input '{input}' for model '{model}'. \
                 Expected dimension {axis} ('{dim}') to be {expected} as in input '{other}', got {got}"
            ),
            Fault::BatchSize { limit, got } => {
                write!(f, "inference request batch-size must be <= {limit} for '{model}', got {got}")
            }
        }
    }
}

/// Whose fault an error is and what a client should do: the rows of the status table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    InvalidArgument,
    NotFound,
    Conflict,
    TooLarge,
    Unsupported,
    Overloaded,
    Unavailable,
    DeadlineExceeded,
    RequestTimeout,
    Cancelled,
    Internal,
}

impl Kind {
    /// Every kind, in the order of its discriminant.
    pub const ALL: [Self; 11] = [
        Self::InvalidArgument,
        Self::NotFound,
        Self::Conflict,
        Self::TooLarge,
        Self::Unsupported,
        Self::Overloaded,
        Self::Unavailable,
        Self::DeadlineExceeded,
        Self::RequestTimeout,
        Self::Cancelled,
        Self::Internal,
    ];

    /// (HTTP status, gRPC code, the `reason` label on metrics). gRPC codes are those of `google.rpc.Code`.
    fn row(self) -> (u16, i32, &'static str) {
        match self {
            Self::InvalidArgument => (400, 3, "invalid_argument"),
            Self::NotFound => (404, 5, "not_found"),
            Self::Conflict => (409, 9, "conflict"),
            Self::TooLarge => (413, 8, "too_large"),
            Self::Unsupported => (501, 12, "unsupported"),
            Self::Overloaded => (503, 14, "overloaded"),
            Self::Unavailable => (503, 14, "unavailable"),
            Self::DeadlineExceeded => (504, 4, "deadline_exceeded"),
            Self::RequestTimeout => (408, 4, "request_timeout"),
            Self::Cancelled => (499, 1, "cancelled"),
            Self::Internal => (500, 13, "internal"),
        }
    }

    pub fn http_status(self) -> u16 {
        self.row().0
    }

    pub fn grpc_code(self) -> i32 {
        self.row().1
    }

    /// The value of a `reason` label: one of eleven, so that it can label a metric.
    pub fn label(self) -> &'static str {
        self.row().2
    }
}

impl Error {
    /// A request that doesn't fit its model; `id` is the client's and may be empty.
    pub fn mismatch(model: &str, id: &str, fault: Fault) -> Self {
        Self::Mismatch(Box::new(Mismatch { id: id.to_owned(), model: model.to_owned(), fault }))
    }

    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::UnknownModel { .. } | Self::UnknownVersion { .. } | Self::UnknownLabel { .. } => Kind::NotFound,
            Self::UnknownRollout { .. } => Kind::NotFound,
            Self::Conflict(_) => Kind::Conflict,
            Self::NotReady { .. } | Self::NoVersions { .. } | Self::Unavailable(_) => Kind::Unavailable,
            Self::BadName { .. } | Self::Mismatch(_) | Self::InputTensor { .. } | Self::Invalid(_) => {
                Kind::InvalidArgument
            }
            Self::TooLarge { .. } => Kind::TooLarge,
            Self::Unsupported(_) => Kind::Unsupported,
            Self::Overloaded(_) | Self::OutOfBudget { .. } => Kind::Overloaded,
            Self::DeadlineExceeded { .. } => Kind::DeadlineExceeded,
            Self::BodyTimeout { .. } => Kind::RequestTimeout,
            Self::Cancelled => Kind::Cancelled,
            Self::RunFailed { .. } | Self::Internal(_) => Kind::Internal,
        }
    }

    /// How long a client should wait before it tries again; `None` where a retry doesn't help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded(overload) => Some(overload.expected_wait.max(MIN_RETRY)),
            Self::OutOfBudget { .. } | Self::NotReady { .. } | Self::NoVersions { .. } | Self::Unavailable(_) => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }
}

/// A client that is told to come back sooner would only be refused again.
const MIN_RETRY: Duration = Duration::from_millis(100);

/// The known name nearest to a mistaken one, if any is near enough to be meant. Capitals make no difference.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // A long name is no typo of a short one, and comparing it would cost the product of both lengths.
    const LONGEST: usize = 256;
    if wrong.len() > LONGEST {
        return None;
    }
    let wrong = wrong.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&wrong, &name.to_lowercase()), name))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_owned())
}

fn nearest_text(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(", did you mean '{name}'?")).unwrap_or_default()
}

fn ready_text(ready: &[u64]) -> String {
    let versions: Vec<String> = ready.iter().map(u64::to_string).collect();
    if versions.is_empty() { String::new() } else { format!(", ready versions: {}", versions.join(", ")) }
}

fn reason_text(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

fn stage_text(stage: &str) -> String {
    if stage.is_empty() { String::new() } else { format!(" {stage}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_clients_match_on() {
        let unknown = Error::UnknownModel { model: "x".into(), nearest: None };
        assert_eq!(unknown.to_string(), "Request for unknown model: 'x' is not found");
        let version = Error::UnknownVersion { model: "x".into(), version: "7".into(), ready: vec![] };
        assert_eq!(version.to_string(), "Request for unknown model: 'x' version 7 is not found");
        let fault = Fault::InputCount { expected: 2, got: 1, missing: vec!["b".into()] };
        let count = Error::mismatch("m", "a", fault);
        assert_eq!(count.to_string(), "[request id: a] expected 2 inputs but got 1 inputs for model 'm', missing: 'b'");
        let expected_wait = Duration::from_micros(120_040);
        let overload = |cause| Overload { model: "m".into(), depth: 3, limit: 3, expected_wait, cause };
        let full = Error::Overloaded(Box::new(overload(ShedCause::QueueSize)));
        let expected = "Exceeds maximum queue size: 3 of 3 requests are waiting for model 'm', expected wait 120 ms";
        assert_eq!(full.to_string(), expected);
        let hopeless = overload(ShedCause::Deadline { left: Duration::from_millis(50) });
        assert_eq!(hopeless.to_string(), format!("{expected} with 50 ms left until the request's deadline"));
        assert_eq!((full.kind().http_status(), full.kind().grpc_code()), (503, 14));
        let late = Error::DeadlineExceeded { stage: "" };
        assert_eq!(late.to_string(), "Request timeout expired");
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("digit", ["digits", "iris"]), Some("digits".into()));
        assert_eq!(nearest("x", ["X", "y"]), Some("X".into()));
        assert_eq!(nearest("zebra", ["digits", "iris"]), None);
        assert_eq!(nearest(&"d".repeat(1000), ["digits"]), None);
    }
}
