//! Candidates that are worse, and how many of their answers it takes to see that.

use super::*;

/// The median number of requests that the candidate answers until it is rolled back, and the last run's cause.
fn median_requests(runs: u64, make: impl Fn(u64) -> Simulation) -> (u64, String) {
    let (mut needed, mut cause) = (vec![], String::new());
    for run in 0..runs {
        let mut simulation = make(run);
        assert_eq!(simulation.run(2_000_000), State::RolledBack, "run {run}");
        assert_eq!(simulation.dial.weights(), Weights::ALL_STABLE);
        needed.push(simulation.candidate_requests);
        cause = simulation.progress.cause;
    }
    needed.sort_unstable();
    (needed[needed.len() / 2], cause)
}

/// A tenth of the traffic, and errors at a level of 1 % against a ratio of 1, as in the table of the rate ratio.
fn table(ratio: f64, seed: u64) -> Simulation {
    let mut spec = at_weight(1000);
    spec["analysis"] = json!({"alpha": 0.01, "checks": [{"event": "error", "harm_ratio": 1.0}]});
    let mut simulation = Simulation::new(&spec, seed);
    simulation.pace = (5, 5);
    simulation.stable = Version { error_rate: 0.01, ..FAULTLESS };
    simulation.candidate = Version { error_rate: 0.01 * ratio, ..FAULTLESS };
    simulation
}

#[test]
fn more_errors_are_found_after_the_documented_number_of_requests() {
    for (ratio, runs, expected) in [(2.0, 200, 1_490.0), (3.0, 400, 430.0), (5.0, 600, 150.0), (10.0, 1_000, 47.0)] {
        let (got, cause) = median_requests(runs, |run| table(ratio, run));
        println!("{ratio} times the errors: {got} requests, documented are {expected}");
        assert!((got as f64 - expected).abs() <= 0.15 * expected, "ratio {ratio}: {got} for {expected}");
        assert!(cause.contains("check 'errors' found harm"), "{cause}");
    }
}

/// The first step of an empty spec, one percent, with its checks and its level.
fn first_step(candidate: Version, seed: u64) -> Simulation {
    let mut simulation = Simulation::new(&at_weight(100), seed);
    (simulation.pace, simulation.candidate) = ((5, 5), candidate);
    simulation
}

#[test]
fn answers_that_are_not_finite_are_found_within_a_few() {
    // All of them: the evidence is there before the path's own breaker trips.
    let (all, cause) = median_requests(200, |run| first_step(Version { invalid_rate: 1.0, ..FAULTLESS }, run));
    assert!(all <= 20, "{all}: {cause}");
    // A fifth of them.
    let (some, cause) = median_requests(200, |run| first_step(Version { invalid_rate: 0.2, ..FAULTLESS }, run));
    println!("not finite: {all} requests where all are, {some} where a fifth is; {cause}");
    assert!(some <= 40 && cause.contains("check 'invalid' found harm"), "{some}: {cause}");
}

#[test]
fn a_storm_in_one_look_ends_by_the_breaker() {
    let mut simulation = first_step(Version { invalid_rate: 1.0, ..FAULTLESS }, 1);
    simulation.pace = (20_000, 50);
    assert_eq!(simulation.run(100_000), State::RolledBack);
    assert_eq!((simulation.candidate_requests, simulation.progress.cause.as_str()), (16, "invalid_outputs"));
}

#[test]
fn a_slow_candidate_is_found_within_a_few_requests_once_the_line_is_known() {
    for (slower, most) in [(10.0, 40), (3.0, 60)] {
        let candidate = Version { median_us: FAULTLESS.median_us * slower, ..FAULTLESS };
        let (got, cause) = median_requests(200, |run| first_step(candidate, run));
        println!("{slower} times slower: {got} requests; {cause}");
        assert!(got <= most && cause.contains("check 'slow' found harm"), "{slower}: {got}: {cause}");
    }
}

/// The line is stable's p95 with its slack, so the tail counts, not the median.
#[test]
fn a_candidate_with_a_heavier_tail_is_found_and_a_slightly_slower_one_is_not() {
    let heavy = Version { spread: 1.5, ..FAULTLESS };
    let (got, cause) = median_requests(100, |run| first_step(heavy, run));
    println!("a heavier tail: {got} requests; {cause}");
    assert!(got <= 200, "{got}");
    let slightly = Version { median_us: FAULTLESS.median_us * 1.1, ..FAULTLESS };
    for run in 0..20 {
        let state = first_step(slightly, run).run(50_000);
        assert!(!state.is_terminal(), "run {run}: {state:?}");
    }
}
