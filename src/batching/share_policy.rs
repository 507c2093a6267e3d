//! Whose turn a free core is.
//!
//! Fair sharing of time: of the pools that have work, may use one more core and are due, the one that has used the
//! least core time is next. A pool that comes back from idleness starts level with the others, so that it can't make
//! up for the time in which it asked for nothing.

use std::time::{Duration, Instant};

/// What a pool has to say for itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    pub slot: usize,
    /// Core time used, in seconds.
    pub used_s: f64,
    /// Cores it holds.
    pub running: u32,
    /// Cores it may hold.
    pub workers: u32,
    /// Its work is not due before.
    pub not_before: Option<Instant>,
}

/// What a free core does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Choice {
    Run(usize),
    /// Nothing is due before this time has passed.
    Wait(Duration),
    /// Nothing to do.
    Sleep,
}

/// Chooses among the pools that have work.
pub fn choose(candidates: impl Iterator<Item = Candidate>, now: Instant) -> Choice {
    let mut best: Option<Candidate> = None;
    let mut soonest: Option<Duration> = None;
    for candidate in candidates {
        // Whoever has work may use one core, whatever its allotment says.
        if candidate.running >= candidate.workers.max(1) {
            continue;
        }
        match candidate.not_before.map(|due| due.saturating_duration_since(now)).filter(|wait| !wait.is_zero()) {
            Some(wait) => soonest = Some(soonest.map_or(wait, |soonest| soonest.min(wait))),
            None if best.is_none_or(|best| candidate.used_s < best.used_s) => best = Some(candidate),
            None => {}
        }
    }
    match (best, soonest) {
        (Some(best), _) => Choice::Run(best.slot),
        (None, Some(wait)) => Choice::Wait(wait),
        (None, None) => Choice::Sleep,
    }
}

/// The core time that a pool counts from when it comes back from idleness. `turn_s` is that of the pool which had the
/// last turn: whoever was away starts level with it, and nobody has to make up for what others used before.
pub fn rejoin(used_s: f64, turn_s: f64) -> f64 {
    used_s.max(turn_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(slot: usize, used_s: f64) -> Candidate {
        Candidate { slot, used_s, running: 0, workers: 1, not_before: None }
    }

    #[test]
    fn the_pool_that_used_least_is_next() {
        let now = Instant::now();
        let three = [candidate(0, 3.0), candidate(1, 1.0), candidate(2, 2.0)];
        assert_eq!(choose(three.into_iter(), now), Choice::Run(1));
        assert_eq!(choose([].into_iter(), now), Choice::Sleep);
    }

    #[test]
    fn a_pool_holds_no_more_cores_than_it_may() {
        let now = Instant::now();
        let full = Candidate { running: 2, workers: 2, ..candidate(0, 0.0) };
        assert_eq!(choose([full, candidate(1, 9.0)].into_iter(), now), Choice::Run(1));
        assert_eq!(choose([full].into_iter(), now), Choice::Sleep);
        let asleep = Candidate { workers: 0, ..candidate(3, 0.0) };
        assert_eq!(choose([asleep].into_iter(), now), Choice::Run(3), "work wakes a pool that gave up its workers");
    }

    #[test]
    fn work_that_is_not_due_is_waited_for() {
        let now = Instant::now();
        let later = |slot, ms| Candidate { not_before: Some(now + Duration::from_millis(ms)), ..candidate(slot, 0.0) };
        assert_eq!(choose([later(0, 9), later(1, 4)].into_iter(), now), Choice::Wait(Duration::from_millis(4)));
        assert_eq!(choose([later(0, 9), candidate(1, 5.0)].into_iter(), now), Choice::Run(1));
        assert_eq!(choose([later(0, 0)].into_iter(), now), Choice::Run(0));
    }

    #[test]
    fn idleness_saves_nothing_up() {
        assert_eq!(rejoin(1.0, 5.0), 5.0);
        assert_eq!(rejoin(7.0, 5.0), 7.0);
    }

    #[test]
    fn two_pools_that_always_have_work_share_a_core_by_time() {
        let (mut used, mut turns, now) = ([0.0, 0.0], [0, 0], Instant::now());
        for _ in 0..1000 {
            let both = [candidate(0, used[0]), candidate(1, used[1])];
            let Choice::Run(slot) = choose(both.into_iter(), now) else { panic!("both have work") };
            turns[slot] += 1;
            used[slot] += [0.001, 0.009][slot];
        }
        assert!((turns[0] as f64 / turns[1] as f64 - 9.0).abs() < 0.2, "{turns:?}");
    }
}
