//! A write-ahead segment: an Arrow IPC stream on the disk, to which batches are appended, and of which every whole batch
//! can be read back whatever happened to its end.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Take};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::MessageHeader;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use super::disk::{Disk, DiskFile};

/// A segment that is appended to.
pub struct Segment {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    /// Holds the bytes of one batch at a time.
    encoder: StreamWriter<Vec<u8>>,
    /// Bytes of the schema and of whole batches.
    length: u64,
    /// Something of a batch that could not be written may stand after them.
    has_remains: bool,
    rows: u64,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("path", &self.path).field("length", &self.length).finish_non_exhaustive()
    }
}

impl Segment {
    /// Makes the file and writes the schema, with its metadata, to it.
    ///
    /// # Errors
    /// `AlreadyExists`, and what the disk says. Nothing is left then.
    pub fn create(disk: &Arc<dyn Disk>, path: &Path, schema: &Schema) -> io::Result<Self> {
        let mut encoder = StreamWriter::try_new(vec![], schema).map_err(io::Error::other)?;
        let mut file = disk.create(path)?;
        let written = file.write_all(encoder.get_ref());
        if let Err(cause) = written {
            let _ = disk.remove(path);
            return Err(cause);
        }
        let length = encoder.get_ref().len() as u64;
        encoder.get_mut().clear();
        Ok(Self { path: path.to_owned(), file, encoder, length, has_remains: false, rows: 0 })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Of whole batches and the schema before them.
    pub fn bytes(&self) -> u64 {
        self.length
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes a batch of the segment's schema. It outlives the process at once, the machine after [`Segment::sync`].
    ///
    /// # Errors
    /// What the disk says. The batch is not in the segment then, and later ones can be appended.
    pub fn append(&mut self, batch: &RecordBatch) -> io::Result<()> {
        self.cut_remains()?;
        let encoded = self.encoder.write(batch).map_err(io::Error::other);
        let written = encoded.and_then(|()| {
            self.has_remains = true;
            self.file.write_all(self.encoder.get_ref())
        });
        let bytes = self.encoder.get_ref().len() as u64;
        self.encoder.get_mut().clear();
        // A batch that was unusually large does not hold its memory for ever.
        self.encoder.get_mut().shrink_to(MAX_KEPT_BYTES);
        if let Err(cause) = written {
            // If the disk refuses this as well, the next batch begins with it.
            let _ = self.cut_remains();
            return Err(cause);
        }
        self.has_remains = false;
        self.length += bytes;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// What the disk says. It is not known then which batches are.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    fn cut_remains(&mut self) -> io::Result<()> {
        if self.has_remains {
            self.file.cut(self.length)?;
            self.has_remains = false;
        }
        Ok(())
    }
}

/// Bytes of memory that a segment keeps for its next batch.
const MAX_KEPT_BYTES: usize = 1 << 20;

/// Why a segment can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    /// Not even its schema is whole: no row was ever in it.
    #[error("{} ends within its schema", path.display())]
    NoSchema { path: PathBuf },
    #[error("{} is not a segment of a log: {cause}", path.display())]
    Damaged { path: PathBuf, cause: ArrowError },
}

/// The whole batches of a segment, read one by one.
#[derive(Debug)]
pub struct SegmentReader {
    path: PathBuf,
    reader: StreamReader<Take<File>>,
    extent: Extent,
    /// A batch could not be read; nothing that comes after it is.
    is_broken: bool,
}

/// How much of a segment is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub batches: u64,
    pub rows: u64,
    /// Bytes up to the end of the last whole batch.
    pub bytes: u64,
    /// What stands after them: a batch that was not written to its end.
    pub torn_bytes: u64,
}

/// Opens a segment, also one that is being appended to, and finds out how much of it is whole. Only one batch at a time is
/// in memory.
///
/// # Errors
/// `SegmentError`; a torn end is none.
pub fn read_segment(path: &Path) -> Result<SegmentReader, SegmentError> {
    let file = File::open(path).map_err(|cause| SegmentError::Io { path: path.to_owned(), cause })?;
    read_opened(path, file)
}

/// The same of a segment that is open already, so that it may be removed meanwhile.
///
/// # Errors
/// As [`read_segment`].
pub fn read_opened(path: &Path, mut file: File) -> Result<SegmentReader, SegmentError> {
    let io_fault = |cause| SegmentError::Io { path: path.to_owned(), cause };
    let extent = measure(&mut file, path)?;
    file.seek(SeekFrom::Start(0)).map_err(io_fault)?;
    let reader = guarded(|| StreamReader::try_new(file.take(extent.bytes), None))
        .map_err(|cause| SegmentError::Damaged { path: path.to_owned(), cause })?;
    Ok(SegmentReader { path: path.to_owned(), reader, extent, is_broken: false })
}

/// A damaged file may say what no writer says, and the reader of the format panics at some of it. That is a fault of the
/// file, and must not end the thread that seals all others.
fn guarded<T>(read: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, ArrowError> {
    let panicked = |_| Err(ArrowError::IpcError("what it says of its buffers can't be".to_owned()));
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(panicked)
}

/// The schema of a segment alone, with what the file says of itself.
///
/// # Errors
/// As [`read_segment`].
pub fn read_schema(path: &Path) -> Result<SchemaRef, SegmentError> {
    let io_fault = |cause| SegmentError::Io { path: path.to_owned(), cause };
    let mut file = File::open(path).map_err(io_fault)?;
    let length = file.metadata().map_err(io_fault)?.len();
    let Some(message) = next_message(&mut file, 0, length).map_err(io_fault)? else {
        return Err(no_schema(&mut file, path, length).unwrap_or_else(io_fault));
    };
    file.seek(SeekFrom::Start(0)).map_err(io_fault)?;
    let reader = guarded(|| StreamReader::try_new(file.take(message.end), None))
        .map_err(|cause| SegmentError::Damaged { path: path.to_owned(), cause })?;
    Ok(reader.schema())
}

impl SegmentReader {
    pub fn schema(&self) -> SchemaRef {
        self.reader.schema()
    }

    /// As it was when the segment was opened.
    pub fn extent(&self) -> Extent {
        self.extent
    }
}

impl Iterator for SegmentReader {
    type Item = Result<RecordBatch, SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_broken {
            return None;
        }
        let batch = guarded(|| self.reader.next().transpose()).transpose()?;
        self.is_broken = batch.is_err();
        Some(batch.map_err(|cause| SegmentError::Damaged { path: self.path.clone(), cause }))
    }
}

/// Walks over the messages of a stream by their heads, and stops at the first that is not whole. A length that is not true
/// is found here, before anybody makes room for it.
fn measure(file: &mut File, path: &Path) -> Result<Extent, SegmentError> {
    let io_fault = |cause| SegmentError::Io { path: path.to_owned(), cause };
    let length = file.metadata().map_err(io_fault)?.len();
    let mut extent = Extent { batches: 0, rows: 0, bytes: 0, torn_bytes: 0 };
    let mut has_schema = false;
    while let Some(message) = next_message(file, extent.bytes, length).map_err(io_fault)? {
        match message.rows {
            None => has_schema = true,
            Some(rows) => {
                extent.batches += 1;
                extent.rows += rows;
            }
        }
        extent.bytes = message.end;
    }
    extent.torn_bytes = length - extent.bytes;
    if has_schema {
        return Ok(extent);
    }
    Err(no_schema(file, path, length).unwrap_or_else(io_fault))
}

/// Why no schema was found at the beginning of the file.
fn no_schema(file: &mut File, path: &Path, length: u64) -> io::Result<SegmentError> {
    let path = path.to_owned();
    if length < 8 {
        return Ok(SegmentError::NoSchema { path });
    }
    let mut head = [0; 8];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut head)?;
    let [a, b, c, d, meta_bytes @ ..] = head;
    if [a, b, c, d] == CONTINUATION && 8 + u64::from(u32::from_le_bytes(meta_bytes)) > length {
        return Ok(SegmentError::NoSchema { path });
    }
    Ok(SegmentError::Damaged { path, cause: ArrowError::IpcError("it does not begin with a schema".to_owned()) })
}

/// What every message of a stream begins with (Arrow columnar format, encapsulated message format).
const CONTINUATION: [u8; 4] = [0xff; 4];

struct Message {
    /// Of a batch; `None` for the schema.
    rows: Option<u64>,
    end: u64,
}

/// The message that begins at `start` of a file of this length; `None` if it is not whole or none.
fn next_message(file: &mut File, start: u64, length: u64) -> io::Result<Option<Message>> {
    let Some(head_end) = start.checked_add(8).filter(|&end| end <= length) else { return Ok(None) };
    file.seek(SeekFrom::Start(start))?;
    let mut head = [0; 8];
    file.read_exact(&mut head)?;
    let [a, b, c, d, head_bytes @ ..] = head;
    let meta_bytes = u32::from_le_bytes(head_bytes);
    let meta_end = head_end + u64::from(meta_bytes);
    if [a, b, c, d] != CONTINUATION || meta_bytes == 0 || meta_end > length {
        return Ok(None);
    }
    let mut meta = vec![0; meta_bytes as usize];
    file.read_exact(&mut meta)?;
    let Ok(message) = arrow::ipc::root_as_message(&meta) else { return Ok(None) };
    let Some(end) = u64::try_from(message.bodyLength()).ok().and_then(|body| meta_end.checked_add(body)) else {
        return Ok(None);
    };
    let rows = match message.header_type() {
        MessageHeader::Schema if start == 0 => None,
        MessageHeader::RecordBatch if start > 0 => {
            let rows = message.header_as_record_batch().and_then(|batch| u64::try_from(batch.length()).ok());
            let Some(rows) = rows else { return Ok(None) };
            Some(rows)
        }
        _ => return Ok(None),
    };
    Ok((end <= length).then_some(Message { rows, end }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::prediction_log::testing::{FakeDisk, batch, column_of_seq, numbers, schema};

    fn seqs(path: &Path) -> Vec<u64> {
        read_segment(path).unwrap().flat_map(|batch| column_of_seq(&batch.unwrap())).collect()
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_other_rows_and_never_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1-0.arrows");
        let mut segment = Segment::create(&FakeDisk::default().shared(), &path, &schema()).unwrap();
        (0..3).for_each(|at| segment.append(&numbers(at * 10..at * 10 + 10)).unwrap());
        let whole = fs::read(&path).unwrap();
        for byte in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[byte] ^= 1 << (byte % 8);
            fs::write(&path, &flipped).unwrap();
            if let Ok(reader) = read_segment(&path) {
                // The last is the first that can't be read.
                assert!(reader.map(|batch| batch.is_err()).filter(|is_err| *is_err).count() <= 1, "byte {byte}");
            }
        }
    }

    #[test]
    fn what_was_appended_is_read_back_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a").join("1-0.arrows");
        let mut segment = Segment::create(&FakeDisk::default().shared(), &path, &schema()).unwrap();
        segment.append(&numbers(0..3)).unwrap();
        segment.append(&numbers(3..4)).unwrap();
        // Also while it is open.
        let reader = read_segment(&path).unwrap();
        let extent = Extent { batches: 2, rows: 4, bytes: segment.bytes(), torn_bytes: 0 };
        assert_eq!((reader.extent(), segment.rows()), (extent, 4));
        assert_eq!(seqs(&path), [0, 1, 2, 3]);
        assert_eq!(read_schema(&path).unwrap(), schema());
    }

    #[test]
    fn cut_at_any_byte_it_gives_every_batch_before() {
        let dir = tempfile::tempdir().unwrap();
        let (path, cut) = (dir.path().join("1-0.arrows"), dir.path().join("1-1.arrows"));
        let mut segment = Segment::create(&FakeDisk::default().shared(), &path, &schema()).unwrap();
        let mut ends = vec![segment.bytes()];
        for number in 0..3 {
            segment.append(&batch(&[(number, 0)])).unwrap();
            ends.push(segment.bytes());
        }
        let bytes = fs::read(&path).unwrap();
        assert_eq!(ends[3], bytes.len() as u64);
        for length in 0..=bytes.len() as u64 {
            fs::write(&cut, &bytes[..length as usize]).unwrap();
            let whole = ends.iter().filter(|&&end| end <= length).count();
            if whole == 0 {
                assert!(matches!(read_segment(&cut), Err(SegmentError::NoSchema { .. })), "{length}");
                continue;
            }
            let extent = read_segment(&cut).unwrap().extent();
            assert_eq!((extent.rows, extent.torn_bytes), (whole as u64 - 1, length - ends[whole - 1]), "{length}");
            assert_eq!(seqs(&cut), (0..whole as u64 - 1).collect::<Vec<_>>(), "{length}");
        }
    }

    #[test]
    fn zeros_at_its_end_are_no_batch() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1-0.arrows");
        let mut segment = Segment::create(&FakeDisk::default().shared(), &path, &schema()).unwrap();
        segment.append(&numbers(0..2)).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend([0; 4096]);
        fs::write(&path, bytes).unwrap();
        assert_eq!(read_segment(&path).unwrap().extent().torn_bytes, 4096);
        assert_eq!(seqs(&path), [0, 1]);
    }

    #[test]
    fn a_length_that_is_not_true_takes_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1-0.arrows");
        let mut segment = Segment::create(&FakeDisk::default().shared(), &path, &schema()).unwrap();
        segment.append(&numbers(0..2)).unwrap();
        let whole = segment.bytes();
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0xf0, 0xff, 0xff, 0x7f, 1, 2, 3]);
        fs::write(&path, bytes).unwrap();
        assert_eq!(read_segment(&path).unwrap().extent().bytes, whole);
    }

    #[test]
    fn a_file_of_another_kind_is_told_from_one_that_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1-0.arrows");
        fs::write(&path, "these are no rows at all").unwrap();
        assert!(matches!(read_segment(&path), Err(SegmentError::Damaged { .. })));
        assert!(matches!(read_schema(&path), Err(SegmentError::Damaged { .. })));
        assert!(matches!(read_segment(&dir.path().join("none")), Err(SegmentError::Io { .. })));
    }

    #[test]
    fn a_batch_that_finds_no_room_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1-0.arrows");
        let disk = FakeDisk::default();
        let mut segment = Segment::create(&disk.shared(), &path, &schema()).unwrap();
        segment.append(&numbers(0..2)).unwrap();
        let whole = segment.bytes();
        for room in [0, 1, 8, 300, 700] {
            disk.has_room_for(Some(room));
            let refused = segment.append(&numbers(2..50)).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
            assert_eq!(fs::metadata(&path).unwrap().len(), whole, "room for {room}");
        }
        disk.has_room_for(None);
        segment.append(&numbers(50..52)).unwrap();
        assert_eq!(seqs(&path), [0, 1, 50, 51]);
        assert_eq!(segment.rows(), 4);
    }
}
