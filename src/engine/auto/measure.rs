//! How long runs take on each of two engines.
//!
//! The shortest of several runs counts, for other work on the machine only ever adds. The engines take turns, and all sizes
//! are gone through twice, as far as time is left, so that a machine which was busy for a while does not look like a gain.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::choice_policy::EngineTime;
use crate::engine::{Model, RunError, Session};
use crate::tensor::Tensor;

/// Most rows of a run that are measured.
const MAX_ROWS: usize = 256;
/// Of all runs and builds together; sizes that are left then run on what the last size runs on.
const MAX_TIME: Duration = Duration::from_secs(4);
/// Of one turn of an engine, beyond the fewest runs.
const TURN: Duration = Duration::from_millis(4);
/// Turns of each engine at one size, each time that it is gone through: fewer where they take long.
const TURNS: usize = 5;
const MIN_TURNS: usize = 2;
/// Turns at one size are enough after it.
const TIME_PER_SIZE: Duration = Duration::from_millis(400);
/// Enough for the shortest to be near the truth.
const MAX_RUNS: usize = 40;
/// A run that takes longer loses nothing to cold caches.
const LONG_RUN: Duration = Duration::from_millis(20);
/// No size is tried whose run is likely to take longer; nor does a server run one, which cuts larger requests.
const MAX_RUN: Duration = Duration::from_millis(200);
/// Of the inputs of one run.
const MAX_INPUT_BYTES: usize = 32 << 20;

/// The shortest of several runs on each engine for one row, two, three, four, six and so on, by the engines' own times. A plan that
/// tract would keep for a size is made for it and given up. Blocks for about four seconds at most, a slow model's runs
/// aside. Empty where a model ran on neither.
pub fn measure(tract: &Arc<dyn Model>, onnxruntime: &Arc<dyn Model>) -> Vec<EngineTime> {
    let bench = Bench { tract, onnxruntime, begun: Instant::now() };
    let mut times = bench.first_pass();
    for time in &mut times {
        if bench.begun.elapsed() < MAX_TIME {
            bench.turns(time, &bench.that_run(tract.sample_inputs(time.rows)));
        }
    }
    times
}

struct Bench<'a> {
    tract: &'a Arc<dyn Model>,
    onnxruntime: &'a Arc<dyn Model>,
    begun: Instant,
}

impl Bench<'_> {
    fn first_pass(&self) -> Vec<EngineTime> {
        let mut times: Vec<EngineTime> = vec![];
        let max_rows = if self.tract.signature().batch_axes().is_some() { MAX_ROWS } else { 1 };
        let mut rows = 1;
        while rows <= max_rows && times.last().is_none_or(|last| self.has_time_beyond(last)) {
            let inputs = self.tract.sample_inputs(rows);
            let is_large = inputs.iter().map(|input| input.data().len()).sum::<usize>() > MAX_INPUT_BYTES;
            if is_large && rows > 1 {
                break;
            }
            let mut time = EngineTime { rows, tract_s: None, onnxruntime_s: None };
            self.turns(&mut time, &self.that_run(inputs));
            if time.tract_s.or(time.onnxruntime_s).is_none() {
                break;
            }
            times.push(time);
            rows = next_rows(rows);
        }
        times
    }

    /// Whether twice the rows would end in time.
    fn has_time_beyond(&self, last: &EngineTime) -> bool {
        let slowest_s = [last.tract_s, last.onnxruntime_s].into_iter().flatten().fold(0.0, f64::max);
        2.0 * slowest_s <= MAX_RUN.as_secs_f64() && self.begun.elapsed() < MAX_TIME
    }

    /// These inputs, or zeros where they don't run.
    fn that_run(&self, inputs: Vec<Tensor>) -> Vec<Tensor> {
        match self.onnxruntime.clone().session().run(&inputs, &|| false) {
            Ok(_) => inputs,
            Err(_) => inputs.iter().map(|input| Tensor::zeros(input.dtype(), input.shape().to_vec())).collect(),
        }
    }

    /// Lowers the times to the shortest of some turns of each engine.
    fn turns(&self, time: &mut EngineTime, inputs: &[Tensor]) {
        let planned = self.tract.prepare(inputs).is_ok();
        let begun = Instant::now();
        for turn in 0..TURNS {
            if turn >= MIN_TURNS && begun.elapsed() > TIME_PER_SIZE {
                break;
            }
            // On long runs the plan of their own is the faster one, or else it is so by little.
            if !planned || turn == 0 || time.tract_s.is_none_or(|tract_s| tract_s < LONG_RUN.as_secs_f64()) {
                keep(&mut time.tract_s, shortest(&mut *self.tract.clone().plain_session(), inputs));
            }
            if planned {
                keep(&mut time.tract_s, shortest(&mut *self.tract.clone().session(), inputs));
            }
            keep(&mut time.onnxruntime_s, shortest(&mut *self.onnxruntime.clone().session(), inputs));
        }
        self.tract.release(inputs);
    }
}

/// Twice as many; at small sizes, where an engine's kernels take steps, one size between.
fn next_rows(rows: usize) -> usize {
    match rows {
        2 | 4 | 8 => rows / 2 * 3,
        3 | 6 | 12 => rows / 3 * 4,
        _ => rows * 2,
    }
}

fn keep(least: &mut Option<f64>, time: Result<f64, RunError>) {
    if let Ok(time) = time {
        *least = Some(least.map_or(time, |least| least.min(time)));
    }
}

/// In seconds, of one turn's runs but the first, which finds caches cold, unless it is long.
fn shortest(session: &mut dyn Session, inputs: &[Tensor]) -> Result<f64, RunError> {
    let begun = Instant::now();
    let mut least = Duration::MAX;
    for run in 0..=MAX_RUNS {
        let timing = session.run(inputs, &|| false)?.timing;
        let time = timing.input + timing.infer + timing.output;
        if run == 0 && time < LONG_RUN {
            continue;
        }
        least = least.min(time);
        if begun.elapsed() > TURN {
            break;
        }
    }
    // A clock that did not move is no time of zero.
    Ok(least.max(Duration::from_nanos(1)).as_secs_f64())
}
