//! What operators have in common that compute whole tensors from whole tensors and keep nothing from run to run.

use std::fmt::Debug;

use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_core::{as_op, op_as_typed_op, op_out_of_plan};
use tract_onnx::tract_hir::internal::*;

use super::Built;

/// Such an operator. Each says only what it is called, what it makes of shapes, and what it makes of values.
pub trait Kernel: Debug + Send + Sync + 'static {
    /// Its name in errors and plans.
    fn name(&self) -> &'static str;

    /// How many outputs the node has.
    fn outputs(&self) -> usize {
        1
    }

    /// The types and shapes of the outputs for those of the inputs; an input known at load has its value in its fact.
    ///
    /// # Errors
    /// Inputs that don't fit the operator, named.
    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>>;

    /// The outputs for inputs of which `facts` said nothing wrong.
    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>>;

    /// Which axes of the inputs are axes of the outputs, for tract's own optimisations; none where it isn't said.
    fn axes(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        AxesMapping::disconnected(inputs, outputs)
    }
}

/// What tract wants from a builder.
pub fn built(kernel: impl Kernel) -> Built {
    Ok((expand(Node(Arc::new(kernel))), vec![]))
}

/// Wires the operator into a typed model.
pub fn wire(
    kernel: impl Kernel,
    prefix: &str,
    model: &mut TypedModel,
    inputs: &[OutletId],
) -> TractResult<TVec<OutletId>> {
    model.wire_node(prefix, Node(Arc::new(kernel)), inputs)
}

/// The shape of what is made of two inputs element by element.
pub fn broadcast_shape(a: &TypedFact, b: &TypedFact) -> TractResult<TVec<TDim>> {
    multi_broadcast(&[&*a.shape.to_tvec(), &*b.shape.to_tvec()])
}

/// The integers of an input that decides shapes.
///
/// # Errors
/// An input that is not known at load, by `name`.
pub fn constant_ints(input: &TypedFact, name: &str) -> TractResult<Vec<i64>> {
    let value = input.konst.as_ref().with_context(|| format!("expected {name} as a constant"))?;
    Ok(value.cast_to::<i64>()?.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
}

#[derive(Debug)]
struct Node<K>(Arc<K>);

impl<K> Clone for Node<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> PartialEq for Node<K> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<K> Eq for Node<K> {}

impl<K: Kernel> Expansion for Node<K> {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.0.outputs())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, self.0.outputs())?;
        solver.given_all(inputs.iter().map(|input| &input.datum_type), move |solver, types| {
            solver.given_all(inputs.iter().map(|input| &input.shape), move |solver, shapes| {
                let facts: Vec<TypedFact> = types.iter().zip(&shapes).map(|(dt, shape)| dt.fact(shape)).collect();
                // Values are not known here. An operator that needs one says so when it is wired.
                let Ok(made) = self.0.facts(&facts.iter().collect::<Vec<_>>()) else { return Ok(()) };
                for (output, fact) in outputs.iter().zip(made) {
                    solver.equals(&output.datum_type, fact.datum_type)?;
                    solver.equals(&output.shape, fact.shape.iter().cloned().collect::<TVec<TDim>>())?;
                }
                Ok(())
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl<K: Kernel> Op for Node<K> {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    op_as_typed_op!();
}

impl<K: Kernel> EvalOp for Node<K> {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(self.0.eval(&inputs)?.into_iter().map(Tensor::into_tvalue).collect())
    }
}

impl<K: Kernel> TypedOp for Node<K> {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.0.facts(inputs)
    }

    fn axes_mapping(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        self.0.axes(inputs, outputs)
    }

    as_op!();
}
