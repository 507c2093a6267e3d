//! `ai.onnx.ml.TreeEnsembleClassifier` and `TreeEnsembleRegressor` (versions 1 to 5), and `TreeEnsemble` (version 5).
//!
//! A file's parallel lists of attributes become an [`ensemble::Ensemble`], where everything is checked; that becomes a
//! [`forest::Forest`], packed for speed; [`scores`] walks it; and the operators make labels and scores of what comes out.

pub mod classifier;
mod ensemble;
mod forest;
mod lists;
pub mod regressor;
mod scores;
mod version_5;

use std::sync::OnceLock;

use tract_onnx::tract_hir::internal::*;

use self::ensemble::Ensemble;
use self::forest::{Forest, Real};
use self::scores::{Aggregate, Scores};
use super::labels::{self, matrix};
use super::post_transform::{self, PostTransform};
use super::{Built, MAX_OUTPUTS, attributes, inputs, kernel};

/// An ensemble with its packed forms, made when first needed: FP64 inputs are compared in FP64, all others in FP32.
#[derive(Debug)]
struct Trees {
    ensemble: Ensemble,
    single: OnceLock<Forest<f32>>,
    double: OnceLock<Forest<f64>>,
}

/// A type that trees compare in.
trait Number: Real + Datum {
    fn forest(trees: &Trees) -> &Forest<Self>;
    fn transform(transform: PostTransform, scores: &mut [Self], columns: usize);
}

impl Number for f32 {
    fn forest(trees: &Trees) -> &Forest<Self> {
        trees.single.get_or_init(|| Forest::new(&trees.ensemble))
    }

    fn transform(transform: PostTransform, scores: &mut [Self], columns: usize) {
        transform.apply_to_rows(scores, columns);
    }
}

impl Number for f64 {
    fn forest(trees: &Trees) -> &Forest<Self> {
        trees.double.get_or_init(|| Forest::new(&trees.ensemble))
    }

    fn transform(transform: PostTransform, scores: &mut [Self], columns: usize) {
        transform.apply_to_wide_rows(scores, columns);
    }
}

impl Trees {
    fn new(ensemble: Ensemble) -> Self {
        Self { ensemble, single: OnceLock::new(), double: OnceLock::new() }
    }

    fn bytes(&self) -> u64 {
        let forests = self.single.get().map_or(0, Forest::bytes) + self.double.get().map_or(0, Forest::bytes);
        (self.ensemble.bytes() + forests) as u64
    }

    /// The rows of an input that fits.
    fn rows_of(&self, input: &TypedFact) -> TractResult<TDim> {
        let (rows, width) = matrix(&input.shape)?;
        let needed = self.ensemble.features;
        let fits = width.to_i64().map_or(true, |width| width >= needed as i64);
        ensure!(fits, "the trees read feature {} of {width}", needed.saturating_sub(1));
        Ok(rows)
    }

    /// What the trees say to each row of `input`, which is `[rows, features]` of `T`.
    fn scores<T: Number>(&self, input: &Tensor, aggregate: Aggregate) -> TractResult<Scores<T>> {
        let (rows, width) = matrix(input.shape())?;
        let needed = self.ensemble.features;
        ensure!(width >= needed, "the trees read feature {} of {width}", needed - 1);
        let view = input.try_as_plain_ram()?;
        Ok(scores::score(T::forest(self), view.as_slice::<T>()?, (rows, width), aggregate))
    }
}

/// The type that trees of versions 1 to 3 get their input in.
fn compared_in(given: DatumType) -> TractResult<DatumType> {
    ensure!(given.is_number(), "trees take numbers, not {given:?}");
    Ok(if given == f64::datum_type() { given } else { f32::datum_type() })
}
