//! Commands, and those among them that are answered later: when a look and the loads that follow from it are done.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::actor::Actor;
use super::handle::{Command, Reply};
use super::model::{Model, Stage};
use crate::error::{Error, Result, nearest};
use crate::inference::{name_fault, printable};
use crate::registry::labels::{LabelMove, labels_digest};
use crate::registry::settle::Wholeness;
use crate::store::records::Wanted;

/// How long a load waits for a look, and for files to become whole. The load itself has its own limit of time.
const LOOK_PATIENCE: Duration = Duration::from_secs(10);

/// A command that waits.
pub struct Pending {
    since: Instant,
    model: String,
    wait: Wait,
    reply: Reply,
}

enum Wait {
    /// For a look and its loads.
    Load,
    /// For a version to be ready, so that the label can move to it.
    Label { label: String, version: u64 },
}

impl Actor {
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Load { model, reply } => self.load(model, reply),
            Command::Unload { model, reply } => {
                let result = self.unload(&model);
                self.answer(reply, result);
            }
            Command::SetLabel { model, label, version, by_rollout, reply } => match self.rollout_on(&model) {
                Some(rollout) if !by_rollout => {
                    let refusal = under_way(&model, rollout);
                    self.answer(reply, Err(refusal));
                }
                _ => self.set_label(model, label, version, reply),
            },
            Command::SetSplit { plan, reply } => self.set_split(*plan, reply),
            Command::ClearSplit { route, keep_stable, reply } => self.clear_split(&route, keep_stable, reply),
            Command::Quarantine { id, digest, reason, reply } => {
                let result = self.quarantine(&id, digest, reason);
                self.answer(reply, result);
            }
            Command::ClearQuarantine { model, version, reply } => {
                let result = self.clear_quarantine(&model, version);
                self.answer(reply, result);
            }
            Command::Warm { model, version, reply } => self.warm(&model, version, reply),
        }
    }

    fn load(&mut self, name: String, reply: Reply) {
        self.set_wanted(&name, Wanted::Loaded);
        if let Some(model) = self.models.get_mut(&name) {
            model.wanted = true;
            model.retry_failed();
        }
        self.pending.push(Pending { since: Instant::now(), model: name.clone(), wait: Wait::Load, reply });
        if self.models.contains_key(&name) {
            // Asked for by name, it is loaded now, however lazy its settings are.
            self.wake_all(&name);
            self.reconcile(&name);
        }
        self.scanner.look_now();
    }

    fn unload(&mut self, name: &str) -> Result<()> {
        self.known(name)?;
        if let Some(rollout) = self.rollout_on(name) {
            return Err(under_way(name, rollout));
        }
        self.set_wanted(name, Wanted::Unloaded);
        self.models.get_mut(name).expect("known").wanted = false;
        self.reconcile(name);
        Ok(())
    }

    fn set_wanted(&mut self, name: &str, wanted: Wanted) {
        // A name that no repository has is not remembered: anyone may ask for one.
        if self.models.contains_key(name) {
            self.logged("writing whether the model is wanted", self.records.set_wanted(name, wanted));
            self.wanted.insert(name.to_owned(), wanted);
        }
    }

    fn set_label(&mut self, name: String, label: String, version: Option<u64>, reply: Reply) {
        let waiting = match self.check_label(&name, &label, version) {
            Err(refusal) => return self.answer(reply, Err(refusal)),
            Ok(waiting) => waiting,
        };
        match (version, waiting) {
            (Some(number), true) => {
                let wait = Wait::Label { label, version: number };
                self.pending.push(Pending { since: Instant::now(), model: name.clone(), wait, reply });
                self.wake(&name, number);
                if let Some(model) = self.models.get_mut(&name) {
                    let version = model.versions.get_mut(&number).expect("checked");
                    if matches!(version.stage, Stage::Failed { .. }) {
                        version.stage = Stage::Out;
                    }
                }
                self.reconcile(&name);
            }
            _ => {
                let result = self.move_label(&name, label, version);
                self.answer(reply, result);
            }
        }
    }

    /// Whether the version must be loaded first.
    fn check_label(&self, name: &str, label: &str, version: Option<u64>) -> Result<bool> {
        if let Some(reason) = name_fault(label) {
            return Err(Error::BadName { name: printable(label), reason });
        }
        let model = self.known(name)?;
        let Some(number) = version else {
            return match model.labels().contains_key(label) {
                true => Ok(false),
                false => {
                    let known = model.labels();
                    let nearest = nearest(label, known.keys().map(String::as_str));
                    Err(Error::UnknownLabel { model: name.to_owned(), label: label.to_owned(), nearest })
                }
            };
        };
        let version = self.version(name, number)?;
        if let Some(why) = &version.quarantine {
            let reason = format!("it is quarantined until an operator clears it: {why}");
            return Err(Error::NotReady { model: name.to_owned(), version: number, reason });
        }
        if !version.is_ready() && (!model.wanted || model.gone || !model.settings_known) {
            let reason = match &model.settings_fault {
                Some(fault) => fault.clone(),
                None => "the model is not in service, load it first".to_owned(),
            };
            return Err(Error::NotReady { model: name.to_owned(), version: number, reason });
        }
        Ok(!version.is_ready())
    }

    fn move_label(&mut self, name: &str, label: String, version: Option<u64>) -> Result<()> {
        let model = self.models.get_mut(name).expect("checked");
        let moved = LabelMove { version, file: labels_digest(&model.settings.labels) };
        // Written first: a label that was seen to move stays moved after a restart.
        self.records.move_label(name, &label, &moved).map_err(|cause| {
            Error::Internal(format!("the label can't be moved: the state can't be written: {cause}"))
        })?;
        tracing::info!(model = name, label, version, "label moved");
        model.moves.insert(label, moved);
        self.reconcile(name);
        Ok(())
    }

    fn clear_quarantine(&mut self, name: &str, number: u64) -> Result<()> {
        let version = self.version(name, number)?;
        if version.quarantine.is_none() {
            return Err(Error::invalid(format!("version {number} of model '{name}' is not quarantined")));
        }
        self.records
            .clear_quarantine(name, number)
            .map_err(|cause| Error::Internal(format!("the state can't be written: {cause}")))?;
        let version = self.models.get_mut(name).and_then(|model| model.versions.get_mut(&number)).expect("checked");
        version.quarantine = None;
        if matches!(version.stage, Stage::Failed { .. }) {
            version.stage = Stage::Out;
        }
        self.reconcile(name);
        Ok(())
    }

    /// Whether someone waits for this model to be loaded.
    pub(super) fn asked_to_load(&self, name: &str) -> bool {
        self.pending.iter().any(|pending| pending.model == name && matches!(pending.wait, Wait::Load))
    }

    /// Versions that a rollout or a waiting command needs.
    pub(super) fn pinned(&self, name: &str) -> BTreeSet<u64> {
        let pinned = self.pending.iter().filter(|pending| pending.model == name);
        let by_pending = pinned.filter_map(|pending| match pending.wait {
            Wait::Load => None,
            Wait::Label { version, .. } => Some(version),
        });
        by_pending.chain(self.pinned_by_rollouts(name)).collect()
    }

    /// Answers what has waited for long enough.
    pub(super) fn answer_pending(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            if pending.reply.is_closed() {
                continue;
            }
            let result = match &pending.wait {
                Wait::Load => self.load_result(&pending),
                Wait::Label { label, version } => self.label_result(&pending.model, label, *version),
            };
            match result {
                None => self.pending.push(pending),
                Some(result) => self.answer(pending.reply, result),
            }
        }
    }

    /// `None` while there is something to wait for.
    fn load_result(&self, pending: &Pending) -> Option<Result<()>> {
        let name = &pending.model;
        let is_late = pending.since.elapsed() > LOOK_PATIENCE;
        if self.last_look.is_none_or(|(taken, _)| taken < pending.since) {
            let unreadable = || Err(Error::Unavailable("the model repositories can't be read".to_owned()));
            return is_late.then(unreadable);
        }
        let Some(model) = self.models.get(name) else { return Some(self.known(name).map(|_| ())) };
        // Files that never stop changing, of whatever version, don't hold the answer back for ever.
        if model.is_loading() || (model.is_changing() && !is_late) {
            return None;
        }
        let newest_failure = model.versions.iter().rev().find_map(|(&number, version)| match &version.stage {
            Stage::Failed { reason, .. } => Some((number, reason.clone())),
            _ => match (&version.wholeness, &version.quarantine) {
                (_, Some(why)) if !version.is_ready() => Some((number, format!("it is quarantined: {why}"))),
                (Some(Wholeness::Broken(broken)), _) => Some((number, broken.to_string())),
                _ => None,
            },
        });
        Some(match (model.answers, newest_failure) {
            (Some(answers), Some((failed, reason))) if failed > answers => Err(Error::Internal(format!(
                "failed to load '{name}', version {failed}: {reason}; version {answers} goes on serving"
            ))),
            (Some(_), _) => Ok(()),
            (None, failure) => Err(Error::Internal(no_version_text(name, model, failure))),
        })
    }

    fn label_result(&mut self, name: &str, label: &str, number: u64) -> Option<Result<()>> {
        let readiness = self.readiness(name, number)?;
        Some(readiness.and_then(|()| self.move_label(name, label.to_owned(), Some(number))))
    }

    fn known(&self, name: &str) -> Result<&Model> {
        self.models.get(name).ok_or_else(|| Error::UnknownModel {
            model: printable(name),
            nearest: nearest(name, self.models.keys().map(String::as_str)),
        })
    }

    pub(super) fn version(&self, name: &str, number: u64) -> Result<&super::model::Version> {
        let model = self.known(name)?;
        model.versions.get(&number).ok_or_else(|| Error::UnknownVersion {
            model: name.to_owned(),
            version: number.to_string(),
            ready: model
                .versions
                .iter()
                .filter(|(_, version)| version.is_in_service())
                .map(|(&number, _)| number)
                .collect(),
        })
    }
}

/// A change that would pull the ground from under a rollout.
fn under_way(model: &str, rollout: &str) -> Error {
    Error::Conflict(format!("rollout '{rollout}' is under way on model '{model}': promote or abort it first"))
}

fn no_version_text(name: &str, model: &Model, failure: Option<(u64, String)>) -> String {
    let why = match (failure, &model.settings_fault) {
        (_, Some(fault)) => format!(": {fault}"),
        (Some((number, reason)), None) => format!(": version {number}: {reason}"),
        (None, None) => String::new(),
    };
    format!("failed to load '{name}', no version is available{why}")
}
