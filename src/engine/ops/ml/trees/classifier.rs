//! `ai.onnx.ml.TreeEnsembleClassifier`.

use std::collections::HashSet;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::{as_op, op_as_typed_op, op_out_of_plan};
use tract_onnx::tract_hir::internal::*;

use super::super::{Built, attributes};
use super::ensemble::Ensemble;
use super::post_transform::{PostTransform, logistic};
use super::scores::{Aggregate, Scores};
use super::{Trees, score_rules, wire_numbers};

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let labels = match attributes::texts(node, "classlabels_strings")? {
        Some(texts) => texts,
        None => attributes::integers(node, "classlabels_int64s")?.context("it has no class labels")?,
    };
    let ensemble = Ensemble::read(context, node, "class", labels.len())?;
    let votes = Votes::of(&ensemble)?;
    Ok((expand(Classifier(Arc::new(Classification { trees: Trees::new(ensemble), labels, votes }))), vec![]))
}

/// What the scores of a row mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Votes {
    /// A score for each class; the highest wins.
    EachClass,
    /// Two classes, but weights for the first alone, which exporters of binary models write and which mean the second.
    /// Weights without a negative one add up to its probability, others to a margin.
    Probability,
    Margin,
}

impl Votes {
    fn of(ensemble: &Ensemble) -> TractResult<Self> {
        let bases = ensemble.base_values.len();
        let voted: HashSet<u32> = ensemble.weights.iter().map(|weight| weight.output).collect();
        if ensemble.outputs != 2 || voted.len() != 1 {
            let classes = ensemble.outputs;
            ensure!(
                bases == 0 || bases == classes,
                "attribute 'base_values' has {bases} entries for {classes} classes"
            );
            return Ok(Self::EachClass);
        }
        // In these cases ONNX says nothing and ONNX Runtime's outputs can't be what anyone meant.
        ensure!(
            voted.contains(&0),
            "a binary classifier with weights for its second class alone has no defined meaning"
        );
        ensure!(bases <= 1, "attribute 'base_values' has {bases} entries for one column of weights");
        ensure!(
            ensemble.post_transform != PostTransform::Probit,
            "PROBIT has no defined meaning for a binary classifier with one column of weights"
        );
        let negative = ensemble.weights.iter().any(|weight| weight.value < 0.0);
        Ok(if negative { Self::Margin } else { Self::Probability })
    }
}

#[derive(Debug)]
struct Classification {
    trees: Trees,
    labels: Arc<Tensor>,
    votes: Votes,
}

impl Classification {
    /// Labels `[N]` and scores `[N, classes]`.
    fn classify(&self, input: &Tensor) -> TractResult<(Tensor, Tensor)> {
        let Scores { mut values, mut scored } = self.trees.scores(input, Aggregate::Sum)?;
        let classes = self.trees.ensemble.outputs;
        let rows = values.chunks_exact_mut(classes).zip(scored.chunks_exact_mut(classes));
        let winners: Vec<usize> = match self.votes {
            Votes::EachClass => rows.map(|(row, scored)| self.highest(row, scored)).collect(),
            Votes::Probability | Votes::Margin => rows.map(|(row, _)| self.second_of_two(row)).collect(),
        };
        let scores = values.into_iter().map(|score| score as f32).collect();
        let scores = tract_ndarray::Array2::from_shape_vec((input.shape()[0], classes), scores)?.into();
        Ok((self.labels_of(&winners)?, scores))
    }

    /// The class with the highest score, the first of equals. As in ONNX Runtime, a class for which no leaf had a weight
    /// does not win with its score of 0 over classes whose scores are negative.
    fn highest(&self, row: &mut [f64], scored: &mut [bool]) -> usize {
        let Ensemble { base_values, post_transform, .. } = &self.trees.ensemble;
        for (index, base) in base_values.iter().enumerate() {
            row[index] += base;
            scored[index] = true;
        }
        let mut winner: Option<usize> = None;
        for class in (0..row.len()).filter(|&class| scored[class]) {
            if winner.is_none_or(|best| row[class] > row[best]) {
                winner = Some(class);
            }
        }
        post_transform.apply(row);
        winner.unwrap_or(0)
    }

    /// From one column of weights to the scores of both classes. As in ONNX Runtime, of the transforms only LOGISTIC
    /// applies here.
    fn second_of_two(&self, row: &mut [f64]) -> usize {
        let Ensemble { base_values, post_transform, .. } = &self.trees.ensemble;
        let second = row[0] + base_values.first().copied().unwrap_or_default();
        let (first, wins) = match self.votes {
            Votes::Probability => (1.0 - second, second > 0.5),
            _ => (-second, second > 0.0),
        };
        row[0] = first;
        row[1] = second;
        if *post_transform == PostTransform::Logistic {
            row[0] = logistic(-second);
            row[1] = logistic(second);
        }
        usize::from(wins)
    }

    fn labels_of(&self, winners: &[usize]) -> TractResult<Tensor> {
        fn pick<T: Datum + Clone>(labels: &Tensor, winners: &[usize]) -> TractResult<Tensor> {
            let view = labels.try_as_plain_ram()?;
            let labels = view.as_slice::<T>()?;
            Ok(tensor1(&winners.iter().map(|&winner| labels[winner].clone()).collect::<Vec<T>>()))
        }
        match self.labels.datum_type() == String::datum_type() {
            true => pick::<String>(&self.labels, winners),
            false => pick::<i64>(&self.labels, winners),
        }
    }
}

#[derive(Debug, Clone)]
struct Classifier(Arc<Classification>);

/// The trees of the operator, if it is this one.
pub(super) fn trees_of(op: &dyn TypedOp) -> Option<&Trees> {
    op.downcast_ref::<Classifier>().map(|classifier| &classifier.0.trees)
}

impl PartialEq for Classifier {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Classifier {}

impl Expansion for Classifier {
    fn name(&self) -> StaticName {
        "TreeEnsembleClassifier".into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(2)
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 2)?;
        solver.equals(&outputs[0].datum_type, self.0.labels.datum_type())?;
        solver.equals(&outputs[0].rank, 1)?;
        solver.equals(&outputs[0].shape[0], &inputs[0].shape[0])?;
        score_rules(solver, &inputs[0], &outputs[1], self.0.labels.len())
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let input = wire_numbers(prefix, model, inputs[0])?;
        model.wire_node(prefix, self.clone(), &[input])
    }
}

impl Op for Classifier {
    fn name(&self) -> StaticName {
        "TreeEnsembleClassifier".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Classifier {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let (labels, scores) = self.0.classify(&input)?;
        Ok(tvec!(labels.into_tvalue(), scores.into_tvalue()))
    }
}

impl TypedOp for Classifier {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let rows = inputs[0].shape[0].clone();
        let labels = self.0.labels.datum_type().fact([rows.clone()]);
        Ok(tvec!(labels, f32::fact([rows, self.0.labels.len().to_dim()])))
    }

    as_op!();
}

#[cfg(test)]
mod tests {
    use super::super::super::super::testing::{Node, run};
    use super::*;

    /// One tree that splits on feature 0 at 0. `weights`: (node, class, weight); node 1 is where the branch holds.
    fn node(weights: &[(i64, i64, f32)], classes: i64) -> Node {
        let column = |of: fn(&(i64, i64, f32)) -> i64| weights.iter().map(of).collect::<Vec<_>>();
        Node::new("TreeEnsembleClassifier")
            .ints("nodes_treeids", &[0, 0, 0])
            .ints("nodes_nodeids", &[0, 1, 2])
            .ints("nodes_featureids", &[0, 0, 0])
            .texts("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"])
            .floats("nodes_values", &[0.0, 0.0, 0.0])
            .ints("nodes_truenodeids", &[1, 0, 0])
            .ints("nodes_falsenodeids", &[2, 0, 0])
            .ints("class_treeids", &vec![0; weights.len()])
            .ints("class_nodeids", &column(|weight| weight.0))
            .ints("class_ids", &column(|weight| weight.1))
            .floats("class_weights", &weights.iter().map(|weight| weight.2).collect::<Vec<_>>())
            .ints("classlabels_int64s", &(10..10 + classes).collect::<Vec<_>>())
    }

    /// Runs rows -1 and 1, which take the branch and leave it.
    #[track_caller]
    fn check(node: Node, labels: &[i64], scores: &[f32]) {
        check_rows(node, tensor2(&[[-1.0f32], [1.0]]), labels, scores);
    }

    #[track_caller]
    fn check_rows(node: Node, input: Tensor, labels: &[i64], scores: &[f32]) {
        let outputs = run(node, &[input], 2).unwrap();
        assert_eq!(outputs[0], tensor1(labels));
        let got = outputs[1].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec();
        let close = got.len() == scores.len() && got.iter().zip(scores).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close, "{got:?} instead of {scores:?}");
    }

    fn binary(low: f32, high: f32) -> Node {
        node(&[(1, 0, low), (2, 0, high)], 2)
    }

    fn three() -> Node {
        node(&[(1, 1, -0.5), (2, 2, 0.5), (2, 0, 0.5)], 3)
    }

    /// Expected labels and scores are ONNX Runtime 1.31.1's.
    #[test]
    fn one_column_of_weights_speaks_for_the_second_class() {
        check(binary(0.3, 0.8), &[10, 11], &[0.7, 0.3, 0.2, 0.8]);
        check(binary(0.3, 0.8).floats("base_values", &[0.1]), &[10, 11], &[0.6, 0.4, 0.1, 0.9]);
        check(binary(-0.3, 0.8), &[10, 11], &[0.3, -0.3, -0.8, 0.8]);
        check(binary(-0.3, 0.8).text("post_transform", "SOFTMAX"), &[10, 11], &[0.3, -0.3, -0.8, 0.8]);
        let logistic = || binary(-0.3, 0.8).text("post_transform", "LOGISTIC");
        check(logistic(), &[10, 11], &[0.5744425, 0.4255575, 0.3100255, 0.6899745]);
        check(logistic().floats("base_values", &[0.1]), &[10, 11], &[0.549834, 0.450166, 0.2890505, 0.7109495]);
    }

    #[test]
    fn the_highest_of_the_scored_classes_wins() {
        check(three(), &[11, 10], &[0.0, -0.5, 0.0, 0.5, 0.0, 0.5]);
        check(three().floats("base_values", &[0.1, 0.2, 0.3]), &[12, 12], &[0.1, -0.3, 0.3, 0.6, 0.2, 0.8]);
        check(three().text("post_transform", "SOFTMAX_ZERO"), &[11, 10], &[0.0, 1.0, 0.0, 0.5, 0.0, 0.5]);
        let two = node(&[(1, 0, 0.7), (1, 1, 0.3), (2, 0, 0.2), (2, 1, 0.8)], 2);
        check(two, &[10, 11], &[0.7, 0.3, 0.2, 0.8]);
    }

    #[test]
    fn labels_may_be_texts() {
        let node = binary(0.3, 0.8).without("classlabels_int64s").texts("classlabels_strings", &["no", "yes"]);
        let labels = run(node, &[tensor2(&[[1.0f32]])], 2).unwrap().remove(0);
        assert_eq!(labels, tensor1(&["yes".to_owned()]));
    }

    #[test]
    fn every_mode_compares_as_its_name_says() {
        for (mode, below, at, above) in [
            ("BRANCH_LEQ", 10, 10, 11),
            ("BRANCH_LT", 10, 11, 11),
            ("BRANCH_GTE", 11, 10, 10),
            ("BRANCH_GT", 11, 11, 10),
            ("BRANCH_EQ", 11, 10, 11),
            ("BRANCH_NEQ", 10, 11, 10),
        ] {
            let node = binary(0.0, 1.0).texts("nodes_modes", &[mode, "LEAF", "LEAF"]);
            let scores = [below, at, above].map(|label| if label == 10 { [1.0, 0.0] } else { [0.0, 1.0] }).concat();
            check_rows(node, tensor2(&[[-1.0f32], [0.0], [1.0]]), &[below, at, above], &scores);
        }
    }

    #[test]
    fn nan_goes_where_the_node_says() {
        let nan = || tensor2(&[[f32::NAN]]);
        check_rows(binary(0.0, 1.0), nan(), &[11], &[0.0, 1.0]);
        let tracked = binary(0.0, 1.0).ints("nodes_missing_value_tracks_true", &[1, 0, 0]);
        check_rows(tracked, nan(), &[10], &[1.0, 0.0]);
    }

    #[test]
    fn what_has_no_defined_meaning_is_refused() {
        let refused = |node: Node| format!("{:#}", run(node, &[tensor2(&[[1.0f32]])], 2).unwrap_err());
        assert!(refused(node(&[(1, 1, 0.3), (2, 1, 0.8)], 2)).contains("second class alone"));
        assert!(refused(binary(0.3, 0.8).floats("base_values", &[0.1, 0.2])).contains("2 entries for one column"));
        assert!(refused(binary(0.3, 0.8).text("post_transform", "PROBIT")).contains("PROBIT"));
        assert!(refused(three().floats("base_values", &[0.1])).contains("1 entries for 3 classes"));
        assert!(refused(three().without("classlabels_int64s")).contains("no class labels"));
    }
}
