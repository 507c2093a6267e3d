//! Which pixels of an image a window sees at each of its places.

use std::cell::Cell;

use tract_onnx::tract_core::ops::cnn::PoolSpec;
use tract_onnx::tract_core::ops::nn::DataFormat;

use super::vector::{Simd, Vector, Work};

/// Most channels of images that are copied to where their padding is.
const MAX_COPIED_CHANNELS: usize = 4;
/// How many times as large as an image its copy may be.
const MAX_GROWTH: usize = 4;
/// Most taps of a window, so that the table of a few places stays small.
const MAX_TAPS: usize = 4096;
/// Places whose taps are looked up at once: their table stays in the first cache and the weights are read once for all of
/// them. A multiple of every number of places that a kernel takes together.
pub const PLACES: usize = 96;

/// A window that moves over images of two axes; those of one axis are images of height 1. Sizes are of height and width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    pub image: [usize; 2],
    /// Places of the window.
    pub places: [usize; 2],
    taps: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    /// Padding before the image.
    before: [usize; 2],
    is_padded: bool,
    /// Pixels that are read for each tap: more than one where a row's taps are one.
    run: usize,
}

impl Window {
    /// Of one place that sees one pixel: each is an image.
    pub fn point() -> Self {
        let ([one, none], is_padded) = ([[1; 2], [0; 2]], false);
        Self { image: one, places: one, taps: one, strides: one, dilations: one, before: none, is_padded, run: 1 }
    }

    /// The window of a convolution or pooling over images of this shape, batch and channels first. `None` where it is not
    /// one over one or two axes, or is too large.
    pub fn new(spec: &PoolSpec, shape: &[usize]) -> Option<Self> {
        let axes = spec.rank();
        if spec.data_format != DataFormat::NCHW || !(1..=2).contains(&axes) || shape.len() != axes + 2 {
            return None;
        }
        if spec.strides().len() != axes || spec.dilations().len() != axes {
            return None;
        }
        let padding = spec.computed_padding(&shape[2..]);
        if padding.len() != axes {
            return None;
        }
        let pair = |of: &dyn Fn(usize) -> usize, absent: usize| match axes {
            1 => [absent, of(0)],
            _ => [of(0), of(1)],
        };
        let window = Self {
            image: pair(&|axis| shape[axis + 2], 1),
            places: pair(&|axis| padding[axis].convoluted, 1),
            taps: pair(&|axis| spec.kernel_shape[axis], 1),
            strides: pair(&|axis| spec.stride(axis), 1),
            dilations: pair(&|axis| spec.dilation(axis), 1),
            before: pair(&|axis| padding[axis].pad_before, 0),
            is_padded: false,
            run: 1,
        };
        let reaches = [0, 1].map(|axis| window.reach(axis));
        let is_padded = (0..2).any(|axis| window.before[axis] > 0 || reaches[axis] > Some(window.image[axis]));
        let known = reaches.iter().all(Option::is_some) && window.taps.iter().all(|&taps| taps > 0);
        let taps = window.taps[0].checked_mul(window.taps[1]);
        (known && taps.is_some_and(|taps| taps <= MAX_TAPS)).then_some(Self { is_padded, ..window })
    }

    /// How far into the image the window's last place reaches.
    fn reach(&self, axis: usize) -> Option<usize> {
        let first = self.places[axis].checked_sub(1)?.checked_mul(self.strides[axis])?;
        let last_tap = (self.taps[axis] - 1).checked_mul(self.dilations[axis])?;
        let reach = first.checked_add(last_tap)?.checked_add(1)?;
        // Sums of coordinates fit a signed number too.
        (isize::try_from(reach).is_ok() && isize::try_from(self.before[axis]).is_ok())
            .then(|| reach.saturating_sub(self.before[axis]))
    }

    /// For images of few channels: how they are copied, with their padding, so that the taps of a row are beside one
    /// another, and the window over the copy, whose rows are single taps. `None` where that isn't worth it.
    pub fn over_copy(&self, channels: usize) -> Option<(Self, Copied)> {
        let size = [0, 1].map(|axis| {
            (self.places[axis] - 1) * self.strides[axis] + (self.taps[axis] - 1) * self.dilations[axis] + 1
        });
        let pixels = size[0].checked_mul(size[1])?;
        let is_worth_it = channels <= MAX_COPIED_CHANNELS && self.taps[1] > 1 && self.dilations[1] == 1;
        if !is_worth_it || pixels > MAX_GROWTH.checked_mul(self.pixels())? {
            return None;
        }
        let copied = Copied { from: self.image, size, before: self.before, channels };
        let taps = [self.taps[0], 1];
        let run = self.taps[1];
        Some((Self { image: size, taps, before: [0, 0], is_padded: false, run, ..self.clone() }, copied))
    }

    pub fn taps(&self) -> usize {
        self.taps[0] * self.taps[1]
    }

    /// Pixels that are read for each tap.
    pub fn run(&self) -> usize {
        self.run
    }

    /// Whether some place sees what is beside the image.
    pub fn is_padded(&self) -> bool {
        self.is_padded
    }

    /// Places in one image.
    pub fn area(&self) -> usize {
        self.places[0] * self.places[1]
    }

    /// Pixels of one image.
    pub fn pixels(&self) -> usize {
        self.image[0] * self.image[1]
    }

    /// Where the windows of [`PLACES`] places begin, the padding before the image counted.
    fn corners(&self, first: usize, end: usize, channels: usize) -> [Corner; PLACES] {
        let (image, place) = (first / self.area(), first % self.area());
        let (mut y, mut x) = (place / self.places[1], place % self.places[1]);
        let mut image = image * self.pixels();
        let mut corners = [Corner::default(); PLACES];
        for (slot, corner) in corners.iter_mut().enumerate() {
            let (row, column) = (y * self.strides[0], x * self.strides[1]);
            let pixel = image.wrapping_add(row.wrapping_mul(self.image[1])).wrapping_add(column);
            *corner = Corner { at: pixel.wrapping_mul(channels), row, column };
            if first + slot + 1 >= end {
                continue;
            }
            x += 1;
            if x == self.places[1] {
                (x, y) = (0, y + 1);
            }
            if y == self.places[0] {
                (y, image) = (0, image + self.pixels());
            }
        }
        corners
    }

    /// How many taps of a place see the image.
    pub fn seen(&self, place: usize) -> usize {
        let along = |axis: usize, at: usize| {
            let sees = |tap: &usize| {
                (at * self.strides[axis] + tap * self.dilations[axis]).wrapping_sub(self.before[axis])
                    < self.image[axis]
            };
            (0..self.taps[axis]).filter(sees).count()
        };
        along(0, place / self.places[1]) * along(1, place % self.places[1])
    }
}

/// How images that have their channels first are copied to where their padding is and their channels are last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Sizes of an image and of its copy.
    pub from: [usize; 2],
    size: [usize; 2],
    before: [usize; 2],
    channels: usize,
}

impl Copied {
    /// The copy of all images, with some padding behind them.
    pub fn of<T: Copy>(&self, values: &[T], padding: T, behind: usize) -> Vec<T> {
        let (each, channels) = (self.size[0] * self.size[1] * self.channels, self.channels);
        let all = values.len() / (self.from[0] * self.from[1] * channels) * each;
        let mut copy = vec![padding; all + behind];
        let images =
            copy[..all].chunks_exact_mut(each).zip(values.chunks_exact(self.from[0] * self.from[1] * channels));
        let columns = self.from[1].min(self.size[1].saturating_sub(self.before[1]));
        for (copy, image) in images {
            for (channel, plane) in image.chunks_exact(self.from[0] * self.from[1]).enumerate() {
                let rows = copy.chunks_exact_mut(self.size[1] * channels).skip(self.before[0]);
                for (to, from) in rows.zip(plane.chunks_exact(self.from[1])) {
                    let to = to[self.before[1].min(self.size[1]) * channels..].chunks_exact_mut(channels);
                    to.zip(&from[..columns]).for_each(|(pixel, value)| pixel[channel] = *value);
                }
            }
        }
        copy
    }
}

/// Where a window begins.
#[derive(Debug, Clone, Copy, Default)]
struct Corner {
    /// How far behind the first value its pixel lies, as if nothing were padded.
    at: usize,
    row: usize,
    column: usize,
}

/// Where the taps of [`PLACES`] places lie.
pub struct Table<'a, T> {
    window: &'a Window,
    images: &'a [T],
    beside: &'a [T],
    channels: usize,
    /// Tap by tap, a pointer for each place: to the images or to `beside`, with [`Self::readable`] values there, but for
    /// those behind the last of the images that the tap itself doesn't have.
    pointers: Vec<*const T>,
}

impl<'a, T> Table<'a, T> {
    /// For images whose pixels have their channels beside one another. `beside` are the pixels that are read for a tap
    /// beside the image.
    pub fn new(window: &'a Window, images: &'a [T], beside: &'a [T], channels: usize) -> Self {
        assert!(beside.len() >= window.run * channels, "fewer values beside the image than a tap has");
        let pointers = vec![beside.as_ptr(); window.taps() * PLACES];
        Self { window, images, beside, channels, pointers }
    }

    pub fn taps(&self) -> usize {
        self.window.taps()
    }

    /// Values behind each pointer.
    pub fn readable(&self) -> usize {
        self.beside.len()
    }

    /// Tap by tap, a pointer for each of [`PLACES`] places.
    pub fn pointers(&self) -> &[*const T] {
        &self.pointers
    }

    /// Looks up [`PLACES`] places from `first` on: places are counted through all images. From `end` on, the last before it
    /// is repeated.
    pub fn look_up(&mut self, simd: Simd, first: usize, end: usize) {
        let channels = self.channels;
        let images = self.images.len() / (self.window.pixels() * channels);
        assert!(first < end && end <= images * self.window.area(), "places beyond the images");
        let corners = self.window.corners(first, end, channels);
        let Self { window, images, beside, channels, .. } = *self;
        let pointers = Cell::from_mut(&mut *self.pointers).as_slice_of_cells();
        simd.run(&LookUp { window, images, beside, channels, pointers, corners: &corners });
    }
}

struct LookUp<'a, T> {
    window: &'a Window,
    images: &'a [T],
    beside: &'a [T],
    channels: usize,
    pointers: &'a [Cell<*const T>],
    corners: &'a [Corner; PLACES],
}

impl<T> Work for LookUp<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector>(&self) {
        let Window { image: [height, width], taps, dilations, before, run, .. } = *self.window;
        // A tap's pixels are all in the image or none is read.
        let (channels, width_of_firsts) = (self.channels, (width + 1).saturating_sub(run));
        let mut pointers = self.pointers.chunks_exact(PLACES);
        for y in 0..taps[0] {
            for x in 0..taps[1] {
                let y = (y * dilations[0]).wrapping_sub(before[0]);
                let x = (x * dilations[1]).wrapping_sub(before[1]);
                let further = y.wrapping_mul(width).wrapping_add(x).wrapping_mul(channels);
                let Some(pointers) = pointers.next() else { return };
                for (pointer, corner) in pointers.iter().zip(self.corners) {
                    let at = self.images.as_ptr().wrapping_add(corner.at.wrapping_add(further));
                    let (row, column) = (corner.row.wrapping_add(y), corner.column.wrapping_add(x));
                    let is_within = (row < height) & (column < width_of_firsts);
                    pointer.set(if is_within { at } else { self.beside.as_ptr() });
                }
            }
        }
    }
}
