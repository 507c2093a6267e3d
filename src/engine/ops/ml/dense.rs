//! Products of rows: all that linear models and most kernels of support vector machines compute.

/// Sums kept side by side, so that they fill the registers.
const LANES: usize = 8;

/// Rows that meet a row while it is at hand.
const TOGETHER: usize = 4;

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

    /// Every value, and zeros.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub fn bytes(&self) -> u64 {
        size_of_val(self.values.as_slice()) as u64
    }

    /// Calls `each` for every row of `x`, which are as wide as these, with its products `sum(x * row)` with each of these.
    pub fn products(&self, x: &[f32], each: impl FnMut(&mut [f32])) {
        self.sums(x, |x, y| x * y, each);
    }

    /// The same with `sum((x - row)^2)`.
    pub fn squared_distances(&self, x: &[f32], each: impl FnMut(&mut [f32])) {
        self.sums(x, |x, y| (x - y) * (x - y), each);
    }

    #[inline(always)]
    fn sums(&self, x: &[f32], term: impl Fn(f32, f32) -> f32 + Copy, mut each: impl FnMut(&mut [f32])) {
        let mut padded = vec![0.0; TOGETHER * self.stride];
        let mut sums = vec![0.0; TOGETHER * self.count];
        for block in x.chunks(TOGETHER * self.width) {
            for (target, source) in padded.chunks_exact_mut(self.stride).zip(block.chunks_exact(self.width)) {
                target[..self.width].copy_from_slice(source);
            }
            let given = block.len() / self.width;
            let rows: [&[f32]; TOGETHER] = std::array::from_fn(|row| &padded[row * self.stride..][..self.stride]);
            for (place, own) in self.values.chunks_exact(self.stride).enumerate() {
                if given == TOGETHER {
                    let summed = sum_together(rows, own, term);
                    summed.into_iter().enumerate().for_each(|(row, sum)| sums[row * self.count + place] = sum);
                    continue;
                }
                for (row, values) in rows.into_iter().take(given).enumerate() {
                    sums[row * self.count + place] = sum_together([values], own, term)[0];
                }
            }
            sums.chunks_exact_mut(self.count).take(given).for_each(&mut each);
        }
    }
}

/// For some rows the sum over their places of the term with another row. All are padded.
#[inline(always)]
fn sum_together<const ROWS: usize>(rows: [&[f32]; ROWS], other: &[f32], term: impl Fn(f32, f32) -> f32) -> [f32; ROWS] {
    let mut sums = [[0f32; LANES]; ROWS];
    let chunks = rows.map(|row| row.as_chunks::<LANES>().0);
    for (place, other) in other.as_chunks::<LANES>().0.iter().enumerate() {
        for row in 0..ROWS {
            let values = &chunks[row][place];
            for lane in 0..LANES {
                sums[row][lane] += term(values[lane], other[lane]);
            }
        }
    }
    sums.map(|sums| {
        let halves: [f32; LANES / 2] = std::array::from_fn(|lane| sums[lane] + sums[lane + LANES / 2]);
        (halves[0] + halves[2]) + (halves[1] + halves[3])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_length_and_number_are_multiplied_whole() {
        for (width, count) in [(1, 1), (7, 3), (8, 4), (9, 5), (40, 11)] {
            let rows = PaddedRows::new(&vec![1.0; 2 * width], width);
            let x: Vec<f32> = (0..count).flat_map(|row| vec![row as f32; width]).collect();
            let (mut products, mut distances) = (vec![], vec![]);
            rows.products(&x, |row| products.extend_from_slice(row));
            rows.squared_distances(&x, |row| distances.extend_from_slice(row));
            let expected = |of: fn(f32) -> f32| {
                (0..count).flat_map(|row| [of(row as f32) * width as f32; 2]).collect::<Vec<f32>>()
            };
            assert_eq!(products, expected(|row| row));
            assert_eq!(distances, expected(|row| (row - 1.0) * (row - 1.0)));
        }
    }
}
