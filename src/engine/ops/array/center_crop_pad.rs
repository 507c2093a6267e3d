//! `CenterCropPad` (ONNX 18): cuts what is too long at both ends alike and puts zeros to what is too short. Where the ends
//! can't be alike, the first is shorter by one.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::array::{Pad, PadMode, Slice};
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::constant_ints;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    Ok((expand(CenterCropPad { axes: node.get_attr_opt_vec::<i64>("axes")? }), vec![]))
}

#[derive(Debug, Clone)]
struct CenterCropPad {
    /// Which axes `shape` is of; `None` for all.
    axes: Option<Vec<i64>>,
}

/// Longest axis that may be asked for, and largest product of all; what is allocated grows with them.
const MAX_SIDE: i64 = 1 << 24;
const MAX_ELEMENTS: i64 = 1 << 26;

impl CenterCropPad {
    /// Each axis to change with the length it gets.
    fn sides(&self, rank: usize, shape: &[i64]) -> TractResult<Vec<(usize, usize)>> {
        let all: Vec<i64> = (0..rank as i64).collect();
        let axes = self.axes.as_deref().unwrap_or(&all);
        ensure!(axes.len() == shape.len(), "'shape' has {} entries for {} axes", shape.len(), axes.len());
        let all = shape.iter().try_fold(1i64, |all, &side| all.checked_mul(side.max(1)));
        ensure!(all.is_some_and(|all| all <= MAX_ELEMENTS), "'shape' asks for more than {MAX_ELEMENTS} elements");
        let side = |(&axis, &side): (&i64, &i64)| {
            let from_end = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
            let known = usize::try_from(from_end).ok().filter(|axis| *axis < rank);
            ensure!((0..=MAX_SIDE).contains(&side), "'shape' holds {side}");
            Ok((known.with_context(|| format!("attribute 'axes' holds {axis} of {rank}"))?, side as usize))
        };
        axes.iter().zip(shape).map(side).collect()
    }
}

impl Expansion for CenterCropPad {
    fn name(&self) -> StaticName {
        "CenterCropPad".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 2)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        solver.equals(&inputs[0].rank, &outputs[0].rank)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let asked = constant_ints(model.outlet_fact(inputs[1])?, "'shape'")?;
        let (rank, dt) = (model.outlet_fact(inputs[0])?.rank(), model.outlet_fact(inputs[0])?.datum_type);
        let mut wire = inputs[0];
        for (axis, side) in self.sides(rank, &asked)? {
            let held = model.outlet_fact(wire)?.shape[axis].clone();
            let held = held.to_usize().with_context(|| format!("axis {axis} of length {held} is to get {side}"))?;
            let name = format!("{prefix}.{axis}");
            if held > side {
                let start = (held - side) / 2;
                wire = model.wire_node(name, Slice::new(axis, start, start + side), &[wire])?[0];
            } else if held < side {
                let before = (side - held) / 2;
                let mut pads = vec![(0, 0); rank];
                pads[axis] = (before, side - held - before);
                let zero = Tensor::zero_scalar_dt(dt)?.into_arc_tensor();
                wire = model.wire_node(name, Pad { pads, mode: PadMode::Constant(zero) }, &[wire])?[0];
            }
        }
        Ok(tvec!(wire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_counted_from_either_end_and_must_be_there() {
        let sides = |axes: Option<Vec<i64>>, shape: &[i64]| CenterCropPad { axes }.sides(3, shape);
        assert_eq!(sides(None, &[1, 2, 3]).unwrap(), [(0, 1), (1, 2), (2, 3)]);
        assert_eq!(sides(Some(vec![-1, 0]), &[5, 6]).unwrap(), [(2, 5), (0, 6)]);
        assert!(sides(Some(vec![3]), &[1]).is_err());
        assert!(sides(Some(vec![i64::MIN]), &[1]).is_err());
        assert!(sides(None, &[1, 2]).is_err());
        assert!(sides(Some(vec![0]), &[i64::MAX]).is_err());
        assert!(sides(Some(vec![0, 1]), &[1 << 24, 1 << 24]).is_err());
    }
}
