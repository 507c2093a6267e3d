//! A model that one of two engines runs, by batch size.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::choice_policy::{Choice, EngineTime, Which, is_sound, times_text};
use super::measure::measure;
use super::settled::Outcome;
use crate::engine::closeness::is_finite;
use crate::engine::{Model, RunError, RunOutput, Session};
use crate::signature::Signature;
use crate::tensor::Tensor;

/// Hears which engine it is, and the times that said so.
type OnSettled = dyn Fn(Which, &[EngineTime]) + Send + Sync;

/// A model on the engines that may answer for it.
pub struct AutoModel {
    signature: Signature,
    /// Why it runs where it runs.
    notes: Vec<String>,
    state: ArcSwap<State>,
    /// Held while engines are measured.
    choosing: Mutex<()>,
    /// Hears once one engine is found to run all of it.
    on_settled: Box<OnSettled>,
}

/// Replaced as a whole.
struct State {
    engines: Engines,
    choice: Choice,
    /// What the choice was made by; empty before it was measured.
    times: Vec<EngineTime>,
}

/// The same model, as each engine has loaded it.
enum Engines {
    One(Arc<dyn Model>),
    Both { tract: Arc<dyn Model>, onnxruntime: Arc<dyn Model> },
}

impl AutoModel {
    /// A model of one engine: why it is that one, and the times it was chosen by, if it was.
    pub fn one(model: Arc<dyn Model>, outcome: Outcome) -> Self {
        let signature = model.signature().clone();
        let Outcome { which, notes, times } = outcome;
        let state = ArcSwap::from_pointee(State { engines: Engines::One(model), choice: Choice::always(which), times });
        Self { signature, notes, state, choosing: Mutex::default(), on_settled: Box::new(|_, _| {}) }
    }

    /// A model that either engine may run. Before it is measured, tract does. `on_settled` hears it once one engine is found
    /// to be enough, with the times that say so.
    pub fn both(
        tract: Arc<dyn Model>,
        onnxruntime: Arc<dyn Model>,
        on_settled: impl Fn(Which, &[EngineTime]) + Send + Sync + 'static,
    ) -> Self {
        let signature = tract.signature().clone();
        let state = State {
            engines: Engines::Both { tract, onnxruntime },
            choice: Choice::always(Which::Tract),
            times: vec![],
        };
        let (state, on_settled) = (ArcSwap::from_pointee(state), Box::new(on_settled));
        Self { signature, notes: vec![], state, choosing: Mutex::default(), on_settled }
    }

    /// Chooses by times, and lets the engine go that is chosen for nothing.
    fn apply(&self, times: Vec<EngineTime>) {
        let state = self.state.load_full();
        let Engines::Both { tract, onnxruntime } = &state.engines else { return };
        let choice = Choice::of(&times);
        let engines = match choice.only() {
            Some(Which::Tract) => Engines::One(tract.clone()),
            Some(Which::OnnxRuntime) => Engines::One(onnxruntime.clone()),
            None => Engines::Both { tract: tract.clone(), onnxruntime: onnxruntime.clone() },
        };
        if let Some(which) = choice.only() {
            (self.on_settled)(which, &times);
        }
        self.state.store(Arc::new(State { engines, choice, times }));
    }
}

impl State {
    fn model(&self, which: Which) -> &Arc<dyn Model> {
        match (&self.engines, which) {
            (Engines::One(model), _) => model,
            (Engines::Both { tract, .. }, Which::Tract) => tract,
            (Engines::Both { onnxruntime, .. }, Which::OnnxRuntime) => onnxruntime,
        }
    }

    fn choice_text(&self) -> String {
        let choice = self.choice.text();
        match self.times.as_slice() {
            [] => choice,
            times => format!("{choice}; µs a run by rows, tract/onnxruntime: {}", times_text(times)),
        }
    }

    fn all(&self) -> Vec<&Arc<dyn Model>> {
        match &self.engines {
            Engines::One(model) => vec![model],
            Engines::Both { tract, onnxruntime } => vec![tract, onnxruntime],
        }
    }

    /// The model that runs these inputs. The engines agree on numbers, yet one may carry a NaN on where the other drops it,
    /// so such inputs always run on the engine of one row, and the same request has the same answer in whatever batch.
    fn of_inputs(&self, signature: &Signature, inputs: &[Tensor]) -> &Arc<dyn Model> {
        let is_mixed = self.choice.only().is_none();
        let rows = if is_mixed && !inputs.iter().all(is_finite) { 1 } else { signature.batch_size(inputs) };
        self.model(self.choice.engine(rows))
    }
}

impl Model for AutoModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The engine that runs one row.
    fn engine(&self) -> &'static str {
        let state = self.state.load();
        state.model(state.choice.engine(1)).engine()
    }

    fn engine_choice(&self) -> String {
        self.state.load().choice_text()
    }

    fn notes(&self) -> Vec<String> {
        let state = self.state.load();
        let mut notes = self.notes.clone();
        for note in state.all().into_iter().flat_map(|model| model.notes()) {
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        if !state.times.is_empty() {
            notes.push(format!("runs on {}", state.choice_text()));
        }
        notes
    }

    fn session(self: Arc<Self>) -> Box<dyn Session> {
        Box::new(AutoSession { model: self, plain: false })
    }

    fn plain_session(self: Arc<Self>) -> Box<dyn Session> {
        Box::new(AutoSession { model: self, plain: true })
    }

    fn sample_inputs(&self, rows: usize) -> Vec<Tensor> {
        let state = self.state.load();
        state.model(state.choice.engine(rows)).sample_inputs(rows)
    }

    fn is_ready_for(&self, inputs: &[Tensor]) -> bool {
        self.state.load().of_inputs(&self.signature, inputs).is_ready_for(inputs)
    }

    fn prepare(&self, inputs: &[Tensor]) -> Result<(), RunError> {
        self.state.load_full().of_inputs(&self.signature, inputs).prepare(inputs)
    }

    fn release(&self, inputs: &[Tensor]) {
        self.state.load_full().all().into_iter().for_each(|model| model.release(inputs));
    }

    fn choose_engine(&self, kept: Option<&[EngineTime]>) -> Option<Vec<EngineTime>> {
        let _choosing = self.choosing.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state.load_full();
        let Engines::Both { tract, onnxruntime } = &state.engines else {
            return Some(state.times.clone()).filter(|times| !times.is_empty());
        };
        if !state.times.is_empty() {
            return Some(state.times.clone());
        }
        let times = match kept.filter(|times| is_sound(times)) {
            Some(times) => times.to_vec(),
            None => measure(tract, onnxruntime),
        };
        if !is_sound(&times) {
            return None;
        }
        self.apply(times.clone());
        Some(times)
    }

    fn engine_times(&self) -> Vec<EngineTime> {
        self.state.load().times.clone()
    }

    fn memory_bytes(&self) -> u64 {
        self.state.load().all().into_iter().map(|model| model.memory_bytes()).sum()
    }
}

/// Takes a session of the chosen engine's model for each run; both engines' sessions are handles that hold nothing.
struct AutoSession {
    model: Arc<AutoModel>,
    plain: bool,
}

impl Session for AutoSession {
    fn run(&mut self, inputs: &[Tensor], stop: &dyn Fn() -> bool) -> Result<RunOutput, RunError> {
        let chosen = self.model.state.load().of_inputs(&self.model.signature, inputs).clone();
        let mut session = if self.plain { chosen.plain_session() } else { chosen.session() };
        session.run(inputs, stop)
    }
}
