//! Convolution of bytes of all channels with all: as [`super::dense`], with four channels of a pixel at a time.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_cvtepi32_ps, _mm512_cvtps_epi32, _mm512_dpbusd_epi32, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mask_cvtepi32_storeu_epi8, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512, _mm512_xor_si512,
};

use super::bytes::{ByteFilters, LANES, Scaling, Vnni, flip, offset};
use super::window::{PLACES, Table};

/// Channels that are multiplied together.
const QUAD: usize = 4;

/// Weights in the order in which they are read: blocks of output channels, each tap by tap, four channels by four.
#[derive(Debug, PartialEq)]
pub struct BytesDense {
    blocks: Vec<Block>,
    packed: Vec<i8>,
    /// What sums begin with, and the factors of a block's output channels, filled up to whole vectors.
    starts: Vec<i32>,
    factors: Vec<f32>,
    groups: usize,
    /// Input channels of a group, filled up to whole quads.
    channels: usize,
    taps: usize,
    flip: u8,
}

/// Output channels that are computed together.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Block {
    /// Its first input channel, its first output channel, and how many output channels it has.
    input: usize,
    output: usize,
    size: usize,
    vectors: usize,
    /// Where its weights lie, and where what its sums begin with.
    weights: usize,
    start: usize,
}

impl BytesDense {
    pub fn new(filters: &ByteFilters) -> Self {
        let outputs = filters.biases.len();
        let real = filters.weights.len() / (outputs * filters.taps);
        let (channels, in_group) = (real.next_multiple_of(QUAD), outputs / filters.groups);
        let mut dense = Self {
            blocks: vec![],
            packed: vec![],
            starts: vec![],
            factors: vec![],
            groups: filters.groups,
            channels,
            taps: filters.taps,
            flip: flip(filters.input.0),
        };
        for group in 0..filters.groups {
            let mut done = 0;
            while done < in_group {
                let vectors = vectors(in_group - done);
                let (size, output) = ((vectors * LANES).min(in_group - done), group * in_group + done);
                dense.add(Block { input: group * real, output, size, vectors, weights: 0, start: 0 }, filters, real);
                done += size;
            }
        }
        dense
    }

    fn add(&mut self, block: Block, filters: &ByteFilters, real: usize) {
        let Block { output, size, vectors, .. } = block;
        self.blocks.push(Block { weights: self.packed.len(), start: self.starts.len(), ..block });
        let zero_point = filters.input.1 + offset(filters.input.0);
        for at in 0..vectors * LANES {
            let (start, factor) = match at < size {
                true => {
                    let weights = &filters.weights[(output + at) * real * filters.taps..][..real * filters.taps];
                    let sum = weights.iter().fold(0i32, |sum, &weight| sum.wrapping_add(i32::from(weight)));
                    let bias = filters.biases[output + at];
                    (bias.wrapping_sub(zero_point.wrapping_mul(sum)), filters.scaling.factors[output + at])
                }
                false => (0, 0.0),
            };
            self.starts.push(start);
            self.factors.push(factor);
        }
        for (tap, quad) in (0..filters.taps).flat_map(|tap| (0..self.channels / QUAD).map(move |quad| (tap, quad))) {
            for (at, channel) in (0..vectors * LANES).flat_map(|at| (0..QUAD).map(move |of| (at, quad * QUAD + of))) {
                let is_real = at < size && channel < real;
                let place = ((output + at) * real + channel) * filters.taps + tap;
                self.packed.push(if is_real { filters.weights[place] } else { 0 });
            }
        }
    }

    pub fn held_bytes(&self) -> u64 {
        (self.packed.len() + self.starts.len() * 2 * size_of::<i32>()) as u64
    }

    /// Computes places whose taps are in the table; `to` holds as many rows of all output channels, at most [`PLACES`].
    pub fn run(&self, _: Vnni, table: &Table<'_, u8>, scaling: &Scaling, to: &mut [u8]) {
        let outputs = scaling.factors.len();
        let last = self.blocks.iter().map(|block| block.input).max().unwrap_or(0);
        assert!(table.taps() == self.taps && last + self.channels <= table.readable());
        let places = to.len() / outputs;
        assert!(places <= PLACES && places * outputs == to.len());
        #[cfg(target_arch = "x86_64")]
        {
            let table = table.pointers().as_ptr();
            let job = Job { dense: self, scaling, table, outputs, to: to.as_mut_ptr(), places };
            // SAFETY: whoever has a `Vnni` asked the processor for the instructions.
            unsafe { job.run() }
        }
    }
}

/// How many vectors of output channels are computed together when so many channels are left.
fn vectors(left: usize) -> usize {
    match left {
        left if left >= 4 * LANES => 4,
        left if left > 2 * LANES && left <= 3 * LANES => 3,
        left if left > LANES => 2,
        _ => 1,
    }
}

#[cfg(target_arch = "x86_64")]
struct Job<'a> {
    dense: &'a BytesDense,
    scaling: &'a Scaling,
    table: *const *const u8,
    outputs: usize,
    to: *mut u8,
    places: usize,
}

// What is called below `run` is `inline(always)`, so that it is compiled for its instructions; no closures for the same reason.
#[cfg(target_arch = "x86_64")]
impl Job<'_> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn run(&self) {
        for block in &self.dense.blocks {
            // SAFETY: passed on. As many accumulators as registers hold beside a row's weights.
            unsafe {
                match block.vectors {
                    4 => self.run_block::<6, 4>(block),
                    3 => self.run_block::<8, 3>(block),
                    2 => self.run_block::<12, 2>(block),
                    _ => self.run_block::<12, 1>(block),
                }
            }
        }
    }

    /// As many places together as registers hold, then fewer.
    #[inline(always)]
    unsafe fn run_block<const ROWS: usize, const VECTORS: usize>(&self, block: &Block) {
        let mut place = 0;
        // SAFETY: places are those that `to` has.
        unsafe {
            while place + ROWS <= self.places {
                self.tile::<ROWS, VECTORS>(block, place);
                place += ROWS;
            }
            while place + 2 <= self.places {
                self.tile::<2, VECTORS>(block, place);
                place += 2;
            }
            if place < self.places {
                self.tile::<1, VECTORS>(block, place);
            }
        }
    }

    /// Computes a block's output channels at `ROWS` places.
    #[inline(always)]
    unsafe fn tile<const ROWS: usize, const VECTORS: usize>(&self, block: &Block, place: usize) {
        let BytesDense { packed, starts, channels, taps, flip, .. } = self.dense;
        // SAFETY: a block's starts and weights lie where it says, `VECTORS` vectors of each and of the weights for each tap and
        // quad; the table has `PLACES` pointers for each tap, each of which has the quads of every group to read.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); VECTORS]; ROWS];
            for sums in &mut sums {
                for (vector, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_loadu_si512(starts.as_ptr().add(block.start + vector * LANES).cast());
                }
            }
            let flip = _mm512_set1_epi32(i32::from_ne_bytes([*flip; 4]));
            let mut weights = packed.as_ptr().add(block.weights);
            for tap in 0..*taps {
                let entries = self.table.add(tap * PLACES + place);
                let mut rows = [std::ptr::null(); ROWS];
                for (row, pixel) in rows.iter_mut().enumerate() {
                    *pixel = (*entries.add(row)).add(block.input);
                }
                for quad in 0..*channels / QUAD {
                    let mut column = [_mm512_setzero_si512(); VECTORS];
                    for (vector, weight) in column.iter_mut().enumerate() {
                        *weight = _mm512_loadu_si512(weights.add(vector * LANES * QUAD).cast());
                    }
                    for (sums, pixel) in sums.iter_mut().zip(rows) {
                        let value = _mm512_set1_epi32(pixel.add(quad * QUAD).cast::<i32>().read_unaligned());
                        let value = _mm512_xor_si512(value, flip);
                        for (sum, weight) in sums.iter_mut().zip(column) {
                            *sum = _mm512_dpbusd_epi32(*sum, value, weight);
                        }
                    }
                    weights = weights.add(VECTORS * LANES * QUAD);
                }
            }
            self.store(block, place, &sums);
        }
    }

    /// Scales and rounds the sums of some places.
    #[inline(always)]
    unsafe fn store<const ROWS: usize, const VECTORS: usize>(
        &self,
        block: &Block,
        place: usize,
        sums: &[[__m512i; VECTORS]; ROWS],
    ) {
        let [low, high] = self.scaling.limits;
        // SAFETY: `to` has a row of all output channels for each place, of which no more are written than the block has.
        unsafe {
            let (low, high) = (_mm512_set1_ps(low), _mm512_set1_ps(high));
            let zero_point = _mm512_set1_epi32(self.scaling.zero_point);
            let to = self.to.add(place * self.outputs + block.output);
            for (row, sums) in sums.iter().enumerate() {
                for (vector, sum) in sums.iter().enumerate() {
                    let factor = _mm512_loadu_ps(self.dense.factors.as_ptr().add(block.start + vector * LANES));
                    let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(*sum), factor);
                    let scaled = _mm512_min_ps(_mm512_max_ps(scaled, low), high);
                    let whole = _mm512_add_epi32(_mm512_cvtps_epi32(scaled), zero_point);
                    let left = block.size.saturating_sub(vector * LANES).min(LANES);
                    let mask = ((1u32 << left) - 1) as u16;
                    _mm512_mask_cvtepi32_storeu_epi8(to.add(row * self.outputs + vector * LANES).cast(), mask, whole);
                }
            }
        }
    }
}
