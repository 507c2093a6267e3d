//! What a pass writes behind a ConvTranspose that is to give images of a certain size.
//!
//! Where the last window ends less than a step before that size, places without a window follow it, as ONNX Runtime has it.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};
use super::unfit::unfit;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let list = |name: &str, least: usize| {
        let values = node.get_attr_vec::<i64>(name)?;
        let known = values.iter().map(|&value| usize::try_from(value).ok().filter(|value| *value >= least));
        known.collect::<Option<TVec<usize>>>().with_context(|| format!("output_shape with {name} {values:?}"))
    };
    let begins_early = node.get_attr::<i64>("begins_early")? != 0;
    built(node, SizeCrop { sizes: list("sizes", 1)?, beyond: list("beyond", 0)?, begins_early })
}

/// Cuts images to a size.
#[derive(Debug)]
struct SizeCrop {
    /// For each axis of the image, with or without those of the batch and the channels.
    sizes: TVec<usize>,
    /// How many of an axis' last places lie behind the last window; none of an axis that isn't there.
    beyond: TVec<usize>,
    /// Where an odd number of places is cut off, whether the greater half of them is behind what stays.
    begins_early: bool,
}

impl SizeCrop {
    /// The sizes behind batch and channels.
    fn sizes(&self, rank: usize) -> TractResult<&[usize]> {
        let leading = (self.sizes.len() + 2).checked_sub(rank).filter(|leading| rank > 2 && [0, 2].contains(leading));
        let leading = leading.with_context(|| format!("output_shape {:?} for images of rank {rank}", self.sizes))?;
        Ok(&self.sizes[leading..])
    }

    /// Where what stays begins along an axis of so many places.
    fn first(&self, axis: usize, there: usize, size: usize) -> Option<usize> {
        let over = (there - self.beyond.get(axis).copied().unwrap_or(0).min(there)).saturating_sub(size);
        let first = if self.begins_early { over / 2 } else { over.div_ceil(2) };
        (first + size <= there).then_some(first)
    }
}

impl Kernel for SizeCrop {
    fn name(&self) -> &'static str {
        "SizeCrop"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [image] = exactly(inputs)?;
        let mut shape = image.shape.to_tvec();
        for (axis, (there, &size)) in shape.iter_mut().skip(2).zip(self.sizes(image.rank())?).enumerate() {
            let fits = there.to_usize().map_or(true, |there| self.first(axis, there, size).is_some());
            ensure!(fits, "an output_shape of {:?}, which the windows don't reach", self.sizes);
            *there = size.to_dim();
        }
        Ok(tvec!(image.datum_type.fact(shape)))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let mut image = inputs[0].clone().into_tensor();
        for (axis, &size) in self.sizes(image.rank())?.iter().enumerate() {
            let there = image.shape()[axis + 2];
            let first = self.first(axis, there, size).ok_or_else(|| {
                unfit(format!("an image too small for its ConvTranspose, whose output_shape is {:?}", self.sizes))
            })?;
            if size < there {
                image = image.slice(axis + 2, first, first + size)?;
            }
        }
        Ok(tvec!(image))
    }
}
