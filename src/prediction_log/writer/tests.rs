//! From the ring to the disk: what is written, what is dropped, and that the counts of both are exact.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use arrow::array::RecordBatch;
use arrow::datatypes::TimestampMicrosecondType;
use tokio::sync::oneshot;

use super::*;
use crate::prediction_log::columns::VersionLog;
use crate::prediction_log::disk_policy::Room;
use crate::prediction_log::entry::{Entry, NotSynced, Synced};
use crate::prediction_log::known::known_until;
use crate::prediction_log::read::primitives;
use crate::prediction_log::recovery::{recover, segments};
use crate::prediction_log::ring::{Offered, PredictionLog, RingConfig};
use crate::prediction_log::segment::read_segment;
use crate::prediction_log::settings::{Durability, LogSettings};
use crate::prediction_log::stream::{SegmentLimits, unix_us};
use crate::prediction_log::table::Table;
use crate::prediction_log::testing::entries::{entry, version};
use crate::prediction_log::testing::{FakeDisk, all_seqs, at, column_of_seq, copy, sealed_files};

struct Bench {
    dir: tempfile::TempDir,
    disk: FakeDisk,
    log: PredictionLog,
    core: Core,
}

fn parts(dir: &Path, disk: &FakeDisk) -> WriterParts {
    disk.is_used_by(0.1);
    let wal = Arc::new(Wal::new(dir, disk.shared(), 7, SegmentLimits::default()));
    WriterParts {
        sealer: Sealer::start(wal.clone()).unwrap(),
        wal,
        retention: Arc::new(Retention::new(None)),
        witnesses: vec![],
        rows_witnesses: vec![],
        gateway: 3,
        hmac_key: vec![],
        disk_share: 0.8,
        max_open_segments: 2,
    }
}

fn bench(ring: RingConfig) -> Bench {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    let (log, entries) = PredictionLog::new(ring);
    let core = Core::new(parts(dir.path(), &disk), entries, at(0));
    Bench { dir, disk, log, core }
}

impl Bench {
    fn offer(&self, version: &Arc<VersionLog>, rows: usize) -> Offered {
        self.log.offer(entry(version, at(0), rows))
    }

    /// Numbers of the rows that are in segments, sorted.
    fn in_segments(&self) -> Vec<u64> {
        let paths = segments(self.dir.path(), Table::Predictions).unwrap();
        let mut found: Vec<u64> = paths
            .iter()
            .flat_map(|path| read_segment(path).unwrap())
            .flat_map(|batch| column_of_seq(&batch.unwrap()))
            .collect();
        found.sort_unstable();
        found
    }

    /// Seals everything, and gives the numbers of all rows.
    fn sealed(&mut self, now: SystemTime) -> Vec<u64> {
        self.core.close_all(now);
        assert!(self.core.sealer().settle(Instant::now() + Duration::from_secs(60)));
        assert!(self.in_segments().is_empty());
        all_seqs(self.dir.path())
    }
}

#[test]
fn rows_are_written_when_half_of_the_interval_has_passed() {
    let mut bench = bench(RingConfig::default());
    let iris = version(&bench.log, "iris", LogSettings::default());
    bench.offer(&iris, 3);
    assert!(bench.core.turn(at(0)));
    assert!(!bench.core.turn(at(0) + Duration::from_millis(499)));
    assert!(bench.in_segments().is_empty());
    assert_eq!(iris.counts.written.load(Relaxed), 0);
    bench.core.turn(at(0) + Duration::from_millis(500));
    assert_eq!(bench.in_segments(), [0, 1, 2]);
    assert_eq!(iris.counts.written.load(Relaxed), 3);
    assert_eq!(bench.sealed(at(2)), [0, 1, 2]);
}

/// Times of the rows that are in segments, in Unix µs.
fn times(bench: &Bench) -> Vec<i64> {
    let all = crate::prediction_log::read::Scan::all(bench.dir.path(), Table::Predictions);
    let times = |batch: RecordBatch| primitives::<TimestampMicrosecondType>(&batch, "ts").unwrap().values().to_vec();
    all.batches().unwrap().flat_map(|batch| times(batch.unwrap())).collect()
}

#[test]
fn what_comes_late_is_no_earlier_than_the_moment_up_to_which_all_is_known() {
    let mut bench = bench(RingConfig::default());
    let iris = version(&bench.log, "iris", LogSettings::default());
    let known = |bench: &Bench| known_until(bench.dir.path(), i64::MAX, i64::MAX, Duration::ZERO);
    let us = |seconds| unix_us(at(seconds));
    bench.log.offer(entry(&iris, at(1), 2));
    bench.core.turn(at(2));
    assert_eq!((known(&bench), times(&bench)), (us(2), vec![us(1); 2]));
    // Its request ended before that, and hands it over now.
    bench.log.offer(entry(&iris, at(1), 1));
    bench.core.turn(at(3));
    assert_eq!((known(&bench), times(&bench)), (us(3), vec![us(1), us(1), us(2)]));
    // A turn that leaves something in the ring does not know what.
    (0..1500).for_each(|_| _ = bench.log.offer(entry(&iris, at(3), 1)));
    bench.core.turn(at(4));
    assert_eq!(known(&bench), us(3));
    bench.core.turn(at(5));
    assert_eq!((known(&bench), times(&bench).len()), (us(5), 1503));
}

#[test]
fn a_full_batch_is_written_at_once_and_never_in_larger_pieces() {
    let mut bench = bench(RingConfig::default());
    let iris = version(&bench.log, "iris", LogSettings::default());
    bench.offer(&iris, 10_000);
    bench.core.turn(at(0));
    assert_eq!(bench.in_segments().len(), 9216);
    bench.core.turn(at(1));
    let path = segments(bench.dir.path(), Table::Predictions).unwrap().remove(0);
    let sizes: Vec<usize> = read_segment(&path).unwrap().map(|batch| batch.unwrap().num_rows()).collect();
    assert_eq!(sizes, [1024; 9].into_iter().chain([784]).collect::<Vec<_>>());
    assert_eq!(bench.in_segments(), (0..10_000).collect::<Vec<_>>());
}

#[test]
fn a_segment_ends_with_its_age_or_its_hour() {
    let mut bench = bench(RingConfig::default());
    let iris = version(&bench.log, "iris", LogSettings::default());
    for (begin, end) in [(0, 300), (3590, 3600)] {
        bench.offer(&iris, 1);
        bench.core.turn(at(begin));
        bench.core.turn(at(begin + 2));
        let before = sealed_files(bench.dir.path()).len();
        bench.core.turn(at(end - 1));
        bench.core.turn(at(end + 2));
        assert!(bench.core.sealer().settle(Instant::now() + Duration::from_secs(60)));
        assert_eq!(sealed_files(bench.dir.path()).len(), before + 1);
        assert_eq!(bench.core.stats().lock().unwrap().open_segments, 0);
    }
    let folders: Vec<String> = sealed_files(bench.dir.path())
        .iter()
        .map(|path| path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(folders, ["hour=23", "hour=23"]);
}

#[test]
fn what_the_ring_has_no_room_for_shows_as_a_gap() {
    let mut bench = bench(RingConfig { max_entries: 4, max_bytes: 1 << 20 });
    let iris = version(&bench.log, "iris", LogSettings::default());
    let taken = |bench: &Bench| (0..6).filter(|_| bench.offer(&iris, 2) == Offered::Taken).count();
    assert_eq!(taken(&bench), 4);
    bench.core.turn(at(0));
    assert_eq!(taken(&bench), 4);
    bench.core.turn(at(0));
    let written = bench.sealed(at(1));
    // Two requests of two rows were dropped before the first turn was over, and two more since.
    assert_eq!(iris.counts.dropped_ring.load(Relaxed), 8);
    assert_eq!(iris.counts.written.load(Relaxed), written.len() as u64);
    let gaps = written.last().unwrap() + 1 - written.len() as u64;
    assert_eq!(gaps, 8, "{written:?}");
}

#[test]
fn what_the_disk_has_no_room_for_shows_as_a_gap_and_later_rows_are_written() {
    let mut bench = bench(RingConfig::default());
    let iris = version(&bench.log, "iris", LogSettings::default());
    let mut second = 0;
    for (rows, room) in [(5, None), (7, Some(100)), (11, Some(3000)), (2, None)] {
        bench.disk.has_room_for(room);
        bench.offer(&iris, rows);
        bench.core.turn(at(second));
        second += 2;
        bench.core.turn(at(second));
    }
    let (written, dropped) = (iris.counts.written.load(Relaxed), iris.counts.dropped_disk.load(Relaxed));
    assert_eq!((written + dropped, dropped >= 7), (25, true));
    let seqs = bench.sealed(at(second));
    assert_eq!(seqs.len() as u64, written);
    assert_eq!(seqs.last().unwrap() + 1 - written, dropped);
    assert_eq!(seqs[seqs.len() - 2..], [23, 24]);
    assert!(bench.core.stats().lock().unwrap().errors > 0);
}

#[test]
fn a_disk_that_is_nearly_full_gets_no_rows_until_it_has_room() {
    let mut bench = bench(RingConfig::default());
    let iris = version(&bench.log, "iris", LogSettings::default());
    for (second, share, room) in
        [(0, 0.95, Room::Nothing), (2, 0.85, Room::RowsWithoutPayload), (4, 0.5, Room::Everything)]
    {
        bench.disk.is_used_by(share);
        bench.offer(&iris, 2);
        bench.core.turn(at(second));
        bench.core.turn(at(second + 1));
        assert_eq!(bench.core.stats().lock().unwrap().room, room);
    }
    assert_eq!(iris.counts.dropped_disk.load(Relaxed), 2);
    assert_eq!(bench.sealed(at(6)), [2, 3, 4, 5]);
}

#[test]
fn the_version_that_was_used_least_recently_makes_room() {
    let mut bench = bench(RingConfig::default());
    let versions: Vec<_> =
        ["a", "b", "c"].iter().map(|name| version(&bench.log, name, LogSettings::default())).collect();
    for (turn, at_version) in [(0, 0), (1, 1), (2, 0), (3, 2)] {
        bench.offer(&versions[at_version], 1);
        bench.core.turn(at(turn));
        bench.core.turn(at(turn));
    }
    assert!(bench.core.sealer().settle(Instant::now() + Duration::from_secs(60)));
    let files = sealed_files(bench.dir.path());
    assert!(files.len() == 1 && files[0].to_str().unwrap().contains("model=b"), "{files:?}");
    assert_eq!(bench.sealed(at(9)), [0, 1, 2, 3]);
}

#[test]
fn rows_that_are_sampled_out_take_no_number() {
    let mut bench = bench(RingConfig::default());
    let none = version(&bench.log, "none", LogSettings { sample: 0.0, ..LogSettings::default() });
    let all = version(&bench.log, "all", LogSettings::default());
    let mut waits = entry(&none, at(0), 4);
    let (synced, mut answer) = oneshot::channel();
    waits.synced = Some(synced);
    // Its hash is below no probability.
    waits.sample_hash = u64::MAX;
    bench.log.offer(waits);
    bench.offer(&all, 2);
    bench.core.turn(at(0));
    assert_eq!(answer.try_recv(), Ok(Ok(())), "there is nothing to wait for");
    assert_eq!(none.counts.sampled_out.load(Relaxed), 4);
    assert_eq!(bench.sealed(at(1)), [0, 1]);
}

fn waiting(version: &Arc<VersionLog>) -> (Box<Entry>, oneshot::Receiver<Synced>) {
    let (synced, answer) = oneshot::channel();
    let mut entry = entry(version, at(0), 1);
    entry.synced = Some(synced);
    (entry, answer)
}

#[test]
fn who_waits_for_the_disk_is_told_in_the_same_turn() {
    let mut bench = bench(RingConfig::default());
    let settings = LogSettings { durability: Durability::Required, ..LogSettings::default() };
    let audited = version(&bench.log, "audited", settings);
    let (first, mut first_answer) = waiting(&audited);
    let (second, mut second_answer) = waiting(&audited);
    bench.log.offer(first);
    bench.log.offer(second);
    bench.core.turn(at(0));
    assert_eq!((first_answer.try_recv(), second_answer.try_recv()), (Ok(Ok(())), Ok(Ok(()))));
    assert_eq!(bench.in_segments(), [0, 1]);
    // One batch, and so one sync, for both.
    let path = segments(bench.dir.path(), Table::Predictions).unwrap().remove(0);
    assert_eq!(read_segment(&path).unwrap().count(), 1);
    bench.disk.fails_to_sync(true);
    let (third, mut third_answer) = waiting(&audited);
    bench.log.offer(third);
    bench.core.turn(at(0));
    let third = third_answer.try_recv();
    assert!(matches!(&third, Ok(Err(NotSynced::Disk(_)))), "it is not on the disk: {third:?}");
    bench.disk.fails_to_sync(false);
    bench.disk.has_room_for(Some(0));
    let (fourth, mut fourth_answer) = waiting(&audited);
    bench.log.offer(fourth);
    bench.core.turn(at(0));
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull).to_string();
    assert_eq!(fourth_answer.try_recv(), Ok(Err(NotSynced::Disk(full))), "it was dropped");
}

#[test]
fn who_waits_when_an_hour_ends_is_told_of_its_own_row() {
    let mut bench = bench(RingConfig::default());
    let settings = LogSettings { durability: Durability::Required, ..LogSettings::default() };
    let audited = version(&bench.log, "audited", settings);
    bench.offer(&audited, 1);
    bench.core.turn(at(3599));
    bench.core.turn(at(3599) + Duration::from_millis(500));
    // The segment of the last hour can be synced, but the next can't be begun.
    bench.disk.has_room_for(Some(0));
    let (late, mut answer) = waiting(&audited);
    bench.log.offer(late);
    bench.core.turn(at(3600));
    assert!(matches!(answer.try_recv(), Ok(Err(NotSynced::Disk(_)))));
    bench.disk.has_room_for(None);
    let (later, mut answer) = waiting(&audited);
    bench.log.offer(later);
    bench.core.turn(at(3600));
    assert_eq!(answer.try_recv(), Ok(Ok(())));
    assert_eq!(bench.sealed(at(3601)), [0, 2]);
}

#[test]
fn witnesses_see_every_entry_once() {
    struct Counting(Arc<Mutex<usize>>);
    impl Witness for Counting {
        fn see(&mut self, entry: &Entry) {
            *self.0.lock().unwrap() += entry.rows;
        }
    }
    let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    let (log, entries) = PredictionLog::new(RingConfig::default());
    let seen = Arc::new(Mutex::new(0));
    let witnesses: Vec<Box<dyn Witness>> = vec![Box::new(Counting(seen.clone()))];
    let mut core = Core::new(WriterParts { witnesses, ..parts(dir.path(), &disk) }, entries, at(0));
    let none = version(&log, "none", LogSettings { sample: 0.0, ..LogSettings::default() });
    log.offer(entry(&none, at(0), 3));
    log.offer(entry(&none, at(0), 4));
    core.turn(at(0));
    assert_eq!(*seen.lock().unwrap(), 7);
}

/// The disk stands still, and nobody but the writer waits for it.
#[test]
fn with_a_stalled_disk_offers_return_and_drops_are_counted_exactly() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    let (log, entries) = PredictionLog::new(RingConfig { max_entries: 64, max_bytes: 1 << 20 });
    let writer = start(parts(dir.path(), &disk), entries).unwrap();
    let settings = LogSettings { durability: Durability::Required, ..LogSettings::default() };
    let iris = version(&log, "iris", settings);
    disk.stall(true);
    let (first, answer) = waiting(&iris);
    assert_eq!(log.offer(first), Offered::Taken);
    disk.until_somebody_waits();
    let offered: Vec<Offered> = (0..200).map(|_| log.offer(entry(&iris, SystemTime::now(), 3))).collect();
    let taken = offered.iter().filter(|offered| **offered == Offered::Taken).count() as u64;
    assert_eq!(taken, 64);
    assert_eq!(iris.counts.dropped_ring.load(Relaxed), 3 * (200 - taken));
    // A stop does not wait for ever either.
    assert!(!writer.seal_now(Duration::from_millis(20)));
    disk.stall(false);
    answer.blocking_recv().unwrap().unwrap();
    // The ring is full until the writer looks into it again; what is dropped before that counts as any drop.
    while log.offer(entry(&iris, SystemTime::now(), 1)) == Offered::Dropped {
        thread::yield_now();
    }
    assert!(writer.stop(Duration::from_secs(60)));
    let seqs = all_seqs(dir.path());
    let written = iris.counts.written.load(Relaxed);
    assert_eq!((seqs.len() as u64, written), (written, 3 * taken + 2));
    assert_eq!(seqs.last().unwrap() + 1 - written, iris.counts.dropped_ring.load(Relaxed));
}

#[test]
fn a_stop_writes_and_seals_all_that_was_taken() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    let (log, entries) = PredictionLog::new(RingConfig::default());
    let log = Arc::new(log);
    let writer = start(parts(dir.path(), &disk), entries).unwrap();
    let iris = version(&log, "iris", LogSettings::default());
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (log, iris) = (log.clone(), iris.clone());
            thread::spawn(move || {
                for _ in 0..500 {
                    log.offer(entry(&iris, SystemTime::now(), 2));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(writer.stop(Duration::from_secs(60)));
    assert_eq!(all_seqs(dir.path()), (0..3000).collect::<Vec<_>>());
    assert_eq!(iris.counts.written.load(Relaxed), 3000);
    assert_eq!(log.offer(entry(&iris, SystemTime::now(), 5)), Offered::Dropped);
    assert_eq!(iris.counts.dropped_ring.load(Relaxed), 5);
    assert!(!writer.stop(Duration::from_secs(1)), "it has stopped already");
}

/// The folder is copied while the writer is at work: what a killed process leaves.
#[test]
fn what_a_killed_process_left_is_sealed_by_the_next() {
    let (dir, left, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), FakeDisk::default());
    let (log, entries) = PredictionLog::new(RingConfig::default());
    let writer = start(parts(dir.path(), &disk), entries).unwrap();
    let settings = LogSettings { durability: Durability::Required, ..LogSettings::default() };
    let iris = version(&log, "iris", settings);
    let (last, answer) = waiting(&iris);
    log.offer(entry(&iris, SystemTime::now(), 100));
    log.offer(last);
    answer.blocking_recv().unwrap().unwrap();
    copy(dir.path(), left.path());
    assert!(writer.stop(Duration::from_secs(60)));
    let wal = Arc::new(Wal::new(left.path(), disk.shared(), 8, SegmentLimits::default()));
    let sealer = Sealer::start(wal.clone()).unwrap();
    assert_eq!(recover(&wal, &sealer).unwrap(), 1);
    assert!(sealer.finish(Instant::now() + Duration::from_secs(60)));
    assert_eq!(all_seqs(left.path()), (0..101).collect::<Vec<_>>());
    assert_eq!(all_seqs(dir.path()), all_seqs(left.path()));
}

#[test]
fn sealing_on_demand_leaves_the_writer_at_work() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FakeDisk::default());
    let (log, entries) = PredictionLog::new(RingConfig::default());
    let writer = start(parts(dir.path(), &disk), entries).unwrap();
    let iris = version(&log, "iris", LogSettings::default());
    for round in 1..3 {
        log.offer(entry(&iris, SystemTime::now(), 2));
        assert!(writer.seal_now(Duration::from_secs(60)));
        assert_eq!(all_seqs(dir.path()).len(), 2 * round);
    }
    assert_eq!(writer.seal_stats().sealed_files, 2);
    assert!(writer.stop(Duration::from_secs(60)));
}
