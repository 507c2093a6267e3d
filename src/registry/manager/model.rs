//! What the manager knows of one model, and what it does when something about it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::handle::Reply;
use crate::registry::digest::Digest;
use crate::registry::labels::{LabelMove, effective_labels};
use crate::registry::listing::{FileStamp, VersionFiles};
use crate::registry::loader::check_settings;
use crate::registry::model_config::{LoadMode, ModelSettings};
use crate::registry::settle::{SettledModel, Wholeness, touched};
use crate::registry::version_policy::{Decision, Life, ModelFacts, OnNewVersion, VersionFacts, VersionPolicy, decide};
use crate::routing::{Backend, ModelEntry, RolloutSettings};
use crate::servable::{Servable, State, VersionStatus};
use crate::telemetry::stats::ServableStats;

/// Versions that a reason names, and reasons of one kind.
const MOST_NAMED: usize = 5;

/// One model.
#[derive(Default)]
pub struct Model {
    pub settings: Arc<ModelSettings>,
    /// False until the files beside the model were read: nothing is loaded before it is known how.
    pub settings_known: bool,
    /// Why the settings in the repository are not the ones in force, and what else is wrong with the folder.
    pub settings_fault: Option<String>,
    pub folder_faults: Vec<String>,
    /// Whether the last look saw the whole folder, so that what it did not see is not there.
    pub certain: bool,
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
    /// In service; its next request loads it.
    Cold(Cold),
    Loading(Load),
    Ready(Box<Ready>),
    Failed {
        reason: String,
        /// The files that failed; others are tried again.
        stamps: Vec<FileStamp>,
    },
}

/// A load under way.
pub struct Load {
    pub attempt: u64,
    pub state: State,
    /// The files as the load was given them; a look may see others before it ends.
    pub stamps: Vec<FileStamp>,
}

/// A version in service and not in memory.
#[derive(Default)]
pub struct Cold {
    /// What it counted while it was loaded, to count on from there; `None` if it never was.
    pub counted: Option<Arc<ServableStats>>,
    /// The load that a request started.
    pub waking: Option<Box<Waking>>,
}

/// The load of a cold version, and who waits for it.
pub struct Waking {
    pub load: Load,
    pub since: Instant,
    /// Answered once the version is cold no longer. Dropped unanswered where it went another way.
    pub waiting: Vec<Reply>,
}

/// A version in service.
pub struct Ready {
    pub backend: Arc<Backend>,
    pub digest: Digest,
    pub since: Instant,
    /// The files as they were loaded.
    pub stamps: Vec<FileStamp>,
}

impl Model {
    /// Labels in force: the file's, with what was moved through the API.
    pub fn labels(&self) -> BTreeMap<String, u64> {
        effective_labels(&self.settings.labels, &self.moves).versions
    }

    /// What should be loaded, let go, and answer, while a rollout may hold the version that answers.
    pub fn decide(&self, pinned: &BTreeSet<u64>, held: Option<u64>) -> Decision {
        if !self.wanted || self.gone || !self.settings_known {
            let held = |version: &Version| matches!(version.stage, Stage::Ready(_) | Stage::Cold(_));
            let unload = self.versions.iter().filter(|(_, version)| held(version)).map(|(&number, _)| number);
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
            held,
            answered: self.answered,
        })
    }

    /// Puts versions that are to be loaded into service without loading them, where the settings ask for that. Says
    /// whether there were any; then another decision may follow.
    ///
    /// Not while a version of the model is in memory: the one to replace it is loaded first, so that requests go from
    /// one to the next without waiting, and a version that can't be loaded never takes over.
    pub fn put_off(&mut self, numbers: &[u64], pinned: &BTreeSet<u64>) -> bool {
        let in_use = self.versions.values().any(|version| match &version.stage {
            Stage::Ready(_) | Stage::Loading(_) => true,
            Stage::Cold(cold) => cold.waking.is_some(),
            _ => false,
        });
        if self.settings.load == LoadMode::Eager || in_use {
            return false;
        }
        let mut any = false;
        for number in numbers.iter().filter(|number| !pinned.contains(number)) {
            let version = self.versions.get_mut(number).expect("decided over these versions");
            version.stage = Stage::Cold(Cold::default());
            any = true;
        }
        any
    }

    /// The versions that are cold and not being loaded.
    pub fn asleep(&self) -> impl Iterator<Item = u64> {
        let asleep = |(_, version): &(&u64, &Version)| version.is_cold() && version.load().is_none();
        self.versions.iter().filter(asleep).map(|(&number, _)| number)
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

    /// What the settings and the labels name and the repository does not have.
    fn absent(&self) -> Vec<String> {
        if !self.settings_known || !self.certain || self.gone {
            return vec![];
        }
        let there: Vec<String> = self.versions.keys().rev().take(MOST_NAMED).map(u64::to_string).collect();
        let there = match there.is_empty() {
            true => "none".to_owned(),
            false => there.join(", "),
        };
        let is_absent = |version: &u64| !self.versions.contains_key(version);
        let text = |who: String, version: &u64| {
            format!("{who} names version {version}, which is not in the repository: it has {there}")
        };
        let listed = match &self.settings.version_policy {
            VersionPolicy::Specific(listed) => listed.iter().collect(),
            VersionPolicy::Latest(_) | VersionPolicy::All => vec![],
        };
        let of_policy = listed.into_iter().map(|version| ("version_policy".to_owned(), *version));
        let of_labels = self.labels().into_iter().map(|(label, version)| (format!("label '{label}'"), version));
        let absent = of_policy.chain(of_labels).filter(|(_, version)| is_absent(version));
        absent.take(MOST_NAMED).map(|(who, version)| text(who, &version)).collect()
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
        self.versions.values().any(|version| version.load().is_some())
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
        let cold = |(&number, version): (&u64, &Version)| match &version.stage {
            Stage::Cold(cold) if version.is_cold() => Some((number, cold.counted.clone())),
            _ => None,
        };
        let unasked = match (self.wanted, self.settings_known) {
            (true, true) => "no policy or label asks for it",
            (true, false) => "nothing is loaded until the model's settings can be read",
            (false, _) => "the model was not asked to be loaded, or was asked to be unloaded",
        };
        let absent = self.absent();
        let faults = self.settings_fault.iter().chain(&self.folder_faults).chain(&absent);
        let faults: Vec<&str> = faults.map(String::as_str).collect();
        ModelEntry {
            default: self.answers,
            labels: self.labels(),
            backends: self.versions.iter().filter_map(backend).collect(),
            cold: self.versions.iter().filter_map(cold).collect(),
            statuses: self.versions.iter().map(|(&number, version)| (number, version.status(unasked))).collect(),
            rollout: RolloutSettings {
                spec: self.settings.rollout.clone().map(Arc::new),
                on_new_version: self.settings.on_new_version == Some(OnNewVersion::Rollout),
            },
            fault: faults.join("; "),
        }
    }
}

impl Version {
    pub fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_))
    }

    /// Whether it can be loaded when it is asked for.
    pub fn is_cold(&self) -> bool {
        matches!(self.stage, Stage::Cold(_)) && self.is_whole() && self.quarantine.is_none()
    }

    /// Whether it answers requests, be it after a load.
    pub fn is_in_service(&self) -> bool {
        self.is_ready() || self.is_cold()
    }

    /// Whether it could be loaded again as it was, were it let go.
    pub fn can_come_back(&self) -> bool {
        let (Stage::Ready(ready), Some(files)) = (&self.stage, &self.files) else { return false };
        let untouched = ready.stamps == files.files || touched(&ready.stamps, &files.files).is_empty();
        untouched && self.is_whole() && self.quarantine.is_none()
    }

    /// Whether it, or what it was, still takes memory or threads.
    pub fn is_in_memory(&self) -> bool {
        self.is_ready() || self.load().is_some() || self.is_draining()
    }

    /// The load under way.
    pub fn load(&self) -> Option<&Load> {
        match &self.stage {
            Stage::Loading(load) => Some(load),
            Stage::Cold(cold) => cold.waking.as_ref().map(|waking| &waking.load),
            _ => None,
        }
    }

    /// The load that a request started.
    pub fn waking_mut(&mut self) -> Option<&mut Waking> {
        match &mut self.stage {
            Stage::Cold(cold) => cold.waking.as_deref_mut(),
            _ => None,
        }
    }

    fn is_whole(&self) -> bool {
        matches!(self.wholeness, Some(Wholeness::Whole))
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
        // What is in memory needs no whole files: it goes on serving while they change, and after.
        let present = if self.is_ready() { self.files.is_some() } else { self.is_whole() };
        let life = match &self.stage {
            // To a policy it is as good as ready: it answers, be it after a load.
            Stage::Cold(_) if self.is_cold() => Life::Ready,
            Stage::Out | Stage::WasUnloaded | Stage::Cold(_) => Life::New,
            Stage::Loading(_) => Life::Loading,
            Stage::Ready(_) => Life::Ready,
            Stage::Failed { .. } => Life::Failed,
        };
        let known = present || matches!(life, Life::Loading | Life::Ready);
        known.then_some(VersionFacts { life, present, quarantined: self.quarantine.is_some() })
    }

    /// `unasked` is why nothing asks for a version that isn't loaded.
    fn status(&self, unasked: &str) -> VersionStatus {
        let (state, reason) = match &self.stage {
            Stage::Ready(ready) => (State::Ready, self.ready_reason(ready)),
            Stage::Loading(load) => (load.state, String::new()),
            Stage::Cold(cold) if self.is_cold() => (State::Cold, cold.reason().to_owned()),
            _ if self.is_draining() => (State::Draining, "requests in flight are finishing".to_owned()),
            Stage::Failed { reason, .. } => (State::Failed, reason.clone()),
            Stage::WasUnloaded => (State::Unloaded, unasked.to_owned()),
            Stage::Out | Stage::Cold(_) => match &self.wholeness {
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

impl Cold {
    fn reason(&self) -> &'static str {
        match (&self.waking, &self.counted) {
            (Some(_), _) => "cold: being loaded for the requests that wait",
            (None, None) => "cold: loaded at its first request",
            (None, Some(_)) => "cold: let go, loaded again at its next request",
        }
    }
}
