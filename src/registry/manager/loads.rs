//! Loads: asking the loader for one, and what follows from how it ends.

use std::mem;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::actor::Actor;
use super::model::{Cold, Load, Ready, Stage, Waking};
use crate::registry::loader::{FailedLoad, LoadEvent, LoadJob, LoadStep, LoadedVersion};
use crate::servable::{ServableId, State};
use crate::store::records::Quarantine;
use crate::telemetry::metrics;
use crate::telemetry::stats::ServableStats;

impl Actor {
    /// Queues the load of a version that the caller has seen; `None` where its files are gone.
    pub(super) fn submit_load(&mut self, name: &str, number: u64) -> Option<Load> {
        let files = self.version_mut(name, number).files.clone()?;
        self.attempts += 1;
        let load = Load { attempt: self.attempts, state: State::Loading, stamps: files.files.clone() };
        let settings = self.models[name].settings.clone();
        let id = ServableId { model: name.to_owned(), version: number };
        self.loader.submit(LoadJob { id, attempt: load.attempt, files, settings });
        Some(load)
    }

    pub(super) fn load_event(&mut self, event: LoadEvent) {
        let ServableId { model: name, version: number } = event.id;
        let version = self.models.get_mut(&name).and_then(|model| model.versions.get_mut(&number));
        // One that was given up goes unheard.
        let Some(version) = version.filter(|version| version.load().is_some_and(|load| load.attempt == event.attempt))
        else {
            return;
        };
        match (event.step, mem::take(&mut version.stage)) {
            (LoadStep::Entered(state), Stage::Loading(load)) => version.stage = Stage::Loading(Load { state, ..load }),
            (LoadStep::Done(result), Stage::Loading(load)) => _ = self.load_done(&name, number, *result, load, None),
            (LoadStep::Done(result), Stage::Cold(Cold { counted, waking: Some(waking) })) => {
                let Waking { load, since, waiting } = *waking;
                let outcome = self.load_done(&name, number, *result, load, counted);
                metrics::count_cold_start(outcome, since.elapsed());
                // Whatever became of it: the snapshot tells those who waited.
                self.unpublished.replies.extend(waiting.into_iter().map(|reply| (reply, Ok(()))));
            }
            (_, stage) => version.stage = stage,
        }
        self.reconcile(&name);
    }

    fn load_done(
        &mut self,
        name: &str,
        number: u64,
        result: Result<LoadedVersion, FailedLoad>,
        load: Load,
        counted: Option<Arc<ServableStats>>,
    ) -> &'static str {
        let (stage, outcome) = match result {
            Ok(loaded) => self.loaded(name, number, loaded, load, counted),
            Err(failed) => self.failed(name, number, &failed, load),
        };
        self.version_mut(name, number).stage = stage;
        // It may have taken the room of others.
        self.residents_seen = None;
        metrics::count_load(outcome);
        outcome
    }

    /// What a version that may serve becomes, and the outcome that is counted.
    fn loaded(
        &mut self,
        name: &str,
        number: u64,
        loaded: LoadedVersion,
        load: Load,
        counted: Option<Arc<ServableStats>>,
    ) -> (Stage, &'static str) {
        let id = ServableId { model: name.to_owned(), version: number };
        let (engine, examples) = (loaded.model.engine(), loaded.examples);
        let digest = loaded.digest;
        let backend = self.backends.build(id, loaded, &self.models[name].settings, counted);
        self.measure(digest, &backend);
        let notes = backend.servable.notes().join("; ");
        tracing::info!(model = name, version = number, engine, examples, notes, "ready");
        (Stage::Ready(Box::new(Ready { backend, digest, since: Instant::now(), stamps: load.stamps })), "ready")
    }

    /// What a version that may not serve becomes, and the outcome that is counted.
    fn failed(&mut self, name: &str, number: u64, failed: &FailedLoad, load: Load) -> (Stage, &'static str) {
        let rejected = failed.cause.is_rejection();
        let reason = failed.cause.to_string();
        tracing::error!(model = name, version = number, reason, rejected, "failed");
        if let (true, Some(digest)) = (rejected, failed.digest) {
            self.version_mut(name, number).quarantine = Some(reason.clone());
            let since_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
            let row = Quarantine { digest, reason: reason.clone(), since_ms };
            self.logged("writing the quarantine", self.records.quarantine(name, number, &row));
        }
        (Stage::Failed { reason, stamps: load.stamps }, if rejected { "rejected" } else { "failed" })
    }
}
