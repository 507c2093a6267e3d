//! `engine: auto` against the faster of both engines, on each model of the zoo.

use std::path::Path;
use std::sync::Arc;

use headgate::batching::{BatchCurve, MeasureLimits, measure};
use headgate::engine::auto::AutoEngine;
use headgate::engine::{Engine, Model, RunError, RunOutput, Session};
use headgate::tensor::Tensor;

use crate::rounds::{least_micros, rounds};

/// Powers of two, at which engines are measured, and sizes between them.
const SIZES: [usize; 9] = [1, 2, 3, 4, 8, 12, 32, 64, 256];
const ROUNDS: usize = 9;
/// Requests that take less don't count: what one takes outside of the engine is more.
const SHORT_US: f64 = 100.0;
/// Sizes beyond one that takes longer are left out.
const LONGEST_US: f64 = 150_000.0;
const GOAL: f64 = 1.05;
/// Turns of a size that was beyond the goal, before that counts.
const MORE_ROUNDS: usize = 3 * ROUNDS;

/// A line for each size of each model whose run takes long enough.
pub fn auto(engine: &AutoEngine, zoo: &Path) {
    println!("## engine: auto\n");
    println!(
        "Time of a request's rows with `auto` as a multiple of the time on the faster engine alone, where that is {SHORT_US} µs or more; goal: {GOAL} at most. Each of the three cuts the rows into runs, and keeps plans, as a server does by the batch sizes that it measured. Times are the least of {ROUNDS} turns: of two engines that are alike, the faster one of a turn is the one that was disturbed less. A size beyond the goal has {MORE_ROUNDS} turns more before that counts.\n"
    );
    println!("| Model | Rows | auto / faster | tract µs | ONNX Runtime µs | Runs on |\n|---|---:|---|---:|---:|---|");
    let (mut worst, mut beyond, mut counted, mut left_out) = (0f64, 0, 0, vec![]);
    for name in names(zoo) {
        let path = zoo.join(&name).join("model.onnx");
        let engines = engine.engines();
        let alone: Vec<_> = engines.iter().map(|engine| engine.load(&path)).collect();
        let (Ok(tract), Ok(onnxruntime), Ok(chosen)) = (&alone[0], &alone[1], engine.load(&path)) else {
            left_out.push(format!("{name} (one engine alone loads it)"));
            continue;
        };
        if chosen.choose_engine(None).is_none() {
            let note = chosen.notes().into_iter().find(|note| note.starts_with("runs on")).unwrap_or_default();
            left_out.push(format!("{name} ({note})"));
            continue;
        }
        let models = [tract.clone(), onnxruntime.clone(), chosen.clone()];
        for (rows, ratio, times) in sizes(&models) {
            (worst, counted) = (worst.max(ratio), counted + 1);
            beyond += usize::from(ratio > GOAL);
            let on = chosen.notes().into_iter().find_map(|note| Some(note.split_once(';')?.0.to_owned()));
            println!(
                "| {name} | {rows} | {ratio:.2} | {:.0} | {:.0} | {} |",
                times[0],
                times[1],
                on.unwrap_or_default()
            );
        }
    }
    println!(
        "\nBeyond {GOAL}: {beyond} of {counted}; the greatest {worst:.2}: {}.\n",
        if beyond == 0 { "met" } else { "**missed**" }
    );
    println!("Left out, as there is nothing to choose: {}.\n", left_out.join("; "));
}

/// Rows, the ratio and both engines' times in µs, of the sizes that count.
fn sizes(models: &[Arc<dyn Model>; 3]) -> Vec<(usize, f64, [f64; 2])> {
    let mut measured = vec![];
    let most = if models[0].signature().batch_axes().is_some() { usize::MAX } else { 1 };
    // It leaves the plans prepared that pay.
    let curves = models.each_ref().map(|model| measure(model, None, &MeasureLimits::default()));
    for rows in SIZES.into_iter().filter(|&rows| rows <= most) {
        let served = |(model, curve)| Box::new(Served::new(model, curve, rows)) as Box<dyn Session>;
        let mut sessions: Vec<_> = models.iter().zip(&curves).map(served).collect();
        let mut turns = |count| rounds(count, &mut sessions, &[vec![]]);
        let Ok(mut times) = turns(ROUNDS) else { continue };
        if ratio(&times) > GOAL {
            times.extend(turns(MORE_ROUNDS).unwrap_or_default());
        }
        let both = [0, 1].map(|subject| least_micros(&times, subject));
        if both[0].min(both[1]) >= SHORT_US {
            measured.push((rows, ratio(&times), both));
        }
        if both[0].max(both[1]) > LONGEST_US {
            break;
        }
    }
    measured
}

/// A request of some rows, in the runs that a server makes of it; other inputs are not looked at.
struct Served {
    session: Box<dyn Session>,
    runs: Vec<Vec<Tensor>>,
}

impl Served {
    fn new(model: &Arc<dyn Model>, curve: &BatchCurve, rows: usize) -> Self {
        let (mut runs, mut left) = (vec![], rows);
        while left > 0 {
            let taken = curve.best_cut(left);
            runs.push(model.sample_inputs(curve.run_rows(taken)));
            left -= taken;
        }
        Self { session: model.clone().session(), runs }
    }
}

impl Session for Served {
    /// The outputs of the last run.
    fn run(&mut self, _: &[Tensor], stop: &dyn Fn() -> bool) -> Result<RunOutput, RunError> {
        let last = self.runs.iter().map(|inputs| self.session.run(inputs, stop)).reduce(Result::and);
        last.expect("a request has rows")
    }
}

/// The time with `auto` as a multiple of the faster engine's.
fn ratio(times: &[Vec<f64>]) -> f64 {
    let [tract, onnxruntime, auto] = [0, 1, 2].map(|subject| least_micros(times, subject));
    auto / tract.min(onnxruntime)
}

fn names(zoo: &Path) -> Vec<String> {
    let folders = std::fs::read_dir(zoo).expect("the zoo").flatten();
    let with_model = folders.filter(|folder| folder.path().join("model.onnx").is_file());
    let mut names: Vec<String> = with_model.filter_map(|folder| folder.file_name().into_string().ok()).collect();
    names.sort();
    names
}
