//! `ai.onnx.Loop`: runs a graph again and again, each turn on what the last one gave.
//!
//! A value that turns carry on keeps its type and rank; a dimension that a turn changes is one that a run tells. What each
//! turn gives beside is stacked along a new first axis, whose length is known before a run where the number of turns is.
//! Without a turn, dimensions that are known stay as they are, which ONNX leaves open; ONNX Runtime gives 0 for those that
//! the file doesn't number.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::{as_op, not_a_typed_op, not_out_of_plan};
use tract_onnx::tract_hir::internal::*;

use super::super::Built;
use super::body::Body;
use super::nested::Nested;
use super::symbols::{Fresh, symbols};
use super::turns::{Form, Repeat};

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

/// A Loop as it was parsed.
#[derive(Debug, Clone)]
pub struct Loop {
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
    pub fn graph(&self) -> &InferenceModel {
        self.body.graph()
    }

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
        let known = symbols(inputs);
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::super::testing::{planned, run_graph};
    use super::super::testing::{graph, node, with_float, with_graph, with_int};
    use super::super::{Watch, eval};
    use super::*;
    use tract_onnx::pb::GraphProto;

    /// A graph of one Loop, written as a node is, with this body.
    fn looped(inputs: &str, call: &str, body: GraphProto, outputs: &str) -> GraphProto {
        graph(inputs, vec![with_graph(node(call), "body", body)], outputs)
    }

    /// Adds the outer `x` to what is carried, and gives it negated.
    fn adding() -> GraphProto {
        let nodes = vec![node("on = Identity(c)"), node("after = Add(s, x)"), node("given = Neg(after)")];
        graph("i:i c:b s:f", nodes, "on after given")
    }

    #[test]
    fn turns_carry_on_and_what_they_give_is_stacked() {
        let run = |turns: i64| {
            let graph = looped("n:i x:f", "y ys = Loop(n, , x)", adding(), "y ys");
            run_graph(graph, &[tensor0(turns), tensor1(&[1f32, 2.0])]).unwrap()
        };
        assert_eq!(run(2), [tensor1(&[3f32, 6.0]), tensor2(&[[-2f32, -4.0], [-3.0, -6.0]])]);
        let none = run(0);
        assert_eq!(none[0], tensor1(&[1f32, 2.0]));
        assert_eq!(none[1].shape(), [0, 2]);
        assert_eq!(run(-1)[1].shape(), [0, 2]);
    }

    #[test]
    fn a_condition_ends_the_turns_before_the_limit() {
        let nodes = vec![node("after = Add(s, s)"), node("on = Less(after, most)")];
        let body = with_float(graph("i:i c:b s:f", nodes, "on after"), "most", 5.0);
        let run = |condition: bool| {
            let graph = looped("c0:b x:f", "y = Loop(, c0, x)", body.clone(), "y");
            run_graph(graph, &[tensor0(condition), tensor0(1f32)]).unwrap().remove(0)
        };
        assert_eq!(run(true), tensor0(8f32));
        assert_eq!(run(false), tensor0(1f32));
    }

    #[test]
    fn a_carried_dimension_may_grow() {
        let nodes = vec![node("on = Identity(c)"), with_int(node("after = Concat(s, x)"), "axis", 0)];
        let body = graph("i:i c:b s:f", nodes, "on after");
        let graph = looped("n:i x:f", "y = Loop(n, , x)", body, "y");
        let y = run_graph(graph, &[tensor0(3i64), tensor1(&[1f32])]).unwrap();
        assert_eq!(y, [tensor1(&[1f32; 4])]);
    }

    #[test]
    fn loops_lie_in_each_other_and_are_planned_with_the_plan() {
        let inner = with_graph(node("after inner = Loop(i, , s)"), "body", adding());
        let body = graph("i:i c:b s:f", vec![node("on = Identity(c)"), inner], "on after");
        let graph = looped("n:i x:f", "y = Loop(n, , x)", body, "y");
        let inputs = [tensor0(4i64), tensor1(&[1f32])];
        // 0 + 1 + 2 + 3 additions.
        assert_eq!(run_graph(graph.clone(), &inputs).unwrap(), [tensor1(&[7f32])]);
        let plan = planned(graph, &inputs).unwrap();
        let outer = plan.model().nodes.iter().find_map(|node| node.op_as::<Repeat>()).unwrap();
        let inner = outer.graph().nodes.iter().find_map(|node| node.op_as::<Repeat>()).unwrap();
        assert!(outer.body.is_planned() && inner.body.is_planned());
    }

    #[test]
    fn an_endless_loop_ends_when_it_is_stopped() {
        let body = graph("i:i c:b s:f", vec![node("on = Identity(c)"), node("after = Neg(s)")], "on after");
        let endless = looped("x:f", "y = Loop(, , x)", body, "y");
        let inputs = [tensor0(1f32)];
        let plan = planned(endless, &inputs).unwrap();
        let asked = Cell::new(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() > 100
        };
        let watch = Watch::new(&stop);
        let values = inputs.iter().map(|input| input.clone().into_tvalue()).collect();
        let mut state = plan.spawn().unwrap();
        let ran =
            state.run_plan_with_eval(values, |context, state, node, inputs| eval(context, state, node, inputs, &watch));
        assert!(format!("{:#}", ran.unwrap_err()).contains("stopped"));
        assert_eq!(asked.get(), 101);
    }

    #[test]
    fn bodies_that_do_not_fit_their_node_are_refused() {
        let refused = |call: &str, body: GraphProto| {
            let graph = looped("n:i x:f", call, body, "y");
            format!("{:#}", run_graph(graph, &[tensor0(1i64), tensor1(&[1f32])]).unwrap_err())
        };
        assert!(refused("y = Loop(n, )", adding()).contains("body takes 3 values"));
        assert!(refused("y a b = Loop(n, , x)", adding()).contains("more outputs"));
        assert!(refused("y = Loop(n, , )", adding()).contains("lacks the first value"));
        let nodes = vec![node("on = Identity(c)"), node("after = Shape(s)")];
        assert!(refused("y = Loop(n, , x)", graph("i:i c:b s:f", nodes, "on after")).contains("a turn of Loop makes"));
    }
}
