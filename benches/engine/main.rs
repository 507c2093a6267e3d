//! Both engines against each other: tree ensembles, `engine: auto`, memory.
//!
//! `cargo bench --bench engine -- FOLDER [trees] [auto] [memory]` with the library of ONNX Runtime where a server would find
//! it. `FOLDER` is what `make_models.py` wrote; `run.py` does all of it and writes the results down.

mod auto;
mod memory;
mod rounds;
mod trees;

use std::path::{Path, PathBuf};

use headgate::engine::auto::AutoEngine;
use headgate::engine::panics::quiet_caught_panics;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    quiet_caught_panics();
    // Cargo adds flags of its own.
    let given: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let [child, engine, path, workers] = given.as_slice()
        && child == memory::CHILD
    {
        return memory::measure_here(engine, Path::new(path), workers.parse().expect("a number of workers"));
    }
    let Some((folder, parts)) = given.split_first() else {
        return println!("engine: no folder of models given; run benches/engine/run.py");
    };
    let folder = Path::new(folder);
    let engine = AutoEngine::open(None);
    if let Some(absent) = engine.onnxruntime_absent() {
        eprintln!("engine: {absent}");
        std::process::exit(1);
    }
    let engines = engine.engines();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|named| named == part);
    if wanted("trees") {
        trees::trees(engines[0].as_ref(), engines[1].as_ref(), folder);
    }
    if wanted("auto") {
        let zoo = std::env::var_os("HEADGATE_ZOO")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zoo"), PathBuf::from);
        auto::auto(&engine, &zoo);
    }
    if wanted("memory") {
        memory::memory(folder);
    }
}
