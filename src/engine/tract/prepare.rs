//! From a parsed graph to a model that serves: the first plan, the warm-up run, the symbolic plan, the batch axis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::NAME;
use super::builder::Builder;
use super::graph::{Graph, Plan};
use super::guard::Fault;
use super::model::{Sample, TractModel, declared_outputs, engine_inputs};
use super::plans::{PlanUse, Plans};
use crate::engine::batch_axis::{Candidate, candidates, prove};
use crate::engine::closeness::is_close;
use crate::engine::deciding_inputs::GUESSES;
use crate::engine::sample::{self, Sizes, Style, USUAL_SIZE};
use crate::engine::{LoadError, RunError, declared_shapes};
use crate::signature::{Batching, Signature, TensorSpec};
use crate::tensor::Tensor;

/// Sizes tried for dimensions that vary and are not the batch, until one runs: a short sequence or a small image, the
/// usual image, a frame of audio, and then what odd graphs want.
const OTHER_SIZES: [usize; 7] = [USUAL_SIZE, 64, 224, 576, 1, 8, 2];
/// Values tried at each size.
const WARM_UP_STYLES: [Style; 3] = [Style::Signed, Style::Zeros, Style::Ones];
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
    deciding: Vec<usize>,
    builder: &Arc<Builder>,
) -> Result<TractModel, LoadError> {
    let signature = Signature { inputs, outputs, batching: Batching::Unproven("not looked for yet".into()) };
    let mut workshop = Workshop {
        axes: candidates(&signature.inputs).into_iter().next().map(|Candidate { axes, .. }| axes),
        signature,
        graph,
    };
    let start = match workshop.start() {
        Err(refused) if !deciding.is_empty() => {
            workshop.graph.plan_by_values(deciding.clone());
            workshop.start_by_values(&deciding).ok_or(refused)?
        }
        start => start?,
    };
    let symbolic = workshop.symbolic(&start);
    let mut notes = vec![];
    if let Some(cause) = &start.failure {
        tracing::warn!(%cause, "the model did not run on made-up inputs");
        notes.push("not warmed up: it ran on none of the inputs made up for it; the log has the cause".into());
    }
    let Workshop { graph, signature, axes } = workshop;
    let key = |inputs: &[Tensor]| graph.key(inputs).ok();
    let first = start.plan.as_ref().and_then(|(cost, plan)| Some((key(&start.inputs)?, *cost, plan.clone())));
    let plans = Plans::new(graph, first, symbolic, builder);
    let sample = Sample { axes, other: start.sizes.other, style: start.style };
    let mut model = TractModel { signature, notes, sample, plans };
    prove_batch_axis(&mut model, &start);
    Ok(model)
}

/// Proves the batch axis by running the model as it will serve, and corrects the declared outputs by what it gave.
fn prove_batch_axis(model: &mut TractModel, start: &Start) {
    let mut observed = vec![start.output_shapes.clone()];
    let (inputs, outputs) = (&model.signature.inputs, &model.signature.outputs);
    let (batching, dim) = prove(inputs, outputs, start.sizes.other, &mut |rows| {
        // The proof's three rows are no reason to build a plan for three.
        let tensors = model.run_on(PlanUse::Plain, rows, &|| false)?.tensors;
        observed.push(shapes(&tensors));
        Ok(tensors)
    });
    declared_shapes::correct(&mut model.signature.outputs, &observed, &batching, dim.as_deref());
    model.signature.batching = batching;
}

/// What preparing needs to know of the model.
struct Workshop {
    graph: Graph,
    signature: Signature,
    /// The axis of each input where rows are looked for first.
    axes: Option<Vec<Option<usize>>>,
}

/// Where the model was found to run.
struct Start {
    sizes: Sizes,
    style: Style,
    /// Inputs of these sizes and this style, which ran unless `failure` says why not.
    inputs: Vec<Tensor>,
    /// What the run gave; nothing if it failed.
    output_shapes: Vec<Vec<usize>>,
    /// The plan for these inputs and the time it took to build; `None` where only a symbolic plan may work.
    plan: Option<(Duration, Plan)>,
    failure: Option<String>,
}

impl Workshop {
    /// Finds sizes at which a plan for one row can be built and runs.
    fn start(&self) -> Result<Start, LoadError> {
        let (mut built, mut refused) = (None, None);
        for other in self.other_sizes() {
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
            for style in WARM_UP_STYLES {
                let inputs = self.inputs(sizes, style);
                match self.run(&plan.1, &inputs) {
                    Ok(outputs) => {
                        let output_shapes = shapes(&outputs);
                        return Ok(Start { sizes, style, inputs, output_shapes, plan: Some(plan), failure: None });
                    }
                    Err(error) => failure = failure.or(Some(error.to_string())),
                }
            }
            let style = Style::Signed;
            built.get_or_insert(Start { sizes, style, inputs, output_shapes: vec![], plan: Some(plan), failure });
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
                let output_shapes = shapes(&outputs);
                return Some(Start { sizes, style, inputs, output_shapes, plan: Some(plan), failure: None });
            }
        }
        None
    }

    fn concrete(&self, inputs: &[Tensor]) -> Result<Plan, Fault> {
        let key = self.graph.key(inputs).map_err(|error| Fault::Refused(error.to_string()))?;
        self.graph.concrete(&key)
    }

    /// Some graphs name dimensions inside their subgraphs, which only fit a symbolic plan.
    fn start_without_plan(&self, refused: Option<Fault>) -> Result<Start, LoadError> {
        if let Ok(plan) = self.graph.symbolic() {
            for other in self.other_sizes() {
                let sizes = Sizes { rows: 1, other };
                let style = Style::Signed;
                let inputs = self.inputs(sizes, style);
                if let Ok(outputs) = self.run(&plan, &inputs) {
                    let output_shapes = shapes(&outputs);
                    return Ok(Start { sizes, style, inputs, output_shapes, plan: None, failure: None });
                }
            }
        }
        let cause = refused.map_or_else(|| "no sizes to try".into(), |fault| fault.into_cause("preparing the graph"));
        Err(LoadError::Unsupported { engine: NAME, cause })
    }

    /// A symbolic plan, if it gives what concrete plans give: for one row where the model started, and for three rows
    /// at other sizes. Such a plan may build and then fail, or fail at every size but one.
    fn symbolic(&self, start: &Start) -> Option<Plan> {
        if !self.varies() || self.graph.plans_by_values() {
            return None;
        }
        let symbolic = self.graph.symbolic().ok()?;
        let outputs = self.run(&symbolic, &start.inputs).ok()?;
        let Some((_, plan)) = &start.plan else { return Some(symbolic) };
        let expected = self.run(plan, &start.inputs).ok()?;
        if !all_close(&outputs, &expected) {
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
        let outputs = plan.run(engine_inputs(&self.signature.inputs, inputs)?, &|| false)?;
        declared_outputs(&self.signature.outputs, &outputs)
    }

    fn inputs(&self, sizes: Sizes, style: Style) -> Vec<Tensor> {
        sample::inputs_along(&self.signature.inputs, self.axes.as_deref(), sizes, style)
    }

    fn varies(&self) -> bool {
        let one = Sizes { rows: 1, other: 1 };
        let two = Sizes { rows: 2, other: 2 };
        self.shapes(one) != self.shapes(two)
    }

    /// The sizes that make a difference.
    fn other_sizes(&self) -> Vec<usize> {
        let varies = self.shapes(Sizes { rows: 1, other: 1 }) != self.shapes(Sizes { rows: 1, other: 2 });
        if varies { OTHER_SIZES.to_vec() } else { OTHER_SIZES[..1].to_vec() }
    }

    fn shapes(&self, sizes: Sizes) -> Vec<Vec<usize>> {
        let axis = |input: usize| self.axes.as_ref().and_then(|axes| axes[input]);
        let specs = self.signature.inputs.iter().enumerate();
        specs.map(|(input, spec)| sample::shape(spec, axis(input), sizes)).collect()
    }
}

fn shapes(tensors: &[Tensor]) -> Vec<Vec<usize>> {
    tensors.iter().map(|tensor| tensor.shape().to_vec()).collect()
}

fn all_close(got: &[Tensor], expected: &[Tensor]) -> bool {
    got.len() == expected.len() && got.iter().zip(expected).all(|(a, b)| is_close(a, b, SYMBOLIC_TOLERANCE))
}
