//! Whether the statistics keep what they promise: by simulation with fixed seeds, and against other implementations.

mod checkpoint;
mod clustering;
mod coverage;
mod detection;
mod false_alarms;
mod properties;
mod reference;
mod verdicts;

/// The probability that an event falls in the candidate.
fn theta(ratio: f64, q: f64) -> f64 {
    q * ratio / (q * ratio + 1.0 - q)
}

fn median(mut values: Vec<u64>) -> f64 {
    values.sort_unstable();
    values[values.len() / 2] as f64
}

/// Whether a measured value is within a share of the expected one.
fn near(got: f64, expected: f64, tolerance: f64) -> bool {
    (got - expected).abs() <= tolerance * expected
}

/// The greatest share of runs that may cross a line that a share `alpha` of them crosses in truth: three sigma.
fn at_most(alpha: f64, runs: usize) -> f64 {
    alpha + 3.0 * (alpha * (1.0 - alpha) / runs as f64).sqrt()
}
