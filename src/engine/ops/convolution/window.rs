//! Which elements of an image a window sees at each of its places.

use tract_onnx::tract_core::ops::cnn::PoolSpec;
use tract_onnx::tract_core::ops::nn::DataFormat;

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
}

impl Window {
    /// The window of a convolution or pooling over images of this shape, batch and channels first. `None` where it is not
    /// one over one or two axes, or is too large.
    pub fn new(spec: &PoolSpec, shape: &[usize]) -> Option<Self> {
        let axes = spec.rank();
        if spec.data_format != DataFormat::NCHW || !(1..=2).contains(&axes) || shape.len() != axes + 2 {
            return None;
        }
        let padding = spec.computed_padding(&shape[2..]);
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

    pub fn taps(&self) -> usize {
        self.taps[0] * self.taps[1]
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

    /// Fills the table, tap by tap, with where the channels of a tap's pixel lie, for [`PLACES`] places from `first` on:
    /// places are counted through all images. Beyond `end` the last is repeated. What lies beside the image is `beside`.
    ///
    /// Pointers are only reckoned here; they are within `pixels`, which holds a pixel's `channels` beside one another, or
    /// `beside`.
    pub fn look_up(&self, table: &mut [*const f32], first: usize, end: usize, pixels: Pixels<'_>) {
        for slot in 0..PLACES {
            let place = (first + slot).min(end - 1);
            let (image, place) = (place / self.area(), place % self.area());
            let corner = [place / self.places[1] * self.strides[0], place % self.places[1] * self.strides[1]];
            let mut entry = slot;
            for y in 0..self.taps[0] {
                let row = (corner[0] + y * self.dilations[0]).wrapping_sub(self.before[0]);
                for x in 0..self.taps[1] {
                    let column = (corner[1] + x * self.dilations[1]).wrapping_sub(self.before[1]);
                    table[entry] = match row < self.image[0] && column < self.image[1] {
                        true => pixels.at(image * self.pixels() + row * self.image[1] + column),
                        false => pixels.beside,
                    };
                    entry += PLACES;
                }
            }
        }
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

/// Images whose pixels have their channels beside one another, and the pixel that is beside them all.
#[derive(Clone, Copy)]
pub struct Pixels<'a> {
    pub values: &'a [f32],
    pub channels: usize,
    /// As many floats as there are channels.
    pub beside: *const f32,
}

impl Pixels<'_> {
    fn at(&self, pixel: usize) -> *const f32 {
        self.values[pixel * self.channels..].as_ptr()
    }
}
