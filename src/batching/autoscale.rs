//! Applies the autoscaling policy: measures each pool, asks what it may hold, and tells the schedule.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::autoscale_policy::{Memory, PoolWindow, Settings, Window, decide};
use super::cores::{CoreTime, Cores, Sample, Usage};

/// The least share of a core that a pool is thought to get. What it got in one interval is a small sample: a prediction from
/// it may refuse for nothing, and the queue has other bounds.
const LEAST_PARALLELISM: f64 = 0.25;

/// Starts the thread that scales all pools of these cores, until the cores are gone.
///
/// # Errors
/// The operating system's, when the thread can't be started.
pub fn start(cores: &Arc<Cores>, settings: Settings) -> std::io::Result<()> {
    let cores = Arc::downgrade(cores);
    thread::Builder::new().name("autoscale".to_owned()).spawn(move || scale(&cores, settings))?;
    Ok(())
}

fn scale(cores: &Weak<Cores>, settings: Settings) {
    let mut scaler = Scaler::new(settings);
    loop {
        thread::sleep(Duration::from_secs_f64(settings.interval_s));
        let Some(cores) = cores.upgrade() else { return };
        scaler.step(&cores, Instant::now());
    }
}

/// What is remembered from one interval to the next.
struct Scaler {
    settings: Settings,
    started: Instant,
    last_step: Instant,
    pools: HashMap<u64, Before>,
}

/// A pool's counters at the last step.
#[derive(Clone, Copy, Default)]
struct Before {
    time: CoreTime,
    usage: Usage,
    idle_s: f64,
    memory: Memory,
}

impl Scaler {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self { settings, started: now, last_step: now, pools: HashMap::new() }
    }

    /// Weighs every allotment once.
    fn step(&mut self, cores: &Cores, now: Instant) {
        let length_s = now.duration_since(self.last_step).as_secs_f64().max(1e-3);
        self.last_step = now;
        let samples: Vec<(Sample, Usage)> =
            cores.samples().into_iter().map(|sample| (sample.turns.usage(), sample)).map(|(u, s)| (s, u)).collect();
        let windows: Vec<PoolWindow> =
            samples.iter().map(|(sample, usage)| self.window(sample, usage, length_s)).collect();
        let window = Window { length_s, budget: cores.budget(), pools: &windows };
        let decisions = decide(&window, &self.settings, now.duration_since(self.started).as_secs_f64());
        let mut pools = HashMap::with_capacity(samples.len());
        for (((sample, usage), window), decision) in samples.iter().zip(&windows).zip(&decisions) {
            let before = self.pools.get(&sample.id).copied().unwrap_or_default();
            let wanted_s = sample.time.wanted_s - before.time.wanted_s;
            // Where work waited for most of the time, what it got is what it gets; else it gets what it may hold.
            let parallelism = match wanted_s > 0.5 * length_s {
                true => (window.busy_s / length_s).max(LEAST_PARALLELISM),
                false => f64::from(decision.workers.max(1)),
            };
            sample.turns.resized(decision.workers, parallelism);
            if let Some(reason) = decision.reason {
                cores.resize(sample.id, decision.workers);
                tracing::debug!(pool = sample.id, from = sample.workers, to = decision.workers, reason = reason.name());
            }
            let after = Before { time: sample.time, usage: *usage, idle_s: window.idle_s, memory: decision.memory };
            pools.insert(sample.id, after);
        }
        self.pools = pools;
    }

    fn window(&self, sample: &Sample, usage: &Usage, length_s: f64) -> PoolWindow {
        let before = self.pools.get(&sample.id).copied().unwrap_or_default();
        let busy_s = sample.time.busy_s - before.time.busy_s + usage.inline_s - before.usage.inline_s;
        let taken = usage.taken - before.usage.taken;
        PoolWindow {
            workers: sample.workers,
            min: usage.min_workers,
            max: usage.max_workers,
            busy_s,
            waited_s: (taken > 0).then(|| (usage.waited_s - before.usage.waited_s) / taken as f64),
            waiting: usage.waiting,
            starved_s: sample.time.starved_s - before.time.starved_s,
            idle_s: if busy_s > 0.0 { 0.0 } else { before.idle_s + length_s },
            memory: before.memory,
        }
    }
}
