//! What becomes of a row of scores, as ONNX Runtime's `ml_common.h` defines it: ONNX itself only gives the names.

use std::f64::consts::{PI, SQRT_2};

use tract_onnx::tract_hir::internal::{TractResult, bail};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostTransform {
    None,
    /// `1 / (1 + exp(-x))` of each score.
    Logistic,
    Softmax,
    /// Softmax of the scores that are not 0; those stay 0.
    SoftmaxZero,
    /// The quantile function of the normal distribution of each score.
    Probit,
}

/// Scores nearer to 0 than this count as 0 for `SoftmaxZero`.
const ZERO: f64 = 1e-7;

impl PostTransform {
    pub fn parse(name: Option<&str>) -> TractResult<Self> {
        Ok(match name.unwrap_or("NONE") {
            "NONE" => Self::None,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX" => Self::Softmax,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            other => bail!("attribute 'post_transform' holds '{other}'"),
        })
    }

    pub fn apply(self, row: &mut [f64]) {
        match self {
            Self::None => {}
            Self::Logistic => row.iter_mut().for_each(|score| *score = logistic(*score)),
            Self::Softmax => softmax(row, |_| true),
            Self::SoftmaxZero => softmax(row, |score| score.abs() > ZERO),
            Self::Probit => row.iter_mut().for_each(|score| *score = probit(*score)),
        }
    }

    /// The scores of two classes from the single score of the second. As in ONNX Runtime, of the transforms only LOGISTIC
    /// applies here.
    pub fn of_second(self, score: f32) -> [f32; 2] {
        match self {
            Self::Logistic => [-score, score].map(|score| logistic(f64::from(score)) as f32),
            _ => [1.0 - score, score],
        }
    }

    /// Applies it to rows of FP32 scores, `columns` wide. A single score knows only PROBIT: ONNX Runtime leaves the others
    /// out, and models are written for it.
    pub fn apply_to_rows(self, scores: &mut [f32], columns: usize) {
        if self == Self::None || (columns == 1 && self != Self::Probit) {
            return;
        }
        let mut wide = vec![0.0; columns];
        for row in scores.chunks_exact_mut(columns) {
            wide.iter_mut().zip(&*row).for_each(|(wide, score)| *wide = f64::from(*score));
            self.apply(&mut wide);
            row.iter_mut().zip(&wide).for_each(|(score, wide)| *score = *wide as f32);
        }
    }
}

pub fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `sqrt(2) * erfinv(2 p - 1)` with Winitzki's approximation of the inverse error function (a = 0.147), which the
/// reference implementation of ONNX and ONNX Runtime use too; it is off by up to 0.002.
pub fn probit(p: f64) -> f64 {
    const A: f64 = 0.147;
    let x = 2.0 * p - 1.0;
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let half = 2.0 / (PI * A) + 0.5 * log;
    let root = ((half * half - log / A).sqrt() - half).sqrt();
    SQRT_2 * if x < 0.0 { -root } else { root }
}

fn softmax(row: &mut [f64], counts: impl Fn(f64) -> bool) {
    let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in row.iter_mut() {
        *score = if counts(*score) { (*score - highest).exp() } else { 0.0 };
        sum += *score;
    }
    if sum > 0.0 {
        row.iter_mut().for_each(|score| *score /= sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(transform: PostTransform, row: &[f64]) -> Vec<f64> {
        let mut row = row.to_vec();
        transform.apply(&mut row);
        row
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn transforms_give_what_onnx_runtime_gives() {
        let cases: [(PostTransform, &[f64], &[f64]); 6] = [
            (PostTransform::None, &[0.7, 0.3], &[0.7, 0.3]),
            (PostTransform::Logistic, &[0.7, -0.1], &[0.6681877, 0.4750208]),
            (PostTransform::Softmax, &[0.0, -0.5, 0.0], &[0.3836517, 0.2326965, 0.3836517]),
            (PostTransform::SoftmaxZero, &[0.5, 0.0, 0.5], &[0.5, 0.0, 0.5]),
            (PostTransform::SoftmaxZero, &[0.0, -0.5, 0.0], &[0.0, 1.0, 0.0]),
            (PostTransform::Probit, &[0.4, 0.7, 0.8, 0.9], &[-0.2533535, 0.5244459, 0.8417561, 1.2817132]),
        ];
        for (transform, row, expected) in cases {
            let got = applied(transform, row);
            let close = got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-6);
            assert!(close, "{transform:?} of {row:?}: {got:?} instead of {expected:?}");
        }
    }

    #[test]
    fn the_ends_of_the_scale_are_what_they_are() {
        assert_eq!(applied(PostTransform::Probit, &[0.0, 1.0]), [f64::NEG_INFINITY, f64::INFINITY]);
        assert!(applied(PostTransform::Probit, &[-0.1])[0].is_nan());
        assert_eq!(applied(PostTransform::Softmax, &[1000.0, 0.0]), [1.0, 0.0]);
        assert_eq!(applied(PostTransform::SoftmaxZero, &[0.0, 0.0]), [0.0, 0.0]);
    }
}
