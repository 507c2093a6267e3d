//! Routes whose traffic a rollout splits: the versions it names stay in memory, and each arm has a queue of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::actor::Actor;
use super::handle::Reply;
use super::model::{Ready, Stage};
use crate::error::{Error, Result};
use crate::registry::digest::Digest;
use crate::registry::model_config::ModelSettings;
use crate::registry::settle::Wholeness;
use crate::registry::version_policy::STABLE;
use crate::routing::{Arm, Route, Split, SplitPlan};
use crate::servable::{Servable, ServableId};
use crate::store::records::Quarantine;

/// A split that was asked for.
pub struct Traffic {
    plan: SplitPlan,
    /// `None` until both versions are ready.
    split: Option<Arc<Split>>,
    /// Whoever asked for it, until it is there.
    waiting: Option<Reply>,
}

/// A version that stays loaded for a while after its rollout.
pub struct Kept {
    model: String,
    version: u64,
    until: Instant,
}

impl Traffic {
    /// One that nobody waits for, by its route.
    pub fn waiting(plan: SplitPlan) -> (String, Self) {
        (plan.route.clone(), Self { plan, split: None, waiting: None })
    }
}

impl Actor {
    /// Splits a route's traffic as soon as both versions are ready.
    pub(super) fn set_split(&mut self, plan: SplitPlan, reply: Reply) {
        if let Err(refusal) = self.check_split(&plan) {
            let is_starting = self.is_starting();
            match self.traffic.get_mut(&plan.route) {
                // What an earlier process split is asked for again before the repositories were looked at.
                Some(restored) if restored.plan.rollout == plan.rollout && is_starting => {
                    restored.waiting = Some(reply);
                }
                _ => self.answer(reply, Err(refusal)),
            }
            return;
        }
        let (model, versions) = (plan.model.clone(), [plan.stable, plan.candidate]);
        self.traffic.insert(plan.route.clone(), Traffic { plan, split: None, waiting: Some(reply) });
        for number in versions {
            self.wake(&model, number);
            let version = self.version_mut(&model, number);
            if matches!(version.stage, Stage::Failed { .. }) {
                version.stage = Stage::Out;
            }
        }
        self.reconcile(&model);
    }

    fn check_split(&self, plan: &SplitPlan) -> Result<()> {
        if let Some(other) = self.traffic.get(&plan.route).filter(|other| other.plan.rollout != plan.rollout) {
            let (route, rollout) = (&plan.route, &other.plan.rollout);
            return Err(Error::Conflict(format!("route '{route}' is split by rollout '{rollout}' already")));
        }
        for number in [plan.stable, plan.candidate] {
            let version = self.version(&plan.model, number)?;
            if let Some(why) = version.quarantine.as_ref().filter(|_| !version.is_ready()) {
                let reason = format!("it is quarantined until an operator clears it: {why}");
                return Err(Error::NotReady { model: plan.model.clone(), version: number, reason });
            }
        }
        Ok(())
    }

    /// Gives a route's traffic back to its label, and its versions to their policy.
    pub(super) fn clear_split(&mut self, route: &str, keep_stable: Duration, reply: Reply) {
        if let Some(Traffic { plan, .. }) = self.traffic.remove(route) {
            self.unpublished.routes = true;
            if let Some(until) = Instant::now().checked_add(keep_stable).filter(|_| !keep_stable.is_zero()) {
                self.kept.push(Kept { model: plan.model.clone(), version: plan.stable, until });
            }
            self.reconcile(&plan.model);
        }
        self.answer(reply, Ok(()));
    }

    /// Leaves versions to their policy whose time is over.
    pub(super) fn let_kept_go(&mut self, now: Instant) {
        let (over, kept) = std::mem::take(&mut self.kept).into_iter().partition(|kept: &Kept| now >= kept.until);
        self.kept = kept;
        for Kept { model, .. } in over {
            self.reconcile(&model);
        }
    }

    /// Takes a version out of service until an operator clears it. One that was not seen yet is met by it when it is.
    pub(super) fn quarantine(&mut self, id: &ServableId, digest: Digest, reason: String) -> Result<()> {
        let since_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let row = Quarantine { digest, reason: reason.clone(), since_ms };
        self.records
            .quarantine(&id.model, id.version, &row)
            .map_err(|cause| Error::Internal(format!("the state can't be written: {cause}")))?;
        let model = self.models.get_mut(&id.model);
        if let Some(version) = model.and_then(|model| model.versions.get_mut(&id.version)) {
            version.quarantine = Some(reason);
        }
        self.reconcile(&id.model);
        Ok(())
    }

    /// Makes the splits whose versions have become ready, and unmakes those whose versions no longer are.
    pub(super) fn settle_traffic(&mut self) {
        let mut changed = vec![];
        for (route, mut traffic) in std::mem::take(&mut self.traffic) {
            let split = self.split(&traffic);
            let same = match (&split, &traffic.split) {
                (None, None) => true,
                (Some(now), Some(before)) => Arc::ptr_eq(now, before),
                _ => false,
            };
            if !same {
                self.unpublished.routes = true;
                changed.push(traffic.plan.model.clone());
            }
            traffic.split = split;
            let readiness = match &traffic.split {
                Some(_) => Some(Ok(())),
                None => self.both_ready(&traffic.plan),
            };
            if let Some(result) = readiness
                && let Some(reply) = traffic.waiting.take()
            {
                self.answer(reply, result);
            }
            self.traffic.insert(route, traffic);
        }
        // The version that answers may have waited for it.
        changed.iter().for_each(|model| self.reconcile(model));
    }

    /// Whether nobody may answer for a model yet: at the start, while the arms of its rollout are not all there, keys
    /// would meet another arm than before.
    pub(super) fn awaits_its_arms(&self, name: &str) -> bool {
        let is_awaited = |traffic: &Traffic| {
            traffic.split.is_none() && traffic.plan.model == name && self.both_ready(&traffic.plan).is_none()
        };
        self.is_starting()
            && self.traffic.get(name).is_some_and(|traffic| is_awaited(traffic) && !self.is_armed(&traffic.plan))
    }

    fn is_armed(&self, plan: &SplitPlan) -> bool {
        [plan.stable, plan.candidate].iter().all(|&number| self.ready(&plan.model, number).is_some())
    }

    /// The split as it should be now: the one there is, where its versions are still the ones in memory.
    fn split(&self, traffic: &Traffic) -> Option<Arc<Split>> {
        let plan = &traffic.plan;
        let (stable, candidate) = (self.ready(&plan.model, plan.stable)?, self.ready(&plan.model, plan.candidate)?);
        let is_of = |servable: &Arc<Servable>, ready: &Ready| Arc::ptr_eq(servable, &ready.backend.servable);
        if let Some(split) = &traffic.split
            && is_of(&split.stable.servable, stable)
            && is_of(&split.candidate.servable, candidate)
        {
            return Some(split.clone());
        }
        let settings = &self.models.get(&plan.model)?.settings;
        let arm = |arm, ready: &Ready| self.backends.arm(arm, &ready.backend, settings);
        Some(Arc::new(Split {
            route: plan.route.as_str().into(),
            rollout: plan.rollout.as_str().into(),
            assignment: plan.assignment.clone(),
            dial: plan.dial.clone(),
            tolerance: plan.tolerance,
            stable: stable.backend.clone(),
            candidate: arm(Arm::Candidate, candidate),
            control: arm(Arm::Control, stable),
            shadow: arm(Arm::Shadow, candidate),
        }))
    }

    fn ready(&self, name: &str, number: u64) -> Option<&Ready> {
        match &self.models.get(name)?.versions.get(&number)?.stage {
            Stage::Ready(ready) => Some(ready),
            _ => None,
        }
    }

    fn both_ready(&self, plan: &SplitPlan) -> Option<Result<()>> {
        // Whoever starts a rollout right after the upload waits for the upload to be seen whole, and at the start for
        // the first look at the repositories.
        let is_awaited = |number: &u64| match self.version(&plan.model, *number) {
            Ok(version) => matches!(version.wholeness, None | Some(Wholeness::Changing(_))),
            Err(_) => self.is_starting(),
        };
        if [plan.stable, plan.candidate].iter().any(is_awaited) {
            return None;
        }
        let results = [plan.stable, plan.candidate].map(|number| self.readiness(&plan.model, number));
        match results {
            [Some(Err(failure)), _] | [_, Some(Err(failure))] => Some(Err(failure)),
            _ => None,
        }
    }

    /// Whether a version that is wanted has become ready, or why it can't; `None` while there is something to wait for.
    pub(super) fn readiness(&self, name: &str, number: u64) -> Option<Result<()>> {
        let reason = match self.version(name, number) {
            Err(gone) => return Some(Err(gone)),
            Ok(version) => match (&version.stage, &version.wholeness) {
                (Stage::Ready(_), _) => return Some(Ok(())),
                (Stage::Failed { reason, .. }, _) => reason.clone(),
                _ if version.load().is_some() => return None,
                (_, Some(Wholeness::Whole)) => return None,
                (_, Some(Wholeness::Broken(broken))) => broken.to_string(),
                (_, Some(Wholeness::Changing(waiting))) => waiting.to_string(),
                (_, None) => "its folder is gone".to_owned(),
            },
        };
        Some(Err(Error::NotReady { model: name.to_owned(), version: number, reason }))
    }

    /// Versions of a model that rollouts name, or named not long ago.
    pub(super) fn pinned_by_rollouts(&self, name: &str) -> BTreeSet<u64> {
        let plans = self.traffic.values().map(|traffic| &traffic.plan).filter(|plan| plan.model == name);
        let kept = self.kept.iter().filter(|kept| kept.model == name).map(|kept| kept.version);
        plans.flat_map(|plan| [plan.stable, plan.candidate]).chain(kept).collect()
    }

    /// The version that a rollout on the model's own name keeps as the one that answers: its stable version, and once it
    /// has moved the label its candidate.
    pub(super) fn held_by_rollout(&self, name: &str) -> Option<u64> {
        let plan = self.traffic.get(name).map(|traffic| &traffic.plan).filter(|plan| plan.model == name)?;
        let promoted = self.models.get(name)?.labels().get(STABLE) == Some(&plan.candidate);
        Some(if promoted { plan.candidate } else { plan.stable })
    }

    /// The rollout under way that this change of a model would pull the ground from.
    pub(super) fn rollout_on(&self, name: &str) -> Option<&str> {
        self.traffic.values().find(|traffic| traffic.plan.model == name).map(|traffic| traffic.plan.rollout.as_str())
    }

    /// What is wrong with settings that move a label while a rollout is under way: the API refuses it, and so does this.
    /// The file's labels at the start of the process are none that move.
    pub(super) fn label_moved_under_rollout(&self, name: &str, settings: &ModelSettings) -> Option<String> {
        let (rollout, model) = (self.rollout_on(name)?, self.models.get(name)?);
        (model.settings_known && model.settings.labels != settings.labels).then(|| {
            format!(
                "labels: they can't change while rollout '{rollout}' is under way; write the file again once it has ended"
            )
        })
    }

    /// The splits of a model's routes.
    pub(super) fn splits_of(&self, name: &str) -> impl Iterator<Item = &Arc<Split>> {
        self.traffic.values().filter(move |traffic| traffic.plan.model == name).filter_map(|t| t.split.as_ref())
    }

    /// What the request's path reads of all routes.
    pub(super) fn routes(&self) -> BTreeMap<String, Arc<Route>> {
        let route = |name: &str, model: &str, label: &str| {
            let split = self.traffic.get(name).and_then(|traffic| traffic.split.clone());
            (name.to_owned(), Arc::new(Route { model: model.to_owned(), label: label.to_owned(), split }))
        };
        let named = self.names.iter().map(|(name, (model, label))| route(name, model, label));
        let by_model =
            self.traffic.iter().filter(|(name, traffic)| traffic.split.is_some() && !self.names.contains_key(*name));
        named.chain(by_model.map(|(name, traffic)| route(name, &traffic.plan.model, STABLE))).collect()
    }
}
