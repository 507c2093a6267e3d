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
    let (is_lower, pools, has_indices) = (is("is_lower")?, is("pools")?, is("has_indices")?);
    built(node, SameCrop { window, strides, is_lower, pools, has_indices })
}

#[derive(Debug)]
struct SameCrop {
    /// Dilated, for each axis of the image behind its channels.
    window: Vec<i64>,
    strides: Vec<i64>,
    is_lower: bool,
    pools: bool,
    /// Whether places in the image are asked for, which would be counted in what is left of it.
    has_indices: bool,
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
        let counts_from_others = self.has_indices && first.iter().any(|&first| first > 0);
        ensure!(!counts_from_others, "MaxPool with indices, of windows that step over the image's first pixels");
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
