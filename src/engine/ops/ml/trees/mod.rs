//! `ai.onnx.ml.TreeEnsembleClassifier` and `TreeEnsembleRegressor` (versions 1 to 3).
//!
//! A file's parallel lists of attributes become an [`ensemble::Ensemble`], where everything is checked; that becomes a
//! [`forest::Forest`], packed for speed; [`scores`] walks it; and the two operators make labels and scores of what comes out.

pub mod classifier;
mod ensemble;
mod forest;
mod post_transform;
pub mod regressor;
mod scores;

use std::sync::OnceLock;

use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_hir::internal::*;

use self::ensemble::Ensemble;
use self::forest::Forest;
use self::scores::{Aggregate, Scores};

/// An ensemble with its packed forms, made when first needed: FP64 inputs are compared in FP64, all others in FP32.
#[derive(Debug)]
struct Trees {
    ensemble: Ensemble,
    single: OnceLock<Forest<f32>>,
    double: OnceLock<Forest<f64>>,
}

impl Trees {
    fn new(ensemble: Ensemble) -> Self {
        Self { ensemble, single: OnceLock::new(), double: OnceLock::new() }
    }

    fn bytes(&self) -> u64 {
        let forests = self.single.get().map_or(0, Forest::bytes) + self.double.get().map_or(0, Forest::bytes);
        (self.ensemble.bytes() + forests) as u64
    }

    /// What the trees say to each row of `input`, which is `[rows, features]` of FP32 or FP64.
    fn scores(&self, input: &Tensor, aggregate: Aggregate) -> TractResult<Scores> {
        let (rows, width) = (input.shape()[0], input.shape()[1]);
        let needed = self.ensemble.features;
        ensure!(width >= needed, "the trees read feature {} of {width}", needed - 1);
        let view = input.try_as_plain_ram()?;
        if input.datum_type() == f64::datum_type() {
            let forest = self.double.get_or_init(|| Forest::new(&self.ensemble));
            return Ok(scores::score(forest, view.as_slice::<f64>()?, (rows, width), aggregate));
        }
        let forest = self.single.get_or_init(|| Forest::new(&self.ensemble));
        Ok(scores::score(forest, view.as_slice::<f32>()?, (rows, width), aggregate))
    }
}

/// Where a tree operator keeps its trees and how many bytes they are; `None` for any other operator.
pub fn held_bytes(op: &dyn TypedOp) -> Option<(usize, u64)> {
    let trees = classifier::trees_of(op).or_else(|| regressor::trees_of(op))?;
    Some((std::ptr::from_ref(trees) as usize, trees.bytes()))
}

/// The input in a type that trees compare in.
fn wire_numbers(prefix: &str, model: &mut TypedModel, input: OutletId) -> TractResult<OutletId> {
    if model.outlet_fact(input)?.datum_type == f64::datum_type() {
        return Ok(input);
    }
    Ok(model.wire_node(format!("{prefix}.cast"), cast(f32::datum_type()), &[input])?[0])
}

/// Input `[N, features]`, scores `[N, outputs]` of FP32.
fn score_rules<'r, 'p: 'r>(
    solver: &mut Solver<'r>,
    input: &'p TensorProxy,
    scores: &'p TensorProxy,
    outputs: usize,
) -> InferenceResult {
    solver.equals(&input.rank, 2)?;
    solver.equals(&scores.datum_type, f32::datum_type())?;
    solver.equals(&scores.rank, 2)?;
    solver.equals(&scores.shape[0], &input.shape[0])?;
    solver.equals(&scores.shape[1], outputs.to_dim())
}
