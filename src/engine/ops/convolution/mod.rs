//! Convolutions and poolings of plans for known shapes, in place of tract's.
//!
//! tract copies the patches that a filter sees together (im2col) for each image, packs the copy, and multiplies it image by
//! image; its depthwise convolutions and poolings go element by element. Ours keep images with the channels of a pixel
//! beside one another (`channels_last` changes the graph so), which vectors then go along, take the places of all images of
//! a batch as the rows of one product, read the patches where they lie, and clip what they give on its way out.

mod bytes;
mod bytes_dense;
mod bytes_depthwise;
mod channels_last;
mod channelwise;
mod dense;
mod pixels;
mod products;
mod quantised;
mod tail;
#[cfg(test)]
mod tests;
mod vector;
mod window;

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use tract_onnx::tract_hir::internal::*;

pub use self::channels_last::convert;
use self::channelwise::Channelwise;
use self::dense::Dense;
pub use self::products::convert as convert_products;
use self::vector::Simd;
use self::window::{Copied, PLACES, Table, Window};
use super::kernel::{self, Kernel};
use super::written::unwritten;

/// What is computed at each place of a window, and of which values.
trait AtPlaces: Debug + PartialEq + Send + Sync + 'static {
    type Value: Pixel;

    /// The types of what it takes and gives.
    fn types(&self) -> [DatumType; 2];
    /// Channels that it gives.
    fn outputs(&self) -> usize;
    /// What a tap beside the image sees.
    fn beside(&self) -> Self::Value;
    /// Computes the places that the table has looked up, from the `first` on; `to` holds all channels of each.
    fn run(&self, simd: Simd, table: &Table<'_, Self::Value>, first: usize, to: &mut [Self::Value]);
    fn held_bytes(&self) -> u64;
    /// Values beyond a tap's that are read with it.
    const SLACK: usize;
}

/// A value of an image: a float, or the byte of a quantised value.
trait Pixel: Copy + Debug + PartialEq + Send + Sync + 'static {
    fn of(tensor: &Tensor) -> TractResult<&[Self]>;
    /// Has `write` write a tensor's values.
    fn write(tensor: &mut Tensor, write: impl FnOnce(&mut [Self])) -> TractResult<()>;
}

impl Pixel for f32 {
    fn of(tensor: &Tensor) -> TractResult<&[Self]> {
        tensor.try_as_plain_ram()?.as_slice()
    }

    fn write(tensor: &mut Tensor, write: impl FnOnce(&mut [Self])) -> TractResult<()> {
        write(tensor.try_as_plain_ram_mut()?.as_slice_mut()?);
        Ok(())
    }
}

impl Pixel for u8 {
    fn of(tensor: &Tensor) -> TractResult<&[Self]> {
        ensure!(tensor.is_plain_ram() && tensor.datum_type().size_of() == 1);
        Ok(tensor.as_bytes())
    }

    fn write(tensor: &mut Tensor, write: impl FnOnce(&mut [Self])) -> TractResult<()> {
        ensure!(tensor.is_plain_ram() && tensor.datum_type().size_of() == 1);
        write(tensor.as_bytes_mut());
        Ok(())
    }
}

/// What is computed of FP32.
#[derive(Debug, PartialEq)]
enum What {
    Dense(Dense),
    Channelwise(Channelwise),
    /// The sum of the taps times a factor of the place: an average.
    Average(Channelwise, Vec<f32>),
}

impl AtPlaces for What {
    type Value = f32;

    const SLACK: usize = 0;

    fn types(&self) -> [DatumType; 2] {
        [DatumType::F32; 2]
    }

    fn outputs(&self) -> usize {
        match self {
            Self::Dense(dense) => dense.outputs(),
            Self::Channelwise(what) | Self::Average(what, _) => what.channels(),
        }
    }

    fn beside(&self) -> f32 {
        match self {
            Self::Channelwise(what) => what.beside(),
            _ => 0.0,
        }
    }

    fn run(&self, simd: Simd, table: &Table<'_, f32>, first: usize, to: &mut [f32]) {
        match self {
            Self::Dense(dense) => dense.run(simd, table, to),
            Self::Channelwise(what) | Self::Average(what, _) => what.run(simd, table, to),
        }
        if let Self::Average(_, factors) = self {
            for (place, to) in to.chunks_mut(self.outputs()).enumerate() {
                let factor = factors[(first + place) % factors.len()];
                to.iter_mut().for_each(|sum| *sum *= factor);
            }
        }
    }

    fn held_bytes(&self) -> u64 {
        match self {
            Self::Dense(dense) => dense.held_bytes(),
            Self::Channelwise(what) => what.held_bytes(),
            Self::Average(..) => 0,
        }
    }
}

/// A convolution or pooling of images that have their channels last: batch, height and width, or batch and length.
#[derive(Debug, PartialEq)]
struct Windowed<W: AtPlaces> {
    name: &'static str,
    window: Window,
    /// For images that have their channels first: how they are copied to where the window sees them.
    copied: Option<Copied>,
    what: W,
    /// The axes between the batch and the channels.
    axes: usize,
    channels: usize,
    /// The pixels that a tap beside the image sees.
    beside: Vec<W::Value>,
    simd: Simd,
}

impl<W: AtPlaces> Windowed<W> {
    fn new(name: &'static str, window: Window, what: W, (axes, channels): (usize, usize), simd: Simd) -> Self {
        let beside = vec![what.beside(); window.run() * channels + W::SLACK];
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

    /// A shape's axes before those of an image, and those.
    fn split<'a, T>(&self, shape: &'a [T]) -> TractResult<(&'a [T], &'a [T])> {
        let first = shape.len().checked_sub(self.axes + 1).context("fewer axes than those of an image")?;
        Ok(shape.split_at(first))
    }

    /// The axes of an image whose channels are last.
    fn shape(&self, sizes: [usize; 2], channels: usize) -> TVec<usize> {
        sizes[2 - self.axes..].iter().copied().chain([channels]).collect()
    }

    fn run(&self, values: &[W::Value], to: &mut [W::Value]) {
        let outputs = self.what.outputs();
        let copy = match &self.copied {
            Some(copied) => Some(copied.of(values, self.what.beside(), W::SLACK)),
            None if W::SLACK > 0 && !self.channels.is_multiple_of(W::SLACK + 1) => {
                Some(values.iter().copied().chain(std::iter::repeat_n(self.what.beside(), W::SLACK)).collect())
            }
            None => None,
        };
        let values = copy.as_deref().unwrap_or(values);
        let mut table = Table::new(&self.window, values, &self.beside, self.channels);
        let end = to.len() / outputs;
        for (chunk, to) in to.chunks_mut(PLACES * outputs).enumerate() {
            let first = chunk * PLACES;
            table.look_up(self.simd, first, end);
            self.what.run(self.simd, &table, first, to);
        }
    }
}

impl<W: AtPlaces> Kernel for Windowed<W> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1, "{} inputs for {}", inputs.len(), self.name);
        let shape = inputs[0].shape.to_tvec();
        let (images, image) = self.split(&shape)?;
        let expected: TVec<TDim> = self.image().iter().map(|size| size.to_dim()).collect();
        ensure!(*image == *expected, "an image of another shape");
        let [from, to] = self.what.types();
        ensure!(inputs[0].datum_type == from, "an image of {:?} instead of {from:?}", inputs[0].datum_type);
        let places = self.shape(self.window.places, self.what.outputs());
        let shape: TVec<TDim> = images.iter().cloned().chain(places.iter().map(|size| size.to_dim())).collect();
        Ok(tvec![to.fact(shape)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (images, image) = self.split(inputs[0].shape())?;
        let [from, to] = self.what.types();
        ensure!(*image == *self.image() && inputs[0].datum_type() == from, "an image of another shape or type");
        let shape: TVec<usize> =
            images.iter().copied().chain(self.shape(self.window.places, self.what.outputs())).collect();
        // The window's places are all that it has, and each is written.
        let mut output = unwritten(to, &shape)?;
        let values = W::Value::of(&inputs[0])?;
        W::Value::write(&mut output, |to| self.run(values, to))?;
        Ok(tvec![output])
    }

    fn is_same(&self, other: &dyn Kernel) -> bool {
        (other as &dyn Any).downcast_ref::<Self>() == Some(self)
    }

    fn held_bytes(&self) -> u64 {
        self.what.held_bytes()
    }
}
