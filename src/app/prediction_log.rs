//! The prediction log put together: what takes predictions and feedback, and the threads behind it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::AppError;
use crate::admin::{LogAdmin, SealNow};
use crate::data_plane::DataPlane;
use crate::health::Phase;
use crate::outbound::row_events::{Load, RowEvents};
use crate::outbound::upload::{self, Uploads};
use crate::prediction_log::PredictionLog;
use crate::prediction_log::config::LogConfig;
use crate::prediction_log::disk::RealDisk;
use crate::prediction_log::entry::{RowsWitness, Witness};
use crate::prediction_log::feedback::requests::MAX_REQUESTS;
use crate::prediction_log::feedback::{Batches, Credits, FeedbackLog, Parts, RequestIndex, Segments};
use crate::prediction_log::open::LogFolder;
use crate::prediction_log::quality::Plan;
use crate::prediction_log::quality::read_back::{self, Versions};
use crate::prediction_log::stream::unix_us;
use crate::prediction_log::writer::WriterHandle;
use crate::routing::{LabelSample, Observation};
use crate::store::Store;
use crate::store::records::Records;

/// What ending may take: writing what is in the ring, and sealing.
const END_PATIENCE: Duration = Duration::from_secs(20);
/// The part of it that writing the last feedback may take.
const FEEDBACK_PATIENCE: Duration = Duration::from_secs(5);
/// What uploading the last files may take, and telling the last rows.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(10);
const EVENTS_PATIENCE: Duration = Duration::from_secs(5);

/// The parts that the data plane has, and those that only the process knows.
pub struct Log {
    pub predictions: PredictionLog,
    pub feedback: FeedbackLog,
    pub running: Option<Running>,
}

/// What runs behind a log.
pub struct Running {
    data_dir: PathBuf,
    incarnation: u64,
    writer: WriterHandle,
    feedback: JoinHandle<()>,
    stop_feedback: CancellationToken,
    sending: Sending,
    stop_sending: CancellationToken,
}

/// What is sent elsewhere.
struct Sending {
    uploads: Option<Uploads>,
    events: Option<Arc<Load>>,
}

impl Sending {
    async fn finish(self) {
        let uploads = async {
            if let Some(uploads) = self.uploads {
                uploads.finish(UPLOAD_PATIENCE).await;
            }
        };
        let events = async {
            if let Some(events) = self.events {
                events.finish(EVENTS_PATIENCE).await;
            }
        };
        tokio::join!(uploads, events);
    }
}

impl Log {
    /// There is no data directory. `is_configured`: somebody has said how the log is to be written.
    pub fn off(is_configured: bool) -> Self {
        if is_configured {
            tracing::warn!(
                "prediction_log is set and there is no data directory (--data-dir): neither predictions nor feedback are logged"
            );
        }
        Self { predictions: PredictionLog::off(), feedback: FeedbackLog::off(), running: None }
    }

    /// Takes up what an earlier process left, and starts the threads.
    ///
    /// # Errors
    /// `AppError` for a log that a newer program wrote, a key that can't be read, a destination that can't be, or a thread
    /// that can't be had.
    pub fn start(
        config: &LogConfig,
        data_dir: &Path,
        records: &Arc<Records>,
        store: Arc<dyn Store>,
    ) -> Result<Self, AppError> {
        let incarnation = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let folder = LogFolder::open(data_dir, RealDisk::shared(), config, incarnation)?;
        let (predictions, entries) = PredictionLog::new(config.ring);
        let gateway = records.gateway();
        let (requests, batches) = (RequestIndex::new(MAX_REQUESTS), Batches::new(MAX_REQUESTS));
        let witnesses: Vec<Box<dyn Witness>> =
            vec![Box::new(predictions.quality().witness()), Box::new(requests.clone()), Box::new(batches.clone())];
        let stop_sending = CancellationToken::new();
        let (sending, rows_witnesses) = destinations(config, data_dir, gateway, (store, &stop_sending))?;
        if let Some(uploads) = sending.uploads.clone() {
            folder.sealer.tell(move |file| uploads.notify(file));
        }
        let writer = folder.write(entries, config, gateway, (witnesses, rows_witnesses))?;
        let slots = records.clone();
        let lookup = move |slot| slots.slot(slot).ok().flatten().map(|row| (row.model, row.version));
        let parts = Parts {
            credits: Credits::new(gateway, Box::new(lookup)),
            requests,
            batches,
            sink: Box::new(Segments::new(folder.wal, folder.sealer)),
            judge: Box::new(predictions.quality().judge()),
        };
        let stop_feedback = CancellationToken::new();
        let (feedback, thread) = FeedbackLog::start(parts, stop_feedback.clone()).map_err(AppError::PredictionLog)?;
        let data_dir = data_dir.to_owned();
        let running = Running { data_dir, incarnation, writer, feedback: thread, stop_feedback, sending, stop_sending };
        Ok(Self { predictions, feedback, running: Some(running) })
    }
}

/// Starts what sends files and rows elsewhere, as far as the settings ask for it.
fn destinations(
    config: &LogConfig,
    data_dir: &Path,
    gateway: u16,
    (store, stop): (Arc<dyn Store>, &CancellationToken),
) -> Result<(Sending, Vec<Box<dyn RowsWitness>>), AppError> {
    let source = upload::Source { data_dir: data_dir.to_owned(), gateway };
    let upload = |upload| Uploads::start(upload, source, store, stop.clone());
    let uploads = config.upload.as_ref().map(upload).transpose()?;
    let mut sending = Sending { uploads, events: None };
    let mut witnesses: Vec<Box<dyn RowsWitness>> = vec![];
    if let Some(events) = &config.events {
        let source = format!("/headgate/gateway/{gateway}");
        let events = RowEvents::start(events, source, stop.clone()).map_err(AppError::PredictionLog)?;
        sending.events = Some(events.load());
        witnesses.push(Box::new(events));
    }
    Ok((sending, witnesses))
}

impl Running {
    /// What only works once there are models: evidence finds its rollout, and predictions of the process before are known
    /// again.
    ///
    /// # Errors
    /// `AppError::PredictionLog` when a thread can't be had.
    pub fn join(&self, plane: &Arc<DataPlane>) -> Result<(), AppError> {
        let tracker = plane.log.quality().clone();
        let to = plane.clone();
        tracker.send_evidence_to(Box::new(move |rollout, sample| tell(&to, rollout, sample)));
        let (health, serving) = (plane.clone(), plane.clone());
        let versions = Versions {
            are_there: Box::new(move || health.health.phase() != Phase::Starting),
            plan_of: Box::new(move |model, version| plan_of(&serving, model, version)),
        };
        let stop = self.stop_feedback.clone();
        let now_us = unix_us(SystemTime::now());
        read_back::start(tracker, self.data_dir.clone(), now_us, versions, stop).map_err(AppError::PredictionLog)
    }

    /// What an operator may see and ask.
    pub fn admin(&self, plane: &Arc<DataPlane>) -> LogAdmin {
        let (writer, feedback) = (self.writer.clone(), plane.clone());
        let runtime = tokio::runtime::Handle::current();
        let seal_predictions: SealNow = Arc::new(move |patience| writer.seal_now(patience));
        let seal_feedback: SealNow = Arc::new(move |patience| {
            let closed = async { tokio::time::timeout(patience, feedback.feedback.close_segments()).await };
            matches!(runtime.block_on(closed), Ok(Ok(())))
        });
        LogAdmin {
            directory: Some(self.data_dir.clone()),
            incarnation: self.incarnation,
            writer: Some(self.writer.clone()),
            // What is sealed last waits for all that was to be sealed.
            seal: vec![seal_feedback, seal_predictions],
        }
    }

    /// Writes and seals what there is, and sends it off; what can't be done in time is done at the next start.
    pub async fn end(self) {
        let Self { writer, feedback, stop_feedback, sending, stop_sending, .. } = self;
        stop_feedback.cancel();
        let deadline = Instant::now() + END_PATIENCE;
        // Of feedback first, so that its segments are among those that the writer's end waits for. A thread that panicked has
        // said so; one whose disk stands still is not waited for.
        let ended = tokio::task::spawn_blocking(move || feedback.join());
        let _ = tokio::time::timeout(FEEDBACK_PATIENCE, ended).await;
        let patience = deadline.saturating_duration_since(Instant::now());
        let sealed = tokio::task::spawn_blocking(move || writer.stop(patience));
        if !sealed.await.unwrap_or(false) {
            tracing::warn!("the prediction log is not sealed yet; the next start does it");
        }
        sending.finish().await;
        stop_sending.cancel();
    }
}

/// Hands what turned out to the rollout that the prediction was part of, if it is still under way.
fn tell(plane: &DataPlane, rollout: &str, sample: LabelSample) {
    let serving = plane.serving.load();
    if let Some(split) = serving.splits().find(|split| *split.rollout == *rollout) {
        split.dial.observe(Observation::Labelled(sample));
    }
}

fn plan_of(plane: &DataPlane, model: &str, version: u64) -> Option<Arc<Plan>> {
    let serving = plane.serving.load();
    let backend = serving.models.get(model)?.backends.get(&version)?;
    backend.servable.log.as_ref()?.quality.clone()
}
