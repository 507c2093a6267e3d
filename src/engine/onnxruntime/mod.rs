//! ONNX Runtime as an engine: its library, opened where there is one.
//!
//! Nothing of it is linked, built or fetched. What must not be forgotten when this is changed: a session of the library
//! runs one run at a time, so a model has as many as it has had runs at a time; the weights are held once for all of them
//! ([`recipe`]); a session has no thread of its own; and the library keeps freed memory unless it is told to give it back.

mod convert;
mod folder;
mod library;
mod memory;
mod model;
mod places;
mod prepare;
mod recipe;
mod sessions;
mod stoppable;
#[cfg(test)]
mod tests;
mod weights;

use std::path::Path;
use std::sync::Arc;

use prost::Message;

pub use self::folder::remove_left_by;
pub use self::library::{Absent, Library, open};
use self::model::OrtModel;
use self::prepare::{Found, prepare};
use self::recipe::{Source, is_worth_sharing};
use super::{Engine, LoadError, Model, clean_up, external, onnx};
use crate::engine::panics::caught;
use crate::signature::TensorSpec;

/// The engine's name in metadata, logs and errors.
pub const NAME: &str = "onnxruntime";

/// Loads ONNX files with ONNX Runtime.
pub struct OnnxRuntimeEngine {
    library: &'static Library,
}

impl OnnxRuntimeEngine {
    /// Opens the library, or takes the one that is open already. `configured` is the library or its folder; without it the
    /// usual places are looked at.
    ///
    /// # Errors
    /// `Absent`, on one line that says which places were looked at.
    pub fn open(configured: Option<&Path>) -> Result<Self, Absent> {
        Ok(Self { library: open(configured)? })
    }

    pub fn library(&self) -> &'static Library {
        self.library
    }

    fn prepared(&self, path: &Path) -> Result<OrtModel, LoadError> {
        let mut proto = onnx::read_proto(path)?;
        let facts = onnx::facts(&proto);
        let folder = path.parent().unwrap_or(Path::new(""));
        external::check(&proto, folder)?;
        let specs = |declared: &[onnx::Declared]| -> Result<Vec<TensorSpec>, LoadError> {
            declared.iter().map(|each| each.spec(NAME)).collect()
        };
        let (inputs, outputs) = (specs(&facts.inputs)?, specs(&facts.outputs)?);
        let has_external = external::has_any(&proto);
        let share = is_worth_sharing(path, has_external);
        let unreadable = |cause: std::io::Error| LoadError::Unreadable(cause.kind().to_string());
        // Only a graph that had to be changed is written anew: the reader here knows less of ONNX than the library.
        let source = match clean_up::apply_for_serving(&mut proto) {
            true => Source::Changed(proto.encode_to_vec().into(), folder.to_owned()),
            false if share => Source::File(path.to_owned()),
            false => Source::Bytes(std::fs::read(path).map_err(unreadable)?.into()),
        };
        drop(proto);
        let file_bytes = std::fs::metadata(path).map_err(unreadable)?.len();
        let found = Found { source, inputs, outputs, file_bytes, share };
        let prepared = caught(|| prepare(self.library, found)).unwrap_or_else(|text| {
            tracing::warn!(panic = %text, "the onnxruntime engine panicked while it read a model");
            let cause = "it panicked while reading the graph; the log holds the panic's text".to_owned();
            Err(LoadError::Unsupported { engine: NAME, cause })
        });
        prepared.map_err(|error| match error {
            LoadError::Unsupported { engine, cause } => {
                LoadError::Unsupported { engine, cause: external::without_folder(cause, folder) }
            }
            other => other,
        })
    }
}

impl Engine for OnnxRuntimeEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(&self, path: &Path) -> Result<Arc<dyn Model>, LoadError> {
        Ok(Arc::new(self.prepared(path)?))
    }

    fn build(&self) -> String {
        format!("{NAME} {}", self.library.version)
    }
}
