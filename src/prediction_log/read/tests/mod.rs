//! The log read back from files as the writer lays them out: sealed, being written, torn, compacted, and newer.

pub mod fixture;
mod left_out;

use std::fs;
use std::path::Path;

use arrow::array::{Array, RecordBatch, UInt64Array};

use self::fixture::*;
use super::*;
use crate::prediction_log::table::{META_REPLACES, META_SCHEMA_VERSION, Table};

/// The sequence numbers of a scan's rows, in the order that they come.
fn seqs(scan: &Scan) -> Vec<u64> {
    let of = |batch: RecordBatch| {
        let seq = batch.column_by_name("seq").unwrap().as_any().downcast_ref::<UInt64Array>().unwrap().clone();
        seq.values().to_vec()
    };
    scan.batches().unwrap().flat_map(|batch| of(batch.unwrap())).collect()
}

fn all(data_dir: &Path) -> Scan {
    Scan::all(data_dir, Table::Predictions)
}

fn rows(numbers: std::ops::Range<u32>) -> Vec<Row> {
    numbers.map(row).collect()
}

/// Rows 0 to 9 sealed in two row groups, 10 to 14 in a segment.
fn log() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let batches = [predictions(&rows(0..5)), predictions(&rows(5..10))];
    seal(folder.path(), Table::Predictions, &format!("{SEVEN}/1000-1.parquet"), &batches, &[]);
    segment(folder.path(), Table::Predictions, "1000-2", &[predictions(&rows(10..13)), predictions(&rows(13..15))]);
    folder
}

#[test]
fn sealed_files_and_segments_are_one_table() {
    let log = log();
    assert_eq!(seqs(&all(log.path())), (0..15).collect::<Vec<u64>>());
    let iris = Scan { model: Some("iris".to_owned()), version: Some(1), ..all(log.path()) };
    assert_eq!(seqs(&iris).len(), 15);
    for other in [
        Scan { model: Some("digits".to_owned()), ..all(log.path()) },
        Scan { version: Some(2), ..all(log.path()) },
        Scan::all(log.path(), Table::Feedback),
    ] {
        assert_eq!(other.batches().unwrap().count(), 0, "{other:?}");
    }
}

#[test]
fn rows_are_chosen_by_time_and_columns_by_name() {
    let log = log();
    let at = |second: i64| Some(SEVEN_US + second * SECOND_US);
    for (since, until, expected) in [
        (at(3), at(7), 3..7),
        (at(8), None, 8..15),
        (None, at(11), 0..11),
        (at(5), at(5), 0..0),
        (at(3600), None, 0..0),
    ] {
        let scan = Scan { since_us: since, until_us: until, ..all(log.path()) };
        assert_eq!(seqs(&scan), expected.collect::<Vec<u64>>(), "{since:?} {until:?}");
    }
    let columns = vec!["seq".to_owned(), "in_width".to_owned(), "no_such".to_owned()];
    let scan = Scan { columns: Some(columns), since_us: at(3), ..all(log.path()) };
    for batch in scan.batches().unwrap() {
        let names: Vec<String> = batch.unwrap().schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["seq", "in_width"]);
    }
}

#[test]
fn a_segment_that_is_sealed_is_read_once() {
    let log = log();
    seal(log.path(), Table::Predictions, &format!("{SEVEN}/1000-2.parquet"), &[predictions(&rows(10..15))], &[]);
    assert_eq!(seqs(&all(log.path())).len(), 15);
    // Also where the sealed file is of another time than the scan.
    let later = Scan { since_us: Some(SEVEN_US + 5 * HOUR_US), ..all(log.path()) };
    assert_eq!(list(&later).unwrap().len(), 0);
}

#[test]
fn a_segment_sealed_while_it_is_read_loses_no_row() {
    let log = log();
    let batches = all(log.path()).batches().unwrap();
    fs::remove_file(log.path().join("wal/predictions/1000-2.arrows")).unwrap();
    assert_eq!(batches.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 15);
}

#[test]
fn a_torn_segment_gives_its_whole_batches() {
    let log = log();
    let path = log.path().join("wal/predictions/1000-2.arrows");
    let whole = fs::read(&path).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for length in (0..whole.len()).step_by(13).chain([whole.len()]) {
        fs::write(&path, &whole[..length]).unwrap();
        let found = seqs(&Scan { since_us: Some(SEVEN_US + 10 * SECOND_US), ..all(log.path()) });
        assert!([0, 3, 5].contains(&found.len()), "{length}: {found:?}");
        seen.insert(found.len());
    }
    assert_eq!(seen.len(), 3, "each number of whole batches occurs");
    // What a file system leaves after a crash: a length that was set, and zeros.
    let zeros = [&whole[..whole.len() - 64], &[0; 4096][..]].concat();
    fs::write(&path, zeros).unwrap();
    assert!(seqs(&all(log.path())).len() >= 13);
}

#[test]
fn files_that_a_compacted_one_replaces_are_left_out() {
    let log = log();
    let replaces = [(META_REPLACES, "1000-1,1000-2")];
    seal(log.path(), Table::Predictions, &format!("{SEVEN}/1000-1-c.parquet"), &[predictions(&rows(0..15))], &replaces);
    assert_eq!(seqs(&all(log.path())), (0..15).collect::<Vec<u64>>());
}

/// The folder of an hour of the same day.
fn hour(hour: u32) -> String {
    SEVEN.replace("hour=07", &format!("hour={hour:02}"))
}

#[test]
fn a_file_merged_from_a_day_is_read_for_each_of_its_hours() {
    let log = tempfile::tempdir().unwrap();
    let at = |n: u32, hours: i64| Row { ts_us: SEVEN_US + hours * HOUR_US, ..row(n) };
    let (early, late) = (predictions(&[at(0, 0)]), predictions(&[at(1, 9)]));
    seal(log.path(), Table::Predictions, &format!("{}/1000-1.parquet", hour(7)), std::slice::from_ref(&early), &[]);
    let last = format!("{}/1000-2.parquet", hour(16));
    seal(log.path(), Table::Predictions, &last, std::slice::from_ref(&late), &[]);
    let mut batches = all(log.path()).batches().unwrap();
    // The merged file takes the place of the last one; the others go a little later, or after a crash.
    let replaces = [(META_REPLACES, "1000-1,1000-2")];
    seal(log.path(), Table::Predictions, &last, &[early, late], &replaces);
    assert_eq!(batches.next().unwrap().unwrap().num_rows(), 1);
    assert!(matches!(batches.next(), Some(Err(ReadError::Replaced { .. }))));
    assert_eq!(seqs(&all(log.path())), [0, 1]);
    fs::remove_file(log.path().join("predictions").join(hour(7)).join("1000-1.parquet")).unwrap();
    for (since, until, expected) in [(None, Some(1), vec![0]), (Some(5), None, vec![1]), (Some(0), Some(2), vec![0])] {
        let us = |hours: Option<i64>| hours.map(|hours| SEVEN_US + hours * HOUR_US);
        let scan = Scan { since_us: us(since), until_us: us(until), ..all(log.path()) };
        assert_eq!(seqs(&scan), expected, "{since:?} {until:?}");
    }
    assert!(lookup(&all(log.path()), row(0).id).unwrap().is_some());
}

#[test]
fn a_file_replaced_after_it_was_listed_is_no_silent_loss() {
    let log = log();
    let old = log.path().join("predictions").join(SEVEN).join("1000-1.parquet");
    let mut batches = all(log.path()).batches().unwrap();
    let replaces = [(META_REPLACES, "1000-1")];
    seal(log.path(), Table::Predictions, &format!("{SEVEN}/1000-1-c.parquet"), &[predictions(&rows(0..10))], &replaces);
    fs::remove_file(&old).unwrap();
    assert!(matches!(batches.next(), Some(Err(ReadError::Replaced { path })) if path == old));
    // One that is gone for its age is no error.
    let mut batches = all(log.path()).batches().unwrap();
    fs::remove_file(old.with_file_name("1000-1-c.parquet")).unwrap();
    assert_eq!(batches.next().unwrap().unwrap().num_rows(), 3);
}

#[test]
fn a_newer_log_is_refused_with_the_versions_named() {
    let log = log();
    let newer = [(META_SCHEMA_VERSION, "2")];
    seal(log.path(), Table::Predictions, &format!("{SEVEN}/1000-3.parquet"), &[predictions(&rows(20..21))], &newer);
    let fault = match all(log.path()).batches() {
        Ok(mut batches) => batches.find_map(Result::err).unwrap(),
        Err(fault) => fault,
    };
    let text = fault.to_string();
    assert!(text.contains("schema version 2") && text.contains("up to 1") && text.contains("1000-3"), "{text}");
}

#[test]
fn what_is_no_log_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(all(folder.path()).batches().unwrap().count(), 0);
    let missing = all(&folder.path().join("no-such")).batches();
    assert!(matches!(missing, Err(ReadError::NoDirectory { .. })));
    let path = folder.path().join("predictions").join(SEVEN).join("1-1.parquet");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "not Parquet").unwrap();
    assert!(matches!(all(folder.path()).batches().unwrap().next(), Some(Err(ReadError::Broken { .. }))));
}

#[test]
fn a_row_is_found_by_its_id() {
    let log = log();
    for n in [0, 7, 12, 14] {
        let found = lookup(&all(log.path()), row(n).id).unwrap().unwrap();
        let seq = found.column_by_name("seq").unwrap().as_any().downcast_ref::<UInt64Array>().unwrap().value(0);
        assert_eq!((found.num_rows(), seq), (1, u64::from(n)));
    }
    assert!(lookup(&all(log.path()), row(15).id).unwrap().is_none());
    assert!(lookup(&all(log.path()), id_at(SEVEN_US - 48 * HOUR_US, 0)).unwrap().is_none());
}
