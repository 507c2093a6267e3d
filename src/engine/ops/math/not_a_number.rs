//! What is not a number stays none: tract's greatest and least of two numbers pass it over, and its Sigmoid, Silu and Tanh take it
//! for the least number. Relu and Clip are made of the first two.

use tract_onnx::tract_core::op_as_typed_op;
use tract_onnx::tract_core::ops::binary::{BinMiniOp, OptBinByScalar, OptBinChain, OptBinUnicast, TypedBinOp};
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::{Add, Div, Max, Min, Mul, Sub};
use tract_onnx::tract_hir::internal::*;

/// Numbers that are looked at together.
const TOGETHER: usize = 256;

/// Has those of an optimised plan that are of floats give no number where they get none.
pub fn keep_not_a_number(model: &mut TypedModel) {
    for node in &mut model.nodes {
        let is_float = node.outputs.len() == 1 && node.outputs[0].fact.datum_type.is_float();
        if is_float && passes_over(&*node.op) {
            node.op = Box::new(Keeping(node.op.clone()));
        }
    }
}

fn passes_over(op: &dyn TypedOp) -> bool {
    let picks = |op: &dyn BinMiniOp| op.is::<Max>() || op.is::<Min>();
    let counts = |op: &dyn BinMiniOp| op.is::<Add>() || op.is::<Sub>() || op.is::<Mul>() || op.is::<Div>();
    if let Some(op) = op.downcast_ref::<TypedBinOp>() {
        return picks(&*op.0);
    }
    if let Some(op) = op.downcast_ref::<OptBinByScalar>() {
        return picks(&*op.binop);
    }
    if let Some(op) = op.downcast_ref::<OptBinUnicast>() {
        return picks(&*op.binop);
    }
    if let Some(op) = op.downcast_ref::<OptBinChain>() {
        let mut steps = op.steps.iter().map(|step| &*step.binop);
        return steps.clone().any(picks) && steps.all(|step| picks(step) || counts(step));
    }
    op.downcast_ref::<ElementWiseOp>().is_some_and(|op| matches!(op.0.name().as_str(), "Sigmoid" | "Silu" | "Tanh"))
}

/// Gives what the operator gives, and no number where one of its inputs is none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Keeping(Box<dyn TypedOp>);

impl Op for Keeping {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    op_as_typed_op!();
}

impl EvalOp for Keeping {
    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        EvalOp::eval(self, &EvalContext::out_of_plan(), inputs).map(Some)
    }

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let broken: TVec<TValue> = inputs.iter().filter(|input| has_none(input)).cloned().collect();
        let mut outputs = self.0.eval(context, inputs)?;
        if broken.is_empty() {
            return Ok(outputs);
        }
        let mut output = outputs.remove(0).into_tensor();
        for input in broken {
            let input = input.broadcast_to_shape(output.shape())?;
            match output.datum_type() {
                DatumType::F16 => carry_on::<f16>(&input, &mut output)?,
                DatumType::F64 => carry_on::<f64>(&input, &mut output)?,
                _ => carry_on::<f32>(&input, &mut output)?,
            }
        }
        Ok(tvec![output.into_tvalue()])
    }
}

impl TypedOp for Keeping {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.0.output_facts(inputs)
    }

    as_op!();
}

/// What is not a number is what is not equal to itself.
#[allow(clippy::eq_op, reason = "for every type of floats")]
fn is_none<T: PartialEq + Copy>(number: T) -> bool {
    number != number
}

/// Puts what is not a number where it was.
fn carry_on<T: Datum + Copy + PartialEq>(from: &Tensor, to: &mut Tensor) -> TractResult<()> {
    let from = from.try_as_plain_ram()?.as_slice::<T>()?;
    let mut view = to.try_as_plain_ram_mut()?;
    let to = view.as_slice_mut::<T>()?;
    to.iter_mut().zip(from).filter(|(_, from)| is_none(**from)).for_each(|(to, from)| *to = *from);
    Ok(())
}

/// Whether a value of floats holds what is not a number.
fn has_none(value: &TValue) -> bool {
    fn holds<T: Datum + Copy + PartialEq>(value: &TValue) -> bool {
        let Ok(view) = value.try_as_plain_ram() else { return false };
        let Ok(numbers) = view.as_slice::<T>() else { return false };
        numbers.chunks(TOGETHER).any(|some| some.iter().fold(false, |found, number| found | is_none(*number)))
    }
    match value.datum_type() {
        DatumType::F16 => holds::<f16>(value),
        DatumType::F32 => holds::<f32>(value),
        DatumType::F64 => holds::<f64>(value),
        _ => false,
    }
}
