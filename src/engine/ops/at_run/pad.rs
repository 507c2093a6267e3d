//! `ai.onnx.Pad` (version 25) of pads that a run computes, of pads that cut, and of the modes that take from the tensor itself.
//!
//! As in ONNX Runtime what is cut is cut first, and what is left is padded: reflected and wrapped pads are of what is left.

use tract_onnx::model::{ParsingContext, optional_inputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::array::Gather;
use tract_onnx::tract_hir::internal::*;

use super::super::Built;
use super::super::bounded;
use super::super::inputs::{axis_of, exactly};
use super::super::kernel::{Kernel, built};
use super::super::stand_in::stand_in;
use super::super::unfit::unfit;
use super::{Open, integers};

/// Most places by which an axis grows or is cut.
const MAX_PAD: i64 = 1 << 40;
/// The first version of the operator whose pads are an input.
const PADS_AS_INPUT: i64 = 11;

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    if context.onnx_operator_set_version < PADS_AS_INPUT {
        return build_old(context, node);
    }
    let mut for_tract = node.clone();
    let mode = match node.get_attr_opt::<&str>("mode")?.unwrap_or("constant") {
        "constant" => Mode::Constant,
        "edge" => Mode::Edge,
        "reflect" => Mode::Reflect,
        "wrap" => {
            // tract has no such mode; it only says which shapes there are.
            let attributes = for_tract.attribute.iter_mut().filter(|attribute| attribute.name == "mode");
            attributes.for_each(|attribute| attribute.s = b"edge".to_vec());
            Mode::Wrap
        }
        other => bail!("attribute 'mode' holds {other}"),
    };
    let mut places = optional_inputs(node).skip(2);
    let (value, axes) = (places.next().flatten(), places.next().flatten());
    let ours = Pad { mode, value, axes, dims: Open::of(context) };
    stand_in(context, &for_tract, ours, move |inputs: &[TypedFact]| {
        let cuts = |pads: &TypedFact| {
            pads.konst.as_ref().is_none_or(|pads| integers(pads).is_ok_and(|pads| pads.iter().any(|pad| *pad < 0)))
        };
        mode != Mode::Constant
            || inputs.get(1).is_some_and(cuts)
            || inputs.iter().skip(2).any(|input| input.konst.is_none())
    })
}

/// Of a version that has pads and value as attributes; tract's, unless a pad cuts.
fn build_old(context: &ParsingContext, node: &NodeProto) -> Built {
    let pads = match node.get_attr_opt_vec::<i64>("pads")? {
        Some(pads) if pads.iter().any(|pad| *pad < 0) => pads,
        _ => return super::super::stand_in::of_tract(context, node),
    };
    let mode = match node.get_attr_opt::<&str>("mode")?.unwrap_or("constant") {
        "constant" => Mode::Constant,
        "edge" => Mode::Edge,
        "reflect" => Mode::Reflect,
        other => bail!("attribute 'mode' holds {other}"),
    };
    let value = tensor0(node.get_attr_opt::<f32>("value")?.unwrap_or(0.0));
    let pad = Pad { mode, value: Some(2), axes: None, dims: Open::of(context) };
    built(node, OldPad { pad, pads: tensor1(&pads), value })
}

/// A Pad with the last two of its inputs as its own.
#[derive(Debug)]
struct OldPad {
    pad: Pad,
    pads: Tensor,
    value: Tensor,
}

impl Kernel for OldPad {
    fn name(&self) -> &'static str {
        "Pad"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        self.pad.facts(&[input, &TypedFact::try_from(self.pads.clone().into_arc_tensor())?])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        self.pad.eval(&[inputs[0].clone(), self.pads.clone().into_tvalue(), self.value.clone().into_tvalue()])
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Constant,
    Edge,
    Reflect,
    Wrap,
}

#[derive(Debug)]
struct Pad {
    mode: Mode,
    /// Where the optional inputs are.
    value: Option<usize>,
    axes: Option<usize>,
    dims: Open,
}

/// What becomes of one axis.
#[derive(Debug, Clone, Copy)]
struct Along {
    axis: usize,
    before: i64,
    behind: i64,
}

impl Along {
    /// The first place that is kept, how many are, and how many come before and behind them.
    fn places(self, length: usize) -> TractResult<[usize; 4]> {
        let Self { axis, before, behind } = self;
        let length = i64::try_from(length)?;
        let made = length + before + behind;
        if made < 0 {
            return Err(unfit(format!(
                "Pad cuts more than the {length} places of axis {axis}: pads of {before} and {behind}"
            )));
        }
        let first = (-before).clamp(0, length);
        let kept = (length - first - (-behind).max(0)).max(0);
        // More may be cut than there is where as much is added at the other end.
        let more_before = if kept == 0 { made } else { before.max(0) };
        let places = [first, kept, more_before, made - kept - more_before].map(usize::try_from);
        let [first, kept, before, behind] = places;
        Ok([first?, kept?, before?, behind?])
    }
}

impl Pad {
    fn along(pads: &[i64], axes: Option<Vec<i64>>, rank: usize) -> TractResult<Vec<Along>> {
        let axes = axes.unwrap_or_else(|| (0..rank as i64).collect());
        let (count, of) = (pads.len(), axes.len());
        if count != 2 * of {
            return Err(unfit(format!("Pad with {count} pads for {of} axes")));
        }
        if let Some(pad) = pads.iter().find(|pad| pad.unsigned_abs() > MAX_PAD.unsigned_abs()) {
            return Err(unfit(format!("Pad by {pad}")));
        }
        let axes = axes.into_iter().map(|axis| axis_of(axis, rank)).collect::<TractResult<Vec<usize>>>();
        let axes = axes.map_err(|error| unfit(format!("Pad: {error}")))?;
        if let Some(twice) = axes.iter().enumerate().find(|(place, axis)| axes[..*place].contains(axis)) {
            return Err(unfit(format!("Pad of axis {} twice", twice.1)));
        }
        let along = |(place, axis)| Along { axis, before: pads[place], behind: pads[place + of] };
        Ok(axes.into_iter().enumerate().map(along).collect())
    }

    /// A tensor of which `kept` places are left, with more of its own before and behind them.
    fn more(&self, tensor: TValue, axis: usize, [kept, before, behind]: [usize; 3]) -> TractResult<TValue> {
        let of_nothing = kept == 0;
        let too_far = self.mode == Mode::Reflect && before.max(behind) >= kept;
        if of_nothing || too_far {
            let mode = format!("{:?}", self.mode).to_lowercase();
            let text =
                format!("Pad of {kept} places along axis {axis} by {before} and {behind} more, in mode '{mode}'");
            return Err(unfit(text));
        }
        // A number for each.
        bounded::check_made("Pad", &[kept + before + behind], DatumType::I64)?;
        let (kept, before) = (i64::try_from(kept)?, i64::try_from(before)?);
        let place = |at: i64| match self.mode {
            Mode::Wrap => at.rem_euclid(kept),
            Mode::Reflect if at < 0 => -at,
            Mode::Reflect if at >= kept => 2 * (kept - 1) - at,
            _ => at.clamp(0, kept - 1),
        };
        let places: Vec<i64> = (-before..kept + i64::try_from(behind)?).map(place).collect();
        let taken = tvec![tensor, tensor1(&places).into_tvalue()];
        Ok(EvalOp::eval(&Gather::new(axis), &EvalContext::out_of_plan(), taken)?.remove(0))
    }

    /// The value that is put in.
    fn value(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let datum_type = inputs[0].datum_type();
        match self.value.and_then(|place| inputs.get(place)) {
            None => Tensor::zero_scalar_dt(datum_type),
            Some(value) if value.len() == 1 => {
                let value = value.clone().into_tensor().into_shape(&[])?;
                Ok(value.cast_to_dt(datum_type)?.into_owned())
            }
            Some(value) => Err(unfit(format!("Pad with {} values instead of 1", value.len()))),
        }
    }
}

impl Kernel for Pad {
    fn name(&self) -> &'static str {
        "Pad"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() >= 2, "Pad without pads");
        let mut shape = inputs[0].shape.to_tvec();
        let axes = self.axes.and_then(|place| inputs.get(place));
        let known = |fact: &TypedFact| fact.konst.as_ref().map(|value| integers(value)).transpose();
        let (pads, known_axes) = (known(inputs[1])?, axes.map(|axes| known(axes)).transpose()?);
        match (pads, known_axes) {
            (Some(pads), None) => self.grow(&mut shape, &pads, None)?,
            (Some(pads), Some(Some(axes))) => self.grow(&mut shape, &pads, Some(axes))?,
            _ => {
                for (axis, dim) in shape.iter_mut().enumerate() {
                    *dim = self.dims.axis(axis)?;
                }
            }
        }
        Ok(tvec![inputs[0].datum_type.fact(shape)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let axes = self.axes.and_then(|axes| inputs.get(axes)).map(|axes| integers(axes)).transpose()?;
        let mut tensor = inputs[0].clone();
        let along = Self::along(&integers(&inputs[1])?, axes, tensor.rank())?;
        let mut shape: TVec<usize> = tensor.shape().into();
        for along in &along {
            let [_, kept, before, behind] = along.places(shape[along.axis])?;
            shape[along.axis] = kept + before + behind;
        }
        bounded::check_made("Pad", &shape, tensor.datum_type())?;
        for along in along {
            let (axis, changes) = (along.axis, (along.before, along.behind) != (0, 0));
            let [first, kept, before, behind] = along.places(tensor.shape()[axis])?;
            if changes && kept < tensor.shape()[axis] {
                let mut shape: TVec<usize> = tensor.shape().into();
                shape[axis] = kept;
                tensor = match kept {
                    0 => Tensor::zero_dt(tensor.datum_type(), &shape)?.into_tvalue(),
                    _ => tensor.slice(axis, first, first + kept)?.into_tvalue(),
                };
            }
            if self.mode != Mode::Constant {
                if changes {
                    tensor = self.more(tensor, axis, [kept, before, behind])?;
                }
                continue;
            }
            if before + behind > 0 {
                let value = self.value(inputs)?;
                let filled = |places: usize| {
                    let mut shape: TVec<usize> = tensor.shape().into();
                    shape[axis] = places;
                    value.broadcast_to_shape(&shape)
                };
                let parts = [filled(before)?, tensor.clone().into_tensor(), filled(behind)?];
                tensor = Tensor::stack_tensors(axis, &parts)?.into_tvalue();
            }
        }
        Ok(tvec![tensor.into_tensor()])
    }

    fn mints_symbols(&self) -> bool {
        true
    }
}

impl Pad {
    fn grow(&self, shape: &mut TVec<TDim>, pads: &[i64], axes: Option<Vec<i64>>) -> TractResult<()> {
        for along in Self::along(pads, axes, shape.len())? {
            let dim = &mut shape[along.axis];
            if let Ok(length) = dim.to_usize() {
                along.places(length)?;
            }
            *dim = dim.clone() + (along.before + along.behind);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::{ModelProto, OperatorSetIdProto};

    use super::super::super::testing::{Node, run, run_known, run_model};
    use super::*;

    fn padded(mode: &str, pads: &[i64]) -> TractResult<Vec<f32>> {
        let (x, node) = (tensor1(&[1f32, 2.0, 3.0, 4.0, 5.0]), || Node::new("Pad").text("mode", mode));
        let known = run_known(node(), std::slice::from_ref(&x), &[tensor1(pads)], 1);
        let given = run(node(), &[x, tensor1(pads)], 1);
        assert_eq!(known.is_ok(), given.is_ok(), "{pads:?}: {known:?} and {given:?}");
        let values = |made: Vec<Tensor>| made[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec();
        let (known, given) = (values(known?), values(given?));
        assert_eq!(known, given);
        Ok(given)
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn what_is_cut_is_cut_first_and_what_is_left_is_padded() {
        assert_eq!(padded("constant", &[-1, 2]).unwrap(), [2.0, 3.0, 4.0, 5.0, 0.0, 0.0]);
        assert_eq!(padded("constant", &[-2, -2]).unwrap(), [3.0]);
        assert_eq!(padded("constant", &[-3, -2]).unwrap(), [0f32; 0]);
        assert_eq!(padded("constant", &[-6, 2]).unwrap(), [0.0]);
        assert_eq!(padded("constant", &[3, -5]).unwrap(), [0.0; 3]);
        assert_eq!(padded("edge", &[-2, 3]).unwrap(), [3.0, 4.0, 5.0, 5.0, 5.0, 5.0]);
        assert_eq!(padded("reflect", &[2, -1]).unwrap(), [3.0, 2.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(padded("reflect", &[-1, 2]).unwrap(), [2.0, 3.0, 4.0, 5.0, 4.0, 3.0]);
        assert_eq!(padded("reflect", &[1, 0]).unwrap(), [2.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(padded("wrap", &[2, -1]).unwrap(), [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(padded("wrap", &[-2, 4]).unwrap(), [3.0, 4.0, 5.0, 3.0, 4.0, 5.0, 3.0]);
        assert_eq!(padded("wrap", &[5, 6]).unwrap()[..6], [1.0, 2.0, 3.0, 4.0, 5.0, 1.0]);
    }

    #[test]
    fn before_version_11_pads_that_cut_are_attributes() {
        let padded = |mode: &str, pads: &[i64]| {
            let x = [tensor2(&[[1f32, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])];
            let node = Node::new("Pad").text("mode", mode).ints("pads", pads).float("value", 2.5);
            let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 10 }];
            run_model(&ModelProto { graph: Some(node.into_graph(&x, 1)), opset_import, ..Default::default() }, &x)
        };
        let all = [[2f32, 3.0, 4.0, 2.5, 2.5], [6.0, 7.0, 8.0, 2.5, 2.5], [2.5; 5]];
        assert_eq!(padded("constant", &[0, -1, 1, 2]).unwrap(), [tensor2(&all)]);
        let last = [[2f32, 3.0, 4.0, 4.0, 4.0], [6.0, 7.0, 8.0, 8.0, 8.0]];
        assert_eq!(padded("edge", &[0, -1, 0, 2]).unwrap(), [tensor2(&last)]);
        let back = [[2f32, 3.0, 4.0, 3.0, 2.0], [6.0, 7.0, 8.0, 7.0, 6.0]];
        assert_eq!(padded("reflect", &[0, -1, 0, 2]).unwrap(), [tensor2(&back)]);
        for pads in [&[0, -5, 0, 0][..], &[0, -1, 0], &[i64::MIN, 0, 0, 0]] {
            assert!(padded("constant", pads).is_err(), "{pads:?}");
        }
    }

    #[test]
    fn pads_that_do_not_fit_are_refused() {
        for mode in ["constant", "edge", "reflect", "wrap"] {
            for pads in [&[1i64][..], &[-2, -4], &[i64::MAX, 0], &[i64::MIN, 0], &[i64::MIN, i64::MAX]] {
                assert!(padded(mode, pads).is_err(), "{mode} {pads:?}");
            }
        }
        for (mode, pads) in
            [("edge", [-3, -2]), ("edge", [-6, 2]), ("wrap", [3, -5]), ("reflect", [5, 0]), ("reflect", [-2, 3])]
        {
            assert!(padded(mode, &pads).is_err(), "{mode} {pads:?}");
        }
    }

    #[test]
    fn pads_beyond_all_reason_are_refused_before_anything_is_made() {
        for mode in ["constant", "edge", "wrap"] {
            let pads = tensor1(&[1i64 << 30, 0]);
            let error = run(Node::new("Pad").text("mode", mode), &[tensor1(&[1f32]), pads], 1).unwrap_err();
            assert!(format!("{error:#}").contains(bounded::TOO_LARGE), "{error:#}");
        }
    }

    #[test]
    fn axes_and_the_value_may_be_given_too() {
        let x = || tensor2(&[[1i64, 2, 3], [4, 5, 6]]);
        let padded =
            |axes: &[i64]| run(Node::new("Pad"), &[x(), tensor1(&[-1i64, 1]), tensor0(7i64), tensor1(axes)], 1);
        assert_eq!(padded(&[-1]).unwrap(), [tensor2(&[[2i64, 3, 7], [5, 6, 7]])]);
        assert_eq!(padded(&[0]).unwrap(), [tensor2(&[[4i64, 5, 6], [7, 7, 7]])]);
        assert!(padded(&[2]).is_err());
    }
}
