//! What waits for a pool's workers: two classes, in the order of arrival, from which batches are cut.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch_policy::{BatchRules, Decision, Waiting, decide};
use super::request::{NoAnswer, Request};
use crate::inference::Priority;
use crate::signature::BatchAxes;

/// Requests that are looked at for one batch: those behind them wait for the next.
const MAX_LOOKED_AT: usize = 1024;

/// Shapes among them of which each is asked whether its batch is due.
const MAX_SHAPES: usize = 8;

/// The waiting requests of one pool, without bounds of its own: the admission keeps them.
#[derive(Debug, Default)]
pub struct Queue {
    /// High, low, and those that `timeout_action: DELAY` put behind all others.
    lanes: [VecDeque<Entry>; 3],
    bytes: usize,
    /// Rows that each class will have run before a newcomer's turn: at most a batch of each request.
    turn_rows: [usize; 3],
}

const HIGH: usize = 0;
const LOW: usize = 1;
const DELAYED: usize = 2;

#[derive(Debug)]
struct Entry {
    request: Arc<Request>,
    /// Rows before this one were cut already.
    next_row: usize,
    /// Rows of it that run before others have their turn, as they were counted.
    turn: usize,
}

/// Consecutive rows of one request.
#[derive(Debug, Clone)]
pub struct Piece {
    pub request: Arc<Request>,
    pub start: usize,
    pub count: usize,
}

/// What a worker finds.
#[derive(Debug)]
pub enum Cut {
    Batch(Vec<Piece>),
    /// Nothing is due before this time has passed.
    Wait(Duration),
    Empty,
}

/// How rows are cut from a queue.
pub struct Cutting<'a> {
    pub rules: &'a BatchRules,
    /// `None` where rows must not share a run.
    pub axes: Option<&'a BatchAxes>,
    /// How many of so many rows run best together.
    pub best: &'a dyn Fn(usize) -> usize,
    /// How long the run is expected to take.
    pub run: Duration,
    /// After this time of waiting a request is put behind all others.
    pub delay_after: Option<Duration>,
    pub closed: bool,
}

impl Queue {
    /// Puts a request at the end of its class. `whole` is the most rows of it in one run.
    pub fn push(&mut self, request: Arc<Request>, whole: usize) {
        let lane = match request.work.priority {
            Priority::High => HIGH,
            Priority::Low => LOW,
        };
        self.bytes += request.bytes;
        self.put(lane, Entry { request, next_row: 0, turn: 0 }, whole);
    }

    /// Requests that wait.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    /// Whether any of the low class waits.
    pub fn has_low(&self) -> bool {
        !self.lanes[LOW].is_empty()
    }

    /// Bytes of their inputs.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Runs before a newcomer of this class has its turn, and the rows of each, where requests share runs of `cap` rows. A
    /// request's turn is one run at most, also where it has more rows than that.
    pub fn runs_ahead(&self, priority: Priority, cap: usize) -> (usize, usize) {
        let lanes = match priority {
            Priority::High => HIGH..=HIGH,
            Priority::Low => HIGH..=LOW,
        };
        let requests = self.lanes[lanes.clone()].iter().map(VecDeque::len).sum();
        let rows: usize = self.turn_rows[lanes].iter().sum();
        let runs = rows.div_ceil(cap).min(requests);
        (runs, rows.div_ceil(runs.max(1)))
    }

    /// Takes a request out; `None` if it doesn't wait here any more. One of which a part was cut already is only taken out
    /// if `begun` says so.
    pub fn withdraw(&mut self, number: u64, begun: bool) -> Option<Arc<Request>> {
        for lane in 0..self.lanes.len() {
            if let Some(at) = self.lanes[lane].iter().position(|entry| entry.request.number == number) {
                if !begun && self.lanes[lane][at].next_row > 0 {
                    return None;
                }
                let entry = self.remove(lane, at);
                self.bytes -= entry.request.bytes;
                return Some(entry.request);
            }
        }
        None
    }

    /// Takes out the newest of the low class, to make room for a high one.
    pub fn evict_low(&mut self) -> Option<Arc<Request>> {
        let at = self.lanes[LOW].len().checked_sub(1)?;
        let entry = self.remove(LOW, at);
        self.bytes -= entry.request.bytes;
        Some(entry.request)
    }

    /// The rows that run next, if any are due. Requests that are void are answered and dropped on the way. Where the first
    /// may wait for its batch to fill, those of another shape behind it are looked at.
    pub fn cut(&mut self, now: Instant, cutting: &Cutting<'_>) -> Cut {
        self.drop_void(now, cutting);
        let mut heads: Vec<Arc<Request>> = vec![];
        let mut soonest: Option<Duration> = None;
        for lane in 0..self.lanes.len() {
            for at in 0..self.lanes[lane].len().min(MAX_LOOKED_AT) {
                let request = &self.lanes[lane][at].request;
                let is_seen =
                    |head: &Arc<Request>| cutting.axes.is_none_or(|axes| head.shares_a_run_with(request, axes));
                if request.is_void(now) || heads.iter().any(is_seen) {
                    continue;
                }
                let head = request.clone();
                match decide(self.waiting_with(&head, now, cutting), cutting.rules, cutting.best) {
                    Decision::Cut(target) => return Cut::Batch(self.cut_with((lane, at), target, now, cutting)),
                    Decision::Wait(time) => soonest = Some(soonest.map_or(time, |soonest| soonest.min(time))),
                }
                heads.push(head);
                if heads.len() == MAX_SHAPES {
                    return soonest.map_or(Cut::Empty, Cut::Wait);
                }
            }
        }
        soonest.map_or(Cut::Empty, Cut::Wait)
    }

    /// Cuts `target` rows with the request at this place and those that may share its run.
    fn cut_with(
        &mut self,
        (lane, at): (usize, usize),
        target: usize,
        now: Instant,
        cutting: &Cutting<'_>,
    ) -> Vec<Piece> {
        let BatchRules { cap, whole, .. } = *cutting.rules;
        let head = self.lanes[lane][at].request.clone();
        // Where it is not known what sharing a run is worth, a request is torn for its size alone.
        let torn = if whole > cap { whole } else { target };
        let mut pieces = vec![self.take(lane, at, torn, whole)];
        let Some(axes) = cutting.axes.filter(|_| pieces[0].count > 0) else { return pieces };
        let mut room = target.saturating_sub(pieces[0].count);
        for lane in 0..self.lanes.len() {
            let mut at = 0;
            let mut looks = self.lanes[lane].len().min(MAX_LOOKED_AT);
            while room > 0 && looks > 0 {
                looks -= 1;
                let entry = &self.lanes[lane][at];
                // A request that fits into a run is not torn; one that doesn't has its turns by itself.
                let fits = entry.rows() > 0 && entry.rows() <= room && entry.request.number != head.number;
                let is_wanted = !entry.request.is_void(now) && !entry.request.is_settled();
                if fits && is_wanted && head.shares_a_run_with(&entry.request, axes) {
                    let piece = self.take(lane, at, room, whole);
                    room -= piece.count;
                    pieces.push(piece);
                } else {
                    at += 1;
                }
            }
        }
        pieces
    }

    /// The rows that could run together with the head's: enough of them to decide.
    fn waiting_with(&self, head: &Request, now: Instant, cutting: &Cutting<'_>) -> Waiting {
        let cap = cutting.rules.cap;
        let mut rows = 0;
        for entry in self.lanes.iter().flatten().take(MAX_LOOKED_AT) {
            let is_head = entry.request.number == head.number;
            if is_head || cutting.axes.is_some_and(|axes| head.shares_a_run_with(&entry.request, axes)) {
                rows += entry.rows();
            }
            if rows >= cap {
                break;
            }
        }
        let oldest = now.saturating_duration_since(head.admitted);
        let left = head.work.must_start_by(cutting.run).map(|instant| instant.saturating_duration_since(now));
        Waiting { rows: rows.max(1), oldest, slack: left, closed: cutting.closed }
    }

    /// Cuts up to `room` rows from an entry. What is left of it goes to the end of its lane, so that one large request
    /// does not keep the others waiting for all of its rows.
    fn take(&mut self, lane: usize, at: usize, room: usize, whole: usize) -> Piece {
        let mut entry = self.remove(lane, at);
        let rows = entry.rows();
        // Torn only where no run could hold it.
        let count = if rows <= whole { rows } else { room.clamp(1, rows) };
        let piece = Piece { request: entry.request.clone(), start: entry.next_row, count };
        entry.next_row += count;
        if entry.rows() > 0 {
            self.put(lane, entry, whole);
        } else {
            self.bytes -= piece.request.bytes;
        }
        piece
    }

    /// Drops what would run for nobody. A timer does the same at the deadline itself; this is for the moment between.
    fn drop_void(&mut self, now: Instant, cutting: &Cutting<'_>) {
        let whole = cutting.rules.whole;
        for lane in 0..self.lanes.len() {
            while let Some(entry) = self.lanes[lane].front() {
                let request = &entry.request;
                if request.is_void(now) || request.is_settled() || (entry.next_row == 0 && request.work.is_late(now)) {
                    let entry = self.remove(lane, 0);
                    self.bytes -= entry.request.bytes;
                    entry.request.fail(NoAnswer::Expired);
                } else if lane != DELAYED
                    && cutting.delay_after.is_some_and(|after| now.duration_since(request.admitted) >= after)
                {
                    let entry = self.remove(lane, 0);
                    self.put(DELAYED, entry, whole);
                } else {
                    break;
                }
            }
        }
    }

    fn put(&mut self, lane: usize, mut entry: Entry, whole: usize) {
        entry.turn = entry.rows().clamp(1, whole.max(1));
        self.turn_rows[lane] += entry.turn;
        self.lanes[lane].push_back(entry);
    }

    fn remove(&mut self, lane: usize, at: usize) -> Entry {
        let entry = self.lanes[lane].remove(at).expect("callers found it there");
        self.turn_rows[lane] -= entry.turn;
        entry
    }
}

impl Entry {
    fn rows(&self) -> usize {
        self.request.work.rows - self.next_row
    }
}

#[cfg(test)]
mod tests;
