//! `ai.onnx.Slice` (version 13) of bounds that a run computes.

use tract_onnx::model::{ParsingContext, optional_inputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::array::Gather;
use tract_onnx::tract_hir::internal::*;

use super::super::inputs::axis_of;
use super::super::kernel::Kernel;
use super::{Open, integers};

#[derive(Debug)]
pub struct Slice {
    /// Where the optional inputs are.
    axes: Option<usize>,
    steps: Option<usize>,
    dims: Open,
}

impl Slice {
    pub fn of(context: &ParsingContext, node: &NodeProto) -> Self {
        let mut places = optional_inputs(node).skip(3);
        let (axes, steps) = (places.next().flatten(), places.next().flatten());
        Self { axes, steps, dims: Open::of(context) }
    }

    /// The axis of each bound.
    fn axes(axes: Option<&Tensor>, bounds: usize, rank: usize) -> TractResult<Vec<usize>> {
        let axes = axes.map(integers).transpose()?.unwrap_or_else(|| (0..bounds as i64).collect());
        ensure!(axes.len() == bounds, "Slice has {} axes for {bounds} bounds", axes.len());
        let axes = axes.iter().map(|&axis| axis_of(axis, rank)).collect::<TractResult<Vec<_>>>()?;
        let is_twice = axes.iter().enumerate().any(|(index, axis)| axes[..index].contains(axis));
        ensure!(!is_twice, "Slice has an axis twice");
        Ok(axes)
    }
}

impl Kernel for Slice {
    fn name(&self) -> &'static str {
        "Slice"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() >= 3, "Slice lacks bounds");
        let mut shape = inputs[0].shape.to_tvec();
        let bounds = inputs[1].shape.volume().to_usize().context("Slice has an open number of bounds")?;
        let axes = self.axes.and_then(|place| inputs.get(place));
        let axes = match axes {
            Some(axes) => axes.konst.as_ref().map(|axes| Self::axes(Some(axes), bounds, shape.len())).transpose()?,
            None => Some(Self::axes(None, bounds, shape.len())?),
        };
        for (axis, dim) in shape.iter_mut().enumerate() {
            if axes.as_ref().is_none_or(|axes| axes.contains(&axis)) {
                *dim = self.dims.axis(axis)?;
            }
        }
        Ok(tvec![inputs[0].datum_type.fact(shape)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (starts, ends) = (integers(&inputs[1])?, integers(&inputs[2])?);
        ensure!(starts.len() == ends.len(), "Slice has {} starts and {} ends", starts.len(), ends.len());
        let at = |place: Option<usize>| place.and_then(|place| inputs.get(place));
        let axes = Self::axes(at(self.axes).map(|axes| &**axes), starts.len(), inputs[0].rank())?;
        let steps = at(self.steps).map(|steps| integers(steps)).transpose()?;
        let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
        ensure!(steps.len() == starts.len(), "Slice has {} steps for {} bounds", steps.len(), starts.len());
        let mut tensor = inputs[0].clone();
        for (index, &axis) in axes.iter().enumerate() {
            let (start, count) = range(tensor.shape()[axis], starts[index], ends[index], steps[index])?;
            tensor = if steps[index] == 1 && count > 0 {
                tensor.slice(axis, start, start + count)?.into_tvalue()
            } else {
                let place = |turn: usize| start as i64 + turn as i64 * steps[index];
                let places = tensor1(&(0..count).map(place).collect::<Vec<_>>());
                let taken = tvec![tensor, places.into_tvalue()];
                EvalOp::eval(&Gather::new(axis), &EvalContext::out_of_plan(), taken)?.remove(0)
            };
        }
        Ok(tvec![tensor.into_tensor()])
    }

    fn mints_symbols(&self) -> bool {
        true
    }
}

/// The first element taken of `length`, and how many are, by NumPy's rules for bounds beyond the ends.
fn range(length: usize, start: i64, end: i64, step: i64) -> TractResult<(usize, usize)> {
    ensure!(step != 0, "Slice has a step of 0");
    let length = i64::try_from(length)?;
    let from_front = |bound: i64| if bound < 0 { bound.saturating_add(length) } else { bound };
    let (least, most) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let (start, end) = (from_front(start).clamp(least, most), from_front(end).clamp(least, most));
    let distance = if step > 0 { end - start } else { start - end };
    if distance <= 0 {
        return Ok((0, 0));
    }
    let step = step.unsigned_abs();
    Ok((usize::try_from(start)?, usize::try_from(distance.unsigned_abs().div_ceil(step))?))
}
