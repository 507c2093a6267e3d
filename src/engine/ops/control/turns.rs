//! The typed form of a Loop, and its turns.

use tract_onnx::tract_core::{as_op, not_out_of_plan, op_as_typed_op};
use tract_onnx::tract_hir::internal::*;

use super::nested::Nested;
use super::watch::Watch;

/// Most bytes of what the turns of one loop give beside what they carry on.
const MAX_STACKED_BYTES: usize = 1 << 30;

/// What the node's inputs and outputs are.
#[derive(Debug, Clone)]
pub struct Form {
    pub has_limit: bool,
    pub has_condition: bool,
    pub carried: usize,
    pub stacked: usize,
    /// Which of the outputs the node has.
    pub outputs: TVec<usize>,
}

impl Form {
    /// Where among the node's inputs the first carried value is.
    pub fn first_carried(&self) -> usize {
        usize::from(self.has_limit) + usize::from(self.has_condition)
    }

    /// The input that limits the turns.
    pub fn limit<'a, T>(&self, inputs: &'a [T]) -> Option<&'a T> {
        inputs.first().filter(|_| self.has_limit)
    }

    /// The input that says whether there is a first turn.
    pub fn condition<'a, T>(&self, inputs: &'a [T]) -> Option<&'a T> {
        inputs.get(usize::from(self.has_limit)).filter(|_| self.has_condition)
    }

    /// Those that the node has, of all outputs.
    pub fn outputs<T: Clone>(&self, all: &[T]) -> TVec<T> {
        self.outputs.iter().map(|&slot| all[slot].clone()).collect()
    }
}

/// A Loop of known types and ranks.
#[derive(Debug, Clone)]
pub struct Repeat {
    pub body: Nested,
    pub form: Form,
    /// Of all that the body gives but the condition.
    pub outputs: TVec<TypedFact>,
}

impl PartialEq for Repeat {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Repeat {}

impl Repeat {
    pub fn graph(&self) -> &TypedModel {
        self.body.graph()
    }

    /// Turns until the limit is reached or the condition fails.
    pub fn run(&self, symbols: &SymbolValues, inputs: &[TValue], watch: &Watch) -> TractResult<TVec<TValue>> {
        let Form { carried, stacked, .. } = self.form;
        let limit = self.form.limit(inputs).map(|limit| limit.cast_to_scalar::<i64>()).transpose()?;
        let condition = self.form.condition(inputs);
        let mut goes_on = condition.map(|condition| condition.cast_to_scalar::<bool>()).transpose()?.unwrap_or(true);
        let first = self.form.first_carried();
        let mut state: TVec<TValue> = inputs[first..first + carried].into();
        let closure = &inputs[first + carried..];
        let mut given: Vec<Vec<TValue>> = vec![vec![]; stacked];
        let (mut bytes, mut turn) = (0usize, 0i64);
        let mut runner = self.body.runner()?;
        while goes_on && limit.is_none_or(|limit| turn < limit) {
            watch.turn()?;
            let leading = [tensor0(turn).into_tvalue(), tensor0(true).into_tvalue()];
            let offered: TVec<TValue> = leading.into_iter().chain(state).chain(closure.iter().cloned()).collect();
            let mut outputs = runner.run(&offered, symbols, watch)?.into_iter();
            goes_on = outputs.next().context("Loop's body gives no condition")?.cast_to_scalar::<bool>()?;
            state = outputs.by_ref().take(carried).collect();
            for (given, value) in given.iter_mut().zip(outputs) {
                bytes = bytes.saturating_add(value.len().saturating_mul(value.datum_type().size_of()));
                ensure!(bytes <= MAX_STACKED_BYTES, "what Loop's turns give is more than {MAX_STACKED_BYTES} bytes");
                given.push(value);
            }
            turn += 1;
        }
        let facts = &self.outputs[carried..];
        let stacks = given.into_iter().zip(facts).map(|(values, fact)| stack(values, fact, symbols));
        let outputs = state.into_iter().map(Ok).chain(stacks).collect::<TractResult<TVec<_>>>()?;
        Ok(self.form.outputs(&outputs))
    }
}

/// The values of all turns, along a new first axis.
fn stack(values: Vec<TValue>, fact: &TypedFact, symbols: &SymbolValues) -> TractResult<TValue> {
    if values.is_empty() {
        // No turn has told what the shape within would have been.
        let dim = |dim: &TDim| dim.eval(symbols).to_usize().unwrap_or(0);
        let shape: TVec<usize> = [0].into_iter().chain(fact.shape.iter().skip(1).map(dim)).collect();
        return if fact.datum_type == String::datum_type() {
            Ok(tract_ndarray::ArrayD::<String>::default(&*shape).into_tvalue())
        } else {
            Ok(Tensor::zero_dt(fact.datum_type, &shape)?.into_tvalue())
        };
    }
    let raised = |value: TValue| -> TractResult<Tensor> {
        let mut tensor = value.into_tensor();
        tensor.insert_axis(0)?;
        Ok(tensor)
    };
    let tensors = values.into_iter().map(raised).collect::<TractResult<Vec<_>>>()?;
    Ok(Tensor::stack_tensors(0, &tensors).context("the turns of Loop give different shapes")?.into_tvalue())
}

impl Op for Repeat {
    fn name(&self) -> StaticName {
        "Loop".into()
    }

    fn mints_runtime_symbols(&self) -> bool {
        true
    }

    op_as_typed_op!();
}

impl EvalOp for Repeat {
    not_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.run(context.symbols, &inputs, &Watch::new(&|| false))
    }
}

impl TypedOp for Repeat {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.form.outputs(&self.outputs))
    }

    fn codegen(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        if self.body.is_planned() {
            return Ok(None);
        }
        let op = Self { body: self.body.planned()?, ..self.clone() };
        Ok(Some(TypedModelPatch::replace_single_op(model, node, &node.inputs, op)?))
    }

    as_op!();
}
