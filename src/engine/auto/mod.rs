//! `engine: auto`: each model on the engine that can run it, and on the faster one where both can.
//!
//! A model that tract refuses goes to ONNX Runtime by itself, one that ONNX Runtime refuses stays on tract. Where both load
//! it they must agree on made-up inputs, and give what was recorded with the model; then each batch size runs where it is
//! faster, measured while the server serves ([`choice_policy`]).

mod agreement;
mod choice_policy;
mod measure;
mod model;
mod settled;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod zoo_tests;

use std::path::Path;
use std::sync::Arc;

use self::agreement::{Agreement, compare};
pub use self::choice_policy::{Choice, EngineTime, Which};
use self::choice_policy::{Verdict, verdict};
use self::model::AutoModel;
use self::settled::{FileKey, Outcome, Settled};
use super::ops::bounded::TOO_LARGE;
use super::tract::TractEngine;
use super::{Engine, EngineChoice, LoadError, LoadTerms, Model, onnx};

/// The engine's name, where no model is meant.
pub const NAME: &str = "auto";

/// Both engines, as far as they are there.
pub struct AutoEngine {
    tract: Arc<dyn Engine>,
    /// Or why it is not there, on one line.
    onnxruntime: Result<Arc<dyn Engine>, String>,
    settled: Arc<Settled>,
}

/// `--onnxruntime-library` with this value does without the library, wherever one may be.
pub const NO_LIBRARY: &str = "none";

impl AutoEngine {
    /// tract, and ONNX Runtime if its library is there. `library` is the library or its folder; without it the usual places
    /// are looked at. Opens the library, once a process.
    pub fn open(library: Option<&Path>) -> Self {
        Self::of(Arc::new(TractEngine::new()), open_onnxruntime(library))
    }

    pub(super) fn of(tract: Arc<dyn Engine>, onnxruntime: Result<Arc<dyn Engine>, String>) -> Self {
        Self { tract, onnxruntime, settled: Arc::default() }
    }

    /// Why there is no ONNX Runtime; `None` where there is.
    pub fn onnxruntime_absent(&self) -> Option<&str> {
        self.onnxruntime.as_ref().err().map(String::as_str)
    }

    /// Each engine that is there.
    pub fn engines(&self) -> Vec<Arc<dyn Engine>> {
        [Some(&self.tract), self.onnxruntime.as_ref().ok()].into_iter().flatten().cloned().collect()
    }

    /// As it was settled when the file was loaded before, if it was and still loads so.
    fn as_before(&self, file: Option<&FileKey>, path: &Path) -> Option<Arc<dyn Model>> {
        let outcome = self.settled.get(file?)?;
        let model = match outcome.which {
            Which::Tract => self.tract.load(path),
            Which::OnnxRuntime => self.onnxruntime.as_ref().ok()?.load(path),
        };
        Some(Arc::new(AutoModel::one(model.ok()?, outcome)))
    }

    fn auto(&self, path: &Path, terms: &LoadTerms<'_>) -> Result<Arc<dyn Model>, LoadError> {
        let file = FileKey::of(path);
        if let Some(model) = self.as_before(file.as_ref(), path) {
            return Ok(model);
        }
        let by_tract = self.tract.load(path);
        match by_tract {
            Err(error @ (LoadError::Unreadable(_) | LoadError::Invalid(_))) => return Err(error),
            // The other engine would take the memory.
            Err(LoadError::Unsupported { cause, .. }) if cause.contains(TOO_LARGE) => {
                return Err(LoadError::Invalid(cause));
            }
            _ => {}
        }
        if let Ok(tract) = &by_tract
            && has_loop(path)
        {
            return Ok(Arc::new(self.alone(tract.clone(), Which::Tract, LOOPS.into(), file)));
        }
        let by_onnxruntime = match &self.onnxruntime {
            Ok(engine) => engine.load(path),
            Err(absent) => {
                return by_tract
                    .map_err(|refusal| LoadError::NoEngine { tract: Box::new(refusal), onnxruntime: absent.clone() });
            }
        };
        match (by_tract, by_onnxruntime) {
            (Ok(tract), Ok(onnxruntime)) => Ok(Arc::new(self.settle((tract, onnxruntime), terms, file))),
            (Ok(tract), Err(cause)) => Ok(Arc::new(self.alone(tract, Which::Tract, refusal_note(&cause), file))),
            (Err(cause), Ok(onnxruntime)) => {
                Ok(Arc::new(self.alone(onnxruntime, Which::OnnxRuntime, refusal_note(&cause), file)))
            }
            (Err(tract), Err(onnxruntime)) => {
                Err(LoadError::NoEngine { tract: Box::new(tract), onnxruntime: onnxruntime.to_string() })
            }
        }
    }

    /// Who answers, where both can.
    fn settle(
        &self,
        (tract, onnxruntime): (Arc<dyn Model>, Arc<dyn Model>),
        terms: &LoadTerms<'_>,
        file: Option<FileKey>,
    ) -> AutoModel {
        let agreement = compare(&tract, &onnxruntime);
        let agree = match &agreement {
            Agreement::Agree => Some(true),
            Agreement::Differ(_) => Some(false),
            Agreement::Unknown => None,
        };
        let only = match verdict(agree, (terms.judge)(&tract), (terms.judge)(&onnxruntime)) {
            Verdict::Both => {
                let settled = self.settled.clone();
                return AutoModel::both(tract, onnxruntime, move |which, times| {
                    let outcome = Outcome { which, notes: vec![], times: times.to_vec() };
                    file.iter().for_each(|file| settled.put(file.clone(), outcome.clone()));
                });
            }
            Verdict::Only(only) => only,
        };
        let why = match agreement {
            Agreement::Agree => "the other engine does not give what was recorded with the model".to_owned(),
            Agreement::Differ(difference) => format!("the engines differ: {difference}"),
            Agreement::Unknown => "the engines could not be compared on made-up inputs".to_owned(),
        };
        tracing::warn!(engine = only.name(), "{why}");
        self.alone(if only == Which::Tract { tract } else { onnxruntime }, only, why, file)
    }

    /// A model that one engine alone may run, which is remembered.
    fn alone(&self, model: Arc<dyn Model>, which: Which, why: String, file: Option<FileKey>) -> AutoModel {
        let outcome = Outcome { which, notes: vec![format!("runs on {}: {why}", which.name())], times: vec![] };
        if let Some(file) = file {
            self.settled.put(file, outcome.clone());
        }
        AutoModel::one(model, outcome)
    }
}

/// Why a model with a loop is not tried on both engines.
const LOOPS: &str = "a loop may not end on made-up inputs, so that it is not tried on both engines";

/// Whether the file has a loop whose end its inputs may decide.
fn has_loop(path: &Path) -> bool {
    onnx::read(path).is_ok_and(|facts| facts.operators.iter().any(|operator| operator.name == "Loop"))
}

fn refusal_note(cause: &LoadError) -> String {
    format!("the other engine refuses it: {cause}")
}

impl Engine for AutoEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(&self, path: &Path) -> Result<Arc<dyn Model>, LoadError> {
        self.load_on(path, &LoadTerms { choice: EngineChoice::Auto, judge: &|_| None })
    }

    fn load_on(&self, path: &Path, terms: &LoadTerms<'_>) -> Result<Arc<dyn Model>, LoadError> {
        match (terms.choice, &self.onnxruntime) {
            (EngineChoice::Auto, _) => self.auto(path, terms),
            (EngineChoice::Tract, _) => self.tract.load(path),
            (EngineChoice::OnnxRuntime, Ok(engine)) => engine.load(path),
            (EngineChoice::OnnxRuntime, Err(absent)) => Err(LoadError::EngineAbsent(absent.clone())),
        }
    }

    fn build(&self) -> String {
        let parts: Vec<String> = self.engines().iter().map(|engine| engine.build()).collect();
        parts.join(", ")
    }
}

/// Removes the temporary files of a process that was killed while it loaded a model.
pub fn remove_left_by(_process: u32) {
    #[cfg(feature = "onnxruntime")]
    super::onnxruntime::remove_left_by(_process);
}

#[cfg(feature = "onnxruntime")]
fn open_onnxruntime(library: Option<&Path>) -> Result<Arc<dyn Engine>, String> {
    if library == Some(Path::new(NO_LIBRARY)) {
        return Err(format!("ONNX Runtime is left out by --onnxruntime-library {NO_LIBRARY}"));
    }
    let opened = super::onnxruntime::OnnxRuntimeEngine::open(library);
    opened.map(|engine| Arc::new(engine) as Arc<dyn Engine>).map_err(|absent| absent.to_string())
}

#[cfg(not(feature = "onnxruntime"))]
fn open_onnxruntime(_library: Option<&Path>) -> Result<Arc<dyn Engine>, String> {
    Err("this build is without ONNX Runtime".to_owned())
}
