//! What a pass writes before a window of `auto_pad` SAME that steps further than it is wide: the first pixels that no place
//! sees are cut off.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let list = |name: &str| node.get_attr_vec::<i64>(name);
    let (window, strides) = (list("window")?, list("strides")?);
    ensure!(window.len() == strides.len(), "{} strides for a window of {} axes", strides.len(), window.len());
    ensure!(window.iter().chain(&strides).all(|&size| size > 0), "a window of {window:?} that steps by {strides:?}");
    let is = |name: &str| Ok::<_, TractError>(node.get_attr::<i64>(name)? != 0);
    built(node, SameCrop { window, strides, is_lower: is("is_lower")?, pools: is("pools")? })
}

#[derive(Debug)]
struct SameCrop {
    /// Dilated, for each axis of the image behind its channels.
    window: Vec<i64>,
    strides: Vec<i64>,
    is_lower: bool,
    pools: bool,
}

impl SameCrop {
    /// How many pixels are cut off before each axis, as ONNX Runtime has it: half of those that no place sees. SAME_LOWER
    /// leaves one more of them behind the last place, and so does a convolution.
    fn first(&self, image: &[usize]) -> TractResult<TVec<usize>> {
        ensure!(image.len() == self.window.len() + 2, "an image of {image:?} for a window of {:?}", self.window);
        let along = |(axis, &size): (usize, &usize)| {
            let (size, stride) = (i64::try_from(size)?, self.strides[axis]);
            let reach =
                ((size.max(1) - 1) / stride).checked_mul(stride).and_then(|to| to.checked_add(self.window[axis]));
            let left_over = size - reach.context("a window beyond all reason")?;
            let kept = i64::from(self.is_lower) + i64::from(!self.pools);
            Ok(usize::try_from((left_over - kept).max(0) / 2)?)
        };
        image[2..].iter().enumerate().map(along).collect()
    }
}

impl Kernel for SameCrop {
    fn name(&self) -> &'static str {
        "SameCrop"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [image] = exactly(inputs)?;
        let mut shape = image.shape.to_tvec();
        let sizes = shape.iter().enumerate().map(|(axis, size)| if axis < 2 { Some(0) } else { size.to_usize().ok() });
        let sizes = sizes.collect::<Option<TVec<usize>>>();
        let first = self.first(&sizes.context("SAME of a window that steps far is for images of known sizes")?)?;
        for (size, first) in shape.iter_mut().skip(2).zip(first) {
            *size = size.clone() - first;
        }
        Ok(tvec!(image.datum_type.fact(shape)))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let mut image = inputs[0].clone().into_tensor();
        for (axis, first) in self.first(inputs[0].shape())?.into_iter().enumerate() {
            if first > 0 {
                image = image.slice(axis + 2, first, image.shape()[axis + 2])?;
            }
        }
        Ok(tvec!(image))
    }
}

/// Places in what is left of images as places in the images: of a MaxPool that gives them.
pub fn build_indices(_: &ParsingContext, node: &NodeProto) -> Built {
    built(node, SameIndices { by_columns: node.get_attr::<i64>("storage_order")? != 0 })
}

#[derive(Debug)]
struct SameIndices {
    /// Whether the first axis of an image is the one that is counted through first.
    by_columns: bool,
}

impl SameIndices {
    fn moved(&self, index: i64, from: &[usize], to: &[usize]) -> TractResult<i64> {
        let pixels: usize = from.iter().product();
        let index = usize::try_from(index)?;
        let (plane, mut within) = (index.checked_div(pixels).context("a place in nothing")?, index % pixels);
        let (mut moved, mut each) = (0, 1);
        let axes = 0..from.len();
        let axes: TVec<usize> = if self.by_columns { axes.collect() } else { axes.rev().collect() };
        for axis in axes {
            moved += (within % from[axis] + to[axis] - from[axis]) * each;
            within /= from[axis];
            each *= to[axis];
        }
        let place = plane.checked_mul(each).and_then(|before| before.checked_add(moved));
        Ok(i64::try_from(place.context("a place beyond all reason")?)?)
    }
}

impl Kernel for SameIndices {
    fn name(&self) -> &'static str {
        "SameIndices"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [indices, from, to] = exactly(inputs)?;
        ensure!(from.rank() == to.rank() && from.rank() > 2, "images of {from:?} and {to:?}");
        ensure!(indices.datum_type == i64::datum_type(), "indices of {:?}", indices.datum_type);
        Ok(tvec!(indices.without_value()))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (from, to) = (&inputs[1].shape()[2..], &inputs[2].shape()[2..]);
        ensure!(from.len() == to.len() && from.iter().zip(to).all(|(from, to)| from <= to), "{from:?} of {to:?}");
        let view = inputs[0].try_as_plain_ram()?;
        let moved = view.as_slice::<i64>()?.iter().map(|&index| self.moved(index, from, to));
        let moved = moved.collect::<TractResult<Vec<i64>>>()?;
        Ok(tvec!(tensor1(&moved).into_shape(inputs[0].shape())?))
    }
}
