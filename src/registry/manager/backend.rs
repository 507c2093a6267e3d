//! From a loaded version and its settings to what requests are sent to.

use std::sync::Arc;

use crate::batching::{Pool, PoolConfig};
use crate::config::ServingDefaults;
use crate::registry::loader::LoadedVersion;
use crate::registry::model_config::ModelSettings;
use crate::routing::{Backend, STABLE_ARM};
use crate::servable::{Servable, ServableId, ServingLimits};
use crate::served_config::served_config;
use crate::telemetry::stats::ServableStats;

/// Makes backends.
pub struct BackendFactory {
    /// What a version gets where its settings say nothing.
    pub defaults: ServingDefaults,
}

impl BackendFactory {
    /// A backend around a version that was just loaded; it counts on from `counted`.
    ///
    /// # Errors
    /// The operating system's, when a worker can't be started.
    pub fn build(
        &self,
        id: ServableId,
        loaded: LoadedVersion,
        settings: &ModelSettings,
        counted: Option<Arc<ServableStats>>,
    ) -> std::io::Result<Arc<Backend>> {
        let servable = Servable {
            config: served_config(&id.model, loaded.model.signature(), settings, self.workers(settings)),
            limits: limits(settings),
            id,
            slot: loaded.slot,
            digest: loaded.digest.to_string(),
            file_bytes: loaded.file_bytes,
            model: loaded.model,
            stats: counted.unwrap_or_default(),
        };
        self.backend(servable, settings)
    }

    /// A backend around the same model, with other settings and the same counters.
    ///
    /// # Errors
    /// As `build`.
    pub fn rebuild(&self, old: &Backend, settings: &ModelSettings) -> std::io::Result<Arc<Backend>> {
        let old = &old.servable;
        let servable = Servable {
            config: served_config(&old.id.model, old.signature(), settings, self.workers(settings)),
            limits: limits(settings),
            id: old.id.clone(),
            slot: old.slot,
            digest: old.digest.clone(),
            file_bytes: old.file_bytes,
            model: old.model.clone(),
            stats: old.stats.clone(),
        };
        self.backend(servable, settings)
    }

    /// Requests that may wait for a version, be it for its workers or for its load.
    pub fn max_queue_size(&self, settings: &ModelSettings) -> usize {
        settings.queue.max_size.map_or(self.defaults.max_queue_size, |size| size as usize)
    }

    fn workers(&self, settings: &ModelSettings) -> u32 {
        settings.workers.max.unwrap_or(self.defaults.workers as u32)
    }

    fn backend(&self, servable: Servable, settings: &ModelSettings) -> std::io::Result<Arc<Backend>> {
        let config =
            PoolConfig { workers: self.workers(settings) as usize, max_queue_size: self.max_queue_size(settings) };
        let pool = Pool::start(&servable.id.model, &servable.model, &servable.stats, config)?;
        Ok(Arc::new(Backend { arm: STABLE_ARM, servable: Arc::new(servable), pool }))
    }
}

/// Whether a backend made for one of these settings would serve as one made for the other.
pub fn same_backend(a: &ModelSettings, b: &ModelSettings) -> bool {
    // Labels, policies and tolerances are the manager's business; everything else may show in an answer.
    let relevant = |settings: &ModelSettings| ModelSettings {
        labels: Default::default(),
        on_new_version: None,
        tolerance: Default::default(),
        load: Default::default(),
        idle_unload: None,
        not_honoured: Vec::new(),
        ..settings.clone()
    };
    relevant(a) == relevant(b)
}

fn limits(settings: &ModelSettings) -> ServingLimits {
    ServingLimits {
        max_batch_size: settings.max_batch_size.filter(|&size| size > 0).map(|size| size as usize),
        default_timeout: settings.queue.default_timeout,
        class_labels: settings.class_labels.clone(),
    }
}
