//! Merging, with a crash at every point of it.

use super::*;
use crate::prediction_log::seal::file::metadata_of;
use crate::prediction_log::seal::seal;
use crate::prediction_log::stream::Stream;
use crate::prediction_log::table::{META_REPLACES, META_ROWS, META_SEQ_FIRST, META_SEQ_LAST};
use crate::prediction_log::testing::{FakeDisk, all_seqs, at, batch, copy, partition, schema, sealed_files, seqs, wal};

/// A day with files of rows at these times (s), each in its own segment, begun at the time of its last row.
fn day(data_dir: &Path, disk: &FakeDisk, files: &[&[(u64, u64)]]) {
    let wal = wal(data_dir, disk.shared(), 7);
    for rows in files {
        let begun = at(rows.iter().map(|(_, seconds)| *seconds).max().unwrap());
        let mut stream = Stream::open(&wal, &partition("iris"), &schema(), begun).unwrap();
        stream.append(&batch(rows)).unwrap();
        seal(data_dir, &wal.disk, &stream.close()).unwrap();
    }
}

/// Three files of two hours of one day that overlap in time.
const FILES: [&[(u64, u64)]; 3] = [&[(0, 1), (1, 20), (2, 30)], &[(3, 20), (4, 25), (5, 31)], &[(6, 2), (7, 40)]];

fn run(data_dir: &Path, disk: &FakeDisk) -> Report {
    compact(data_dir, None, &disk.shared(), MAX_FILE_BYTES).unwrap()
}

#[test]
fn small_files_of_a_day_become_one_sorted_file() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    day(dir.path(), &disk, &FILES);
    let report = run(dir.path(), &disk);
    assert_eq!((report.merged_files, report.new_files, report.rows), (3, 1, 8));
    assert!(report.failed.is_empty() && report.new_bytes > 0);
    let files = sealed_files(dir.path());
    assert_eq!(files.len(), 1);
    assert_eq!(seqs(&files[0]), [0, 6, 1, 3, 4, 2, 5, 7]);
    let metadata = metadata_of(&files[0]).unwrap();
    let value = |key| metadata.get(key).map(String::as_str);
    assert_eq!((value(META_ROWS), value(META_SEQ_FIRST), value(META_SEQ_LAST)), (Some("8"), Some("0"), Some("7")));
    // In the place of the one that was begun last.
    assert!(files[0].ends_with("7-2.parquet"));
    assert_eq!(value(META_REPLACES), Some("7-0,7-1"));
    // Nothing is left to do, and nothing lies about.
    assert_eq!(run(dir.path(), &disk), Report::default());
    assert!(!dir.path().join("wal").join(NOTE_FILE).exists());
}

#[test]
fn a_file_that_is_merged_again_still_says_what_it_was_merged_from() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    day(dir.path(), &disk, &FILES[..2]);
    assert_eq!(run(dir.path(), &disk).merged_files, 2);
    let wal = wal(dir.path(), disk.shared(), 8);
    let mut stream = Stream::open(&wal, &partition("iris"), &schema(), at(50)).unwrap();
    stream.append(&batch(&[(8, 50)])).unwrap();
    seal(dir.path(), &wal.disk, &stream.close()).unwrap();
    assert_eq!(run(dir.path(), &disk).merged_files, 2);
    let file = sealed_files(dir.path()).remove(0);
    assert_eq!(metadata_of(&file).unwrap()[META_REPLACES], "7-0,7-1");
    assert!(file.ends_with("8-0.parquet"));
}

#[test]
fn other_models_other_days_and_other_columns_stay_apart() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    day(dir.path(), &disk, &[&[(0, 1)], &[(1, 100_000)]]);
    let wal = wal(dir.path(), disk.shared(), 8);
    for (model, columns) in [("iris", 4), ("digits", 5)] {
        let part = batch(&[(2, 1)]).project(&(0..columns).collect::<Vec<_>>()).unwrap();
        let mut stream = Stream::open(&wal, &partition(model), &part.schema(), at(1)).unwrap();
        stream.append(&part).unwrap();
        seal(dir.path(), &wal.disk, &stream.close()).unwrap();
    }
    assert_eq!(run(dir.path(), &disk), Report::default());
    assert_eq!(sealed_files(dir.path()).len(), 4);
}

#[test]
fn files_grow_to_their_bound_and_one_model_alone_can_be_asked_for() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    day(dir.path(), &disk, &FILES);
    let largest = sealed_files(dir.path()).iter().map(|path| path.metadata().unwrap().len()).max().unwrap();
    assert_eq!(compact(dir.path(), Some("digits"), &disk.shared(), MAX_FILE_BYTES).unwrap(), Report::default());
    let report = compact(dir.path(), Some("iris"), &disk.shared(), largest * 2).unwrap();
    assert_eq!((report.merged_files, report.new_files), (2, 1));
    assert_eq!(sealed_files(dir.path()).len(), 2);
    assert_eq!(all_seqs(dir.path()), (0..8).collect::<Vec<_>>());
}

#[test]
fn a_file_whose_segment_is_still_there_is_not_touched() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    day(dir.path(), &disk, &FILES);
    fs::write(dir.path().join("wal/predictions/7-0.arrows"), b"").unwrap();
    assert_eq!(run(dir.path(), &disk).merged_files, 2);
    assert!(sealed_files(dir.path()).iter().any(|path| path.ends_with("7-0.parquet")));
}

#[test]
fn two_at_a_time_are_refused() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    let held = lock(dir.path()).unwrap();
    assert!(held.is_some());
    assert!(matches!(compact(dir.path(), None, &disk.shared(), 1), Err(CompactError::Busy(_))));
}

/// Rows as a reader counts them that heeds what files stand for.
fn counted(data_dir: &Path) -> Vec<u64> {
    let files = sealed_files(data_dir);
    let replaced = files.iter().filter_map(|path| metadata_of(path).unwrap().get(META_REPLACES).cloned());
    let replaced: Vec<String> =
        replaced.flat_map(|list| list.split(',').map(str::to_owned).collect::<Vec<_>>()).collect();
    let is_counted = |path: &&PathBuf| !replaced.contains(&path.file_stem().unwrap().to_str().unwrap().to_owned());
    let mut found: Vec<u64> = files.iter().filter(is_counted).flat_map(|path| seqs(path)).collect();
    found.sort_unstable();
    found
}

#[test]
fn wherever_it_breaks_off_no_row_is_lost_or_counted_twice() {
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = FakeDisk::default();
    day(before.path(), &disk, &FILES);
    copy(before.path(), after.path());
    run(after.path(), &disk);
    let merged = sealed_files(after.path()).remove(0);
    let relative = merged.strip_prefix(after.path()).unwrap();
    let bytes = fs::read(&merged).unwrap();
    let others: Vec<PathBuf> = sealed_files(before.path())
        .iter()
        .map(|path| path.strip_prefix(before.path()).unwrap().to_owned())
        .filter(|path| path != relative)
        .collect();
    let expected: Vec<u64> = (0..8).collect();
    for removed in [None, Some(0), Some(1), Some(2)] {
        let dir = tempfile::tempdir().unwrap();
        copy(before.path(), dir.path());
        write_note(dir.path(), &disk.shared(), dir.path().join(relative).parent().unwrap().parent().unwrap()).unwrap();
        match removed {
            None => {
                fs::write(crate::prediction_log::seal::file::temporary_path(&dir.path().join(relative)), &bytes[..9])
                    .unwrap()
            }
            Some(count) => {
                fs::write(dir.path().join(relative), &bytes).unwrap();
                others.iter().take(count).for_each(|path| fs::remove_file(dir.path().join(path)).unwrap());
            }
        }
        assert_eq!(counted(dir.path()), expected, "{removed:?}");
        finish_interrupted(dir.path(), &disk.shared()).unwrap();
        assert_eq!(all_seqs(dir.path()), expected, "{removed:?}");
        assert!(!dir.path().join("wal").join(NOTE_FILE).exists());
        run(dir.path(), &disk);
        assert_eq!(all_seqs(dir.path()), expected, "{removed:?}");
        assert_eq!(sealed_files(dir.path()).len(), 1);
    }
}

#[test]
fn a_disk_that_refuses_leaves_all_as_it_was() {
    type Break = fn(&FakeDisk, bool);
    let breaks: [Break; 3] =
        [|disk, is| disk.has_room_for(is.then_some(200)), FakeDisk::fails_to_sync, FakeDisk::fails_to_rename];
    for set in breaks {
        let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
        day(dir.path(), &disk, &FILES);
        set(&disk, true);
        let _ = compact(dir.path(), None, &disk.shared(), MAX_FILE_BYTES);
        assert_eq!(counted(dir.path()), (0..8).collect::<Vec<_>>());
        set(&disk, false);
        assert_eq!(run(dir.path(), &disk).merged_files, 3);
        assert_eq!(all_seqs(dir.path()), (0..8).collect::<Vec<_>>());
    }
}
