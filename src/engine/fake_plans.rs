//! A model in memory whose runs take the time that a test says, for what measures and prepares plans.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::fake::FakeModel;
use super::{Model, RunError, RunOutput, RunTiming, Session};
use crate::signature::Signature;
use crate::tensor::Tensor;

/// What a run takes, by its rows and by whether a plan was prepared for them. Nothing waits for it: the time is only
/// reported.
pub type RunTime = dyn Fn(usize, bool) -> Duration + Send + Sync;

/// Gives its inputs back, as [`FakeModel::identity`] does.
pub struct PlannedModel {
    signature: Signature,
    run_time: Box<RunTime>,
    needs_plans: bool,
    plan_bytes: u64,
    /// The largest element that a run takes, if it looks at them.
    refuses_above: Option<f32>,
    prepared: Mutex<BTreeSet<usize>>,
    prepares: AtomicUsize,
    runs: AtomicUsize,
}

impl PlannedModel {
    pub fn new(run_time: impl Fn(usize, bool) -> Duration + Send + Sync + 'static) -> Self {
        Self {
            signature: FakeModel::identity(4).signature().clone(),
            run_time: Box::new(run_time),
            needs_plans: false,
            plan_bytes: 0,
            refuses_above: None,
            prepared: Mutex::default(),
            prepares: AtomicUsize::new(0),
            runs: AtomicUsize::new(0),
        }
    }

    pub fn with_signature(self, signature: Signature) -> Self {
        Self { signature, ..self }
    }

    /// Every size but one row needs a plan before it can run.
    pub fn needing_plans(self) -> Self {
        Self { needs_plans: true, ..self }
    }

    /// Each prepared plan holds so many bytes.
    pub fn with_plan_bytes(self, plan_bytes: u64) -> Self {
        Self { plan_bytes, ..self }
    }

    /// A run fails on elements above this.
    pub fn refusing_above(self, limit: f32) -> Self {
        Self { refuses_above: Some(limit), ..self }
    }

    /// The sizes that have a prepared plan now.
    pub fn prepared(&self) -> Vec<usize> {
        self.held().iter().copied().collect()
    }

    /// How often a plan was built.
    pub fn prepares(&self) -> usize {
        self.prepares.load(Ordering::SeqCst)
    }

    /// Runs begun so far.
    pub fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    fn rows(&self, inputs: &[Tensor]) -> usize {
        self.signature.batch_size(inputs)
    }

    fn held(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Model for PlannedModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn engine(&self) -> &'static str {
        "fake"
    }

    fn notes(&self) -> Vec<String> {
        vec![]
    }

    fn session(self: Arc<Self>) -> Box<dyn Session> {
        Box::new(PlannedSession { model: self, uses_plans: true })
    }

    fn plain_session(self: Arc<Self>) -> Box<dyn Session> {
        let uses_plans = self.needs_plans;
        Box::new(PlannedSession { model: self, uses_plans })
    }

    fn is_ready_for(&self, inputs: &[Tensor]) -> bool {
        let rows = self.rows(inputs);
        !self.needs_plans || rows == 1 || self.held().contains(&rows)
    }

    fn prepare(&self, inputs: &[Tensor]) -> Result<(), RunError> {
        self.prepares.fetch_add(1, Ordering::SeqCst);
        self.held().insert(self.rows(inputs));
        Ok(())
    }

    fn release(&self, inputs: &[Tensor]) {
        self.held().remove(&self.rows(inputs));
    }

    fn memory_bytes(&self) -> u64 {
        self.plan_bytes * self.held().len() as u64
    }
}

struct PlannedSession {
    model: Arc<PlannedModel>,
    uses_plans: bool,
}

impl Session for PlannedSession {
    fn run(&mut self, inputs: &[Tensor], stop: &dyn Fn() -> bool) -> Result<RunOutput, RunError> {
        let model = &self.model;
        model.runs.fetch_add(1, Ordering::SeqCst);
        if stop() {
            return Err(RunError::Stopped);
        }
        if let Some(limit) = model.refuses_above
            && inputs[0].elements::<f32>().any(|element| element > limit)
        {
            return Err(RunError::Failed("out of range".into()));
        }
        let rows = model.rows(inputs);
        let infer = (model.run_time)(rows, self.uses_plans && model.held().contains(&rows));
        Ok(RunOutput { tensors: inputs.to_vec(), timing: RunTiming { infer, ..RunTiming::default() } })
    }
}
