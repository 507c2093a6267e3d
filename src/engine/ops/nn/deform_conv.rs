//! `DeformConv` (ONNX 19): a convolution of images whose places are moved by an input, read between pixels, weighed by another.

use tract_onnx::model::{ParsingContext, optional_inputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::tract_ndarray::{Array2, ArrayView4, Ix4, s};
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::kernel::{Kernel, built};

/// Largest number in an attribute.
const MAX_STEP: usize = 1 << 16;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let list = |name: &str, neutral: usize, count: usize| -> TractResult<Vec<usize>> {
        let list = node.get_attr_opt_vec::<usize>(name)?.unwrap_or_else(|| vec![neutral; count]);
        let fits = list.len() == count && list.iter().all(|step| (neutral..=MAX_STEP).contains(step));
        ensure!(fits, "attribute '{name}' holds {list:?}");
        Ok(list)
    };
    let (dilations, strides, pads) = (list("dilations", 1, 2)?, list("strides", 1, 2)?, list("pads", 0, 4)?);
    let count = |name: &str| -> TractResult<usize> {
        let count = node.get_attr_opt::<usize>(name)?.unwrap_or(1);
        ensure!((1..=MAX_STEP).contains(&count), "attribute '{name}' holds {count}");
        Ok(count)
    };
    let mut optional = optional_inputs(node).skip(3);
    let axis = |axis: usize| Axis {
        dilation: dilations[axis],
        stride: strides[axis],
        before: pads[axis],
        after: pads[axis + 2],
    };
    let (groups, offset_groups) = (count("group")?, count("offset_group")?);
    let (bias, mask) = (optional.next().flatten(), optional.next().flatten());
    built(node, DeformConv { axes: [axis(0), axis(1)], groups, offset_groups, bias, mask })
}

#[derive(Debug)]
struct Axis {
    dilation: usize,
    stride: usize,
    before: usize,
    after: usize,
}

#[derive(Debug)]
struct DeformConv {
    axes: [Axis; 2],
    groups: usize,
    offset_groups: usize,
    /// Places of the optional inputs among those that are there.
    bias: Option<usize>,
    mask: Option<usize>,
}

impl DeformConv {
    /// The length of the result along an axis.
    fn length(&self, axis: usize, image: &TDim, kernel: usize) -> TractResult<TDim> {
        let Axis { dilation, stride, before, after } = &self.axes[axis];
        let reach = kernel.checked_sub(1).and_then(|steps| steps.checked_mul(*dilation)).context("an empty kernel")?;
        let room = image.clone() + (before + after) as i64 - reach as i64 - 1;
        if let Ok(room) = room.to_i64() {
            ensure!(room >= 0, "a kernel of {kernel} doesn't fit into {image}");
        }
        Ok(room / *stride + 1)
    }

    /// What each place of the kernel reads at each place of one group's result, for every channel of the group: a matrix
    /// `[channels * kernel places, result places]`.
    fn columns(&self, call: &Call, row: usize, group: usize) -> Array2<f32> {
        let (channels, height, width) = (call.channels / self.groups, call.offsets.dim().2, call.offsets.dim().3);
        let [kernel_height, kernel_width] = call.kernel;
        let kernel = kernel_height * kernel_width;
        let mut columns = Array2::zeros((channels * kernel, height * width));
        for at in 0..channels {
            let channel = group * channels + at;
            let offset_group = channel / (call.channels / self.offset_groups);
            let image = call.image.slice(s![row, channel, .., ..]);
            for place in 0..kernel {
                let offset = offset_group * kernel + place;
                for (y, x) in tract_ndarray::indices((height, width)) {
                    let moved = |axis: usize, at: usize, within: usize| {
                        let Axis { dilation, stride, before, .. } = &self.axes[axis];
                        let still = (at * stride + within * dilation) as f32 - *before as f32;
                        still + call.offsets[[row, 2 * offset + axis, y, x]]
                    };
                    let read = between(&image, moved(0, y, place / kernel_width), moved(1, x, place % kernel_width));
                    let weight = call.mask.as_ref().map_or(1.0, |mask| mask[[row, offset, y, x]]);
                    columns[[at * kernel + place, y * width + x]] = read * weight;
                }
            }
        }
        columns
    }
}

/// What one run reads.
struct Call<'a> {
    image: ArrayView4<'a, f32>,
    offsets: ArrayView4<'a, f32>,
    mask: Option<ArrayView4<'a, f32>>,
    kernel: [usize; 2],
    channels: usize,
}

/// The image between its pixels, linearly; 0 beyond them.
fn between(image: &tract_ndarray::ArrayView2<f32>, y: f32, x: f32) -> f32 {
    let (top, left) = (y.floor(), x.floor());
    let pixel = |y: f32, x: f32| {
        let inside = y >= 0.0 && x >= 0.0 && y < image.nrows() as f32 && x < image.ncols() as f32;
        if inside { image[[y as usize, x as usize]] } else { 0.0 }
    };
    let (down, right) = (y - top, x - left);
    let upper = pixel(top, left) * (1.0 - right) + pixel(top, left + 1.0) * right;
    let lower = pixel(top + 1.0, left) * (1.0 - right) + pixel(top + 1.0, left + 1.0) * right;
    // An offset that is no number leads nowhere.
    if y.is_finite() && x.is_finite() { upper * (1.0 - down) + lower * down } else { 0.0 }
}

impl Kernel for DeformConv {
    fn name(&self) -> &'static str {
        "DeformConv"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!((3..=5).contains(&inputs.len()), "{} inputs instead of 3 to 5", inputs.len());
        for (at, input) in inputs.iter().enumerate() {
            ensure!(input.datum_type == DatumType::F32, "an input of {:?} instead of FLOAT", input.datum_type);
            let rank = if self.bias == Some(at) { 1 } else { 4 };
            ensure!(input.rank() == rank, "input {at} of {} axes instead of {rank}", input.rank());
        }
        let [image, weights, offsets] = [0, 1, 2].map(|at| &inputs[at].shape);
        let kernel = [2, 3].map(|axis| weights[axis].to_usize());
        let (kernel_height, kernel_width) = (kernel[0].as_ref(), kernel[1].as_ref());
        let (Ok(&kernel_height), Ok(&kernel_width)) = (kernel_height, kernel_width) else {
            bail!("weights of {weights:?}")
        };
        let (height, width) = (self.length(0, &image[2], kernel_height)?, self.length(1, &image[3], kernel_width)?);
        let (channels, made) = (image[1].to_usize()?, weights[0].to_usize()?);
        let fits = channels % self.groups == 0 && channels % self.offset_groups == 0 && made % self.groups == 0;
        ensure!(fits && channels > 0, "{channels} channels to {made} in {} groups", self.groups);
        ensure!(weights[1] == (channels / self.groups).to_dim(), "weights of {weights:?} for {channels} channels");
        let places = self.offset_groups * kernel_height * kernel_width;
        let mut by_place = vec![("offsets", offsets, 2 * places)];
        by_place.extend(self.mask.map(|at| ("a mask", &inputs[at].shape, places)));
        for (name, shape, places) in by_place {
            let wanted = [image[0].clone(), places.to_dim(), height.clone(), width.clone()];
            ensure!(
                shape.iter().zip(&wanted).all(|(a, b)| a.compatible_with(b)),
                "{name} of {shape:?}, not {wanted:?}"
            );
        }
        if let Some(bias) = self.bias {
            ensure!(inputs[bias].shape[0] == made.to_dim(), "a bias of {:?} for {made} channels", inputs[bias].shape);
        }
        Ok(tvec!(f32::fact([image[0].clone(), made.to_dim(), height, width])))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let facts: Vec<TypedFact> = inputs.iter().map(|input| f32::fact(input.shape())).collect();
        let shape = self.facts(&facts.iter().collect::<Vec<_>>())?[0].shape.as_concrete().context("sizes")?.to_vec();
        let view = |at: usize| -> TractResult<ArrayView4<f32>> {
            Ok(inputs[at].to_plain_array_view::<f32>()?.into_dimensionality::<Ix4>()?)
        };
        let (image, weights, mask) = (view(0)?, view(1)?, self.mask.map(view).transpose()?);
        let (made, _, kernel_height, kernel_width) = weights.dim();
        let call =
            Call { image, offsets: view(2)?, mask, kernel: [kernel_height, kernel_width], channels: image.dim().1 };
        let weights = weights.to_shape((made, weights.len() / made.max(1)))?;
        let each = made / self.groups;
        let mut y = tract_ndarray::Array4::<f32>::zeros((shape[0], shape[1], shape[2], shape[3]));
        for row in 0..shape[0] {
            for group in 0..self.groups {
                let channels = group * each..(group + 1) * each;
                let sums = weights.slice(s![channels.clone(), ..]).dot(&self.columns(&call, row, group));
                let sums = sums.to_shape((each, shape[2], shape[3]))?;
                y.slice_mut(s![row, channels, .., ..]).assign(&sums);
            }
        }
        if let Some(bias) = self.bias {
            let bias = inputs[bias].to_plain_array_view::<f32>()?;
            y += &bias.to_shape((1, made, 1, 1))?;
        }
        Ok(tvec!(y.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    fn image() -> Tensor {
        tensor1(&(0..9).map(|i| i as f32).collect::<Vec<_>>()).into_shape(&[1, 1, 3, 3]).unwrap()
    }

    /// A 2 by 2 kernel of ones; offsets are 0 but for `moved`, by their place among them.
    fn convolved(moved: &[(usize, f32)], more: &[Tensor]) -> TractResult<Vec<Tensor>> {
        let ones = tensor1(&[1.0f32; 4]).into_shape(&[1, 1, 2, 2])?;
        let mut offsets = [0.0f32; 32];
        moved.iter().for_each(|(at, by)| offsets[*at] = *by);
        let offsets = tensor1(&offsets).into_shape(&[1, 8, 2, 2])?;
        run(Node::new("DeformConv").ints("kernel_shape", &[2, 2]), &[&[image(), ones, offsets], more].concat(), 1)
    }

    #[test]
    fn places_move_and_are_weighed_and_biased() {
        // ONNX's node test deform_conv_with_mask_bias
        let mut mask = [1.0f32; 16];
        mask[11] = 0.2;
        let mask = tensor1(&mask).into_shape(&[1, 4, 2, 2]).unwrap();
        let made = convolved(&[(0, 0.5), (21, -0.1)], &[tensor1(&[1.0f32]), mask]).unwrap();
        let expected = tensor4(&[[[[10.5f32, 12.9], [21.0, 19.4]]]]);
        assert!(made[0].close_enough(&expected, true).is_ok(), "{made:?}");
    }

    #[test]
    fn a_place_far_outside_or_nowhere_reads_nothing() {
        let still = convolved(&[], &[]).unwrap();
        assert_eq!(still, [tensor4(&[[[[8.0f32, 12.0], [20.0, 24.0]]]])]);
        for far in [f32::NAN, f32::INFINITY, -1e30] {
            // The first place of the kernel at the first place of the result reads pixel 0, which is 0.
            assert_eq!(convolved(&[(0, far)], &[]).unwrap(), still);
        }
    }

    #[test]
    fn groups_must_divide_the_channels() {
        let node = Node::new("DeformConv").int("group", 2);
        let (weights, offsets) =
            (Tensor::zero::<f32>(&[1, 1, 2, 2]).unwrap(), Tensor::zero::<f32>(&[1, 8, 2, 2]).unwrap());
        assert!(run(node, &[image(), weights.clone(), offsets.clone()], 1).is_err());
        let node = Node::new("DeformConv").ints("strides", &[0, 1]);
        assert!(run(node, &[image(), weights, offsets], 1).is_err());
    }
}
