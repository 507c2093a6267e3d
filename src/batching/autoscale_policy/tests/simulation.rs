//! Simulated pools with the policy in the loop, in ticks of a millisecond: arrivals as a function of time against runs of
//! a known length, on so many cores.

use std::collections::VecDeque;

use super::super::*;

/// A pool of the simulation.
pub struct Load {
    pub min: u32,
    pub max: u32,
    /// How long a run takes.
    pub run_ms: u64,
    /// Requests per second at a time.
    pub rate: Box<dyn Fn(u64) -> f64>,
}

/// `cores` is how many cores' worth of work arrives at a time, in runs of `run_ms`.
pub fn load(run_ms: u64, max: u32, cores: impl Fn(u64) -> f64 + 'static) -> Load {
    Load { min: 0, max, run_ms, rate: Box::new(move |now_ms| cores(now_ms) * 1000.0 / run_ms as f64) }
}

/// Where a pool stands; times in ms.
#[derive(Default)]
struct Pool {
    owed: f64,
    queue: VecDeque<u64>,
    ends: Vec<u64>,
    last_end: u64,
    workers: u32,
    memory: Memory,
    busy: u64,
    starved: u64,
    waits: Vec<u64>,
    /// Runs ended in all.
    done: u64,
}

impl Pool {
    /// Ends runs, lets requests come, and wakes the pool as the data path does.
    fn arrive(&mut self, load: &Load, now: u64) {
        let running = self.ends.len();
        self.ends.retain(|&end| end > now);
        self.done += (running - self.ends.len()) as u64;
        if running > 0 {
            self.last_end = now;
        }
        self.owed += (load.rate)(now) / 1000.0;
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            self.queue.push_back(now);
        }
        if !self.queue.is_empty() && self.workers == 0 {
            self.workers = 1;
        }
    }

    /// Starts one run if a request waits and the allotment has room.
    fn start(&mut self, load: &Load, now: u64) -> bool {
        if self.ends.len() >= self.workers as usize {
            return false;
        }
        let Some(came) = self.queue.pop_front() else { return false };
        self.waits.push(now - came);
        self.ends.push(now + load.run_ms);
        true
    }

    fn window(&mut self, load: &Load, now: u64) -> PoolWindow {
        let waits = std::mem::take(&mut self.waits);
        let mean = || waits.iter().sum::<u64>() as f64 / waits.len() as f64 / 1e3;
        PoolWindow {
            workers: self.workers,
            min: load.min,
            max: load.max,
            busy_s: std::mem::take(&mut self.busy) as f64 / 1e3,
            waited_s: (!waits.is_empty()).then(mean),
            waiting: self.queue.len(),
            starved_s: std::mem::take(&mut self.starved) as f64 / 1e3,
            idle_s: if self.ends.is_empty() { (now - self.last_end) as f64 / 1e3 } else { 0.0 },
            memory: self.memory,
        }
    }
}

/// Numbers below a bound, the same each time: Knuth's linear congruential generator (MMIX).
pub fn random() -> impl FnMut(u64) -> u64 {
    let mut state = 1_u64;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

/// What happened to one pool.
#[derive(Default)]
pub struct Trace {
    /// (time in ms, from, to, why) of every resize by the policy.
    pub resizes: Vec<(u64, u32, u32, Reason)>,
    /// The allotment after each interval.
    pub workers: Vec<u32>,
    pub done: u64,
}

impl Trace {
    /// How often growing turned into shrinking or back.
    pub fn turns(&self) -> usize {
        self.resizes.windows(2).filter(|pair| (pair[0].2 > pair[0].1) != (pair[1].2 > pair[1].1)).count()
    }

    /// The allotment at a time in ms.
    pub fn at(&self, now: u64) -> u32 {
        self.workers[(now / INTERVAL_MS) as usize]
    }

    /// Resizes from a time in ms on.
    pub fn since(&self, now: u64) -> usize {
        self.resizes.iter().filter(|resize| resize.0 >= now).count()
    }
}

pub const INTERVAL_MS: u64 = 250;

/// Runs the loads on a budget of cores for a time, and holds what must always hold.
pub fn simulate(budget: u32, loads: &[Load], until_ms: u64) -> Vec<Trace> {
    let mut pools: Vec<Pool> = loads.iter().map(|load| Pool { workers: load.min, ..Pool::default() }).collect();
    let mut traces: Vec<Trace> = loads.iter().map(|_| Trace { workers: vec![0], ..Trace::default() }).collect();
    let mut turn = 0;
    for now in 1..=until_ms {
        for (pool, load) in pools.iter_mut().zip(loads) {
            pool.arrive(load, now);
        }
        let mut free = (budget as usize).saturating_sub(pools.iter().map(|pool| pool.ends.len()).sum());
        // A free core goes to the next pool in turn.
        let mut refused = 0;
        while free > 0 && refused < pools.len() {
            match pools[turn].start(&loads[turn], now) {
                true => (free, refused) = (free - 1, 0),
                false => refused += 1,
            }
            turn = (turn + 1) % pools.len();
        }
        for pool in &mut pools {
            pool.busy += pool.ends.len() as u64;
            pool.starved += u64::from(!pool.queue.is_empty() && pool.ends.len() >= pool.workers as usize);
        }
        if now % INTERVAL_MS == 0 {
            let windows: Vec<PoolWindow> =
                pools.iter_mut().zip(loads).map(|(pool, load)| pool.window(load, now)).collect();
            let window = Window { length_s: INTERVAL_MS as f64 / 1e3, budget, pools: &windows };
            let decisions = decide(&window, &Settings::default(), now as f64 / 1e3);
            hold_invariants(&window, &decisions);
            for ((pool, trace), decision) in pools.iter_mut().zip(&mut traces).zip(decisions) {
                if let Some(reason) = decision.reason {
                    trace.resizes.push((now, pool.workers, decision.workers, reason));
                }
                (pool.workers, pool.memory) = (decision.workers, decision.memory);
                trace.workers.push(pool.workers);
                trace.done = pool.done;
            }
        }
    }
    traces
}

pub fn hold_invariants(window: &Window<'_>, decisions: &[Decision]) {
    assert_eq!(decisions.len(), window.pools.len());
    let (mut total, mut least) = (0, 0);
    for (pool, decision) in window.pools.iter().zip(decisions) {
        let workers = decision.workers;
        assert!((pool.min..=pool.max).contains(&workers), "{pool:?} {decision:?}");
        assert!(pool.waiting == 0 || workers >= 1, "{pool:?} {decision:?}");
        assert!(workers <= pool.workers.saturating_mul(2).max(1), "{pool:?} {decision:?}");
        assert_eq!(decision.reason.is_some(), workers != pool.workers, "{pool:?} {decision:?}");
        // The first core of a pool that hardly uses it is not counted.
        let is_light = pool.waiting == 0 && pool.starved_s <= 0.0 && pool.busy_s <= 0.5 * window.length_s;
        let free = if is_light { workers.saturating_sub(pool.min).min(1) } else { 0 };
        total += workers - free;
        least += pool.min.max(workers.min(1)) - free;
    }
    assert!(total <= window.budget.max(least), "{total} cores of {}: {decisions:?}", window.budget);
}
