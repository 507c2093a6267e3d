//! Versions that are in service without being in memory: waking them, and letting loaded ones go.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::actor::Actor;
use super::handle::Reply;
use super::model::{Cold, Model, Ready, Stage, Version, Waking};
use crate::error::{Error, Overload, ShedCause};
use crate::registry::model_config::IdleUnload;
use crate::registry::residency_policy::{Reason, Resident, let_go};
use crate::servable::ServableId;

/// Time between two looks at which versions are used.
const RESIDENCY_INTERVAL: Duration = Duration::from_millis(100);
/// What a request is told that finds too many others waiting for the same load.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Actor {
    /// A request waits for a version that was cold when it was routed.
    pub(super) fn warm(&mut self, name: &str, number: u64, reply: Reply) {
        self.wake(name, number);
        let Some(model) = self.models.get_mut(name) else { return self.answer(reply, Ok(())) };
        let limit = self.backends.max_queue_size(&model.settings);
        let Some(waking) = model.versions.get_mut(&number).and_then(Version::waking_mut) else {
            // Cold no longer: the snapshot tells the request what became of it.
            return self.answer(reply, Ok(()));
        };
        waking.waiting.retain(|reply| !reply.is_closed());
        let depth = waking.waiting.len();
        if depth < limit {
            waking.waiting.push(reply);
        } else {
            let (model, cause) = (name.to_owned(), ShedCause::QueueSize);
            let overload = Overload { model, depth, limit, expected_wait: RETRY_AFTER, cause };
            self.answer(reply, Err(Error::Overloaded(Box::new(overload))));
        }
    }

    /// Begins to load a version if it is cold and nobody has begun.
    pub(super) fn wake(&mut self, name: &str, number: u64) {
        if !self.models.get(name).is_some_and(|model| model.asleep().any(|asleep| asleep == number)) {
            return;
        }
        let Some(load) = self.submit_load(name, number) else { return };
        tracing::info!(model = name, version = number, "a cold version is loaded");
        if let Stage::Cold(cold) = &mut self.version_mut(name, number).stage {
            cold.waking = Some(Box::new(Waking { load, since: Instant::now(), waiting: Vec::new() }));
        }
        self.changed(name);
    }

    /// Begins to load every cold version of a model.
    pub(super) fn wake_all(&mut self, name: &str) {
        let asleep: Vec<u64> = self.models.get(name).map_or_else(Vec::new, |model| model.asleep().collect());
        for number in asleep {
            self.wake(name, number);
        }
    }

    /// Lets go of loaded versions that have not been used for long enough, or that there is no room for.
    pub(super) fn let_go_unused(&mut self, now: Instant) {
        if self.residents_seen.is_some_and(|seen| now.saturating_duration_since(seen) < RESIDENCY_INTERVAL) {
            return;
        }
        self.residents_seen = Some(now);
        let residents: Vec<Resident> =
            self.models.iter().flat_map(|(name, model)| self.residents(name, model)).collect();
        for (id, reason) in let_go(&residents, self.residency.max_memory_bytes, now) {
            self.let_go(&id, reason);
        }
    }

    fn residents(&self, name: &str, model: &Model) -> Vec<Resident> {
        let idle_unload = match model.settings.idle_unload {
            None => self.residency.idle_unload,
            Some(IdleUnload::Never) => None,
            Some(IdleUnload::After(time)) => Some(time),
        };
        let pinned = self.pinned(name);
        let resident = |(&number, version): (&u64, &Version)| {
            let Stage::Ready(ready) = &version.stage else { return None };
            let servable = &ready.backend.servable;
            let in_flight = servable.stats.pending.load(Ordering::Relaxed) > 0;
            Some(Resident {
                id: servable.id.clone(),
                bytes: servable.memory_bytes(),
                loaded: ready.since,
                last_used: servable.stats.last_used(),
                pinned: in_flight || pinned.contains(&number) || !version.can_come_back(),
                idle_unload,
            })
        };
        model.versions.iter().filter_map(resident).collect()
    }

    fn let_go(&mut self, id: &ServableId, reason: Reason) {
        let version = self.version_mut(&id.model, id.version);
        let Stage::Ready(ready) = mem::take(&mut version.stage) else { return };
        let Ready { backend, .. } = *ready;
        let bytes = backend.servable.memory_bytes();
        tracing::info!(model = id.model, version = id.version, ?reason, bytes, "let go until its next request");
        version.draining = Some(Arc::downgrade(&backend.servable));
        version.stage = Stage::Cold(Cold { counted: Some(backend.servable.stats.clone()), waking: None });
        self.reconcile(&id.model);
    }
}
