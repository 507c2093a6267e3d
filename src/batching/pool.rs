//! What waits for one version in one arm, and how much of the machine it may use for it.

mod state;

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use self::state::{State, UseCounts};
use super::admission_policy::{Ahead, Demand, admit};
use super::batch::{Runner, rows_of};
use super::cores::{Cores, Place, Turn, Turns, Usage};
use super::curve::BatchCurve;
use super::inline_policy::{Arrival, BROKEN_PROMISE, may_run_inline, penalty};
use super::queue::{Cut, Cutting, Piece};
use super::request::{Answer, NoAnswer, Outcome, Request, Work, bytes_of};
use super::sizing::{PoolConfig, Sizing};
use super::ticket::Ticket;
use crate::engine::{Model, RunError, Session};
use crate::error::{Error, Overload, ShedCause};
use crate::inference::{Deadline, Priority};
use crate::telemetry::exposition::PoolReading;
use crate::telemetry::stats::ServableStats;

/// A queue, and leave to use the cores. The last waiting requests are answered after it is dropped.
pub struct Pool {
    shared: Arc<Shared>,
    /// The cores stay for as long as a pool may need them.
    _cores: Arc<Cores>,
}

struct Shared {
    name: String,
    model: Arc<dyn Model>,
    only_rows_vary: bool,
    stats: Arc<ServableStats>,
    config: PoolConfig,
    sizing: ArcSwap<Sizing>,
    place: Place,
    /// Whether a turn was asked for that has not begun.
    woken: AtomicBool,
    sessions: Mutex<Vec<Box<dyn Session>>>,
    state: Mutex<State>,
    workers: AtomicU32,
    /// How many cores the pool really gets, in thousandths: what waits is divided by it.
    parallelism_milli: AtomicU32,
    use_counts: UseCounts,
}

impl Pool {
    /// A pool for a model. `name` is the model's, for error texts.
    pub fn new(
        cores: &Arc<Cores>,
        name: &str,
        model: &Arc<dyn Model>,
        stats: &Arc<ServableStats>,
        config: PoolConfig,
    ) -> Self {
        let workers = config.max_workers.min(cores.budget()).max(1);
        let config = PoolConfig { max_workers: workers, min_workers: config.min_workers.min(workers), ..config };
        let sizing = Sizing::new(Arc::new(BatchCurve::unmeasured()), &config, model.signature().batch_axes().is_some());
        let shared = cores.enter(workers, |place| {
            Arc::new(Shared {
                name: name.to_owned(),
                model: model.clone(),
                only_rows_vary: model.signature().only_rows_vary(),
                stats: stats.clone(),
                config,
                sizing: ArcSwap::from_pointee(sizing),
                place,
                woken: AtomicBool::new(false),
                sessions: Mutex::default(),
                state: Mutex::default(),
                workers: AtomicU32::new(workers),
                parallelism_milli: AtomicU32::new(workers * 1000),
                use_counts: UseCounts::default(),
            })
        });
        Self { shared, _cores: cores.clone() }
    }

    /// Whether a request of this class could be taken in now, asked before it is worth decoding.
    ///
    /// # Errors
    /// `Overloaded`.
    pub fn look(&self, priority: Priority, deadline: Deadline, now: Instant) -> Result<(), Error> {
        let shared = &self.shared;
        let state = shared.lock();
        let demand = Demand {
            priority,
            bytes: 0,
            run_s: 0.0,
            left: deadline.instant().map(|instant| instant.saturating_duration_since(now)),
        };
        let ahead = shared.ahead(&state, priority, now);
        match admit(&ahead, &shared.config.limits, &demand) {
            Err(cause) if !(priority == Priority::High && state.queue.has_low()) => {
                drop(state);
                Err(shared.refusal(cause, &ahead))
            }
            _ => Ok(()),
        }
    }

    /// Takes a request in, or sheds it now. One that is short enough runs here.
    ///
    /// # Errors
    /// `Overloaded`.
    pub fn admit(&self, work: Work, now: Instant) -> Result<Ticket, Error> {
        let bytes = bytes_of(&work.inputs);
        match self.shared.run_inline(&work, bytes, now) {
            Some(outcome) => Ok(Ticket::done(outcome)),
            None => self.shared.enqueue(work, bytes, now),
        }
    }

    /// The error of a request that had to leave the queue; counts it.
    pub fn shed(&self, cause: ShedCause) -> Error {
        let ahead = self.shared.ahead(&self.shared.lock(), Priority::High, Instant::now());
        self.shared.refusal(cause, &ahead)
    }

    /// Takes over what was measured.
    pub fn set_curve(&self, curve: Arc<BatchCurve>) {
        let shared = &self.shared;
        let proven = shared.model.signature().batch_axes().is_some();
        shared.sizing.store(Arc::new(Sizing::new(curve, &shared.config, proven)));
    }

    /// What was measured; nothing yet at first.
    pub fn curve(&self) -> Arc<BatchCurve> {
        self.shared.sizing.load().curve.clone()
    }

    /// Most rows of a run.
    pub fn cap(&self) -> usize {
        self.shared.sizing.load().rules.cap
    }

    /// Requests that wait.
    pub fn depth(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// What it says of itself on `/metrics`.
    pub fn reading(&self) -> PoolReading {
        let shared = &self.shared;
        let usage = shared.usage();
        let (workers, workers_busy, busy_s) = shared.place.reading();
        PoolReading {
            queue_depth: usage.waiting,
            queue_bytes: shared.lock().queue.bytes(),
            workers,
            workers_busy,
            busy_s: busy_s + usage.inline_s,
            inline_requests: shared.use_counts.inline.load(Relaxed),
            max_batch_rows: self.cap(),
            plan_bytes: shared.model.memory_bytes(),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        // What still waits is run first; the turn that finds nothing gives the place up.
        self.shared.place.wake();
    }
}

impl Shared {
    /// Runs the request here, if it is known to be short and nothing is before it.
    fn run_inline(&self, work: &Work, bytes: usize, now: Instant) -> Option<Outcome> {
        {
            let mut state = self.lock();
            let arrival = Arrival {
                known_run_s: state.times.typical_s(bytes),
                measured_run_s: self.sizing.load().measured_s(work.rows).filter(|_| self.only_rows_vary),
                waiting: state.queue.len(),
                running: state.running.len() as u32 + state.inline,
                workers: self.workers.load(Relaxed),
                barred: state.inline_barred_until.is_some_and(|until| now < until),
            };
            if !may_run_inline(&arrival) || !self.model.is_ready_for(&work.inputs) {
                return None;
            }
            state.inline += 1;
        }
        let mut session = self.session();
        // A run that breaks its promise is begun again on a core.
        let stop = || now.elapsed() >= BROKEN_PROMISE;
        let run = std::panic::AssertUnwindSafe(|| session.run(&work.inputs, &stop));
        let output = std::panic::catch_unwind(run)
            .unwrap_or_else(|_| Err(RunError::Failed("the run panicked on its way".to_owned())));
        self.give_back(session);
        let ran = now.elapsed();
        let mut state = self.lock();
        state.inline -= 1;
        state.times.record(bytes, ran.as_secs_f64(), now);
        if let Some(penalty) = penalty(ran, state.promises_broken) {
            state.promises_broken += 1;
            state.inline_barred_until = Some(now + penalty);
        }
        drop(state);
        self.use_counts.inline.fetch_add(1, Relaxed);
        self.use_counts.inline_ns.fetch_add(ran.as_nanos() as u64, Relaxed);
        Some(match output {
            Err(RunError::Stopped) => return None,
            Err(error) => Err(NoAnswer::Run(error)),
            Ok(output) => {
                self.stats.record_execution(work.rows, &output.timing);
                Ok(Answer::at_once(output, work.rows))
            }
        })
    }

    fn enqueue(self: &Arc<Self>, work: Work, bytes: usize, now: Instant) -> Result<Ticket, Error> {
        let whole = self.sizing.load().rules.whole;
        let priority = work.priority;
        let mut state = self.lock();
        // A guess must not keep out what was never seen to be slow.
        let run_s = state.times.known_s(bytes, now).unwrap_or_default();
        let run = Duration::from_secs_f64(run_s);
        let left = work.must_start_by(run).map(|instant| instant.saturating_duration_since(now));
        let demand = Demand { priority, bytes, run_s: 0.0, left };
        let mut evicted = vec![];
        loop {
            let ahead = self.ahead(&state, priority, now);
            let Err(cause) = admit(&ahead, &self.config.limits, &demand) else { break };
            let is_full = matches!(cause, ShedCause::QueueSize | ShedCause::QueueBytes { .. });
            let room = if is_full && priority == Priority::High { state.queue.evict_low() } else { None };
            match room {
                Some(low) => evicted.push(low),
                None => {
                    drop(state);
                    preempt(&evicted);
                    return Err(self.refusal(cause, &ahead));
                }
            }
        }
        state.admitted += 1;
        let row_bytes = bytes as f64 / work.rows.max(1) as f64;
        state.row_bytes += if state.admitted == 1 { row_bytes } else { 0.1 * (row_bytes - state.row_bytes) };
        let axes = self.model.signature().batch_axes();
        let (request, outcome) = Request::new(state.admitted, work, axes, now);
        let request = Arc::new(request);
        state.queue.push(request.clone(), whole);
        drop(state);
        preempt(&evicted);
        self.wake();
        let give_up = (priority == Priority::Low).then(|| now + self.config.limits.max_wait);
        let pool = self.clone();
        Ok(Ticket::waiting(request, outcome, give_up, move |request, begun| pool.withdraw(request, begun)))
    }

    fn withdraw(&self, request: &Request, begun: bool) -> bool {
        let withdrawn = self.lock().queue.withdraw(request.number, begun);
        // Its tensors are freed outside the lock.
        withdrawn.is_some()
    }

    /// What a newcomer of this class finds before it.
    fn ahead(&self, state: &State, priority: Priority, now: Instant) -> Ahead {
        let cap = self.sizing.load().rules.cap;
        let rest = |(started, run_s): &(Instant, f64)| (run_s - now.duration_since(*started).as_secs_f64()).max(0.0);
        let running_s: f64 = state.running.iter().map(rest).sum();
        let (runs, run_rows) = state.queue.runs_ahead(priority, cap);
        let turn_s = state.times.estimate_s((run_rows.max(1) as f64 * state.row_bytes) as usize);
        let workers = self.workers.load(Relaxed).max(1);
        let parallelism = f64::from(self.parallelism_milli.load(Relaxed).max(1)) / 1000.0;
        Ahead {
            requests: state.queue.len(),
            bytes: state.queue.bytes(),
            wait_s: (running_s + runs as f64 * turn_s) / parallelism,
            turn_s,
            idle: state.queue.is_empty() && state.running.len() < workers as usize,
        }
    }

    /// How long a full batch takes.
    fn turn_time(&self, state: &State, cap: usize) -> Duration {
        Duration::from_secs_f64(state.times.estimate_s((cap as f64 * state.row_bytes) as usize))
    }

    fn refusal(&self, cause: ShedCause, ahead: &Ahead) -> Error {
        self.stats.record_shed(cause);
        Error::Overloaded(Box::new(Overload {
            model: self.name.clone(),
            depth: ahead.requests,
            limit: self.config.limits.max_requests,
            expected_wait: Duration::from_secs_f64(ahead.wait_s.clamp(0.0, 3600.0)),
            cause,
        }))
    }

    /// Asks for a turn, unless one is asked for already.
    fn wake(&self) {
        if !self.woken.swap(true, SeqCst) {
            self.place.wake();
        }
    }

    /// Takes the next batch out of the queue; true if more waits behind it.
    fn cut(&self, sizing: &Sizing, now: Instant) -> (Cut, bool) {
        let mut state = self.lock();
        let cutting = Cutting {
            rules: &sizing.rules,
            axes: self.model.signature().batch_axes(),
            best: &|rows| sizing.best_cut(rows),
            run: self.turn_time(&state, sizing.rules.cap),
            delay_after: self.config.delay_after,
            closed: state.closed,
        };
        let cut = state.queue.cut(now, &cutting);
        if let Cut::Batch(pieces) = &cut {
            let run_s = state.times.estimate_s(batch_bytes(pieces));
            state.running.push((now, run_s));
        }
        (cut, !state.queue.is_empty())
    }

    fn run_batch(&self, sizing: &Sizing, mut pieces: Vec<Piece>, cut: Instant) {
        let mut session = self.session();
        // A busy machine may have held this thread up since the cut.
        let started = Instant::now();
        pieces.retain(|piece| {
            let expired = piece.request.work.deadline.passed(started);
            if expired {
                piece.request.fail(NoAnswer::Expired);
            }
            !expired
        });
        let waited = |piece: &Piece| started.saturating_duration_since(piece.request.admitted).as_nanos() as u64;
        self.use_counts.taken.fetch_add(pieces.len() as u64, Relaxed);
        self.use_counts.waited_ns.fetch_add(pieces.iter().map(waited).sum(), Relaxed);
        let ended = Ended { shared: self, pieces: &pieces, cut, started };
        if !pieces.is_empty() {
            let axes = self.model.signature().batch_axes();
            let run_rows = sizing.run_rows(rows_of(&pieces));
            Runner { session: session.as_mut(), axes, stats: &self.stats }.run(&pieces, run_rows, started);
        }
        self.give_back(session);
        drop(ended);
    }

    fn session(&self) -> Box<dyn Session> {
        let idle = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| self.model.clone().session())
    }

    fn give_back(&self, session: Box<dyn Session>) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so a poisoned state is still a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a run, also of one that panicked in our own code: its time is counted, and nobody is left without an answer.
struct Ended<'a> {
    shared: &'a Shared,
    pieces: &'a [Piece],
    /// When the batch was cut, under which it is known to run.
    cut: Instant,
    started: Instant,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let ran_s = self.started.elapsed().as_secs_f64();
        {
            let mut state = self.shared.lock();
            if let Some(at) = state.running.iter().position(|(began, _)| *began == self.cut) {
                state.running.swap_remove(at);
            }
            if !self.pieces.is_empty() {
                state.times.record(batch_bytes(self.pieces), ran_s, self.started);
            }
        }
        if std::thread::panicking() {
            let error = RunError::Failed("the worker panicked around the run".to_owned());
            self.pieces.iter().for_each(|piece| piece.request.fail(NoAnswer::Run(error.clone())));
        }
    }
}

impl Turns for Shared {
    fn turn(&self) -> Turn {
        self.woken.store(false, SeqCst);
        let sizing = self.sizing.load_full();
        let now = Instant::now();
        match self.cut(&sizing, now) {
            (Cut::Empty, _) => {
                if self.lock().closed {
                    self.place.leave();
                }
                Turn::Done
            }
            (Cut::Wait(time), _) => Turn::Later(time),
            (Cut::Batch(pieces), more) => {
                if more || self.lock().closed {
                    self.wake();
                }
                self.run_batch(&sizing, pieces, now);
                Turn::Done
            }
        }
    }

    fn usage(&self) -> Usage {
        Usage {
            min_workers: self.config.min_workers,
            max_workers: self.config.max_workers,
            waiting: self.lock().queue.len(),
            taken: self.use_counts.taken.load(Relaxed),
            waited_s: self.use_counts.waited_ns.load(Relaxed) as f64 / 1e9,
            inline_s: self.use_counts.inline_ns.load(Relaxed) as f64 / 1e9,
        }
    }

    fn resized(&self, workers: u32, parallelism: f64) {
        self.workers.store(workers, Relaxed);
        self.parallelism_milli.store((parallelism * 1000.0) as u32, Relaxed);
    }
}

/// Answers requests that had to make room.
fn preempt(evicted: &[Arc<Request>]) {
    evicted.iter().for_each(|low| low.fail(NoAnswer::Shed(ShedCause::Preempted)));
}

/// Bytes that a batch's rows have of their requests' inputs.
fn batch_bytes(pieces: &[Piece]) -> usize {
    let bytes = |piece: &Piece| piece.request.bytes * piece.count.max(1) / piece.request.work.rows.max(1);
    pieces.iter().map(bytes).sum()
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({})", self.shared.name)
    }
}

#[cfg(test)]
mod tests;
