//! A model that ONNX Runtime runs, and a worker's session on it.

use std::sync::Arc;
use std::time::Instant;

use ort::session::{RunOptions, Session as OrtSession, SessionInputValue};

use super::convert::{failed, from_value, to_value};
use super::sessions::Sessions;
use super::stoppable::{LastRuns, stoppable};
use crate::engine::warm_up::{Sample, one_row_for_none, without_rows};
use crate::engine::{Model, RunError, RunOutput, RunTiming, Session};
use crate::signature::Signature;
use crate::tensor::Tensor;

/// A loaded model.
pub struct OrtModel {
    pub(super) signature: Signature,
    pub(super) notes: Vec<String>,
    pub(super) sample: Sample,
    pub(super) sessions: Sessions,
    pub(super) last_runs: LastRuns,
    /// Bytes of the weights in the file, which every session holds unless they are shared.
    pub(super) file_bytes: u64,
}

impl Model for OrtModel {
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
        Box::new(Worker { model: self })
    }

    fn sample_inputs(&self, rows: usize) -> Vec<Tensor> {
        self.sample.inputs(&self.signature, rows)
    }

    /// Weights that are shared, or as many times the file as there are sessions idle. Repacked weights, buffers and what
    /// the library needs for the graph itself are not counted.
    fn memory_bytes(&self) -> u64 {
        match self.sessions.shared_bytes() {
            0 => self.file_bytes.saturating_mul(self.sessions.idle_count().max(1) as u64),
            shared => shared,
        }
    }
}

/// Holds nothing of its own: a session of the library is taken for each run, for a version has more workers than runs at
/// most times.
struct Worker {
    model: Arc<OrtModel>,
}

impl Session for Worker {
    /// `stop` is asked before the run, and within one that may take long.
    fn run(&mut self, inputs: &[Tensor], stop: &dyn Fn() -> bool) -> Result<RunOutput, RunError> {
        if stop() {
            return Err(RunError::Stopped);
        }
        let signature = &self.model.signature;
        match one_row_for_none(signature, inputs) {
            None => self.model.run(inputs, stop),
            Some(one_row) => {
                let ran = self.model.run(&one_row, stop)?;
                Ok(RunOutput { tensors: without_rows(signature, ran.tensors), ..ran })
            }
        }
    }
}

impl OrtModel {
    pub(super) fn run(&self, inputs: &[Tensor], stop: &dyn Fn() -> bool) -> Result<RunOutput, RunError> {
        let bytes = inputs.iter().map(|input| input.data().len()).sum();
        let ran = self.sessions.with(|session| match self.last_runs.may_be_long(bytes) {
            true => stoppable(stop, |options| run(session, &self.signature, inputs, Some(options))),
            false => run(session, &self.signature, inputs, None),
        })?;
        self.last_runs.record(bytes, ran.timing.infer);
        Ok(ran)
    }
}

/// Runs a session. `inputs` are in the order of the signature, which is the file's; `options` are what another thread may
/// end the run by.
///
/// # Errors
/// `BadInput` for text that it can't take; `Failed` with the library's words.
pub(super) fn run(
    session: &mut OrtSession,
    signature: &Signature,
    inputs: &[Tensor],
    options: Option<&RunOptions>,
) -> Result<RunOutput, RunError> {
    let begun = Instant::now();
    let Signature { inputs: specs, outputs, .. } = signature;
    let values = specs.iter().zip(inputs).map(|(spec, tensor)| to_value(&spec.name, tensor));
    let values: Vec<SessionInputValue> = values.collect::<Result<_, _>>()?;
    let input = begun.elapsed();
    let given = match options {
        Some(options) => session.run_with_options(&values[..], options),
        None => session.run(&values[..]),
    };
    let given = given.map_err(failed)?;
    let infer = begun.elapsed() - input;
    if given.len() != outputs.len() {
        return Err(RunError::Failed(format!("{} outputs came, the file declares {}", given.len(), outputs.len())));
    }
    let tensors = outputs.iter().enumerate().map(|(index, spec)| from_value(&spec.name, &given[index], spec.dtype));
    let tensors = tensors.collect::<Result<_, _>>()?;
    let output = begun.elapsed() - input - infer;
    Ok(RunOutput { tensors, timing: RunTiming { input, infer, output } })
}
