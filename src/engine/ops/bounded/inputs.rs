//! What operators take for granted of their inputs and attributes, where tract does not look: that a single number is there,
//! and that an axis is one of a tensor's.
//!
//! tract reads the number of a tensor without elements from where none is, which ends the process, and counts up to whatever
//! axis is given. These belong upstream; ours go when they are mended there.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::super::inputs::{exactly, integers};
use super::super::kernel::{Kernel, typed};
use crate::tensor::MAX_RANK;

/// Inputs of operators, by ONNX's positions, that are read as one number.
const SINGLE: [(&str, &[usize]); 17] = [
    ("BlackmanWindow", &[0]),
    ("Clip", &[1, 2]),
    ("CumSum", &[1]),
    ("DFT", &[1, 2]),
    ("Dropout", &[1, 2]),
    ("HammingWindow", &[0]),
    ("HannWindow", &[0]),
    ("If", &[0]),
    ("Loop", &[0, 1]),
    ("MelWeightMatrix", &[0, 1, 2, 3, 4]),
    ("NonMaxSuppression", &[2, 3, 4]),
    ("OneHot", &[1]),
    ("Pad", &[2]),
    ("Range", &[0, 1, 2]),
    ("STFT", &[1, 3]),
    ("TopK", &[1]),
    ("Trilu", &[1]),
];

/// Inputs, by ONNX's positions, that hold axes. `Reduce` stands for all whose names begin so.
const AXES: [(&str, usize); 8] = [
    ("CumSum", 1),
    ("CumProd", 1),
    ("DFT", 2),
    ("Pad", 3),
    ("Reduce", 1),
    ("Slice", 3),
    ("Squeeze", 1),
    ("Unsqueeze", 1),
];

/// Operators whose attribute `axis` is an axis of their first input, or of an output with so many dimensions more.
const AXIS: [(&str, i64); 6] = [
    ("LayerNormalization", 0),
    ("LpNormalization", 0),
    ("OneHot", 1),
    ("RMSNormalization", 0),
    ("SimplifiedLayerNormalization", 0),
    ("SkipSimplifiedLayerNormalization", 0),
];

/// What one node takes for granted. Places are among the inputs that it has.
#[derive(Debug, Clone, Default)]
pub struct Granted {
    single: TVec<usize>,
    axes: Option<usize>,
    /// The axis, and how many dimensions more than the first input may have it.
    axis: Option<(i64, i64)>,
}

impl Granted {
    pub fn of(node: &NodeProto) -> TractResult<Self> {
        let place = |position: &usize| {
            let given = node.input.get(*position).is_some_and(|name| !name.is_empty());
            given.then(|| node.input[..*position].iter().filter(|name| !name.is_empty()).count())
        };
        let single = SINGLE.iter().find(|(name, _)| *name == node.op_type).map_or(&[][..], |(_, positions)| positions);
        let named = |name: &str| name == node.op_type || (name == "Reduce" && node.op_type.starts_with(name));
        let axes = AXES.iter().find(|(name, _)| named(name)).and_then(|(_, position)| place(position));
        let axis = match AXIS.iter().find(|(name, _)| *name == node.op_type) {
            Some((_, more)) => node.get_attr_opt::<i64>("axis")?.map(|axis| (axis, *more)),
            None => None,
        };
        Ok(Self { single: single.iter().filter_map(place).collect(), axes, axis })
    }

    /// # Errors
    /// What is known of the inputs and is not as the operator takes it for granted.
    pub fn check(&self, inputs: &[&InferenceFact]) -> TractResult<()> {
        for &place in &self.single {
            let shape = inputs.get(place).map(|input| input.shape.as_concrete_finite()).transpose()?.flatten();
            ensure!(shape.is_none_or(|shape| !shape.contains(&0)), "its input {place} holds no number");
        }
        if let Some(axes) = self.axes.and_then(|place| inputs.get(place)?.value.concretize()) {
            let wrong = integers(&axes)?.into_iter().find(|axis| axis.unsigned_abs() > MAX_RANK as u64);
            ensure!(wrong.is_none(), "its axes hold {}", wrong.unwrap_or_default());
        }
        if let (Some((axis, more)), Some(input)) = (self.axis, inputs.first())
            && let Some(rank) = input.shape.rank().concretize()
        {
            let rank = rank + more;
            ensure!((-rank..rank).contains(&axis), "attribute 'axis' holds {axis} for {rank} dimensions");
        }
        Ok(())
    }

    /// Puts a check before each input that is read as one number and of which only a run tells whether it holds one.
    pub fn guard(
        &self,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<Option<HashMap<OutletId, OutletId>>> {
        let mut guarded: Option<HashMap<OutletId, OutletId>> = None;
        for &place in &self.single {
            let Some(source) = node.inputs.get(place) else { continue };
            let input = mapping[source];
            let fact = target.outlet_fact(input)?;
            if fact.konst.is_none() && !fact.shape.is_concrete() {
                let name = format!("{}.input{place}.number", node.name);
                let checked = target.wire_node(name, typed(Arc::new(Number)), &[input])?[0];
                guarded.get_or_insert_with(|| mapping.clone()).insert(*source, checked);
            }
        }
        Ok(guarded)
    }
}

/// Gives its input as it is, which must hold something.
#[derive(Debug)]
struct Number;

impl Kernel for Number {
    fn name(&self) -> &'static str {
        "Number"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        Ok(tvec!(input.without_value()))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        ensure!(inputs[0].len() > 0, "an input that is read as a number holds none");
        Ok(tvec!(inputs[0].clone().into_tensor()))
    }
}
