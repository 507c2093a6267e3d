//! The library of ONNX Runtime: opened once a process, and kept until its end.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ort::environment::Environment;
use ort::logging::LogLevel;

use super::places::{Surroundings, is_same_file};
use crate::engine::panics::caught;

/// A library that is open.
#[derive(Debug)]
pub struct Library {
    pub path: PathBuf,
    /// Such as `1.31.1`.
    pub version: String,
    pub(super) environment: Environment,
}

/// Why there is none. The text is for the operator, on one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Absent {
    #[error(
        "ONNX Runtime is not there: no libonnxruntime.so in {}. `pip install onnxruntime`, or name the library by \
         --onnxruntime-library",
        paths(.places)
    )]
    NotFound { places: Vec<PathBuf> },
    #[error("ONNX Runtime can't be used: {}", .tried.join("; "))]
    Unusable {
        /// Each library with what is wrong with it.
        tried: Vec<String>,
    },
    /// A process has one; another was asked for later.
    #[error("ONNX Runtime is open from {}, so {} can't be opened beside it", .open.display(), .asked.display())]
    Another { open: PathBuf, asked: PathBuf },
}

fn paths(places: &[PathBuf]) -> String {
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
}

static OPENED: OnceLock<Result<Library, Absent>> = OnceLock::new();

/// The process's library. The first call looks for it and opens it; later calls get what that one found.
///
/// Opening a library runs its code: the places are those of [`Surroundings`], which are the operator's own.
///
/// # Errors
/// `Absent`: no library, none that can be opened or is new enough, or another than an earlier call's.
pub fn open(configured: Option<&Path>) -> Result<&'static Library, Absent> {
    let surroundings = Surroundings::of_process(configured.map(Path::to_owned));
    let opened = OPENED.get_or_init(|| first_usable(&surroundings)).as_ref().map_err(Clone::clone)?;
    match configured {
        Some(asked) if !is_same_file(asked, &opened.path) && !opened.path.starts_with(asked) => {
            Err(Absent::Another { open: opened.path.clone(), asked: asked.to_owned() })
        }
        _ => Ok(opened),
    }
}

fn first_usable(surroundings: &Surroundings) -> Result<Library, Absent> {
    let mut tried = vec![];
    for path in surroundings.libraries() {
        match caught(|| Library::open(&path)) {
            Ok(Ok(library)) => return Ok(library),
            Ok(Err(cause)) => tried.push(cause),
            Err(panic) => tried.push(format!("{}: {panic}", path.display())),
        }
    }
    match tried.is_empty() {
        true => Err(Absent::NotFound { places: surroundings.places() }),
        false => Err(Absent::Unusable { tried }),
    }
}

impl Library {
    fn open(path: &Path) -> Result<Self, String> {
        // The crate's text names the library, and the least version where this one is too old.
        let builder = ort::init_from(path).map_err(|cause| cause.to_string())?;
        let failed = |cause: ort::Error| format!("{}: {cause}", path.display());
        let environment = builder.with_name("headgate").with_telemetry(false).with_logger(Arc::new(log)).build();
        let environment = environment.map_err(failed)?;
        environment.set_log_level(LogLevel::Warning);
        Ok(Self { path: path.to_owned(), version: version(path), environment })
    }
}

/// Its own lines: whatever matters comes back as an error of the load or the run as well.
fn log(level: LogLevel, category: &str, _: &str, place: &str, message: &str) {
    tracing::debug!(target: "headgate::onnxruntime", ?level, category, place, "{message}");
}

/// The version by the library's own build text, which begins `ORT Build Info: git-branch=rel-1.31.1,` in releases; else by
/// its file's name.
fn version(path: &Path) -> String {
    let of_text = |text: &str| {
        let from = text.find("rel-")? + 4;
        let end = text[from..].find(|letter: char| !letter.is_ascii_digit() && letter != '.')? + from;
        Some(text[from..end].trim_matches('.').to_owned()).filter(|version| version.contains('.'))
    };
    let name = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let of_name =
        name.file_name().and_then(|name| name.to_str()?.split_once(".so.").map(|(_, version)| version.to_owned()));
    of_name.or_else(|| of_text(ort::info())).unwrap_or_else(|| "of unknown version".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_library_every_place_is_told_on_one_line() {
        let surroundings = Surroundings {
            python_roots: vec!["/nowhere".into()],
            system: vec!["/nowhere/lib".into()],
            ..Surroundings::default()
        };
        let text = first_usable(&surroundings).unwrap_err().to_string();
        assert!(text.contains("/nowhere/lib/python3*/site-packages/onnxruntime/capi, /nowhere/lib."), "{text}");
        assert!(!text.contains('\n'));
    }
}
