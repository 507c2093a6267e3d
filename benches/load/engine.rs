//! The engine alone: a model in a loop on as many threads as there are cores, for batches of several sizes. What it
//! gives in rows a second is what a server of that model can't pass.

use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use headgate::engine::rows::concat_rows;
use headgate::engine::tract::TractEngine;
use headgate::engine::{Engine, Model};
use headgate::tensor::Tensor;

use crate::processor::thread_s;
use crate::workload::{Case, Row};

/// Runs before the clock starts: plans are made, memory is touched.
const WARM_RUNS: usize = 3;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model file
    #[arg(long)]
    model: PathBuf,
    /// NAME=FILE.npz: a recorded run, whose rows are the input
    #[arg(long)]
    case: Case,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Rows of a run
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32,64")]
    batches: Vec<usize>,
    /// Time for each batch size
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

/// What one thread did.
struct Part {
    runs: u64,
    seconds: f64,
    processor_s: f64,
    run_ns: Histogram<u64>,
}

/// Prints one object with a list of what each batch size gave.
pub fn run(args: &Args) -> Result<Value, String> {
    let model = TractEngine::new().load(&args.model).map_err(|error| error.to_string())?;
    let rows = args.case.rows()?;
    let mut sizes = vec![];
    for batch in &args.batches {
        match inputs(model.as_ref(), &rows, *batch) {
            Some(inputs) => sizes.push(one_size(args, &model, *batch, &inputs)?),
            None => sizes.push(json!({ "batch": batch, "left_out": "these inputs don't make one batch" })),
        }
    }
    Ok(json!({ "threads": args.threads, "sizes": sizes }))
}

/// `batch` rows, the recorded ones in turn, in the order of the model's inputs.
fn inputs(model: &dyn Model, rows: &[Row], batch: usize) -> Option<Vec<Tensor>> {
    if batch > 1 && model.signature().batch_axes().is_none() {
        return None;
    }
    let each = |spec: &headgate::signature::TensorSpec| {
        let parts = (0..batch).map(|at| {
            let inputs = &rows[at % rows.len()].inputs;
            inputs.iter().find(|(name, _)| *name == spec.name).map(|(_, tensor)| tensor.clone())
        });
        let parts: Vec<Tensor> = parts.collect::<Option<_>>()?;
        if batch == 1 { parts.into_iter().next() } else { concat_rows(&parts, 0) }
    };
    model.signature().inputs.iter().map(each).collect()
}

fn one_size(args: &Args, model: &Arc<dyn Model>, batch: usize, inputs: &[Tensor]) -> Result<Value, String> {
    let together = Arc::new(Barrier::new(args.threads));
    let work: Vec<_> = (0..args.threads)
        .map(|_| {
            let (model, inputs, together, seconds) = (model.clone(), inputs.to_vec(), together.clone(), args.seconds);
            thread::spawn(move || one_thread(&model, &inputs, &together, seconds))
        })
        .collect();
    let mut run_ns = histogram();
    let (mut runs_per_s, mut runs, mut processor_s) = (0.0, 0, 0.0);
    for part in work {
        let part = part.join().map_err(|_| "a thread panicked")??;
        runs_per_s += part.runs as f64 / part.seconds;
        runs += part.runs;
        processor_s += part.processor_s;
        run_ns.add(&part.run_ns).map_err(|error| error.to_string())?;
    }
    let us = |quantile| run_ns.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(json!({
        "batch": batch,
        "runs_per_s": runs_per_s,
        "rows_per_s": runs_per_s * batch as f64,
        "cpu_us_per_row": processor_s / (runs * batch as u64) as f64 * 1e6,
        "run_p50_us": us(0.5),
        "run_p99_us": us(0.99),
    }))
}

fn one_thread(model: &Arc<dyn Model>, inputs: &[Tensor], together: &Barrier, seconds: f64) -> Result<Part, String> {
    let mut session = model.clone().session();
    let mut once = || session.run(inputs, &|| false).map(drop).map_err(|error| error.to_string());
    for _ in 0..WARM_RUNS {
        once()?;
    }
    together.wait();
    let (begun, processor) = (Instant::now(), thread_s());
    let until = begun + Duration::from_secs_f64(seconds);
    let (mut runs, mut run_ns, mut last) = (0, histogram(), begun);
    while last < until {
        once()?;
        let now = Instant::now();
        run_ns.saturating_record((now - last).as_nanos() as u64);
        (runs, last) = (runs + 1, now);
    }
    Ok(Part { runs, seconds: begun.elapsed().as_secs_f64(), processor_s: thread_s() - processor, run_ns })
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("sound bounds")
}
