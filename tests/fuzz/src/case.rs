//! One case: a model is loaded as the server loads it, and run on what a client may send.

use std::path::Path;

use fastrand::Rng;

use super::mutation::number;
use crate::engine::tract::TractEngine;
use crate::engine::{Engine, Model};
use crate::tensor::{DataType, Tensor};

/// Runs of a model that loads, beside the one on zeros.
const RUNS: usize = 3;
/// Most elements of an input that is filled with wild numbers: a shape, axes, sizes.
const MAX_WILD_ELEMENTS: usize = 8;

/// Loads the file and runs it on zeros, and on wild values for its small inputs of integers. Whether it loaded.
pub fn run(engine: &TractEngine, path: &Path, seed: u64, stop: &dyn Fn() -> bool) -> bool {
    let Ok(model) = engine.load(path) else { return false };
    let sample = model.sample_inputs(1);
    let zeros = sample.iter().map(|input| Tensor::zeros(input.dtype(), input.shape().to_vec())).collect::<Vec<_>>();
    let mut session = model.session();
    let _ = session.run(&zeros, stop);
    let mut rng = Rng::with_seed(seed);
    for _ in 0..RUNS {
        let inputs: Vec<Tensor> = sample.iter().map(|input| wild(input, &mut rng)).collect();
        let _ = session.run(&inputs, stop);
    }
    true
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
