//! From segments to files, with a crash at every point, and what a reader finds then.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use parquet::bloom_filter::Sbbf;
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::serialized_reader::ReadOptionsBuilder;
use proptest::prelude::*;

use super::file::{metadata_of, temporary_path};
use super::*;
use crate::prediction_log::recovery::{RecoveryError, check_version, recover, segments};
use crate::prediction_log::segment::Segment;
use crate::prediction_log::stream::Stream;
use crate::prediction_log::table::*;
use crate::prediction_log::testing::{
    FakeDisk, all_seqs, at, batch, copy, numbers, partition, schema, sealed_files, seqs, wal,
};

/// A closed segment with these batches.
fn segment(wal: &Wal, batches: &[RecordBatch]) -> PathBuf {
    let mut stream = Stream::open(wal, &partition("iris"), &schema(), at(10)).unwrap();
    batches.iter().for_each(|batch| stream.append(batch).unwrap());
    stream.sync(at(11)).unwrap();
    stream.close()
}

#[test]
fn rows_are_sorted_by_time_and_those_of_one_time_stay_as_they_came() {
    let dir = tempfile::tempdir().unwrap();
    let wal = wal(dir.path(), FakeDisk::default().shared(), 7);
    let path = segment(&wal, &[batch(&[(0, 5), (1, 3), (2, 5)]), batch(&[(3, 4), (4, 3)])]);
    let sealed = seal(dir.path(), &wal.disk, &path).unwrap();
    let file = sealed.file.unwrap();
    let expected = dir.path().join("predictions/model=iris/version=1/date=2023-11-14/hour=23/7-0.parquet");
    assert_eq!((&file, sealed.rows, sealed.torn_bytes), (&expected, 5, 0));
    assert_eq!(seqs(&file), [1, 4, 3, 0, 2]);
    assert!(!path.exists());
    assert_eq!(sealed_files(dir.path()), [file]);
}

#[test]
fn each_file_is_told_of_once_it_has_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let wal = wal(dir.path(), FakeDisk::default().shared(), 7);
    let sealer = Sealer::start(wal.clone()).unwrap();
    let (sender, told) = std::sync::mpsc::channel();
    sealer.tell(move |file| sender.send((file.to_owned(), file.exists())).unwrap());
    // No file comes of a segment without rows.
    sealer.seal(segment(&wal, &[]));
    sealer.seal(segment(&wal, &[numbers(0..3)]));
    assert!(sealer.finish(Instant::now() + Duration::from_secs(60)));
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(sealed_files(dir.path()).remove(0), true)]);
}

#[test]
fn a_file_says_what_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let wal = wal(dir.path(), FakeDisk::default().shared(), 7);
    let path = segment(&wal, &[batch(&[(12, 5), (10, 3)])]);
    let file = seal(dir.path(), &wal.disk, &path).unwrap().file.unwrap();
    let metadata = metadata_of(&file).unwrap();
    let us = |seconds| crate::prediction_log::stream::unix_us(at(seconds)).to_string();
    for (key, value) in [
        (META_SCHEMA_VERSION, "1"),
        (META_TABLE, "predictions"),
        (META_MODEL, "iris"),
        (META_VERSION, "1"),
        (META_DIGEST, "abc"),
        (META_PROGRAM, env!("CARGO_PKG_VERSION")),
        (META_ROWS, "2"),
        (META_SEQ_FIRST, "10"),
        (META_SEQ_LAST, "12"),
        (META_TS_FIRST, &us(3)),
        (META_TS_LAST, &us(5)),
        (META_OPENED, &us(10)),
    ] {
        assert_eq!(metadata.get(key).map(String::as_str), Some(value), "{key}");
    }
}

#[test]
fn ids_have_a_filter_and_columns_their_statistics() {
    let dir = tempfile::tempdir().unwrap();
    let wal = wal(dir.path(), FakeDisk::default().shared(), 7);
    let path = segment(&wal, &[numbers(0..100)]);
    let file = seal(dir.path(), &wal.disk, &path).unwrap().file.unwrap();
    let properties = ReaderProperties::builder().set_read_bloom_filter(true).build();
    let options = ReadOptionsBuilder::new().with_reader_properties(properties).build();
    let reader = SerializedFileReader::new_with_options(File::open(&file).unwrap(), options).unwrap();
    let group = reader.get_row_group(0).unwrap();
    let filter: &Sbbf = group.get_column_bloom_filter(0).unwrap();
    assert!((0..100).all(|number| filter.check(&format!("id-{number}").as_str())));
    let strangers = (100..1100).filter(|number| filter.check(&format!("id-{number}").as_str())).count();
    assert!(strangers < 60, "{strangers} of 1000 strangers");
    let columns = reader.metadata().row_group(0).columns();
    assert!(columns.iter().all(|column| column.statistics().is_some()));
    // No dictionary of ids that are all different.
    assert!(columns[0].dictionary_page_offset().is_none() && columns[2].dictionary_page_offset().is_some());
    let sorted = reader.metadata().row_group(0).sorting_columns().unwrap();
    assert_eq!((sorted[0].column_idx, sorted[0].descending), (1, false));
}

#[test]
fn row_groups_have_their_bound() {
    let dir = tempfile::tempdir().unwrap();
    let wal = wal(dir.path(), FakeDisk::default().shared(), 7);
    let rows = file::MAX_GROUP_ROWS as u64 + 1;
    let path = segment(&wal, &[numbers(0..rows)]);
    let file = seal(dir.path(), &wal.disk, &path).unwrap().file.unwrap();
    let reader = SerializedFileReader::new(File::open(&file).unwrap()).unwrap();
    let groups: Vec<i64> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(groups, [file::MAX_GROUP_ROWS as i64, 1]);
}

#[test]
fn a_segment_without_rows_goes_without_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let wal = wal(dir.path(), FakeDisk::default().shared(), 7);
    let path = segment(&wal, &[]);
    assert_eq!(seal(dir.path(), &wal.disk, &path).unwrap(), Sealed { file: None, rows: 0, torn_bytes: 0 });
    let path = segment(&wal, &[]);
    fs::write(&path, [0xff; 5]).unwrap();
    assert_eq!(seal(dir.path(), &wal.disk, &path).unwrap(), Sealed { file: None, rows: 0, torn_bytes: 5 });
    assert!(!path.exists() && sealed_files(dir.path()).is_empty());
}

#[test]
fn names_that_mean_something_to_a_path_do_not_leave_their_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = sealed_folder(dir.path(), Table::Feedback, (Some("a=b %/ü"), None), 0);
    assert_eq!(folder, dir.path().join("feedback/model=a%3Db%20%25%2F%C3%BC/date=1970-01-01"));
    let unknown = sealed_folder(dir.path(), Table::Feedback, (None, None), 0);
    assert_eq!(unknown, dir.path().join("feedback/model=__HIVE_DEFAULT_PARTITION__/date=1970-01-01"));
}

/// Whatever the disk refuses, the segment stays until its rows are in a whole file, and the next try makes it good.
#[test]
fn a_try_that_fails_anywhere_is_made_good_by_the_next() {
    type Break = fn(&FakeDisk, bool);
    let breaks: [(&str, Break); 5] = [
        ("no room", |disk, is| disk.has_room_for(is.then_some(0))),
        ("no room in the middle", |disk, is| disk.has_room_for(is.then_some(500))),
        ("no sync", FakeDisk::fails_to_sync),
        ("no rename", FakeDisk::fails_to_rename),
        ("no removal", FakeDisk::fails_to_remove),
    ];
    for (name, set) in breaks {
        let dir = tempfile::tempdir().unwrap();
        let disk = FakeDisk::default();
        let wal = wal(dir.path(), disk.shared(), 7);
        let path = segment(&wal, &[numbers(0..20)]);
        set(&disk, true);
        let fault = seal(dir.path(), &wal.disk, &path).unwrap_err();
        assert!(!fault.is_damage() && path.exists(), "{name}: {fault}");
        set(&disk, false);
        seal(dir.path(), &wal.disk, &path).unwrap();
        assert_eq!(all_seqs(dir.path()), (0..20).collect::<Vec<_>>(), "{name}");
        assert!(!path.exists());
        let left = fs::read_dir(sealed_files(dir.path())[0].parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "{name}: nothing but the file is left");
    }
}

/// The folder as it is after each step of sealing, taken over by another process.
#[test]
fn a_crash_at_any_step_neither_loses_nor_doubles_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let source = wal(dir.path(), FakeDisk::default().shared(), 7);
    let path = segment(&source, &[numbers(0..20)]);
    let target = {
        let metadata = crate::prediction_log::segment::read_schema(&path).unwrap();
        Origin::read(&path, metadata.metadata()).unwrap().target(dir.path(), "7-0")
    };
    let bytes = fs::read(&path).unwrap();
    let before = tempfile::tempdir().unwrap();
    copy(dir.path(), before.path());
    seal(dir.path(), &source.disk, &path).unwrap();
    let sealed = fs::read(&target).unwrap();
    let relative = target.strip_prefix(dir.path()).unwrap();
    type Step<'a> = (&'a str, &'a dyn Fn(&Path));
    let steps: [Step<'_>; 5] = [
        ("before anything", &|_| {}),
        ("with an empty temporary file", &|dir| {
            fs::create_dir_all(dir.join(relative).parent().unwrap()).unwrap();
            fs::write(temporary_path(&dir.join(relative)), b"").unwrap();
        }),
        ("with half of a temporary file", &|dir| {
            fs::create_dir_all(dir.join(relative).parent().unwrap()).unwrap();
            fs::write(temporary_path(&dir.join(relative)), &sealed[..sealed.len() / 2]).unwrap();
        }),
        ("after the rename", &|dir| {
            fs::create_dir_all(dir.join(relative).parent().unwrap()).unwrap();
            fs::write(dir.join(relative), &sealed).unwrap();
        }),
        ("after the removal", &|dir| {
            fs::create_dir_all(dir.join(relative).parent().unwrap()).unwrap();
            fs::write(dir.join(relative), &sealed).unwrap();
            fs::remove_file(dir.join("wal/predictions/7-0.arrows")).unwrap();
        }),
    ];
    assert!(!bytes.is_empty());
    for (name, step) in steps {
        let dir = tempfile::tempdir().unwrap();
        copy(before.path(), dir.path());
        step(dir.path());
        for incarnation in [8, 9] {
            let wal = wal(dir.path(), FakeDisk::default().shared(), incarnation);
            let sealer = Sealer::start(wal.clone()).unwrap();
            recover(&wal, &sealer).unwrap();
            assert!(sealer.finish(Instant::now() + Duration::from_secs(60)));
            assert_eq!(all_seqs(dir.path()), (0..20).collect::<Vec<_>>(), "{name}");
            assert!(segments(dir.path(), Table::Predictions).unwrap().is_empty(), "{name}");
        }
    }
}

#[test]
fn the_thread_keeps_what_finds_no_room_and_sets_aside_what_nobody_can_read() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FakeDisk::default();
    let wal = wal(dir.path(), disk.shared(), 7);
    let path = segment(&wal, &[numbers(0..20)]);
    let strange = wal.folder(Table::Predictions).join("7-99.arrows");
    fs::write(&strange, "these are no rows at all").unwrap();
    disk.has_room_for(Some(100));
    let sealer = Sealer::start(wal.clone()).unwrap();
    sealer.seal(path.clone());
    sealer.seal(strange.clone());
    assert!(!sealer.settle(Instant::now() + Duration::from_secs(60)));
    let stats = sealer.stats();
    assert_eq!((stats.waiting, stats.set_aside, stats.sealed_files), (1, 1, 0));
    assert!(path.exists() && !strange.exists() && strange.with_extension("arrows.damaged").exists());
    disk.has_room_for(None);
    assert!(sealer.finish(Instant::now() + Duration::from_secs(60)));
    let stats = sealer.stats();
    assert_eq!((stats.waiting, stats.sealed_files, stats.sealed_rows), (0, 1, 20));
}

#[test]
fn waits_after_failures_double_up_to_a_minute() {
    let waits: Vec<u64> = [1, 2, 3, 7, 8, 40].map(|failures| retry_after(failures).as_secs()).into();
    assert_eq!(waits, [1, 2, 4, 60, 60, 60]);
}

#[test]
fn a_newer_log_is_refused_by_name_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let wal = wal(dir.path(), FakeDisk::default().shared(), 7);
    let sealer = Sealer::start(wal.clone()).unwrap();
    let newer = Schema::clone(&schema()).with_metadata([(META_SCHEMA_VERSION, "2")]);
    let path = wal.folder(Table::Predictions).join("6-0.arrows");
    drop(Segment::create(&wal.disk, &path, &newer).unwrap());
    let refused = recover(&wal, &sealer).unwrap_err().to_string();
    assert!(refused.contains("version 2") && refused.contains("knows 1"), "{refused}");
    assert!(path.exists());
    fs::remove_file(&path).unwrap();
    assert_eq!(recover(&wal, &sealer).unwrap(), 0);
    check_version(dir.path()).unwrap();
    let file = dir.path().join("wal/schema_version");
    assert_eq!(fs::read_to_string(&file).unwrap(), "1\n");
    fs::write(&file, "3").unwrap();
    assert!(matches!(recover(&wal, &sealer), Err(RecoveryError::Newer { found: 3, known: 1, .. })));
    assert_eq!(fs::read_to_string(&file).unwrap(), "3");
    fs::write(&file, "x").unwrap();
    assert!(matches!(recover(&wal, &sealer), Err(RecoveryError::NoVersion { .. })));
}

/// What happens to a log, in any order.
#[derive(Debug, Clone)]
enum Step {
    Append(u8),
    /// The disk has room for so much more.
    Fill(u16),
    Seal,
    /// The process dies, and the machine may take so many bytes of what was not synced with it.
    Crash(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..9_u8).prop_map(Step::Append),
        1 => (0..3000_u16).prop_map(Step::Fill),
        1 => Just(Step::Seal),
        1 => (0..2000_u16).prop_map(Step::Crash),
    ];
    proptest::collection::vec(step, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_synced_row_is_lost_and_none_is_there_twice(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let disk = FakeDisk::default();
        let (mut next, mut incarnation, mut certain) = (0, 1, BTreeSet::new());
        let mut log = wal(dir.path(), disk.shared(), incarnation);
        let mut stream: Option<Stream> = None;
        for step in steps {
            match step {
                Step::Append(rows) => {
                    let batch = numbers(next..next + u64::from(rows));
                    if stream.is_none() {
                        stream = Stream::open(&log, &partition("iris"), &schema(), at(0)).ok();
                    }
                    if let Some(stream) = &mut stream
                        && stream.append(&batch).and_then(|()| stream.sync(at(1))).is_ok()
                    {
                        certain.extend(next..next + u64::from(rows));
                    }
                    next += u64::from(rows);
                    disk.has_room_for(None);
                }
                Step::Fill(room) => disk.has_room_for(Some(u64::from(room))),
                Step::Seal => {
                    if let Some(path) = stream.take().map(Stream::close) {
                        let _ = seal(dir.path(), &log.disk, &path);
                    }
                }
                Step::Crash(torn) => {
                    if let Some(path) = stream.take().map(Stream::close) {
                        // A batch on its way, of which a part arrived.
                        let mut bytes = fs::read(&path).unwrap();
                        bytes.extend(vec![0xff; usize::from(torn % 9)]);
                        fs::write(&path, bytes).unwrap();
                    }
                    disk.has_room_for(None);
                    incarnation += 1;
                    log = wal(dir.path(), disk.shared(), incarnation);
                    let sealer = Sealer::start(log.clone()).unwrap();
                    recover(&log, &sealer).unwrap();
                    prop_assert!(sealer.finish(Instant::now() + Duration::from_secs(60)));
                }
            }
        }
        drop(stream);
        disk.has_room_for(None);
        let log = wal(dir.path(), disk.shared(), incarnation + 1);
        let sealer = Sealer::start(log.clone()).unwrap();
        recover(&log, &sealer).unwrap();
        prop_assert!(sealer.finish(Instant::now() + Duration::from_secs(60)));
        prop_assert_eq!(all_seqs(dir.path()), certain.into_iter().collect::<Vec<_>>());
    }
}
