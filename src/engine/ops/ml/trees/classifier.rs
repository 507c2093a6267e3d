//! `ai.onnx.ml.TreeEnsembleClassifier`.

use std::collections::HashSet;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::ensemble::Ensemble;
use super::inputs::exactly;
use super::kernel::{Kernel, built};
use super::labels::{self, Labels};
use super::post_transform::{PostTransform, logistic};
use super::scores::{Aggregate, Scores};
use super::{Built, Number, Trees, compared_in, lists};

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let labels = Labels::read(node, "classlabels_int64s")?;
    let ensemble = lists::read(context, node, "class", labels.count())?;
    let votes = Votes::of(&ensemble)?;
    built(node, Classification { trees: Trees::new(ensemble), labels, votes })
}

/// What the scores of a row mean.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Votes {
    /// A score for each class; the highest wins.
    EachClass,
    /// Two classes, but weights for the first alone, which exporters of binary models write and which mean the second. It
    /// wins above this number.
    FirstForSecond { above: f64 },
    /// Two classes and weights for the second alone, as CatBoost writes them. It wins above this number.
    SecondAlone { above: f64 },
}

impl Votes {
    /// As in ONNX Runtime; but with weights for both of two classes it compares the second with 0, whatever the first has,
    /// and gives 0 or 1 instead of the labels: here the higher one wins, as ONNX says.
    fn of(ensemble: &Ensemble) -> TractResult<Self> {
        let (bases, classes) = (ensemble.base_values.len(), ensemble.outputs);
        let voted: HashSet<u32> = ensemble.weights.iter().map(|weight| weight.output).collect();
        // Weights without a negative one add up to a probability, others to a margin.
        let is_margin = ensemble.weights.iter().any(|weight| weight.value < 0.0);
        let above = if is_margin { 0.0 } else { 0.5 };
        if classes != 2 || voted.len() != 1 || (voted.contains(&1) && bases > 0) {
            ensure!(
                bases == 0 || bases == classes,
                "attribute 'base_values' has {bases} entries for {classes} classes"
            );
            return Ok(Self::EachClass);
        }
        if voted.contains(&1) {
            return Ok(Self::SecondAlone { above });
        }
        // In these cases ONNX says nothing and ONNX Runtime's outputs can't be what anyone meant.
        ensure!(bases <= 1, "attribute 'base_values' has {bases} entries for one column of weights");
        ensure!(
            ensemble.post_transform != PostTransform::Probit,
            "PROBIT has no defined meaning for a binary classifier with one column of weights"
        );
        Ok(Self::FirstForSecond { above })
    }
}

#[derive(Debug)]
struct Classification {
    trees: Trees,
    labels: Labels,
    votes: Votes,
}

impl Classification {
    /// Labels `[N]` and scores `[N, classes]`.
    fn classify<T: Number>(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let Scores { mut values, mut scored } = self.trees.scores::<T>(input, Aggregate::Sum)?;
        let Ensemble { outputs: classes, post_transform, base_values, .. } = &self.trees.ensemble;
        let bases: Vec<T> = base_values.iter().copied().map(T::from_f64).collect();
        let rows = values.chunks_exact_mut(*classes).zip(scored.chunks_exact_mut(*classes));
        let winners: Vec<usize> = match self.votes {
            Votes::EachClass => rows.map(|(row, scored)| highest(row, scored, &bases)).collect(),
            Votes::FirstForSecond { above } => rows.map(|(row, _)| self.second_of_two(row, &bases, above)).collect(),
            Votes::SecondAlone { above } => rows.map(|(row, _)| usize::from(row[1].to_f64() > above)).collect(),
        };
        if !matches!(self.votes, Votes::FirstForSecond { .. }) {
            T::transform(*post_transform, &mut values, *classes);
        }
        let values = values.into_iter().map(|score| score.to_f64() as f32).collect();
        let scores = labels::scores(values, winners.len(), *classes)?;
        Ok(tvec!(self.labels.of(&winners)?, scores))
    }

    /// From one column of weights to the scores of both classes. As in ONNX Runtime, of the transforms only LOGISTIC
    /// applies here.
    fn second_of_two<T: Number>(&self, row: &mut [T], bases: &[T], above: f64) -> usize {
        let second = bases.first().map_or(row[0], |base| row[0] + *base).to_f64();
        let first = if above > 0.0 { 1.0 - second } else { -second };
        let is_logistic = self.trees.ensemble.post_transform == PostTransform::Logistic;
        let scores = if is_logistic { [logistic(-second), logistic(second)] } else { [first, second] };
        row.copy_from_slice(&scores.map(T::from_f64));
        usize::from(second > above)
    }
}

/// The class with the highest score, the first of equals, once the bases are added. As in ONNX Runtime, a class for which
/// no leaf had a weight does not win with its score of 0 over classes whose scores are negative.
fn highest<T: Number>(row: &mut [T], scored: &mut [bool], bases: &[T]) -> usize {
    for (place, base) in bases.iter().enumerate() {
        row[place] = row[place] + *base;
        scored[place] = true;
    }
    let mut winner: Option<usize> = None;
    for class in (0..row.len()).filter(|&class| scored[class]) {
        if winner.is_none_or(|best| row[class] > row[best]) {
            winner = Some(class);
        }
    }
    winner.unwrap_or(0)
}

impl Kernel for Classification {
    fn name(&self) -> &'static str {
        "TreeEnsembleClassifier"
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        compared_in(given)
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        self.trees.rows_of(input)?;
        self.labels.facts(input, self.trees.ensemble.outputs)
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        match inputs[0].datum_type() == f64::datum_type() {
            true => self.classify::<f64>(&inputs[0]),
            false => self.classify::<f32>(&inputs[0]),
        }
    }

    fn held_bytes(&self) -> u64 {
        self.trees.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::testing::{Node, assert_close, run};
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
        assert_close(&outputs[1], scores);
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

    /// Expected labels and scores are ONNX Runtime 1.31.1's.
    #[test]
    fn weights_for_the_second_class_alone_leave_the_first_at_zero() {
        let second = |low: f32| node(&[(1, 1, low), (2, 1, 0.8)], 2);
        check(second(-0.3), &[10, 11], &[0.0, -0.3, 0.0, 0.8]);
        check(second(0.3), &[10, 11], &[0.0, 0.3, 0.0, 0.8]);
        let softmax = [0.5744425, 0.4255575, 0.3100255, 0.6899745];
        check(second(-0.3).text("post_transform", "SOFTMAX"), &[10, 11], &softmax);
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
        assert!(refused(node(&[(1, 1, 0.3)], 2).floats("base_values", &[0.1])).contains("1 entries for 2 classes"));
        assert!(refused(binary(0.3, 0.8).floats("base_values", &[0.1, 0.2])).contains("2 entries for one column"));
        assert!(refused(binary(0.3, 0.8).text("post_transform", "PROBIT")).contains("PROBIT"));
        assert!(refused(three().floats("base_values", &[0.1])).contains("1 entries for 3 classes"));
        assert!(refused(three().without("classlabels_int64s")).contains("no class labels"));
    }
}
