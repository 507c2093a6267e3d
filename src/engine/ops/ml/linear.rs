//! `ai.onnx.ml.LinearClassifier` and `LinearRegressor` (version 1), in FP32.
//!
//! tract has both, but without PROBIT and SOFTMAX_ZERO, and what it makes of a binary classifier with one row of
//! coefficients is not what ONNX Runtime makes of it.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::dense::Rows;
use super::inputs::exactly;
use super::kernel::{Kernel, built};
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
    built(node, Classifier { layer, labels, adds_second })
}

pub fn build_regressor(_: &ParsingContext, node: &NodeProto) -> Built {
    let targets = node.get_attr_opt::<i64>("targets")?.unwrap_or(1);
    let targets = usize::try_from(targets).ok().filter(|targets| (1..=MAX_OUTPUTS).contains(targets));
    let targets = targets.context("attribute 'targets' is out of range")?;
    built(node, Regressor(Layer::read(node, Some(targets), targets)?))
}

/// `x * coefficients^T + intercepts`.
#[derive(Debug)]
struct Layer {
    /// `[outputs, features]`.
    coefficients: Rows,
    /// One for each output.
    intercepts: Vec<f32>,
    outputs: usize,
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
            intercepts = vec![0.0; outputs];
        }
        let count = coefficients.len();
        ensure!(
            count > 0 && count.is_multiple_of(outputs),
            "attribute 'coefficients' has {count} entries for {outputs} outputs"
        );
        let post_transform = PostTransform::parse(node.get_attr_opt::<&str>("post_transform")?)?;
        let coefficients = Rows::new(&coefficients, count / outputs);
        Ok(Self { coefficients, intercepts, outputs, post_transform })
    }

    fn check(&self, input: &TypedFact) -> TractResult<TDim> {
        let (rows, columns) = matrix(&input.shape)?;
        let features = self.coefficients.width;
        let fits = columns.to_i64().map_or(true, |columns| columns == features as i64);
        ensure!(fits, "the coefficients are for {features} features, the input has {columns}");
        Ok(rows)
    }

    /// Number of rows and their outputs before the transform.
    fn apply(&self, input: &TValue) -> TractResult<(usize, Vec<f32>)> {
        let (rows, columns) = matrix(input.shape())?;
        let features = self.coefficients.width;
        ensure!(columns == features, "the coefficients are for {features} features, the input has {columns}");
        let mut values = Vec::with_capacity(rows * self.outputs);
        let view = input.try_as_plain_ram()?;
        self.coefficients.products(view.as_slice::<f32>()?, |products| {
            values.extend(products.iter().zip(&self.intercepts).map(|(product, intercept)| product + intercept));
        });
        Ok((rows, values))
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

    fn input_type(&self, _: usize, _: DatumType) -> TractResult<DatumType> {
        Ok(f32::datum_type())
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        self.layer.check(input)?;
        self.labels.facts(input, if self.adds_second { 2 } else { self.layer.outputs })
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
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
        Ok(tvec!(self.labels.of(&winners)?, scores(values, rows, columns)?))
    }

    fn held_bytes(&self) -> u64 {
        self.layer.coefficients.bytes()
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

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        let rows = self.0.check(input)?;
        Ok(tvec!(f32::fact([rows, self.0.outputs.to_dim()])))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (rows, mut values) = self.0.apply(&inputs[0])?;
        self.0.post_transform.apply_to_rows(&mut values, self.0.outputs);
        Ok(tvec!(scores(values, rows, self.0.outputs)?))
    }

    fn held_bytes(&self) -> u64 {
        self.0.coefficients.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, assert_close, run, shapes_for_any_rows};
    use super::*;

    fn rows() -> Tensor {
        tensor2(&[[1.0f32, 2.0], [-1.0, 0.5]])
    }

    fn three(transform: &str) -> Node {
        Node::new("LinearClassifier")
            .floats("coefficients", &[0.5, -0.25, -0.5, 0.25, 0.1, 0.2])
            .floats("intercepts", &[0.1, 0.0, -0.1])
            .ints("classlabels_ints", &[10, 11, 12])
            .text("post_transform", transform)
    }

    fn one_row(transform: &str) -> Node {
        Node::new("LinearClassifier")
            .floats("coefficients", &[0.5, -0.25])
            .floats("intercepts", &[0.1])
            .texts("classlabels_strings", &["no", "yes"])
            .text("post_transform", transform)
    }

    /// Expected labels and scores are ONNX Runtime 1.31.1's, here and below.
    #[test]
    fn the_highest_score_wins_under_every_transform() {
        for (transform, expected) in [
            ("NONE", [0.1, 0.0, 0.4, -0.525, 0.625, -0.1]),
            ("LOGISTIC", [0.524979, 0.5, 0.598688, 0.371684, 0.651355, 0.475021]),
            ("SOFTMAX", [0.307248, 0.27801, 0.414742, 0.175815, 0.555259, 0.268926]),
            ("SOFTMAX_ZERO", [0.425557, 0.0, 0.574443, 0.175815, 0.555259, 0.268926]),
        ] {
            let outputs = run(three(transform), &[rows()], 2).unwrap();
            assert_eq!(outputs[0], tensor1(&[12i64, 11]));
            assert_close(&outputs[1], &expected);
        }
    }

    #[test]
    fn one_row_of_coefficients_decides_between_two_classes() {
        for (transform, expected) in [
            ("NONE", [0.9, 0.1, 1.525, -0.525]),
            ("SOFTMAX", [0.9, 0.1, 1.525, -0.525]),
            ("LOGISTIC", [0.475021, 0.524979, 0.628316, 0.371684]),
        ] {
            let outputs = run(one_row(transform), &[rows()], 2).unwrap();
            assert_eq!(outputs[0], tensor1(&["yes".to_owned(), "no".to_owned()]));
            assert_close(&outputs[1], &expected);
        }
        let labels =
            run(one_row("NONE").texts("classlabels_strings", &["a", "b", "c"]), &[rows()], 2).unwrap().remove(0);
        assert_eq!(labels, tensor1(&["1".to_owned(), "0".to_owned()]));
    }

    #[test]
    fn one_target_knows_no_transform_but_probit() {
        let node = |coefficients: &[f32], targets: i64| {
            let node = Node::new("LinearRegressor").floats("coefficients", coefficients).int("targets", targets);
            node.floats("intercepts", &[0.1, 0.0][..targets as usize]).text("post_transform", "LOGISTIC")
        };
        assert_close(&run(node(&[0.5, -0.25], 1), &[rows()], 1).unwrap()[0], &[0.1, -0.525]);
        let two = run(node(&[0.5, -0.25, -0.5, 0.25], 2), &[rows()], 1).unwrap();
        assert_close(&two[0], &[0.524979, 0.5, 0.371684, 0.651355]);
    }

    #[test]
    fn a_row_in_is_a_row_out() {
        assert_eq!(shapes_for_any_rows(three("NONE"), &[rows()], 2).unwrap(), ["N", "N,3"]);
        let labels = run(three("NONE"), &[tensor1(&[1i64, 2])], 2).unwrap().remove(0);
        assert_eq!(labels, tensor1(&[12i64]));
    }

    #[test]
    fn coefficients_that_do_not_fit_are_refused() {
        let refused = |node: Node| format!("{:#}", run(node, &[rows()], 2).unwrap_err());
        assert!(refused(three("NONE").floats("coefficients", &[1.0; 5])).contains("5 entries for 3 outputs"));
        assert!(refused(three("NONE").floats("coefficients", &[1.0; 9])).contains("for 3 features"));
        assert!(refused(three("NONE").floats("intercepts", &[0.0; 6])).contains("6 rows of coefficients for 3 class"));
        assert!(refused(one_row("PROBIT")).contains("PROBIT"));
        let targets = Node::new("LinearRegressor").floats("coefficients", &[1.0]).int("targets", -1);
        assert!(format!("{:#}", run(targets, &[rows()], 1).unwrap_err()).contains("'targets' is out of range"));
    }
}
