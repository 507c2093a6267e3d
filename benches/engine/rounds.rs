//! Runs by turns, so that a machine that was busy for a while does not look like a difference.

use std::fmt;
use std::time::{Duration, Instant};

use headgate::engine::Session;
use headgate::tensor::Tensor;

/// How long each subject runs before it is the next one's turn.
const TURN: Duration = Duration::from_millis(20);

/// Median time of the runs of a turn in seconds, by round and subject. Each subject runs the inputs one after the other, over and over; in
/// every other round they take their turns the other way round.
///
/// # Errors
/// The text of the first run that failed.
pub fn rounds(
    count: usize,
    subjects: &mut [Box<dyn Session>],
    inputs: &[Vec<Tensor>],
) -> Result<Vec<Vec<f64>>, String> {
    for subject in subjects.iter_mut() {
        subject.run(&inputs[0], &|| false).map_err(|cause| cause.to_string())?;
    }
    let mut medians = vec![vec![0.0; subjects.len()]; count];
    for (round, medians) in medians.iter_mut().enumerate() {
        for turn in 0..subjects.len() {
            let at = if round % 2 == 0 { turn } else { subjects.len() - 1 - turn };
            medians[at] = one_turn(subjects[at].as_mut(), inputs)?;
        }
    }
    Ok(medians)
}

fn one_turn(subject: &mut dyn Session, inputs: &[Vec<Tensor>]) -> Result<f64, String> {
    let begun = Instant::now();
    let mut times = vec![];
    for inputs in inputs.iter().cycle() {
        let run = Instant::now();
        let output = subject.run(inputs, &|| false).map_err(|cause| cause.to_string())?;
        times.push(run.elapsed().as_secs_f64());
        drop(output);
        if begun.elapsed() > TURN {
            break;
        }
    }
    Ok(median(&mut times))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Ratios, one a round.
pub struct Ratio {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Ratio {
    /// Of times by round and subject.
    pub fn of(rounds: &[Vec<f64>], ratio: impl Fn(&[f64]) -> f64) -> Self {
        let mut ratios: Vec<f64> = rounds.iter().map(|times| ratio(times)).collect();
        let median = median(&mut ratios);
        Self { median, least: ratios[0], most: ratios[ratios.len() - 1] }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median, self.least, self.most)
    }
}

/// The median over rounds of a subject's time, in microseconds.
pub fn micros(rounds: &[Vec<f64>], subject: usize) -> f64 {
    median(&mut rounds.iter().map(|times| times[subject] * 1e6).collect::<Vec<_>>())
}

/// The least over rounds of a subject's time, in microseconds.
pub fn least_micros(rounds: &[Vec<f64>], subject: usize) -> f64 {
    rounds.iter().map(|times| times[subject] * 1e6).fold(f64::INFINITY, f64::min)
}
