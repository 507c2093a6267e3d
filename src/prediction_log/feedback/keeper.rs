//! What happens to feedback on its way to the disk: repeats are told apart, predictions found, who answered is credited.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;

use tokio::sync::oneshot;

use super::Judge;
use super::batches::Batches;
use super::credit::Credits;
use super::item::{Feedback, FeedbackId, Subject};
use super::recent::Recent;
use super::requests::RequestIndex;
use super::rows::Row;
use crate::error::{Error, Result};
use crate::inference::PredictionId;
use crate::telemetry::metrics;

/// Items that are remembered in order to know a repeat: at most about 20 MB of them.
pub const MAX_RECENT: usize = 1 << 18;
/// How long feedback on a request that isn't known yet waits for it: its prediction may still be on the way to the log.
pub const EARLY_PATIENCE_US: i64 = 250_000;
/// Items of calls that wait so; beyond it a call does not.
pub const MAX_EARLY_ITEMS: usize = 1 << 16;

/// Where rows of feedback go.
pub trait Sink: Send {
    /// Appends rows of one model, or of no known one, to its segment, at `now_us`, Unix time in µs. They are in it when
    /// this returns, and need not be synced.
    ///
    /// # Errors
    /// The disk's; then none of the rows is in the segment.
    fn append(&mut self, model: Option<&str>, rows: &[&Row], now_us: i64) -> io::Result<()>;

    /// Time passes: syncs and seals what is due at `now_us`, Unix time in µs.
    fn tick(&mut self, now_us: i64);

    /// All rows that arrived before `until_us`, Unix time in µs, were appended or refused; later ones arrive later.
    fn known_until(&mut self, until_us: i64);

    /// Ends every segment and has it sealed. Rows that come later begin new ones.
    fn close_all(&mut self);
}

/// The items of one call, and who waits for them.
#[derive(Debug)]
pub struct Call {
    /// With when they were received on the wire.
    pub items: Vec<Feedback>,
    pub answer: oneshot::Sender<Result<Counts>>,
}

/// What became of a call's items, all of which were sound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Kept, now or before.
    pub accepted: u64,
    /// Those of them whose prediction is not known here.
    pub unknown: u64,
}

/// What a keeper works with.
pub struct Parts {
    pub credits: Credits,
    pub requests: RequestIndex,
    pub batches: Batches,
    pub sink: Box<dyn Sink>,
    pub judge: Box<dyn Judge>,
}

/// The feedback log without its thread.
pub struct Keeper {
    parts: Parts,
    recent: Recent<FeedbackId>,
    /// The newest receipt that was given; no two items share one, so that "the latest" is always one of them.
    last_received_us: i64,
    /// Calls that may name requests which the log has yet to see.
    early: VecDeque<Call>,
    early_items: usize,
    is_failing: bool,
}

/// The new items of some calls, on their way to the disk.
#[derive(Default)]
struct Round {
    /// In the order of receipt, with the number of their group.
    rows: Vec<(Row, usize)>,
    /// By model: rows that are written together.
    groups: BTreeMap<Option<String>, usize>,
    /// Where an item of this round is written.
    seen: HashMap<FeedbackId, usize>,
    repeats: u64,
}

impl Keeper {
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            recent: Recent::new(MAX_RECENT),
            last_received_us: 0,
            early: VecDeque::new(),
            early_items: 0,
            is_failing: false,
        }
    }

    /// Whether calls wait for requests that are not known yet; they are looked at again with the next `take`.
    pub fn has_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// Writes and answers these calls, but for those that are too early.
    pub fn take(&mut self, calls: impl IntoIterator<Item = Call>, now_us: i64) {
        let mut due = vec![];
        self.early_items = 0;
        for call in std::mem::take(&mut self.early).into_iter().chain(calls) {
            if self.is_early(&call, now_us) && self.early_items + call.items.len() <= MAX_EARLY_ITEMS {
                self.early_items += call.items.len();
                self.early.push_back(call);
            } else {
                due.push(call);
            }
        }
        if !due.is_empty() {
            self.write(due, now_us);
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now_us: i64) {
        self.parts.sink.tick(now_us);
        self.last_received_us = self.last_received_us.max(now_us - 1);
        self.parts.sink.known_until(self.last_received_us + 1);
        self.parts.judge.tick(now_us);
    }

    /// Writes and answers what still waits, and has everything sealed.
    pub fn close_all(&mut self, now_us: i64) {
        let early = std::mem::take(&mut self.early);
        self.write(early.into(), now_us);
        self.parts.sink.close_all();
    }

    fn is_early(&self, call: &Call, now_us: i64) -> bool {
        let is_early = |item: &Feedback| {
            // A clock that is set back must not make anybody wait for it.
            let waits_on = now_us.abs_diff(item.received_us) < EARLY_PATIENCE_US.unsigned_abs();
            matches!(item.subject, Subject::Request { .. }) && waits_on && self.prediction(item).is_none()
        };
        call.items.iter().any(is_early)
    }

    fn prediction(&self, item: &Feedback) -> Option<PredictionId> {
        match &item.subject {
            Subject::Prediction(id) => Some(*id),
            Subject::Request { id, row } => self.parts.requests.prediction(id, *row),
        }
    }

    fn write(&mut self, calls: Vec<Call>, now_us: i64) {
        let mut round = Round::default();
        // Each with the groups that it waits for.
        let mut waiting = vec![];
        for call in calls {
            let (mut counts, mut groups) = (Counts::default(), vec![]);
            for item in call.items {
                groups.extend(self.sort(item, now_us, &mut round, &mut counts));
            }
            waiting.push((call.answer, counts, groups));
        }
        let written = self.append(&round, now_us);
        metrics::count_feedback("duplicate", round.repeats);
        self.tell(round, &written);
        for (answer, counts, groups) in waiting {
            let outcome = if groups.iter().all(|group| written[*group]) { Ok(counts) } else { Err(disk_refused()) };
            // Whoever left doesn't want to know.
            _ = answer.send(outcome);
        }
    }

    /// Finds out what an item is about and puts it into the round if it is new; gives the group that holds it.
    fn sort(&mut self, mut item: Feedback, now_us: i64, round: &mut Round, counts: &mut Counts) -> Option<usize> {
        let (id, prediction) = (item.id(), self.prediction(&item));
        // A row that the request did not have is nobody's answer.
        let answered = prediction.filter(|prediction| !self.parts.batches.is_beyond(*prediction));
        let credit = answered.and_then(|prediction| self.parts.credits.of(prediction));
        counts.accepted += 1;
        counts.unknown += u64::from(credit.is_none());
        if self.recent.contains(&id) {
            round.repeats += 1;
            return None;
        }
        if let Some(group) = round.seen.get(&id) {
            round.repeats += 1;
            return Some(*group);
        }
        if let (Subject::Request { id, .. }, Some(prediction)) = (&item.subject, prediction)
            && self.parts.requests.is_hidden(id)
        {
            item.subject = Subject::Prediction(prediction);
        }
        self.last_received_us = now_us.max(self.last_received_us + 1);
        item.received_us = self.last_received_us;
        let next = round.groups.len();
        let group = *round.groups.entry(credit.as_ref().map(|credit| credit.model.clone())).or_insert(next);
        round.seen.insert(id, group);
        round.rows.push((Row { id, feedback: item, prediction, credit }, group));
        Some(group)
    }

    /// Which groups are in their segments now.
    fn append(&mut self, round: &Round, now_us: i64) -> Vec<bool> {
        let mut written = vec![false; round.groups.len()];
        for (model, group) in &round.groups {
            let rows: Vec<&Row> = round.rows.iter().filter(|(_, of)| of == group).map(|(row, _)| row).collect();
            match self.parts.sink.append(model.as_deref(), &rows, now_us) {
                Ok(()) => {
                    written[*group] = true;
                    self.is_failing = false;
                }
                Err(cause) => {
                    if !self.is_failing {
                        tracing::error!(%cause, "feedback can't be written");
                    }
                    self.is_failing = true;
                }
            }
        }
        written
    }

    /// Remembers, counts and judges what was written.
    fn tell(&mut self, round: Round, written: &[bool]) {
        let (mut credited, mut unknown, mut refused) = (0, 0, 0);
        for (row, group) in round.rows {
            if !written[group] {
                refused += 1;
                continue;
            }
            self.recent.insert(row.id);
            match &row.credit {
                Some(_) => credited += 1,
                None => unknown += 1,
            }
            let Row { mut feedback, prediction, credit, .. } = row;
            if let Some(prediction) = prediction {
                feedback.subject = Subject::Prediction(prediction);
            }
            self.parts.judge.judge(&feedback, credit.as_ref());
        }
        metrics::count_feedback("accepted", credited);
        metrics::count_feedback("unknown", unknown);
        metrics::count_feedback("refused", refused);
    }
}

fn disk_refused() -> Error {
    Error::Unavailable("feedback can't be written now: the disk refused it".to_owned())
}

#[cfg(test)]
mod tests;
