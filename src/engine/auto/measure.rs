//! How long runs take on each of two engines.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::choice_policy::EngineTime;
use crate::engine::{Model, RunError, Session};
use crate::tensor::Tensor;

/// Most rows of a run that are measured.
const MAX_ROWS: usize = 256;
/// Of all runs and builds together; sizes that are left then run on what the last size runs on.
const MAX_TIME: Duration = Duration::from_secs(2);
/// Of one size on one engine, in each of the rounds.
const TIME_PER_SIZE: Duration = Duration::from_millis(4);
/// The engines take turns so often, so that a machine that was busy for a while does not look like a gain.
const ROUNDS: usize = 5;
/// Enough for the shortest to be near the truth.
const MAX_RUNS: usize = 40;
/// No size is tried whose run is likely to take longer.
const MAX_RUN: Duration = Duration::from_millis(200);
/// Of the inputs of one run.
const MAX_INPUT_BYTES: usize = 32 << 20;

/// The shortest of several runs on each engine for one row, two, four and so on, by the engines' own times. A plan that
/// tract would keep for a size is made for it and given up. Blocks for about two seconds at most, a slow model's runs
/// aside. Empty where a model ran on neither.
pub fn measure(tract: &Arc<dyn Model>, onnxruntime: &Arc<dyn Model>) -> Vec<EngineTime> {
    let begun = Instant::now();
    let mut times: Vec<EngineTime> = vec![];
    let max_rows = if tract.signature().batch_axes().is_some() { MAX_ROWS } else { 1 };
    let mut rows = 1;
    while rows <= max_rows {
        let inputs = tract.sample_inputs(rows);
        let slowest =
            times.last().and_then(|time| [time.tract_s, time.onnxruntime_s].into_iter().flatten().reduce(f64::max));
        let is_long = slowest.is_some_and(|slowest| 2.0 * slowest > MAX_RUN.as_secs_f64());
        let is_large = inputs.iter().map(|input| input.data().len()).sum::<usize>() > MAX_INPUT_BYTES;
        if !times.is_empty() && (is_long || is_large || begun.elapsed() > MAX_TIME) {
            break;
        }
        let Some(time) = one_size(tract, onnxruntime, inputs, rows) else { break };
        times.push(time);
        rows *= 2;
    }
    times
}

/// `None` where neither runs.
fn one_size(
    tract: &Arc<dyn Model>,
    onnxruntime: &Arc<dyn Model>,
    inputs: Vec<Tensor>,
    rows: usize,
) -> Option<EngineTime> {
    let zeros = || inputs.iter().map(|input| Tensor::zeros(input.dtype(), input.shape().to_vec())).collect();
    let runs = |inputs: &[Tensor]| onnxruntime.clone().session().run(inputs, &|| false).is_ok();
    let inputs: Vec<Tensor> = if runs(&inputs) { inputs.clone() } else { zeros() };
    let mut time = EngineTime { rows, tract_s: None, onnxruntime_s: None };
    let planned = tract.prepare(&inputs).is_ok();
    for _ in 0..ROUNDS {
        keep(&mut time.tract_s, shortest(&mut *tract.clone().plain_session(), &inputs));
        if planned {
            keep(&mut time.tract_s, shortest(&mut *tract.clone().session(), &inputs));
        }
        keep(&mut time.onnxruntime_s, shortest(&mut *onnxruntime.clone().session(), &inputs));
    }
    tract.release(&inputs);
    time.tract_s.or(time.onnxruntime_s).map(|_| time)
}

fn keep(least: &mut Option<f64>, time: Result<f64, RunError>) {
    if let Ok(time) = time {
        *least = Some(least.map_or(time, |least| least.min(time)));
    }
}

/// In seconds, of what comes after a first run that is not counted.
fn shortest(session: &mut dyn Session, inputs: &[Tensor]) -> Result<f64, RunError> {
    session.run(inputs, &|| false)?;
    let begun = Instant::now();
    let mut least = Duration::MAX;
    for _ in 0..MAX_RUNS {
        let timing = session.run(inputs, &|| false)?.timing;
        least = least.min(timing.input + timing.infer + timing.output);
        if begun.elapsed() > TIME_PER_SIZE {
            break;
        }
    }
    // A clock that did not move is no time of zero.
    Ok(least.max(Duration::from_nanos(1)).as_secs_f64())
}
