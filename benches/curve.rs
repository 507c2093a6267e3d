//! What the models' batches take: without and with a plan prepared for the size, the cap that follows, what building
//! takes and how much memory plans hold.
//!
//! `cargo bench --bench curve [MODEL...]` measures as a server does after its start, and prints a table a model. Models
//! are folders with a `model.onnx`, in `tests/zoo` or in the directory that `HEADGATE_ZOO` names.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use headgate::batching::{BatchCurve, MeasureLimits, measure};
use headgate::engine::panics::quiet_caught_panics;
use headgate::engine::tract::TractEngine;
use headgate::engine::{Engine, Model, Session};
use headgate::tensor::Tensor;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MODELS: [&str; 12] = [
    "cancer_mlp",
    "codelang_v2",
    "digits_cnn_v1",
    "digits_cnn_v2",
    "digits_cnn_v4_slow",
    "gru_stateful",
    "iris_gnb",
    "iris_logreg",
    "mobilenet_v3_small",
    "slow_matmul24",
    "wine_rf",
    "wine_rf500",
];
const SIZES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Runs of one size and their time: the shortest counts.
const MAX_RUNS: usize = 200;
const SECONDS: f64 = 0.3;
/// Sizes beyond one that takes longer are left out.
const LONGEST_RUN_US: f64 = 500_000.0;

fn main() {
    quiet_caught_panics();
    let zoo = std::env::var_os("HEADGATE_ZOO")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zoo"), PathBuf::from);
    // Cargo adds flags of its own.
    let named: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let names = if named.is_empty() { MODELS.map(str::to_owned).to_vec() } else { named };
    for name in names {
        match TractEngine::new().load(&zoo.join(&name).join("model.onnx")) {
            Ok(model) => report(&name, &model),
            Err(cause) => println!("{name}: not served: {cause}\n"),
        }
    }
}

fn report(name: &str, model: &Arc<dyn Model>) {
    let bytes = model.memory_bytes();
    println!(
        "{name}: {} KiB when loaded, batch axis proven: {}",
        bytes / 1024,
        model.signature().batch_axes().is_some()
    );
    println!("  rows | unprepared µs | prepared µs | µs a row | build ms | plan KiB");
    for rows in SIZES {
        let slowest = table_row(model, rows);
        if slowest.is_none_or(|us| us > LONGEST_RUN_US) {
            break;
        }
    }
    let begun = Instant::now();
    let curve = measure(model, None, &MeasureLimits::default());
    let took = begun.elapsed();
    println!("  chosen in {} ms: {}", took.as_millis(), choice(&curve));
    println!("  plans kept hold {} KiB\n", (model.memory_bytes() - bytes.min(model.memory_bytes())) / 1024);
}

/// Measures one size at length, and gives up the plan that it prepares. Says what the slower of the two took.
fn table_row(model: &Arc<dyn Model>, rows: usize) -> Option<f64> {
    let inputs = model.sample_inputs(rows);
    if rows > 1 && model.signature().batch_axes().is_none() {
        return None;
    }
    let unprepared =
        if model.is_ready_for(&inputs) { shortest_us(model.clone().plain_session(), &inputs) } else { None };
    let bytes = model.memory_bytes();
    let begun = Instant::now();
    let built = model.prepare(&inputs).map(|()| (begun.elapsed(), model.memory_bytes() - bytes));
    let prepared = if built.is_ok() { shortest_us(model.clone().session(), &inputs) } else { None };
    model.release(&inputs);
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
    let best = [unprepared, prepared].into_iter().flatten().reduce(f64::min);
    let (build_ms, plan_kib) = match built {
        Ok((time, bytes)) => (Some(time.as_secs_f64() * 1e3), Some(bytes as f64 / 1024.0)),
        Err(_) => (None, None),
    };
    println!(
        "  {rows:4} | {:>13} | {:>11} | {:>8} | {:>8} | {:>8}",
        number(unprepared),
        number(prepared),
        number(best.map(|best| best / rows as f64)),
        number(build_ms),
        number(plan_kib),
    );
    [unprepared, prepared].into_iter().flatten().reduce(f64::max)
}

fn shortest_us(mut session: Box<dyn Session>, inputs: &[Tensor]) -> Option<f64> {
    let (begun, mut shortest) = (Instant::now(), f64::INFINITY);
    session.run(inputs, &|| false).ok()?;
    for run in 0..MAX_RUNS {
        let timing = session.run(inputs, &|| false).ok()?.timing;
        shortest = shortest.min((timing.input + timing.infer + timing.output).as_secs_f64() * 1e6);
        if run > 1 && begun.elapsed().as_secs_f64() > SECONDS {
            break;
        }
    }
    Some(shortest)
}

fn choice(curve: &BatchCurve) -> String {
    let prepared: Vec<usize> =
        curve.points().iter().filter(|point| point.prepared_s.is_some()).map(|point| point.rows).collect();
    let sizes: Vec<usize> = curve.points().iter().map(|point| point.rows).collect();
    let gain = curve.estimate_s(1) * curve.cap() as f64 / curve.estimate_s(curve.cap());
    format!(
        "cap {}, {gain:.1} times the rows a second of rows alone; plans kept for {prepared:?} of {sizes:?} {}",
        curve.cap(),
        curve.note()
    )
}
