//! How many rows the last requests had, by the ids of their predictions: an id beyond them was nobody's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::inference::PredictionId;
use crate::prediction_log::entry::{Entry, Outcome, Witness};
use crate::routing::Arm;

/// The requests that are remembered, by the id of their first row, which begins with its time: the oldest make room.
/// Cloning shares them.
#[derive(Debug, Clone)]
pub struct Batches {
    rows: Arc<Mutex<BTreeMap<PredictionId, u32>>>,
    capacity: usize,
}

impl Batches {
    /// One that remembers so many requests.
    pub fn new(capacity: usize) -> Self {
        Self { rows: Arc::default(), capacity }
    }

    /// Remembers a request that was answered.
    pub fn remember(&self, first: PredictionId, rows: u32) {
        let mut held = self.held();
        held.insert(first, rows);
        if held.len() > self.capacity {
            held.pop_first();
        }
    }

    /// Whether an id counts on from a request that is remembered, beyond its last row. Where nothing is remembered, an id
    /// tells no more than who answered.
    pub fn is_beyond(&self, id: PredictionId) -> bool {
        let before = self.held().range(..=id).next_back().map(|(first, rows)| (*first, *rows));
        let row = before.and_then(|(first, rows)| Some((id.row_of(first)?, rows)));
        row.is_some_and(|(row, rows)| row >= u64::from(rows))
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<PredictionId, u32>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness for Batches {
    fn see(&mut self, entry: &Entry) {
        if entry.outcome == Outcome::Answered && entry.arm != Arm::Shadow {
            self.remember(entry.id, u32::try_from(entry.rows).unwrap_or(u32::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn id(ms: u64, random: u64) -> PredictionId {
        PredictionId::new(UNIX_EPOCH + Duration::from_millis(ms), 1, 1, 0, random)
    }

    #[test]
    fn an_id_behind_the_last_row_of_a_request_is_beyond_it() {
        let batches = Batches::new(10);
        assert!(!batches.is_beyond(id(5, 100)), "nothing is known");
        batches.remember(id(5, 100), 3);
        batches.remember(id(5, 104), 1);
        let beyond: Vec<u64> = (98..108).filter(|random| batches.is_beyond(id(5, *random))).collect();
        assert_eq!(beyond, [103, 105, 106, 107]);
        assert!(!batches.is_beyond(id(6, 103)), "another millisecond");
        assert!(!batches.is_beyond(id(5, 104 + PredictionId::MAX_ROWS)), "no request has so many rows");
    }

    #[test]
    fn the_oldest_requests_are_forgotten() {
        let batches = Batches::new(2);
        (1..=3).for_each(|ms| batches.remember(id(ms, 100), 1));
        assert_eq!([1, 2, 3].map(|ms| batches.is_beyond(id(ms, 101))), [false, true, true]);
    }
}
