//! Convolution of each channel of bytes alone, in whole numbers that FP32 holds exactly.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    _mm_maskz_loadu_epi8, _mm_set1_epi8, _mm_xor_si128, _mm512_add_epi32, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32,
    _mm512_cvtps_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_cvtepi32_storeu_epi8, _mm512_max_ps,
    _mm512_min_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
};

use super::bytes::{ByteFilters, LANES, Scaling, Vnni, flip, offset};
use super::window::{PLACES, Table};

/// Every whole number up to this one is a FP32.
const MOST_EXACT: i64 = 1 << 24;

/// Weights of each tap and channel.
#[derive(Debug, PartialEq)]
pub struct BytesDepthwise {
    /// Filled up to whole vectors, as what sums begin with and the factors are.
    weights: Vec<f32>,
    starts: Vec<f32>,
    factors: Vec<f32>,
    channels: usize,
    taps: usize,
    flip: u8,
}

impl BytesDepthwise {
    /// `None` where sums may be larger than FP32 holds exactly.
    pub fn new(filters: &ByteFilters) -> Option<Self> {
        let (channels, taps) = (filters.biases.len(), filters.taps);
        let filled = channels.next_multiple_of(LANES);
        let (mut weights, mut starts, mut factors) = (vec![0.0; filled * taps], vec![0.0; filled], vec![0.0; filled]);
        let zero_point = i64::from(filters.input.1 + offset(filters.input.0));
        for (channel, own) in filters.weights.chunks_exact(taps).enumerate() {
            let magnitude: i64 = own.iter().map(|&weight| i64::from(weight).abs() * i64::from(u8::MAX)).sum();
            let sum: i64 = own.iter().map(|&weight| i64::from(weight)).sum();
            let start = i64::from(filters.biases[channel]) - zero_point * sum;
            if start.abs() + magnitude > MOST_EXACT {
                return None;
            }
            (starts[channel], factors[channel]) = (start as f32, filters.scaling.factors[channel]);
            for (tap, &weight) in own.iter().enumerate() {
                weights[tap * filled + channel] = f32::from(weight);
            }
        }
        Some(Self { weights, starts, factors, channels, taps, flip: flip(filters.input.0) })
    }

    pub fn held_bytes(&self) -> u64 {
        ((self.weights.len() + 2 * self.starts.len()) * size_of::<f32>()) as u64
    }

    /// Computes places whose taps are in the table; `to` holds as many rows of all channels, at most [`PLACES`].
    pub fn run(&self, _: Vnni, table: &Table<'_, u8>, scaling: &Scaling, to: &mut [u8]) {
        let places = to.len() / self.channels;
        assert!(table.taps() == self.taps && self.channels <= table.readable());
        assert!(places <= PLACES && places * self.channels == to.len());
        #[cfg(target_arch = "x86_64")]
        {
            let job = Job { op: self, scaling, table: table.pointers().as_ptr(), to: to.as_mut_ptr(), places };
            // SAFETY: whoever has a `Vnni` asked the processor for the instructions.
            unsafe { job.run() }
        }
    }
}

#[cfg(target_arch = "x86_64")]
struct Job<'a> {
    op: &'a BytesDepthwise,
    scaling: &'a Scaling,
    table: *const *const u8,
    to: *mut u8,
    places: usize,
}

// What is called below `run` is `inline(always)`, so that it is compiled for its instructions; no closures for the same reason.
#[cfg(target_arch = "x86_64")]
impl Job<'_> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn run(&self) {
        let mut first = 0;
        while first < self.op.channels {
            let mut place = 0;
            // SAFETY: places are those that `to` has, and channels those that there are.
            unsafe {
                while place + 8 <= self.places {
                    self.tile::<8>(first, place);
                    place += 8;
                }
                while place < self.places {
                    self.tile::<1>(first, place);
                    place += 1;
                }
            }
            first += LANES;
        }
    }

    /// Computes a vector of channels from the `first` on at `ROWS` places.
    #[inline(always)]
    unsafe fn tile<const ROWS: usize>(&self, first: usize, place: usize) {
        let BytesDepthwise { weights, starts, factors, channels, taps, flip } = self.op;
        let mask = ((1u32 << (channels - first).min(LANES)) - 1) as u16;
        // SAFETY: whole vectors of weights, starts and factors are there to read; of bytes behind the table's pointers, and of
        // those of `to`, only those of channels are touched.
        unsafe {
            let flip = _mm_set1_epi8(i8::from_ne_bytes([*flip]));
            let mut sums = [_mm512_setzero_ps(); ROWS];
            for sum in &mut sums {
                *sum = _mm512_loadu_ps(starts.as_ptr().add(first));
            }
            for tap in 0..*taps {
                let weight = _mm512_loadu_ps(weights.as_ptr().add(tap * starts.len() + first));
                let entries = self.table.add(tap * PLACES + place);
                for (row, sum) in sums.iter_mut().enumerate() {
                    let bytes = _mm_maskz_loadu_epi8(mask, (*entries.add(row)).add(first).cast());
                    let whole = _mm512_cvtepu8_epi32(_mm_xor_si128(bytes, flip));
                    *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), weight, *sum);
                }
            }
            let [low, high] = [_mm512_set1_ps(self.scaling.limits[0]), _mm512_set1_ps(self.scaling.limits[1])];
            let factor = _mm512_loadu_ps(factors.as_ptr().add(first));
            for (row, sum) in sums.iter().enumerate() {
                let scaled = _mm512_min_ps(_mm512_max_ps(_mm512_mul_ps(*sum, factor), low), high);
                let whole = _mm512_add_epi32(_mm512_cvtps_epi32(scaled), _mm512_set1_epi32(self.scaling.zero_point));
                let to = self.to.add((place + row) * channels + first);
                _mm512_mask_cvtepi32_storeu_epi8(to.cast(), mask, whole);
            }
        }
    }
}
