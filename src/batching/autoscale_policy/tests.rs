//! Traces of loads with the policy in the loop, and single windows.

mod simulation;

use self::simulation::{INTERVAL_MS, Load, hold_invariants, load, random, simulate};
use super::*;

/// A load of one pool on eight cores, and what must come of it.
struct Case {
    name: &'static str,
    /// Cores of work that arrive at a time in ms.
    cores: fn(u64) -> f64,
    seconds: u64,
    most_turns: usize,
    most_resizes: usize,
    /// (time in s, allotment) that must be seen.
    seen: &'static [(u64, u32)],
}

/// High in the first half of each period, low in the second.
fn wave(now: u64, period_ms: u64, low: f64, high: f64) -> f64 {
    if now % period_ms < period_ms / 2 { high } else { low }
}

const TRACES: [Case; 7] = [
    // 3 cores of work need ceil(3 / 0.8) = 4, and 8 for what has piled up meanwhile.
    Case {
        name: "step",
        cores: |now| if now < 10_000 { 0.1 } else { 3.0 },
        seconds: 60,
        most_turns: 1,
        most_resizes: 4,
        seen: &[(9, 1), (11, 8), (25, 4), (60, 4)],
    },
    // From 8 to the 7 that 5 cores of work need, then to 2.
    Case {
        name: "step down",
        cores: |now| if now < 30_000 { 5.0 } else { 1.0 },
        seconds: 60,
        most_turns: 1,
        most_resizes: 6,
        seen: &[(3, 8), (25, 7), (60, 2)],
    },
    // Sizes follow the load without overtaking it for long.
    Case {
        name: "ramp",
        cores: |now| now as f64 / 10_000.0,
        seconds: 90,
        most_turns: 2,
        most_resizes: 6,
        seen: &[(5, 1), (15, 2), (60, 7), (90, 8)],
    },
    Case {
        name: "square wave, shorter than the hysteresis",
        cores: |now| wave(now, 4_000, 0.2, 3.0),
        seconds: 300,
        most_turns: 1,
        most_resizes: 4,
        seen: &[(20, 4), (300, 4)],
    },
    // Five periods, each with one way up (2, 4, 8) and one down (4, 1).
    Case {
        name: "square wave, longer than the hysteresis",
        cores: |now| wave(now, 60_000, 0.2, 3.0),
        seconds: 300,
        most_turns: 10,
        most_resizes: 25,
        seen: &[(29, 4), (59, 1), (89, 4), (299, 1)],
    },
    // The minute of idleness, then from nothing to 8.
    Case {
        name: "burst after silence",
        cores: |now| if (1_000..200_000).contains(&now) { 0.0 } else { 6.0 },
        seconds: 205,
        most_turns: 2,
        most_resizes: 9,
        seen: &[(3, 8), (60, 1), (100, 0), (199, 0), (202, 8)],
    },
    Case { name: "overload", cores: |_| 20.0, seconds: 60, most_turns: 0, most_resizes: 3, seen: &[(2, 8), (60, 8)] },
];

#[test]
fn traces() {
    for Case { name, cores, seconds, most_turns, most_resizes, seen } in TRACES {
        for run_ms in [2, 10] {
            let trace = simulate(8, &[load(run_ms, 8, cores)], seconds * 1000).remove(0);
            let shown = format!("{name}, runs of {run_ms} ms: {:?}", trace.resizes);
            assert!(trace.turns() <= most_turns, "{shown}");
            assert!(trace.resizes.len() <= most_resizes, "{shown}");
            for &(at, workers) in seen {
                assert_eq!(trace.at(at * 1000), workers, "at {at} s of {shown}");
            }
        }
    }
}

/// Requests that come at random, around loads where one more core is just needed or just not.
#[test]
fn random_arrivals_make_an_allotment_move_seldom() {
    for (cores, run_ms) in [(0.75, 5), (0.8, 5), (0.85, 5), (1.6, 5), (2.4, 5), (2.4, 50), (3.2, 20), (4.8, 5)] {
        let mut random = random();
        // A Bernoulli trial each millisecond, for ten minutes: close to a Poisson process.
        let trials: Vec<f64> = (0..600_000).map(|_| f64::from(random(1_000_000) as u32) / 1e6).collect();
        let chance = cores / run_ms as f64;
        let comes = move |now: u64| if trials[now as usize - 1] < chance { 1.0 } else { 0.0 };
        let random = Load { min: 0, max: 8, run_ms, rate: Box::new(move |now| comes(now) * 1000.0) };
        let trace = simulate(8, &[random], 600_000).remove(0);
        let shown = format!("{cores} cores in runs of {run_ms} ms: {:?}", trace.resizes);
        assert!(trace.turns() <= 20, "more than two turns a minute: {shown}");
        let need = (cores / Settings::default().target_utilisation).ceil() as u32;
        assert!((need..=2 * need).contains(&trace.at(600_000)), "{shown}");
    }
}

#[test]
fn a_burst_after_silence_is_at_full_size_within_four_intervals() {
    let trace = simulate(8, &[load(5, 8, |now| if now > 100_000 { 8.0 } else { 0.0 })], 110_000).remove(0);
    assert_eq!(trace.at(100_000), 0);
    assert_eq!(trace.at(100_000 + 4 * INTERVAL_MS), 8, "{:?}", trace.resizes);
}

#[test]
fn runs_longer_than_the_window_grow_too() {
    let trace = simulate(4, &[load(2_000, 4, |_| 4.0)], 30_000).remove(0);
    assert_eq!(trace.at(10_000), 4, "{:?}", trace.resizes);
    assert_eq!(trace.turns(), 0);
}

#[test]
fn pools_that_want_all_get_the_same() {
    for budget in [2, 4, 8] {
        for count in [2, 10] {
            let loads: Vec<Load> = (0..count).map(|_| load(10, budget, |_| 20.0)).collect();
            let traces = simulate(budget, &loads, 20_000);
            let fair = (budget / count).max(1);
            for trace in &traces {
                assert_eq!(trace.at(20_000), fair, "{count} pools on {budget} cores: {:?}", trace.resizes);
                assert_eq!(trace.since(5_000), 0, "{count} pools on {budget} cores: {:?}", trace.resizes);
            }
            let done: Vec<u64> = traces.iter().map(|trace| trace.done).collect();
            let (least, most) = (done.iter().min().unwrap(), done.iter().max().unwrap());
            assert!(*most as f64 <= *least as f64 * 1.1, "{done:?}");
            // The cores are never left idle for the sake of fairness.
            let possible = u64::from(budget) * 20_000 / 10;
            assert!(done.iter().sum::<u64>() * 100 >= possible * 90, "{done:?} of {possible}");
        }
    }
}

#[test]
fn what_one_does_not_want_goes_to_the_other() {
    // 1.5 cores of work need 2 of 8.
    let traces = simulate(8, &[load(10, 8, |_| 1.5), load(10, 8, |_| 20.0)], 60_000);
    assert_eq!((traces[0].at(60_000), traces[1].at(60_000)), (2, 6));
    assert!(traces[0].done * 10 >= 60_000 * 15 / 100 * 9, "{}", traces[0].done);
    // An odd core stays where it is.
    let traces = simulate(3, &[load(10, 3, |_| 9.0), load(10, 3, |_| 9.0)], 60_000);
    assert_eq!(traces[0].at(60_000) + traces[1].at(60_000), 3);
    assert_eq!(traces[0].since(5_000) + traces[1].since(5_000), 0);
}

#[test]
fn a_late_comer_gets_its_share_in_a_few_intervals() {
    let late = |now| if now > 30_000 { 20.0 } else { 0.0 };
    let traces = simulate(8, &[load(10, 8, |_| 20.0), load(10, 8, late)], 60_000);
    assert_eq!((traces[0].at(30_000), traces[1].at(30_000)), (8, 0));
    assert_eq!((traces[0].at(31_000), traces[1].at(31_000)), (4, 4));
    assert!(traces[0].resizes.iter().any(|resize| resize.3 == Reason::FairShare));
    assert!(traces.iter().all(|trace| trace.since(31_001) == 0));
}

#[test]
fn limits_are_kept() {
    let capped = simulate(8, &[load(50, 1, |_| 20.0), load(2, 8, |_| 0.2)], 90_000);
    assert!(capped[0].workers.iter().all(|&workers| workers <= 1));
    assert_eq!(capped[0].resizes, []);
    let kept = Load { min: 2, ..load(10, 4, |now| if now < 10_000 { 4.0 } else { 0.0 }) };
    let kept = simulate(4, &[kept, load(10, 4, |_| 9.0)], 120_000);
    assert!(kept[0].workers[1..].iter().all(|&workers| workers >= 2));
    assert_eq!((kept[0].at(120_000), kept[1].at(120_000)), (2, 2));
}

/// A pool of measurements by themselves, not of a simulation.
fn measured(workers: u32, busy_s: f64, starved_s: f64) -> PoolWindow {
    let waited_s = (busy_s > 0.0).then_some(starved_s);
    let waiting = usize::from(starved_s > 0.0);
    PoolWindow { workers, min: 0, max: 8, busy_s, waited_s, waiting, starved_s, idle_s: 0.0, memory: Memory::default() }
}

fn alone(pool: PoolWindow, now_s: f64) -> Decision {
    decide(&Window { length_s: 1.0, budget: 8, pools: &[pool] }, &Settings::default(), now_s)[0]
}

#[test]
fn one_window() {
    let next = |pool| {
        let decision = alone(pool, 0.0);
        (decision.workers, decision.reason)
    };
    let starved = Some(Reason::Starved);
    assert_eq!(next(measured(2, 2.0, 1.0)), (4, starved), "saturated: double");
    assert_eq!(next(measured(4, 3.5, 0.5)), (5, starved), "the need is known: 3.5 / 0.8");
    assert_eq!(next(measured(2, 1.2, 1.0)), (2, None), "waits, but not for want of cores");
    assert_eq!(next(measured(2, 2.0, 0.0)), (2, None), "busy, but nothing waits");
    assert_eq!(next(measured(4, 3.5, 0.0005)), (4, None), "waits that are not worth a core");
    assert_eq!(next(measured(2, 2.0, 0.0005)), (4, starved), "saturated by clients that wait for answers");
    assert_eq!(next(measured(6, 6.0, 1.0)), (8, starved), "no more than max");
    assert_eq!(next(measured(0, 0.0, 1.0)), (1, Some(Reason::Limits)), "never left without a core");
    assert_eq!(next(PoolWindow { idle_s: 60.0, ..measured(3, 0.0, 0.0) }), (0, Some(Reason::Idle)));
    assert_eq!(next(PoolWindow { idle_s: 60.0, min: 1, ..measured(3, 0.0, 0.0) }), (1, Some(Reason::Idle)));
    assert_eq!(next(PoolWindow { max: 2, ..measured(3, 0.0, 0.0) }), (2, Some(Reason::Limits)));
    assert_eq!(next(PoolWindow { min: 2, ..measured(0, 0.0, 0.0) }), (2, Some(Reason::Limits)));
}

#[test]
fn pools_in_light_use_take_nothing_from_a_busy_one() {
    let light = PoolWindow { max: 2, ..measured(1, 0.1, 0.0) };
    let idle = PoolWindow { max: 2, idle_s: 5.0, ..measured(2, 0.0, 0.0) };
    let busy = PoolWindow { max: 2, waiting: 16, ..measured(1, 1.0, 1.0) };
    let pools = [light, idle, busy, light, idle];
    let decisions = decide(&Window { length_s: 1.0, budget: 2, pools: &pools }, &Settings::default(), 0.0);
    let workers: Vec<u32> = decisions.iter().map(|decision| decision.workers).collect();
    assert_eq!(workers, [1, 1, 2, 1, 1]);
}

#[test]
fn shrinking_goes_to_the_most_that_was_needed() {
    let mut pool = measured(8, 0.0, 0.0);
    for second in 1..=10 {
        pool.busy_s = if second == 4 { 2.0 } else { 0.5 };
        let decision = alone(pool, f64::from(second));
        let expected = if second < 10 { (8, None) } else { (3, Some(Reason::Spare)) };
        assert_eq!((decision.workers, decision.reason), expected, "after {second} s");
        pool.memory = decision.memory;
    }
}

#[test]
fn a_pool_is_resized_once_an_interval() {
    let first = alone(measured(1, 1.0, 1.0), 5.0);
    assert_eq!(first.workers, 2);
    let again = PoolWindow { memory: first.memory, ..measured(2, 2.0, 1.0) };
    assert_eq!(alone(again, 5.1).workers, 2);
    assert_eq!(alone(again, 5.24).workers, 4, "a timer that is a little early");
}

#[test]
fn any_measurements_keep_the_limits_and_the_budget() {
    let mut random = random();
    for _ in 0..20_000 {
        let budget = 1 + random(16) as u32;
        let mut pools: Vec<PoolWindow> = (0..random(12))
            .map(|_| {
                let max = 1 + random(budget.into()) as u32;
                let min = random(u64::from(max) + 1) as u32;
                let workers = min + random(u64::from(max - min) + 1) as u32;
                PoolWindow { min, max, ..measured(workers, 0.0, 0.0) }
            })
            .collect();
        for step in 1..=5 {
            for pool in &mut pools {
                pool.busy_s = f64::from(pool.workers) * random(101) as f64 / 100.0;
                pool.starved_s = random(3) as f64 / 2.0;
                pool.waiting = random(2) as usize;
                pool.waited_s = (random(2) == 0).then_some(pool.starved_s);
                pool.idle_s = random(120) as f64;
            }
            let window = Window { length_s: 1.0, budget, pools: &pools };
            let decisions = decide(&window, &Settings::default(), f64::from(step));
            hold_invariants(&window, &decisions);
            for (pool, decision) in pools.iter_mut().zip(decisions) {
                (pool.workers, pool.memory) = (decision.workers, decision.memory);
            }
        }
    }
}
