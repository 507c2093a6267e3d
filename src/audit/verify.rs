//! Checking a whole log: every line's hash, and that each follows the one before.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::Serialize;

use super::line::{self, MAX_LINE_BYTES};
use super::{AuditError, Head};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Entries before the first fault, or all.
    pub entries: u64,
    /// The last of these.
    pub head: Head,
    pub first_fault: Option<Fault>,
}

/// Where the chain is broken first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Counted from 1.
    pub line: u64,
    pub what: String,
}

/// Checks a log from its beginning. Finds lines that were changed, removed, inserted or moved, and a last line that is
/// not whole. Whole lines that were cut off the end leave a sound chain: only a head that was noted before shows them.
/// Holds one line in memory.
///
/// # Errors
/// `Io`.
pub fn verify(path: &Path) -> Result<Report, AuditError> {
    let io_error = |cause| AuditError::Io { path: path.to_owned(), what: "read", cause };
    let mut reader = BufReader::new(File::open(path).map_err(io_error)?);
    let mut report = Report { entries: 0, head: Head::default(), first_fault: None };
    let mut bytes = vec![];
    while read_line(&mut reader, &mut bytes).map_err(io_error)? {
        match check(&bytes, &report.head) {
            Ok(head) => {
                report.entries += 1;
                report.head = head;
            }
            Err(what) => {
                report.first_fault = Some(Fault { line: report.entries + 1, what });
                break;
            }
        }
    }
    Ok(report)
}

fn check(bytes: &[u8], head: &Head) -> Result<Head, String> {
    let Some(bytes) = bytes.strip_suffix(b"\n") else {
        return Err(if bytes.len() > MAX_LINE_BYTES {
            format!("it is longer than {MAX_LINE_BYTES} bytes")
        } else {
            "it is cut off before its end; the server takes such a line away when it starts".to_owned()
        });
    };
    let line = line::read(bytes)?;
    line::follows(head, &line)?;
    Ok(line.head())
}

/// Reads up to a line break, or one byte more than a line may have. False at the end.
pub(super) fn read_line(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<bool> {
    bytes.clear();
    Ok(reader.take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', bytes)? > 0)
}
