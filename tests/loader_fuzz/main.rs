//! The loader against hostile files, and runs against hostile values: whatever is in them, a load and a run end in time, take
//! memory within bounds and leave the process alive.
//!
//! A bounded share of what `tests/fuzz` does without end, by the same changes to the same models, and what was found so far,
//! each as a model of its own. A test binary by itself, for it counts what is allocated.

#[path = "../fuzz/src/case.rs"]
mod case;
#[path = "../fuzz/src/memory.rs"]
mod memory;
#[path = "../fuzz/src/mutation.rs"]
mod mutation;
mod files;
mod models;
mod values;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

use headgate::engine::panics::quiet_caught_panics;
use headgate::engine::tract::TractEngine;
use headgate::{engine, tensor};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// Cases of a run of the tests, whatever the machine; as many more as [`TIME`] allows are not tried.
const CASES: u64 = 3000;
/// Most time of all cases together.
const TIME: Duration = Duration::from_secs(30);
/// Larger models of the zoo load too slowly for thousands of cases.
const LARGEST_MODEL_BYTES: u64 = 120_000;
/// A test that hangs is ended after it.
const PATIENCE: Duration = Duration::from_secs(300);

/// Allocations are counted for the whole process, so that one test runs at a time; and one that hangs ends the process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    quiet_caught_panics();
    thread::spawn(|| {
        thread::sleep(PATIENCE);
        eprintln!("a case of the loader's tests hangs");
        process::abort();
    });
    guard
}

fn zoo() -> Vec<PathBuf> {
    let folders = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zoo")).unwrap();
    let files = folders.map(|folder| folder.unwrap().path().join("model.onnx"));
    let is_small = |file: &PathBuf| {
        // One of them takes seconds for a run, which is what it is for.
        let is_slow = file.parent().is_some_and(|folder| folder.ends_with("slow_matmul24"));
        !is_slow && fs::metadata(file).is_ok_and(|metadata| metadata.len() <= LARGEST_MODEL_BYTES)
    };
    let mut files: Vec<PathBuf> = files.filter(is_small).collect();
    files.sort();
    assert!(files.len() > 40, "the zoo is not whole: {} small models", files.len());
    files
}

#[test]
fn mutations_of_the_zoo_end_in_time_and_within_memory() {
    let _alone = alone();
    let (engine, models) = (TractEngine::new(), zoo());
    let models: Vec<Vec<u8>> = models.iter().map(|file| fs::read(file).unwrap()).collect();
    let (begun, mut loaded, mut tried) = (Instant::now(), 0, 0);
    for seed in 0..CASES {
        if begun.elapsed() > TIME {
            break;
        }
        let model = &models[(seed % models.len() as u64) as usize];
        let made = mutation::mutated(model, seed, model.len() * 2 + 4096);
        let done = case::checked(&engine, &made, seed).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        loaded += u64::from(done.loaded);
        tried += 1;
    }
    println!("{tried} of {CASES} mutated models, {loaded} of them loaded, in {:.1} s", begun.elapsed().as_secs_f64());
    assert!(loaded > tried / 20, "the changes leave hardly a model: {loaded} of {tried} loaded");
}
