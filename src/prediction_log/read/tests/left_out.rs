//! Readers go on without what can't be read, and name it.

use super::*;

fn tolerant(data_dir: &Path) -> (Scan, LeftOut) {
    let left_out = LeftOut::default();
    (Scan { left_out: Some(left_out.clone()), ..all(data_dir) }, left_out)
}

/// What a pass gives once every file that can't be read is known.
fn settled_seqs(scan: &Scan) -> Vec<u64> {
    settled(scan.left_out.as_ref(), || Ok::<_, ReadError>(seqs(scan))).unwrap()
}

fn names(left_out: &LeftOut) -> Vec<String> {
    left_out.files().iter().map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// Beside rows 0 to 14: a file that is no Parquet, one whose second row group is whole, and files of a newer program.
fn worn() -> tempfile::TempDir {
    let log = log();
    let seal = |name: &str, batches: &[RecordBatch], more: &[(&str, &str)]| {
        seal(log.path(), Table::Predictions, &format!("{SEVEN}/{name}.parquet"), batches, more)
    };
    fs::write(seal("1000-3", &[predictions(&rows(20..21))], &[]), "no Parquet").unwrap();
    damage(&seal("1000-4", &[predictions(&rows(21..23)), predictions(&rows(23..25))], &[]), "seq");
    let newer = [(META_SCHEMA_VERSION, "2")];
    seal("1000-5", &[predictions(&rows(25..26))], &newer);
    segment_of(log.path(), Table::Predictions, "1000-6", &[predictions(&rows(26..27))], &newer);
    fs::write(log.path().join("wal/predictions/1000-7.arrows"), "no segment, though long enough for one").unwrap();
    log
}

const WORN: [&str; 5] = ["1000-3.parquet", "1000-4.parquet", "1000-5.parquet", "1000-6.arrows", "1000-7.arrows"];

#[test]
fn what_cannot_be_read_is_left_out_whole_and_named() {
    let log = worn();
    let (scan, left_out) = tolerant(log.path());
    assert_eq!(settled_seqs(&scan), (0..15).collect::<Vec<u64>>());
    assert_eq!(names(&left_out), WORN);
    for (path, reason) in left_out.files() {
        assert!(reason.contains(path.to_str().unwrap()), "{reason}");
    }
    let newer: Vec<String> = left_out.files()[2..4].iter().map(|(_, reason)| reason.clone()).collect();
    assert!(newer.iter().all(|reason| reason.contains("schema version 2") && reason.contains("up to 1")), "{newer:?}");
    // Damage in a column that nobody asks for is not met.
    let (mut scan, left_out) = tolerant(log.path());
    scan.columns = Some(vec!["model_version".to_owned()]);
    let count = || scan.batches().unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>();
    assert_eq!((count(), names(&left_out).len()), (19, 4));
    // Without a place to name it nothing is left out.
    assert!(all(log.path()).batches().unwrap().any(|batch| batch.is_err()));
}

#[test]
fn the_newest_rows_and_single_ones_are_found_past_what_cannot_be_read() {
    let log = worn();
    let (scan, left_out) = tolerant(log.path());
    let times = newest(&scan, 3).unwrap();
    assert_eq!((times.len(), names(&left_out).len()), (3, 5));
    let seq = times[2].column_by_name("seq").unwrap().as_any().downcast_ref::<UInt64Array>().unwrap().value(0);
    assert_eq!(seq, 14);
    let (scan, left_out) = tolerant(log.path());
    assert!(lookup(&scan, row(12).id).unwrap().is_some());
    assert!(!left_out.is_empty());
    // In the row group that is whole.
    assert!(lookup(&tolerant(log.path()).0, row(24).id).unwrap().is_some());
    assert!(lookup(&tolerant(log.path()).0, row(25).id).unwrap().is_none());
}

#[test]
fn a_merged_file_that_cannot_be_read_is_missed_in_all_hours_of_its_day() {
    let log = tempfile::tempdir().unwrap();
    let path = log.path().join("predictions").join(hour(16)).join("1000-2.parquet");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "no Parquet").unwrap();
    let (scan, left_out) = tolerant(log.path());
    let morning = Scan { until_us: Some(SEVEN_US + HOUR_US), ..scan };
    assert_eq!((settled_seqs(&morning), names(&left_out)), (vec![], vec!["1000-2.parquet".to_owned()]));
}

#[test]
fn a_model_without_predictions_is_refused_with_those_that_there_are() {
    let log = log();
    let of = |model: &str| Scan { model: Some(model.to_owned()), ..all(log.path()) }.check_model();
    assert!(of("iris").is_ok() && all(log.path()).check_model().is_ok());
    let fault = of("irs").unwrap_err().to_string();
    assert!(fault.contains("model 'irs'") && fault.contains("those of iris"), "{fault}");
    // One that has a segment alone.
    let digits = [("headgate.model", "digits")];
    segment_of(log.path(), Table::Predictions, "1000-9", &[predictions(&rows(20..21))], &digits);
    assert!(of("digits").is_ok());
    assert!(of("irs").unwrap_err().to_string().contains("those of digits, iris"));
    let empty = tempfile::tempdir().unwrap();
    let none = Scan { model: Some("iris".to_owned()), ..all(empty.path()) }.check_model();
    assert!(none.unwrap_err().to_string().contains("there are none at all"));
}
