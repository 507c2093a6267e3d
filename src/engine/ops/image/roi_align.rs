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
const MAX_SAMPLES: usize = 1 << 12;
/// Most samples of all bins along an axis, where the file says how many a bin has.
const MAX_ALONG: usize = 1 << 16;
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
    let samples = count("sampling_ratio", 0, (0, MAX_SAMPLES as i64))?;
    ensure!(
        samples * bins[0].max(bins[1]) <= MAX_ALONG,
        "attribute 'sampling_ratio' holds {samples}, for {bins:?} bins"
    );
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

/// The samples of a bin along an axis.
struct Bin<T> {
    /// Those beside the image included.
    count: usize,
    within: Vec<Sample<T>>,
}

impl RoiAlign {
    /// The bins of a region along an axis of an image.
    fn along<T: Float>(&self, [from, to]: [T; 2], bins: usize, pixels: usize) -> TractResult<Vec<Bin<T>>> {
        let number = |value: f64| T::from(value).context("a number that FLOAT holds");
        let (scale, half) = (number(f64::from(self.scale))?, number(if self.halves { 0.5 } else { 0.0 })?);
        let (start, end) = (from * scale - half, to * scale - half);
        let length = if self.halves { end - start } else { (end - start).max(T::one()) };
        let wide = length / number(bins as f64)?;
        let count = match self.samples {
            0 => wide.ceil().max(T::zero()).to_usize().filter(|count| *count <= MAX_SAMPLES),
            samples => Some(samples),
        };
        let count = count.ok_or_else(|| unfit("RoiAlign of a region that isn't finite or is beyond all reason"))?;
        let last = number(pixels as f64)? - T::one();
        let sample = |bin: usize, turn: usize| -> TractResult<Option<Sample<T>>> {
            let within = number(turn as f64 + 0.5)? * wide / number(count as f64)?;
            let at = start + number(bin as f64)? * wide + within;
            // The outermost pixels reach one further; a NaN lies nowhere.
            if !(at >= -T::one() && at <= last + T::one()) {
                return Ok(None);
            }
            let at = at.max(T::zero());
            let low = at.to_usize().unwrap_or(0);
            Ok(Some(match low >= pixels - 1 {
                true => Sample { pixels: [pixels - 1; 2], weights: [T::one(), T::zero()] },
                false => Sample { pixels: [low, low + 1], weights: [T::one() - at.fract(), at.fract()] },
            }))
        };
        let bin = |bin: usize| {
            let within = (0..count).filter_map(|turn| sample(bin, turn).transpose()).collect::<TractResult<_>>()?;
            Ok(Bin { count, within })
        };
        (0..bins).map(bin).collect()
    }

    /// What becomes of one bin of one channel.
    fn of_bin<T: Float + AddAssign>(&self, image: &[T], width: usize, rows: &Bin<T>, columns: &Bin<T>) -> T {
        let (mut sum, mut greatest) = (T::zero(), T::neg_infinity());
        for (row, column) in rows.within.iter().flat_map(|row| columns.within.iter().map(move |column| (row, column))) {
            for (y, x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let part = row.weights[y] * column.weights[x] * image[row.pixels[y] * width + column.pixels[x]];
                sum += part;
                greatest = greatest.max(part);
            }
        }
        let (count, within) = (rows.count * columns.count, rows.within.len() * columns.within.len());
        if !self.takes_max {
            return sum / T::from(count.max(1)).unwrap_or(T::one());
        }
        // A sample beside the image is 0, and so is a bin without any.
        if within < count || within == 0 { greatest.max(T::zero()) } else { greatest }
    }

    fn run<T: Float + AddAssign + Datum>(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let (images, regions, of) = (&inputs[0], &inputs[1], integers(&inputs[2])?);
        let &[rows, channels, height, width] = images.shape() else { bail!("images of {:?}", images.shape()) };
        if *regions.shape() != [of.len(), 4] {
            let text = format!("RoiAlign of regions of {:?} for {} batch indices", regions.shape(), of.len());
            return Err(unfit(text));
        }
        let shape = [of.len(), channels, self.bins[0], self.bins[1]];
        bounded::check_made("RoiAlign", &shape, T::datum_type())?;
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
                let bins = down.iter().flat_map(|rows| across.iter().map(move |columns| (rows, columns)));
                made.extend(bins.map(|(rows, columns)| self.of_bin(channel, width, rows, columns)));
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
