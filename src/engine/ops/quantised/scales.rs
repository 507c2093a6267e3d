//! Which scale and zero point belong to which value.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::inputs::axis_of;
use super::unfit::unfit;

/// The attribute `axis`.
///
/// # Errors
/// An attribute that is no integer.
pub fn axis(node: &NodeProto) -> TractResult<i64> {
    Ok(node.get_attr_opt("axis")?.unwrap_or(1))
}

/// How many places along the axis share a scale, where they are more than one; `None` where the scale is one, or one for each
/// place.
///
/// # Errors
/// A number below 0.
pub fn block(node: &NodeProto) -> TractResult<Option<usize>> {
    let places = node.get_attr_opt::<i64>("block_size")?.unwrap_or(0);
    let places = usize::try_from(places).with_context(|| format!("attribute 'block_size' holds {places}"))?;
    Ok(Some(places).filter(|places| *places > 0))
}

/// What is asked of the inputs' shapes.
///
/// # Errors
/// Scales or zero points that aren't one for all or one for each place of the axis.
pub fn check(inputs: &[&TypedFact], axis: i64) -> TractResult<()> {
    ensure!([2, 3].contains(&inputs.len()), "{} inputs instead of 2 or 3", inputs.len());
    for (fact, name) in inputs[1..].iter().zip(["scale", "zero point"]) {
        ensure!(fact.rank() <= 1, "a {name} of {} axes instead of 0 or 1", fact.rank());
        let Some(count) = fact.shape.volume().as_i64() else { continue };
        if count == 1 {
            continue;
        }
        let axis = axis_of(axis, inputs[0].rank()).context("attribute 'axis'")?;
        let places = &inputs[0].shape[axis];
        ensure!(
            places.as_i64().is_none_or(|places| places == count),
            "{count} {name}s for {places} places of axis {axis}"
        );
    }
    Ok(())
}

/// Axes of the input are those of the output, but for one that has scales of its own.
///
/// # Errors
/// tract's own.
pub fn axes(inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
    let mapping = AxesMapping::disconnected(inputs, outputs)?;
    if inputs[1..].iter().any(|fact| !fact.shape.volume().is_one()) {
        return Ok(mapping);
    }
    (0..inputs[0].rank())
        .try_fold(mapping, |mapping, axis| mapping.linking((InOut::In(0), axis), (InOut::Out(0), axis)))
}

/// Calls `each` for every run of values that lie beside one another and have the same scale and zero point, in order.
///
/// # Errors
/// Scales or zero points that aren't one for all or one for each place of the axis.
pub fn each_run<Z: Copy>(
    shape: &[usize],
    axis: i64,
    (scales, zero_points): (&[f32], &[Z]),
    mut each: impl FnMut(usize, f32, Z),
) -> TractResult<()> {
    let count = scales.len().max(zero_points.len());
    if count == 1 && scales.len() == zero_points.len() {
        each(shape.iter().product(), scales[0], zero_points[0]);
        return Ok(());
    }
    let axis = axis_of(axis, shape.len()).context("attribute 'axis'")?;
    let places = shape[axis];
    let fits = [scales.len(), zero_points.len()].iter().all(|count| [1, places].contains(count));
    if !fits {
        let (scales, zero_points) = (scales.len(), zero_points.len());
        return Err(unfit(format!("{scales} scales and {zero_points} zero points for {places} places")));
    }
    let (outer, inner) = (shape[..axis].iter().product::<usize>(), shape[axis + 1..].iter().product());
    for place in (0..outer).flat_map(|_| 0..places) {
        each(inner, scales[place % scales.len()], zero_points[place % zero_points.len()]);
    }
    Ok(())
}
