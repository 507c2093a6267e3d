//! What is computed of each channel alone: depthwise convolution and pooling.

use super::vector::{Simd, Vector, Work};
use super::window::{PLACES, Table};

/// What becomes of a channel's taps.
#[derive(Debug, PartialEq)]
pub struct Channelwise {
    step: Step,
    /// What each channel starts with.
    start: Vec<f32>,
    /// Of each tap and channel; none where the step takes none.
    weights: Vec<f32>,
    /// What lies outside of these becomes them.
    limits: [f32; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Adds the tap times its weight.
    Weigh,
    /// Adds the tap.
    Add,
    /// Takes the tap where it is greater.
    Max,
}

impl Channelwise {
    /// A depthwise convolution; weights are in ONNX's order: channel, tap.
    pub fn weighted(weights: &[f32], biases: &[f32], limits: [f32; 2]) -> Self {
        let (channels, taps) = (biases.len(), weights.len() / biases.len());
        let by_tap = (0..taps).flat_map(|tap| (0..channels).map(move |channel| weights[channel * taps + tap]));
        Self { step: Step::Weigh, start: biases.to_vec(), weights: by_tap.collect(), limits }
    }

    /// The sums of the taps.
    pub fn sums(channels: usize) -> Self {
        Self::unweighted(Step::Add, vec![0.0; channels])
    }

    /// The greatest of the taps.
    pub fn greatest(channels: usize) -> Self {
        Self::unweighted(Step::Max, vec![f32::NEG_INFINITY; channels])
    }

    fn unweighted(step: Step, start: Vec<f32>) -> Self {
        Self { step, start, weights: vec![], limits: [f32::NEG_INFINITY, f32::INFINITY] }
    }

    /// What a tap beside the image counts as.
    pub fn beside(&self) -> f32 {
        if self.step == Step::Max { f32::NEG_INFINITY } else { 0.0 }
    }

    pub fn channels(&self) -> usize {
        self.start.len()
    }

    pub fn held_bytes(&self) -> u64 {
        (self.weights.len() * size_of::<f32>()) as u64
    }

    /// Computes places whose taps are in the table; `to` holds as many rows of all channels, at most [`PLACES`].
    pub fn run(&self, simd: Simd, table: &Table<'_, f32>, to: &mut [f32]) {
        let (channels, taps) = (self.start.len(), table.taps());
        let places = to.len() / channels;
        assert!(channels <= table.readable() && places <= PLACES && places * channels == to.len());
        assert!(self.step != Step::Weigh || self.weights.len() == taps * channels);
        let table = table.pointers().as_ptr();
        simd.run(&Job { op: self, table, taps, channels, to: to.as_mut_ptr(), places });
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

// No closures below: they would be functions of their own, without the vectors' instructions.
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
        // SAFETY: `channels` of everything are there to read: of what they start with, of each tap's weights, and behind
        // each of the table's pointers; the vectors begin at `first` and end before them. `to` has a row of channels for
        // each place.
        unsafe {
            let zero = V::splat(0.0);
            let mut start = [zero; VECTORS];
            for (vector, start) in start.iter_mut().enumerate() {
                *start = V::load(self.op.start.as_ptr().add(first + vector * V::LANES));
            }
            let mut sums = [start; ROWS];
            for tap in 0..self.taps {
                let mut weights = [zero; VECTORS];
                if self.op.step == Step::Weigh {
                    for (vector, weight) in weights.iter_mut().enumerate() {
                        let from = tap * self.channels + first + vector * V::LANES;
                        *weight = V::load(self.op.weights.as_ptr().add(from));
                    }
                }
                let entries = self.table.add(tap * PLACES + place);
                for (row, sums) in sums.iter_mut().enumerate() {
                    let pixel = (*entries.add(row)).add(first);
                    for (vector, (sum, weight)) in sums.iter_mut().zip(weights).enumerate() {
                        let value = V::load(pixel.add(vector * V::LANES));
                        *sum = match self.op.step {
                            Step::Weigh => value.mul_add(weight, *sum),
                            Step::Add => sum.add(value),
                            Step::Max => sum.max(value),
                        };
                    }
                }
            }
            let (low, high) = (V::splat(self.op.limits[0]), V::splat(self.op.limits[1]));
            for (row, sums) in sums.iter().enumerate() {
                let to = self.to.add((place + row) * self.channels + first);
                for (vector, sum) in sums.iter().enumerate() {
                    high.min(low.max(*sum)).store(to.add(vector * V::LANES));
                }
            }
        }
    }
}
