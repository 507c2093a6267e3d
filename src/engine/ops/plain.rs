//! Operators that are no more than a function from tensors to tensors: what they say of themselves is here made into
//! what tract wants of an operator at each of its stages.

use std::fmt::Debug;

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::{as_op, op_as_typed_op};
use tract_onnx::tract_hir::internal::*;

use super::Built;

/// A function from tensors to tensors. It keeps nothing from one call to the next.
pub trait Plain: Debug + Send + Sync + 'static {
    /// The operator's name in ONNX.
    fn name(&self) -> &'static str;

    /// Types and shapes of all the operator's outputs, the optional ones included. A dimension that only a run can tell
    /// is a symbol that the operator was given when it was built.
    ///
    /// # Errors
    /// Where the operator is not defined for these inputs.
    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>>;

    /// The values of all its outputs.
    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>>;

    /// Which axes of the inputs are axes of the outputs, for tract's own optimisations; none where it isn't said.
    ///
    /// # Errors
    /// tract's own.
    fn axes(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        AxesMapping::disconnected(inputs, outputs)
    }

    /// Bytes of its tables, where they may be large.
    fn held_bytes(&self) -> u64 {
        0
    }

    /// Whether `facts` holds symbols of the operator's own.
    fn mints_symbols(&self) -> bool {
        false
    }
}

/// The operator of a node, with the outputs that the node has: those that it leaves out are not given.
pub fn built(node: &NodeProto, op: impl Plain) -> Built {
    let outputs = node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()).map(|(slot, _)| slot).collect();
    Ok((expand(PlainOp { op: Arc::new(op), outputs }), vec![]))
}

/// The typed form of an operator that gives one output.
pub fn typed(op: Arc<dyn Plain>) -> Box<dyn TypedOp> {
    Box::new(PlainOp { op, outputs: tvec![0] })
}

/// Where such an operator keeps its tables and how many bytes they are; `None` for any other operator.
pub fn held_bytes(op: &dyn TypedOp) -> Option<(usize, u64)> {
    let plain = op.downcast_ref::<PlainOp>()?;
    Some((Arc::as_ptr(&plain.op).addr(), plain.op.held_bytes()))
}

#[derive(Debug, Clone)]
struct PlainOp {
    op: Arc<dyn Plain>,
    /// Which of the operator's outputs the node has, in their order.
    outputs: TVec<usize>,
}

impl PartialEq for PlainOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.op, &other.op) && self.outputs == other.outputs
    }
}

impl Eq for PlainOp {}

impl PlainOp {
    fn picked<T: Clone>(&self, all: &[T]) -> TractResult<TVec<T>> {
        let one = |&slot: &usize| all.get(slot).cloned();
        let picked = self.outputs.iter().map(one).collect::<Option<TVec<T>>>();
        picked.with_context(|| format!("{} has no more than {} outputs", self.op.name(), all.len()))
    }
}

impl Expansion for PlainOp {
    fn name(&self) -> StaticName {
        self.op.name().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.outputs.len())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, self.outputs.len())?;
        solver.given_all(inputs.iter().map(|input| &input.datum_type), move |solver, types| {
            solver.given_all(inputs.iter().map(|input| &input.shape), move |solver, shapes| {
                let facts: Vec<TypedFact> =
                    types.iter().zip(&shapes).map(|(datum_type, shape)| datum_type.fact(shape.as_slice())).collect();
                let facts = self.op.facts(&facts.iter().collect::<Vec<_>>())?;
                for (fact, output) in self.picked(&facts)?.into_iter().zip(outputs) {
                    solver.equals(&output.datum_type, fact.datum_type)?;
                    solver.equals(&output.shape, fact.shape.to_tvec())?;
                }
                Ok(())
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }

    fn runs_out_of_plan(&self) -> bool {
        !self.op.mints_symbols()
    }
}

impl Op for PlainOp {
    fn name(&self) -> StaticName {
        self.op.name().into()
    }

    fn mints_runtime_symbols(&self) -> bool {
        self.op.mints_symbols()
    }

    op_as_typed_op!();
}

impl EvalOp for PlainOp {
    /// What a symbol stands for is for a run to tell: a value found before would contradict it.
    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        if self.op.mints_symbols() {
            return Ok(None);
        }
        EvalOp::eval(self, &EvalContext::out_of_plan(), inputs).map(Some)
    }

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let outputs: Vec<TValue> = self.op.eval(&inputs)?.into_iter().map(IntoTValue::into_tvalue).collect();
        self.picked(&outputs)
    }
}

impl TypedOp for PlainOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.picked(&self.op.facts(inputs)?)
    }

    fn axes_mapping(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        self.op.axes(inputs, outputs)
    }

    as_op!();
}
