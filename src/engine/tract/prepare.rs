//! From a parsed graph to a model that serves: the first plan, the warm-up run, the symbolic plan, the batch axis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::NAME;
use super::builder::Builder;
use super::graph::{Graph, Plan};
use super::guard::Fault;
use super::model::{TractModel, declared_outputs, engine_inputs};
use super::plans::{PlanUse, Plans};
use crate::engine::closeness::is_close;
use crate::engine::deciding_inputs::{Deciding, GUESSES};
use crate::engine::ops::bounded::TOO_LARGE;
use crate::engine::sample::{self, Sizes, Style};
use crate::engine::warm_up::{self, Patience, Sample, shapes};
use crate::engine::{LoadError, RunError};
use crate::signature::{Batching, Signature, TensorSpec};
use crate::tensor::Tensor;

/// How far the symbolic plan may be from a concrete one, relative to the output's largest magnitude.
const SYMBOLIC_TOLERANCE: f64 = 1e-3;

/// Makes the model ready to serve. Blocks for some builds and some twenty runs. `builder` is for the plans that it earns
/// later.
///
/// # Errors
/// `Unsupported` when no plan can be made at any size.
pub fn prepare(
    graph: Graph,
    (inputs, outputs): (Vec<TensorSpec>, Vec<TensorSpec>),
    deciding: Deciding,
    builder: &Arc<Builder>,
) -> Result<TractModel, LoadError> {
    let signature = Signature { inputs, outputs, batching: Batching::Unproven("not looked for yet".into()) };
    let (axes, patience) = (warm_up::likely_axes(&signature.inputs), Patience::new());
    let mut workshop = Workshop { axes, signature, graph, patience };
    let start = match workshop.start() {
        Err(refused) if !deciding.positions.is_empty() => {
            workshop.graph.plan_by_values(deciding.positions.clone());
            workshop.start_by_values(&deciding.positions).ok_or(refused)?
        }
        start => start?,
    };
    let symbolic = workshop.symbolic(&start);
    let mut notes = vec![];
    if let Some(cause) = &start.failure {
        tracing::warn!(%cause, "the model did not run on made-up inputs");
        notes.push(warm_up::NOT_WARMED_UP.into());
    }
    let Workshop { graph, signature, axes, patience } = workshop;
    let is_chosen = deciding.chooses && graph.plans_by_values();
    let key = |inputs: &[Tensor]| graph.key(inputs).ok();
    let first = start.plan.as_ref().and_then(|(cost, plan)| Some((key(&start.inputs)?, *cost, plan.clone())));
    let plans = Plans::new(graph, first, symbolic, builder);
    let sample = Sample { axes, other: start.sizes.other, style: start.style };
    let mut model = TractModel { signature, notes, sample, plans };
    match is_chosen {
        true => model.signature.batching = Batching::Unproven("an input chooses what is computed".into()),
        false => prove_batch_axis(&mut model, &start, &patience),
    }
    Ok(model)
}

/// Proves the batch axis by running the model as it will serve.
fn prove_batch_axis(model: &mut TractModel, start: &Start, patience: &Patience) {
    let mut signature = model.signature.clone();
    warm_up::prove_batch_axis(&mut signature, start.sizes.other, shapes(&start.outputs), &mut |rows| {
        // The proof's three rows are no reason to build a plan for three.
        Ok(patience.run(|stop| model.run_on(PlanUse::Plain, rows, stop))?.tensors)
    });
    model.signature = signature;
}

/// What preparing needs to know of the model.
struct Workshop {
    graph: Graph,
    signature: Signature,
    /// The axis of each input where rows are looked for first.
    axes: Option<Vec<Option<usize>>>,
    patience: Patience,
}

/// Where the model was found to run.
struct Start {
    sizes: Sizes,
    style: Style,
    /// Inputs of these sizes and this style, which ran unless `failure` says why not.
    inputs: Vec<Tensor>,
    /// What the run gave; nothing if it failed.
    outputs: Vec<Tensor>,
    /// The plan for these inputs and the time it took to build; `None` where only a symbolic plan may work.
    plan: Option<(Duration, Plan)>,
    failure: Option<String>,
}

impl Workshop {
    /// Finds sizes at which a plan for one row can be built and runs.
    fn start(&self) -> Result<Start, LoadError> {
        let (mut built, mut refused) = (None, None);
        for other in self.other_sizes() {
            if self.patience.is_over() {
                break;
            }
            let sizes = Sizes { rows: 1, other };
            let inputs = self.inputs(sizes, Style::Signed);
            let begun = Instant::now();
            let plan = match self.concrete(&inputs) {
                Ok(plan) => (begun.elapsed(), plan),
                Err(fault) => {
                    refused.get_or_insert(fault);
                    continue;
                }
            };
            let mut failure = None;
            for style in warm_up::STYLES {
                let inputs = self.inputs(sizes, style);
                match self.run(&plan.1, &inputs) {
                    Ok(outputs) => {
                        return Ok(Start { sizes, style, inputs, outputs, plan: Some(plan), failure: None });
                    }
                    Err(error) => failure = failure.or(Some(error.to_string())),
                }
            }
            let style = Style::Signed;
            built.get_or_insert(Start { sizes, style, inputs, outputs: vec![], plan: Some(plan), failure });
        }
        match (built, refused) {
            (Some(start), _) => Ok(start),
            (None, refused) => self.start_without_plan(refused),
        }
    }

    /// Finds values of the inputs that decide shapes with which a plan can be built and runs: what a client will give is
    /// not known, but a graph that takes none of these guesses is not one that the engine can plan.
    fn start_by_values(&self, deciding: &[usize]) -> Option<Start> {
        let sizes = self.other_sizes().into_iter().flat_map(|other| GUESSES.map(|guess| (other, guess)));
        for (other, guess) in sizes {
            let (sizes, style) = (Sizes { rows: 1, other }, Style::Signed);
            let mut inputs = self.inputs(sizes, style);
            for &position in deciding {
                inputs[position] = guess.tensor(inputs[position].dtype(), inputs[position].shape());
            }
            let begun = Instant::now();
            let Ok(plan) = self.concrete(&inputs) else { continue };
            let plan = (begun.elapsed(), plan);
            if let Ok(outputs) = self.run(&plan.1, &inputs) {
                return Some(Start { sizes, style, inputs, outputs, plan: Some(plan), failure: None });
            }
        }
        None
    }

    fn concrete(&self, inputs: &[Tensor]) -> Result<Plan, Fault> {
        let key = self.graph.key(inputs).map_err(|error| Fault::Refused(error.to_string()))?;
        self.graph.concrete_for_made_up(&key)
    }

    /// Some graphs name dimensions inside their subgraphs, which only fit a symbolic plan.
    fn start_without_plan(&self, refused: Option<Fault>) -> Result<Start, LoadError> {
        let too_large = matches!(&refused, Some(Fault::Refused(cause)) if cause.contains(TOO_LARGE));
        if !too_large && let Ok(plan) = self.graph.symbolic() {
            for other in self.other_sizes() {
                let sizes = Sizes { rows: 1, other };
                let style = Style::Signed;
                let inputs = self.inputs(sizes, style);
                if let Ok(outputs) = self.run(&plan, &inputs) {
                    return Ok(Start { sizes, style, inputs, outputs, plan: None, failure: None });
                }
            }
        }
        let cause = refused.map_or_else(|| "no sizes to try".into(), |fault| fault.into_cause("preparing the graph"));
        Err(LoadError::Unsupported { engine: NAME, cause })
    }

    /// A symbolic plan, if it gives what concrete plans give: for one row where the model started, and for three rows
    /// at other sizes. Such a plan may build and then fail, or fail at every size but one.
    fn symbolic(&self, start: &Start) -> Option<Plan> {
        if !self.varies() || self.graph.plans_by_values() || self.patience.is_over() {
            return None;
        }
        let symbolic = self.graph.symbolic().ok()?;
        let outputs = self.run(&symbolic, &start.inputs).ok()?;
        if start.plan.is_none() {
            return Some(symbolic);
        }
        if start.failure.is_some() || !all_close(&outputs, &start.outputs) {
            return None;
        }
        // The first other size at which a concrete plan runs decides.
        let others = self.other_sizes().into_iter().filter(|other| *other != start.sizes.other);
        let sizes = others.chain([start.sizes.other]).map(|other| Sizes { rows: 3, other });
        for inputs in sizes.map(|sizes| self.inputs(sizes, Style::Signed)) {
            let concrete = self.concrete(&inputs).ok();
            let Some(expected) = concrete.and_then(|plan| self.run(&plan, &inputs).ok()) else { continue };
            let agrees = self.run(&symbolic, &inputs).is_ok_and(|outputs| all_close(&outputs, &expected));
            return agrees.then_some(symbolic);
        }
        None
    }

    fn run(&self, plan: &Plan, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let inputs = engine_inputs(&self.signature.inputs, inputs)?;
        let outputs = self.patience.run(|stop| plan.run(inputs, stop))?;
        declared_outputs(&self.signature.outputs, &outputs)
    }

    fn inputs(&self, sizes: Sizes, style: Style) -> Vec<Tensor> {
        sample::inputs_along(&self.signature.inputs, self.axes.as_deref(), sizes, style)
    }

    fn varies(&self) -> bool {
        let sizes = [Sizes { rows: 1, other: 1 }, Sizes { rows: 2, other: 2 }];
        warm_up::varies(&self.signature.inputs, self.axes.as_deref(), sizes)
    }

    /// The sizes that make a difference.
    fn other_sizes(&self) -> Vec<usize> {
        warm_up::other_sizes(&self.signature.inputs, self.axes.as_deref())
    }
}

fn all_close(got: &[Tensor], expected: &[Tensor]) -> bool {
    got.len() == expected.len() && got.iter().zip(expected).all(|(a, b)| is_close(a, b, SYMBOLIC_TOLERANCE))
}
