//! How many cores each pool may hold: a pure function of one window of measurements.
//!
//! The process has a budget of cores, and each pool (the queue of one version) an allotment, the most cores it may hold
//! at a time. Once an interval every allotment is weighed again:
//! - it grows when work waited because of it and it was busier than the target;
//! - it shrinks to what was needed at most during `shrink_after_s`, once that has been less for so long;
//! - a pool that has been idle for `idle_after_s` goes to its minimum, which may be nothing;
//! - where the wishes exceed the budget, they are cut to max-min fair shares: cores go one by one to the pool that has
//!   the fewest and wants more (Bertsekas and Gallager, Data Networks, 2nd edition, 6.5.2). One core of a pool that hardly
//!   uses it is left out of that account: ten models asked once a second take nothing that a busy one could not use.
//!
//! An idle pool without cores is woken by the request that comes, not here.
//!
//! Growth is fast and shrinking slow, because the costs differ: an allotment that is too small makes requests wait now,
//! one that is too large costs nothing until another pool wants the core, and then the fair shares take it at once. A
//! saturated allotment hides how much more is wanted, so it doubles; otherwise the need is known and is the next size.
//! Load that stays the same comes to rest, since the need for the load that made a pool grow exceeds its size before.

/// When allotments change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Time between two decisions, and the least between two resizes of one pool.
    pub interval_s: f64,
    /// The share of an allotment that is meant to be busy, above 0 and below 1. The rest absorbs bursts.
    pub target_utilisation: f64,
    /// Mean queue wait from which waiting is worth another core. A saturated allotment grows at shorter waits too:
    /// clients that wait for their answers keep a queue short and would never show more.
    pub grow_wait_s: f64,
    /// How long fewer cores must have been enough.
    pub shrink_after_s: f64,
    /// How long after its last run a pool goes to its minimum.
    pub idle_after_s: f64,
}

impl Default for Settings {
    /// Four decisions a second reach sixteen cores from none in about a second, and cost nothing. Ten seconds of
    /// hysteresis span the bursts of a dashboard or a retry loop; a minute, the pauses of a person.
    fn default() -> Self {
        Self { interval_s: 0.25, target_utilisation: 0.8, grow_wait_s: 0.001, shrink_after_s: 10.0, idle_after_s: 60.0 }
    }
}

/// What was measured since the last decision.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    /// How long was measured; not always the interval, since timers are late.
    pub length_s: f64,
    /// Cores of the whole process.
    pub budget: u32,
    pub pools: &'a [PoolWindow],
}

/// One pool in the window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PoolWindow {
    /// The allotment now.
    pub workers: u32,
    /// Kept even when idle. A sum of minima beyond the budget is honoured; the cores are then shared in time.
    pub min: u32,
    /// At most the budget.
    pub max: u32,
    /// Core-seconds spent in runs, those that have not ended included.
    pub busy_s: f64,
    /// Mean queue wait of the requests that were taken; `None` if none was.
    pub waited_s: Option<f64>,
    /// Requests that wait now.
    pub waiting: usize,
    /// Time during which work waited and every allotted core was held.
    pub starved_s: f64,
    /// Since the last run ended, or since the pool was made; 0 during a run.
    pub idle_s: f64,
    /// From the decision before; the default for a new pool.
    pub memory: Memory,
}

/// What one decision remembers for the next.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Memory {
    resized_s: Option<f64>,
    spare: Option<Spare>,
}

/// A time during which fewer cores than allotted were enough.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spare {
    since_s: f64,
    /// The most that any window of it needed.
    peak_need: u32,
}

/// What becomes of one pool.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// The allotment from now on.
    pub workers: u32,
    /// Why it changed; `None` if it did not.
    pub reason: Option<Reason>,
    /// For the next window.
    pub memory: Memory,
}

/// Why an allotment changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Work waited for the lack of cores.
    Starved,
    /// Fewer were enough for long.
    Spare,
    /// Nothing ran for long.
    Idle,
    /// Other pools want their share.
    FairShare,
    /// The allotment lay outside the pool's limits, or work waited and there was none.
    Limits,
}

impl Reason {
    /// The word of logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starved => "starved",
            Self::Spare => "spare",
            Self::Idle => "idle",
            Self::FairShare => "fair_share",
            Self::Limits => "limits",
        }
    }
}

/// From this share on an allotment counts as saturated. Not 1: taking the next request costs a little time too.
const SATURATED: f64 = 0.95;
/// A pool where nothing waits and that is busy for less than this share of one core is in light use.
const LIGHT_USE: f64 = 0.5;
/// The share of an interval by which a timer may be early.
const EARLY: f64 = 0.1;

/// One decision for each pool, in the window's order. `now_s` counts from any fixed moment. At most one resize for each
/// pool and interval. The new allotments are within the pools' limits, and together at most the budget or, where that
/// is more, what the pools must have: their minima, and one core each for those in use. The first core of a pool in light
/// use is not counted.
pub fn decide(window: &Window<'_>, settings: &Settings, now_s: f64) -> Vec<Decision> {
    let wishes: Vec<Wish> = window.pools.iter().map(|pool| wish(pool, window.length_s, settings, now_s)).collect();
    let shares = fair_shares(window, &wishes);
    let decision = |((pool, wish), share): ((&PoolWindow, &Wish), u32)| {
        if share == pool.workers {
            return Decision { workers: share, reason: None, memory: wish.memory };
        }
        let reason = if share < wish.want && share < pool.workers { Reason::FairShare } else { wish.reason };
        let memory = Memory { resized_s: Some(now_s), spare: None };
        Decision { workers: share, reason: Some(reason), memory }
    };
    window.pools.iter().zip(&wishes).zip(shares).map(decision).collect()
}

/// What a pool would be given if it were alone.
struct Wish {
    /// Kept whatever the others want.
    floor: u32,
    want: u32,
    /// Cores of the floor that others may use just as well.
    free: u32,
    /// Why `want` is not the present allotment.
    reason: Reason,
    /// If nothing changes.
    memory: Memory,
}

fn wish(pool: &PoolWindow, length_s: f64, settings: &Settings, now_s: f64) -> Wish {
    if pool.memory.resized_s.is_some_and(|at| now_s - at < settings.interval_s * (1.0 - EARLY)) {
        let free = free(pool, length_s, pool.workers);
        return Wish { floor: pool.workers, want: pool.workers, free, reason: Reason::Limits, memory: pool.memory };
    }
    let min = pool.min.min(pool.max);
    let is_idle = pool.waiting == 0 && pool.busy_s <= 0.0 && pool.idle_s >= settings.idle_after_s;
    let in_use = if pool.waiting > 0 { 1 } else { pool.workers.min(1) };
    let floor = if is_idle { min } else { in_use.clamp(min, pool.max) };

    let spare = spare(pool, length_s, settings, now_s);
    let (want, reason) = if is_idle {
        (min, Reason::Idle)
    } else if let Some(larger) = growth(pool, length_s, settings) {
        (larger, Reason::Starved)
    } else {
        match spare {
            Some(spare) if now_s - spare.since_s >= settings.shrink_after_s => (spare.peak_need, Reason::Spare),
            _ => (pool.workers, Reason::Limits),
        }
    };
    let within = want.clamp(floor, pool.max);
    let free = free(pool, length_s, floor);
    Wish { floor, want: within, free, reason, memory: Memory { spare, ..pool.memory } }
}

/// How many of the cores that a pool keeps it hardly uses: one of a pool in light use, unless it is kept by its minimum.
fn free(pool: &PoolWindow, length_s: f64, kept: u32) -> u32 {
    let is_light = pool.waiting == 0 && pool.starved_s <= 0.0 && pool.busy_s <= LIGHT_USE * length_s;
    if is_light { kept.saturating_sub(pool.min).min(1) } else { 0 }
}

/// The next size up, if the pool needs one.
fn growth(pool: &PoolWindow, length_s: f64, settings: &Settings) -> Option<u32> {
    let utilisation = pool.busy_s / (length_s * f64::from(pool.workers));
    let is_saturated = utilisation >= SATURATED;
    // Where nothing was taken, because runs are longer than the window, the time without a core is what is known.
    let waited = is_saturated || pool.waited_s.unwrap_or(pool.starved_s) >= settings.grow_wait_s;
    if pool.workers == 0 || pool.starved_s <= 0.0 || !waited || utilisation <= settings.target_utilisation {
        return None;
    }
    let double = pool.workers.saturating_mul(2);
    Some(if is_saturated { double } else { need(pool, length_s, settings).clamp(pool.workers + 1, double) })
}

/// Since when fewer cores have been enough, this window included; `None` if they were not.
fn spare(pool: &PoolWindow, length_s: f64, settings: &Settings, now_s: f64) -> Option<Spare> {
    let need = need(pool, length_s, settings);
    let waited = pool.starved_s > 0.0 && pool.waited_s.unwrap_or(pool.starved_s) >= settings.grow_wait_s;
    if need >= pool.workers || waited {
        return None;
    }
    let before = pool.memory.spare.unwrap_or(Spare { since_s: now_s - length_s, peak_need: 0 });
    Some(Spare { peak_need: before.peak_need.max(need), ..before })
}

/// The fewest cores that do the window's work at no more than the target utilisation.
fn need(pool: &PoolWindow, length_s: f64, settings: &Settings) -> u32 {
    // A rounding error must not cost a core.
    const ROUNDING: f64 = 1e-6;
    (pool.busy_s / (length_s * settings.target_utilisation) - ROUNDING).ceil().max(0.0) as u32
}

/// The wishes, cut to the budget. What can't be shared out evenly stays where it is, so that nothing moves between
/// pools that want the same.
fn fair_shares(window: &Window<'_>, wishes: &[Wish]) -> Vec<u32> {
    let total = |of: fn(&Wish) -> u32| wishes.iter().map(|wish| u64::from(of(wish))).sum::<u64>();
    let budget = u64::from(window.budget) + total(|wish| wish.free);
    if total(|wish| wish.want) <= budget {
        return wishes.iter().map(|wish| wish.want).collect();
    }
    let mut shares: Vec<u32> = wishes.iter().map(|wish| wish.floor).collect();
    for _ in 0..budget.saturating_sub(total(|wish| wish.floor)) {
        let wanting = (0..shares.len()).filter(|&pool| shares[pool] < wishes[pool].want);
        // What is in light use comes last.
        let order = |&pool: &usize| (wishes[pool].free, shares[pool], std::cmp::Reverse(window.pools[pool].workers));
        let Some(pool) = wanting.min_by_key(order) else { break };
        shares[pool] += 1;
    }
    shares
}

#[cfg(test)]
mod tests;
