//! A model that tract runs, and a worker's session on it.

use std::sync::Arc;
use std::time::Instant;

use tract_onnx::prelude::{IntoTValue, TValue, TVec};

use super::convert::{from_tract, to_tract};
use super::guard::{Fault, guarded};
use super::plans::{PlanUse, Plans};
use crate::engine::rows::slice_rows;
use crate::engine::sample::{self, Sizes, Style};
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

/// What the model was found to run on when it was loaded.
pub(super) struct Sample {
    /// Where rows were looked for, which is of use where none were proven.
    pub axes: Option<Vec<Option<usize>>>,
    /// The size of every dimension that varies, rows aside.
    pub other: usize,
    pub style: Style,
}

impl Model for TractModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn engine(&self) -> &'static str {
        super::NAME
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn session(self: Arc<Self>) -> Box<dyn Session> {
        Box::new(TractSession { model: self, plans: PlanUse::Any })
    }

    fn plain_session(self: Arc<Self>) -> Box<dyn Session> {
        Box::new(TractSession { model: self, plans: PlanUse::Plain })
    }

    fn sample_inputs(&self, rows: usize) -> Vec<Tensor> {
        let Sample { axes, other, style } = &self.sample;
        if self.signature.batch_axes().is_some() {
            return sample::inputs(&self.signature, Sizes { rows, other: *other }, *style);
        }
        let sizes = Sizes { rows: 1, other: *other };
        sample::inputs_along(&self.signature.inputs, axes.as_deref(), sizes, *style)
    }

    fn is_ready_for(&self, inputs: &[Tensor]) -> bool {
        match self.one_row_for_none(inputs) {
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
        if let Some(one_row) = self.one_row_for_none(inputs) {
            return self.run_no_rows(&one_row, stop);
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

    /// The inputs with one row of zeros where the batch has no rows.
    fn one_row_for_none(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let axes = self.signature.batch_axes()?;
        if self.signature.batch_size(inputs) > 0 {
            return None;
        }
        let filled = |(tensor, axis): (&Tensor, &Option<usize>)| match axis {
            None => tensor.clone(),
            Some(axis) => {
                let mut shape = tensor.shape().to_vec();
                shape[*axis] = 1;
                Tensor::zeros(tensor.dtype(), shape)
            }
        };
        Some(inputs.iter().zip(&axes.inputs).map(filled).collect())
    }

    /// No rows in, no rows out. Few plans take a dimension of nothing, so one row is run for the outputs' shapes and
    /// then left out.
    fn run_no_rows(&self, one_row: &[Tensor], stop: &dyn Fn() -> bool) -> Result<RunOutput, RunError> {
        let ran = self.run_on(PlanUse::Any, one_row, stop)?;
        let axes = self.signature.batch_axes().map(|axes| axes.outputs.as_slice()).unwrap_or_default();
        let cut = |(tensor, axis): (Tensor, &Option<usize>)| match axis {
            Some(axis) => slice_rows(&tensor, *axis, 0, 0),
            None => tensor,
        };
        Ok(RunOutput { tensors: ran.tensors.into_iter().zip(axes).map(cut).collect(), ..ran })
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
        Fault::Refused(text) | Fault::Panicked(text) => RunError::Failed(format!("reading the outputs: {text}")),
    })
}
