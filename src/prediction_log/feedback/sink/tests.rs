use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::super::item::{Credit, Subject};
use super::super::testing::{GATEWAY, item, prediction_of};
use super::*;
use crate::prediction_log::disk::RealDisk;
use crate::prediction_log::recovery::{recover, segments};
use crate::prediction_log::segment::read_segment;
use crate::prediction_log::stream::SegmentLimits;
use crate::prediction_log::table::Table;
use crate::routing::Arm;

/// 2026-03-01T12:00:00Z.
const NOW_US: i64 = 1_772_366_400_000_000;
const MINUTE_US: i64 = 60_000_000;

fn open(data_dir: &Path, incarnation: u64) -> (Segments, Arc<Wal>, Sealer) {
    let wal = Arc::new(Wal::new(data_dir, RealDisk::shared(), incarnation, SegmentLimits::default()));
    let sealer = Sealer::start(wal.clone()).unwrap();
    (Segments::new(wal.clone(), sealer.clone()), wal, sealer)
}

fn row(number: u64, model: Option<&str>) -> Row {
    let prediction = prediction_of(GATEWAY, 1, 0).row(number);
    let feedback = item(Subject::Prediction(prediction), number as f64, NOW_US + number as i64);
    let credit = model.map(|model| Credit { model: model.to_owned(), version: 1, arm: Arm::Stable });
    Row { id: feedback.id(), feedback, prediction: Some(prediction), credit }
}

fn settle(sealer: &Sealer) {
    assert!(sealer.settle(Instant::now() + Duration::from_secs(60)), "{:?}", sealer.stats());
}

/// Every sealed file of feedback, relative to the data directory, without its name.
fn sealed(data_dir: &Path) -> Vec<(String, PathBuf)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = vec![];
    walk(&data_dir.join("feedback"), &mut found);
    found.sort();
    let folder = |path: &PathBuf| path.parent().unwrap().strip_prefix(data_dir).unwrap().to_str().unwrap().to_owned();
    found.into_iter().map(|path| (folder(&path), path)).collect()
}

fn ids(batches: impl IntoIterator<Item = RecordBatch>) -> BTreeSet<String> {
    let of = |batch: RecordBatch| {
        let ids = batch.column_by_name("feedback_id").unwrap().as_string::<i32>().clone();
        ids.iter().map(|id| id.unwrap().to_owned()).collect::<Vec<_>>()
    };
    batches.into_iter().flat_map(of).collect()
}

fn ids_of_file(path: &Path) -> BTreeSet<String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    assert_eq!(reader.schema().fields(), schema().fields());
    ids(reader.build().unwrap().map(Result::unwrap))
}

fn ids_of(rows: &[Row]) -> BTreeSet<String> {
    rows.iter().map(|row| row.id.to_string()).collect()
}

#[test]
fn rows_are_in_a_segment_at_once_and_in_a_file_of_their_model_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sink, wal, sealer) = open(folder.path(), 1);
    let rows = [row(1, Some("m")), row(2, Some("m")), row(3, None)];
    sink.append(Some("m"), &[&rows[0], &rows[1]], NOW_US).unwrap();
    sink.append(None, &[&rows[2]], NOW_US).unwrap();
    let open = segments(&wal.data_dir, Table::Feedback).unwrap();
    let read = open.iter().flat_map(|path| read_segment(path).unwrap().map(Result::unwrap));
    assert_eq!(ids(read), ids_of(&rows));

    sink.close_all();
    settle(&sealer);
    assert_eq!(segments(&wal.data_dir, Table::Feedback).unwrap(), Vec::<PathBuf>::new());
    let sealed = sealed(folder.path());
    let folders: Vec<&str> = sealed.iter().map(|(folder, _)| folder.as_str()).collect();
    let unknown = "feedback/model=__HIVE_DEFAULT_PARTITION__/date=2026-03-01";
    assert_eq!(folders, [unknown, "feedback/model=m/date=2026-03-01"]);
    assert_eq!(ids_of_file(&sealed[0].1), ids_of(&rows[2..]));
    assert_eq!(ids_of_file(&sealed[1].1), ids_of(&rows[..2]));
}

#[test]
fn what_a_dead_process_left_is_sealed_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [row(1, Some("m")), row(2, Some("m"))];
    let (mut sink, ..) = open(folder.path(), 1);
    sink.append(Some("m"), &[&rows[0], &rows[1]], NOW_US).unwrap();
    // As after a kill: nothing is closed.
    std::mem::forget(sink);
    let (mut next, wal, sealer) = open(folder.path(), 2);
    assert_eq!(recover(&wal, &sealer).unwrap(), 1);
    next.append(Some("m"), &[&row(3, Some("m"))], NOW_US).unwrap();
    settle(&sealer);
    let sealed = sealed(folder.path());
    assert_eq!(sealed.len(), 1);
    assert_eq!(ids_of_file(&sealed[0].1), ids_of(&rows));
}

#[test]
fn a_segment_that_is_old_is_sealed_whether_or_not_more_comes() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sink, _, sealer) = open(folder.path(), 1);
    sink.append(Some("m"), &[&row(1, Some("m"))], NOW_US).unwrap();
    sink.tick(NOW_US + 2 * MINUTE_US);
    assert_eq!(sink.open.len(), 1);
    sink.tick(NOW_US + 5 * MINUTE_US);
    assert_eq!(sink.open.len(), 0);
    sink.append(Some("m"), &[&row(2, Some("m"))], NOW_US + 58 * MINUTE_US).unwrap();
    sink.append(Some("m"), &[&row(3, Some("m"))], NOW_US + 61 * MINUTE_US).unwrap();
    settle(&sealer);
    assert_eq!(sealed(folder.path()).len(), 2, "the hour of the second is over, the third is open");
}

#[test]
fn a_bounded_number_of_segments_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sink, _, sealer) = open(folder.path(), 1);
    for number in 0..MAX_OPEN as u64 + 3 {
        let model = format!("m{number}");
        sink.append(Some(&model), &[&row(number, Some(&model))], NOW_US).unwrap();
    }
    assert_eq!(sink.open.len(), MAX_OPEN);
    settle(&sealer);
    assert_eq!(sealed(folder.path()).len(), 3);
}
