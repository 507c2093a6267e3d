//! What the manager knows of one model, and what it does when something about it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use crate::registry::labels::{LabelMove, effective_labels};
use crate::registry::listing::{FileStamp, VersionFiles};
use crate::registry::loader::check_settings;
use crate::registry::model_config::ModelSettings;
use crate::registry::settle::{SettledModel, Wholeness, touched};
use crate::registry::version_policy::{Decision, Life, ModelFacts, VersionFacts, decide};
use crate::routing::{Backend, ModelEntry};
use crate::servable::{Servable, State, VersionStatus};

/// One model.
#[derive(Default)]
pub struct Model {
    pub settings: Arc<ModelSettings>,
    /// False until the files beside the model were read: nothing is loaded before it is known how.
    pub settings_known: bool,
    /// Why the settings in the repository are not the ones in force, and what else is wrong with the folder.
    pub settings_fault: Option<String>,
    pub folder_faults: Vec<String>,
    pub versions: BTreeMap<u64, Version>,
    /// Labels moved through the API.
    pub moves: BTreeMap<String, LabelMove>,
    /// False when an operator or the control mode keeps it out of service.
    pub wanted: bool,
    /// True once its folder was taken away.
    pub gone: bool,
    /// The version that answers the bare name.
    pub answers: Option<u64>,
    /// The one that answered it last, before a restart included.
    pub answered: Option<u64>,
}

/// One version, as long as it is in the repository or in memory.
#[derive(Default)]
pub struct Version {
    /// At the last look; `None` when its folder is gone.
    pub files: Option<VersionFiles>,
    pub wholeness: Option<Wholeness>,
    pub stage: Stage,
    /// The backend that was let go, until its last request is done.
    pub draining: Option<Weak<Servable>>,
    /// Why an operator must clear it before it is loaded.
    pub quarantine: Option<String>,
}

/// How far a version has come.
#[derive(Default)]
pub enum Stage {
    /// Not loaded. True once it was.
    #[default]
    Out,
    WasUnloaded,
    Loading {
        attempt: u64,
        state: State,
        /// The files as the load was given them; a look may see others before it ends.
        stamps: Vec<FileStamp>,
    },
    Ready(Box<Ready>),
    Failed {
        reason: String,
        /// The files that failed; others are tried again.
        stamps: Vec<FileStamp>,
    },
}

/// A version in service.
pub struct Ready {
    pub backend: Arc<Backend>,
    /// The files as they were loaded.
    pub stamps: Vec<FileStamp>,
}

impl Model {
    /// Labels in force: the file's, with what was moved through the API.
    pub fn labels(&self) -> BTreeMap<String, u64> {
        effective_labels(&self.settings.labels, &self.moves).versions
    }

    /// What should be loaded, let go, and answer.
    pub fn decide(&self, pinned: &BTreeSet<u64>) -> Decision {
        if !self.wanted || self.gone || !self.settings_known {
            let unload = self.versions.iter().filter(|(_, version)| version.is_ready()).map(|(&number, _)| number);
            return Decision { load: Vec::new(), unload: unload.collect(), answers: None };
        }
        let facts: BTreeMap<u64, VersionFacts> =
            self.versions.iter().filter_map(|(&number, version)| Some((number, version.facts()?))).collect();
        decide(&ModelFacts {
            policy: &self.settings.version_policy,
            on_new_version: self.settings.on_new_version,
            versions: &facts,
            labels: &self.labels(),
            pinned,
            answered: self.answered,
        })
    }

    /// Takes over what a look says of the versions. What is not listed and not in memory is forgotten.
    pub fn observe(&mut self, files: &BTreeMap<u64, VersionFiles>, settled: &SettledModel) {
        for (&number, files) in files {
            let version = self.versions.entry(number).or_default();
            version.observe(files.clone(), settled.versions.get(&number).cloned());
        }
        for (number, version) in &mut self.versions {
            if !files.contains_key(number) {
                version.files = None;
                version.wholeness = None;
            }
        }
        self.forget();
    }

    /// Why these settings can't be those of a version that serves; `None` if they can.
    pub fn misfit(&self, settings: &ModelSettings) -> Option<String> {
        self.versions
            .values()
            .find_map(|version| match &version.stage {
                Stage::Ready(ready) => check_settings(settings, ready.backend.servable.signature()).err(),
                _ => None,
            })
            .map(|fault| fault.to_string())
    }

    /// Lets versions that failed be tried again, those in quarantine apart.
    pub fn retry_failed(&mut self) {
        for version in self.versions.values_mut() {
            if matches!(version.stage, Stage::Failed { .. }) && version.quarantine.is_none() {
                version.stage = Stage::Out;
            }
        }
    }

    /// Drops versions that are neither in the repository nor in memory.
    pub fn forget(&mut self) {
        self.versions.retain(|_, version| version.files.is_some() || version.is_in_memory());
    }

    /// Whether a version is being loaded.
    pub fn is_loading(&self) -> bool {
        self.versions.values().any(|version| matches!(version.stage, Stage::Loading { .. }))
    }

    /// Whether a version's files still change.
    pub fn is_changing(&self) -> bool {
        self.versions.values().any(|version| matches!(version.wholeness, Some(Wholeness::Changing(_))))
    }

    /// The entry that the request's path reads.
    pub fn entry(&self) -> ModelEntry {
        let backend = |(&number, version): (&u64, &Version)| match &version.stage {
            Stage::Ready(ready) => Some((number, ready.backend.clone())),
            _ => None,
        };
        let faults: Vec<&str> = self.settings_fault.iter().chain(&self.folder_faults).map(String::as_str).collect();
        ModelEntry {
            default: self.answers,
            labels: self.labels(),
            backends: self.versions.iter().filter_map(backend).collect(),
            statuses: self.versions.iter().map(|(&number, version)| (number, version.status(self.wanted))).collect(),
            fault: faults.join("; "),
        }
    }
}

impl Version {
    pub fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_))
    }

    /// Whether it, or what it was, still takes memory or threads.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.stage, Stage::Ready(_) | Stage::Loading { .. }) || self.is_draining()
    }

    /// The files that the load under way was given.
    pub fn loading_stamps(&self) -> Vec<FileStamp> {
        match &self.stage {
            Stage::Loading { stamps, .. } => stamps.clone(),
            _ => Vec::new(),
        }
    }

    pub fn is_draining(&self) -> bool {
        self.draining.as_ref().is_some_and(|servable| servable.strong_count() > 0)
    }

    fn observe(&mut self, files: VersionFiles, wholeness: Option<Wholeness>) {
        if let Stage::Failed { stamps, .. } = &self.stage
            && *stamps != files.files
        {
            self.stage = Stage::Out;
        }
        self.files = Some(files);
        self.wholeness = wholeness;
    }

    fn facts(&self) -> Option<VersionFacts> {
        let present = matches!(self.wholeness, Some(Wholeness::Whole));
        let life = match &self.stage {
            Stage::Out | Stage::WasUnloaded => Life::New,
            Stage::Loading { .. } => Life::Loading,
            Stage::Ready(_) => Life::Ready,
            Stage::Failed { .. } => Life::Failed,
        };
        let known = present || matches!(life, Life::Loading | Life::Ready);
        known.then_some(VersionFacts { life, present, quarantined: self.quarantine.is_some() })
    }

    fn status(&self, wanted: bool) -> VersionStatus {
        let unasked = match wanted {
            true => "no policy or label asks for it",
            false => "the model was not asked to be loaded, or was asked to be unloaded",
        };
        let (state, reason) = match &self.stage {
            Stage::Ready(ready) => (State::Ready, self.ready_reason(ready)),
            Stage::Loading { state, .. } => (*state, String::new()),
            _ if self.is_draining() => (State::Draining, "requests in flight are finishing".to_owned()),
            Stage::Failed { reason, .. } => (State::Failed, reason.clone()),
            Stage::WasUnloaded => (State::Unloaded, unasked.to_owned()),
            Stage::Out => match &self.wholeness {
                Some(Wholeness::Broken(broken)) => (State::Failed, broken.to_string()),
                Some(Wholeness::Changing(waiting)) => (State::Discovered, waiting.to_string()),
                _ => (State::Discovered, unasked.to_owned()),
            },
        };
        match &self.quarantine {
            Some(why) if state != State::Ready && state != State::Draining => VersionStatus {
                state: State::Failed,
                reason: format!("quarantined until an operator clears it: {why}"),
                quarantined: true,
            },
            quarantine => VersionStatus { state, reason, quarantined: quarantine.is_some() },
        }
    }

    fn ready_reason(&self, ready: &Ready) -> String {
        let notes = ready.backend.servable.notes();
        let changed = match &self.files {
            None => vec!["its folder is gone; what was loaded goes on serving".to_owned()],
            Some(files) => {
                let names: Vec<String> = touched(&ready.stamps, &files.files).iter().map(ToString::to_string).collect();
                if names.is_empty() {
                    Vec::new()
                } else {
                    vec![format!(
                        "its files changed after it was loaded ({}); what was loaded goes on serving, put changes into a new version",
                        names.join(", ")
                    )]
                }
            }
        };
        changed.iter().chain(&notes).map(String::as_str).collect::<Vec<_>>().join("; ")
    }
}
