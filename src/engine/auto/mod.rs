//! `engine: auto`: each model on the engine that can run it, and on the faster one where both can.
//!
//! A model that tract refuses goes to ONNX Runtime by itself, one that ONNX Runtime refuses stays on tract. Where both load
//! it they must agree on made-up inputs, and give what was recorded with the model; then each batch size runs where it is
//! faster, measured while the server serves ([`choice_policy`]).

mod agreement;
mod choice_policy;
mod measure;
mod model;
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
use super::tract::TractEngine;
use super::{Engine, EngineChoice, LoadError, LoadTerms, Model};

/// The engine's name, where no model is meant.
pub const NAME: &str = "auto";

/// Both engines, as far as they are there.
pub struct AutoEngine {
    tract: Arc<dyn Engine>,
    /// Or why it is not there, on one line.
    onnxruntime: Result<Arc<dyn Engine>, String>,
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
        Self { tract, onnxruntime }
    }

    /// Why there is no ONNX Runtime; `None` where there is.
    pub fn onnxruntime_absent(&self) -> Option<&str> {
        self.onnxruntime.as_ref().err().map(String::as_str)
    }

    /// Each engine that is there.
    pub fn engines(&self) -> Vec<Arc<dyn Engine>> {
        [Some(&self.tract), self.onnxruntime.as_ref().ok()].into_iter().flatten().cloned().collect()
    }

    fn auto(&self, path: &Path, terms: &LoadTerms<'_>) -> Result<Arc<dyn Model>, LoadError> {
        let by_tract = self.tract.load(path);
        if let Err(error @ (LoadError::Unreadable(_) | LoadError::Invalid(_))) = by_tract {
            return Err(error);
        }
        let by_onnxruntime = match &self.onnxruntime {
            Ok(engine) => engine.load(path),
            Err(absent) => {
                return by_tract
                    .map_err(|refusal| LoadError::NoEngine { tract: Box::new(refusal), onnxruntime: absent.clone() });
            }
        };
        match (by_tract, by_onnxruntime) {
            (Ok(tract), Ok(onnxruntime)) => Ok(Arc::new(self.settle(tract, onnxruntime, terms))),
            (Ok(tract), Err(cause)) => {
                let note = format!("runs on tract, as the other engine refuses it: {cause}");
                Ok(Arc::new(AutoModel::one(tract, Which::Tract, note)))
            }
            (Err(cause), Ok(onnxruntime)) => {
                let note = format!("runs on onnxruntime, as the other engine refuses it: {cause}");
                Ok(Arc::new(AutoModel::one(onnxruntime, Which::OnnxRuntime, note)))
            }
            (Err(tract), Err(onnxruntime)) => {
                Err(LoadError::NoEngine { tract: Box::new(tract), onnxruntime: onnxruntime.to_string() })
            }
        }
    }

    /// Who answers, where both can.
    fn settle(&self, tract: Arc<dyn Model>, onnxruntime: Arc<dyn Model>, terms: &LoadTerms<'_>) -> AutoModel {
        let agreement = compare(&tract, &onnxruntime);
        let agree = match &agreement {
            Agreement::Agree => Some(true),
            Agreement::Differ(_) => Some(false),
            Agreement::Unknown => None,
        };
        let only = match verdict(agree, (terms.judge)(&tract), (terms.judge)(&onnxruntime)) {
            Verdict::Both => return AutoModel::both(tract, onnxruntime),
            Verdict::Only(only) => only,
        };
        let why = match agreement {
            Agreement::Agree => "the other engine does not give what was recorded with the model".to_owned(),
            Agreement::Differ(difference) => format!("the engines differ: {difference}"),
            Agreement::Unknown => "the engines could not be compared on made-up inputs".to_owned(),
        };
        let note = format!("runs on {}: {why}", only.name());
        tracing::warn!("{note}");
        AutoModel::one(if only == Which::Tract { tract } else { onnxruntime }, only, note)
    }
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
