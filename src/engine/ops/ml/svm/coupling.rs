//! Class probabilities from those of each pair of classes: the second method of Wu, Lin and Weng, "Probability Estimates
//! for Multi-class Classification by Pairwise Coupling" (2004), with the bounds that LIBSVM gives it.

const MAX_ROUNDS: usize = 100;
/// Largest error at which the search ends, divided by the number of classes.
const ERROR: f32 = 0.005;
/// Pairwise probabilities stay so far away from 0 and 1.
const MARGIN: f32 = 1e-7;

/// Finds `p` that minimises `sum over i, j of (r[j][i] p[i] - r[i][j] p[j])^2` with a sum of 1. `r[i][j]`, row by row, is
/// the probability of class `i` where only `i` and `j` are possible.
pub fn couple(r: &[f32], p: &mut [f32]) {
    let classes = p.len();
    let mut q = vec![0.0; classes * classes];
    for i in 0..classes {
        for j in (0..classes).filter(|j| *j != i) {
            q[i * classes + i] += r[j * classes + i] * r[j * classes + i];
            q[i * classes + j] = -r[j * classes + i] * r[i * classes + j];
        }
    }
    p.fill(1.0 / classes as f32);
    let mut q_p = vec![0.0; classes];
    for _ in 0..MAX_ROUNDS {
        for (i, q_p) in q_p.iter_mut().enumerate() {
            *q_p = q[i * classes..][..classes].iter().zip(&*p).map(|(q, p)| q * p).sum();
        }
        let mut p_q_p: f32 = p.iter().zip(&q_p).map(|(p, q_p)| p * q_p).sum();
        if q_p.iter().all(|q_p| (q_p - p_q_p).abs() < ERROR / classes as f32) {
            break;
        }
        for i in 0..classes {
            let diagonal = q[i * classes + i];
            let step = (p_q_p - q_p[i]) / diagonal;
            let scale = 1.0 + step;
            p[i] += step;
            p_q_p = (p_q_p + step * (step * diagonal + 2.0 * q_p[i])) / scale / scale;
            for j in 0..classes {
                q_p[j] = (q_p[j] + step * q[i * classes + j]) / scale;
                p[j] /= scale;
            }
        }
    }
}

/// The probability of the first of a pair by its score and Platt's two parameters: `1 / (1 + exp(a score + b))`.
pub fn pairwise(score: f32, a: f32, b: f32) -> f32 {
    let x = f64::from(score * a + b);
    let p = 1.0 - super::super::post_transform::logistic(x) as f32;
    p.clamp(MARGIN, 1.0 - MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_classes_share_as_their_pair_says() {
        let mut p = [0.0; 2];
        couple(&[0.0, 0.8, 0.2, 0.0], &mut p);
        assert!((p[0] - 0.8).abs() < 0.01 && (p[0] + p[1] - 1.0).abs() < 1e-6, "{p:?}");
    }

    #[test]
    fn equal_pairs_give_equal_shares() {
        let mut p = [0.0; 3];
        couple(&[0.0, 0.5, 0.5, 0.5, 0.0, 0.5, 0.5, 0.5, 0.0], &mut p);
        assert_eq!(p, [1.0 / 3.0; 3]);
        assert_eq!(pairwise(0.0, -1.0, 0.0), 0.5);
        assert_eq!(pairwise(1e9, -1.0, 0.0), 1.0 - MARGIN);
    }
}
