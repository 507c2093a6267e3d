//! Products of rows: all that linear models and most kernels of support vector machines compute.

/// Sums kept side by side, so that they fill the registers.
const LANES: usize = 16;

/// `sum(a * b)`.
pub fn product(a: &[f32], b: &[f32]) -> f32 {
    summed(a, b, |x, y| x * y)
}

/// `sum((a - b)^2)`.
pub fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    summed(a, b, |x, y| (x - y) * (x - y))
}

#[inline(always)]
fn summed(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (blocks_a, blocks_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = blocks_a.remainder().iter().zip(blocks_b.remainder()).map(|(x, y)| term(*x, *y)).sum();
    for (a, b) in blocks_a.zip(blocks_b) {
        for lane in 0..LANES {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// `x * w^T + offset` for `x` of `[rows, features]` and `w` of `[outputs, features]`, as `[rows, outputs]`. `offsets`
/// has one value for each output, or none.
pub fn linear(x: &[f32], w: &[f32], features: usize, offsets: &[f32]) -> Vec<f32> {
    let outputs = w.len() / features;
    let mut y = Vec::with_capacity(x.len() / features * outputs);
    for row in x.chunks_exact(features) {
        for (output, weights) in w.chunks_exact(features).enumerate() {
            y.push(product(row, weights) + offsets.get(output).copied().unwrap_or_default());
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_any_length_are_whole() {
        for length in [1, 15, 16, 17, 40] {
            let ones = vec![1.0; length];
            assert_eq!(product(&ones, &ones), length as f32);
            assert_eq!(squared_distance(&ones, &vec![3.0; length]), 4.0 * length as f32);
        }
    }

    #[test]
    fn each_row_meets_each_output() {
        assert_eq!(linear(&[1.0, 2.0, 3.0, 4.0], &[1.0, 0.0, 0.0, 10.0], 2, &[0.5, 0.0]), [1.5, 20.0, 3.5, 40.0]);
    }
}
