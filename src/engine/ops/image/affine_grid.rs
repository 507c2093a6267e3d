//! `AffineGrid` (ONNX 20): where each place of an image or a volume lies after an affine map, from -1 to 1 along each axis.

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
    let align_corners = node.get_attr_opt::<i64>("align_corners")?.unwrap_or(0) != 0;
    built(node, AffineGrid { align_corners, sides: Open::of(context) })
}

#[derive(Debug)]
struct AffineGrid {
    /// Whether -1 and 1 are the middles of the outermost places, not their edges.
    align_corners: bool,
    /// Of what a run computes the size of.
    sides: Open,
}

/// Most places of one axis; what is allocated grows with them.
const MAX_SIDE: i64 = 1 << 16;
const MAX_PLACES: usize = 1 << 24;

/// Rows, and the places along each axis of an image (2) or a volume (3).
fn sizes(size: &[i64]) -> TractResult<(i64, TVec<usize>)> {
    ensure!(matches!(size.len(), 4 | 5), "'size' has {} entries instead of 4 or 5", size.len());
    let sides = size[2..].iter().map(|&side| {
        let known = usize::try_from(side).ok().filter(|_| (1..=MAX_SIDE).contains(&side));
        known.with_context(|| format!("'size' holds {side}"))
    });
    let sides = sides.collect::<TractResult<TVec<usize>>>()?;
    let places = sides.iter().try_fold(1usize, |all, side| all.checked_mul(*side));
    ensure!(places.is_some_and(|places| places <= MAX_PLACES), "'size' asks for more than {MAX_PLACES} places");
    Ok((size[0], sides))
}

impl AffineGrid {
    fn coordinate(&self, at: usize, side: usize) -> f64 {
        match (self.align_corners, side) {
            (true, 1) => -1.0,
            (true, _) => 2.0 * at as f64 / (side - 1) as f64 - 1.0,
            (false, _) => (2.0 * at as f64 + 1.0) / side as f64 - 1.0,
        }
    }
}

impl Kernel for AffineGrid {
    fn name(&self) -> &'static str {
        "AffineGrid"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [theta, size] = exactly(inputs)?;
        let known = size.konst.as_ref().map(|size| sizes(&integers(size)?)).transpose()?;
        let axes = match &known {
            Some((_, sides)) => sides.len(),
            None => size.shape.volume().to_usize().context("an open number of sizes")?.saturating_sub(2),
        };
        ensure!(matches!(axes, 2 | 3), "'size' for {axes} axes instead of 2 or 3");
        ensure!(theta.datum_type.is_float(), "a map of {:?}", theta.datum_type);
        ensure!(theta.rank() == 3, "a map of {} axes instead of 3", theta.rank());
        let fits =
            theta.shape[1].compatible_with(&axes.to_dim()) && theta.shape[2].compatible_with(&(axes + 1).to_dim());
        let fits = fits && known.as_ref().is_none_or(|(rows, _)| theta.shape[0].compatible_with(&rows.to_dim()));
        ensure!(fits, "a map of {:?} for {known:?}", theta.shape);
        let mut shape = tvec!(theta.shape[0].clone());
        match known {
            Some((_, sides)) => shape.extend(sides.iter().map(|side| side.to_dim())),
            None => shape.extend((0..axes).map(|axis| self.sides.axis(axis)).collect::<TractResult<Vec<TDim>>>()?),
        }
        shape.push(axes.to_dim());
        Ok(tvec!(theta.datum_type.fact(shape)))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (rows, sides) = sizes(&integers(&inputs[1])?).map_err(|error| unfit(format!("AffineGrid: {error}")))?;
        let (axes, theta) = (sides.len(), inputs[0].cast_to::<f64>()?);
        if theta.rank() != 3 || theta.shape()[0] as i64 != rows {
            return Err(unfit(format!("AffineGrid of maps of {:?} for {rows} rows", theta.shape())));
        }
        let made = [&theta.shape()[..1], &*sides, &[axes]].concat();
        bounded::check_made("AffineGrid", &made, DatumType::F64)?;
        ensure!(theta.shape()[1..] == [axes, axes + 1], "a map of {:?}", theta.shape());
        let theta_view = theta.try_as_plain_ram()?;
        let mut shape = vec![theta.shape()[0]];
        shape.extend(&*sides);
        let mut made = vec![];
        for map in theta_view.as_slice::<f64>()?.chunks_exact(axes * (axes + 1)) {
            for place in tract_ndarray::indices(&*sides) {
                // The last axis comes first: x, y, z.
                let at: TVec<f64> = (0..axes).rev().map(|axis| self.coordinate(place[axis], sides[axis])).collect();
                for row in map.chunks_exact(axes + 1) {
                    let turned: f64 = row.iter().zip(&at).map(|(factor, at)| factor * at).sum();
                    made.push(turned + row[axes]);
                }
            }
        }
        shape.push(axes);
        let made: Tensor = tract_ndarray::ArrayD::from_shape_vec(shape, made)?.into();
        Ok(tvec!(made.cast_to_dt(inputs[0].datum_type())?.into_owned()))
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

    fn grid(align_corners: i64, size: &[i64]) -> TractResult<Vec<Tensor>> {
        let mirror_and_move = tensor3(&[[[-1.0f32, 0.0, 0.5], [0.0, 1.0, 0.0]]]);
        let node = Node::new("AffineGrid").int("align_corners", align_corners);
        run_known(node, &[mirror_and_move], &[tensor1(size)], 1)
    }

    #[test]
    fn places_run_from_edge_to_edge_or_from_middle_to_middle() {
        let made = grid(1, &[1, 1, 1, 3]).unwrap();
        assert_eq!(made, [tensor4(&[[[[1.5f32, -1.0], [0.5, -1.0], [-0.5, -1.0]]]])]);
        let made = grid(0, &[1, 1, 1, 2]).unwrap();
        assert_eq!(made, [tensor4(&[[[[1.0f32, 0.0], [0.0, 0.0]]]])]);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        for size in [&[1i64, 1, 2][..], &[1, 1, 0, 2], &[1, 1, 1 << 16, 1 << 16], &[1, 1, 2, 2, 2], &[2, 1, 2, 2]] {
            assert!(grid(0, size).is_err(), "{size:?}");
        }
    }
}
