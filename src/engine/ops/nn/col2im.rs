//! `Col2Im` (ONNX 18): adds the columns of blocks up to the image that they were cut from.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::at_run::Open;
use super::bounded;
use super::inputs::{exactly, integers};
use super::kernel::{Kernel, built};
use super::unfit::unfit;

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let list = |name: &str| node.get_attr_opt_vec::<usize>(name);
    let (dilations, pads, strides) = (list("dilations")?, list("pads")?, list("strides")?);
    built(node, Col2Im { dilations, pads, strides, dims: Open::of(context) })
}

#[derive(Debug)]
struct Col2Im {
    dilations: Option<Vec<usize>>,
    /// Before each axis, and then behind each.
    pads: Option<Vec<usize>>,
    strides: Option<Vec<usize>>,
    /// Channels, and the sides of an image that a run computes the shape of.
    dims: Open,
}

/// Most elements of one channel of an image, and of a block; and largest number in an attribute.
const MAX_ELEMENTS: usize = 1 << 26;
const MAX_STEP: usize = 1 << 16;

/// One axis of the image.
#[derive(Debug)]
struct Side {
    length: usize,
    block: usize,
    dilation: usize,
    before: usize,
    stride: usize,
    /// How many blocks there are along it.
    blocks: usize,
}

impl Col2Im {
    fn sides(&self, image: &[i64], block: &[i64]) -> TractResult<Vec<Side>> {
        let axes = image.len();
        ensure!(axes > 0 && block.len() == axes, "'block_shape' has {} entries, 'image_shape' {axes}", block.len());
        for (name, list, wanted) in
            [("dilations", &self.dilations, axes), ("pads", &self.pads, 2 * axes), ("strides", &self.strides, axes)]
        {
            let fits =
                list.as_ref().is_none_or(|list| list.len() == wanted && list.iter().all(|step| *step <= MAX_STEP));
            ensure!(fits, "attribute '{name}' holds {list:?} for {axes} axes");
        }
        let size = |name: &str, side: i64| {
            let known = usize::try_from(side).ok().filter(|side| (1..=MAX_ELEMENTS).contains(side));
            known.with_context(|| format!("'{name}' holds {side}"))
        };
        let sides = (0..axes).map(|axis| {
            let at =
                |list: &Option<Vec<usize>>, place: usize, neutral| list.as_ref().map_or(neutral, |list| list[place]);
            let (length, block) = (size("image_shape", image[axis])?, size("block_shape", block[axis])?);
            let (dilation, stride) = (at(&self.dilations, axis, 1), at(&self.strides, axis, 1));
            ensure!(dilation > 0 && stride > 0, "attributes 'dilations' and 'strides' must be above 0");
            let (before, after) = (at(&self.pads, axis, 0), at(&self.pads, axes + axis, 0));
            let reach = dilation.checked_mul(block - 1).and_then(|reach| reach.checked_add(1));
            let room = reach.and_then(|reach| (length + before + after).checked_sub(reach));
            let blocks = room.with_context(|| format!("blocks of {block} don't fit into {length}"))? / stride + 1;
            Ok(Side { length, block, dilation, before, stride, blocks })
        });
        let sides = sides.collect::<TractResult<Vec<Side>>>()?;
        for of in [|side: &Side| side.length, |side: &Side| side.block] {
            let all = sides.iter().try_fold(1usize, |all, side| all.checked_mul(of(side)));
            ensure!(all.is_some_and(|all| all <= MAX_ELEMENTS), "more than {MAX_ELEMENTS} elements");
        }
        Ok(sides)
    }
}

fn product(sides: &[Side], of: impl Fn(&Side) -> usize) -> usize {
    sides.iter().map(of).product()
}

/// Adds the columns `[block places, blocks]` of one channel up to its image.
fn add_up(columns: &[f32], image: &mut [f32], sides: &[Side]) {
    let blocks: TVec<usize> = sides.iter().map(|side| side.blocks).collect();
    let places: TVec<usize> = sides.iter().map(|side| side.block).collect();
    let mut columns = columns.iter();
    for place in tract_ndarray::indices(&*places) {
        for (block, &value) in tract_ndarray::indices(&*blocks).into_iter().zip(&mut columns) {
            let along = sides.iter().enumerate().try_fold(0, |at, (axis, side)| {
                let on_axis = block[axis] * side.stride + place[axis] * side.dilation;
                let on_axis = on_axis.checked_sub(side.before).filter(|on_axis| *on_axis < side.length)?;
                Some(at * side.length + on_axis)
            });
            if let Some(at) = along {
                image[at] += value;
            }
        }
    }
}

impl Kernel for Col2Im {
    fn name(&self) -> &'static str {
        "Col2Im"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [columns, image, block] = exactly(inputs)?;
        ensure!(columns.datum_type == DatumType::F32, "columns of {:?} instead of FLOAT", columns.datum_type);
        ensure!(columns.rank() == 3, "columns of {} axes instead of 3", columns.rank());
        let (Some(sizes), Some(block)) = (&image.konst, &block.konst) else {
            let axes = image.shape.volume().to_usize().context("'image_shape' of an open number of axes")?;
            let dims = (0..=axes).map(|axis| self.dims.axis(axis));
            let mut shape = tvec!(columns.shape[0].clone());
            shape.extend(dims.collect::<TractResult<Vec<TDim>>>()?);
            return Ok(tvec!(f32::fact(shape)));
        };
        let sides = self.sides(&integers(sizes)?, &integers(block)?)?;
        let (places, blocks) = (product(&sides, |side| side.block), product(&sides, |side| side.blocks));
        let fits = columns.shape[2].compatible_with(&blocks.to_dim());
        ensure!(fits, "columns for {} blocks instead of {blocks}", columns.shape[2]);
        if let Ok(channels) = columns.shape[1].to_usize() {
            ensure!(channels % places == 0, "blocks of {places} don't divide {channels}");
        }
        let mut shape = tvec!(columns.shape[0].clone(), columns.shape[1].clone() / places);
        shape.extend(sides.iter().map(|side| side.length.to_dim()));
        Ok(tvec!(f32::fact(shape)))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let sides = self.sides(&integers(&inputs[1])?, &integers(&inputs[2])?);
        let sides = sides.map_err(|error| unfit(format!("Col2Im: {error}")))?;
        let (places, blocks) = (product(&sides, |side| side.block), product(&sides, |side| side.blocks));
        let (rows, channels) = (inputs[0].shape()[0], inputs[0].shape()[1] / places);
        if inputs[0].shape() != [rows, channels * places, blocks] {
            let text = format!("Col2Im of {:?}, for {blocks} blocks of {places} places", inputs[0].shape());
            return Err(unfit(text));
        }
        let mut shape = vec![rows, channels];
        shape.extend(sides.iter().map(|side| side.length));
        bounded::check_made("Col2Im", &shape, DatumType::F32)?;
        let mut made = Tensor::zero::<f32>(&shape)?;
        let mut made_view = made.try_as_plain_ram_mut()?;
        let columns_view = inputs[0].try_as_plain_ram()?;
        let images = made_view.as_slice_mut::<f32>()?.chunks_exact_mut(product(&sides, |side| side.length));
        let columns = columns_view.as_slice::<f32>()?.chunks_exact(places * blocks);
        images.zip(columns).for_each(|(image, columns)| add_up(columns, image, &sides));
        Ok(tvec!(made))
    }

    fn values_decide_shapes(&self) -> bool {
        true
    }

    fn mints_symbols(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run_known};
    use super::*;

    fn image(node: Node, columns: Tensor, image: &[i64], block: &[i64]) -> TractResult<Vec<Tensor>> {
        run_known(node, &[columns], &[tensor1(image), tensor1(block)], 1)
    }

    #[test]
    fn overlapping_blocks_add_up_and_what_lies_in_the_edge_is_dropped() {
        let columns = || tensor3(&[[[1.0f32, 2.0], [3.0, 4.0]]]);
        let made = image(Node::new("Col2Im"), columns(), &[3], &[2]).unwrap();
        assert_eq!(made, [tensor3(&[[[1.0f32, 5.0, 4.0]]])]);
        let made = image(Node::new("Col2Im").ints("pads", &[1, 0]), columns(), &[2], &[2]).unwrap();
        assert_eq!(made, [tensor3(&[[[5.0f32, 4.0]]])]);
        let made = image(Node::new("Col2Im").ints("strides", &[2]), columns(), &[4], &[2]).unwrap();
        assert_eq!(made, [tensor3(&[[[1.0f32, 3.0, 2.0, 4.0]]])]);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let columns = || tensor3(&[[[1.0f32, 2.0], [3.0, 4.0]]]);
        for (sides, block) in
            [(&[4i64][..], &[2i64][..]), (&[3], &[0]), (&[1], &[2]), (&[3], &[2, 1]), (&[i64::MAX], &[2])]
        {
            assert!(image(Node::new("Col2Im"), columns(), sides, block).is_err(), "{sides:?} {block:?}");
        }
        assert!(image(Node::new("Col2Im").ints("strides", &[0]), columns(), &[3], &[2]).is_err());
        assert!(image(Node::new("Col2Im").ints("dilations", &[1, 1]), columns(), &[3], &[2]).is_err());
    }
}
