//! One case: a model is loaded as the server loads it, and run on what a client may send.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use prost::Message;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as DimValue};
use tract_onnx::pb::{ModelProto, ValueInfoProto, type_proto};

use super::memory;
use super::mutation::number;
use crate::engine::Engine;
use crate::engine::tract::TractEngine;
use crate::tensor::{DataType, Tensor};

/// Most time of a load, and of the runs after it.
pub const MOST_TIME: Duration = Duration::from_secs(10);
/// When the runs after a load are told to stop, as a request's deadline does.
const RUN_TIME: Duration = Duration::from_secs(2);
/// Bytes of one allocation that every case may make.
const LEAST_BYTES: usize = 256 << 20;
/// Most bytes of declared inputs and outputs that count.
const MOST_DECLARED_BYTES: usize = 1 << 30;
/// How many times the largest allocation a case may hold at a time.
const AT_A_TIME: usize = 4;
/// As the threads that load and run models have it.
const STACK_BYTES: usize = 2 << 20;
/// Runs of a model that loads, beside the one on zeros.
const RUNS: usize = 3;
/// Most elements of an input that is filled with wild numbers: a shape, axes, sizes.
const MAX_WILD_ELEMENTS: usize = 8;

/// What a case did.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    pub loaded: bool,
    /// The longer one of the load and the runs after it.
    pub took: Duration,
    pub allocated: memory::Allocated,
}

/// Loads and runs the model in `bytes` on a thread of its own.
///
/// # Errors
/// What it may not do: panic outside of the engine's fences, take too long, allocate too much.
pub fn checked(engine: &TractEngine, bytes: &[u8], seed: u64) -> Result<Done, String> {
    let path = file();
    fs::write(&path, bytes).map_err(|cause| format!("{}: {cause}", path.display()))?;
    let held = memory::begin();
    let ran = thread::scope(|scope| {
        let work = || run(engine, &path, seed);
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
        thread.map_err(|cause| cause.to_string())?.join().map_err(|_| "it panicked outside of the engine".to_owned())
    });
    let (loaded, took) = ran?;
    let done = Done { loaded, took, allocated: memory::end(held) };
    let declared = declared_bytes(bytes);
    let limit = LEAST_BYTES.max(10 * bytes.len() + declared.min(MOST_DECLARED_BYTES));
    if done.took > MOST_TIME {
        return Err(format!("it took {:.1} s", done.took.as_secs_f64()));
    }
    if done.allocated.largest > limit || done.allocated.most > AT_A_TIME * limit {
        return Err(format!("it allocated {:?}, at most {limit} bytes are allowed", done.allocated));
    }
    Ok(done)
}

/// Bytes of the inputs and outputs that a model declares; open sizes count as one.
fn declared_bytes(bytes: &[u8]) -> usize {
    /// No datatype is wider: texts, as they lie in memory.
    const WIDTH: usize = 24;
    let Some(graph) = ModelProto::decode(bytes).ok().and_then(|model| model.graph) else { return 0 };
    let size = |dim: &Dimension| match dim.value {
        Some(DimValue::DimValue(size)) => usize::try_from(size).unwrap_or(1),
        _ => 1,
    };
    let one = |info: &ValueInfoProto| match info.r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => {
            tensor.shape.iter().flat_map(|shape| &shape.dim).map(size).fold(WIDTH, usize::saturating_mul)
        }
        None => 0,
    };
    graph.input.iter().chain(&graph.output).map(one).fold(0, usize::saturating_add)
}

/// Where the model is put for the loader, which reads files. One for each process and thread.
fn file() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    folder.join(format!("headgate-fuzz-{}-{:?}.onnx", std::process::id(), thread::current().id()))
}

/// Loads the file and runs it on zeros, and on wild values for its small inputs of integers. Whether it loaded, and what the
/// load or the runs took.
fn run(engine: &TractEngine, path: &Path, seed: u64) -> (bool, Duration) {
    let begun = Instant::now();
    let loaded = engine.load(path);
    let load_time = begun.elapsed();
    let _ = fs::remove_file(path);
    let Ok(model) = loaded else { return (false, load_time) };
    let begun = Instant::now();
    let stop = || begun.elapsed() > RUN_TIME;
    let sample = model.sample_inputs(1);
    let zeros = sample.iter().map(|input| Tensor::zeros(input.dtype(), input.shape().to_vec())).collect::<Vec<_>>();
    let mut session = model.session();
    let _ = session.run(&zeros, &stop);
    let mut rng = Rng::with_seed(seed);
    for _ in 0..RUNS {
        let inputs: Vec<Tensor> = sample.iter().map(|input| wild(input, &mut rng)).collect();
        let _ = session.run(&inputs, &stop);
    }
    (true, load_time.max(begun.elapsed()))
}

fn wild(input: &Tensor, rng: &mut Rng) -> Tensor {
    if input.element_count() > MAX_WILD_ELEMENTS {
        return input.clone();
    }
    let numbers: Vec<i64> = (0..input.element_count()).map(|_| number(rng)).collect();
    let shape = input.shape().to_vec();
    let made = match input.dtype() {
        DataType::Int64 => Tensor::from_elements(DataType::Int64, shape, &numbers),
        DataType::Int32 => {
            let numbers: Vec<i32> = numbers.into_iter().map(|number| number as i32).collect();
            Tensor::from_elements(DataType::Int32, shape, &numbers)
        }
        _ => return input.clone(),
    };
    made.expect("as many values were made as the shape holds")
}
