//! A disk that stalls, fills up and fails on demand, and rows to write to it.

pub mod entries;

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{Array, ArrayRef, Float32Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::disk::{Disk, DiskFile, RealDisk, Usage};
use super::stream::{Partition, SegmentLimits, Wal};
use super::table::{SEALED_EXTENSION, Table};

/// The real disk, with faults.
#[derive(Debug, Clone, Default)]
pub struct FakeDisk {
    state: Arc<(Mutex<Faults>, Condvar)>,
}

#[derive(Debug, Default)]
struct Faults {
    /// Bytes that may still be written; the write that is one too many gets as far as they go.
    room: Option<u64>,
    is_stalled: bool,
    /// Calls that wait for the stall to end.
    stalled_calls: usize,
    fails_to_rename: bool,
    fails_to_remove: bool,
    fails_to_sync: bool,
    usage: Option<Usage>,
}

impl FakeDisk {
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    pub fn has_room_for(&self, bytes: Option<u64>) {
        self.state.0.lock().unwrap().room = bytes;
    }

    pub fn stall(&self, is_stalled: bool) {
        self.state.0.lock().unwrap().is_stalled = is_stalled;
        self.state.1.notify_all();
    }

    /// Waits until somebody waits for the disk.
    pub fn until_somebody_waits(&self) {
        let mut faults = self.state.0.lock().unwrap();
        while faults.stalled_calls == 0 {
            faults = self.state.1.wait(faults).unwrap();
        }
    }

    pub fn fails_to_rename(&self, fails: bool) {
        self.state.0.lock().unwrap().fails_to_rename = fails;
    }

    pub fn fails_to_remove(&self, fails: bool) {
        self.state.0.lock().unwrap().fails_to_remove = fails;
    }

    pub fn fails_to_sync(&self, fails: bool) {
        self.state.0.lock().unwrap().fails_to_sync = fails;
    }

    pub fn is_used_by(&self, share: f64) {
        let used_bytes = (share * 1e9).round() as u64;
        self.state.0.lock().unwrap().usage = Some(Usage { used_bytes, free_bytes: 1_000_000_000 - used_bytes });
    }

    fn wait(&self) -> std::sync::MutexGuard<'_, Faults> {
        let mut faults = self.state.0.lock().unwrap();
        if faults.is_stalled {
            faults.stalled_calls += 1;
            self.state.1.notify_all();
            while faults.is_stalled {
                faults = self.state.1.wait(faults).unwrap();
            }
            faults.stalled_calls -= 1;
        }
        faults
    }
}

fn fault() -> io::Error {
    io::Error::other("the disk is broken")
}

impl Disk for FakeDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        drop(self.wait());
        Ok(Box::new(FakeFile { disk: self.clone(), file: RealDisk.create(path)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.wait().fails_to_rename { Err(fault()) } else { RealDisk.rename(from, to) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if self.wait().fails_to_remove { Err(fault()) } else { RealDisk.remove(path) }
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        drop(self.wait());
        RealDisk.sync_folder(folder)
    }

    fn usage(&self, folder: &Path) -> io::Result<Usage> {
        let usage = self.state.0.lock().unwrap().usage;
        usage.map_or_else(|| RealDisk.usage(folder), Ok)
    }
}

struct FakeFile {
    disk: FakeDisk,
    file: Box<dyn DiskFile>,
}

impl fmt::Debug for FakeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeFile")
    }
}

impl Write for FakeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut faults = self.disk.wait();
        let room = faults.room.map_or(usize::MAX, |room| room as usize);
        if room == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = self.file.write(&bytes[..bytes.len().min(room)])?;
        if let Some(room) = &mut faults.room {
            *room -= written as u64;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl DiskFile for FakeFile {
    fn sync(&mut self) -> io::Result<()> {
        if self.disk.wait().fails_to_sync { Err(fault()) } else { self.file.sync() }
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        drop(self.disk.wait());
        self.file.cut(length)
    }
}

/// So many s after the beginning of an hour.
pub fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_002_800 + seconds)
}

/// A wal with small segments.
pub fn wal(data_dir: &Path, disk: Arc<dyn Disk>, incarnation: u64) -> Arc<Wal> {
    let limits = SegmentLimits { max_bytes: 16 << 10, ..SegmentLimits::default() };
    Arc::new(Wal::new(data_dir, disk, incarnation, limits))
}

pub fn partition(model: &str) -> Partition {
    Partition {
        table: Table::Predictions,
        model: Some(model.to_owned()),
        version: Some(1),
        digest: Some("abc".to_owned()),
        rules: None,
        retain: None,
    }
}

pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("prediction_id", DataType::Utf8, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("model_name", DataType::Utf8, false),
        Field::new("seq", DataType::UInt64, false),
        Field::new("in_x", DataType::Float32, true),
    ]))
}

/// Rows of these numbers, which are also in their ids, with times in s.
pub fn batch(rows: &[(u64, u64)]) -> RecordBatch {
    let ids = StringArray::from_iter_values(rows.iter().map(|(number, _)| format!("id-{number}")));
    let us = |seconds: u64| super::stream::unix_us(at(seconds));
    let ts: TimestampMicrosecondArray = rows.iter().map(|&(_, seconds)| Some(us(seconds))).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids),
        Arc::new(ts.with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|_| "iris"))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|(number, _)| *number))),
        Arc::new(Float32Array::from_iter_values(rows.iter().map(|(number, _)| *number as f32))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// Rows of these numbers, all of the same time.
pub fn numbers(of: std::ops::Range<u64>) -> RecordBatch {
    batch(&of.map(|number| (number, 0)).collect::<Vec<_>>())
}

/// All sealed files below a folder, by name.
pub fn sealed_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for path in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(sealed_files(&path));
        } else if path.extension().is_some_and(|extension| extension == SEALED_EXTENSION) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The numbers of the rows of a Parquet file, in its order.
pub fn seqs(path: &Path) -> Vec<u64> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap().build().unwrap();
    reader.flat_map(|batch| column_of_seq(&batch.unwrap())).collect()
}

pub fn column_of_seq(batch: &RecordBatch) -> Vec<u64> {
    let column = batch.column_by_name("seq").unwrap();
    column.as_any().downcast_ref::<UInt64Array>().unwrap().values().to_vec()
}

/// The numbers of all sealed rows, sorted.
pub fn all_seqs(data_dir: &Path) -> Vec<u64> {
    let mut found: Vec<u64> = sealed_files(data_dir).iter().flat_map(|path| seqs(path)).collect();
    found.sort_unstable();
    found
}

/// Copies a folder, as a machine finds it after its power is back.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
