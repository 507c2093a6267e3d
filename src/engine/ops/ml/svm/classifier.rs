//! `ai.onnx.ml.SVMClassifier`.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::PostTransform;
use super::coupling::{couple, pairwise};
use super::inputs::exactly;
use super::kernel::{Kernel, built};
use super::labels::{Labels, highest, scores};
use super::{Built, Likeness, Vectors, add_weighed, floats, post_transform, singles};

/// Most classes: their pairs are taken one by one.
const MAX_CLASSES: usize = 1 << 10;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let labels = Labels::read(node, "classlabels_ints")?;
    let classes = labels.count();
    ensure!(classes <= MAX_CLASSES, "{classes} classes, at most {MAX_CLASSES} are possible");
    let sizes = node.get_attr_opt_slice::<i64>("vectors_per_class")?.unwrap_or_default();
    match sizes.iter().any(|size| *size != 0) {
        true => built(node, Pairs::read(node, labels, sizes)?),
        false => built(node, Linear::read(node, labels)?),
    }
}

// Without support vectors: one row of coefficients for each class

#[derive(Debug)]
struct Linear {
    vectors: Vectors,
    offset: f32,
    labels: Labels,
    post_transform: PostTransform,
    has_probabilities: bool,
    is_positive: bool,
}

impl Linear {
    fn read(node: &NodeProto, labels: Labels) -> TractResult<Self> {
        let vectors = Vectors::read(node, "coefficients", labels.count(), Likeness::Linear)?;
        let is_positive = vectors.rows.values().iter().all(|value| *value >= 0.0);
        Ok(Self {
            vectors,
            is_positive,
            // The first for every class, as in ONNX Runtime.
            offset: *floats(node, "rho")?.first().context("attribute 'rho' is missing")?,
            post_transform: post_transform(node)?,
            has_probabilities: !floats(node, "prob_a")?.is_empty(),
            labels,
        })
    }

    /// ONNX Runtime's rule for two classes, of which ONNX says nothing: a score that is high enough speaks for the second,
    /// whosever it is.
    fn winner(&self, scores: &[f32]) -> usize {
        let highest = highest(scores);
        let enough = if self.is_positive { scores[highest] >= 0.5 } else { scores[highest] > 0.0 };
        if scores.len() == 2 && !self.has_probabilities && enough { 1 } else { highest }
    }
}

impl Kernel for Linear {
    fn name(&self) -> &'static str {
        "SVMClassifier"
    }

    fn input_type(&self, _: usize, _: DatumType) -> TractResult<DatumType> {
        Ok(f32::datum_type())
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        self.vectors.rows_of(input)?;
        self.labels.facts(input, self.labels.count())
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (mut values, mut winners) = (vec![], vec![]);
        let rows = self.vectors.for_each_row(&inputs[0], |products| {
            let begin = values.len();
            values.extend(products.iter().map(|product| product + self.offset));
            winners.push(self.winner(&values[begin..]));
        })?;
        let classes = self.labels.count();
        self.post_transform.apply_to_rows(&mut values, classes);
        Ok(tvec!(self.labels.of(&winners)?, scores(values, rows, classes)?))
    }

    fn held_bytes(&self) -> u64 {
        self.vectors.bytes()
    }
}

// With support vectors: each pair of classes has a vote

#[derive(Debug)]
struct Pairs {
    /// Those of the first class, then those of the second, and so on; without coefficients one for each pair.
    vectors: Vectors,
    /// Where the vectors of each class begin, and the end of all.
    begins: Vec<usize>,
    /// `[classes - 1, vectors]`. For a pair `i < j` row `j - 1` weighs the vectors of `i`, row `i` those of `j`.
    coefficients: Vec<f32>,
    /// One for each pair, in the order (0, 1), (0, 2), .. (1, 2), ..
    offsets: Vec<f32>,
    /// Platt's parameters of each pair, where the outputs are probabilities.
    platt: Option<(Vec<f32>, Vec<f32>)>,
    labels: Labels,
    post_transform: PostTransform,
}

impl Pairs {
    fn read(node: &NodeProto, labels: Labels, sizes: &[i64]) -> TractResult<Self> {
        let classes = labels.count();
        ensure!(classes >= 2, "one class with support vectors has no defined meaning");
        let per_class = sizes.len();
        ensure!(per_class == classes, "attribute 'vectors_per_class' has {per_class} entries for {classes} classes");
        let mut begins = vec![0usize];
        for size in sizes {
            let end = usize::try_from(*size).ok().and_then(|size| begins[begins.len() - 1].checked_add(size));
            begins.push(end.with_context(|| format!("attribute 'vectors_per_class' holds {size}"))?);
        }
        let likeness = Likeness::read(node)?;
        let vectors = Vectors::read(node, "support_vectors", begins[classes], likeness)?;
        let pairs = classes * (classes - 1) / 2;
        let sized = |name: &str, values: &[f32], wanted: usize| {
            let got = values.len();
            ensure!(got == wanted, "attribute '{name}' has {got} entries instead of {wanted}");
            Ok(())
        };
        let (coefficients, offsets) = (floats(node, "coefficients")?, floats(node, "rho")?);
        sized("coefficients", &coefficients, (classes - 1) * vectors.count())?;
        sized("rho", &offsets, pairs)?;
        let (a, b) = (floats(node, "prob_a")?, floats(node, "prob_b")?);
        sized("prob_b", &b, a.len())?;
        let platt = if a.is_empty() { None } else { Some((a, b)) };
        if let Some((a, _)) = &platt {
            sized("prob_a", a, pairs)?;
        }
        let post_transform = post_transform(node)?;
        ensure!(
            platt.is_some() || classes > 2 || post_transform != PostTransform::Probit,
            "PROBIT has no defined meaning for the single score of a binary classifier"
        );
        let mut made = Self { vectors, begins, coefficients, offsets, platt, labels, post_transform };
        if likeness == Likeness::Linear && pairs < made.vectors.count() {
            made.merge(&floats(node, "support_vectors")?);
        }
        Ok(made)
    }

    /// One vector for each pair in place of the `vectors`: being like a weighed sum of vectors is the weighed sum of being like
    /// each, where the likeness is linear.
    fn merge(&mut self, vectors: &[f32]) {
        let (classes, width) = (self.labels.count(), self.vectors.rows.width);
        let mut merged = vec![];
        for (i, j) in (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j))) {
            let mut sum = vec![0.0; width];
            for (row, class) in [(j - 1, i), (i, j)] {
                let (vectors, weights) = (&vectors[self.begins[class] * width..], self.weights(row, class));
                add_weighed(&mut sum, vectors, weights);
            }
            merged.extend(singles(&sum));
        }
        self.vectors = Vectors::linear(&merged, width);
        self.coefficients.clear();
    }

    /// Those of a row for the vectors of a class.
    fn weights(&self, row: usize, class: usize) -> &[f32] {
        let vectors = self.begins[self.labels.count()];
        &self.coefficients[row * vectors..][self.begins[class]..self.begins[class + 1]]
    }

    fn columns(&self) -> usize {
        let classes = self.labels.count();
        if self.platt.is_some() { classes } else { self.offsets.len().max(2) }
    }

    /// The score of each pair into `scores`; the class with most votes, the first of equals.
    fn vote(&self, alike: &[f32], scores: &mut Vec<f32>, votes: &mut [usize]) -> usize {
        let classes = self.labels.count();
        scores.clear();
        votes.fill(0);
        for i in 0..classes {
            for j in i + 1..classes {
                let pair = scores.len();
                let sum = match self.coefficients.is_empty() {
                    true => f64::from(alike[pair]),
                    false => self.weighed(alike, j - 1, i) + self.weighed(alike, i, j),
                };
                let sum = sum + f64::from(self.offsets[pair]);
                scores.push(sum as f32);
                votes[if sum > 0.0 { i } else { j }] += 1;
            }
        }
        (0..classes).rev().max_by_key(|class| votes[*class]).unwrap_or(0)
    }

    /// Sum over the vectors of a class.
    fn weighed(&self, alike: &[f32], row: usize, class: usize) -> f64 {
        let alike = &alike[self.begins[class]..self.begins[class + 1]];
        // Side by side, as each addition would wait for the one before.
        let (alike, alike_rest) = alike.as_chunks::<8>();
        let (weights, weights_rest) = self.weights(row, class).as_chunks::<8>();
        let mut sums = [0f64; 8];
        for (alike, weights) in alike.iter().zip(weights) {
            for lane in 0..sums.len() {
                sums[lane] += f64::from(alike[lane] * weights[lane]);
            }
        }
        let rest = alike_rest.iter().zip(weights_rest).map(|(alike, weight)| f64::from(alike * weight));
        sums.iter().sum::<f64>() + rest.sum::<f64>()
    }

    /// Probabilities of the classes.
    fn coupled(&self, pairs: &[f32], (a, b): &(Vec<f32>, Vec<f32>), out: &mut Vec<f32>) {
        let classes = self.labels.count();
        let mut r = vec![0.0; classes * classes];
        let mut pair = 0;
        for i in 0..classes {
            for j in i + 1..classes {
                let p = pairwise(pairs[pair], a[pair], b[pair]);
                r[i * classes + j] = p;
                r[j * classes + i] = 1.0 - p;
                pair += 1;
            }
        }
        let begin = out.len();
        out.resize(begin + classes, 0.0);
        couple(&r, &mut out[begin..]);
    }
}

impl Kernel for Pairs {
    fn name(&self) -> &'static str {
        "SVMClassifier"
    }

    fn input_type(&self, _: usize, _: DatumType) -> TractResult<DatumType> {
        Ok(f32::datum_type())
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        self.vectors.rows_of(input)?;
        self.labels.facts(input, self.columns())
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (mut values, mut winners) = (vec![], vec![]);
        let (mut pairs, mut votes) = (vec![], vec![0; self.labels.count()]);
        let rows = self.vectors.for_each_row(&inputs[0], |alike| {
            winners.push(self.vote(alike, &mut pairs, &mut votes));
            match (&self.platt, pairs.as_slice()) {
                (Some(platt), pairs) => self.coupled(pairs, platt, &mut values),
                // ONNX Runtime's two scores of a binary classifier.
                (None, [score]) if self.post_transform == PostTransform::None => values.extend([-score, *score]),
                (None, [score]) => values.extend(self.post_transform.of_second(*score)),
                (None, pairs) => values.extend(pairs),
            }
        })?;
        let columns = self.columns();
        if self.platt.is_some() || self.offsets.len() > 1 {
            self.post_transform.apply_to_rows(&mut values, columns);
        }
        Ok(tvec!(self.labels.of(&winners)?, scores(values, rows, columns)?))
    }

    fn held_bytes(&self) -> u64 {
        self.vectors.bytes() + size_of_val(self.coefficients.as_slice()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::testing::{Node, assert_close, run, shapes_for_any_rows};
    use super::*;

    fn rows() -> Tensor {
        tensor2(&[[1.0f32, 2.0], [-1.0, 0.5]])
    }

    fn three() -> Node {
        Node::new("SVMClassifier")
            .text("kernel_type", "RBF")
            .floats("kernel_params", &[0.5, 0.0, 0.0])
            .ints("vectors_per_class", &[1, 1, 1])
            .floats("support_vectors", &[1.0, 0.0, 0.0, 1.0, -1.0, -1.0])
            .floats("coefficients", &[1.0, -1.0, -0.5, 0.5, 0.75, -0.75])
            .floats("rho", &[0.1, -0.2, 0.05])
            .ints("classlabels_ints", &[10, 11, 12])
    }

    fn two() -> Node {
        Node::new("SVMClassifier")
            .ints("vectors_per_class", &[2, 1])
            .floats("support_vectors", &[1.0, 0.0, 0.0, 1.0, -1.0, -1.0])
            .floats("coefficients", &[1.0, 0.5, -1.5])
            .floats("rho", &[0.1])
            .texts("classlabels_strings", &["no", "yes"])
    }

    /// Expected labels and scores are ONNX Runtime 1.31.1's, here and below.
    #[test]
    fn pairs_of_classes_vote() {
        let check = |node: Node, expected: &[f32]| {
            let outputs = run(node, &[rows()], 2).unwrap();
            assert_eq!(outputs[0], tensor1(&[11i64, 11]));
            assert_close(&outputs[1], expected);
        };
        check(three(), &[-0.132544, -0.133084, 0.324782, -0.315828, -0.30261, 0.207957]);
        let softmax = [0.279384, 0.279233, 0.441383, 0.270145, 0.27374, 0.456115];
        check(three().text("post_transform", "SOFTMAX"), &softmax);
        let likely = three().floats("prob_a", &[-1.0, -2.0, -0.5]).floats("prob_b", &[0.1, 0.0, -0.1]);
        check(likely, &[0.282154, 0.390696, 0.32715, 0.233377, 0.405052, 0.361571]);
    }

    #[test]
    fn two_classes_have_one_score() {
        let check = |node: Node, expected: &[f32]| {
            let outputs = run(node, &[rows()], 2).unwrap();
            assert_eq!(outputs[0], tensor1(&["no".to_owned(), "yes".to_owned()]));
            assert_close(&outputs[1], expected);
        };
        check(two(), &[-6.6, 6.6, 1.4, -1.4]);
        check(two().text("post_transform", "SOFTMAX"), &[-5.6, 6.6, 2.4, -1.4]);
        check(two().text("post_transform", "LOGISTIC"), &[0.001359, 0.998641, 0.802184, 0.197816]);
        check(two().floats("prob_a", &[-1.0]).floats("prob_b", &[0.1]), &[0.998497, 0.001503, 0.182367, 0.817633]);
    }

    #[test]
    fn without_support_vectors_each_class_has_coefficients() {
        let check = |coefficients: &[f32], expected: &[f32]| {
            let node = Node::new("SVMClassifier").floats("coefficients", coefficients).floats("rho", &[0.1]);
            let outputs = run(node.ints("classlabels_ints", &[10, 11]), &[rows()], 2).unwrap();
            assert_eq!(outputs[0], tensor1(&[11i64, 11]));
            assert_close(&outputs[1], expected);
        };
        check(&[0.5, -0.25, 0.1, 0.2], &[0.1, 0.6, -0.525, 0.1]);
        check(&[0.5, 0.25, 0.1, 0.2], &[1.1, 0.6, -0.275, 0.1]);
    }

    #[test]
    fn a_row_in_is_a_row_out() {
        assert_eq!(shapes_for_any_rows(two(), &[rows()], 2).unwrap(), ["N", "N,2"]);
        assert_eq!(shapes_for_any_rows(three(), &[rows()], 2).unwrap(), ["N", "N,3"]);
    }

    #[test]
    fn lists_that_do_not_fit_are_refused() {
        let refused = |node: Node| format!("{:#}", run(node, &[rows()], 2).unwrap_err());
        assert!(
            refused(three().floats("coefficients", &[1.0; 5])).contains("'coefficients' has 5 entries instead of 6")
        );
        assert!(refused(three().floats("rho", &[1.0])).contains("'rho' has 1 entries instead of 3"));
        assert!(refused(three().ints("vectors_per_class", &[1, 2])).contains("2 entries for 3 classes"));
        assert!(refused(three().ints("vectors_per_class", &[1, -1, 3])).contains("'vectors_per_class' holds -1"));
        assert!(refused(three().ints("vectors_per_class", &[1, 1, i64::MAX])).contains("entries for"));
        assert!(refused(three().floats("prob_a", &[1.0])).contains("'prob_b' has 0 entries instead of 1"));
        assert!(refused(two().text("post_transform", "PROBIT")).contains("PROBIT"));
        assert!(refused(two().ints("classlabels_ints", &[1]).without("classlabels_strings")).contains("one class"));
    }
}
