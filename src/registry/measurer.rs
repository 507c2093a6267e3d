//! The thread that measures batch sizes, one model after the other, while the server serves.
//!
//! What it finds goes to whoever asked, and into the cache, from which the next start prepares the same plans without
//! measuring.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Instant;

use crate::batching::{BatchCurve, MeasureLimits, Point, measure, restore};
use crate::engine::Model;
use crate::registry::digest::Digest;
use crate::registry::engine_cache::{EngineCache, Kept};
use crate::servable::ServableId;

/// Models that may wait to be measured. One that finds no place stays unmeasured.
pub const MAX_QUEUED_MEASUREMENTS: usize = 1024;

/// One model to measure.
pub struct MeasureJob {
    pub id: ServableId,
    pub digest: Digest,
    /// Not measured if it is gone when its turn comes. A measurement under way keeps it for as long as that takes.
    pub model: Weak<dyn Model>,
    /// The configured limit; larger sizes are not measured.
    pub max_batch_size: Option<usize>,
    /// Called from the measuring thread, once, unless the model is gone. A model that can't be measured has an
    /// unmeasured curve.
    pub deliver: Box<dyn FnOnce(Arc<BatchCurve>) + Send>,
}

/// The way to the thread, which ends when this is dropped and the queue is empty.
pub struct Measurer {
    jobs: SyncSender<MeasureJob>,
}

impl Measurer {
    /// Starts the thread. Without a cache every start measures.
    ///
    /// # Errors
    /// The operating system's, when the thread can't be started.
    pub fn start(cache: Option<EngineCache>, limits: MeasureLimits) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel::<MeasureJob>(MAX_QUEUED_MEASUREMENTS);
        let mut bench = Bench { cache, limits, recent: VecDeque::new() };
        thread::Builder::new().name("measure".to_owned()).spawn(move || queue.iter().for_each(|job| bench.run(job)))?;
        Ok(Self { jobs })
    }

    /// Queues a measurement; false where there is no place for it. Never blocks.
    pub fn submit(&self, job: MeasureJob) -> bool {
        let queued = self.jobs.try_send(job);
        if let Err(refused) = &queued {
            tracing::warn!(cause = %refused, "a model is not measured: its rows run alone");
        }
        queued.is_ok()
    }
}

/// Where the curve came from, for the log.
#[derive(Debug, Clone, Copy)]
enum Source {
    Cache,
    Measurement,
}

struct Bench {
    cache: Option<EngineCache>,
    limits: MeasureLimits,
    /// What was measured last: a version that comes back is not measured again, data directory or not.
    recent: VecDeque<(Digest, Kept)>,
}

/// Measurements that are remembered beside the cache.
const MAX_RECENT: usize = 256;

impl Bench {
    fn run(&mut self, job: MeasureJob) {
        let MeasureJob { id, digest, model, max_batch_size, deliver } = job;
        let Some(model) = model.upgrade() else { return };
        let begun = Instant::now();
        // A panic costs this model its curve, not the others theirs.
        let found = catch_unwind(AssertUnwindSafe(|| self.curve(&digest, &model, max_batch_size)));
        let curve = found.map(|(curve, source)| {
            log(&id, &curve, &model, (source, begun));
            curve
        });
        let curve = curve.unwrap_or_else(|_| {
            tracing::error!(model = %id, "measuring its batch sizes panicked: its rows run alone");
            BatchCurve::unmeasured_because("measuring panicked".to_owned())
        });
        drop(model);
        if catch_unwind(AssertUnwindSafe(|| deliver(Arc::new(curve)))).is_err() {
            tracing::error!(model = %id, "taking its batch sizes panicked");
        }
    }

    fn curve(
        &mut self,
        digest: &Digest,
        model: &Arc<dyn Model>,
        max_batch_size: Option<usize>,
    ) -> (BatchCurve, Source) {
        let recent = self.recent.iter().find(|(known, _)| known == digest).map(|(_, kept)| kept.clone());
        let kept = recent.or_else(|| self.cache.as_ref()?.load(digest));
        let kept_engines = kept.as_ref().and_then(|kept| kept.engines.clone());
        // First, for the curve is that of the engine which then runs the model.
        let engines = model.choose_engine(kept_engines.as_deref());
        let same_engines = engines == kept_engines;
        let of_kept = kept.filter(|_| same_engines).and_then(|kept| restore(model, max_batch_size, kept.measured));
        if let Some(curve) = of_kept {
            return (curve, Source::Cache);
        }
        let curve = measure(model, max_batch_size, &self.limits);
        if let Some(measured) = curve.measured() {
            let kept = Kept { measured: measured.clone(), engines };
            if let Some(cache) = &self.cache {
                cache.store(digest, &kept);
            }
            self.recent.truncate(MAX_RECENT - 1);
            self.recent.push_front((*digest, kept));
        }
        (curve, Source::Measurement)
    }
}

fn log(id: &ServableId, curve: &BatchCurve, model: &Arc<dyn Model>, (source, begun): (Source, Instant)) {
    let (engine, memory_bytes) = (model.engine(), model.memory_bytes());
    let (took_ms, cap, note) = (begun.elapsed().as_millis() as u64, curve.cap(), curve.note());
    let (run_us, prepared) = texts(curve.points());
    tracing::info!(
        model = %id, engine, cap, run_us, prepared, memory_bytes, ?source, took_ms, note, "batch sizes measured"
    );
}

/// `1:12.5 2:14.0` in microseconds a run, and the sizes that keep a plan.
fn texts(points: &[Point]) -> (String, String) {
    let times = points.iter().map(|point| format!("{}:{:.1}", point.rows, point.run_s() * 1e6));
    let prepared = points.iter().filter(|point| point.prepared_s.is_some()).map(|point| point.rows.to_string());
    (times.collect::<Vec<_>>().join(" "), prepared.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::engine::fake_plans::PlannedModel;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn measurer(cache: Option<EngineCache>) -> Measurer {
        Measurer::start(cache, MeasureLimits::default()).unwrap()
    }

    /// Submits a model and waits for its curve; `None` if none is delivered.
    fn curve_of(measurer: &Measurer, model: &Arc<PlannedModel>, max_batch_size: Option<usize>) -> Arc<BatchCurve> {
        let (deliver, delivered) = mpsc::channel();
        let model: Arc<dyn Model> = model.clone();
        let submitted = measurer.submit(MeasureJob {
            id: ServableId { model: "m".to_owned(), version: 1 },
            digest: Digest::of(b"m"),
            model: Arc::downgrade(&model),
            max_batch_size,
            deliver: Box::new(move |curve| deliver.send(curve).unwrap()),
        });
        assert!(submitted);
        delivered.recv_timeout(PATIENCE).unwrap()
    }

    /// Batches gain, and prepared plans take half the time.
    fn gaining() -> Arc<PlannedModel> {
        let time = |rows: usize, prepared: bool| Duration::from_micros(200 + rows as u64) / (1 + u32::from(prepared));
        Arc::new(PlannedModel::new(time))
    }

    #[test]
    fn a_restart_prepares_the_same_plans_without_measuring() {
        let folder = tempfile::tempdir().unwrap();
        let cache = || Some(EngineCache::open(folder.path(), "build").unwrap());
        let (first, second) = (gaining(), gaining());
        let measured = curve_of(&measurer(cache()), &first, Some(8));
        assert_eq!((measured.cap(), first.prepared()), (8, vec![2, 4, 8]));
        let restored = curve_of(&measurer(cache()), &second, Some(8));
        assert_eq!(restored.points(), measured.points());
        assert_eq!((second.prepared(), second.runs()), (vec![2, 4, 8], 0));
    }

    #[test]
    fn a_panic_costs_one_model_its_curve() {
        let measurer = measurer(None);
        let broken = Arc::new(PlannedModel::new(|_, _| panic!("told to")));
        assert!(!curve_of(&measurer, &broken, None).is_measured());
        assert_eq!(curve_of(&measurer, &gaining(), Some(4)).cap(), 4);
    }

    #[test]
    fn a_model_that_is_gone_is_not_measured() {
        let measurer = measurer(None);
        let gone: Weak<PlannedModel> = Weak::new();
        let (deliver, delivered) = mpsc::channel();
        measurer.submit(MeasureJob {
            id: ServableId { model: "gone".to_owned(), version: 1 },
            digest: Digest::of(b"gone"),
            model: gone,
            max_batch_size: None,
            deliver: Box::new(move |_| deliver.send(()).unwrap()),
        });
        // One thread works in order: when the next is done, this one has been passed over.
        curve_of(&measurer, &gaining(), Some(2));
        assert!(delivered.try_recv().is_err());
    }

    #[test]
    fn the_log_tells_times_and_plans() {
        let point = |rows, prepared_s| Point { rows, unprepared_s: Some(1e-3), prepared_s };
        let texts = texts(&[point(1, None), point(2, Some(125e-6)), point(4, None)]);
        assert_eq!(texts, ("1:1000.0 2:125.0 4:1000.0".to_owned(), "2".to_owned()));
    }
}
