//! A model in memory, for tests of what stands around an engine.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::{Model, RunError, RunOutput, RunTiming, Session};
use crate::signature::{BatchAxes, Batching, Dim, Signature, TensorSpec};
use crate::tensor::{DataType, Tensor};

/// What a fake computes: outputs of inputs, both in the signature's order.
pub type Function = dyn Fn(&[Tensor]) -> Result<Vec<Tensor>, RunError> + Send + Sync;

/// A model whose behaviour is a function. It may take a while, wait at a gate, fail or panic.
pub struct FakeModel {
    signature: Signature,
    notes: Vec<String>,
    function: Box<Function>,
    delay: Duration,
    gate: Option<Arc<Gate>>,
    runs: AtomicUsize,
}

impl FakeModel {
    /// A model of this signature and function.
    pub fn new(
        signature: Signature,
        function: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, RunError> + Send + Sync + 'static,
    ) -> Self {
        let function = Box::new(function);
        Self { signature, notes: vec![], function, delay: Duration::ZERO, gate: None, runs: AtomicUsize::new(0) }
    }

    /// Gives `x` of FP32 `[N, width]` back as `y`; the batch axis is proven.
    pub fn identity(width: usize) -> Self {
        let spec = |name: &str| TensorSpec {
            name: name.into(),
            dtype: DataType::Fp32,
            dims: Some(vec![Dim::Named("N".into()), Dim::Fixed(width)]),
            classes: vec![],
        };
        let axes = BatchAxes { inputs: vec![Some(0)], outputs: vec![Some(0)] };
        let signature =
            Signature { inputs: vec![spec("x")], outputs: vec![spec("y")], batching: Batching::Proven(axes) };
        Self::new(signature, |inputs| Ok(inputs.to_vec()))
    }

    /// The same signature, with another function.
    pub fn with_function(
        self,
        function: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, RunError> + Send + Sync + 'static,
    ) -> Self {
        Self { function: Box::new(function), ..self }
    }

    /// Every run fails with this error.
    pub fn failing(self, error: RunError) -> Self {
        self.with_function(move |_| Err(error.clone()))
    }

    /// Every run panics, as no engine should.
    pub fn panicking(self) -> Self {
        self.with_function(|_| panic!("the fake was told to panic"))
    }

    /// Every run takes this long at least. `stop` is asked before and after.
    pub fn delayed(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Every run waits at the gate.
    pub fn gated(self, gate: Arc<Gate>) -> Self {
        Self { gate: Some(gate), ..self }
    }

    pub fn noting(self, notes: Vec<String>) -> Self {
        Self { notes, ..self }
    }

    /// Runs begun so far, of all sessions.
    pub fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    fn run(&self, inputs: &[Tensor], stop: &dyn Fn() -> bool) -> Result<RunOutput, RunError> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        if stop() {
            return Err(RunError::Stopped);
        }
        if let Some(gate) = &self.gate {
            gate.pass();
        }
        if !self.delay.is_zero() {
            std::thread::sleep(self.delay);
        }
        if stop() {
            return Err(RunError::Stopped);
        }
        let tensors = (self.function)(inputs)?;
        Ok(RunOutput { tensors, timing: RunTiming { infer: self.delay, ..RunTiming::default() } })
    }
}

impl Model for FakeModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn engine(&self) -> &'static str {
        "fake"
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn session(self: Arc<Self>) -> Box<dyn Session> {
        Box::new(FakeSession(self))
    }
}

struct FakeSession(Arc<FakeModel>);

impl Session for FakeSession {
    fn run(&mut self, inputs: &[Tensor], stop: &dyn Fn() -> bool) -> Result<RunOutput, RunError> {
        self.0.run(inputs, stop)
    }
}

/// Holds runs back until a test lets them go.
#[derive(Default)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    is_open: bool,
    waiting: usize,
}

impl Gate {
    /// A gate that is shut.
    pub fn shut() -> Arc<Self> {
        Arc::default()
    }

    /// Lets every run through, those that wait and those to come.
    pub fn open(&self) {
        self.state.lock().expect("no holder panics").is_open = true;
        self.changed.notify_all();
    }

    /// Holds the runs to come.
    pub fn close(&self) {
        self.state.lock().expect("no holder panics").is_open = false;
    }

    /// Blocks until `count` runs wait at the gate.
    pub fn wait_for(&self, count: usize) {
        let state = self.state.lock().expect("no holder panics");
        drop(self.changed.wait_while(state, |state| state.waiting < count).expect("no holder panics"));
    }

    /// Blocks until the gate is open.
    pub fn pass(&self) {
        let mut state = self.state.lock().expect("no holder panics");
        state.waiting += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| !state.is_open).expect("no holder panics");
        state.waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> [Tensor; 1] {
        [Tensor::zeros(DataType::Fp32, vec![1, 2])]
    }

    #[test]
    fn a_gate_holds_runs_until_it_opens() {
        let gate = Gate::shut();
        let model = Arc::new(FakeModel::identity(2).gated(Arc::clone(&gate)));
        let runner = std::thread::spawn({
            let model = Arc::clone(&model);
            move || model.session().run(&row(), &|| false)
        });
        gate.wait_for(1);
        assert_eq!(model.runs(), 1);
        gate.open();
        assert_eq!(runner.join().unwrap().unwrap().tensors, row());
    }

    #[test]
    fn a_fake_fails_and_stops_as_it_is_told() {
        let failing = Arc::new(FakeModel::identity(2).failing(RunError::Failed("no".into())));
        assert_eq!(failing.session().run(&row(), &|| false).unwrap_err(), RunError::Failed("no".into()));
        let stopped = Arc::new(FakeModel::identity(2)).session().run(&row(), &|| true).unwrap_err();
        assert_eq!(stopped, RunError::Stopped);
    }
}
