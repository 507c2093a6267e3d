//! What is computed of each channel alone: depthwise convolution and pooling.

use super::vector::{Simd, Vector, Work};
use super::window::PLACES;

/// What becomes of a channel's taps.
#[derive(Debug)]
pub enum Channelwise {
    /// Their sum, each times the weight of its tap and channel, and the channel's bias, within the limits.
    Weighted { weights: Vec<f32>, biases: Vec<f32>, limits: [f32; 2] },
    /// The greatest.
    Max,
    /// Their sum.
    Sum,
}

impl Channelwise {
    /// A depthwise convolution; weights are in ONNX's order: channel, tap.
    pub fn weighted(weights: &[f32], biases: &[f32], limits: [f32; 2]) -> Self {
        let (channels, taps) = (biases.len(), weights.len() / biases.len());
        let by_tap = (0..taps).flat_map(|tap| (0..channels).map(move |channel| weights[channel * taps + tap]));
        Self::Weighted { weights: by_tap.collect(), biases: biases.to_vec(), limits }
    }

    /// What a tap beside the image counts as.
    pub fn beside(&self) -> f32 {
        if matches!(self, Self::Max) { f32::NEG_INFINITY } else { 0.0 }
    }

    pub fn held_bytes(&self) -> u64 {
        match self {
            Self::Weighted { weights, .. } => (weights.len() * size_of::<f32>()) as u64,
            _ => 0,
        }
    }

    /// Computes places whose taps are in the table; `to` holds as many rows of all channels, at most [`PLACES`].
    ///
    /// # Safety
    /// Every pointer in the table has all channels to read, and the table [`PLACES`] of them for each tap.
    pub unsafe fn run(&self, simd: Simd, table: &[*const f32], channels: usize, to: &mut [f32]) {
        let (taps, places) = (table.len() / PLACES, to.len() / channels);
        assert!(taps * PLACES == table.len() && places <= PLACES && places * channels == to.len());
        if let Self::Weighted { weights, biases, .. } = self {
            assert!(weights.len() == taps * channels && biases.len() == channels);
        }
        simd.run(&Job { op: self, table: table.as_ptr(), taps, channels, to: to.as_mut_ptr(), places });
    }
}

struct Job<'a> {
    op: &'a Channelwise,
    table: *const *const f32,
    taps: usize,
    channels: usize,
    to: *mut f32,
    places: usize,
}

impl Work for Job<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(&self) {
        // SAFETY: there are as many channels as the vector has floats.
        unsafe {
            if self.channels >= V::LANES {
                self.run_all::<V>();
            } else if self.channels >= V::Half::LANES {
                self.run_all::<V::Half>();
            } else {
                self.run_all::<f32>();
            }
        }
    }
}

impl Job<'_> {
    #[inline(always)]
    unsafe fn run_all<V: Vector>(&self) {
        let mut done = 0;
        // SAFETY: each part is within the channels.
        unsafe {
            while done + 4 * V::LANES <= self.channels {
                self.run_part::<V, 4>(done);
                done += 4 * V::LANES;
            }
            while done + V::LANES <= self.channels {
                self.run_part::<V, 1>(done);
                done += V::LANES;
            }
            // What is left over goes with channels that are done: they come out the same.
            if done < self.channels {
                self.run_part::<V, 1>(self.channels - V::LANES);
            }
        }
    }

    /// Computes `VECTORS` vectors of channels from the `first` on, at all places.
    #[inline(always)]
    unsafe fn run_part<V: Vector, const VECTORS: usize>(&self, first: usize) {
        let mut place = 0;
        // SAFETY: places are those that `to` has.
        unsafe {
            while place + 4 <= self.places {
                self.tile::<V, 4, VECTORS>(first, place);
                place += 4;
            }
            while place < self.places {
                self.tile::<V, 1, VECTORS>(first, place);
                place += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<V: Vector, const ROWS: usize, const VECTORS: usize>(&self, first: usize, place: usize) {
        // SAFETY: `channels` of everything are there to read: of biases, of each tap's weights, and behind each of the
        // table's pointers; the vectors begin at `first` and end before them. `to` has a row of channels for each place.
        unsafe {
            let vectors = |from: *const f32| -> [V; VECTORS] {
                std::array::from_fn(|vector| V::load(from.add(first + vector * V::LANES)))
            };
            let rows = |tap: usize| -> [[V; VECTORS]; ROWS] {
                let entries = self.table.add(tap * PLACES + place);
                std::array::from_fn(|row| vectors(*entries.add(row)))
            };
            let taps = 0..self.taps;
            let out = match self.op {
                Channelwise::Weighted { weights, biases, limits } => {
                    let [low, high] = limits.map(|limit| V::splat(limit));
                    let mut sums = [vectors(biases.as_ptr()); ROWS];
                    for tap in taps {
                        let weights = vectors(weights.as_ptr().add(tap * self.channels));
                        fold(&mut sums, &rows(tap), |sum, value, vector| value.mul_add(weights[vector], sum));
                    }
                    sums.map(|row| row.map(|sum| high.min(low.max(sum))))
                }
                Channelwise::Max => {
                    let mut greatest = [[V::splat(f32::NEG_INFINITY); VECTORS]; ROWS];
                    taps.for_each(|tap| fold(&mut greatest, &rows(tap), |greatest, value, _| greatest.max(value)));
                    greatest
                }
                Channelwise::Sum => {
                    let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
                    taps.for_each(|tap| fold(&mut sums, &rows(tap), |sum, value, _| sum.add(value)));
                    sums
                }
            };
            for (row, out) in out.iter().enumerate() {
                let to = self.to.add((place + row) * self.channels + first);
                out.iter().enumerate().for_each(|(vector, out)| out.store(to.add(vector * V::LANES)));
            }
        }
    }
}

/// Puts each value into the one at its place.
#[inline(always)]
fn fold<V: Vector, const ROWS: usize, const VECTORS: usize>(
    into: &mut [[V; VECTORS]; ROWS],
    values: &[[V; VECTORS]; ROWS],
    by: impl Fn(V, V, usize) -> V,
) {
    for row in 0..ROWS {
        for vector in 0..VECTORS {
            into[row][vector] = by(into[row][vector], values[row][vector], vector);
        }
    }
}
