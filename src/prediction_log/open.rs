//! The log of a data directory, put together: what an earlier process left is taken care of, then rows are written.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::compact::{CompactError, finish_interrupted};
use super::config::{KeyError, LogConfig, hmac_key};
use super::disk::Disk;
use super::entry::{RowsWitness, Witness};
use super::recovery::{RecoveryError, recover};
use super::retention::Retention;
use super::ring::Entries;
use super::seal::Sealer;
use super::stream::Wal;
use super::writer::{self, WriterHandle, WriterParts};

/// What those who write to the log share. Predictions and feedback both need it.
#[derive(Debug, Clone)]
pub struct LogFolder {
    pub wal: Arc<Wal>,
    pub sealer: Sealer,
    pub retention: Arc<Retention>,
}

/// Those who see entries, and those who see rows.
pub type Witnesses = (Vec<Box<dyn Witness>>, Vec<Box<dyn RowsWitness>>);

/// Why the log can't be opened. The server should not start then: it would write nothing, or to the wrong place.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error(transparent)]
    Compaction(#[from] CompactError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("a thread of the prediction log could not be started: {0}")]
    Thread(io::Error),
}

impl LogFolder {
    /// Opens the log, and has the segments of dead processes sealed meanwhile. `incarnation` is the start of this process in
    /// Unix ms. For one process at a time, which has to see to that itself.
    ///
    /// # Errors
    /// `OpenError`: above all, a newer program wrote this log. Nothing is changed then.
    pub fn open(data_dir: &Path, disk: Arc<dyn Disk>, config: &LogConfig, incarnation: u64) -> Result<Self, OpenError> {
        let wal = Arc::new(Wal::new(data_dir, disk, incarnation, config.limits));
        let sealer = Sealer::start(wal.clone()).map_err(OpenError::Thread)?;
        let left = recover(&wal, &sealer).inspect_err(|_| sealer.end())?;
        if left > 0 {
            tracing::info!(segments = left, "segments of an earlier process are being sealed");
        }
        finish_interrupted(data_dir, &wal.disk)?;
        Ok(Self { wal, sealer, retention: Arc::new(Retention::new(config.retain)) })
    }

    /// Starts the thread that writes what comes out of the ring. `gateway` is the number in this gateway's prediction ids;
    /// the witnesses see entries before, and rows after they are made.
    ///
    /// # Errors
    /// `OpenError`.
    pub fn write(
        &self,
        entries: Entries,
        config: &LogConfig,
        gateway: u16,
        (witnesses, rows_witnesses): Witnesses,
    ) -> Result<WriterHandle, OpenError> {
        let parts = WriterParts {
            wal: self.wal.clone(),
            sealer: self.sealer.clone(),
            retention: self.retention.clone(),
            witnesses,
            rows_witnesses,
            gateway,
            hmac_key: hmac_key(config, &self.wal.data_dir)?,
            disk_share: config.disk_share,
            max_open_segments: config.max_open_segments,
        };
        writer::start(parts, entries).map_err(OpenError::Thread)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::*;
    use crate::prediction_log::disk::RealDisk;
    use crate::prediction_log::ring::PredictionLog;
    use crate::prediction_log::settings::LogSettings;
    use crate::prediction_log::testing::entries::{entry, version};
    use crate::prediction_log::testing::{all_seqs, copy};

    /// The folder is copied while the writer is at work: what a killed process leaves.
    #[test]
    fn what_a_killed_process_left_is_sealed_by_the_next() {
        let (dir, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut config = LogConfig { disk_share: 1.0, ..LogConfig::default() };
        config.limits.sync_interval = Duration::from_millis(2);
        let folder = LogFolder::open(dir.path(), RealDisk::shared(), &config, 1).unwrap();
        let (log, entries) = PredictionLog::new(config.ring);
        let writer = folder.write(entries, &config, 1, (vec![], vec![])).unwrap();
        let iris = version(&log, "iris", LogSettings::default());
        log.offer(entry(&iris, SystemTime::now(), 100));
        while iris.counts.written.load(std::sync::atomic::Ordering::Relaxed) < 100 {
            std::thread::yield_now();
        }
        copy(dir.path(), left.path());
        assert!(writer.stop(Duration::from_secs(60)));
        let next = LogFolder::open(left.path(), RealDisk::shared(), &config, 2).unwrap();
        assert!(next.sealer.finish(Instant::now() + Duration::from_secs(60)));
        assert_eq!(all_seqs(left.path()), (0..100).collect::<Vec<_>>());
        assert_eq!(all_seqs(dir.path()), all_seqs(left.path()));
    }

    #[test]
    fn a_newer_log_is_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("wal")).unwrap();
        std::fs::write(dir.path().join("wal/schema_version"), "2\n").unwrap();
        let config = LogConfig::default();
        let refused = LogFolder::open(dir.path(), RealDisk::shared(), &config, 1).unwrap_err().to_string();
        assert!(refused.contains("version 2") && refused.contains("knows 1"), "{refused}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(dir.path().join("wal")).unwrap().count(), 1);
    }
}
