//! A typed graph inside a node, which becomes a plan with the plan around it.

use tract_onnx::prelude::{TypedSimplePlan, TypedSimpleState};
use tract_onnx::tract_hir::internal::*;

use super::super::mend;
use super::watch::{Watch, eval};

/// A typed graph that takes some of its node's values.
#[derive(Debug, Clone)]
pub struct Nested {
    /// Which of the values offered to it are its inputs.
    inputs: TVec<usize>,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Graph(TypedModel),
    Plan(Arc<TypedSimplePlan>),
}

impl Nested {
    pub fn new(inputs: TVec<usize>, graph: TypedModel) -> Self {
        Self { inputs, form: Form::Graph(graph) }
    }

    pub fn graph(&self) -> &TypedModel {
        match &self.form {
            Form::Graph(graph) => graph,
            Form::Plan(plan) => plan.model(),
        }
    }

    pub fn is_planned(&self) -> bool {
        matches!(self.form, Form::Plan(_))
    }

    pub fn output_fact(&self, index: usize) -> TractResult<&TypedFact> {
        self.graph().output_fact(index)
    }

    /// The same, optimised and ready to run.
    pub fn planned(&self) -> TractResult<Self> {
        let form = match &self.form {
            Form::Graph(graph) => {
                let mut graph = graph.clone().into_optimized()?;
                mend(&mut graph)?;
                Form::Plan(TypedSimplePlan::new(graph)?)
            }
            Form::Plan(plan) => Form::Plan(Arc::clone(plan)),
        };
        Ok(Self { inputs: self.inputs.clone(), form })
    }

    /// Something that runs it again and again.
    pub fn runner(&self) -> TractResult<Runner<'_>> {
        let plan = match &self.planned()?.form {
            Form::Plan(plan) => Arc::clone(plan),
            Form::Graph(_) => bail!("a graph that was planned has no plan"),
        };
        let state = plan.spawn()?;
        let is_stateful = state.op_states.iter().any(Option::is_some);
        Ok(Runner { inputs: &self.inputs, plan, state, is_stateful })
    }

    /// Writes its nodes into another graph in its place. `offered` are the values that it chooses its inputs from.
    pub fn inline(&self, prefix: &str, target: &mut TypedModel, offered: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let graph = self.graph();
        let mut mapping: HashMap<OutletId, OutletId> = HashMap::default();
        for (source, &index) in graph.inputs.iter().zip(&self.inputs) {
            mapping.insert(*source, offered[index]);
        }
        for id in graph.eval_order()? {
            let node = graph.node(id);
            if mapping.contains_key(&OutletId::new(id, 0)) {
                continue;
            }
            let inputs = node.inputs.iter().map(|input| mapping[input]).collect::<TVec<_>>();
            let outputs = target.wire_node(format!("{prefix}.{}", node.name), node.op.clone(), &inputs)?;
            mapping.extend(outputs.into_iter().enumerate().map(|(slot, outlet)| (OutletId::new(id, slot), outlet)));
        }
        Ok(graph.outputs.iter().map(|output| mapping[output]).collect())
    }
}

/// Runs a nested graph. What one run leaves behind, the next doesn't see.
pub struct Runner<'a> {
    inputs: &'a [usize],
    plan: Arc<TypedSimplePlan>,
    state: TypedSimpleState,
    is_stateful: bool,
}

impl Runner<'_> {
    /// `offered` are the values that the graph chooses its inputs from; `symbols` is what the graph around it knows.
    pub fn run(&mut self, offered: &[TValue], symbols: &SymbolValues, watch: &Watch) -> TractResult<TVec<TValue>> {
        if self.is_stateful {
            // Recurrent operators keep their last state, which would be the next run's first.
            self.state = self.plan.spawn()?;
        }
        self.state.turn_state.resolved_symbols = symbols.clone();
        let inputs = self.inputs.iter().map(|&index| offered[index].clone()).collect();
        self.state.run_plan_with_eval(inputs, |context, state, node, inputs| eval(context, state, node, inputs, watch))
    }
}
