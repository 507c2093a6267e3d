//! The end of a log's file: where the chain goes on after a restart.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::Head;
use super::line::{self, Line, MAX_LINE_BYTES};

/// Read at the end of the file when it is opened: at least the last line whole, and with usual ones some thousands.
const TAIL_BYTES: u64 = 4 * MAX_LINE_BYTES as u64;

/// What the end of a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The last line that can be read.
    pub head: Head,
    /// Bytes up to the end of the last whole line.
    pub whole_bytes: u64,
    /// Bytes after it.
    pub cut_bytes: u64,
    /// The first thing wrong with the lines that were read.
    pub fault: Option<String>,
}

impl Tail {
    /// Reads the end of the file.
    ///
    /// # Errors
    /// Any that reading gives.
    pub fn read(file: &mut File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let from = length.saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = vec![];
        file.take(length - from).read_to_end(&mut bytes)?;
        Ok(Self::of(&bytes, from))
    }

    /// Reads bytes that begin `from` bytes after the file's beginning.
    fn of(bytes: &[u8], from: u64) -> Self {
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut tail =
            Self { whole_bytes: from + whole as u64, cut_bytes: (bytes.len() - whole) as u64, ..Self::default() };
        // Only at the beginning of the file is it known that a line begins here, and what it must follow.
        let mut lines = bytes[..whole].split_inclusive(|byte| *byte == b'\n');
        let mut known = from == 0;
        if !known {
            lines.next();
        }
        for bytes in lines {
            match line::read(&bytes[..bytes.len() - 1]) {
                Ok(line) => {
                    let follows = if known { line::follows(&tail.head, &line) } else { Ok(()) };
                    tail.take(&line, follows);
                    known = true;
                }
                Err(what) => tail.note(what),
            }
        }
        tail
    }

    fn take(&mut self, line: &Line, follows: Result<(), String>) {
        if let Err(what) = follows {
            self.note(format!("entry {}: {what}", line.number));
        }
        self.head = line.head();
    }

    fn note(&mut self, what: String) {
        if self.fault.is_none() {
            self.fault = Some(format!("after entry {}: {what}", self.head.number));
        }
    }
}
