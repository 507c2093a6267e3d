//! How a session of one model is made, as often as one is needed.
//!
//! ONNX Runtime's `Run` is safe for one thread at a time only (so says the crate that binds it), so sessions that run
//! together are sessions of their own, and would each hold the weights. They hold them once by this way: the first session
//! writes the graph as it has optimised it into a folder of our own, with the weights in a file beside; these are read once
//! and lent to every session that is then made of that graph, together with one store for the forms into which kernels
//! repack them. As nothing is left to optimise, such a session takes a few milliseconds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ort::ep::CPU;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, PrepackedWeights, SessionBuilder};

use super::folder::Folder;
use super::library::Library;
use super::weights::{self, Weights};

/// Weights of fewer bytes are not worth a file of their own: every session reads the file again.
pub const MIN_SHARED_BYTES: u64 = 1 << 20;

/// Where the graph is read from.
#[derive(Clone)]
pub enum Source {
    /// The file as it is.
    File(PathBuf),
    /// A file's bytes, which need no other file.
    Bytes(Arc<[u8]>),
    /// A graph that was changed, whose weights may lie in the folder.
    Changed(Arc<[u8]>, PathBuf),
}

/// Makes sessions of one model.
pub struct Recipe {
    library: &'static Library,
    source: Source,
    /// `None`: every session has its own.
    weights: Option<Shared>,
}

struct Shared {
    weights: Weights,
    packed: PrepackedWeights,
    /// Holds the graph that `source` names, for as long as sessions may be made.
    _folder: Folder,
}

impl Recipe {
    /// Sessions that each hold all of it.
    pub fn plain(library: &'static Library, source: Source) -> Self {
        Self { library, source, weights: None }
    }

    /// Sessions that share their weights, with a first session made the plain way. `None` in place of the recipe where the
    /// optimised graph can't be written or read back, as on a full disk or with an old library.
    ///
    /// # Errors
    /// The library's, when it refuses the graph.
    pub fn sharing(library: &'static Library, source: Source) -> ort::Result<(Session, Option<Self>)> {
        let plain = Self::plain(library, source);
        let Ok(folder) = Folder::new() else { return Ok((plain.session()?, None)) };
        let saving = plain
            .options()?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_optimized_model_path(folder.graph())?
            .with_config_entry("session.optimized_model_external_initializers_file_name", weights::FILE)?
            .with_config_entry(
                "session.optimized_model_external_initializers_min_size_in_bytes",
                weights::MIN_BYTES.to_string(),
            )?;
        let Ok(first) = plain.commit(saving) else { return Ok((plain.session()?, None)) };
        let shared = Weights::take(&folder).inspect_err(|cause| {
            tracing::debug!(%cause, "each session holds the weights");
        });
        let recipe = shared.ok().map(|weights| Self {
            library,
            source: Source::File(folder.graph()),
            weights: Some(Shared { weights, packed: PrepackedWeights::new(), _folder: folder }),
        });
        Ok((first, recipe))
    }

    /// A session. Blocks while the graph is read and, without shared weights, optimised.
    ///
    /// # Errors
    /// The library's.
    pub fn session(&self) -> ort::Result<Session> {
        let options = self.options()?;
        let Some(Shared { weights, packed, .. }) = &self.weights else {
            return self.commit(options.with_optimization_level(GraphOptimizationLevel::All)?);
        };
        let mut options =
            options.with_optimization_level(GraphOptimizationLevel::Disable)?.with_prepacked_weights(packed)?;
        for (name, value) in &weights.values {
            options = options.with_initializer(name, value.clone())?;
        }
        self.commit(options)
    }

    /// Bytes of the weights that its sessions share.
    pub fn shared_bytes(&self) -> u64 {
        self.weights.as_ref().map_or(0, |shared| shared.weights.bytes)
    }

    /// One thread, which is the caller's: the gateway's workers are the cores' only users. No arena, so that memory comes
    /// back when a model goes, and one run's peak is not held.
    fn options(&self) -> ort::Result<SessionBuilder> {
        let options = Session::builder(&self.library.environment)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .with_memory_pattern(false)?
            .with_log_level(LogLevel::Warning)?
            .with_execution_providers([CPU::default().with_arena_allocator(false).build()])?;
        Ok(options)
    }

    fn commit(&self, mut options: SessionBuilder) -> ort::Result<Session> {
        match &self.source {
            Source::File(path) => options.commit_from_file(path),
            Source::Bytes(bytes) => options.commit_from_memory(bytes),
            Source::Changed(bytes, folder) => {
                let folder = folder.to_string_lossy();
                let mut options =
                    options.with_config_entry("session.model_external_initializers_file_folder_path", &folder)?;
                options.commit_from_memory(bytes)
            }
        }
    }
}

/// Whether the weights in a file, or those beside it, are worth holding once for all sessions.
pub fn is_worth_sharing(path: &Path, has_external: bool) -> bool {
    has_external || std::fs::metadata(path).is_ok_and(|file| file.len() >= MIN_SHARED_BYTES)
}
