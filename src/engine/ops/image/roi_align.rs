//! `RoiAlign` (ONNX 22, and 10 and 16 before it): regions of images, each in as many bins, read between pixels.
//!
//! As ONNX Runtime computes it: in mode `max` the greatest of the pixels around a sample, each by its weight.

use std::ops::AddAssign;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::tract_num_traits::Float;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::bounded;
use super::inputs::{exactly, integers};
use super::kernel::{Kernel, built};
use super::unfit::unfit;

/// Most bins along an axis.
const MAX_BINS: i64 = 1 << 12;
/// Most samples of a bin along an axis; where the file leaves their number open it is the pixels that a bin is wide.
const MAX_SAMPLES: i64 = 1 << 12;
/// The first version in which pixels' middles lie at halves unless it is said otherwise.
const WITH_HALVES: i64 = 16;

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let takes_max = match node.get_attr_opt::<&str>("mode")?.unwrap_or("avg") {
        "avg" => false,
        "max" => true,
        other => bail!("attribute 'mode' holds {other}"),
    };
    let halves = match node.get_attr_opt::<&str>("coordinate_transformation_mode")? {
        None => context.onnx_operator_set_version >= WITH_HALVES,
        Some("half_pixel") => true,
        Some("output_half_pixel") => false,
        Some(other) => bail!("attribute 'coordinate_transformation_mode' holds {other}"),
    };
    let count = |name: &str, absent: i64, (least, most): (i64, i64)| -> TractResult<usize> {
        let count = node.get_attr_opt::<i64>(name)?.unwrap_or(absent);
        ensure!((least..=most).contains(&count), "attribute '{name}' holds {count}");
        Ok(usize::try_from(count)?)
    };
    let bins = [count("output_height", 1, (1, MAX_BINS))?, count("output_width", 1, (1, MAX_BINS))?];
    let samples = count("sampling_ratio", 0, (0, MAX_SAMPLES))?;
    let scale = node.get_attr_opt::<f32>("spatial_scale")?.unwrap_or(1.0);
    built(node, RoiAlign { takes_max, halves, bins, samples, scale })
}

#[derive(Debug)]
struct RoiAlign {
    takes_max: bool,
    /// Whether regions are moved by half a pixel, so that they lie by pixels' middles; they may then be smaller than one.
    halves: bool,
    /// Along height and width.
    bins: [usize; 2],
    /// Of a bin along each axis; 0 where they are as many as pixels.
    samples: usize,
    scale: f32,
}

/// Where one sample lies along an axis: between two pixels.
#[derive(Clone, Copy)]
struct Sample<T> {
    pixels: [usize; 2],
    weights: [T; 2],
}

/// The samples of all bins along an axis.
struct Along<T> {
    each: usize,
    /// Bin by bin; `None` where one lies beside the image.
    samples: Vec<Option<Sample<T>>>,
}

impl RoiAlign {
    fn along<T: Float>(&self, [from, to]: [T; 2], bins: usize, pixels: usize) -> TractResult<Along<T>> {
        let number = |value: f64| T::from(value).context("a number that FLOAT holds");
        let (scale, half) = (number(f64::from(self.scale))?, number(if self.halves { 0.5 } else { 0.0 })?);
        let (start, end) = (from * scale - half, to * scale - half);
        let length = if self.halves { end - start } else { (end - start).max(T::one()) };
        let bin = length / number(bins as f64)?;
        let each = match self.samples {
            0 => bin.ceil().max(T::zero()).to_i64().filter(|each| *each <= MAX_SAMPLES),
            samples => Some(samples as i64),
        };
        let each = each.ok_or_else(|| unfit("RoiAlign of a region that isn't finite or is beyond all reason"))?;
        let last = number(pixels as f64)? - T::one();
        let mut samples = vec![];
        for (at, turn) in (0..bins).flat_map(|at| (0..each).map(move |turn| (at, turn))) {
            let within = number(turn as f64 + 0.5)? * bin / number(each as f64)?;
            let at = start + number(at as f64)? * bin + within;
            // The outermost pixels reach one further; a NaN lies nowhere.
            let is_there = at >= -T::one() && at <= last + T::one();
            samples.push(is_there.then(|| {
                let at = at.max(T::zero());
                let low = at.to_usize().unwrap_or(0);
                match low >= pixels - 1 {
                    true => Sample { pixels: [pixels - 1; 2], weights: [T::one(), T::zero()] },
                    false => Sample { pixels: [low, low + 1], weights: [T::one() - at.fract(), at.fract()] },
                }
            }));
        }
        Ok(Along { each: usize::try_from(each)?, samples })
    }

    /// One bin of one channel.
    fn bin<T: Float + AddAssign>(
        &self,
        image: &[T],
        width: usize,
        rows: &[Option<Sample<T>>],
        columns: &[Option<Sample<T>>],
    ) -> T {
        let (mut sum, mut greatest) = (T::zero(), None);
        for (row, column) in rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column))) {
            let (mut value, mut highest) = (T::zero(), T::zero());
            if let (Some(row), Some(column)) = (row, column) {
                highest = T::neg_infinity();
                for (y, x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let part = row.weights[y] * column.weights[x] * image[row.pixels[y] * width + column.pixels[x]];
                    value += part;
                    highest = highest.max(part);
                }
            }
            sum += value;
            greatest = Some(greatest.map_or(highest, |greatest: T| greatest.max(highest)));
        }
        let count = T::from((rows.len() * columns.len()).max(1)).unwrap_or(T::one());
        if self.takes_max { greatest.unwrap_or(T::zero()) } else { sum / count }
    }

    fn run<T: Float + AddAssign + Datum>(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let (images, regions, of) = (&inputs[0], &inputs[1], integers(&inputs[2])?);
        let &[rows, channels, height, width] = images.shape() else { bail!("images of {:?}", images.shape()) };
        if *regions.shape() != [of.len(), 4] {
            let text = format!("RoiAlign of regions of {:?} for {} batch indices", regions.shape(), of.len());
            return Err(unfit(text));
        }
        let shape = [of.len(), channels, self.bins[0], self.bins[1]];
        let sizes = shape.map(|size| size as i64);
        bounded::check("RoiAlign", &sizes, T::datum_type(), bounded::MIN_LIMIT)
            .map_err(|error| unfit(error.to_string()))?;
        if height == 0 || width == 0 {
            return Err(unfit(format!("RoiAlign of images of {height} x {width}")));
        }
        let (images, regions) = (images.try_as_plain_ram()?, regions.try_as_plain_ram()?);
        let (images, regions) = (images.as_slice::<T>()?, regions.as_slice::<T>()?);
        let mut made = Vec::with_capacity(shape.iter().product());
        for (region, &image) in regions.chunks_exact(4).zip(&of) {
            let image = usize::try_from(image).ok().filter(|image| *image < rows);
            let image = image.ok_or_else(|| unfit(format!("RoiAlign with batch indices {of:?} for {rows} images")))?;
            let down = self.along([region[1], region[3]], self.bins[0], height)?;
            let across = self.along([region[0], region[2]], self.bins[1], width)?;
            let pixels = height * width;
            for channel in images[image * channels * pixels..][..channels * pixels].chunks_exact(pixels) {
                for y in 0..self.bins[0] {
                    let rows = &down.samples[y * down.each..][..down.each];
                    for x in 0..self.bins[1] {
                        let columns = &across.samples[x * across.each..][..across.each];
                        made.push(self.bin(channel, width, rows, columns));
                    }
                }
            }
        }
        tensor1(&made).into_shape(&shape)
    }
}

impl Kernel for RoiAlign {
    fn name(&self) -> &'static str {
        "RoiAlign"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [images, regions, of] = exactly(inputs)?;
        ensure!(images.rank() == 4 && regions.rank() == 2 && of.rank() == 1, "{inputs:?}");
        let kind = images.datum_type;
        ensure!(kind == f32::datum_type() || kind == f64::datum_type(), "images of {kind:?}");
        ensure!(regions.datum_type == kind, "regions of {:?} and images of {kind:?}", regions.datum_type);
        let bins = self.bins.map(|bins| bins.to_dim());
        let [height, width] = bins;
        Ok(tvec![kind.fact([regions.shape[0].clone(), images.shape[1].clone(), height, width])])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        match inputs[0].datum_type() {
            DatumType::F64 => Ok(tvec![self.run::<f64>(inputs)?]),
            _ => Ok(tvec![self.run::<f32>(inputs)?]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::is_unfit;
    use super::super::testing::{Node, assert_close, run};
    use super::*;

    /// Two regions of an image of 4 by 4, in one by two bins.
    fn aligned(node: Node, batch: &[i64]) -> TractResult<Tensor> {
        let pixels = [0f32, 1.0, 4.0, 9.0, 5.0, 3.0, 3.0, 5.0, 9.0, 4.0, 1.0, 0.0, 1.0, 4.0, 9.0, 5.0];
        let image = tensor1(&pixels).into_shape(&[1, 1, 4, 4])?;
        let regions = tensor2(&[[0.5f32, 0.25, 3.5, 2.0], [-1.5, 1.0, 1.0, 9.0]]);
        let node = node.int("output_height", 1).int("output_width", 2);
        Ok(run(node, &[image, regions, tensor1(batch)], 1)?.remove(0))
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn bins_are_means_or_the_greatest_of_samples_between_pixels() {
        let made = |node: Node| aligned(node, &[0, 0]).unwrap();
        let whole = || Node::new("RoiAlign").text("coordinate_transformation_mode", "output_half_pixel");
        assert_eq!(made(whole()).shape(), [2, 1, 1, 2]);
        assert_close(&made(Node::new("RoiAlign")), &[2.5625, 4.25, 0.0, 1.988_281_3]);
        assert_close(&made(whole()), &[3.0, 3.710_937_5, 0.8125, 1.554_687_5]);
        assert_close(&made(Node::new("RoiAlign").text("mode", "max")), &[2.929_687_5, 4.570_312_5, 0.0, 9.0]);
        assert_close(&made(Node::new("RoiAlign").int("sampling_ratio", 2)), &[2.5625, 4.25, 0.0, 2.453_125]);
        let small = Node::new("RoiAlign").float("spatial_scale", 0.5).int("sampling_ratio", 1);
        assert_close(&made(small), &[0.414_062_5, 1.023_437_5, 9.0, 9.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for batch in [&[0i64, 1][..], &[0, -1], &[0], &[i64::MAX, 0]] {
            assert!(is_unfit(&aligned(Node::new("RoiAlign"), batch).unwrap_err()), "{batch:?}");
        }
        let wide = Node::new("RoiAlign").float("spatial_scale", 1e9);
        assert!(is_unfit(&aligned(wide, &[0, 0]).unwrap_err()));
        for node in [
            Node::new("RoiAlign").int("sampling_ratio", -1),
            Node::new("RoiAlign").int("sampling_ratio", 1 << 40),
            Node::new("RoiAlign").text("mode", "sum"),
            Node::new("RoiAlign").text("coordinate_transformation_mode", "none"),
        ] {
            assert!(aligned(node, &[0, 0]).is_err());
        }
    }
}
