//! Feedback that came before its prediction was seen, or whose prediction nobody here will see.

use std::collections::{HashMap, VecDeque};

use xxhash_rust::xxh3::xxh3_64;

use super::label::Weight;
use crate::inference::PredictionId;
use crate::prediction_log::feedback::{Feedback, Subject, Value};

/// Pieces of feedback that may wait for the same prediction; of more the last are left out.
const MAX_FOR_ONE: usize = 16;

/// What was told, as far as quality goes by it.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub name: String,
    pub value: Value,
    pub weight: Weight,
    /// Unix times in µs.
    pub event_us: i64,
    pub received_us: i64,
    /// Read from the log: no evidence, as it was that before.
    pub silent: bool,
}

impl Told {
    pub fn of(feedback: &Feedback, silent: bool) -> Self {
        let Feedback { name, value, event_us, received_us, weight, .. } = feedback;
        let (name, value, event_us, received_us) = (name.clone(), value.clone(), *event_us, *received_us);
        Self { name, value, weight: Weight::of(*weight), event_us, received_us, silent }
    }
}

/// Who it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    Prediction(PredictionId),
    /// Hash of the request's id, and the row.
    Request(u64, u32),
}

impl Who {
    pub fn of(subject: &Subject) -> Self {
        match subject {
            Subject::Prediction(id) => Self::Prediction(*id),
            Subject::Request { id, row } => Self::request(id, *row),
        }
    }

    pub fn request(id: &str, row: u32) -> Self {
        Self::Request(xxh3_64(id.as_bytes()), row)
    }
}

/// What waits for its prediction. The oldest makes room.
#[derive(Debug)]
pub struct Early {
    /// With their numbers, which rise.
    waiting: HashMap<Who, Vec<(u64, Told)>>,
    /// What was taken meanwhile stays here until its turn comes.
    order: VecDeque<(Who, u64)>,
    count: usize,
    next: u64,
    max: usize,
    pub dropped: u64,
}

impl Early {
    pub fn new(max: usize) -> Self {
        Self { waiting: HashMap::new(), order: VecDeque::new(), count: 0, next: 0, max, dropped: 0 }
    }

    /// Pieces that wait.
    pub fn pieces(&self) -> usize {
        self.count
    }

    pub fn put(&mut self, who: Who, told: Told) {
        let of_one = self.waiting.entry(who).or_default();
        if of_one.len() >= MAX_FOR_ONE {
            self.dropped += 1;
            return;
        }
        of_one.push((self.next, told));
        self.order.push_back((who, self.next));
        (self.next, self.count) = (self.next + 1, self.count + 1);
        while self.order.len() > self.max {
            let Some((who, number)) = self.order.pop_front() else { break };
            let Some(of_one) = self.waiting.get_mut(&who) else { continue };
            let before = of_one.len();
            of_one.retain(|(of, _)| *of != number);
            let dropped = before - of_one.len();
            if of_one.is_empty() {
                self.waiting.remove(&who);
            }
            self.dropped += dropped as u64;
            self.count -= dropped;
        }
    }

    /// What waited for this row of a request.
    pub fn take(&mut self, id: PredictionId, request: &str, row: u32) -> Vec<Told> {
        if self.waiting.is_empty() {
            return vec![];
        }
        let both = [Who::Prediction(id), Who::request(request, row)];
        let told: Vec<(u64, Told)> = both.iter().filter_map(|who| self.waiting.remove(who)).flatten().collect();
        self.count -= told.len();
        told.into_iter().map(|(_, told)| told).collect()
    }
}

/// Requests that feedback may still name by their own ids: whoever looks these ids up for it may have looked a moment
/// before the request was seen.
const MAX_REQUESTS: usize = 4096;

/// The requests that were seen last, by the hashes of their ids. An id that several had stands for none of them.
#[derive(Debug, Default)]
pub struct RecentRequests {
    /// With the id of the first row, and their number.
    by_hash: HashMap<u64, Option<(PredictionId, u32)>>,
    order: VecDeque<u64>,
}

impl RecentRequests {
    pub fn put(&mut self, request: &str, first: PredictionId, rows: u32) {
        let hash = xxh3_64(request.as_bytes());
        if let Some(known) = self.by_hash.get_mut(&hash) {
            *known = known.filter(|(id, _)| *id == first);
            return;
        }
        self.by_hash.insert(hash, Some((first, rows)));
        self.order.push_back(hash);
        if self.order.len() > MAX_REQUESTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_hash.remove(&oldest);
        }
    }

    pub fn find(&self, who: Who) -> Option<PredictionId> {
        let (hash, row) = match who {
            Who::Prediction(id) => return Some(id),
            Who::Request(hash, row) => (hash, row),
        };
        let (first, rows) = (*self.by_hash.get(&hash)?)?;
        (row < rows).then(|| first.row(row.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_row_of_a_recent_request_is_found_unless_another_had_the_same_id() {
        let id = |random| PredictionId::new(UNIX_EPOCH, 1, 1, 0, random);
        let mut recent = RecentRequests::default();
        (0..3).for_each(|_| recent.put("a", id(1), 3));
        assert_eq!(recent.find(Who::request("a", 2)), Some(id(1).row(2)));
        assert_eq!((recent.find(Who::request("a", 3)), recent.find(Who::request("b", 0))), (None, None));
        recent.put("a", id(100), 1);
        recent.put("a", id(1), 3);
        assert_eq!(recent.find(Who::request("a", 0)), None);
        (0..MAX_REQUESTS).for_each(|n| recent.put(&format!("r{n}"), id(n as u64), 1));
        assert_eq!((recent.by_hash.len(), recent.order.len()), (MAX_REQUESTS, MAX_REQUESTS));
    }
}
