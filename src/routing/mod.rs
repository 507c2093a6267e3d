//! ROUTE: the snapshot of what is served, and who answers a request.
//!
//! One snapshot holds routes and loaded versions together, because two would race: a route decided in the old one
//! could name a version that the new one has already let go. The control plane writes it; a request loads it once.

mod arm;
mod assignment;
mod breaker;
mod comparison;
mod dial;
mod lane;
mod route;
pub mod shadow;
pub mod split;
pub mod validity;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use self::arm::Arm;
pub use self::assignment::{ARM_HEADER, Assigned, Assignment, Choice, ForceRule, KEY_HEADER, Match, Unit};
pub use self::breaker::{Trip, TripCause};
pub use self::dial::{
    BASIS_POINTS, Dial, LabelSample, MAX_WAITING_OBSERVATIONS, Observation, Sample, ShadowSample, Weights,
};
pub use self::lane::{Lane, Share};
pub use self::route::{Route, ShadowTolerance, Split, SplitPlan};
use crate::batching::Pool;
use crate::error::{Error, Result, nearest};
use crate::inference::{ModelRef, VersionChoice};
use crate::servable::{Servable, State, VersionStatus};
use crate::telemetry::stats::ServableStats;

/// The label of what serves, which a model need not have.
const STABLE: &str = "stable";

/// A version with a queue of its own: what a request is sent to, and what it keeps alive until its reply is out.
#[derive(Debug)]
pub struct Backend {
    pub arm: Arm,
    pub servable: Arc<Servable>,
    pub pool: Pool,
}

/// Everything known of one model.
#[derive(Debug, Clone, Default)]
pub struct ModelEntry {
    /// The version that answers the bare name.
    pub default: Option<u64>,
    pub labels: BTreeMap<String, u64>,
    /// The ready versions.
    pub backends: BTreeMap<u64, Arc<Backend>>,
    /// The cold versions, with what each counted while it was loaded; `None` for one that never was.
    pub cold: BTreeMap<u64, Option<Arc<ServableStats>>>,
    /// Every version that was seen, ready or not.
    pub statuses: BTreeMap<u64, VersionStatus>,
    /// Its own rollout spec, for whoever starts rollouts.
    pub rollout: RolloutSettings,
    /// What is wrong with the model as a whole, such as an unreadable `model.yaml`; empty if nothing.
    pub fault: String,
}

/// What the model's settings say of rollouts. Opaque here: the control plane reads it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RolloutSettings {
    pub spec: Option<Arc<serde_json::Value>>,
    /// Whether a new version starts one by itself.
    pub on_new_version: bool,
}

/// Who answers a reference.
#[derive(Debug, Clone)]
pub enum Routed {
    Ready(Arc<Backend>),
    /// This version of the model, once it is loaded.
    Cold(u64),
}

/// A version in service and what it counts.
#[derive(Debug, Clone)]
pub struct Counted {
    pub model: String,
    pub version: u64,
    pub stats: Arc<ServableStats>,
}

/// What is served, at one moment.
#[derive(Debug, Default)]
pub struct Serving {
    pub models: BTreeMap<String, Arc<ModelEntry>>,
    /// What clients may call beside the models, and the models whose traffic is split.
    pub routes: BTreeMap<String, Arc<Route>>,
}

impl Serving {
    /// Who answers this reference. Of a split route it is whom the route's label names, as if nothing were split.
    ///
    /// # Errors
    /// `UnknownModel`, `UnknownVersion` or `UnknownLabel` where there is no such thing, `NotReady` or `NoVersions`
    /// where there is but it can't answer.
    pub fn route(&self, model: &ModelRef) -> Result<Routed> {
        let (name, entry, label) = self.target(&model.name)?;
        let labelled = |label: &str| {
            entry.labels.get(label).copied().ok_or_else(|| Error::UnknownLabel {
                model: name.to_owned(),
                label: label.to_owned(),
                nearest: nearest(label, entry.labels.keys().map(String::as_str)),
            })
        };
        let version = match (&model.version, label) {
            (VersionChoice::Number(version), _) => *version,
            (VersionChoice::Label(label), _) => labelled(label)?,
            (VersionChoice::Default, Some(label)) if label != STABLE || entry.labels.contains_key(STABLE) => {
                labelled(label)?
            }
            (VersionChoice::Default, _) => entry.default.ok_or_else(|| entry.no_versions(name))?,
        };
        match entry.backends.get(&version) {
            Some(backend) => Ok(Routed::Ready(backend.clone())),
            None if entry.cold.contains_key(&version) => Ok(Routed::Cold(version)),
            None => Err(entry.not_served(name, version)),
        }
    }

    /// The split that decides who answers this reference. One that names a version or a label is split by nobody.
    pub fn split(&self, model: &ModelRef) -> Option<&Arc<Split>> {
        if self.routes.is_empty() || model.version != VersionChoice::Default {
            return None;
        }
        let route = self.routes.get(&model.name)?;
        // A route that took the name of a model which came later gives way.
        let is_itself = route.model == model.name || !self.models.contains_key(&model.name);
        route.split.as_ref().filter(|_| is_itself)
    }

    /// The entry of a model by its plain name.
    ///
    /// # Errors
    /// `UnknownModel` with the nearest known name.
    pub fn model(&self, name: &str) -> Result<&Arc<ModelEntry>> {
        self.models.get(name).ok_or_else(|| Error::UnknownModel {
            model: name.to_owned(),
            nearest: nearest(name, self.models.keys().chain(self.routes.keys()).map(String::as_str)),
        })
    }

    /// The entry of the model that answers under a name: its own, or a route's.
    ///
    /// # Errors
    /// `UnknownModel`.
    pub fn answering<'a>(&'a self, name: &'a str) -> Result<&'a Arc<ModelEntry>> {
        self.target(name).map(|(_, entry, _)| entry)
    }

    /// The name of the model that answers under a name; the name itself where nobody does.
    pub fn model_behind<'a>(&'a self, name: &'a str) -> &'a str {
        self.target(name).map_or(name, |(model, _, _)| model)
    }

    /// The model behind a name, and the label that the name stands for if it is a route's. A model's own name wins.
    fn target<'a>(&'a self, name: &'a str) -> Result<(&'a str, &'a Arc<ModelEntry>, Option<&'a str>)> {
        if let Some(entry) = self.models.get(name) {
            return Ok((name, entry, None));
        }
        match self.routes.get(name) {
            Some(route) => Ok((&route.model, self.model(&route.model)?, Some(&route.label))),
            None => self.model(name).map(|entry| (name, entry, None)),
        }
    }

    /// What the versions count that a reference selects: all in service for the bare name, else the one named. Loads
    /// nothing: a version that never was loaded has counted nothing.
    ///
    /// # Errors
    /// As `route`.
    pub fn counted(&self, model: &ModelRef) -> Result<Vec<Counted>> {
        let (name, entry, _) = self.target(&model.name)?;
        let version = match (&model.version, self.route(model)) {
            (VersionChoice::Default, _) => return Ok(entry.counted(name).collect()),
            (_, routed) => routed?.version(),
        };
        Ok(entry.counted(name).filter(|counted| counted.version == version).collect())
    }

    /// Every split, by its route.
    pub fn splits(&self) -> impl Iterator<Item = &Arc<Split>> {
        self.routes.values().filter_map(|route| route.split.as_ref())
    }

    /// What every version in service counts, by model and version.
    pub fn all_counted(&self) -> impl Iterator<Item = Counted> {
        self.models.iter().flat_map(|(name, entry)| entry.counted(name))
    }

    /// Every backend, by model and version.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.models.values().flat_map(|entry| entry.backends.values())
    }
}

impl Routed {
    pub fn version(&self) -> u64 {
        match self {
            Self::Ready(backend) => backend.servable.id.version,
            Self::Cold(version) => *version,
        }
    }
}

impl ModelEntry {
    /// The versions that requests may name, ascending: the ready ones and the cold.
    pub fn in_service(&self) -> BTreeSet<u64> {
        self.backends.keys().chain(self.cold.keys()).copied().collect()
    }

    fn counted(&self, name: &str) -> impl Iterator<Item = Counted> {
        let stats = |version: u64| match self.backends.get(&version) {
            Some(backend) => backend.servable.stats.clone(),
            None => self.cold.get(&version).cloned().flatten().unwrap_or_default(),
        };
        self.in_service().into_iter().map(move |version| Counted {
            model: name.to_owned(),
            version,
            stats: stats(version),
        })
    }

    /// Whether a reader of the snapshot could not tell the two apart.
    pub fn is_same(&self, other: &Self) -> bool {
        let same_backends = self.backends.len() == other.backends.len()
            && self.backends.iter().zip(&other.backends).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1));
        same_backends
            && self.default == other.default
            && self.labels == other.labels
            && self.cold.keys().eq(other.cold.keys())
            && self.statuses == other.statuses
            && self.rollout == other.rollout
            && self.fault == other.fault
    }

    fn not_served(&self, model: &str, version: u64) -> Error {
        match self.statuses.get(&version) {
            None => Error::UnknownVersion {
                model: model.to_owned(),
                version: version.to_string(),
                ready: self.in_service().into_iter().collect(),
            },
            Some(status) => {
                let reason = match status.reason.as_str() {
                    "" => format!("it is {}", status.state.name()),
                    reason => format!("it is {}: {reason}", status.state.name()),
                };
                Error::NotReady { model: model.to_owned(), version, reason }
            }
        }
    }

    fn no_versions(&self, model: &str) -> Error {
        let failed = self.statuses.iter().rev().find(|(_, status)| status.state == State::Failed);
        let dangling = self.labels.iter().find(|(_, version)| !self.statuses.contains_key(version));
        let reason = match (failed, dangling) {
            _ if !self.fault.is_empty() => self.fault.clone(),
            (_, Some((label, version))) => {
                format!("label '{label}' names version {version}, which is not in the repository")
            }
            (Some((version, status)), None) => format!("version {version} failed: {}", status.reason),
            (None, None) if self.statuses.values().any(|s| matches!(s.state, State::Loading | State::Validating)) => {
                "it is loading".to_owned()
            }
            (None, None) => String::new(),
        };
        Error::NoVersions { model: model.to_owned(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DataType;
    use crate::testing::{self, FunctionModel};

    #[test]
    fn nobody_answers_for_a_label_whose_version_is_gone_and_the_error_says_so() {
        let model = FunctionModel::identity(&[("x", DataType::Fp32, 1)]);
        let serving = testing::serving(&[("m", 1, model)]);
        let entry = ModelEntry {
            default: None,
            labels: [("stable".to_owned(), 2)].into(),
            ..ModelEntry::clone(serving.model("m").unwrap())
        };
        let serving = Serving { models: [("m".to_owned(), Arc::new(entry))].into(), ..Serving::default() };
        let failure = serving.route(&ModelRef::parse("m", "").unwrap()).unwrap_err();
        assert!(
            failure.to_string().ends_with("label 'stable' names version 2, which is not in the repository"),
            "{failure}"
        );
        assert!(serving.route(&ModelRef::parse("m", "1").unwrap()).is_ok());
    }

    /// `fraud` with versions 1 to 3, label `checkout` on 2, behind the further names `shop` (of that label), `bare` (of
    /// `stable`), `odd` (of a label that is not there) and `gone` (of no model).
    fn with_routes() -> Serving {
        let model = || FunctionModel::identity(&[("x", DataType::Fp32, 1)]);
        let mut serving = testing::serving(&[("fraud", 1, model()), ("fraud", 2, model()), ("fraud", 3, model())]);
        Arc::make_mut(serving.models.get_mut("fraud").unwrap()).labels.insert("checkout".to_owned(), 2);
        let route = |model: &str, label: &str| {
            Arc::new(Route { model: model.to_owned(), label: label.to_owned(), split: None })
        };
        serving.routes = [
            ("shop".to_owned(), route("fraud", "checkout")),
            ("bare".to_owned(), route("fraud", "stable")),
            ("odd".to_owned(), route("fraud", "chekout")),
            ("gone".to_owned(), route("frog", "stable")),
            ("fraud".to_owned(), route("frog", "stable")),
        ]
        .into();
        serving
    }

    #[test]
    fn a_route_leads_to_its_models_label_and_a_model_keeps_its_name() {
        let serving = with_routes();
        let version = |name: &str, version: &str| {
            let routed = serving.route(&ModelRef::parse(name, version).unwrap());
            routed.map(|routed| routed.version()).map_err(|error| error.to_string())
        };
        assert_eq!((version("shop", ""), version("bare", ""), version("fraud", "")), (Ok(2), Ok(3), Ok(3)));
        assert_eq!(
            (version("shop", "1"), version("bare@checkout", "")),
            (Ok(1), Ok(2)),
            "what names a version gets it"
        );
        assert!(version("odd", "").unwrap_err().contains("'checkout'"), "{:?}", version("odd", ""));
        assert!(version("gone", "").unwrap_err().contains("'frog'"));
        assert!(version("shpo", "").unwrap_err().contains("did you mean 'shop'"));
        assert_eq!((serving.model_behind("shop"), serving.model_behind("fraud")), ("fraud", "fraud"));
        assert_eq!(serving.counted(&ModelRef::parse("shop", "").unwrap()).unwrap().len(), 3);
        assert_eq!(serving.answering("bare").unwrap().backends.len(), 3);
    }
}
