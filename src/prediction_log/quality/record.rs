//! What is kept of a prediction until its label comes, and the bounded map of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::delays::CameWithin;
use super::label::Label;
use super::outcome::Prediction;
use super::plan::Plan;
use crate::inference::PredictionId;
use crate::prediction_log::settings::MAX_SEGMENTS;
use crate::prediction_log::standing_policy::{Implicit, Standing, standing};
use crate::routing::Weights;

/// One instance that was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Number of the group that it counts in.
    pub group: u32,
    /// Places of its values in the group's segments.
    pub segments: [u8; MAX_SEGMENTS],
    pub prediction: Prediction,
    /// What was told of it last.
    pub told: Option<ToldLabel>,
    /// How soon a label came.
    pub came: CameWithin,
    /// When it was shown; Unix time in µs.
    pub exposed_us: Option<i64>,
    /// Its label is in the figures. The first one is evidence too, and stays.
    pub counted: bool,
    /// `None` for a request that does not count in a rollout.
    pub rollout: Option<Box<RolloutShare>>,
}

/// A label, and when it came in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ToldLabel {
    pub label: Label,
    pub received_us: i64,
}

/// A request's part in a rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutShare {
    pub id: Arc<str>,
    pub weights: Weights,
    pub key: Option<u64>,
    /// Hashes of the names of feedback, other than the truth's, that have been evidence.
    pub names: Vec<u64>,
}

impl Record {
    /// Where things stand at a time.
    pub fn standing(&self, plan: &Plan, now_us: i64) -> Standing<Label> {
        let implicit = plan.negative_after_us().map(|after_us| Implicit { after_us, negative: plan.negative().into() });
        standing(self.told.map(|told| told.label), self.exposed_us, implicit, now_us)
    }

    /// When time decides its label, Unix time in µs; `None` where only feedback does, or before it was shown.
    pub fn due_us(&self, plan: &Plan) -> Option<i64> {
        Some(self.exposed_us?.saturating_add(plan.negative_after_us()?))
    }

    /// Takes a label in, unless it came in before the one that is known. Gives whether it did.
    pub fn take(&mut self, told: ToldLabel) -> bool {
        let rank = |told: ToldLabel| (told.received_us, told.label.truth.rank(), told.label.weight);
        let is_newer = self.told.is_none_or(|before| rank(told) > rank(before));
        if is_newer {
            self.told = Some(told);
        }
        is_newer
    }

    /// It was shown then; the first time counts.
    pub fn expose(&mut self, at_us: i64) {
        self.exposed_us = Some(self.exposed_us.map_or(at_us, |before| before.min(at_us)));
    }

    /// About what it takes in memory, its places in the maps among it.
    fn bytes(&self) -> usize {
        const PLACES: usize = 2 * size_of::<PredictionId>() + size_of::<usize>();
        let vector = self.prediction.probabilities.as_ref().map_or(0, |all| size_of_val(&**all));
        let share = self.rollout.as_ref().map_or(0, |_| size_of::<RolloutShare>());
        // The map is up to twice as large as what is in it.
        2 * (size_of::<Self>() + PLACES) + vector + share
    }
}

/// How much is kept of predictions whose labels may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub max_predictions: usize,
    /// Of memory that they take together, by estimate.
    pub max_bytes: usize,
    /// Pieces of feedback that wait for their prediction.
    pub max_early: usize,
    /// Versions and arms whose figures are kept.
    pub max_groups: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_predictions: 2_000_000, max_bytes: 384 << 20, max_early: 100_000, max_groups: 256 }
    }
}

/// Predictions by their id. The oldest make room for new ones.
#[derive(Debug)]
pub struct Records {
    by_id: HashMap<PredictionId, Record>,
    order: VecDeque<PredictionId>,
    bytes: usize,
    bounds: Bounds,
    pub forgotten: u64,
}

impl Records {
    pub fn new(bounds: Bounds) -> Self {
        Self { by_id: HashMap::new(), order: VecDeque::new(), bytes: 0, bounds, forgotten: 0 }
    }

    pub fn held(&self) -> usize {
        self.by_id.len()
    }

    pub fn get(&self, id: PredictionId) -> Option<&Record> {
        self.by_id.get(&id)
    }

    pub fn get_mut(&mut self, id: PredictionId) -> Option<&mut Record> {
        self.by_id.get_mut(&id)
    }

    /// Adds one whose id is not known yet, and gives those that had to make room.
    pub fn insert(&mut self, id: PredictionId, record: Record) -> Vec<(PredictionId, Record)> {
        let mut forgotten = vec![];
        self.bytes += record.bytes();
        self.by_id.insert(id, record);
        self.order.push_back(id);
        while self.by_id.len() > self.bounds.max_predictions || self.bytes > self.bounds.max_bytes {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(record) = self.by_id.remove(&oldest) {
                self.bytes = self.bytes.saturating_sub(record.bytes());
                self.forgotten += 1;
                forgotten.push((oldest, record));
            }
        }
        forgotten
    }
}

/// Predictions whose labels become known at a time.
#[derive(Debug, Default)]
pub struct DueTimes {
    /// By whole seconds, rounded up.
    by_second: BTreeMap<i64, Vec<PredictionId>>,
    count: usize,
}

impl DueTimes {
    pub fn put(&mut self, at_us: i64, id: PredictionId) {
        self.by_second.entry(at_us.div_euclid(1_000_000).saturating_add(1)).or_default().push(id);
        self.count += 1;
    }

    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.count
    }

    /// Those whose time has come.
    pub fn pop(&mut self, now_us: i64) -> Vec<PredictionId> {
        let later = self.by_second.split_off(&now_us.div_euclid(1_000_000).saturating_add(1));
        let due: Vec<PredictionId> = std::mem::replace(&mut self.by_second, later).into_values().flatten().collect();
        self.count -= due.len();
        due
    }

    /// Where more wait than there are predictions, by far: leaves out what is not waited for any more.
    pub fn trim(&mut self, most: usize, is_waiting: impl Fn(PredictionId) -> bool) {
        if self.count <= most.saturating_mul(2) {
            return;
        }
        for ids in self.by_second.values_mut() {
            ids.sort_unstable();
            ids.dedup();
            ids.retain(|id| is_waiting(*id));
        }
        self.by_second.retain(|_, ids| !ids.is_empty());
        self.count = self.by_second.values().map(Vec::len).sum();
    }
}
