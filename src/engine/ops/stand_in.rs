//! tract's operator while a graph is analysed, where it knows most, and ours in the plan where tract's won't do.

use std::fmt;
use std::sync::OnceLock;

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::{as_op, not_a_typed_op};
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::kernel::{Kernel, outputs_of, typed};

/// Whether ours is to stand in, by what is known of the inputs when a plan is made.
type Condition = Arc<dyn Fn(&[TypedFact]) -> bool + Send + Sync>;

/// tract's operator for the node, and `ours` in its place in plans where it `is_needed`.
///
/// # Errors
/// tract's own, of attributes that it can't read.
pub fn stand_in(
    context: &ParsingContext,
    node: &NodeProto,
    ours: impl Kernel,
    is_needed: impl Fn(&[TypedFact]) -> bool + Send + Sync + 'static,
) -> Built {
    let (of_tract, closure) = of_tract(context, node)?;
    let outputs = outputs_of(node);
    Ok((Box::new(StandIn { of_tract, ours: Arc::new(ours), outputs, is_needed: Arc::new(is_needed) }), closure))
}

/// tract's operator for the node.
///
/// # Errors
/// tract's own.
pub fn of_tract(context: &ParsingContext, node: &NodeProto) -> Built {
    static OF_TRACT: OnceLock<OnnxOpRegister> = OnceLock::new();
    let builders = OF_TRACT.get_or_init(|| tract_onnx::onnx().op_register);
    let builder = builders.0.get(&node.op_type).with_context(|| format!("tract has no {}", node.op_type))?;
    builder(context, node)
}

fn facts_of(values: &[TValue]) -> TractResult<Vec<TypedFact>> {
    values.iter().map(|value| TypedFact::try_from(value.clone().into_arc_tensor())).collect()
}

#[derive(Clone)]
struct StandIn {
    of_tract: Box<dyn InferenceOp>,
    ours: Arc<dyn Kernel>,
    /// Those that the node has.
    outputs: TVec<usize>,
    is_needed: Condition,
}

impl StandIn {
    /// Ours, with its inputs and outputs of the types that it takes and that tract's would give.
    fn wire_ours(
        &self,
        node: &InferenceNode,
        target: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let mut taken = TVec::new();
        for (index, &input) in inputs.iter().enumerate() {
            let given = target.outlet_fact(input)?.datum_type;
            let wanted = self.ours.input_type(index, given)?;
            let name = format!("{}.cast.{index}", node.name);
            taken.push(if wanted == given { input } else { target.wire_node(name, cast(wanted), &[input])?[0] });
        }
        let made = target.wire_node(&node.name, typed(Arc::clone(&self.ours), &self.outputs), &taken)?;
        let mut given = TVec::new();
        for (slot, (outlet, output)) in made.into_iter().zip(&node.outputs).enumerate() {
            let wanted = output.fact.datum_type.concretize();
            let wanted =
                wanted.filter(|wanted| target.outlet_fact(outlet).is_ok_and(|fact| fact.datum_type != *wanted));
            given.push(match wanted {
                Some(wanted) => target.wire_node(format!("{}.given.{slot}", node.name), cast(wanted), &[outlet])?[0],
                None => outlet,
            });
        }
        Ok(given)
    }
}

impl fmt::Debug for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} or {:?}", self.of_tract, self.ours)
    }
}

impl PartialEq for StandIn {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for StandIn {}

impl Op for StandIn {
    fn name(&self) -> StaticName {
        self.ours.name().into()
    }

    not_a_typed_op!();
}

impl EvalOp for StandIn {
    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        let facts = facts_of(&inputs)?;
        if !(self.is_needed)(&facts) {
            return self.of_tract.eval_out_of_plan(inputs);
        }
        let taken = inputs.iter().enumerate().map(|(index, input)| {
            let wanted = self.ours.input_type(index, input.datum_type())?;
            Ok(input.cast_to_dt(wanted)?.into_owned().into_tvalue())
        });
        let taken = taken.collect::<TractResult<TVec<TValue>>>()?;
        let facts = facts_of(&taken)?;
        self.ours.facts(&facts.iter().collect::<Vec<_>>())?;
        let made = self.ours.eval(&taken)?;
        // What tract makes of its sizes is its sizes.
        let of_sizes = inputs.iter().any(|input| input.datum_type().is_tdim());
        let pick = |&slot: &usize| -> TractResult<TValue> {
            let short = || format!("{} has no more than {} outputs", self.ours.name(), made.len());
            let tensor = made.get(slot).with_context(short)?;
            let is_size = of_sizes && tensor.datum_type() == i64::datum_type();
            let given = if is_size { TDim::datum_type() } else { tensor.datum_type() };
            Ok(tensor.cast_to_dt(given)?.into_owned().into_tvalue())
        };
        self.outputs.iter().map(pick).collect::<TractResult<TVec<TValue>>>().map(Some)
    }
}

impl InferenceOp for StandIn {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        self.of_tract.infer_facts(inputs, outputs, observed)
    }

    fn observe_outlets(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Vec<OutletId>> {
        self.of_tract.observe_outlets(model, node)
    }

    fn incorporate(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Option<InferenceModelPatch>> {
        self.of_tract.incorporate(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.of_tract.nboutputs()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let inputs: TVec<OutletId> = node.inputs.iter().map(|input| mapping[input]).collect();
        let facts = inputs.iter().map(|&input| target.outlet_fact(input).cloned()).collect::<TractResult<Vec<_>>>()?;
        if (self.is_needed)(&facts) {
            return self.wire_ours(node, target, &inputs);
        }
        self.of_tract.to_typed(source, node, target, mapping)
    }

    as_op!();
}
