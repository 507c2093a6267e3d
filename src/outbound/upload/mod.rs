//! Sealed files of the prediction log, uploaded to an object store or a folder.
//!
//! Each file goes whole, under a name that never changes, at least once: it is noted in the state after the store took it,
//! and what is not noted is uploaded again. Files are found by looking at the log's folders, at start and every half minute;
//! being told of one ([`Uploads::notify`]) only makes it sooner. A local copy is deleted once it is uploaded and old.
//!
//! A file that was merged from others takes their place there too: once it is noted none of them is uploaded any more, and
//! then their objects are deleted, by their names below the folder of the day, so that one goes too whose upload was never
//! noted. What a crash leaves undone is done again by the next process.

mod destination;
mod ledger;
mod local;
mod queue;
mod upload_policy;
mod worker;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use self::destination::{Destination, UploadError};
use self::ledger::Ledger;
use self::local::LocalFiles;
use self::worker::Worker;
use super::RetryPolicy;
use crate::prediction_log::UploadConfig;
use crate::store::Store;

/// Files that may have been told of and not been taken in yet; more are found by looking.
const MAX_TOLD: usize = 1024;

/// A handle to the uploads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Uploads {
    sealed: mpsc::Sender<PathBuf>,
    finish: mpsc::Sender<oneshot::Sender<()>>,
}

/// Whose files are uploaded.
#[derive(Debug, Clone)]
pub struct Source {
    pub data_dir: PathBuf,
    /// The gateway's number, which the names of its files elsewhere begin with.
    pub gateway: u16,
}

impl Uploads {
    /// Starts the thread that uploads, until `stop`; files that an earlier process left are uploaded too.
    ///
    /// # Errors
    /// `UploadError` for a destination that can't be, or state that can't be read.
    pub fn start(
        config: &UploadConfig,
        source: Source,
        store: Arc<dyn Store>,
        stop: CancellationToken,
    ) -> Result<Self, UploadError> {
        let policy =
            RetryPolicy { first: Duration::from_secs(1), most: Duration::from_secs(60), give_up_after: Duration::MAX };
        Self::start_with(config, source, store, policy, stop)
    }

    /// The same at another pace. No file is given up, whatever `policy` says.
    ///
    /// # Errors
    /// As [`Uploads::start`].
    pub fn start_with(
        config: &UploadConfig,
        source: Source,
        store: Arc<dyn Store>,
        policy: RetryPolicy,
        stop: CancellationToken,
    ) -> Result<Self, UploadError> {
        let destination = Arc::new(Destination::open(config, &source.data_dir)?);
        let (sealed, told) = mpsc::channel(MAX_TOLD);
        let (finish, asked) = mpsc::channel(1);
        let worker = Worker {
            destination,
            local: LocalFiles::new(&source.data_dir),
            ledger: Ledger::open(store, &config.url)?,
            gateway: source.gateway,
            retain_local: config.retain_local,
            policy,
            now: now_ms,
            sealed: told,
            finish: asked,
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(UploadError::Thread)?;
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = worker.run() => {}
                    () = stop.cancelled() => {}
                }
            });
        };
        thread::Builder::new().name("uploads".to_owned()).spawn(run).map_err(UploadError::Thread)?;
        Ok(Self { sealed, finish })
    }

    /// Says that a file was sealed. Never blocks.
    pub fn notify(&self, path: &Path) {
        // One that finds no room is found by looking.
        _ = self.sealed.try_send(path.to_owned());
    }

    /// Waits until everything that is sealed now is uploaded, at most for `patience`; says whether it is. For the end of
    /// the process, once the last segments are sealed and before `stop`; what is left is uploaded by the next one.
    pub async fn finish(&self, patience: Duration) -> bool {
        let (told, done) = oneshot::channel();
        let all = async { self.finish.send(told).await.is_ok() && done.await.is_ok() };
        tokio::time::timeout(patience, all).await.unwrap_or(false)
    }
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
