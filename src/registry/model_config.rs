//! How a model is to be served: what its files say, and what the program makes of it.
//!
//! `model.yaml` and `config.pbtxt` both become a [`ModelFile`], in which whatever a file leaves out is absent. The two
//! are laid over each other, model.yaml on top, and the result with all defaults filled in is [`ModelSettings`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

pub use crate::engine::EngineChoice;
use crate::engine::padding::PaddingRule;
use crate::prediction_log::settings::{LogSettings, QualitySettings};
use crate::registry::declared::Declared;
use crate::registry::version_policy::{OnNewVersion, VersionPolicy};
use crate::servable::{Lineage, OutputRange};
use crate::signature::Signature;

/// Most workers a version may be given.
pub const MAX_WORKERS: u32 = 1024;
/// Most versions that `latest` may keep, or `specific` may list.
pub const MAX_POLICY_VERSIONS: u32 = 1000;
/// Most labels that a file may give a model.
pub const MAX_LABELS: usize = 100;
/// Most class names an output may have.
pub const MAX_CLASSES: usize = 1_000_000;

/// What one file beside a model says. `None` and empty: nothing was said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelFile {
    pub version_policy: Option<VersionPolicy>,
    pub labels: BTreeMap<String, u64>,
    pub on_new_version: Option<OnNewVersion>,
    pub max_batch_size: Option<u32>,
    pub batching: Option<DynamicBatching>,
    pub max_queue_size: Option<u32>,
    pub default_timeout: Option<Duration>,
    pub timeout_action: Option<TimeoutAction>,
    pub min_workers: Option<u32>,
    pub max_workers: Option<u32>,
    pub load: Option<LoadMode>,
    pub idle_unload: Option<IdleUnload>,
    pub engine: Option<EngineChoice>,
    pub atol: Option<f64>,
    pub rtol: Option<f64>,
    pub class_labels: BTreeMap<String, Vec<String>>,
    pub output_ranges: BTreeMap<String, OutputRange>,
    pub sequence_padding: Option<PaddingRule>,
    /// Files of class names by output, relative to the model's folder.
    pub label_files: BTreeMap<String, String>,
    pub declared: Option<Declared>,
    /// The model's own rollout spec, as it stands in the file.
    pub rollout: Option<Value>,
    /// Less its features and ranges, which are keys of their own.
    pub log: Option<LogSettings>,
    /// Names of the elements of an input's rows, by input.
    pub features: BTreeMap<String, Vec<String>>,
    pub quality: Option<QualitySettings>,
    pub lineage: Lineage,
    pub not_honoured: Vec<String>,
}

/// How a model is served.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSettings {
    pub version_policy: VersionPolicy,
    /// Labels as the files give them, before any that were moved through the API.
    pub labels: BTreeMap<String, u64>,
    /// `None` where no file says: then a model with a `stable` label holds and any other serves.
    pub on_new_version: Option<OnNewVersion>,
    /// Rows per request; `None`: any number.
    pub max_batch_size: Option<u32>,
    /// Batching as configured, `None` where no file speaks of it.
    pub batching: Option<DynamicBatching>,
    pub queue: QueueSettings,
    pub workers: WorkerRange,
    pub load: LoadMode,
    /// `None`: as the server says.
    pub idle_unload: Option<IdleUnload>,
    pub engine: EngineChoice,
    pub tolerance: Tolerance,
    /// Names of the classes by output.
    pub class_labels: BTreeMap<String, Vec<String>>,
    /// What an output's numbers should lie in.
    pub output_ranges: BTreeMap<String, OutputRange>,
    /// Padding along a sequence axis, followed where the model is shown to tolerate it.
    pub sequence_padding: Option<PaddingRule>,
    /// Inputs and outputs as config.pbtxt declares them, to be checked against the model's own.
    pub declared: Option<Declared>,
    /// The model's own rollout spec, as it stands in the file; whoever starts rollouts reads it.
    pub rollout: Option<Value>,
    /// What is written of its predictions, and how.
    pub log: LogSettings,
    /// How its predictions are held against feedback; `None`: they are not.
    pub quality: Option<QualitySettings>,
    pub lineage: Lineage,
    /// Keys that are valid but that this build doesn't act on, to be reported when the model is loaded.
    pub not_honoured: Vec<String>,
}

impl ModelSettings {
    /// Names of the classes by output: as the settings say, else as the model's file does.
    pub fn class_labels_of(&self, signature: &Signature) -> BTreeMap<String, Vec<String>> {
        let told = signature.outputs.iter().filter(|output| !output.classes.is_empty());
        let mut labels: BTreeMap<_, _> = told.map(|output| (output.name.clone(), output.classes.clone())).collect();
        labels.extend(self.class_labels.clone());
        labels
    }
}

/// Triton's `dynamic_batching`, less its queue policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DynamicBatching {
    pub preferred_batch_size: Vec<u32>,
    pub max_queue_delay: Duration,
}

/// The bounded queue in front of a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// Requests that may wait; `None`: the server's own bound.
    pub max_size: Option<u32>,
    /// How long a request may wait that brings no deadline of its own; `None`: as long as it takes.
    pub default_timeout: Option<Duration>,
    pub timeout_action: TimeoutAction,
}

/// What becomes of a request that has waited for too long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TimeoutAction {
    #[default]
    Reject,
    /// It runs after all others.
    Delay,
}

/// How many cores a version may hold at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerRange {
    /// Kept when it is idle.
    pub min: u32,
    /// `None`: the server decides.
    pub max: Option<u32>,
}

/// When a selected version is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoadMode {
    #[default]
    Eager,
    /// At its first request.
    Lazy,
}

/// When a version that nobody asks is let go until it is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleUnload {
    Never,
    /// After so long without a request.
    After(Duration),
}

/// How far an output may be from a recorded one: |got - expected| <= atol + rtol * |expected|.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    pub atol: f64,
    pub rtol: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { atol: 1e-4, rtol: 1e-3 }
    }
}

impl ModelFile {
    /// Lays this file over another: where both speak this one counts, key by key.
    pub fn over(mut self, under: Self) -> Self {
        let either = |mut over: BTreeMap<_, _>, under: BTreeMap<_, _>| {
            under.into_iter().for_each(|(key, value)| _ = over.entry(key).or_insert(value));
            over
        };
        // An output's class names come from one place: names given here beat a file named there.
        let label_files = under.label_files.into_iter().filter(|(output, _)| !self.class_labels.contains_key(output));
        self.label_files.extend(label_files);
        self.not_honoured.extend(under.not_honoured);
        Self {
            version_policy: self.version_policy.or(under.version_policy),
            labels: if self.labels.is_empty() { under.labels } else { self.labels },
            on_new_version: self.on_new_version.or(under.on_new_version),
            max_batch_size: self.max_batch_size.or(under.max_batch_size),
            batching: self.batching.or(under.batching),
            max_queue_size: self.max_queue_size.or(under.max_queue_size),
            default_timeout: self.default_timeout.or(under.default_timeout),
            timeout_action: self.timeout_action.or(under.timeout_action),
            min_workers: self.min_workers.or(under.min_workers),
            max_workers: self.max_workers.or(under.max_workers),
            load: self.load.or(under.load),
            idle_unload: self.idle_unload.or(under.idle_unload),
            engine: self.engine.or(under.engine),
            atol: self.atol.or(under.atol),
            rtol: self.rtol.or(under.rtol),
            class_labels: either(self.class_labels, under.class_labels),
            output_ranges: if self.output_ranges.is_empty() { under.output_ranges } else { self.output_ranges },
            sequence_padding: self.sequence_padding.or(under.sequence_padding),
            label_files: self.label_files,
            declared: self.declared.or(under.declared),
            rollout: self.rollout.or(under.rollout),
            log: self.log.or(under.log),
            features: if self.features.is_empty() { under.features } else { self.features },
            quality: self.quality.or(under.quality),
            lineage: if self.lineage == Lineage::default() { under.lineage } else { self.lineage },
            not_honoured: self.not_honoured,
        }
    }

    /// Fills in the defaults. `label_files` must have been read into `class_labels` before.
    pub fn settings(self) -> ModelSettings {
        let tolerance = Tolerance::default();
        let bounds = |range: &OutputRange| (range.min.unwrap_or(f64::NEG_INFINITY), range.max.unwrap_or(f64::INFINITY));
        let output_ranges = self.output_ranges.iter().map(|(output, range)| (output.clone(), bounds(range))).collect();
        ModelSettings {
            version_policy: self.version_policy.unwrap_or_default(),
            labels: self.labels,
            on_new_version: self.on_new_version,
            max_batch_size: self.max_batch_size,
            batching: self.batching,
            queue: QueueSettings {
                max_size: self.max_queue_size.filter(|&size| size > 0),
                default_timeout: self.default_timeout.filter(|timeout| !timeout.is_zero()),
                timeout_action: self.timeout_action.unwrap_or_default(),
            },
            workers: WorkerRange { min: self.min_workers.unwrap_or(0), max: self.max_workers },
            load: self.load.unwrap_or_default(),
            idle_unload: self.idle_unload,
            engine: self.engine.unwrap_or_default(),
            tolerance: Tolerance {
                atol: self.atol.unwrap_or(tolerance.atol),
                rtol: self.rtol.unwrap_or(tolerance.rtol),
            },
            class_labels: self.class_labels,
            output_ranges: self.output_ranges,
            sequence_padding: self.sequence_padding,
            declared: self.declared,
            rollout: self.rollout,
            log: LogSettings { features: self.features, output_ranges, ..self.log.unwrap_or_default() },
            quality: self.quality,
            lineage: self.lineage,
            not_honoured: self.not_honoured,
        }
    }
}

impl Default for ModelSettings {
    /// A model with no file beside it.
    fn default() -> Self {
        ModelFile::default().settings()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_file_counts_where_both_speak() {
        let upper = ModelFile {
            max_batch_size: Some(8),
            class_labels: [("p".to_owned(), vec!["a".to_owned()])].into(),
            not_honoured: vec!["rollout".into()],
            ..ModelFile::default()
        };
        let lower = ModelFile {
            max_batch_size: Some(4),
            max_queue_size: Some(0),
            max_workers: Some(3),
            label_files: [("p".to_owned(), "p.txt".to_owned()), ("q".to_owned(), "q.txt".to_owned())].into(),
            not_honoured: vec!["optimization".into()],
            ..ModelFile::default()
        };
        let file = upper.over(lower);
        assert_eq!(file.label_files.keys().collect::<Vec<_>>(), ["q"]);
        let settings = file.settings();
        assert_eq!((settings.max_batch_size, settings.workers.max), (Some(8), Some(3)));
        assert_eq!(settings.queue.max_size, None, "0 means the server's own bound");
        assert_eq!(settings.not_honoured, ["rollout", "optimization"]);
    }

    #[test]
    fn without_files_a_model_serves_its_latest_version() {
        let settings = ModelSettings::default();
        assert_eq!(settings.version_policy, VersionPolicy::Latest(1));
        assert_eq!(settings.tolerance, Tolerance { atol: 1e-4, rtol: 1e-3 });
        assert_eq!(settings.workers, WorkerRange { min: 0, max: None });
    }
}
