//! `engine: auto` against the faster of both engines, on each model of the zoo.

use std::path::Path;
use std::sync::Arc;

use headgate::batching::{MeasureLimits, measure};
use headgate::engine::auto::AutoEngine;
use headgate::engine::{Engine, Model};

use crate::rounds::{least_micros, rounds};

/// Powers of two, at which engines are measured, and sizes between them.
const SIZES: [usize; 9] = [1, 2, 3, 4, 8, 12, 32, 64, 256];
const ROUNDS: usize = 9;
/// Shorter runs don't count: what a request takes outside of the engine is more.
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
        "Time of a run as `auto` runs it as a multiple of the faster engine's, where the faster one takes {SHORT_US} µs or more; goal: {GOAL} at most. Of the sizes up to the largest that a server has any of the three run at once: it measures which are worth it, and cuts larger requests. Times are the least of {ROUNDS} turns: of two engines that are alike, the faster one of a turn is the one that was disturbed less. A size beyond the goal has {MORE_ROUNDS} turns more before that counts.\n"
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
    // As a server does: it leaves the plans prepared that pay.
    let caps = models.each_ref().map(|model| measure(model, None, &MeasureLimits::default()).cap());
    let most = caps.into_iter().max().unwrap_or(1);
    for rows in SIZES.into_iter().filter(|&rows| rows <= most) {
        let inputs = models[0].sample_inputs(rows);
        let mut sessions: Vec<_> = models.iter().map(|model| model.clone().session()).collect();
        let mut turns = |count| rounds(count, &mut sessions, std::slice::from_ref(&inputs));
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

/// The time as `auto` runs it as a multiple of the faster engine's.
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
