//! Where the state's file lies, and how it is opened.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use redb::{Builder, Database, DatabaseError};

use super::STATE_FILE;

/// The state is small and read at start; this is plenty.
const CACHE_BYTES: usize = 8 << 20;
/// How long a lock that another process holds is waited for, and how often it is tried.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// Written, and taken away, to see whether the disk takes writes: more than opening the file again writes.
const TRIAL_FILE: &str = "state.trial";
const TRIAL_BYTES: usize = 256 << 10;

/// A disk with the state's file. All calls block.
pub(super) trait Disk: Send + Sync + std::fmt::Debug {
    /// Opens the file, and makes it if it is not there.
    fn create(&self) -> Result<Database, DatabaseError>;

    /// Opens the file, which has to be there.
    fn open(&self) -> Result<Database, DatabaseError>;

    /// Whether the disk takes writes now.
    fn takes_writes(&self) -> io::Result<()>;
}

/// A data directory.
#[derive(Debug)]
pub(super) struct DataDir(pub PathBuf);

impl Disk for DataDir {
    fn create(&self) -> Result<Database, DatabaseError> {
        patiently(|| builder().create(self.0.join(STATE_FILE)))
    }

    fn open(&self) -> Result<Database, DatabaseError> {
        patiently(|| builder().open(self.0.join(STATE_FILE)))
    }

    fn takes_writes(&self) -> io::Result<()> {
        let trial = self.0.join(TRIAL_FILE);
        let written = File::create(&trial).and_then(|mut file| {
            file.write_all(&[0; TRIAL_BYTES])?;
            file.sync_data()
        });
        // On a full disk its room is needed.
        written.and(fs::remove_file(&trial))
    }
}

pub(super) fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// A process that was killed while it started a child leaves its lock to that child for as long as the child has not
/// become another program.
fn patiently(open: impl Fn() -> Result<Database, DatabaseError>) -> Result<Database, DatabaseError> {
    let started = Instant::now();
    loop {
        match open() {
            Err(DatabaseError::DatabaseAlreadyOpen) if started.elapsed() < LOCK_PATIENCE => thread::sleep(LOCK_RETRY),
            opened => return opened,
        }
    }
}

/// State may come to hold what clients sent: other users of the machine have no business in it.
pub(super) fn make_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}
