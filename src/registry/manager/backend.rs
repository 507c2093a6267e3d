//! From a loaded version and its settings to what requests are sent to.

use std::sync::Arc;

use crate::batching::{BatchConfig, Cores, Pool, PoolConfig, QueueLimits};
use crate::config::ServingDefaults;
use crate::data_plane::DataPlane;
use crate::engine::padding::{DeclaredPadding, PaddingRule};
use crate::prediction_log::{VersionLog, quality};
use crate::registry::loader::LoadedVersion;
use crate::registry::model_config::{ModelSettings, TimeoutAction};
use crate::routing::{Arm, Backend};
use crate::servable::{Servable, ServableId, ServingLimits};
use crate::served_config::served_config;
use crate::signature::Signature;
use crate::telemetry::stats::ServableStats;

/// Makes backends.
pub struct BackendFactory {
    /// What a version gets where its settings say nothing.
    pub defaults: ServingDefaults,
    pub cores: Arc<Cores>,
    /// The data plane, whose log takes what its backends answer.
    pub plane: Arc<DataPlane>,
}

impl BackendFactory {
    /// A backend around a version that was just loaded; it counts on from `counted`.
    pub fn build(
        &self,
        id: ServableId,
        loaded: LoadedVersion,
        settings: &ModelSettings,
        counted: Option<Arc<ServableStats>>,
    ) -> Arc<Backend> {
        let digest = loaded.digest.to_string();
        let servable = Servable {
            config: served_config(&id.model, loaded.model.signature(), settings, self.workers(settings)),
            limits: limits(settings, loaded.model.signature()),
            log: self.log(&id, &digest, loaded.model.signature(), settings),
            id,
            slot: loaded.slot,
            digest,
            file_bytes: loaded.file_bytes,
            lineage: loaded.lineage.unwrap_or_else(|| settings.lineage.clone()),
            model: loaded.model,
            padding: loaded.padding,
            stats: counted.unwrap_or_default(),
        };
        self.backend(servable, settings)
    }

    /// A backend around the same model, with other settings and the same counters.
    pub fn rebuild(&self, old: &Backend, settings: &ModelSettings) -> Arc<Backend> {
        let curve = old.pool.curve();
        let old = &old.servable;
        let servable = Servable {
            config: served_config(&old.id.model, old.signature(), settings, self.workers(settings)),
            limits: limits(settings, old.signature()),
            log: self.log(&old.id, &old.digest, old.signature(), settings),
            id: old.id.clone(),
            slot: old.slot,
            digest: old.digest.clone(),
            file_bytes: old.file_bytes,
            lineage: old.lineage.clone(),
            model: old.model.clone(),
            padding: settings.sequence_padding.as_ref().map(|rule| repadded(old.padding.as_ref(), rule)),
            stats: old.stats.clone(),
        };
        let backend = self.backend(servable, settings);
        backend.pool.set_curve(curve);
        backend
    }

    /// How a version's predictions are written down.
    fn log(
        &self,
        id: &ServableId,
        digest: &str,
        signature: &Signature,
        settings: &ModelSettings,
    ) -> Option<Arc<VersionLog>> {
        let log = Some(&self.plane.log).filter(|log| log.is_on())?;
        let (id, counts) = ((id.model.as_str(), id.version, digest), log.counts_of(&id.model));
        // Settings that don't fit the model are refused before it comes to this, but for those that change under a
        // version in service.
        let made = VersionLog::new(id, signature, settings.log.clone(), counts);
        let made = made.inspect_err(|cause| tracing::error!(model = id.0, version = id.1, %cause, "nothing is logged"));
        let quality = settings.quality.as_ref().and_then(|quality| {
            let made = quality::Plan::new(signature, quality, &settings.log, &settings.class_labels_of(signature));
            let ignored = |cause: &quality::PlanError| tracing::error!(model = id.0, version = id.1, %cause, "quality is not known");
            made.inspect_err(ignored).ok()
        });
        made.ok().map(|log| Arc::new(log.with_quality(quality)))
    }

    /// An arm around a version in service, with a queue of its own.
    pub fn arm(&self, arm: Arm, ready: &Backend, settings: &ModelSettings) -> Arc<Backend> {
        let servable = ready.servable.clone();
        let config = self.pool_config(settings);
        let pool = Pool::new(&self.cores, &servable.id.model, &servable.model, &servable.stats, config);
        pool.set_curve(ready.pool.curve());
        Arc::new(Backend { arm, servable, pool })
    }

    /// Requests that may wait for a version, be it for its workers or for its load.
    pub fn max_queue_size(&self, settings: &ModelSettings) -> usize {
        settings.queue.max_size.map_or(self.defaults.max_queue_size, |size| size as usize)
    }

    fn workers(&self, settings: &ModelSettings) -> u32 {
        settings.workers.max.unwrap_or(self.defaults.workers as u32)
    }

    fn backend(&self, servable: Servable, settings: &ModelSettings) -> Arc<Backend> {
        let config = self.pool_config(settings);
        let pool = Pool::new(&self.cores, &servable.id.model, &servable.model, &servable.stats, config);
        Arc::new(Backend { arm: Arm::Stable, servable: Arc::new(servable), pool })
    }

    fn pool_config(&self, settings: &ModelSettings) -> PoolConfig {
        let queue = &settings.queue;
        let dynamic = settings.batching.as_ref().map(|batching| {
            let mut sizes: Vec<usize> = batching.preferred_batch_size.iter().map(|&size| size as usize).collect();
            sizes.sort_unstable();
            (sizes, batching.max_queue_delay)
        });
        PoolConfig {
            min_workers: settings.workers.min,
            max_workers: self.workers(settings),
            limits: QueueLimits {
                max_requests: self.max_queue_size(settings),
                max_bytes: self.defaults.max_queue_bytes,
                max_wait: self.defaults.max_queue_wait,
            },
            batching: BatchConfig { max_batch_size: max_batch_size(settings), dynamic },
            delay_after: queue.default_timeout.filter(|_| queue.timeout_action == TimeoutAction::Delay),
        }
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
        rollout: None,
        lineage: Default::default(),
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

fn limits(settings: &ModelSettings, signature: &Signature) -> ServingLimits {
    ServingLimits {
        max_batch_size: max_batch_size(settings),
        // With DELAY a request that has waited for so long goes on waiting, behind all others.
        default_timeout: settings
            .queue
            .default_timeout
            .filter(|_| settings.queue.timeout_action == TimeoutAction::Reject),
        class_labels: settings.class_labels_of(signature),
        output_ranges: settings.output_ranges.clone(),
    }
}

/// Rows that a request may have; Triton's 0 is no limit here.
fn max_batch_size(settings: &ModelSettings) -> Option<usize> {
    settings.max_batch_size.filter(|&size| size > 0).map(|size| size as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servable::Lineage;

    #[test]
    fn a_backend_is_made_anew_for_rules_of_its_log_but_not_for_where_the_model_comes_from() {
        let plain = ModelSettings::default();
        let mut sampled = plain.clone();
        sampled.log.sample = 0.5;
        assert!(!same_backend(&plain, &sampled));
        let lineage = Lineage { dataset: Some("sha256:00".to_owned()), ..Lineage::default() };
        assert!(same_backend(&plain, &ModelSettings { lineage, ..plain.clone() }));
    }
}
