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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Entry;

    #[test]
    fn the_end_of_a_longer_file_is_enough() {
        let (mut head, mut file) = (Head::default(), vec![]);
        for number in 0..4 {
            let (line, bytes) = line::next(&head, Entry::now("a", "b", &number.to_string())).unwrap();
            head = line.head();
            file.extend_from_slice(&bytes);
            file.push(b'\n');
        }
        let whole = file.len() as u64;
        for from in 0..file.len() {
            let tail = Tail::of(&file[from..], from as u64);
            assert_eq!((tail.whole_bytes, tail.cut_bytes, &tail.fault), (whole, 0, &None), "{from}");
            let has_a_line = file[from..file.len() - 1].contains(&b'\n') || from == 0;
            assert_eq!(tail.head == head, has_a_line, "{from}");
        }
        file.extend_from_slice(b"torn");
        assert_eq!(Tail::of(&file, 0), Tail { head, whole_bytes: whole, cut_bytes: 4, fault: None });
        assert_eq!(Tail::of(b"", 0), Tail::default());
        assert_eq!(Tail::of(b"torn", 0), Tail { cut_bytes: 4, ..Tail::default() });
    }
}
