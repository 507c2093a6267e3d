//! Convolutions and poolings of plans for known shapes, in place of tract's.
//!
//! tract copies the patches that a filter sees together (im2col) for each image, packs the copy, and multiplies it image by
//! image; its depthwise convolutions and poolings go element by element. Ours keep images with the channels of a pixel
//! beside one another (`channels_last` changes the graph so), which vectors then go along, take the places of all images of
//! a batch as the rows of one product, read the patches where they lie, and clip what they give on its way out.

mod channels_last;
mod channelwise;
mod dense;
mod pixels;
mod tail;
#[cfg(test)]
mod tests;
mod vector;
mod window;

use std::any::Any;
use std::sync::Arc;

use tract_onnx::tract_hir::internal::*;

pub use self::channels_last::convert;
use self::channelwise::Channelwise;
use self::dense::Dense;
use self::vector::Simd;
use self::window::{Copied, PLACES, Table, Window};
use super::kernel::{self, Kernel};
use super::written::written;

/// What is computed at each place of a window.
#[derive(Debug, PartialEq)]
enum What {
    Dense(Dense),
    Channelwise(Channelwise),
    /// The sum of the taps times a factor of the place: an average.
    Average(Channelwise, Vec<f32>),
}

/// A convolution or pooling of images that have their channels last: batch, height and width, or batch and length.
#[derive(Debug, PartialEq)]
struct Windowed {
    name: &'static str,
    window: Window,
    /// For images that have their channels first: how they are copied to where the window sees them.
    copied: Option<Copied>,
    what: What,
    /// The axes between the batch and the channels.
    axes: usize,
    channels: usize,
    /// The pixels that a tap beside the image sees.
    beside: Vec<f32>,
    simd: Simd,
}

impl Windowed {
    fn new(name: &'static str, window: Window, what: What, (axes, channels): (usize, usize), simd: Simd) -> Self {
        let beside = match &what {
            What::Channelwise(what) => what.beside(),
            _ => 0.0,
        };
        let beside = vec![beside; window.run() * channels];
        Self { name, window, copied: None, what, axes, channels, beside, simd }
    }

    fn typed(self) -> Box<dyn TypedOp> {
        kernel::typed(Arc::new(self), &[0])
    }

    /// The axes of an image that it takes, without the batch.
    fn image(&self) -> TVec<usize> {
        match &self.copied {
            None => self.shape(self.window.image, self.channels),
            Some(copied) => {
                std::iter::once(self.channels).chain(copied.from[2 - self.axes..].iter().copied()).collect()
            }
        }
    }

    /// The axes of an image whose channels are last.
    fn shape(&self, sizes: [usize; 2], channels: usize) -> TVec<usize> {
        sizes[2 - self.axes..].iter().copied().chain([channels]).collect()
    }

    fn outputs(&self) -> usize {
        match &self.what {
            What::Dense(dense) => dense.outputs(),
            _ => self.channels,
        }
    }

    fn run(&self, values: &[f32], to: &mut [f32]) {
        let outputs = self.outputs();
        let copy = self.copied.as_ref().map(|copied| copied.of(values));
        let values = copy.as_deref().unwrap_or(values);
        let mut table = Table::new(&self.window, values, &self.beside);
        let end = to.len() / outputs;
        for (chunk, to) in to.chunks_mut(PLACES * outputs).enumerate() {
            let first = chunk * PLACES;
            table.look_up(self.simd, first, end);
            match &self.what {
                What::Dense(dense) => dense.run(self.simd, &table, to),
                What::Channelwise(what) | What::Average(what, _) => what.run(self.simd, &table, to),
            }
            if let What::Average(_, factors) = &self.what {
                for (place, to) in to.chunks_mut(outputs).enumerate() {
                    let factor = factors[(first + place) % factors.len()];
                    to.iter_mut().for_each(|sum| *sum *= factor);
                }
            }
        }
    }
}

impl Kernel for Windowed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1, "{} inputs for {}", inputs.len(), self.name);
        let (images, image) = inputs[0].shape.split_first().context("images have axes")?;
        let expected: TVec<TDim> = self.image().iter().map(|size| size.to_dim()).collect();
        ensure!(*image == *expected, "an image of another shape");
        ensure!(inputs[0].datum_type == f32::datum_type());
        let shape = self.shape(self.window.places, self.outputs());
        let shape: TVec<TDim> = std::iter::once(images.clone()).chain(shape.iter().map(|size| size.to_dim())).collect();
        Ok(tvec![f32::fact(shape)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (images, image) = inputs[0].shape().split_first().context("images have axes")?;
        ensure!(*image == *self.image(), "an image of another shape");
        let shape: TVec<usize> =
            std::iter::once(*images).chain(self.shape(self.window.places, self.outputs())).collect();
        let values = inputs[0].try_as_plain_ram()?.as_slice::<f32>()?;
        Ok(tvec![written(&shape, |to| Ok(self.run(values, to)))?])
    }

    fn is_same(&self, other: &dyn Kernel) -> bool {
        (other as &dyn Any).downcast_ref::<Self>() == Some(self)
    }

    fn held_bytes(&self) -> u64 {
        match &self.what {
            What::Dense(dense) => dense.held_bytes(),
            What::Channelwise(what) => what.held_bytes(),
            What::Average(..) => 0,
        }
    }
}
