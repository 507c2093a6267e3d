//! `ai.onnx.ml.TreeEnsembleRegressor`, and `TreeEnsemble`, which adds nothing but another way to write the trees down.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::ensemble::Ensemble;
use super::inputs::exactly;
use super::kernel::{Kernel, built};
use super::labels::matrix;
use super::scores::Aggregate;
use super::{Built, Number, Trees, compared_in, lists, version_5};

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let targets = node.get_attr_opt::<usize>("n_targets")?.context("attribute 'n_targets' is missing")?;
    let aggregate = match node.get_attr_opt::<&str>("aggregate_function")?.unwrap_or("SUM") {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => bail!("attribute 'aggregate_function' holds '{other}'"),
    };
    let ensemble = lists::read(context, node, "target", targets)?;
    let bases = ensemble.base_values.len();
    ensure!(bases == 0 || bases == targets, "attribute 'base_values' has {bases} entries for {targets} targets");
    built(node, Regression { trees: Trees::new(ensemble), aggregate, is_version_5: false })
}

pub fn build_version_5(context: &ParsingContext, node: &NodeProto) -> Built {
    let aggregate = match node.get_attr_opt::<i64>("aggregate_function")?.unwrap_or(1) {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => bail!("attribute 'aggregate_function' holds {other}"),
    };
    built(node, Regression { trees: Trees::new(version_5::read(context, node)?), aggregate, is_version_5: true })
}

#[derive(Debug)]
struct Regression {
    trees: Trees,
    aggregate: Aggregate,
    /// The output is of the input's type; before version 5 it is FP32.
    is_version_5: bool,
}

impl Regression {
    fn predict<T: Number>(&self, input: &Tensor) -> TractResult<Tensor> {
        let mut scores = self.trees.scores::<T>(input, self.aggregate)?.values;
        let Ensemble { base_values, post_transform, outputs, .. } = &self.trees.ensemble;
        if !base_values.is_empty() {
            let bases: Vec<T> = base_values.iter().copied().map(T::from_f64).collect();
            for row in scores.chunks_exact_mut(*outputs) {
                row.iter_mut().zip(&bases).for_each(|(score, base)| *score = *score + *base);
            }
        }
        T::transform(*post_transform, &mut scores, *outputs);
        let (rows, _) = matrix(input.shape())?;
        Ok(tract_ndarray::Array2::from_shape_vec((rows, *outputs), scores)?.into())
    }
}

impl Kernel for Regression {
    fn name(&self) -> &'static str {
        if self.is_version_5 { "TreeEnsemble" } else { "TreeEnsembleRegressor" }
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        // FP16 is compared in FP32, but the output's type goes by it.
        if self.is_version_5 && given == DatumType::F16 { Ok(given) } else { compared_in(given) }
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        let dt = if self.is_version_5 { input.datum_type } else { f32::datum_type() };
        Ok(tvec!(dt.fact([self.trees.rows_of(input)?, self.trees.ensemble.outputs.to_dim()])))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let input = &inputs[0];
        let scores = match input.datum_type() {
            DatumType::F64 => self.predict::<f64>(input)?,
            DatumType::F32 => self.predict::<f32>(input)?,
            _ => self.predict::<f32>(&*input.cast_to::<f32>()?)?,
        };
        let dt = if self.is_version_5 { input.datum_type() } else { f32::datum_type() };
        let scores = if scores.datum_type() == dt { scores } else { scores.cast_to_dt(dt)?.into_owned() };
        Ok(tvec!(scores))
    }

    fn held_bytes(&self) -> u64 {
        self.trees.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::testing::{Node, assert_close, run};
    use super::*;

    /// Two trees that split on feature 0 at 0 and at 0.5. `weights`: (tree, node, target, weight).
    fn node(weights: &[(i64, i64, i64, f32)], targets: i64) -> Node {
        let column = |of: fn(&(i64, i64, i64, f32)) -> i64| weights.iter().map(of).collect::<Vec<_>>();
        Node::new("TreeEnsembleRegressor")
            .ints("nodes_treeids", &[0, 0, 0, 1, 1, 1])
            .ints("nodes_nodeids", &[0, 1, 2, 0, 1, 2])
            .ints("nodes_featureids", &[0; 6])
            .texts("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"])
            .floats("nodes_values", &[0.0, 0.0, 0.0, 0.5, 0.0, 0.0])
            .ints("nodes_truenodeids", &[1, 0, 0, 1, 0, 0])
            .ints("nodes_falsenodeids", &[2, 0, 0, 2, 0, 0])
            .ints("target_treeids", &column(|weight| weight.0))
            .ints("target_nodeids", &column(|weight| weight.1))
            .ints("target_ids", &column(|weight| weight.2))
            .floats("target_weights", &weights.iter().map(|weight| weight.3).collect::<Vec<_>>())
            .int("n_targets", targets)
    }

    fn single() -> Node {
        node(&[(0, 1, 0, 0.3), (0, 2, 0, 0.6), (1, 1, 0, 0.1), (1, 2, 0, 0.2)], 1)
    }

    fn double() -> Node {
        node(&[(0, 1, 0, 0.3), (0, 2, 1, 0.6), (1, 1, 1, -0.1), (1, 2, 1, 0.2)], 2)
    }

    #[track_caller]
    fn check(node: Node, input: Tensor, expected: &[f32]) {
        assert_close(&run(node, &[input], 1).unwrap()[0], expected);
    }

    fn rows() -> Tensor {
        tensor2(&[[-1.0f32], [0.25], [1.0]])
    }

    /// Expected values are those of ONNX's reference implementation and of ONNX Runtime 1.31.1, which agree on them.
    #[test]
    fn leaves_are_put_together_by_every_aggregate() {
        for (aggregate, expected) in [
            ("SUM", [0.4, 0.7, 0.8]),
            ("AVERAGE", [0.2, 0.35, 0.4]),
            ("MIN", [0.1, 0.1, 0.2]),
            ("MAX", [0.3, 0.6, 0.6]),
        ] {
            check(single().text("aggregate_function", aggregate), rows(), &expected);
            let based = expected.map(|score| score + 1.0);
            check(single().text("aggregate_function", aggregate).floats("base_values", &[1.0]), rows(), &based);
        }
    }

    #[test]
    fn targets_are_kept_apart() {
        check(double(), rows(), &[0.3, -0.1, 0.0, 0.5, 0.0, 0.8]);
        check(double().text("aggregate_function", "MAX"), rows(), &[0.3, -0.1, 0.0, 0.6, 0.0, 0.6]);
        check(double().floats("base_values", &[1.0, 2.0]), rows(), &[1.3, 1.9, 1.0, 2.5, 1.0, 2.8]);
        let softmax = [0.5986877, 0.4013123, 0.3775407, 0.6224593, 0.3100255, 0.6899745];
        check(double().text("post_transform", "SOFTMAX"), rows(), &softmax);
    }

    #[test]
    fn one_target_knows_only_probit() {
        check(single().text("post_transform", "LOGISTIC"), rows(), &[0.4, 0.7, 0.8]);
        check(single().text("post_transform", "PROBIT"), rows(), &[-0.2533535, 0.5244459, 0.8417561]);
    }

    #[test]
    fn doubles_are_compared_as_doubles() {
        let next = 0.1f32 as f64 + 1e-12;
        let node = || single().doubles("nodes_values_as_tensor", &[0.1f32 as f64, 0.0, 0.0, 9.0, 0.0, 0.0]);
        let values_only = |node: Node| node.without("nodes_values");
        check(values_only(node()), tensor2(&[[next]]), &[0.7]);
        check(values_only(node()), tensor2(&[[next as f32]]), &[0.4]);
        check(single(), tensor2(&[[-1i64], [1]]), &[0.4, 0.8]);
    }

    #[test]
    fn no_rows_give_no_scores() {
        check(double(), Tensor::zero::<f32>(&[0, 1]).unwrap(), &[]);
    }

    #[track_caller]
    fn refused(node: Node, input: Tensor, expected: &str) {
        let error = format!("{:#}", run(node, &[input], 1).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn malformed_trees_are_refused() {
        refused(
            single().ints("nodes_truenodeids", &[1, 0, 0]),
            rows(),
            "'nodes_truenodeids' has 3 entries for 6 nodes",
        );
        refused(single().ints("nodes_truenodeids", &[7, 0, 0, 1, 0, 0]), rows(), "leads to node 7, which is not there");
        refused(single().ints("nodes_truenodeids", &[2, 0, 0, 1, 0, 0]), rows(), "two parents");
        refused(single().ints("nodes_truenodeids", &[0, 0, 0, 1, 0, 0]), rows(), "lead in a circle");
        refused(single().ints("nodes_featureids", &[-1; 6]), rows(), "reads feature -1");
        refused(single().ints("nodes_featureids", &[3; 6]), rows(), "the trees read feature 3 of 1");
        refused(single().ints("target_ids", &[0, 0, 0, 5]), rows(), "'target_ids' holds 5 of 1");
        refused(single().ints("target_nodeids", &[1, 2, 1, 9]), rows(), "node 9 of tree 1, which is not there");
        refused(single().int("n_targets", i64::MAX), rows(), "classes or targets");
        refused(single().floats("base_values", &[1.0, 2.0]), rows(), "'base_values' has 2 entries for 1 targets");
    }
}
