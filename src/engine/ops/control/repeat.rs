//! `ai.onnx.Loop`: runs a graph again and again, each turn on what the last one gave.
//!
//! A value that turns carry on keeps its type and rank; a dimension that a turn changes is one that a run tells. What each
//! turn gives beside is stacked along a new first axis, whose length is known before a run where the number of turns is.

use std::collections::HashSet;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::{as_op, not_a_typed_op, not_out_of_plan, op_as_typed_op};
use tract_onnx::tract_hir::internal::*;

use super::super::Built;
use super::body::Body;
use super::branch::Fresh;
use super::nested::Nested;
use super::watch::Watch;

/// Most bytes of what the turns of one loop give beside what they carry on.
const MAX_STACKED_BYTES: usize = 1 << 30;
/// Inputs of the body before what turns carry on: the turn's number and the condition.
const LEADING: usize = 2;

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let (body, closure) = Body::parse(context, node, "body")?;
    let given = |index: usize| node.input.get(index).is_some_and(|name| !name.is_empty());
    let carried = node.input.get(LEADING..).unwrap_or_default();
    ensure!(carried.iter().all(|name| !name.is_empty()), "Loop lacks the first value of what its turns carry on");
    ensure!(
        body.declared() == LEADING + carried.len(),
        "Loop's body takes {} values, its turns carry on {}",
        body.declared(),
        carried.len()
    );
    let stacked = body.outputs().checked_sub(1 + carried.len());
    let stacked = stacked.context("Loop's body gives fewer values than its turns carry on")?;
    ensure!(node.output.len() <= carried.len() + stacked, "Loop has more outputs than its body gives");
    let form = Form {
        has_limit: given(0),
        has_condition: given(1),
        carried: carried.len(),
        stacked,
        outputs: (0..node.output.len()).filter(|&slot| !node.output[slot].is_empty()).collect(),
    };
    let symbols = (0..body.outputs()).map(|_| Fresh::of(context)).collect();
    let turns = context.template.symbols.new_with_prefix("turns");
    Ok((Box::new(Loop { body, form, symbols, turns, known: None }), closure))
}

/// What the node's inputs and outputs are.
#[derive(Debug, Clone)]
struct Form {
    has_limit: bool,
    has_condition: bool,
    carried: usize,
    stacked: usize,
    /// Which of the outputs the node has.
    outputs: TVec<usize>,
}

impl Form {
    /// Where among the node's inputs the first carried value is.
    fn first_carried(&self) -> usize {
        usize::from(self.has_limit) + usize::from(self.has_condition)
    }

    fn limit<'a, T>(&self, inputs: &'a [T]) -> Option<&'a T> {
        inputs.first().filter(|_| self.has_limit)
    }

    fn condition<'a, T>(&self, inputs: &'a [T]) -> Option<&'a T> {
        inputs.get(usize::from(self.has_limit)).filter(|_| self.has_condition)
    }

    fn outputs<T: Clone>(&self, all: &[T]) -> TVec<T> {
        self.outputs.iter().map(|&slot| all[slot].clone()).collect()
    }
}

#[derive(Debug, Clone)]
struct Loop {
    body: Body,
    form: Form,
    /// For the dimensions of each of the body's outputs.
    symbols: TVec<Fresh>,
    /// The number of turns.
    turns: Symbol,
    /// What the analysis last said, and of which inputs.
    known: Option<(TVec<InferenceFact>, TVec<InferenceFact>)>,
}

impl PartialEq for Loop {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Loop {}

impl Op for Loop {
    fn name(&self) -> StaticName {
        "Loop".into()
    }

    not_a_typed_op!();
}

impl EvalOp for Loop {
    not_out_of_plan!();
}

impl Loop {
    /// What the body gets: the turn's number, a condition that holds, for else there is no turn, and then `carried` and
    /// the outer values.
    fn offered<T: Clone>(&self, leading: [T; LEADING], carried: &[T], inputs: &[T]) -> Vec<T> {
        let closure = &inputs[self.form.first_carried() + self.form.carried..];
        leading.iter().chain(carried).chain(closure).cloned().collect()
    }

    fn carried<'a, T>(&self, inputs: &'a [T]) -> &'a [T] {
        let first = self.form.first_carried();
        &inputs[first..first + self.form.carried]
    }

    /// The body for the shapes that hold at every turn.
    fn settled(&self, inputs: &[TypedFact]) -> TractResult<Nested> {
        let carried = self.carried(inputs).iter().map(TypedFact::without_value);
        let mut carried: Vec<TypedFact> = carried.collect();
        let dims: usize = carried.iter().map(|fact| fact.rank()).sum();
        for _ in 0..=dims {
            let leading = [i64::scalar_fact(), TypedFact::try_from(tensor0(true))?];
            let nested = self.body.typed(&self.offered(leading, &carried, inputs))?;
            let mut settled = true;
            for (index, fact) in carried.iter_mut().enumerate() {
                let after = nested.output_fact(1 + index)?;
                ensure!(
                    after.datum_type == fact.datum_type && after.rank() == fact.rank(),
                    "a turn of Loop makes {after:?} of carried value {index}, which is {fact:?}"
                );
                for axis in 0..fact.rank() {
                    let general = self.symbols[1 + index].axis(axis)?;
                    if fact.shape[axis] != after.shape[axis] && fact.shape[axis] != general {
                        fact.shape.set(axis, general);
                        settled = false;
                    }
                }
            }
            if settled {
                return Ok(nested);
            }
        }
        bail!("the shapes of what Loop's turns carry on don't settle")
    }

    /// The number of turns where it is known. `goes_on` is the condition after each turn.
    fn turns(&self, inputs: &[InferenceFact], goes_on: &InferenceFact) -> TractResult<Option<TDim>> {
        let is_true = |fact: &InferenceFact| -> TractResult<bool> {
            let value = fact.value.concretize();
            Ok(value.map(|value| value.cast_to_scalar::<bool>()).transpose()?.unwrap_or(false))
        };
        let begins = self.form.condition(inputs).map(is_true).transpose()?.unwrap_or(true);
        let limit = self.form.limit(inputs).and_then(|limit| limit.value.concretize());
        match limit {
            Some(limit) if begins && is_true(goes_on)? && limit.len() == 1 => {
                let limit = limit.cast_to::<TDim>()?;
                let limit = limit.try_as_plain_ram()?.as_slice::<TDim>()?[0].clone();
                Ok(Some(if limit.as_i64().is_some_and(|limit| limit < 0) { 0.to_dim() } else { limit }))
            }
            _ => Ok(None),
        }
    }

    fn analysed(&self, inputs: &[InferenceFact]) -> TractResult<TVec<InferenceFact>> {
        let carried: Vec<InferenceFact> =
            self.carried(inputs).iter().map(|fact| fact.clone().without_value()).collect();
        let unknown = || (0..self.form.carried + self.form.stacked).map(|_| InferenceFact::default()).collect();
        if carried.iter().any(|fact| fact.datum_type.concretize().is_none() || fact.shape.is_open()) {
            return Ok(self.form.outputs(&TVec::from_vec(unknown())));
        }
        // With ranks alone, for a turn may change any dimension.
        let by_rank = |fact: &InferenceFact| {
            let rank = fact.shape.rank().concretize().unwrap_or(0).unsigned_abs() as usize;
            fact.clone().with_shape(ShapeFactoid::closed(tvec![GenericFactoid::Any; rank]))
        };
        let leading = || -> TractResult<_> {
            Ok([InferenceFact::dt_shape(i64::datum_type(), ShapeFactoid::closed(tvec![])), tensor0(true).into()])
        };
        let general: Vec<InferenceFact> = carried.iter().map(by_rank).collect();
        let exact = self.body.analysed(&self.offered(leading()?, &carried, inputs));
        let is_stable = |after: &[InferenceFact]| {
            carried.iter().zip(&after[1..]).all(|(before, after)| before.shape == after.shape)
        };
        let (before, after) = match exact {
            Ok(after) if is_stable(&after) => (carried, after),
            _ => match self.body.analysed(&self.offered(leading()?, &general, inputs)) {
                Ok(after) => (general, after),
                Err(_) => return Ok(self.form.outputs(&TVec::from_vec(unknown()))),
            },
        };
        let turns = self.turns(inputs, &after[0])?.map_or(GenericFactoid::Any, GenericFactoid::Only);
        let mut outputs: TVec<InferenceFact> = before.into();
        for fact in &after[1 + self.form.carried..] {
            let mut stacked = InferenceFact { datum_type: fact.datum_type, ..InferenceFact::default() };
            if !fact.shape.is_open() {
                stacked.shape =
                    ShapeFactoid::closed([turns.clone()].into_iter().chain(fact.shape.dims().cloned()).collect());
            }
            outputs.push(stacked);
        }
        Ok(self.form.outputs(&outputs))
    }

    fn output_facts(&self, inputs: &[TypedFact], body: &Nested, turns: TDim) -> TractResult<TVec<TypedFact>> {
        let known: HashSet<Symbol> =
            inputs.iter().flat_map(|fact| fact.shape.iter()).flat_map(|dim| dim.symbols()).collect();
        let mut outputs = tvec![];
        for index in 1..self.symbols.len() {
            let fact = body.output_fact(index)?;
            // A symbol that is the body's own means nothing outside.
            let dim = |(axis, dim): (usize, &TDim)| {
                let is_known = dim.symbols().iter().all(|symbol| known.contains(symbol));
                if is_known { Ok(dim.clone()) } else { self.symbols[index].axis(axis) }
            };
            let mut shape = fact.shape.iter().enumerate().map(dim).collect::<TractResult<TVec<_>>>()?;
            if index > self.form.carried {
                shape.insert(0, turns.clone());
            }
            outputs.push(fact.datum_type.fact(shape));
        }
        Ok(outputs)
    }
}

impl InferenceOp for Loop {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        let inputs: TVec<InferenceFact> = inputs.into_iter().cloned().collect();
        ensure!(inputs.len() >= self.form.first_carried() + self.form.carried, "Loop lacks inputs");
        let said = match &self.known {
            Some((of, said)) if *of == inputs => said.clone(),
            _ => self.analysed(&inputs)?,
        };
        let outputs = outputs.into_iter().zip(&said).map(|(outer, said)| outer.unify(said));
        let outputs = outputs.collect::<TractResult<TVec<_>>>()?;
        self.known = Some((inputs.clone(), said));
        Ok((inputs, outputs, observed.into_iter().cloned().collect()))
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.form.outputs.len())
    }

    fn to_typed(
        &self,
        _: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let mut inputs: TVec<OutletId> = node.inputs.iter().map(|input| mapping[input]).collect();
        let known: Vec<InferenceFact> = inputs
            .iter()
            .map(|&input| target.outlet_fact(input).map(InferenceFact::from))
            .collect::<TractResult<_>>()?;
        let first_closure = self.form.first_carried() + self.form.carried;
        for (index, input) in inputs.iter_mut().enumerate().take(first_closure) {
            // The limit and the body are for plain integers, not for tract's symbolic ones.
            if target.outlet_fact(*input)?.datum_type.is_tdim() {
                let name = format!("{}.input{index}.plain", node.name);
                *input = target.wire_node(name, cast(i64::datum_type()), &[*input])?[0];
            }
        }
        let facts = inputs.iter().map(|&input| target.outlet_fact(input).cloned()).collect::<TractResult<Vec<_>>>()?;
        let body = self.settled(&facts)?;
        let turns = self.turns(&known, &InferenceFact::from(body.output_fact(0)?))?;
        let outputs = self.output_facts(&facts, &body, turns.unwrap_or_else(|| self.turns.to_dim()))?;
        target.wire_node(&node.name, Repeat { body, form: self.form.clone(), outputs }, &inputs)
    }

    as_op!();
}

/// A Loop of known types and ranks.
#[derive(Debug, Clone)]
pub struct Repeat {
    body: Nested,
    form: Form,
    /// Of all that the body gives but the condition.
    outputs: TVec<TypedFact>,
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
