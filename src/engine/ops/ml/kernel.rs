//! Operators that are one function from input tensors to output tensors: all that tract wants of an operator, once.

use std::fmt::Debug;

use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::{as_op, op_as_typed_op, op_out_of_plan};
use tract_onnx::tract_hir::internal::*;

use super::Built;

/// Type and shape of a tensor; dimensions may be symbols.
pub type Facts = (DatumType, TVec<TDim>);

/// What an operator computes. It keeps no state from run to run.
pub trait Kernel: Debug + Send + Sync + 'static {
    /// The operator's name in ONNX.
    fn name(&self) -> &'static str;

    fn input_count(&self) -> usize {
        1
    }

    fn output_count(&self) -> usize {
        1
    }

    /// The type that an input of type `given` is cast to before `run` gets it.
    ///
    /// # Errors
    /// When the operator has no use for that type.
    fn input_type(&self, input: usize, given: DatumType) -> TractResult<DatumType>;

    /// Types and shapes of the outputs. The inputs' types are those after the cast.
    ///
    /// # Errors
    /// When inputs of these shapes don't fit the operator.
    fn outputs(&self, inputs: &[Facts]) -> TractResult<TVec<Facts>>;

    /// The outputs, as `outputs` promised them.
    ///
    /// # Errors
    /// When the inputs' values don't fit the operator.
    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>>;

    /// Whether each element of the output comes from the element of the input at the same place.
    fn is_element_wise(&self) -> bool {
        false
    }

    /// Bytes of the operator's own data, where that may be large.
    fn held_bytes(&self) -> u64 {
        0
    }
}

/// The kernel as a builder gives it to tract.
pub fn built(kernel: impl Kernel) -> Built {
    Ok((expand(KernelOp(Arc::new(kernel))), vec![]))
}

/// The address of the operator's own data and how many bytes they are; `None` for an operator that is no kernel or has
/// no data to speak of.
pub fn held_bytes(op: &dyn TypedOp) -> Option<(usize, u64)> {
    let kernel = &op.downcast_ref::<KernelOp>()?.0;
    let bytes = kernel.held_bytes();
    (bytes > 0).then(|| (Arc::as_ptr(kernel).cast::<()>() as usize, bytes))
}

#[derive(Debug, Clone)]
struct KernelOp(Arc<dyn Kernel>);

impl PartialEq for KernelOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for KernelOp {}

impl Expansion for KernelOp {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.0.output_count())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, self.0.input_count())?;
        check_output_arity(outputs, self.0.output_count())?;
        let types = inputs.iter().map(|input| &input.datum_type);
        solver.given_all(types, move |solver, types: Vec<DatumType>| {
            let shapes = inputs.iter().map(|input| &input.shape);
            solver.given_all(shapes, move |solver, shapes: Vec<TVec<TDim>>| {
                let facts = types.iter().copied().zip(shapes).enumerate();
                let facts = facts.map(|(input, (dt, shape))| Ok((self.0.input_type(input, dt)?, shape)));
                let promised = self.0.outputs(&facts.collect::<TractResult<Vec<Facts>>>()?)?;
                for (output, (dt, shape)) in outputs.iter().zip(promised) {
                    solver.equals(&output.datum_type, dt)?;
                    solver.equals(&output.shape, shape)?;
                }
                Ok(())
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let mut wanted = TVec::new();
        for (index, input) in inputs.iter().enumerate() {
            let given = model.outlet_fact(*input)?.datum_type;
            let dt = self.0.input_type(index, given)?;
            wanted.push(match dt == given {
                true => *input,
                false => model.wire_node(format!("{prefix}.cast.{index}"), cast(dt), &[*input])?[0],
            });
        }
        model.wire_node(prefix, self.clone(), &wanted)
    }
}

impl Op for KernelOp {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    op_as_typed_op!();
}

impl EvalOp for KernelOp {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.0.run(&inputs)
    }
}

impl TypedOp for KernelOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let facts: Vec<Facts> =
            inputs.iter().map(|fact| (fact.datum_type, fact.shape.iter().cloned().collect())).collect();
        Ok(self.0.outputs(&facts)?.into_iter().map(|(dt, shape)| dt.fact(shape)).collect())
    }

    fn axes_mapping(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        match self.0.is_element_wise() {
            true => AxesMapping::natural(inputs, outputs),
            false => AxesMapping::disconnected(inputs, outputs),
        }
    }

    as_op!();
}
