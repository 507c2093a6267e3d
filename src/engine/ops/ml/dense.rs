//! Products of rows: all that linear models and most kernels of support vector machines compute.

/// Sums kept side by side, so that they fill the registers.
const LANES: usize = 8;

/// Rows of equal length, each filled up with zeros to whole lanes.
#[derive(Debug)]
pub struct PaddedRows {
    values: Vec<f32>,
    stride: usize,
    /// Values of a row without its padding, at least one.
    pub width: usize,
    pub count: usize,
}

impl PaddedRows {
    /// # Panics
    /// When `width` is 0.
    pub fn new(values: &[f32], width: usize) -> Self {
        let stride = width.next_multiple_of(LANES);
        let count = values.len() / width;
        let mut padded = vec![0.0; count * stride];
        for (target, source) in padded.chunks_exact_mut(stride).zip(values.chunks_exact(width)) {
            target[..width].copy_from_slice(source);
        }
        Self { values: padded, stride, width, count }
    }

    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.stride)
    }

    pub fn bytes(&self) -> u64 {
        size_of_val(self.values.as_slice()) as u64
    }

    /// Calls `each` with every row of `x`, which are as wide as these, filled up like these.
    pub fn for_each_row_of(&self, x: &[f32], mut each: impl FnMut(&[f32])) {
        let mut padded = vec![0.0; self.stride];
        for row in x.chunks_exact(self.width) {
            padded[..self.width].copy_from_slice(row);
            each(&padded);
        }
    }
}

/// `sum(a * b)` of padded rows.
pub fn product(a: &[f32], b: &[f32]) -> f32 {
    summed(a, b, |x, y| x * y)
}

/// `sum((a - b)^2)` of padded rows.
pub fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    summed(a, b, |x, y| (x - y) * (x - y))
}

#[inline(always)]
fn summed(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    let halves: [f32; LANES / 2] = std::array::from_fn(|lane| sums[lane] + sums[lane + LANES / 2]);
    (halves[0] + halves[2]) + (halves[1] + halves[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_length_are_multiplied_whole() {
        for width in [1, 7, 8, 9, 40] {
            let (ones, threes) = (vec![1.0; 2 * width], vec![3.0; width]);
            let rows = PaddedRows::new(&ones, width);
            let mut met = vec![];
            rows.for_each_row_of(&threes, |row| {
                met.extend(rows.iter().map(|other| (product(row, other), squared_distance(row, other))));
            });
            let width = width as f32;
            assert_eq!(met, [(3.0 * width, 4.0 * width); 2]);
        }
    }
}
