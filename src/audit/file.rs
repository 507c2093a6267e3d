//! The log in a file, each line on the disk before it counts.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::held::Held;
use super::line::{self, Line};
use super::tail::Tail;
use super::verify::read_line;
use super::{AuditError, Entry, Filter, Head};

pub struct FileLog {
    path: PathBuf,
    file: File,
    head: Head,
    /// Bytes of whole lines. What a failed write left behind it is taken away before the next.
    length: u64,
    has_remains: bool,
}

/// The part of the file that holds whole lines.
pub struct Extent {
    path: PathBuf,
    length: u64,
}

impl FileLog {
    /// Opens or makes the file, and says how many bytes of a cut-off line were taken away.
    pub fn open(path: &Path) -> Result<(Self, u64), AuditError> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(fault(path, "opened"))?;
        let tail = Tail::read(&mut file).map_err(fault(path, "read"))?;
        if let Some(what) = &tail.fault {
            tracing::error!(
                file = %path.display(), what,
                "THE AUDIT LOG IS DAMAGED OR WAS TAMPERED WITH: `headgate audit verify` says where; new entries are added"
            );
        }
        let log = Self {
            path: path.to_owned(),
            file,
            head: tail.head,
            length: tail.whole_bytes,
            has_remains: tail.cut_bytes > 0,
        };
        // The file's name is durable only once its folder is.
        if let Some(dir) = path.parent() {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(fault(path, "opened"))?;
        }
        Ok((log, tail.cut_bytes))
    }

    pub fn append(&mut self, entry: Entry) -> Result<u64, AuditError> {
        let (line, mut bytes) = line::next(&self.head, entry)?;
        bytes.push(b'\n');
        if self.has_remains {
            self.file.set_len(self.length).map_err(fault(&self.path, "repaired"))?;
        }
        // Until the line is known to be on the disk, whatever stands there is not part of the log.
        self.has_remains = true;
        self.file.write_all(&bytes).and_then(|()| self.file.sync_data()).map_err(fault(&self.path, "written"))?;
        self.has_remains = false;
        self.length += bytes.len() as u64;
        self.head = line.head();
        Ok(self.head.number)
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    pub fn extent(&self) -> Extent {
        Extent { path: self.path.clone(), length: self.length }
    }
}

/// The newest lines that the filter takes. Lines that can't be read are passed over: `verify` is who tells of them.
pub fn query(extent: Extent, filter: &Filter, limit: usize) -> Result<Vec<Line>, AuditError> {
    let io_fault = || fault(&extent.path, "read");
    let mut reader = BufReader::new(File::open(&extent.path).map_err(io_fault())?.take(extent.length));
    let mut found = Held::new(limit);
    let mut bytes = vec![];
    while read_line(&mut reader, &mut bytes).map_err(io_fault())? {
        match serde_json::from_slice::<Line>(&bytes) {
            Ok(line) if filter.takes(&line.entry) => found.push(line, bytes.len()),
            _ => {}
        }
    }
    Ok(found.into_lines())
}

fn fault(path: &Path, what: &'static str) -> impl Fn(std::io::Error) -> AuditError {
    let path = path.to_owned();
    move |cause| AuditError::Io { path: path.clone(), what, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_write_left_is_not_part_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut log, cut) = FileLog::open(&path).unwrap();
        assert_eq!(cut, 0);
        log.append(Entry::now("a", "b", "c")).unwrap();
        // As after a full disk: some bytes of a line, and no answer.
        log.file.write_all(b"{\"number\":2,").unwrap();
        log.has_remains = true;
        assert_eq!(query(log.extent(), &Filter::default(), 9).unwrap().len(), 1);
        log.append(Entry::now("a", "b", "c")).unwrap();
        let report = crate::audit::verify(&path).unwrap();
        assert_eq!((report.entries, report.first_fault), (2, None));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
