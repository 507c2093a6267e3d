//! A parsed model, and the plans that tract makes of it.

use std::cell::Cell;
use std::sync::Arc;

use tract_onnx::Onnx;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::{InferenceModel, InferenceModelExt, TValue, TVec, TypedModel, TypedSimplePlan};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::{
    DimFact, InferenceFact, IntoArcTensor, ShapeFactoid, TractResult, TypedFact, ensure, format_err,
};
use tract_onnx::tract_hir::ops::konst::Const;

use super::convert::to_tract;
use super::guard::{Fault, guarded};
use super::memory::Memory;
use super::plan_key::PlanKey;
use super::shared_weights::SharedWeights;
use crate::engine::ops::control::{Watch, begin_anew, eval, plain_outputs};
use crate::engine::ops::{bounded, convolution, mend, narrow_softmax};
use crate::engine::{RunError, clean_up};
use crate::tensor::Tensor;

/// A parsed file, and the weights that its plans share.
pub struct Graph {
    model: InferenceModel,
    /// Positions of the inputs whose values plans have built in.
    deciding: Vec<usize>,
    weights: SharedWeights,
    /// Whether the places of some pooling's windows are rounded up.
    rounds_up: bool,
    /// Most bytes of a tensor that is made of constants, and of any tensor of a run on made-up inputs.
    limit: usize,
}

impl Graph {
    /// Parses a model. External data is looked for below `directory` and nowhere else. `limit` is for tensors that it makes
    /// of constants, and those of runs on made-up inputs, in bytes.
    pub fn parse(onnx: &Onnx, proto: &ModelProto, directory: Option<&str>, limit: usize) -> Result<Self, Fault> {
        guarded(|| {
            let parsed = bounded::within(limit, || onnx.parse(proto, directory))?;
            ensure!(
                parsed.unresolved_inputs.is_empty(),
                "nothing in the graph gives '{}'",
                parsed.unresolved_inputs.join("', '")
            );
            let weights = SharedWeights::default();
            let rounds_up = clean_up::rounds_places_up(proto);
            Ok(Self { model: parsed.model, deciding: vec![], weights, rounds_up, limit })
        })
    }

    /// Counts what the parsed file holds.
    pub fn count(&self, memory: &mut Memory) {
        memory.add_parsed(&self.model);
    }

    /// From now on has plans made for the values of these inputs too, because the engine can't plan without them.
    pub fn plan_by_values(&mut self, deciding: Vec<usize>) {
        self.deciding = deciding;
    }

    /// Whether plans are made for values of some inputs.
    pub fn plans_by_values(&self) -> bool {
        !self.deciding.is_empty()
    }

    /// What a plan for these inputs is made for.
    ///
    /// # Errors
    /// `BadInput` for more values than a plan is made for.
    pub fn key(&self, inputs: &[Tensor]) -> Result<PlanKey, RunError> {
        PlanKey::of(inputs, &self.deciding)
    }

    /// A plan for exactly these shapes and values. Blocks for 1 to 500 ms, by the model's size.
    pub fn concrete(&self, key: &PlanKey) -> Result<Plan, Fault> {
        let largest = if self.plans_by_values() { MAX_DECIDED_BYTES } else { usize::MAX };
        self.concrete_within(key, largest)
    }

    /// The same for made-up inputs, which no client answers for: it is an error if a run would make tensors beyond all reason.
    pub fn concrete_for_made_up(&self, key: &PlanKey) -> Result<Plan, Fault> {
        self.concrete_within(key, self.limit)
    }

    /// `largest` is how many bytes a tensor of a run may take.
    fn concrete_within(&self, key: &PlanKey, largest: usize) -> Result<Plan, Fault> {
        guarded(|| {
            let (mut model, shapes) = (self.model.clone(), key.shapes());
            ensure!(model.inputs.len() == shapes.len(), "{} inputs for {}", shapes.len(), model.inputs.len());
            for (input, shape) in shapes.iter().enumerate() {
                let fact = model.input_fact(input)?.clone().with_shape(*shape);
                model.set_input_fact(input, fact)?;
            }
            for (input, value) in key.values() {
                let node = model.inputs[*input].node;
                let value = to_tract("", value).map_err(|fault| format_err!("{fault}"))?.into_arc_tensor();
                model.set_outlet_fact(node.into(), InferenceFact::try_from(&value)?)?;
                model.node_mut(node).op = Box::new(Const::new(value)?);
            }
            let taken: Vec<usize> = (0..shapes.len()).filter(|input| !self.deciding.contains(input)).collect();
            model.inputs = taken.iter().map(|&input| model.inputs[input]).collect();
            let model = model.into_typed()?;
            check_sizes(&model, largest)?;
            let plan = self.plan(convolution::convert(model)?)?;
            Ok(Plan { taken: self.plans_by_values().then(|| taken.into()), ..plan })
        })
    }

    /// One plan for every size of the dimensions that vary: those the file names keep their names, each other gets a
    /// symbol of its own. Such a plan may build and yet fail when it runs.
    pub fn symbolic(&self) -> Result<Plan, Fault> {
        guarded(|| {
            let mut model = self.model.clone();
            for input in 0..model.inputs.len() {
                let fact = model.input_fact(input)?.clone();
                ensure!(!fact.shape.is_open(), "the rank of input {input} is not declared");
                // tract then counts a last window that begins beyond the image, and computes on what it never wrote.
                let varies =
                    fact.shape.dims().skip(1).any(|dim| dim.concretize().is_none_or(|dim| dim.to_i64().is_err()));
                ensure!(!(self.rounds_up && varies), "windows are rounded up over images of any size");
                let named = |(axis, dim): (usize, &DimFact)| {
                    let fresh = || model.symbols.new_with_prefix(&format!("input{input}_axis{axis}_")).into();
                    dim.concretize().unwrap_or_else(fresh)
                };
                let shape = fact.shape.dims().enumerate().map(named).map(DimFact::from).collect();
                let fact = InferenceFact { shape: ShapeFactoid::closed(shape), ..fact };
                model.set_input_fact(input, fact)?;
            }
            let model = model.into_typed()?;
            check_sizes(&model, self.limit)?;
            self.plan(model)
        })
    }

    fn plan(&self, model: TypedModel) -> TractResult<Plan> {
        let mut model = convolution::convert_products(model)?;
        narrow_softmax(&mut model);
        begin_anew(&mut model);
        plain_outputs(&mut model)?;
        let mut model = model.into_optimized()?;
        mend(&mut model)?;
        self.weights.share(&mut model)?;
        Ok(Plan { runnable: TypedSimplePlan::new(model)?, taken: None })
    }
}

/// Most bytes of a tensor whose size a client's values decide.
const MAX_DECIDED_BYTES: usize = 256 << 20;

/// Refuses a plan that would make a tensor of more than `largest` bytes, before one of its constants is.
fn check_sizes(model: &TypedModel, largest: usize) -> TractResult<()> {
    for node in &model.nodes {
        let name = node.op.name();
        // tract looks for patterns by the number that a constant holds, and reads one of a constant of nothing.
        if node.op_is::<TypedBinOp>() {
            let inputs = model.node_input_facts(node.id)?;
            let is_nothing = |fact: &&TypedFact| fact.konst.as_ref().is_some_and(|value| value.len() == 0);
            let nothings = inputs.iter().filter(|fact| is_nothing(fact)).count();
            ensure!(nothings == 0 || nothings == inputs.len(), "{name} '{}' of a tensor of nothing", node.name);
        }
        for fact in node.outputs.iter().map(|output| &output.fact) {
            let Some(shape) = known_shape(fact) else { continue };
            if name == "Resize"
                && let Some(input) = known_shape(model.outlet_fact(node.inputs[0])?)
            {
                bounded::check_resize(&input, &shape, largest)?;
            }
            bounded::check(&format!("{name} '{}'", node.name), &shape, fact.datum_type, largest)?;
        }
    }
    Ok(())
}

fn known_shape(fact: &TypedFact) -> Option<Vec<i64>> {
    fact.shape.iter().map(|size| size.to_i64().ok()).collect()
}

/// An optimised graph, ready to run. Cloning shares it.
#[derive(Clone)]
pub struct Plan {
    runnable: Arc<TypedSimplePlan>,
    /// Positions of the inputs that it takes, where values of others are built in.
    taken: Option<Arc<[usize]>>,
}

impl Plan {
    /// Counts what the plan holds.
    pub fn count(&self, memory: &mut Memory) {
        memory.add_optimised(self.runnable.model());
    }

    /// Runs the plan on a fresh state: a state that ran before holds the hidden state of its recurrent operators, which
    /// would be the next request's beginning. `stop` is asked before each operator, those
    /// within loops and branches included.
    pub fn run(&self, inputs: TVec<TValue>, stop: &dyn Fn() -> bool) -> Result<TVec<TValue>, RunError> {
        let stopped = Cell::new(false);
        let inputs = match &self.taken {
            Some(taken) => taken.iter().map(|&input| inputs[input].clone()).collect(),
            None => inputs,
        };
        let stop = || {
            let stops = stop();
            stopped.set(stopped.get() || stops);
            stops
        };
        let watch = Watch::new(&stop);
        let ran = guarded(|| {
            self.runnable.spawn()?.run_plan_with_eval(inputs, |context, state, node, inputs| -> TractResult<_> {
                eval(context, state, node, inputs, &watch)
            })
        });
        match ran {
            Ok(outputs) => Ok(outputs),
            Err(_) if stopped.get() => Err(RunError::Stopped),
            Err(Fault::Unfit(cause)) => Err(RunError::BadInput(cause)),
            Err(Fault::Refused(cause)) => Err(RunError::Failed(cause)),
            Err(Fault::Panicked(text)) => Err(RunError::Failed(format!("the engine panicked: {text}"))),
        }
    }
}
