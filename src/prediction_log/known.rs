//! Up to which moment the log is known: whatever rows it will ever have of before, a reader finds now.
//!
//! Rows get their time before they reach the disk, so a reader can't tell by itself which are still to come. Whoever writes
//! a table therefore leaves word of it in the data directory, and gives no later row an earlier time.
//!
//! ```text
//! <data-dir>/wal/<table>.known      Unix time in µs, 8 bytes, little-endian; locked while its process lives
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::table::{Table, WAL_FOLDER};

/// How long a reader waits for those who write.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Time between two looks at what they say.
const POLL: Duration = Duration::from_millis(10);
/// How often a writer tries to lock its file, and the time between: a reader holds it for an instant, to see who lives.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// The writer's side, of one table.
#[derive(Debug)]
pub struct Known {
    file: Option<File>,
}

impl Known {
    /// Says that all of the table before `until_us` can be read: what an earlier process left. Without a file, which the
    /// disk may refuse, readers take this process for dead.
    pub fn begin(data_dir: &Path, table: Table, until_us: i64) -> Self {
        let path = path(data_dir, table);
        let file = fs::create_dir_all(data_dir.join(WAL_FOLDER))
            .and_then(|()| OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path));
        let known = match file {
            Ok(file) => Self { file: Some(file) },
            Err(cause) => {
                tracing::warn!(%cause, path = %path.display(), "training sets can't tell what is still to be written");
                Self { file: None }
            }
        };
        known.lock();
        known.tell(until_us);
        known
    }

    /// Says that all before `until_us` can be read. Rows that come later must not be of before.
    pub fn tell(&self, until_us: i64) {
        if let Some(file) = &self.file {
            // Where the disk refuses, readers go by what they were told last.
            _ = file.write_all_at(&until_us.to_le_bytes(), 0);
        }
    }

    fn lock(&self) {
        let Some(file) = &self.file else { return };
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
                // A file system without locks refuses the reader's as well, which then takes the process for a living one.
                Ok(()) | Err(TryLockError::Error(_)) => return,
            }
        }
    }
}

/// What its writer has not written by then it never will.
impl Drop for Known {
    fn drop(&mut self) {
        self.tell(i64::MAX);
    }
}

/// The latest moment up to which both tables are known, at most `wanted_us`: a training set as of then never changes. Where
/// a server writes the log, waits for at most `patience` until that is `wanted_us`, or `now_us` if that is earlier. Times
/// are Unix times in µs. Blocks.
pub fn known_until(data_dir: &Path, wanted_us: i64, now_us: i64, patience: Duration) -> i64 {
    let (target_us, begun) = (wanted_us.min(now_us), Instant::now());
    loop {
        let Some(known_us) = Table::ALL.into_iter().filter_map(|table| told(data_dir, table)).min() else {
            return wanted_us;
        };
        if known_us >= target_us {
            return target_us;
        }
        if begun.elapsed() >= patience {
            return known_us;
        }
        thread::sleep(POLL);
    }
}

/// What the living writer of a table says. `None`: there is none, and what is on the disk is all there is.
fn told(data_dir: &Path, table: Table) -> Option<i64> {
    let file = match File::open(path(data_dir, table)) {
        Ok(file) => file,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return None,
        Err(_) => return Some(0),
    };
    if file.try_lock_shared().is_ok() {
        return None;
    }
    let mut told = [0; 8];
    // One that has just begun has told nothing yet.
    Some(file.read_exact_at(&mut told, 0).map_or(0, |()| i64::from_le_bytes(told)))
}

fn path(data_dir: &Path, table: Table) -> PathBuf {
    data_dir.join(WAL_FOLDER).join(format!("{}.known", table.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writer_that_knows_least_decides_while_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let until = |wanted_us| known_until(dir.path(), wanted_us, 100, Duration::ZERO);
        assert_eq!(until(50), 50);
        assert_eq!(until(500), 500, "nobody writes, so nothing more comes");
        let predictions = Known::begin(dir.path(), Table::Predictions, 40);
        let feedback = Known::begin(dir.path(), Table::Feedback, 60);
        assert_eq!((until(30), until(50)), (30, 40));
        predictions.tell(300);
        assert_eq!((until(50), until(90)), (50, 60));
        feedback.tell(300);
        assert_eq!((until(90), until(500)), (90, 100), "what has yet to happen isn't known");
        drop((predictions, feedback));
        assert_eq!(until(500), 500);
    }

    #[test]
    fn a_reader_waits_for_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let known = Known::begin(dir.path(), Table::Predictions, 40);
        let told = thread::scope(|scope| {
            let reader = scope.spawn(|| known_until(dir.path(), 50, 100, Duration::from_secs(3600)));
            known.tell(50);
            reader.join().unwrap()
        });
        assert_eq!(told, 50);
    }
}
