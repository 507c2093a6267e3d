//! The prediction log put together: what takes predictions and feedback, and the threads behind it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::AppError;
use crate::admin::{LogAdmin, SealNow};
use crate::data_plane::DataPlane;
use crate::health::Phase;
use crate::outbound::row_events::RowEvents;
use crate::outbound::upload::{self, Uploads};
use crate::prediction_log::PredictionLog;
use crate::prediction_log::config::{LogConfig, hmac_key};
use crate::prediction_log::disk::RealDisk;
use crate::prediction_log::entry::{RowsWitness, Witness};
use crate::prediction_log::feedback::{Credits, FeedbackLog, Parts, RequestIndex, Segments};
use crate::prediction_log::quality::{RestoreBounds, Tracker};
use crate::prediction_log::recovery::recover;
use crate::prediction_log::retention::Retention;
use crate::prediction_log::seal::Sealer;
use crate::prediction_log::stream::{Wal, unix_us};
use crate::prediction_log::writer::{self, WriterHandle, WriterParts};
use crate::routing::{LabelSample, Observation};
use crate::store::Store;
use crate::store::records::Records;

/// Requests whose ids are remembered, so that feedback may name them.
const MAX_REMEMBERED_REQUESTS: usize = 1 << 18;
/// What ending may take: writing what is in the ring, and sealing.
const END_PATIENCE: Duration = Duration::from_secs(20);
/// What uploading the last files may take.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(10);

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
    uploads: Option<Uploads>,
    stop_sending: CancellationToken,
}

impl Log {
    /// There is no data directory.
    pub fn off() -> Self {
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
        let wal = Arc::new(Wal::new(data_dir, RealDisk::shared(), incarnation, config.limits));
        let sealer = Sealer::start(wal.clone()).map_err(AppError::PredictionLog)?;
        let left = recover(&wal, &sealer)?;
        if left > 0 {
            tracing::info!(segments = left, "an earlier process left segments of the prediction log; they are sealed");
        }
        let (predictions, entries) = PredictionLog::new(config.ring);
        let gateway = records.gateway();
        let requests = RequestIndex::new(MAX_REMEMBERED_REQUESTS);
        let witnesses: Vec<Box<dyn Witness>> =
            vec![Box::new(predictions.quality().witness()), Box::new(requests.clone())];
        let stop_sending = CancellationToken::new();
        let (uploads, rows_witnesses) = destinations(config, data_dir, gateway, (store, &stop_sending))?;
        let parts = WriterParts {
            wal: wal.clone(),
            sealer: sealer.clone(),
            retention: Arc::new(Retention::new(config.retain)),
            witnesses,
            rows_witnesses,
            gateway,
            hmac_key: hmac_key(config, data_dir)?,
            disk_share: config.disk_share,
            max_open_segments: config.max_open_segments,
        };
        let writer = writer::start(parts, entries).map_err(AppError::PredictionLog)?;
        let slots = records.clone();
        let lookup = move |slot| slots.slot(slot).ok().flatten().map(|row| (row.model, row.version));
        let parts = Parts {
            credits: Credits::new(gateway, Box::new(lookup)),
            requests,
            sink: Box::new(Segments::new(wal, sealer)),
            judge: Box::new(predictions.quality().judge()),
        };
        let stop_feedback = CancellationToken::new();
        let (feedback, thread) = FeedbackLog::start(parts, stop_feedback.clone()).map_err(AppError::PredictionLog)?;
        let data_dir = data_dir.to_owned();
        let running = Running { data_dir, incarnation, writer, feedback: thread, stop_feedback, uploads, stop_sending };
        Ok(Self { predictions, feedback, running: Some(running) })
    }
}

/// Starts what sends files and rows elsewhere, as far as the settings ask for it.
fn destinations(
    config: &LogConfig,
    data_dir: &Path,
    gateway: u16,
    (store, stop): (Arc<dyn Store>, &CancellationToken),
) -> Result<(Option<Uploads>, Vec<Box<dyn RowsWitness>>), AppError> {
    let source = upload::Source { data_dir: data_dir.to_owned(), gateway };
    let upload = |upload| Uploads::start(upload, source, store, stop.clone());
    let uploads = config.upload.as_ref().map(upload).transpose()?;
    let mut witnesses: Vec<Box<dyn RowsWitness>> = vec![];
    if let Some(events) = &config.events {
        let source = format!("/headgate/gateway/{gateway}");
        let events = RowEvents::start(events, source, stop.clone()).map_err(AppError::PredictionLog)?;
        witnesses.push(Box::new(events));
    }
    Ok((uploads, witnesses))
}

impl Running {
    /// What only works once there are models: evidence finds its rollout, and predictions of the process before are known
    /// again.
    pub fn join(&self, plane: &Arc<DataPlane>) {
        let tracker = plane.log.quality().clone();
        let to = plane.clone();
        tracker.send_evidence_to(Box::new(move |rollout, sample| tell(&to, rollout, sample)));
        let (plane, data_dir) = (plane.clone(), self.data_dir.clone());
        tokio::spawn(async move {
            let mut phase = plane.health.watch();
            // An error is the end of the process.
            if phase.wait_for(|phase| *phase != Phase::Starting).await.is_ok_and(|phase| *phase == Phase::Ready) {
                tokio::task::spawn_blocking(move || restore(&plane, &tracker, &data_dir));
            }
        });
    }

    /// What an operator may see and ask.
    pub fn admin(&self, plane: &Arc<DataPlane>) -> LogAdmin {
        let (writer, feedback) = (self.writer.clone(), plane.clone());
        let runtime = tokio::runtime::Handle::current();
        let seal_predictions: SealNow = Arc::new(move |patience| writer.seal_now(patience));
        let seal_feedback: SealNow = Arc::new(move |_| runtime.block_on(feedback.feedback.close_segments()).is_ok());
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
        let Self { writer, feedback, stop_feedback, uploads, stop_sending, .. } = self;
        stop_feedback.cancel();
        let sealed = tokio::task::spawn_blocking(move || {
            // A thread that panicked has said so.
            let _ = feedback.join();
            writer.stop(END_PATIENCE)
        });
        if !sealed.await.unwrap_or(false) {
            tracing::warn!("the prediction log is not sealed yet; the next start does it");
        }
        if let Some(uploads) = uploads {
            uploads.finish(UPLOAD_PATIENCE).await;
        }
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

/// Reads the newest rows and their feedback back into the live join.
fn restore(plane: &DataPlane, tracker: &Tracker, data_dir: &Path) {
    let plan_of = |model: &str, version: u64| {
        let serving = plane.serving.load();
        let backend = serving.models.get(model)?.backends.get(&version)?;
        backend.servable.log.as_ref()?.quality.clone()
    };
    let now_us = unix_us(SystemTime::now());
    match tracker.restore_from(data_dir, &RestoreBounds::default(), now_us, plan_of) {
        Ok((0, 0)) => {}
        Ok((rows, told)) => tracing::info!(rows, feedback = told, "predictions of the process before are known again"),
        Err(cause) => tracing::error!(%cause, "predictions of the process before can't be read back"),
    }
}
