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

    fn apply(self, row: &mut [f64]) {
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
        match self {
            _ if columns == 1 && self != Self::Probit => {}
            Self::None => {}
            Self::Logistic => scores.iter_mut().for_each(|score| *score = 1.0 / (1.0 + (-*score).exp())),
            Self::Softmax => scores.chunks_exact_mut(columns).for_each(softmax_of_singles),
            Self::SoftmaxZero | Self::Probit => {
                let mut wide: Vec<f64> = scores.iter().copied().map(f64::from).collect();
                self.apply_to_wide_rows(&mut wide, columns);
                scores.iter_mut().zip(wide).for_each(|(score, wide)| *score = wide as f32);
            }
        }
    }

    /// The same for FP64.
    pub fn apply_to_wide_rows(self, scores: &mut [f64], columns: usize) {
        if columns > 1 || self == Self::Probit {
            scores.chunks_exact_mut(columns).for_each(|row| self.apply(row));
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

fn softmax_of_singles(row: &mut [f32]) {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|score| *score = (*score - highest).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|score| *score /= sum);
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
            let mut single: Vec<f32> = row.iter().map(|score| *score as f32).collect();
            transform.apply_to_rows(&mut single, row.len());
            let close = single.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 2e-6);
            assert!(close, "{transform:?} of {row:?}: {single:?} instead of {expected:?}");
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
