//! A model that tract runs, and a worker's session on it.

use std::sync::Arc;
use std::time::Instant;

use tract_onnx::prelude::{IntoTValue, TValue, TVec};

use super::convert::{from_tract, to_tract};
use super::guard::{Fault, guarded};
use super::plans::{PlanUse, Plans};
use crate::engine::warm_up::{Sample, one_row_for_none, without_rows};
use crate::engine::{Model, RunError, RunOutput, RunTiming, Session};
use crate::signature::{Signature, TensorSpec};
use crate::tensor::Tensor;

/// A loaded model.
pub struct TractModel {
    pub(super) signature: Signature,
    pub(super) notes: Vec<String>,
    pub(super) sample: Sample,
    pub(super) plans: Plans,
}

impl Model for TractModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn engine(&self) -> &'static str {
        super::NAME
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn session(self: Arc<Self>) -> Box<dyn Session> {
        Box::new(TractSession { model: self, plans: PlanUse::Any })
    }

    fn plain_session(self: Arc<Self>) -> Box<dyn Session> {
        Box::new(TractSession { model: self, plans: PlanUse::Plain })
    }

    fn sample_inputs(&self, rows: usize) -> Vec<Tensor> {
        self.sample.inputs(&self.signature, rows)
    }

    fn is_ready_for(&self, inputs: &[Tensor]) -> bool {
        match one_row_for_none(&self.signature, inputs) {
            Some(one_row) => self.plans.is_ready_for(&one_row),
            None => self.plans.is_ready_for(inputs),
        }
    }

    fn prepare(&self, inputs: &[Tensor]) -> Result<(), RunError> {
        self.plans.pin(inputs)
    }

    fn release(&self, inputs: &[Tensor]) {
        self.plans.unpin(inputs);
    }

    /// What its plans and the parsed file hold; `memory` says how it is counted.
    fn memory_bytes(&self) -> u64 {
        self.plans.memory_bytes()
    }
}

/// Holds nothing of its own: plans are the model's, and every run has a state that dies with it.
struct TractSession {
    model: Arc<TractModel>,
    plans: PlanUse,
}

impl Session for TractSession {
    fn run(&mut self, inputs: &[Tensor], stop: &dyn Fn() -> bool) -> Result<RunOutput, RunError> {
        self.model.run_on(self.plans, inputs, stop)
    }
}

impl TractModel {
    #[cfg(test)]
    pub(super) fn run(&self, inputs: &[Tensor], stop: &dyn Fn() -> bool) -> Result<RunOutput, RunError> {
        self.run_on(PlanUse::Any, inputs, stop)
    }

    pub(super) fn run_on(
        &self,
        plans: PlanUse,
        inputs: &[Tensor],
        stop: &dyn Fn() -> bool,
    ) -> Result<RunOutput, RunError> {
        if let Some(one_row) = one_row_for_none(&self.signature, inputs) {
            let ran = self.run_on(PlanUse::Any, &one_row, stop)?;
            return Ok(RunOutput { tensors: without_rows(&self.signature, ran.tensors), ..ran });
        }
        let begun = Instant::now();
        let converted = engine_inputs(&self.signature.inputs, inputs)?;
        let input = begun.elapsed();
        let outputs = self.plans.run(plans, inputs, converted, stop)?;
        let infer = begun.elapsed() - input;
        let tensors = declared_outputs(&self.signature.outputs, &outputs)?;
        let output = begun.elapsed() - input - infer;
        Ok(RunOutput { tensors, timing: RunTiming { input, infer, output } })
    }
}

/// The tensors as tract takes them.
pub(super) fn engine_inputs(specs: &[TensorSpec], tensors: &[Tensor]) -> Result<TVec<TValue>, RunError> {
    specs.iter().zip(tensors).map(|(spec, tensor)| Ok(to_tract(&spec.name, tensor)?.into_tvalue())).collect()
}

/// tract's outputs in the datatypes that the file declares.
pub(super) fn declared_outputs(specs: &[TensorSpec], outputs: &[TValue]) -> Result<Vec<Tensor>, RunError> {
    let convert = || specs.iter().zip(outputs).map(|(spec, value)| from_tract(value, spec.dtype)).collect();
    guarded(convert).map_err(|fault| match fault {
        Fault::Refused(text) | Fault::Unfit(text) | Fault::Panicked(text) => {
            RunError::Failed(format!("reading the outputs: {text}"))
        }
    })
}
