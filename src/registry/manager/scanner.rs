//! The thread that looks at the model repositories, at intervals and when it is asked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::registry::directory::{DirectoryLimits, look};
use crate::registry::listing::{FileStamp, Listing};
use crate::registry::manifest;
use crate::registry::model_config::ModelSettings;
use crate::registry::model_files;
use crate::registry::settle::{SettledModel, Settling, Wholeness};

/// What the scanner looks at, and when.
#[derive(Debug, Clone)]
pub struct ScannerConfig {
    pub roots: Vec<PathBuf>,
    /// Time between two looks; `None` looks only when asked.
    pub interval: Option<Duration>,
    /// How long files must be unchanged before they count as whole.
    pub quiet: Duration,
}

/// One look, with what it means.
pub struct Look {
    pub listing: Listing,
    pub settled: BTreeMap<String, SettledModel>,
    /// Settings that were read anew, by model: those whose files are whole and differ from what was read last.
    pub settings: BTreeMap<String, Result<ModelSettings, String>>,
}

impl Look {
    /// Whether every file of the repository has been quiet for long enough to judge it.
    pub fn is_settled(&self) -> bool {
        self.settled.values().all(|model| {
            model.config_whole && !model.versions.values().any(|version| matches!(version, Wholeness::Changing(_)))
        })
    }
}

/// What the scanner says.
pub enum ScanEvent {
    Looked(Box<Look>),
    /// A root can't be read; what is loaded stays.
    Unreadable(String),
}

/// Time to the next look while files are changing, so that a version is seen soon after it is whole.
const BUSY_INTERVAL: Duration = Duration::from_millis(20);
/// Looks never take more than this share of the scanner's time while files are changing.
const BUSY_REST_FACTOR: u32 = 4;

/// Asks for a look now. Cheap to clone.
#[derive(Clone)]
pub struct ScannerHandle(SyncSender<()>);

impl ScannerHandle {
    pub fn look_now(&self) {
        match self.0.try_send(()) {
            // Full: a look is asked for already, and will begin after this call.
            Ok(()) | Err(TrySendError::Full(())) | Err(TrySendError::Disconnected(())) => {}
        }
    }
}

/// Starts the scanner's thread. `report` is called from it, and may block it.
///
/// # Errors
/// The operating system's, when the thread can't be started.
pub fn start(
    config: ScannerConfig,
    mut report: impl FnMut(ScanEvent) + Send + 'static,
) -> std::io::Result<ScannerHandle> {
    let (kick, kicked) = sync_channel(1);
    let handle = ScannerHandle(kick);
    let watcher = config.interval.and_then(|_| watch(&config.roots, handle.clone()));
    let mut scanner = Scanner { settling: Settling::new(config.quiet), read: BTreeMap::new(), config };
    thread::Builder::new().name("scan".to_owned()).spawn(move || {
        let _watcher = watcher;
        let mut busy = true;
        loop {
            let started = Instant::now();
            match scanner.look() {
                Ok(look) => {
                    busy = !look.is_settled();
                    report(ScanEvent::Looked(Box::new(look)));
                }
                Err(cause) => report(ScanEvent::Unreadable(cause)),
            }
            let rest = BUSY_INTERVAL.max(started.elapsed() * BUSY_REST_FACTOR);
            let wait = match (busy, scanner.config.interval) {
                (true, interval) => Some(interval.map_or(rest, |interval| interval.min(rest))),
                (false, interval) => interval,
            };
            if !rested(&kicked, wait) {
                return;
            }
        }
    })?;
    Ok(handle)
}

/// Waits for the next look; false when nobody will ask any more. `None` waits to be asked.
fn rested(kicked: &Receiver<()>, wait: Option<Duration>) -> bool {
    match wait {
        None => kicked.recv().is_ok(),
        Some(wait) => !matches!(kicked.recv_timeout(wait), Err(RecvTimeoutError::Disconnected)),
    }
}

/// File system events make a look come sooner. Without them (limits of the system, a network file system) looks still
/// come at their interval.
fn watch(roots: &[PathBuf], handle: ScannerHandle) -> Option<RecommendedWatcher> {
    // Reading is an event too, and looking reads.
    let kick = move |event: notify::Result<notify::Event>| {
        if !event.is_ok_and(|event| event.kind.is_access()) {
            handle.look_now();
        }
    };
    let started = notify::recommended_watcher(kick).and_then(|mut watcher| {
        for root in roots {
            watcher.watch(root, RecursiveMode::Recursive)?;
        }
        Ok(watcher)
    });
    started.inspect_err(|cause| tracing::info!(%cause, "no file system events, the repositories are polled")).ok()
}

struct Scanner {
    config: ScannerConfig,
    settling: Settling,
    /// The stamps of each model's settings files when they were last read.
    read: BTreeMap<String, Vec<FileStamp>>,
}

impl Scanner {
    fn look(&mut self) -> Result<Look, String> {
        let listing = look(&self.config.roots, &DirectoryLimits::default()).map_err(|cause| cause.to_string())?;
        let settled = self.settling.observe(&listing, &mut |version| manifest::verify(version));
        self.read.retain(|name, _| listing.models.contains_key(name));
        let mut settings = BTreeMap::new();
        for (name, model) in &listing.models {
            let whole = settled.get(name).is_some_and(|settled| settled.config_whole);
            if whole && self.read.get(name) != Some(&model.config_files) {
                settings.insert(name.clone(), model_files::settings(model).map_err(|cause| cause.to_string()));
                self.read.insert(name.clone(), model.config_files.clone());
            }
        }
        Ok(Look { listing, settled, settings })
    }
}
