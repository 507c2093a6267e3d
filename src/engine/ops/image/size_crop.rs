//! What a pass writes behind a ConvTranspose that is to give images of a certain size.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};
use super::unfit::unfit;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let sizes = node.get_attr_vec::<i64>("sizes")?;
    let known = sizes.iter().map(|&size| usize::try_from(size).ok().filter(|size| *size > 0)).collect::<Option<_>>();
    let sizes = known.with_context(|| format!("output_shape {sizes:?}"))?;
    built(node, SizeCrop { sizes, begins_early: node.get_attr::<i64>("begins_early")? != 0 })
}

/// Cuts images to a size.
#[derive(Debug)]
struct SizeCrop {
    /// For each axis of the image, with or without those of the batch and the channels.
    sizes: TVec<usize>,
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
}

impl Kernel for SizeCrop {
    fn name(&self) -> &'static str {
        "SizeCrop"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [image] = exactly(inputs)?;
        let mut shape = image.shape.to_tvec();
        for (there, &size) in shape.iter_mut().skip(2).zip(self.sizes(image.rank())?) {
            let is_short = there.to_usize().is_ok_and(|there| there < size);
            ensure!(!is_short, "windows that reach {there} places for an output_shape of {:?}", self.sizes);
            *there = size.to_dim();
        }
        Ok(tvec!(image.datum_type.fact(shape)))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let mut image = inputs[0].clone().into_tensor();
        for (axis, &size) in self.sizes(image.rank())?.iter().enumerate() {
            let axis = axis + 2;
            let over = image.shape()[axis].checked_sub(size);
            let over = over.ok_or_else(|| {
                let whole = &image.shape()[2..];
                unfit(format!(
                    "an image too small for its ConvTranspose: it makes {whole:?} of it, expected {:?}",
                    self.sizes
                ))
            })?;
            let first = if self.begins_early { over / 2 } else { over.div_ceil(2) };
            if over > 0 {
                image = image.slice(axis, first, first + size)?;
            }
        }
        Ok(tvec!(image))
    }
}
