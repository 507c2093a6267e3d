//! Measuring batch sizes: which versions are measured when, and where the result goes.

use std::mem;
use std::sync::Arc;

use super::actor::{Actor, Event};
use super::model::Stage;
use crate::batching::BatchCurve;
use crate::health::Phase;
use crate::registry::digest::Digest;
use crate::registry::measurer::MeasureJob;
use crate::routing::Backend;
use crate::servable::ServableId;

/// What was found out about a version.
pub struct MeasureEvent {
    id: ServableId,
    digest: Digest,
    curve: Arc<BatchCurve>,
}

impl Actor {
    /// Has a version measured that was just loaded; at start only once everything is ready.
    pub(super) fn measure(&mut self, digest: Digest, backend: &Backend) {
        let id = backend.servable.id.clone();
        let (events, measured) = (self.events.clone(), id.clone());
        let job = MeasureJob {
            id,
            digest,
            model: Arc::downgrade(&backend.servable.model),
            max_batch_size: backend.servable.limits.max_batch_size,
            deliver: Box::new(move |curve| {
                // The manager may have ended meanwhile.
                let _ = events.blocking_send(Event::Measured(MeasureEvent { id: measured, digest, curve }));
            }),
        };
        match self.plane.health.phase() {
            Phase::Starting => self.unmeasured.push(job),
            _ => _ = self.measurer.submit(job),
        }
    }

    /// Has everything measured that was loaded at start.
    pub(super) fn measure_all(&mut self) {
        for job in mem::take(&mut self.unmeasured) {
            self.measurer.submit(job);
        }
    }

    pub(super) fn measured(&mut self, event: MeasureEvent) {
        let MeasureEvent { id, digest, curve } = event;
        let version = self.models.get(&id.model).and_then(|model| model.versions.get(&id.version));
        if let Some(Stage::Ready(ready)) = version.map(|version| &version.stage)
            && ready.backend.servable.digest == digest.to_string()
        {
            ready.backend.pool.set_curve(curve.clone());
            let arms = self.splits_of(&id.model).flat_map(|split| [&split.candidate, &split.control, &split.shadow]);
            for arm in arms.filter(|arm| arm.servable.id == id) {
                arm.pool.set_curve(curve.clone());
            }
        }
    }
}
