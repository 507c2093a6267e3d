//! Products of rows: all that linear models and most kernels of support vector machines compute.

/// Sums kept side by side, so that they fill the registers.
const LANES: usize = 16;

/// Most rows that are not worth a panel.
const FEW: usize = 3;

/// Rows of equal length that others are multiplied with. Where there are more than a few they lie in panels: the first place
/// of sixteen rows, their second place, and so on. The last panel is filled up with rows of zeros.
#[derive(Debug)]
pub struct Rows {
    values: Vec<f32>,
    /// Values of a row, at least one.
    pub width: usize,
    pub count: usize,
}

impl Rows {
    /// # Panics
    /// When `width` is 0.
    pub fn new(values: &[f32], width: usize) -> Self {
        let count = values.len() / width;
        if count <= FEW {
            return Self { values: values.to_vec(), width, count };
        }
        let mut panels = vec![0.0; count.next_multiple_of(LANES) * width];
        for (row, values) in values.chunks_exact(width).enumerate() {
            let first = row / LANES * LANES * width + row % LANES;
            panels[first..].iter_mut().step_by(LANES).zip(values).for_each(|(place, value)| *place = *value);
        }
        Self { values: panels, width, count }
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

    /// Wider registers change no sum: which terms are added to which doesn't hang on them, and none are fused.
    #[inline(always)]
    fn sums(&self, x: &[f32], term: impl Fn(f32, f32) -> f32 + Copy, each: impl FnMut(&mut [f32])) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { self.sums_by_avx2(x, term, each) };
        }
        self.sums_by::<2>(x, term, each);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn sums_by_avx2(&self, x: &[f32], term: impl Fn(f32, f32) -> f32 + Copy, each: impl FnMut(&mut [f32])) {
        self.sums_by::<4>(x, term, each);
    }

    /// `TOGETHER` rows of `x` meet a panel while it is at hand: as many as have their sums in registers.
    #[inline(always)]
    fn sums_by<const TOGETHER: usize>(
        &self,
        x: &[f32],
        term: impl Fn(f32, f32) -> f32 + Copy,
        mut each: impl FnMut(&mut [f32]),
    ) {
        if self.count <= FEW {
            let mut sums = [0.0; FEW];
            for x in x.chunks_exact(self.width) {
                for (sum, own) in sums.iter_mut().zip(self.values.chunks_exact(self.width)) {
                    *sum = sum_of_two(x, own, term);
                }
                each(&mut sums[..self.count]);
            }
            return;
        }
        let stride = self.count.next_multiple_of(LANES);
        let mut sums = vec![0.0; TOGETHER * stride];
        let mut blocks = x.chunks_exact(TOGETHER * self.width);
        for block in &mut blocks {
            self.sum_block::<TOGETHER>(block, term, &mut sums);
            sums.chunks_exact_mut(stride).for_each(|sums| each(&mut sums[..self.count]));
        }
        for x in blocks.remainder().chunks_exact(self.width) {
            self.sum_block::<1>(x, term, &mut sums[..stride]);
            each(&mut sums[..self.count]);
        }
    }

    /// For some rows the sums over their places of the term with each row of the panels.
    #[inline(always)]
    fn sum_block<const ROWS: usize>(&self, x: &[f32], term: impl Fn(f32, f32) -> f32 + Copy, sums: &mut [f32]) {
        let (width, stride) = (self.width, sums.len() / ROWS);
        let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &x[row * width..][..width]);
        for (index, panel) in self.values.as_chunks::<LANES>().0.chunks_exact(width).enumerate() {
            let panel = &panel[..width];
            let mut sum = [[0f32; LANES]; ROWS];
            for place in 0..width {
                for row in 0..ROWS {
                    for lane in 0..LANES {
                        sum[row][lane] += term(rows[row][place], panel[place][lane]);
                    }
                }
            }
            for row in 0..ROWS {
                sums[row * stride + index * LANES..][..LANES].copy_from_slice(&sum[row]);
            }
        }
    }
}

/// The sum over the places of two rows.
#[inline(always)]
pub fn sum_of_two(x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32 + Copy) -> f32 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<8>(), y.as_chunks::<8>());
    let mut sums = [0f32; 8];
    for (x, y) in x.iter().zip(y) {
        for lane in 0..sums.len() {
            sums[lane] += term(x[lane], y[lane]);
        }
    }
    let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| term(*x, *y)).sum();
    let halves: [f32; 4] = std::array::from_fn(|lane| sums[lane] + sums[lane + 4]);
    (halves[0] + halves[2]) + (halves[1] + halves[3]) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_length_and_number_are_multiplied_whole() {
        for (width, count) in [(1, 1), (7, 3), (8, 4), (9, 5), (40, 11)] {
            let rows = Rows::new(&vec![1.0; 2 * width], width);
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
