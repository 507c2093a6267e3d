//! Loads a mutated model and runs it. A panic that the engine catches is an answer; what ends the process, takes more than
//! ten seconds or allocates beyond all reason is a finding.

#![no_main]
#![allow(dead_code, unused_imports, reason = "the engine's sources are compiled without the server that uses them")]

#[path = "../src/case.rs"]
mod case;
#[path = "../../../src/engine/mod.rs"]
mod engine;
#[path = "../../../src/error.rs"]
mod error;
#[path = "../../../src/inference.rs"]
mod inference;
#[path = "../src/memory.rs"]
mod memory;
#[path = "../src/mutation.rs"]
mod mutation;
#[path = "../../../src/signature.rs"]
mod signature;
#[path = "../../../src/tensor.rs"]
mod tensor;

use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

use self::engine::tract::TractEngine;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

static ENGINE: LazyLock<TractEngine> = LazyLock::new(TractEngine::new);

fuzz_target!(
    // libFuzzer's own hook ends the process at every panic, those that are caught among them.
    init: std::panic::set_hook(Box::new(|_| ())),
    |bytes: &[u8]| {
        let case = case::checked(&ENGINE, bytes, 0);
        if let Err(fault) = case {
            eprintln!("finding: {fault}");
            std::process::abort();
        }
    }
);

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let made = mutation::mutated(&data[..size], seed.into(), max_size);
    let length = made.len().min(max_size);
    data[..length].copy_from_slice(&made[..length]);
    length
});
