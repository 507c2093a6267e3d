//! The compute threads of the process: one for each core of the budget, shared by all pools.
//!
//! A pool has no threads. It has work, and leave to hold so many cores at the same time; a free core takes the turn of
//! whichever pool comes next by [`share_policy`](super::share_policy). So the runs of all models together never take
//! more cores than the budget, a pool grows and shrinks by changing a number, and an idle model costs no thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::share_policy::{Candidate, Choice, choose, rejoin};

/// How nice compute threads are: a thread that reads or refuses a request takes microseconds and must not wait for the
/// slice of one that computes for milliseconds.
const NICE: i32 = 5;

/// Work that comes in turns.
pub trait Turns: Send + Sync {
    /// Runs the next batch, if there is one. Asks for a further turn ([`Cores::wake`]) as soon as it knows that there is
    /// more to do, so that another core can begin.
    fn turn(&self) -> Turn;

    /// What it counted since it was made.
    fn usage(&self) -> Usage;

    /// Says how many cores it may hold from now on, and how many it gets where work waits all the time.
    fn resized(&self, workers: u32, parallelism: f64);
}

/// What a pool counts by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// The bounds of its allotment.
    pub min_workers: u32,
    pub max_workers: u32,
    /// Requests that wait now.
    pub waiting: usize,
    /// Requests that were taken out of the queue to be run, and how long they had waited in all.
    pub taken: u64,
    pub waited_s: f64,
    /// Time spent in runs on I/O threads.
    pub inline_s: f64,
}

/// What the schedule counts of a pool since it entered, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CoreTime {
    /// Of cores in its turns, those under way included.
    pub busy_s: f64,
    /// During which it had work that no core had begun.
    pub wanted_s: f64,
    /// During which that was because it held all the cores that it may.
    pub starved_s: f64,
}

/// One pool at one moment.
pub struct Sample {
    /// Never used twice.
    pub id: u64,
    pub turns: Arc<dyn Turns>,
    pub workers: u32,
    pub time: CoreTime,
}

/// What a turn found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Done,
    /// There is work, but it is not due before this time has passed.
    Later(Duration),
}

/// The compute threads. They end when the last handle is dropped and no work is due.
pub struct Cores {
    shared: Arc<Shared>,
}

struct Shared {
    schedule: Mutex<Schedule>,
    changed: Condvar,
    budget: u32,
}

#[derive(Default)]
struct Schedule {
    slots: Vec<Option<Slot>>,
    /// Slots that have work.
    ready: Vec<usize>,
    /// The core time of the pool that had the last turn, the most so far.
    turn_s: f64,
    asleep: u32,
    entered: u64,
    closed: bool,
}

/// One pool's place in the schedule.
struct Slot {
    id: u64,
    turns: Arc<dyn Turns>,
    /// Core time for the sharing; what idleness would have saved up is added.
    used_s: f64,
    time: CoreTime,
    /// Up to when `time` counts.
    counted: Instant,
    running: u32,
    workers: u32,
    wants: bool,
    not_before: Option<Instant>,
    gone: bool,
}

/// A pool's handle on its place, which [`Place::leave`] gives up once its last turn is done.
pub struct Place {
    shared: Arc<Shared>,
    slot: usize,
}

impl Cores {
    /// Starts `budget` threads.
    ///
    /// # Errors
    /// The operating system's, when a thread can't be started.
    pub fn start(budget: u32) -> std::io::Result<Arc<Self>> {
        let budget = budget.max(1);
        let shared = Arc::new(Shared { schedule: Mutex::default(), changed: Condvar::new(), budget });
        let cores = Arc::new(Self { shared: shared.clone() });
        for core in 0..budget {
            let shared = shared.clone();
            thread::Builder::new().name(format!("core {core}")).spawn(move || {
                // Of this thread alone. Where it is not allowed, runs weigh as much as everything else.
                let _ = rustix::process::setpriority_process(None, NICE);
                shared.work();
            })?;
        }
        Ok(cores)
    }

    /// Cores that runs may take, all together.
    pub fn budget(&self) -> u32 {
        self.shared.budget
    }

    /// Enters a pool that may hold `workers` cores at the same time. `turns` is made with the place it gets.
    pub fn enter<T: Turns + 'static>(&self, workers: u32, turns: impl FnOnce(Place) -> Arc<T>) -> Arc<T> {
        let mut schedule = self.shared.lock();
        let slot = schedule.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            schedule.slots.push(None);
            schedule.slots.len() - 1
        });
        let turns = turns(Place { shared: self.shared.clone(), slot });
        schedule.entered += 1;
        schedule.slots[slot] = Some(Slot {
            id: schedule.entered,
            turns: turns.clone(),
            used_s: 0.0,
            time: CoreTime::default(),
            counted: Instant::now(),
            running: 0,
            workers,
            wants: false,
            not_before: None,
            gone: false,
        });
        turns
    }

    /// Every pool as it is now.
    pub fn samples(&self) -> Vec<Sample> {
        let mut schedule = self.shared.lock();
        let now = Instant::now();
        let sample = |slot: &mut Slot| {
            slot.count(now);
            Sample { id: slot.id, turns: slot.turns.clone(), workers: slot.workers, time: slot.time }
        };
        schedule.slots.iter_mut().flatten().filter(|slot| !slot.gone).map(sample).collect()
    }

    /// Sets how many cores a pool may hold at the same time.
    pub fn resize(&self, id: u64, workers: u32) {
        let mut schedule = self.shared.lock();
        let slot = schedule.slots.iter_mut().flatten().find(|slot| slot.id == id);
        if let Some(slot) = slot {
            slot.count(Instant::now());
            slot.workers = workers;
        }
        drop(schedule);
        self.shared.changed.notify_all();
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Place {
    /// Says that there is work to do now.
    pub fn wake(&self) {
        let mut schedule = self.shared.lock();
        schedule.want(self.slot, None);
        let wake = schedule.asleep > 0;
        drop(schedule);
        if wake {
            self.shared.changed.notify_one();
        }
    }

    /// Cores that the pool may hold, those that it holds, and the core time that it has used, in seconds.
    pub fn reading(&self) -> (u32, u32, f64) {
        let mut schedule = self.shared.lock();
        let Some(slot) = schedule.slots[self.slot].as_mut() else { return (0, 0, 0.0) };
        slot.count(Instant::now());
        (slot.workers, slot.running, slot.time.busy_s)
    }

    /// Gives the place up once no turn of it runs.
    pub fn leave(&self) {
        let mut schedule = self.shared.lock();
        let turns = schedule.retire(self.slot);
        drop(schedule);
        // Whatever it holds is freed outside the lock.
        drop(turns);
    }
}

impl Shared {
    /// One thread's life.
    fn work(&self) {
        let mut schedule = self.lock();
        loop {
            let now = Instant::now();
            let candidates = schedule.ready.iter().filter_map(|&index| schedule.candidate(index));
            schedule = match choose(candidates, now) {
                Choice::Run(slot) => {
                    let turns = schedule.begin(slot);
                    if schedule.asleep > 0 && !schedule.ready.is_empty() {
                        self.changed.notify_one();
                    }
                    drop(schedule);
                    // The engine catches its own panics; this is for one in our code, which must not cost a core.
                    let turn = catch_unwind(AssertUnwindSafe(|| turns.turn()));
                    drop(turns);
                    let spent = now.elapsed();
                    let (schedule, left) = self.end(slot, turn.unwrap_or(Turn::Done), spent);
                    match left {
                        None => schedule,
                        Some(left) => {
                            drop(schedule);
                            drop(left);
                            self.lock()
                        }
                    }
                }
                _ if schedule.closed => return,
                Choice::Wait(time) => self.sleep(schedule, Some(time)),
                Choice::Sleep => self.sleep(schedule, None),
            };
        }
    }

    /// Ends a turn; a place that was given up meanwhile comes back to be freed.
    fn end(&self, slot: usize, turn: Turn, spent: Duration) -> (MutexGuard<'_, Schedule>, Option<Arc<dyn Turns>>) {
        let mut schedule = self.lock();
        let entry = schedule.slots[slot].as_mut().expect("a slot with a turn stays");
        entry.count(Instant::now());
        entry.running -= 1;
        entry.used_s += spent.as_secs_f64();
        let gone = entry.gone;
        if let Turn::Later(time) = turn {
            schedule.want(slot, Some(Instant::now() + time));
        }
        let left = if gone { schedule.retire(slot) } else { None };
        (schedule, left)
    }

    fn sleep<'a>(&self, mut schedule: MutexGuard<'a, Schedule>, time: Option<Duration>) -> MutexGuard<'a, Schedule> {
        schedule.asleep += 1;
        let mut schedule = match time {
            None => self.changed.wait(schedule).unwrap_or_else(PoisonError::into_inner),
            Some(time) => self.changed.wait_timeout(schedule, time).unwrap_or_else(PoisonError::into_inner).0,
        };
        schedule.asleep -= 1;
        schedule
    }

    fn lock(&self) -> MutexGuard<'_, Schedule> {
        // Turns run outside the lock, and nothing else panics.
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Schedule {
    fn candidate(&self, index: usize) -> Option<Candidate> {
        let slot = self.slots[index].as_ref()?;
        let Slot { used_s, running, workers, not_before, .. } = *slot;
        Some(Candidate { slot: index, used_s, running, workers, not_before })
    }

    /// Marks a slot as having work that is due now, or at `not_before`.
    fn want(&mut self, index: usize, not_before: Option<Instant>) {
        let Some(slot) = self.slots[index].as_mut() else { return };
        if slot.wants {
            // Work that came since is not kept waiting by a delay that was found before.
            slot.not_before = slot.not_before.and(not_before);
            return;
        }
        slot.count(Instant::now());
        slot.wants = true;
        slot.not_before = not_before;
        if slot.running == 0 {
            slot.used_s = rejoin(slot.used_s, self.turn_s);
        }
        self.ready.push(index);
    }

    fn begin(&mut self, index: usize) -> Arc<dyn Turns> {
        self.ready.retain(|&ready| ready != index);
        let slot = self.slots[index].as_mut().expect("chosen among these slots");
        self.turn_s = self.turn_s.max(slot.used_s);
        slot.count(Instant::now());
        slot.wants = false;
        slot.running += 1;
        slot.turns.clone()
    }

    fn retire(&mut self, index: usize) -> Option<Arc<dyn Turns>> {
        let slot = self.slots[index].as_mut()?;
        slot.gone = true;
        if slot.running > 0 {
            return None;
        }
        self.ready.retain(|&ready| ready != index);
        self.slots[index].take().map(|slot| slot.turns)
    }
}

impl Slot {
    /// Counts the time since the last change.
    fn count(&mut self, now: Instant) {
        let passed_s = now.saturating_duration_since(self.counted).as_secs_f64();
        self.counted = now;
        self.time.busy_s += passed_s * f64::from(self.running);
        // Work that waits for its batch to fill wants no core yet.
        if self.wants && self.not_before.is_none_or(|due| due <= now) {
            self.time.wanted_s += passed_s;
            if self.running >= self.workers.max(1) {
                self.time.starved_s += passed_s;
            }
        }
    }
}

#[cfg(test)]
mod tests;
