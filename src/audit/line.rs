//! The form of a line, and the hash that chains it to the one before.
//!
//! A line is one JSON object without line breaks, whose last field is `hash`:
//! `{"number":1,"previous":"…","at_ms":…,…,"evidence":…,"hash":"…"}`. The hash is SHA-256 over the line's own bytes with
//! `,"hash":"<64 digits>"` left out, that is over everything before it and the closing brace. `previous` is the hash
//! of the line before, 64 zeros in the first. Numbers count from 1 without a gap.

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{AuditError, Entry, Head};

/// Longest line, in bytes.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// What the first line has as `previous`.
pub const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

const HASH_FIELD: &str = ",\"hash\":\"";
const HASH_DIGITS: usize = 64;
/// The field, its digits, and what closes it and the object.
const ENDING_BYTES: usize = HASH_FIELD.len() + HASH_DIGITS + 2;

/// An entry in its place in the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub number: u64,
    pub previous: String,
    #[serde(flatten)]
    pub entry: Entry,
    pub hash: String,
}

impl Line {
    /// Its place and hash, for the next line.
    pub fn head(&self) -> Head {
        Head { number: self.number, hash: self.hash.clone() }
    }
}

/// What is hashed: a line before it has its hash.
#[derive(Serialize)]
struct Unhashed<'a> {
    number: u64,
    previous: &'a str,
    #[serde(flatten)]
    entry: &'a Entry,
}

/// The line after `head`, and its bytes without a line break. Values that would make it too long are replaced by a note
/// of their size.
///
/// # Errors
/// `TooLong` where its texts alone are.
pub fn next(head: &Head, mut entry: Entry) -> Result<(Line, Vec<u8>), AuditError> {
    let number = head.number + 1;
    let mut bytes = unhashed(number, &head.hash, &entry);
    let limit = MAX_LINE_BYTES - ENDING_BYTES;
    for value in [2, 1, 0] {
        if bytes.len() <= limit {
            break;
        }
        let value = [&mut entry.before, &mut entry.after, &mut entry.evidence].into_iter().nth(value);
        if let Some(value) = value {
            *value = json!({"omitted_bytes": value.to_string().len()});
        }
        bytes = unhashed(number, &head.hash, &entry);
    }
    if bytes.len() > limit {
        return Err(AuditError::TooLong { got: bytes.len(), limit });
    }
    let hash = hex(&Sha256::digest(&bytes));
    bytes.pop();
    bytes.extend_from_slice(format!("{HASH_FIELD}{hash}\"}}").as_bytes());
    Ok((Line { number, previous: head.hash.clone(), entry, hash }, bytes))
}

fn unhashed(number: u64, previous: &str, entry: &Entry) -> Vec<u8> {
    serde_json::to_vec(&Unhashed { number, previous, entry }).expect("an entry is numbers, text and JSON values")
}

/// Reads a line and holds its hash against its bytes.
///
/// # Errors
/// What is wrong with it, as text.
pub fn read(bytes: &[u8]) -> Result<Line, String> {
    let line: Line = serde_json::from_slice(bytes).map_err(|cause| format!("it is no audit entry: {cause}"))?;
    let at = bytes.len().saturating_sub(ENDING_BYTES);
    let ending = format!("{HASH_FIELD}{}\"}}", line.hash);
    if bytes[at..] != *ending.as_bytes() {
        return Err("it does not end with its hash".to_owned());
    }
    let mut hasher = Sha256::new();
    hasher.update(&bytes[..at]);
    hasher.update(b"}");
    if hex(&hasher.finalize()) != line.hash {
        return Err("it was changed: its hash is not that of its contents".to_owned());
    }
    Ok(line)
}

/// What a line must be that follows `head`.
///
/// # Errors
/// What is wrong, as text.
pub fn follows(head: &Head, line: &Line) -> Result<(), String> {
    if line.number != head.number + 1 {
        let (got, expected) = (line.number, head.number + 1);
        let meaning = if got > expected { "lines before it are missing" } else { "it stands in the wrong place" };
        return Err(format!("{meaning}: expected entry {expected}, got entry {got}"));
    }
    if line.previous != head.hash {
        return Err("a line before it was changed, removed or inserted: it follows another line's hash".to_owned());
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
