//! Which predictions a request's id stands for: a bounded memory of the last requests.

use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::inference::PredictionId;
use crate::prediction_log::entry::{Entry, Outcome, Witness};
use crate::routing::Arm;

/// Ids of requests that are remembered: at most about 16 MB of them.
pub const MAX_REQUESTS: usize = 1 << 18;

/// Ids of requests and the rows that they stand for. Cloning shares it.
#[derive(Debug, Clone)]
pub struct RequestIndex {
    held: Arc<Mutex<Held>>,
    /// Hashes are of no use to who wants two ids to meet.
    seed: u64,
}

/// The requests lie in the order in which they came, so that a new one is written over the oldest and only the small table
/// is met at random: this is on the way of every row to the disk, and the caches are the requests' own.
#[derive(Debug)]
struct Held {
    capacity: usize,
    requests: Vec<Request>,
    /// Place of the oldest, once there are as many as there may be.
    oldest: usize,
    /// Places by key.
    places: HashTable<u32>,
}

#[derive(Debug)]
struct Request {
    key: u128,
    rows: Rows,
}

/// What one id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    One {
        first: PredictionId,
        rows: u32,
        /// The model's rules keep the request's id off the disk.
        hidden: bool,
    },
    /// Several requests had the id.
    Several,
}

impl RequestIndex {
    /// One that remembers so many ids.
    pub fn new(capacity: usize) -> Self {
        let held = Held { capacity, requests: Vec::new(), oldest: 0, places: HashTable::new() };
        Self { held: Arc::new(Mutex::new(held)), seed: fastrand::u64(..) }
    }

    /// Remembers a request that was answered.
    pub fn remember(&self, request: &str, first: PredictionId, rows: u32) {
        self.remember_as(request, Rows::One { first, rows, hidden: false });
    }

    fn remember_as(&self, request: &str, rows: Rows) {
        let key = self.key(request);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remember(key, rows);
    }

    /// The prediction of a request's row; `None` if the request is not remembered, if it has no such row, or if several
    /// requests had the same id, so that none of them can be meant.
    pub fn prediction(&self, request: &str, row: u32) -> Option<PredictionId> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.rows(self.key(request))? {
            Rows::One { first, rows, .. } if row < *rows => Some(first.row(u64::from(row))),
            _ => None,
        }
    }

    /// Whether the model that answered has the request's id redacted in its rows.
    pub fn is_hidden(&self, request: &str) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(held.rows(self.key(request)), Some(Rows::One { hidden: true, .. }))
    }

    fn key(&self, request: &str) -> u128 {
        xxh3_128_with_seed(request.as_bytes(), self.seed)
    }
}

impl Held {
    fn rows(&self, key: u128) -> Option<&Rows> {
        let place = self.places.find(short(key), |&place| self.requests[place as usize].key == key)?;
        Some(&self.requests[*place as usize].rows)
    }

    fn remember(&mut self, key: u128, rows: Rows) {
        let Self { capacity, requests, oldest, places } = self;
        if let Some(&known) = places.find(short(key), |&place| requests[place as usize].key == key) {
            requests[known as usize].rows = Rows::Several;
            return;
        }
        let request = Request { key, rows };
        let place = if requests.len() < *capacity {
            requests.push(request);
            requests.len() - 1
        } else {
            let place = *oldest;
            let gone = std::mem::replace(&mut requests[place], request).key;
            if let Ok(entry) = places.find_entry(short(gone), |&other| other as usize == place) {
                entry.remove();
            }
            *oldest = (place + 1) % *capacity;
            place
        };
        places.insert_unique(short(key), place as u32, |&place| short(requests[place as usize].key));
    }
}

/// A key is a hash already, under a seed that nobody knows.
fn short(key: u128) -> u64 {
    key as u64
}

impl Witness for RequestIndex {
    /// Takes in what a client may later tell of: answers that it got, by its own id and by that of the header.
    fn see(&mut self, entry: &Entry) {
        if entry.outcome != Outcome::Answered || entry.arm == Arm::Shadow {
            return;
        }
        let hidden = entry.version.settings.redact.contains_key("request_id");
        let rows = Rows::One { first: entry.id, rows: u32::try_from(entry.rows).unwrap_or(u32::MAX), hidden };
        let header = entry.request_id.as_str();
        self.remember_as(header, rows);
        if !entry.client_id.is_empty() && entry.client_id != header {
            self.remember_as(&entry.client_id, rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn id(random: u64) -> PredictionId {
        PredictionId::new(UNIX_EPOCH, 1, 1, 0, random)
    }

    #[test]
    fn an_id_that_a_models_rules_hide_is_known_as_such() {
        let index = RequestIndex::new(10);
        index.remember("a", id(1), 1);
        index.remember_as("b", Rows::One { first: id(2), rows: 1, hidden: true });
        assert!(!index.is_hidden("a") && index.is_hidden("b") && !index.is_hidden("c"));
        assert_eq!(index.prediction("b", 0), Some(id(2)));
    }

    #[test]
    fn a_row_of_a_request_is_found_by_the_requests_id() {
        let index = RequestIndex::new(10);
        index.remember("a", id(100), 3);
        index.remember("b", id(200), 1);
        assert_eq!(index.prediction("a", 2), Some(id(102)));
        assert_eq!(index.prediction("b", 0), Some(id(200)));
        assert_eq!(index.prediction("b", 1), None, "it has one row");
        assert_eq!(index.prediction("c", 0), None);
    }

    #[test]
    fn an_id_that_several_requests_had_stands_for_none_of_them() {
        let index = RequestIndex::new(10);
        index.remember("1", id(100), 1);
        index.remember("1", id(200), 1);
        assert_eq!(index.prediction("1", 0), None);
        index.remember("1", id(300), 1);
        assert_eq!(index.prediction("1", 0), None);
    }

    #[test]
    fn the_oldest_requests_are_forgotten() {
        let index = RequestIndex::new(2);
        for (request, random) in [("a", 1), ("b", 2), ("c", 3)] {
            index.remember(request, id(random), 1);
        }
        assert_eq!(index.prediction("a", 0), None);
        assert_eq!(index.prediction("b", 0), Some(id(2)));
        assert_eq!(index.held.lock().unwrap().places.len(), 2);
    }
}
