//! A parsed model, and the plans that tract makes of it.

use std::cell::Cell;
use std::sync::Arc;

use tract_onnx::Onnx;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::{InferenceModel, InferenceModelExt, TValue, TVec, TypedModel, TypedSimplePlan};
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::{DimFact, InferenceFact, ShapeFactoid, TractResult, ensure};

use super::guard::{Fault, guarded};
use super::memory::Memory;
use crate::engine::RunError;
use crate::engine::ops::control::{Watch, eval};

/// A parsed file. Plans share its weights, as far as they don't pack them.
pub struct Graph {
    model: InferenceModel,
}

impl Graph {
    /// Parses a model. External data is looked for below `directory` and nowhere else.
    pub fn parse(onnx: &Onnx, proto: &ModelProto, directory: Option<&str>) -> Result<Self, Fault> {
        guarded(|| {
            let parsed = onnx.parse(proto, directory)?;
            ensure!(
                parsed.unresolved_inputs.is_empty(),
                "nothing in the graph gives '{}'",
                parsed.unresolved_inputs.join("', '")
            );
            Ok(Self { model: parsed.model })
        })
    }

    /// Counts what the parsed file holds.
    pub fn count(&self, memory: &mut Memory) {
        memory.add_parsed(&self.model);
    }

    /// A plan for inputs of exactly these shapes. Blocks for 1 to 500 ms, by the model's size.
    pub fn concrete(&self, shapes: &[Vec<usize>]) -> Result<Plan, Fault> {
        guarded(|| {
            let mut model = self.model.clone();
            ensure!(model.inputs.len() == shapes.len(), "{} inputs for {}", shapes.len(), model.inputs.len());
            for (input, shape) in shapes.iter().enumerate() {
                let fact = model.input_fact(input)?.clone().with_shape(shape.as_slice());
                model.set_input_fact(input, fact)?;
            }
            Plan::of(model.into_optimized()?)
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
                let named = |(axis, dim): (usize, &DimFact)| {
                    let fresh = || model.symbols.new_with_prefix(&format!("input{input}_axis{axis}_")).into();
                    dim.concretize().unwrap_or_else(fresh)
                };
                let shape = fact.shape.dims().enumerate().map(named).map(DimFact::from).collect();
                let fact = InferenceFact { shape: ShapeFactoid::closed(shape), ..fact };
                model.set_input_fact(input, fact)?;
            }
            Plan::of(model.into_optimized()?)
        })
    }
}

/// An optimised graph, ready to run. Cloning shares it.
#[derive(Clone)]
pub struct Plan(Arc<TypedSimplePlan>);

impl Plan {
    fn of(model: TypedModel) -> TractResult<Self> {
        Ok(Self(TypedSimplePlan::new(model)?))
    }

    /// Counts what the plan holds.
    pub fn count(&self, memory: &mut Memory) {
        memory.add_optimised(self.0.model());
    }

    /// Runs the plan on a fresh state: a state that ran before holds the hidden state of its recurrent operators, which
    /// would be the next request's beginning. `stop` is asked before each operator, those
    /// within loops and branches included.
    pub fn run(&self, inputs: TVec<TValue>, stop: &dyn Fn() -> bool) -> Result<TVec<TValue>, RunError> {
        let stopped = Cell::new(false);
        let stop = || {
            let stops = stop();
            stopped.set(stopped.get() || stops);
            stops
        };
        let watch = Watch::new(&stop);
        let ran = guarded(|| {
            self.0.spawn()?.run_plan_with_eval(inputs, |context, state, node, inputs| -> TractResult<_> {
                eval(context, state, node, inputs, &watch)
            })
        });
        match ran {
            Ok(outputs) => Ok(outputs),
            Err(_) if stopped.get() => Err(RunError::Stopped),
            Err(Fault::Refused(cause)) => Err(RunError::Failed(cause)),
            Err(Fault::Panicked(text)) => Err(RunError::Failed(format!("the engine panicked: {text}"))),
        }
    }
}
