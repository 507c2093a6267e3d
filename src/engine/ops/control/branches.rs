//! The typed form of an If whose condition only a run tells.

use tract_onnx::tract_core::{as_op, not_out_of_plan, op_as_typed_op};
use tract_onnx::tract_hir::internal::*;

use super::nested::Nested;
use super::watch::Watch;

/// A branch with the places of what is offered to it, or why there is none.
pub type Branch = Result<(TVec<usize>, Nested), String>;

/// An If whose condition is not known before a run.
#[derive(Debug, Clone)]
pub struct Branches {
    /// For true and for false.
    pub branches: [Branch; 2],
    pub outputs: TVec<TypedFact>,
}

impl PartialEq for Branches {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Branches {}

impl Branches {
    pub fn graphs(&self) -> Vec<&TypedModel> {
        self.branches.iter().flatten().map(|(_, nested)| nested.graph()).collect()
    }

    /// The outputs of the branch that the first input chooses.
    pub fn run(&self, symbols: &SymbolValues, inputs: &[TValue], watch: &Watch) -> TractResult<TVec<TValue>> {
        let (places, nested) = self.chosen(&inputs[0])?;
        let offered: TVec<TValue> = places.iter().map(|&place| inputs[place].clone()).collect();
        nested.runner()?.run(&offered, symbols, watch)
    }

    fn chosen(&self, condition: &Tensor) -> TractResult<&(TVec<usize>, Nested)> {
        let chosen = &self.branches[usize::from(!truth(condition)?)];
        chosen.as_ref().map_err(|cause| format_err!("the chosen branch doesn't fit the inputs: {cause}"))
    }
}

impl Op for Branches {
    fn name(&self) -> StaticName {
        "If".into()
    }

    fn mints_runtime_symbols(&self) -> bool {
        true
    }

    op_as_typed_op!();
}

impl EvalOp for Branches {
    not_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.run(context.symbols, &inputs, &Watch::new(&|| false))
    }
}

impl TypedOp for Branches {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.outputs.clone())
    }

    /// A condition that only now is known: the chosen branch takes the node's place, where it gives the shapes that the
    /// graph was typed with.
    fn declutter(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        let Some(condition) = &model.outlet_fact(node.inputs[0])?.konst else { return Ok(None) };
        let (places, nested) = self.chosen(condition)?;
        let mut patch = TypedModelPatch::default();
        let taps = patch.taps(model, &node.inputs)?;
        let offered: TVec<OutletId> = places.iter().map(|&place| taps[place]).collect();
        let outputs = nested.inline(&node.name, &mut patch, &offered)?;
        for (slot, &output) in outputs.iter().enumerate() {
            if self.outputs[slot].shape != patch.outlet_fact(output)?.shape {
                return Ok(None);
            }
            patch.shunt_outside(model, OutletId::new(node.id, slot), output)?;
        }
        Ok(Some(patch))
    }

    fn codegen(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        if self.branches.iter().flatten().all(|(_, nested)| nested.is_planned()) {
            return Ok(None);
        }
        let planned = |branch: &Branch| -> TractResult<Branch> {
            Ok(match branch {
                Ok((places, nested)) => Ok((places.clone(), nested.planned()?)),
                Err(cause) => Err(cause.clone()),
            })
        };
        let [then, other] = &self.branches;
        let op = Self { branches: [planned(then)?, planned(other)?], outputs: self.outputs.clone() };
        Ok(Some(TypedModelPatch::replace_single_op(model, node, &node.inputs, op)?))
    }

    as_op!();
}

/// The condition's only value.
pub fn truth(condition: &Tensor) -> TractResult<bool> {
    ensure!(condition.len() == 1, "a condition of {} values", condition.len());
    condition.try_as_plain_ram()?.as_slice::<bool>()?.first().copied().context("a condition without a value")
}
