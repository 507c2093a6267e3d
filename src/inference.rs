//! A request and its answer inside the gateway, free of any wire's types.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::Error;
use crate::tensor::Tensor;

/// Which version of a model a request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum VersionChoice {
    /// The bare name: label `stable` if the model has one, else what its policy currently serves.
    Default,
    Number(u64),
    Label(String),
}

/// A model as a client names it: `digits`, `digits` with a version, or `digits@stable`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelRef {
    /// The name without a label.
    pub name: String,
    pub version: VersionChoice,
    /// The name exactly as it was asked for, which every reply echoes.
    pub asked: String,
}

/// Longest model name, label and version text accepted, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

impl ModelRef {
    /// Reads a model name, which may carry `@label`, and a version, which may be empty.
    ///
    /// # Errors
    /// `BadName` when the name could not be a directory of a model repository, `Invalid` when both a label and a
    /// version are given, `UnknownVersion` when the version is not a number.
    pub fn parse(asked: &str, version: &str) -> Result<Self, Error> {
        let (name, label) = match asked.split_once('@') {
            Some((name, label)) => (name, Some(label)),
            None => (asked, None),
        };
        check_name(asked, name)?;
        let choice = match (label, version) {
            (None, "") => VersionChoice::Default,
            (Some(label), "") => {
                check_name(asked, label)?;
                VersionChoice::Label(label.to_owned())
            }
            (Some(_), _) => {
                return Err(Error::invalid(format!(
                    "'{}' names a label and the request also names version {}: give one of the two",
                    printable(asked),
                    printable(version)
                )));
            }
            (None, version) => VersionChoice::Number(version.parse().map_err(|_| Error::UnknownVersion {
                model: name.to_owned(),
                version: printable(version),
                ready: vec![],
            })?),
        };
        Ok(Self { name: name.to_owned(), version: choice, asked: asked.to_owned() })
    }

    /// The same model under a label (TF Serving's `/labels/<label>`).
    ///
    /// # Errors
    /// `BadName` as `parse`.
    pub fn with_label(name: &str, label: &str) -> Result<Self, Error> {
        check_name(name, name)?;
        check_name(label, label)?;
        Ok(Self { name: name.to_owned(), version: VersionChoice::Label(label.to_owned()), asked: name.to_owned() })
    }
}

/// Why `name` can't be a model, label or version directory; `None` if it can.
pub fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > MAX_NAME_BYTES {
        Some("it is longer than 255 bytes")
    } else if name.starts_with('.') {
        Some("it begins with '.'")
    } else if name.chars().any(|c| c.is_control() || matches!(c, '/' | '\\' | '@')) {
        Some("it holds '/', '\\', '@' or a control character")
    } else {
        None
    }
}

fn check_name(asked: &str, part: &str) -> Result<(), Error> {
    match name_fault(part) {
        None => Ok(()),
        Some(reason) => Err(Error::BadName { name: printable(asked), reason }),
    }
}

/// Client text made fit for an error message: short and without control characters.
pub fn printable(text: &str) -> String {
    const SHOWN: usize = 64;
    let mut out: String = text.chars().take(SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().count() > SHOWN {
        out.push('…');
    }
    out
}

/// What is known of a request before its body is read.
#[derive(Debug, Clone)]
pub struct RequestContext {
    pub model: ModelRef,
    /// From `x-request-id`, or made here; in every log line and in the answer.
    pub request_id: RequestId,
    /// W3C `traceparent`, taken over as it came.
    pub traceparent: Option<String>,
    pub deadline: Deadline,
    /// From `headgate-priority`; `None` where the header is absent.
    pub priority: Option<Priority>,
    pub received: Instant,
    pub protocol: Protocol,
}

/// What a request says of itself outside its body: the headers of HTTP, the metadata of gRPC.
pub trait Attributes: Send + Sync {
    /// The first value of this name, which is in lower case; `None` where there is none.
    fn get(&self, name: &str) -> Option<&[u8]>;
}

/// Parameters of a request that are kept for routing; further ones are passed over.
pub const MAX_PARAMETERS: usize = 16;
/// Longest name and longest value of a parameter that is kept, in bytes.
pub const MAX_PARAMETER_BYTES: usize = 256;

/// Keeps a parameter of the client's own, if it is not too long and not one too many.
pub fn keep_parameter(kept: &mut Vec<(String, String)>, name: &str, value: &str) {
    if kept.len() < MAX_PARAMETERS && name.len() <= MAX_PARAMETER_BYTES && value.len() <= MAX_PARAMETER_BYTES {
        kept.push((name.to_owned(), value.to_owned()));
    }
}

/// The protocol a request came by, as logs and metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Grpc,
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }
}

/// Who goes first when not everybody can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Priority {
    #[default]
    High,
    /// The first to be refused, and the last to run.
    Low,
}

impl Priority {
    /// The class that `headgate-priority` names; `None` for any other word.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "high" => Some(Self::High),
            "low" => Some(Self::Low),
            _ => None,
        }
    }

    /// The class of the protocol's `priority` parameter, where 1 is the highest level and 0 leaves the choice to the
    /// server; `None` for 0.
    pub fn from_level(level: u64) -> Option<Self> {
        match level {
            0 => None,
            1 => Some(Self::High),
            _ => Some(Self::Low),
        }
    }
}

/// A decoded inference request.
#[derive(Debug, Clone, Default)]
pub struct InferRequest {
    /// The client's own id, echoed in the answer; may be empty.
    pub id: String,
    pub inputs: Vec<(String, Tensor)>,
    /// Outputs wanted, in this order; empty means all, in the model's order.
    pub outputs: Vec<RequestedOutput>,
    /// The protocol's `timeout` parameter.
    pub timeout: Option<Duration>,
    /// The protocol's `priority` parameter.
    pub priority: Option<Priority>,
    /// The client's own parameters of the request as a whole: texts as they are, whole numbers in decimal, booleans as
    /// `true` and `false`. At most [`MAX_PARAMETERS`].
    pub parameters: Vec<(String, String)>,
}

/// One output a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedOutput {
    pub name: String,
    /// Answer with the top `k` classes as text instead of the tensor; `None` for the tensor.
    pub classification: Option<usize>,
}

/// The answer to an inference request.
#[derive(Debug, Clone)]
pub struct InferResponse {
    /// The model's name as it was asked for.
    pub model: String,
    pub version: u64,
    pub id: String,
    pub outputs: Vec<(String, Tensor)>,
    /// Id of the first row.
    pub prediction_id: PredictionId,
    /// The arm that served: `stable` unless a rollout says otherwise.
    pub arm: &'static str,
    pub request_id: RequestId,
}

/// A request's id in logs and answers: printable ASCII, at most 128 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Takes over a client's id if it is fit for a header and a log line, else makes a new one.
    pub fn take_over(offered: Option<&str>) -> Self {
        match offered {
            Some(id) if !id.is_empty() && id.len() <= 128 && id.bytes().all(|b| b.is_ascii_graphic()) => {
                Self(id.into())
            }
            _ => {
                let random = uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid();
                let mut buffer = uuid::Uuid::encode_buffer();
                let text: &str = random.hyphenated().encode_lower(&mut buffer);
                Self(text.into())
            }
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// When an answer stops being of use; none by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    pub const NONE: Self = Self(None);

    /// `timeout` after `start`; no deadline where that is beyond what the clock can say.
    pub fn after(start: Instant, timeout: Duration) -> Self {
        Self(start.checked_add(timeout))
    }

    /// The earlier of the two.
    pub fn min(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Self(Some(a.min(b))),
            (a, b) => Self(a.or(b)),
        }
    }

    pub fn instant(self) -> Option<Instant> {
        self.0
    }

    pub fn passed(self, now: Instant) -> bool {
        self.0.is_some_and(|deadline| now >= deadline)
    }
}

/// The id of one prediction, a UUID of version 8 (RFC 9562, section 5.8).
///
/// From the high bits down: 48 bits Unix time in ms, 4 bits version, 12 bits gateway, 2 bits variant, 24 bits version
/// slot, 4 bits arm, 34 bits random. Row `k` of a batch has the first row's id plus `k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PredictionId(u128);

impl PredictionId {
    /// Rows that one request may number from its first id.
    pub const MAX_ROWS: u64 = 1 << 24;

    /// Builds an id from its fields; each is cut to its width. `random` leaves room for `MAX_ROWS` more.
    pub fn new(time: SystemTime, gateway: u16, slot: u32, arm: u8, random: u64) -> Self {
        let time_ms = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() & ((1 << 48) - 1);
        let random = random % ((1 << 34) - Self::MAX_ROWS);
        Self(
            time_ms << 80
                | 8 << 76
                | u128::from(gateway & 0xfff) << 64
                | 0b10 << 62
                | u128::from(slot & 0xff_ffff) << 38
                | u128::from(arm & 0xf) << 34
                | u128::from(random),
        )
    }

    /// The id of row `k` of the batch whose first row has this id.
    pub fn row(self, k: u64) -> Self {
        Self(self.0 + u128::from(k))
    }

    /// The id of the batch's first row, where this is that of row `k`.
    pub fn first_of(self, k: u64) -> Self {
        Self(self.0.wrapping_sub(u128::from(k)))
    }

    /// Which row of a batch this is whose first row has that id; `None` for an id that no row of it could have.
    pub fn row_of(self, first: Self) -> Option<u64> {
        self.0.checked_sub(first.0).and_then(|row| u64::try_from(row).ok()).filter(|row| *row < Self::MAX_ROWS)
    }

    /// XXH3 of the id.
    pub fn hash(self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.0.to_le_bytes())
    }

    pub fn slot(self) -> u32 {
        (self.0 >> 38) as u32 & 0xff_ffff
    }

    pub fn gateway(self) -> u16 {
        (self.0 >> 64) as u16 & 0xfff
    }

    pub fn arm(self) -> u8 {
        (self.0 >> 34) as u8 & 0xf
    }

    pub fn time_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }

    /// Whether the id has the version and variant of those that a gateway makes; any UUID parses.
    pub fn is_well_formed(self) -> bool {
        (self.0 >> 76) & 0xf == 8 && (self.0 >> 62) & 0b11 == 0b10
    }

    /// The id as text, written into `buffer`; for a reader that needs no `String` of it.
    pub fn text(self, buffer: &mut [u8; 36]) -> &str {
        uuid::Uuid::from_u128(self.0).hyphenated().encode_lower(buffer)
    }
}

impl fmt::Display for PredictionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_u128(self.0).hyphenated().fmt(f)
    }
}

impl FromStr for PredictionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        uuid::Uuid::parse_str(text).map(|uuid| Self(uuid.as_u128()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_carry_a_label() {
        let stable = ModelRef::parse("digits@stable", "").unwrap();
        assert_eq!((stable.name.as_str(), stable.asked.as_str()), ("digits", "digits@stable"));
        assert_eq!(stable.version, VersionChoice::Label("stable".into()));
        assert_eq!(ModelRef::parse("digits", "3").unwrap().version, VersionChoice::Number(3));
        assert!(ModelRef::parse("digits@stable", "3").is_err());
    }

    #[test]
    fn names_that_could_be_paths_are_refused() {
        for name in ["", "..", ".hidden", "a/b", "a\\b", "a\0b", "a@", &"n".repeat(300)] {
            assert!(matches!(ModelRef::parse(name, ""), Err(Error::BadName { .. })), "{name:?}");
        }
        assert!(matches!(ModelRef::parse("m", "one"), Err(Error::UnknownVersion { .. })));
    }

    #[test]
    fn prediction_ids_are_uuids_of_version_8_and_number_their_rows() {
        let time = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let id = PredictionId::new(time, 0xabc, 0x12_3456, 3, u64::MAX);
        let uuid = uuid::Uuid::parse_str(&id.to_string()).unwrap();
        assert_eq!(id.text(&mut [0; 36]), id.to_string());
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (8, uuid::Variant::RFC4122));
        assert_eq!((id.time_ms(), id.gateway(), id.slot(), id.arm()), (1_700_000_000_123, 0xabc, 0x12_3456, 3));
        let last = id.row(PredictionId::MAX_ROWS - 1);
        assert_eq!((last.slot(), last.arm()), (0x12_3456, 3));
        assert_eq!(id.to_string().parse::<PredictionId>().unwrap(), id);
    }

    #[test]
    fn a_request_id_from_outside_is_kept_only_if_it_is_harmless() {
        assert_eq!(RequestId::take_over(Some("abc-1")).as_str(), "abc-1");
        for bad in [None, Some(""), Some("a b"), Some("a\nb"), Some("é")] {
            assert_eq!(RequestId::take_over(bad).as_str().len(), 36);
        }
    }
}
