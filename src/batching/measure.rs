//! Measures a model's batch sizes and prepares plans for those where they pay.
//!
//! Sizes double as long as that is worth it. Each is run on the plan that serves every size, then on a plan prepared for
//! it, which is kept where it pays for its memory. Times are the engine's own, and of several runs the shortest counts:
//! other work on the machine only ever adds. All sizes are measured a second time after the last, as far as time is left,
//! so that a machine which was slow for a while doesn't look like a gain.
//!
//! Where other dimensions vary too, a prepared plan would fit the made-up inputs alone. There each size is measured on a
//! plan of its own that is given up at once: shapes that keep coming earn theirs, and one row was measured on its own.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::curve::{BatchCurve, MAX_MEASURED_ROWS, Measured};
use super::curve_policy::{Point, cap, next_size, pays, wants_another};
use crate::engine::{Model, RunError, Session};
use crate::tensor::Tensor;

/// Runs of one size on one plan: at least two, after one that isn't counted.
const MIN_RUNS: u32 = 2;
/// Enough for the shortest to be near the truth.
const MAX_RUNS: u32 = 200;

/// What a measurement may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeasureLimits {
    /// Of running and building, all in all; a slow model gets fewer sizes. The first size is always tried.
    pub time: Duration,
    /// Of running one size on one plan, beyond the fewest runs; twice where time is left.
    pub time_per_size: Duration,
    /// No size is tried that is likely to run longer than this: everybody in a batch waits for all of it.
    pub max_run: Duration,
    /// Of the inputs of one run.
    pub max_input_bytes: usize,
    /// Of all prepared plans together.
    pub max_plan_bytes: u64,
}

impl Default for MeasureLimits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(2),
            time_per_size: Duration::from_millis(25),
            max_run: Duration::from_millis(200),
            max_input_bytes: 32 << 20,
            max_plan_bytes: 128 << 20,
        }
    }
}

/// Measures the batch sizes of a model up to `max_rows` (`None`: as many as are worth it) and leaves the plans that pay
/// prepared. Without a proven batch axis one row alone is measured. Blocks for about `limits.time` at most, runs and
/// builds under way aside, so it is for background threads.
///
/// A model that fails on made-up inputs, of zeros too, has an unmeasured curve that says why.
pub fn measure(model: &Arc<dyn Model>, max_rows: Option<usize>, limits: &MeasureLimits) -> BatchCurve {
    let max_rows = bound(model.as_ref(), max_rows);
    let mut bench = Bench {
        plain: model.clone().plain_session(),
        planned: model.clone().session(),
        model: model.as_ref(),
        limits,
        any_size: max_rows == 1 || model.is_ready_for(&model.sample_inputs(2)),
        shapes_are_known: model.signature().only_rows_vary(),
        begun: Instant::now(),
        spent: Duration::ZERO,
        plan_bytes: 0,
        longest_build: Duration::ZERO,
        zeros: false,
    };
    let (mut points, note) = match bench.points(max_rows) {
        Ok(measured) => measured,
        Err(cause) => return BatchCurve::unmeasured_because(format!("it ran on no made-up inputs: {cause}")),
    };
    for point in &mut points {
        // A run that fails the second time leaves what the first pass found.
        let _ = bench.again(point);
    }
    let cap = cap(&points);
    let keep = |point: Point| {
        let beyond = point.rows > cap && point.prepared_s.is_some();
        if beyond {
            model.release(&model.sample_inputs(point.rows));
        }
        if beyond { point.unprepared_s.map(|_| Point { prepared_s: None, ..point }) } else { Some(point) }
    };
    let points = points.into_iter().filter_map(keep).collect();
    BatchCurve::new(Measured { points, max_rows }).noting(note)
}

/// The curve of a measurement that was made before, with its plans prepared again. `None` where the measurement is of
/// no use any more: it ends below `max_rows`, or a plan that it needs can't be prepared. Blocks for the builds.
pub fn restore(model: &Arc<dyn Model>, max_rows: Option<usize>, measured: Measured) -> Option<BatchCurve> {
    let max_rows = bound(model.as_ref(), max_rows);
    if !measured.is_sound() || measured.max_rows < max_rows {
        return None;
    }
    let mut measured = measured.up_to(max_rows);
    for point in measured.points.iter_mut().filter(|point| point.prepared_s.is_some()) {
        if model.prepare(&model.sample_inputs(point.rows)).is_err() {
            point.unprepared_s?;
            point.prepared_s = None;
        }
    }
    Some(BatchCurve::new(measured))
}

/// Rows beyond which no size is of interest.
fn bound(model: &dyn Model, max_rows: Option<usize>) -> usize {
    match model.signature().batch_axes() {
        None => 1,
        Some(_) => max_rows.unwrap_or(MAX_MEASURED_ROWS).clamp(1, MAX_MEASURED_ROWS),
    }
}

/// What a run is measured on.
#[derive(Debug, Clone, Copy)]
enum On {
    /// What serves every size.
    Plain,
    /// The plan prepared for the size.
    Prepared,
}

struct Bench<'a> {
    model: &'a dyn Model,
    plain: Box<dyn Session>,
    planned: Box<dyn Session>,
    limits: &'a MeasureLimits,
    /// Every size runs without a plan of its own.
    any_size: bool,
    /// A plan of its own for a size would fit real inputs, which vary in their rows only.
    shapes_are_known: bool,
    begun: Instant,
    /// On runs, by the engine's times, and on builds.
    spent: Duration,
    /// Of the prepared plans that were kept.
    plan_bytes: u64,
    longest_build: Duration,
    /// Whether the model wants zeros for inputs.
    zeros: bool,
}

impl Bench<'_> {
    /// The points, and why they end where they end if that is not for want of a gain.
    fn points(&mut self, max_rows: usize) -> Result<(Vec<Point>, String), RunError> {
        let unprepared_s = Some(self.shortest_s(&self.model.sample_inputs(1), On::Plain)?);
        let mut points = vec![Point { rows: 1, unprepared_s, prepared_s: None }];
        if !self.any_size && !self.shapes_are_known {
            // Real inputs have other shapes than made-up ones, and each would wait for a plan at each batch size.
            return Ok((points, "every shape needs a plan of its own, so rows run alone".to_owned()));
        }
        while wants_another(&points)
            && let Some(last) = points.last().copied()
            && let Some(rows) = next_size(last.rows, max_rows)
        {
            let inputs = self.model.sample_inputs(rows);
            if let Some(reason) = self.reason_to_end(&last, &inputs, rows) {
                return Ok((points, reason));
            }
            match self.point(rows, &inputs) {
                Ok(Some(point)) => points.push(point),
                Ok(None) => return Ok((points, format!("no plan for {rows} rows could be kept"))),
                Err(cause) => return Ok((points, format!("it failed on {rows} made-up rows: {cause}"))),
            }
        }
        Ok((points, String::new()))
    }

    fn reason_to_end(&self, last: &Point, inputs: &[Tensor], rows: usize) -> Option<String> {
        let slowest_s = last.unprepared_s.unwrap_or(0.0).max(last.run_s());
        let growth = rows as f64 / last.rows as f64;
        let runs = f64::from(1 + MIN_RUNS);
        let cost_s = growth * runs * (slowest_s + last.run_s()) + self.longest_build.as_secs_f64();
        let left_s = self.limits.time.saturating_sub(self.spent).as_secs_f64();
        let bytes: usize = inputs.iter().map(|input| input.data().len()).sum();
        if growth * last.run_s() > self.limits.max_run.as_secs_f64() {
            return Some(format!("{rows} rows would run longer than {:?}", self.limits.max_run));
        }
        if cost_s > left_s {
            return Some(format!("no time was left to measure {rows} rows"));
        }
        let limit = self.limits.max_input_bytes;
        (bytes > limit).then(|| format!("{rows} rows have more than {limit} bytes"))
    }

    /// Measures one size; `None` where it needs a plan and none is kept.
    fn point(&mut self, rows: usize, inputs: &[Tensor]) -> Result<Option<Point>, RunError> {
        if !self.shapes_are_known {
            let unprepared_s = Some(self.passing_s(inputs)?);
            return Ok(Some(Point { rows, unprepared_s, prepared_s: None }));
        }
        let unprepared_s = if self.any_size { Some(self.shortest_s(inputs, On::Plain)?) } else { None };
        let prepared_s = self.prepared_s(inputs, unprepared_s)?;
        let can_run = unprepared_s.or(prepared_s).is_some();
        Ok(can_run.then_some(Point { rows, unprepared_s, prepared_s }))
    }

    /// Measures one size once more, and gives up a plan that does not pay after all.
    fn again(&mut self, point: &mut Point) -> Result<(), RunError> {
        if self.spent >= self.limits.time {
            return Ok(());
        }
        let inputs = self.model.sample_inputs(point.rows);
        if let Some(plain_s) = &mut point.unprepared_s {
            let of_its_own = point.rows > 1 && !self.shapes_are_known;
            let again_s = if of_its_own { self.passing_s(&inputs)? } else { self.shortest_s(&inputs, On::Plain)? };
            *plain_s = plain_s.min(again_s);
        }
        if let Some(planned_s) = &mut point.prepared_s {
            *planned_s = planned_s.min(self.shortest_s(&inputs, On::Prepared)?);
        }
        if let Point { unprepared_s: Some(plain_s), prepared_s: Some(planned_s), .. } = *point
            && !pays(plain_s, planned_s)
        {
            self.model.release(&inputs);
            point.prepared_s = None;
        }
        Ok(())
    }

    /// The time on a plan that is not kept, or on what serves every size where none can be built.
    fn passing_s(&mut self, inputs: &[Tensor]) -> Result<f64, RunError> {
        if self.prepare(inputs).is_err() {
            return self.shortest_s(inputs, On::Plain);
        }
        let timed = self.shortest_s(inputs, On::Prepared);
        self.model.release(inputs);
        timed
    }

    /// The time on a prepared plan, which is kept; `None` if it does not pay, holds too much memory or can't be built.
    fn prepared_s(&mut self, inputs: &[Tensor], unprepared_s: Option<f64>) -> Result<Option<f64>, RunError> {
        let bytes = self.model.memory_bytes();
        if self.prepare(inputs).is_err() {
            return Ok(None);
        }
        let bytes = self.model.memory_bytes().saturating_sub(bytes);
        let timed = self.shortest_s(inputs, On::Prepared);
        let is_worth_it = |time: &f64| {
            unprepared_s.is_none_or(|plain_s| pays(plain_s, *time))
                && self.plan_bytes + bytes <= self.limits.max_plan_bytes
        };
        match timed {
            Ok(time) if is_worth_it(&time) => {
                self.plan_bytes += bytes;
                Ok(Some(time))
            }
            other => {
                self.model.release(inputs);
                other.map(|_| None)
            }
        }
    }

    fn prepare(&mut self, inputs: &[Tensor]) -> Result<(), RunError> {
        let begun = Instant::now();
        let prepared = self.model.prepare(inputs);
        let build = begun.elapsed();
        self.spent += build;
        self.longest_build = self.longest_build.max(build);
        prepared
    }

    /// The shortest of several runs in seconds. Values that the model fails on are replaced by zeros.
    fn shortest_s(&mut self, inputs: &[Tensor], on: On) -> Result<f64, RunError> {
        let zeros = || inputs.iter().map(|input| Tensor::zeros(input.dtype(), input.shape().to_vec())).collect();
        let inputs = if self.zeros { zeros() } else { inputs.to_vec() };
        // The first run warms caches up, and isn't counted.
        let inputs = match self.run(&inputs, on) {
            Ok(_) => inputs,
            Err(cause) if self.zeros || cause == RunError::Stopped => return Err(cause),
            Err(cause) => {
                let inputs = zeros();
                self.run(&inputs, on).map_err(|_| cause)?;
                self.zeros = true;
                inputs
            }
        };
        let (mut shortest, mut runs, mut total) = (Duration::MAX, 0, Duration::ZERO);
        loop {
            let took = self.run(&inputs, on)?;
            shortest = shortest.min(took);
            total += took;
            runs += 1;
            let enough = runs >= MIN_RUNS && total >= self.limits.time_per_size;
            if enough || runs >= MAX_RUNS || self.spent >= self.limits.time {
                return Ok(shortest.as_secs_f64());
            }
        }
    }

    fn run(&mut self, inputs: &[Tensor], on: On) -> Result<Duration, RunError> {
        // By the clock on the wall, which goes on where the machine is busy with something else.
        let (begun, patience) = (self.begun, 3 * self.limits.time);
        let session = match on {
            On::Plain => &mut self.plain,
            On::Prepared => &mut self.planned,
        };
        let ran = session.run(inputs, &|| begun.elapsed() > patience)?;
        let took = ran.timing.input + ran.timing.infer + ran.timing.output;
        self.spent += took;
        Ok(took)
    }
}
