//! `NegativeLogLikelihoodLoss` and `SoftmaxCrossEntropyLoss` (ONNX 13): how unlikely the scores make the right classes.
//!
//! Scores are `[N, C, d1, ..]`, targets `[N, d1, ..]`, weights `[C]`. Each element's loss is minus its class's logarithmic
//! probability times the class's weight, 0 where the target is `ignore_index`; `mean` divides by the sum of the weights of
//! those that count. Sums are kept in double precision.

use tract_onnx::model::{ParsingContext, optional_outputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::kernel::{Kernel, built};

pub fn of_log_probabilities(_: &ParsingContext, node: &NodeProto) -> Built {
    built(node, Loss::read(node, false)?)
}

pub fn of_scores(_: &ParsingContext, node: &NodeProto) -> Built {
    built(node, Loss::read(node, true)?)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Reduction {
    None,
    Sum,
    Mean,
}

#[derive(Debug)]
struct Loss {
    reduction: Reduction,
    ignored: Option<i64>,
    /// Whether logarithmic probabilities are still to be made of the input.
    takes_scores: bool,
    /// Whether they are the second output.
    gives_log_probabilities: bool,
}

impl Loss {
    fn read(node: &NodeProto, takes_scores: bool) -> TractResult<Self> {
        let reduction = match node.get_attr_opt::<&str>("reduction")?.unwrap_or("mean") {
            "none" => Reduction::None,
            "sum" => Reduction::Sum,
            "mean" => Reduction::Mean,
            other => bail!("attribute 'reduction' holds '{other}'"),
        };
        let gives_log_probabilities = takes_scores && optional_outputs(node).nth(1).flatten().is_some();
        Ok(Self { reduction, ignored: node.get_attr_opt("ignore_index")?, takes_scores, gives_log_probabilities })
    }

    /// The losses by element and the sum of the weights that count; `scores` as `[N, C, D]`.
    fn losses(
        &self,
        scores: &[f64],
        sizes: [usize; 3],
        targets: &[i64],
        weights: &[f64],
    ) -> TractResult<(Vec<f64>, f64)> {
        let [_, classes, places] = sizes;
        let mut total = 0.0;
        let mut losses = vec![0.0; targets.len()];
        for (element, (loss, &target)) in losses.iter_mut().zip(targets).enumerate() {
            if self.ignored == Some(target) {
                continue;
            }
            let class = usize::try_from(target).ok().filter(|class| *class < classes);
            let class = class.with_context(|| format!("target {target} is none of {classes} classes"))?;
            let weight = weights.get(class).copied().unwrap_or(1.0);
            let (row, place) = (element / places, element % places);
            *loss = -scores[(row * classes + class) * places + place] * weight;
            total += weight;
        }
        Ok((losses, total))
    }
}

/// Makes logarithmic probabilities of scores `[N, C, D]`, in place.
fn log_softmax(scores: &mut [f64], [rows, classes, places]: [usize; 3]) {
    for row in 0..rows {
        for place in 0..places {
            let at = |class: usize| (row * classes + class) * places + place;
            let most = (0..classes).map(|class| scores[at(class)]).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = (0..classes).map(|class| (scores[at(class)] - most).exp()).sum();
            let log_sum = most + sum.ln();
            (0..classes).for_each(|class| scores[at(class)] -= log_sum);
        }
    }
}

impl Kernel for Loss {
    fn name(&self) -> &'static str {
        if self.takes_scores { "SoftmaxCrossEntropyLoss" } else { "NegativeLogLikelihoodLoss" }
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let ([scores, targets] | [scores, targets, _]) = inputs else {
            bail!("{} inputs instead of 2 or 3", inputs.len())
        };
        ensure!(scores.datum_type.is_float(), "scores of {:?}", scores.datum_type);
        let rank = scores.rank();
        ensure!(rank >= 2 && targets.rank() == rank - 1, "scores of {rank} axes, targets of {}", targets.rank());
        let mut shape = scores.shape.to_tvec();
        let classes = shape.remove(1);
        ensure!(shape.iter().zip(targets.shape.iter()).all(|(a, b)| a.compatible_with(b)), "targets of another shape");
        if let [_, _, weights] = inputs {
            let fits = weights.rank() == 1 && weights.shape[0].compatible_with(&classes);
            ensure!(fits, "weights of another number than {classes} classes");
        }
        let shape = if self.reduction == Reduction::None { shape } else { tvec!() };
        let mut made = tvec!(scores.datum_type.fact(shape));
        made.extend(self.gives_log_probabilities.then(|| scores.without_value()));
        Ok(made)
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (shape, dt) = (inputs[0].shape(), inputs[0].datum_type());
        let sizes = [shape[0], shape[1], shape[2..].iter().product()];
        let mut scores = inputs[0].cast_to::<f64>()?.into_owned();
        if self.takes_scores {
            log_softmax(scores.try_as_plain_ram_mut()?.as_slice_mut::<f64>()?, sizes);
        }
        let targets = inputs[1].cast_to::<i64>()?;
        ensure!(targets.len() == sizes[0] * sizes[2], "{} targets for {:?}", targets.len(), shape);
        let weights = inputs.get(2).map(|weights| weights.cast_to::<f64>()).transpose()?;
        let weights = match &weights {
            Some(weights) => weights.try_as_plain_ram()?.as_slice::<f64>()?.to_vec(),
            None => vec![],
        };
        let view = scores.try_as_plain_ram()?;
        let targets_view = targets.try_as_plain_ram()?;
        let (losses, total) = self.losses(view.as_slice()?, sizes, targets_view.as_slice()?, &weights)?;
        let sum = || losses.iter().sum::<f64>();
        let loss = match self.reduction {
            Reduction::None => tract_ndarray::ArrayD::from_shape_vec(inputs[1].shape(), losses)?.into(),
            Reduction::Sum => tensor0(sum()),
            Reduction::Mean => tensor0(sum() / total),
        };
        let mut made = tvec!(loss.cast_to_dt(dt)?.into_owned());
        if self.gives_log_probabilities {
            made.push(scores.cast_to_dt(dt)?.into_owned());
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    fn scores() -> Tensor {
        tensor2(&[[1.0f32, 2.0], [0.5, 0.25], [3.0, 1.0]])
    }

    fn loss(op_type: &str, reduction: &str, inputs: &[Tensor]) -> TractResult<Vec<f32>> {
        let y = run(Node::new(op_type).text("reduction", reduction), inputs, 1)?;
        Ok(y[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
    }

    #[test]
    fn likelihoods_are_picked_weighted_and_reduced() {
        let targets = || tensor1(&[1i64, 0, 0]);
        let nll = |reduction: &str, more: &[Tensor]| {
            loss("NegativeLogLikelihoodLoss", reduction, &[&[scores(), targets()], more].concat()).unwrap()
        };
        assert_eq!(nll("none", &[]), [-2.0, -0.5, -3.0]);
        assert_eq!(nll("sum", &[]), [-5.5]);
        assert_eq!(nll("mean", &[tensor1(&[3.0f32, 2.0])]), [(-4.0 - 1.5 - 9.0) / 8.0]);
    }

    #[test]
    fn ignored_targets_count_for_nothing_and_others_must_be_classes() {
        let node = || Node::new("NegativeLogLikelihoodLoss").int("ignore_index", -100);
        let y = run(node(), &[scores(), tensor1(&[1i64, -100, 0])], 1).unwrap();
        assert_eq!(y, [tensor0(-2.5f32)]);
        for wrong in [2i64, -1] {
            assert!(run(node(), &[scores(), tensor1(&[1i64, wrong, 0])], 1).is_err());
        }
    }

    #[test]
    fn scores_become_logarithmic_probabilities() {
        let y = run(Node::new("SoftmaxCrossEntropyLoss"), &[tensor2(&[[0.0f32, 0.0]]), tensor1(&[1i64])], 2).unwrap();
        let half = 0.5f32.ln();
        assert_eq!(y, [tensor0(-half), tensor2(&[[half, half]])]);
    }

    #[test]
    fn shapes_must_fit() {
        assert!(loss("NegativeLogLikelihoodLoss", "sum", &[scores(), tensor1(&[0i64])]).is_err());
        let weights = tensor1(&[1.0f32]);
        assert!(loss("NegativeLogLikelihoodLoss", "sum", &[scores(), tensor1(&[0i64, 0, 0]), weights]).is_err());
        assert!(loss("NegativeLogLikelihoodLoss", "most", &[scores(), tensor1(&[0i64, 0, 0])]).is_err());
    }
}
