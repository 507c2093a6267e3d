//! What goes along the pixels of images that have their channels last, and is slow in tract: changing to that order and
//! back, sums over an image, and factors of an image's channels.

use tract_onnx::tract_hir::internal::*;

use crate::engine::ops::kernel::Kernel;
use crate::engine::ops::written::written;

/// Rows and columns that are transposed together, so that they stay in the first cache.
const TILE: usize = 16;

/// Moves the channels of images, which are their axis 1, behind the others, or back.
#[derive(Debug)]
pub struct MoveChannels {
    pub to_last: bool,
}

/// The sum of each channel over the pixels of an image, whose axes have size 1 then.
#[derive(Debug)]
pub struct SumOfPixels;

/// All pixels of an image times the one pixel of another.
#[derive(Debug)]
pub struct TimesPixel;

impl Kernel for MoveChannels {
    fn name(&self) -> &'static str {
        "MoveChannels"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(Self::moves(inputs[0].datum_type), "images of {:?}", inputs[0].datum_type);
        Ok(tvec![inputs[0].datum_type.fact(self.moved(&inputs[0].shape.to_tvec())?)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let shape = inputs[0].shape();
        let (image, last) = (shape[1..].iter().product::<usize>(), shape[shape.len() - 1]);
        let channels = if self.to_last { shape[1] } else { last };
        let pixels = image / channels.max(1);
        let [rows, columns] = if self.to_last { [channels, pixels] } else { [pixels, channels] };
        let moved = self.moved(shape)?;
        Ok(tvec![match inputs[0].datum_type() {
            DatumType::U8 => transposed::<u8>(&inputs[0], [rows, columns], &moved)?,
            DatumType::I8 => transposed::<i8>(&inputs[0], [rows, columns], &moved)?,
            _ => transposed::<f32>(&inputs[0], [rows, columns], &moved)?,
        }])
    }
}

impl MoveChannels {
    /// Whether it moves values of this type.
    pub fn moves(datum_type: DatumType) -> bool {
        [DatumType::F32, DatumType::U8, DatumType::I8].contains(&datum_type)
    }

    fn moved<T: Clone>(&self, shape: &[T]) -> TractResult<TVec<T>> {
        ensure!(shape.len() > 2, "{} axes are not those of images", shape.len());
        let mut moved: TVec<T> = shape.into();
        if self.to_last {
            moved[1..].rotate_left(1)
        } else {
            moved[1..].rotate_right(1)
        };
        Ok(moved)
    }
}

/// Images of these rows and columns, each transposed.
fn transposed<T: Datum + Copy>(images: &TValue, [rows, columns]: [usize; 2], shape: &[usize]) -> TractResult<Tensor> {
    let (from, image) = (images.try_as_plain_ram()?.as_slice::<T>()?, (rows * columns).max(1));
    written(shape, |to| {
        let images = from.chunks_exact(image).zip(to.chunks_exact_mut(image));
        images.for_each(|(from, to)| transpose(from, to, rows, columns));
        Ok(())
    })
}

fn transpose<T: Copy>(from: &[T], to: &mut [T], rows: usize, columns: usize) {
    for first_row in (0..rows).step_by(TILE) {
        let end = rows.min(first_row + TILE);
        for first_column in (0..columns).step_by(TILE) {
            for column in first_column..columns.min(first_column + TILE) {
                let from = from[first_row * columns..].chunks_exact(columns);
                let to = &mut to[column * rows..][first_row..end];
                to.iter_mut().zip(from).for_each(|(to, row)| *to = row[column]);
            }
        }
    }
}

impl Kernel for SumOfPixels {
    fn name(&self) -> &'static str {
        "SumOfPixels"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape = inputs[0].shape.to_tvec();
        let last = shape.len().saturating_sub(1);
        shape.iter_mut().take(last).skip(1).for_each(|size| *size = 1.to_dim());
        Ok(tvec![f32::fact(shape)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let shape = inputs[0].shape();
        let channels = *shape.last().context("images have axes")?;
        let mut summed: TVec<usize> = tvec![1; shape.len()];
        (summed[0], summed[shape.len() - 1]) = (shape[0], channels);
        let image: usize = shape[1..].iter().product();
        let images = floats(&inputs[0])?.chunks_exact(image.max(1));
        let sums = written::<f32>(&summed, |all| {
            all.fill(0.0);
            for (sums, image) in all.chunks_exact_mut(channels.max(1)).zip(images) {
                for pixel in image.chunks_exact(channels) {
                    sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
                }
            }
            Ok(())
        })?;
        Ok(tvec![sums])
    }
}

impl Kernel for TimesPixel {
    fn name(&self) -> &'static str {
        "TimesPixel"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec![f32::fact(inputs[0].shape.to_tvec())])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (shape, channels) = (inputs[0].shape(), *inputs[1].shape().last().context("images have axes")?);
        ensure!(shape.last() == Some(&channels) && inputs[1].len() == shape[0] * channels, "one pixel for each image");
        let image: usize = shape[1..].iter().product();
        let (images, factors) = (floats(&inputs[0])?, floats(&inputs[1])?);
        let products = written::<f32>(shape, |to| {
            let size = image.max(1);
            let images = images.chunks_exact(size).zip(to.chunks_exact_mut(size));
            for ((image, to), factors) in images.zip(factors.chunks_exact(channels.max(1))) {
                for (pixel, to) in image.chunks_exact(channels).zip(to.chunks_exact_mut(channels)) {
                    to.iter_mut().zip(pixel).zip(factors).for_each(|((to, value), factor)| *to = value * factor);
                }
            }
            Ok(())
        })?;
        Ok(tvec![products])
    }
}

fn floats(value: &TValue) -> TractResult<&[f32]> {
    value.try_as_plain_ram()?.as_slice::<f32>()
}
