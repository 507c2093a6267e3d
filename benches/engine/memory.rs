//! What eight workers of a model hold: each reading in a process of its own.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Barrier};

use headgate::engine::Model;
use headgate::engine::auto::AutoEngine;

const WORKERS: usize = 8;
/// Runs of each worker, all at a time.
const RUNS: usize = 3;
/// The child's first argument.
pub const CHILD: &str = "memory-of";

/// A line for each model of large weights, on each engine.
pub fn memory(folder: &Path) {
    println!("## Memory of {WORKERS} workers\n");
    println!(
        "Resident MB of a process that runs a model in 1 and in {WORKERS} threads at a time, above that of a process that has loaded nothing, what was freed given back at once; goal: {WORKERS} workers hold the weights once, so that they take less than 1 and another copy of the weights.\n"
    );
    println!("| Model | Engine | Weights | 1 worker | {WORKERS} workers | |\n|---|---|---:|---:|---:|---|");
    for (name, weights_mb) in [("weights_matmul_64_mb", 64.0), ("weights_conv_54_mb", 54.0)] {
        for engine in ["tract", "onnxruntime"] {
            let path = folder.join(format!("{name}.onnx"));
            let [one, many] = [1, WORKERS].map(|workers| child(engine, &path, workers));
            let verdict = if many - one < weights_mb { "met" } else { "**missed**" };
            println!("| {name} | {engine} | {weights_mb:.0} | {one:.0} | {many:.0} | {verdict} |");
        }
    }
    println!();
}

/// Megabytes that a child of this process holds.
fn child(engine: &str, path: &Path, workers: usize) -> f64 {
    let program = std::env::current_exe().expect("this program");
    // Else it is chance whether what a load freed is still there when the reading is taken.
    let output = Command::new(program)
        .env("MIMALLOC_PURGE_DELAY", "0")
        .args([CHILD, engine])
        .arg(path)
        .arg(workers.to_string())
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("no reading: {text} {}", String::from_utf8_lossy(&output.stderr)))
}

/// What the child does: prints what it holds once the workers have run, in MB above what it held before.
pub fn measure_here(engine: &str, path: &Path, workers: usize) {
    let engines = AutoEngine::open(None).engines();
    let engine = engines.iter().find(|known| known.name() == engine).expect("an engine that is there");
    let before = resident_mb();
    let model = engine.load(path).expect("made by the script");
    run_together(&model, workers);
    println!("{}", resident_mb() - before);
}

fn run_together(model: &Arc<dyn Model>, workers: usize) {
    let barrier = Barrier::new(workers);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let (mut session, inputs) = (model.clone().session(), model.sample_inputs(1));
                for _ in 0..RUNS {
                    barrier.wait();
                    session.run(&inputs, &|| false).expect("it runs");
                }
            });
        }
    });
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a line for it");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("kibibytes") * 1024.0 / 1e6
}
