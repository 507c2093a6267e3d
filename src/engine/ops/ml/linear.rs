//! `ai.onnx.ml.LinearClassifier` and `LinearRegressor` (version 1), in FP32.
//!
//! tract has both, but without PROBIT and SOFTMAX_ZERO, and what it makes of a binary classifier with one row of
//! coefficients is not what ONNX Runtime makes of it.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::dense::linear;
use super::kernel::{Facts, Kernel, built};
use super::labels::{Labels, highest, matrix, scores};
use super::post_transform::PostTransform;
use super::{Built, MAX_OUTPUTS};

pub fn build_classifier(_: &ParsingContext, node: &NodeProto) -> Built {
    let labels = Labels::read(node, "classlabels_ints")?;
    let layer = Layer::read(node, None, labels.count())?;
    let one = layer.outputs == 1;
    let classes = labels.count();
    ensure!(one || layer.outputs <= classes, "{} rows of coefficients for {classes} class labels", layer.outputs);
    let adds_second = one && classes == 2;
    ensure!(
        !(adds_second && layer.post_transform == PostTransform::Probit),
        "PROBIT has no defined meaning for a binary classifier with one row of coefficients"
    );
    // As in ONNX Runtime, one row of coefficients decides between two classes even where there are not two labels.
    let labels = if one && classes != 2 { labels.zero_and_one() } else { labels };
    built(Classifier { layer, labels, adds_second })
}

pub fn build_regressor(_: &ParsingContext, node: &NodeProto) -> Built {
    let targets = node.get_attr_opt::<i64>("targets")?.unwrap_or(1);
    let targets = usize::try_from(targets).ok().filter(|targets| (1..=MAX_OUTPUTS).contains(targets));
    let targets = targets.context("attribute 'targets' is out of range")?;
    built(Regressor(Layer::read(node, Some(targets), targets)?))
}

/// `x * coefficients^T + intercepts`.
#[derive(Debug)]
struct Layer {
    /// `[outputs, features]`.
    coefficients: Vec<f32>,
    /// One for each output, or none.
    intercepts: Vec<f32>,
    outputs: usize,
    features: usize,
    post_transform: PostTransform,
}

impl Layer {
    /// A regressor knows its outputs; a classifier has one for each intercept or, without, `without` of them. As in ONNX
    /// Runtime, a regressor passes over intercepts of another number.
    fn read(node: &NodeProto, outputs: Option<usize>, without: usize) -> TractResult<Self> {
        let coefficients: Vec<f32> = node.get_attr_vec("coefficients")?;
        let mut intercepts: Vec<f32> = node.get_attr_opt_vec("intercepts")?.unwrap_or_default();
        let outputs = outputs.unwrap_or(if intercepts.is_empty() { without } else { intercepts.len() });
        if intercepts.len() != outputs {
            intercepts.clear();
        }
        let count = coefficients.len();
        ensure!(
            count > 0 && count % outputs == 0,
            "attribute 'coefficients' has {count} entries for {outputs} outputs"
        );
        let post_transform = PostTransform::parse(node.get_attr_opt::<&str>("post_transform")?)?;
        Ok(Self { coefficients, intercepts, outputs, features: count / outputs, post_transform })
    }

    fn check(&self, input: &Facts) -> TractResult<TDim> {
        let (rows, columns) = matrix(&input.1)?;
        let fits = columns.to_i64().map_or(true, |columns| columns == self.features as i64);
        ensure!(fits, "the coefficients are for {} features, the input has {columns}", self.features);
        Ok(rows)
    }

    /// Number of rows and their outputs before the transform.
    fn apply(&self, input: &TValue) -> TractResult<(usize, Vec<f32>)> {
        let (rows, columns) = matrix(input.shape())?;
        ensure!(columns == self.features, "the coefficients are for {} features of {columns}", self.features);
        let view = input.try_as_plain_ram()?;
        Ok((rows, linear(view.as_slice::<f32>()?, &self.coefficients, self.features, &self.intercepts)))
    }
}

#[derive(Debug)]
struct Classifier {
    layer: Layer,
    labels: Labels,
    /// One score speaks for the second of two classes.
    adds_second: bool,
}

impl Kernel for Classifier {
    fn name(&self) -> &'static str {
        "LinearClassifier"
    }

    fn output_count(&self) -> usize {
        2
    }

    fn input_type(&self, _: usize, _: DatumType) -> TractResult<DatumType> {
        Ok(f32::datum_type())
    }

    fn outputs(&self, inputs: &[Facts]) -> TractResult<TVec<Facts>> {
        self.layer.check(&inputs[0])?;
        self.labels.facts(&inputs[0], if self.adds_second { 2 } else { self.layer.outputs })
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let (rows, mut values) = self.layer.apply(&inputs[0])?;
        let outputs = self.layer.outputs;
        let winner = |row: &[f32]| if outputs == 1 { usize::from(row[0] > 0.0) } else { highest(row) };
        let winners: Vec<usize> = values.chunks_exact(outputs).map(winner).collect();
        let mut columns = outputs;
        if self.adds_second {
            columns = 2;
            values = values.into_iter().flat_map(|score| self.layer.post_transform.of_second(score)).collect();
        } else {
            self.layer.post_transform.apply_to_rows(&mut values, outputs);
        }
        Ok(tvec!(self.labels.of(&winners)?.into_tvalue(), scores(values, rows, columns)?))
    }

    fn held_bytes(&self) -> u64 {
        size_of_val(self.layer.coefficients.as_slice()) as u64
    }
}

#[derive(Debug)]
struct Regressor(Layer);

impl Kernel for Regressor {
    fn name(&self) -> &'static str {
        "LinearRegressor"
    }

    fn input_type(&self, _: usize, _: DatumType) -> TractResult<DatumType> {
        Ok(f32::datum_type())
    }

    fn outputs(&self, inputs: &[Facts]) -> TractResult<TVec<Facts>> {
        let rows = self.0.check(&inputs[0])?;
        Ok(tvec!((f32::datum_type(), tvec!(rows, self.0.outputs.to_dim()))))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let (rows, mut values) = self.0.apply(&inputs[0])?;
        self.0.post_transform.apply_to_rows(&mut values, self.0.outputs);
        Ok(tvec!(scores(values, rows, self.0.outputs)?))
    }

    fn held_bytes(&self) -> u64 {
        size_of_val(self.0.coefficients.as_slice()) as u64
    }
}
