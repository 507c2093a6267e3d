//! From a loaded version and its settings to what requests are sent to.

use std::sync::Arc;

use crate::batching::{Pool, PoolConfig};
use crate::config::ServingDefaults;
use crate::engine::padding::{DeclaredPadding, PaddingRule};
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
    /// A backend around a version that was just loaded.
    ///
    /// # Errors
    /// The operating system's, when a worker can't be started.
    pub fn build(
        &self,
        id: ServableId,
        loaded: LoadedVersion,
        settings: &ModelSettings,
    ) -> std::io::Result<Arc<Backend>> {
        let servable = Servable {
            config: served_config(&id.model, loaded.model.signature(), settings, self.workers(settings)),
            limits: limits(settings),
            id,
            slot: loaded.slot,
            digest: loaded.digest.to_string(),
            model: loaded.model,
            padding: loaded.padding,
            stats: Arc::new(ServableStats::default()),
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
            model: old.model.clone(),
            padding: settings.sequence_padding.as_ref().map(|rule| repadded(old.padding.as_ref(), rule)),
            stats: old.stats.clone(),
        };
        self.backend(servable, settings)
    }

    fn workers(&self, settings: &ModelSettings) -> u32 {
        settings.workers.max.unwrap_or(self.defaults.workers as u32)
    }

    fn backend(&self, servable: Servable, settings: &ModelSettings) -> std::io::Result<Arc<Backend>> {
        let config = PoolConfig {
            workers: self.workers(settings) as usize,
            max_queue_size: settings.queue.max_size.map_or(self.defaults.max_queue_size, |size| size as usize),
        };
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
        not_honoured: Vec::new(),
        ..settings.clone()
    };
    relevant(a) == relevant(b)
}

/// The padding by a rule around a model that is loaded already. Asking the model again would take the manager's thread
/// for too long.
fn repadded(old: Option<&DeclaredPadding>, rule: &PaddingRule) -> DeclaredPadding {
    let unasked = || DeclaredPadding {
        rule: rule.clone(),
        proven: Err("it was changed after the version was loaded, and is checked when that is loaded again".to_owned()),
    };
    old.filter(|old| old.rule == *rule).cloned().unwrap_or_else(unasked)
}

fn limits(settings: &ModelSettings) -> ServingLimits {
    ServingLimits {
        max_batch_size: settings.max_batch_size.filter(|&size| size > 0).map(|size| size as usize),
        default_timeout: settings.queue.default_timeout,
        class_labels: settings.class_labels.clone(),
    }
}
