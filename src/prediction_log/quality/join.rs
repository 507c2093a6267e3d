//! Predictions and feedback, brought together in whatever order they come. Pure: the time comes with what is told.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::delays::CameWithin;
use super::early::{Early, RecentRequests, Told, Who};
use super::extract::Instance;
use super::group::{Group, Groups};
use super::label::Label;
use super::outcome::{Truth, is_wrong};
use super::plan::Plan;
use super::record::{Bounds, DueTimes, Record, Records, RolloutShare, ToldLabel};
use crate::inference::PredictionId;
use crate::prediction_log::entry::RolloutPart;
use crate::prediction_log::feedback::Subject;
use crate::prediction_log::standing_policy::Standing;
use crate::routing::{Arm, LabelSample};

/// Names of feedback, besides the truth's, that are evidence of one prediction.
const MAX_NAMES: usize = 4;

/// The instances of a request that was answered.
#[derive(Debug)]
pub struct Sight<'a> {
    pub plan: &'a Arc<Plan>,
    pub model: &'a str,
    pub version: u64,
    pub arm: Arm,
    /// Of the first of the instances, and its row.
    pub id: PredictionId,
    pub row: u32,
    /// As feedback may name it.
    pub request: &'a str,
    /// Unix time in µs.
    pub ended_us: i64,
    pub rollout: Option<&'a RolloutPart>,
    /// Of the request, which may have more of them than are seen here.
    pub rows: u32,
    pub instances: Vec<Instance>,
}

/// The live join of one process.
#[derive(Debug)]
pub struct Join {
    groups: Groups,
    records: Records,
    early: Early,
    requests: RecentRequests,
    due: DueTimes,
    bounds: Bounds,
    /// Unix time in µs; never goes back.
    now_us: i64,
    /// When time first passed here: the start of this process. What is older was another's.
    began_us: i64,
    /// What became known until then was evidence in an earlier process.
    silent_until_us: i64,
    evidence: Vec<(Arc<str>, LabelSample)>,
    /// Feedback whose value the task can't understand.
    unreadable_feedback: u64,
}

/// How full the join is, and what it had to leave out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fill {
    /// Predictions whose labels are waited for or may be revised.
    pub predictions: usize,
    /// Pieces of feedback that wait for their prediction.
    pub early: usize,
    /// Predictions that had to make room: what is told of them later is not in the figures.
    pub forgotten: u64,
    /// Early feedback that had to make room.
    pub dropped: u64,
    /// Feedback whose value the task can't understand.
    pub unreadable: u64,
}

impl Join {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            groups: Groups::new(bounds.max_groups),
            records: Records::new(bounds),
            early: Early::new(bounds.max_early),
            requests: RecentRequests::default(),
            due: DueTimes::default(),
            bounds,
            now_us: i64::MIN,
            began_us: i64::MAX,
            silent_until_us: i64::MIN,
            evidence: vec![],
            unreadable_feedback: 0,
        }
    }

    /// Takes note of predictions. One that is known already is passed over.
    pub fn see(&mut self, sight: Sight<'_>) {
        self.now_us = self.now_us.max(sight.ended_us);
        let number = self.groups.number((sight.model, sight.version, sight.arm), sight.plan);
        let first = sight.id.first_of(sight.row.into());
        self.requests.put(sight.request, first, sight.rows);
        let share = sight.rollout.filter(|part| !part.forced);
        let share = share.map(|part| {
            let RolloutPart { id, weights, key, .. } = part.clone();
            // The instances of one request were assigned together, so that they are one unit.
            let key = key.or_else(|| (sight.rows > 1).then(|| first.hash()));
            Box::new(RolloutShare { id, weights, key, names: vec![] })
        });
        for (at, instance) in sight.instances.into_iter().enumerate() {
            let id = sight.id.row(at as u64);
            if self.records.get(id).is_some() {
                continue;
            }
            let Some(group) = self.groups.get_mut(number) else { continue };
            let is_shown = sight.plan.exposure().is_none();
            let places = group.places(&instance.segments);
            group.since_us = group.since_us.min(sight.ended_us);
            group.until_us = group.until_us.max(sight.ended_us);
            for totals in group.totals_of(places) {
                totals.predicted += 1;
                totals.exposed += u64::from(is_shown);
                totals.unreadable += u64::from(instance.prediction.is_none());
            }
            let Some(prediction) = instance.prediction else { continue };
            let record = Record {
                group: number,
                segments: places,
                prediction,
                told: None,
                came: CameWithin::default(),
                exposed_us: is_shown.then_some(sight.ended_us),
                counted: false,
                rollout: share.clone(),
            };
            group.delays.answered(answered_us(id));
            for (forgotten, record) in self.records.insert(id, record) {
                if let Some(group) = self.groups.get_mut(record.group) {
                    group.delays.forget(answered_us(forgotten), record.came);
                }
            }
            self.settle(id, false);
            let row = sight.row.saturating_add(at as u32);
            for told in self.early.take(id, sight.request, row) {
                self.hear(id, &told);
            }
        }
        let records = &self.records;
        let is_waiting = |id| records.get(id).is_some_and(|record| !record.counted);
        self.due.trim(self.bounds.max_predictions, is_waiting);
    }

    /// Takes in what was told of a prediction, now or, if it is not known yet, once it is.
    pub fn tell(&mut self, subject: &Subject, told: Told) {
        self.now_us = self.now_us.max(told.received_us);
        let who = Who::of(subject);
        match self.requests.find(who).filter(|id| self.records.get(*id).is_some()) {
            Some(id) => self.hear(id, &told),
            None => self.early.put(who, told),
        }
    }

    /// Time passes: what was not told in time is negative.
    pub fn tick(&mut self, now_us: i64) {
        self.now_us = self.now_us.max(now_us);
        self.began_us = self.began_us.min(now_us);
        self.groups.pass(self.now_us);
        for id in self.due.pop(self.now_us) {
            self.settle(id, false);
        }
    }

    /// Whether that was before this process began, Unix time in µs.
    pub fn is_older(&self, at_us: i64) -> bool {
        at_us < self.began_us
    }

    /// What became known until then is no evidence: an earlier process has counted it.
    pub fn silence_until(&mut self, until_us: i64) {
        self.silent_until_us = self.silent_until_us.max(until_us);
    }

    /// Evidence for rollouts, by their ids, since this was asked last.
    pub fn take_evidence(&mut self) -> Vec<(Arc<str>, LabelSample)> {
        std::mem::take(&mut self.evidence)
    }

    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.all()
    }

    pub fn fill(&self) -> Fill {
        Fill {
            predictions: self.records.held(),
            early: self.early.pieces(),
            forgotten: self.records.forgotten,
            dropped: self.early.dropped,
            unreadable: self.unreadable_feedback,
        }
    }

    /// Predictions whose labels time decides.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.due.waiting()
    }

    fn hear(&mut self, id: PredictionId, told: &Told) {
        let Some(record) = self.records.get_mut(id) else { return };
        let Some(group) = self.groups.get_mut(record.group) else { return };
        let plan = group.plan.clone();
        let was_shown = record.exposed_us.is_some();
        if plan.exposure() == Some(told.name.as_str()) {
            record.expose(told.event_us);
        } else {
            let Some(truth) = plan.truth(&told.value) else {
                self.unreadable_feedback += 1;
                return;
            };
            if told.name != plan.settings.feedback {
                self.aside(id, truth, told);
                return;
            }
            // What was answered has been seen.
            record.expose(told.event_us);
            let before = match record.standing(&plan, self.now_us) {
                Standing::Known(before) if record.counted => Some(before),
                _ => None,
            };
            let label = Label { truth, weight: told.weight };
            if record.take(ToldLabel { label, received_us: told.received_us })
                && let Some(before) = before
            {
                group.change(record, before, false);
                group.change(record, label, true);
            }
            if plan.negative_after_us().is_none() {
                group.delays.labelled(answered_us(id), told.received_us, &mut record.came);
            }
        }
        if !was_shown {
            group.totals_of(record.segments).for_each(|totals| totals.exposed += 1);
        }
        self.settle(id, told.silent);
    }

    /// Feedback of another name than the truth's: no figure, but a rollout may go by it.
    fn aside(&mut self, id: PredictionId, truth: Truth, told: &Told) {
        let Some(record) = self.records.get_mut(id) else { return };
        let Some(group) = self.groups.get(record.group) else { return };
        let evidence = evidence(group, record, truth, &told.name);
        let (Some(evidence), Some(share)) = (evidence, record.rollout.as_deref_mut()) else { return };
        let feedback = evidence.1.feedback;
        if share.names.contains(&feedback) || share.names.len() >= MAX_NAMES {
            return;
        }
        share.names.push(feedback);
        if !told.silent {
            self.evidence.push(evidence);
        }
    }

    /// Counts a label that is known, and sees to one that will be.
    fn settle(&mut self, id: PredictionId, silent: bool) {
        let Some(record) = self.records.get_mut(id).filter(|record| !record.counted) else { return };
        let Some(group) = self.groups.get_mut(record.group) else { return };
        let label = match record.standing(&group.plan, self.now_us) {
            Standing::Known(label) => label,
            Standing::Due(at_us) => return self.due.put(at_us, id),
            Standing::Unknown => return,
        };
        group.change(record, label, true);
        record.counted = true;
        let due_us = record.due_us(&group.plan);
        if let Some(due_us) = due_us {
            group.delays.labelled(answered_us(id), due_us, &mut record.came);
        }
        // A label that time alone decided then was known to an earlier process.
        let was_known = due_us.is_some_and(|due_us| due_us <= self.silent_until_us);
        if !silent && !was_known {
            self.evidence.extend(evidence(group, record, label.truth, &group.plan.settings.feedback));
        }
    }
}

/// What a rollout goes by, with its id; `None` for a request that does not count in one, or where nothing can be said.
fn evidence(group: &Group, record: &Record, truth: Truth, name: &str) -> Option<(Arc<str>, LabelSample)> {
    let settings = &group.plan.settings;
    let wrong = is_wrong(settings.task, settings.tolerance, &record.prediction, truth)?;
    let RolloutShare { id, weights, key, .. } = record.rollout.as_deref()?;
    let (arm, feedback, is_truth) = (group.arm, name_hash(name), name == settings.feedback);
    Some((id.clone(), LabelSample { arm, weights: *weights, key: *key, wrong, feedback, is_truth }))
}

/// When a prediction was answered, as its id has it; Unix time in µs.
fn answered_us(id: PredictionId) -> i64 {
    i64::try_from(id.time_ms() * 1000).unwrap_or(i64::MAX)
}

/// How a rollout's check names feedback.
pub fn name_hash(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}
