//! Convolution of all channels with all: a matrix product whose rows are places of the window and whose columns are
//! output channels. Nothing is copied together for it: a row is, for each tap, a pointer to that tap's pixel.

use super::vector::{Simd, Vector, Work};
use super::window::{PLACES, Table};

/// Floats of the widest vector.
const WIDEST: usize = 16;

/// Weights in the order in which they are read: blocks of output channels, each tap by tap, channel by channel.
#[derive(Debug, PartialEq)]
pub struct Dense {
    blocks: Vec<Block>,
    packed: Vec<f32>,
    groups: usize,
    /// Input channels of a group.
    channels: usize,
    outputs: usize,
    taps: usize,
    limits: [f32; 2],
}

/// Output channels that are computed together.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Block {
    /// Its first input channel, its first output channel, and how many output channels it has.
    input: usize,
    output: usize,
    size: usize,
    /// Floats beside one another in its weights: `size` and zeros.
    width: usize,
    /// Where its biases lie, and behind them its weights.
    start: usize,
}

/// What a convolution is made of. Weights are in ONNX's order: output channel, input channel of its group, tap.
pub struct Filters<'a> {
    pub weights: &'a [f32],
    pub biases: &'a [f32],
    pub groups: usize,
    pub taps: usize,
    /// What lies outside of these becomes them.
    pub limits: [f32; 2],
}

impl Dense {
    pub fn new(filters: &Filters<'_>, simd: Simd) -> Self {
        let outputs = filters.biases.len();
        let channels = filters.weights.len() / (outputs * filters.taps);
        let in_group = outputs / filters.groups;
        let (mut blocks, mut packed) = (vec![], vec![]);
        for group in 0..filters.groups {
            let mut done = 0;
            while done < in_group {
                let width = simd.block(in_group - done);
                let (size, output) = (width.min(in_group - done), group * in_group + done);
                let block = Block { input: group * channels, output, size, width, start: packed.len() };
                let pad = std::iter::repeat_n(0.0, width - size);
                packed.extend(filters.biases[output..][..size].iter().copied().chain(pad.clone()));
                for (tap, channel) in (0..filters.taps).flat_map(|tap| (0..channels).map(move |channel| (tap, channel)))
                {
                    let weight = |at: usize| filters.weights[((output + at) * channels + channel) * filters.taps + tap];
                    packed.extend((0..size).map(weight).chain(pad.clone()));
                }
                blocks.push(block);
                done += size;
            }
        }
        Self { blocks, packed, groups: filters.groups, channels, outputs, taps: filters.taps, limits: filters.limits }
    }

    pub fn held_bytes(&self) -> u64 {
        (self.packed.len() * size_of::<f32>()) as u64
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Computes places whose taps are in the table; `to` holds as many rows of all output channels, at most [`PLACES`].
    pub fn run(&self, simd: Simd, table: &Table<'_, f32>, to: &mut [f32]) {
        assert!(table.taps() == self.taps && self.groups * self.channels <= table.readable());
        let places = to.len() / self.outputs;
        assert!(places <= PLACES && places * self.outputs == to.len());
        simd.run(&Job { dense: self, table: table.pointers().as_ptr(), to: to.as_mut_ptr(), places });
    }
}

impl Simd {
    /// How wide the block is that comes next when so many output channels are left: widths are those that
    /// [`Job::run_block`] has a kernel for.
    fn block(self, left: usize) -> usize {
        let lanes = self.lanes();
        match left {
            left if left >= 4 * lanes && lanes >= 16 => 4 * lanes,
            left if left > lanes => 2 * lanes,
            left if left > lanes / 2 || lanes == 8 => lanes,
            _ => lanes / 2,
        }
    }
}

struct Job<'a> {
    dense: &'a Dense,
    table: *const *const f32,
    to: *mut f32,
    places: usize,
}

impl Work for Job<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(&self) {
        for block in &self.dense.blocks {
            // SAFETY: passed on. As many accumulators as registers hold beside a row's weights.
            unsafe {
                match block.width / V::LANES {
                    4 => self.run_block::<V, 6, 4>(block),
                    2 if V::LANES == 16 => self.run_block::<V, 12, 2>(block),
                    2 => self.run_block::<V, 6, 2>(block),
                    1 if V::LANES == 16 => self.run_block::<V, 12, 1>(block),
                    1 => self.run_block::<V, 8, 1>(block),
                    _ => self.run_block::<V::Half, 8, 1>(block),
                }
            }
        }
    }
}

// No closures below: they would be functions of their own, without the vectors' instructions.
impl Job<'_> {
    /// As many places together as registers hold, then single ones.
    #[inline(always)]
    unsafe fn run_block<V: Vector, const ROWS: usize, const VECTORS: usize>(&self, block: &Block) {
        let mut place = 0;
        // SAFETY: places are those that `to` has.
        unsafe {
            while place + ROWS <= self.places {
                self.tile::<V, ROWS, VECTORS>(block, place);
                place += ROWS;
            }
            while place + 2 <= self.places {
                self.tile::<V, 2, VECTORS>(block, place);
                place += 2;
            }
            if place < self.places {
                self.tile::<V, 1, VECTORS>(block, place);
            }
        }
    }

    /// Computes a block's output channels at `ROWS` places.
    #[inline(always)]
    unsafe fn tile<V: Vector, const ROWS: usize, const VECTORS: usize>(&self, block: &Block, place: usize) {
        let Dense { packed, channels, outputs, taps, limits, .. } = self.dense;
        // SAFETY: a block's biases and weights lie where it says, `width` floats for each tap and channel; the table has
        // `PLACES` pointers for each tap, each of which has the input channels of every group to read; `to` has a row of
        // all output channels for each place.
        unsafe {
            let mut weights = packed.as_ptr().add(block.start);
            let mut biases = [V::splat(0.0); VECTORS];
            for (vector, bias) in biases.iter_mut().enumerate() {
                *bias = V::load(weights.add(vector * V::LANES));
            }
            weights = weights.add(VECTORS * V::LANES);
            let mut sums = [biases; ROWS];
            for tap in 0..*taps {
                let entries = self.table.add(tap * PLACES + place);
                let mut rows = [std::ptr::null(); ROWS];
                for (row, pixel) in rows.iter_mut().enumerate() {
                    *pixel = (*entries.add(row)).add(block.input);
                }
                for channel in 0..*channels {
                    let mut column = biases;
                    for (vector, weight) in column.iter_mut().enumerate() {
                        *weight = V::load(weights.add(vector * V::LANES));
                    }
                    for (sums, pixel) in sums.iter_mut().zip(rows) {
                        let value = V::splat(*pixel.add(channel));
                        for (sum, weight) in sums.iter_mut().zip(column) {
                            *sum = value.mul_add(weight, *sum);
                        }
                    }
                    weights = weights.add(VECTORS * V::LANES);
                }
            }
            let (low, high) = (V::splat(limits[0]), V::splat(limits[1]));
            for sum in sums.as_flattened_mut() {
                *sum = high.min(low.max(*sum));
            }
            let to = self.to.add(place * outputs + block.output);
            if block.size == VECTORS * V::LANES {
                for (row, sums) in sums.iter().enumerate() {
                    for (vector, sum) in sums.iter().enumerate() {
                        sum.store(to.add(row * outputs + vector * V::LANES));
                    }
                }
            } else {
                let mut kept = [[[0.0; WIDEST]; VECTORS]; ROWS];
                for (sum, kept) in sums.as_flattened().iter().zip(kept.as_flattened_mut()) {
                    sum.store(kept.as_mut_ptr());
                }
                for (row, vectors) in kept.iter().enumerate() {
                    for (vector, values) in vectors.iter().enumerate() {
                        let done = vector * V::LANES;
                        let left = block.size.saturating_sub(done).min(V::LANES);
                        to.add(row * outputs + done).copy_from_nonoverlapping(values.as_ptr(), left);
                    }
                }
            }
        }
    }
}
