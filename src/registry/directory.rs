//! One look at the model repository: which models and versions lie in it, and the stamps of their files.
//!
//! The layout is Triton's, `<root>/<model>/<version>/model.onnx`. Names that begin with `.` or end in `.tmp` are passed
//! over, so that uploads can be staged beside the real thing. A symbolic link counts as what it leads to if that lies
//! inside the root (Kubernetes mounts volumes as `m -> ..data/m`, `..data -> ..2024_x`), and is refused otherwise.
//! A look reads the small files beside a model and nothing of the versions but names, lengths and times.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::inference::{name_fault, printable};
use crate::registry::listing::{Fault, FileStamp, ListedModel, Listing, MODEL_FILE, VersionFiles, version_number};
use crate::yaml::MAX_SETTINGS_BYTES;

/// A model's settings, beside its versions.
pub const YAML_FILE: &str = "model.yaml";
const PBTXT_FILE: &str = "config.pbtxt";
const MODEL_SUFFIX: &str = ".onnx";

/// Bounds on what one look takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryLimits {
    pub models: usize,
    pub versions_per_model: usize,
    pub files_per_version: usize,
    /// Folders inside one another within a version.
    pub depth: usize,
}

impl Default for DirectoryLimits {
    fn default() -> Self {
        Self { models: 10_000, versions_per_model: 1_000, files_per_version: 10_000, depth: 8 }
    }
}

/// A root that could not be read; nothing is known of what lies in it.
#[derive(Debug, thiserror::Error)]
#[error("the model repository '{}' can't be read: {cause}", root.display())]
pub struct LookError {
    pub root: PathBuf,
    pub cause: io::Error,
}

/// Looks at every root. Blocks while it reads directories.
///
/// # Errors
/// `LookError` if any root can't be read: an unreachable disk must not look like an empty one.
pub fn look(roots: &[PathBuf], limits: &DirectoryLimits) -> Result<Listing, LookError> {
    let mut listing =
        Listing { models: BTreeMap::new(), faults: Vec::new(), taken: Instant::now(), taken_wall: SystemTime::now() };
    let mut found_in: BTreeMap<String, &Path> = BTreeMap::new();
    for root in roots {
        let walker = Walker { canonical_root: fs::canonicalize(root).ok(), limits };
        for model in walker.models(root, &mut listing).map_err(|cause| LookError { root: root.clone(), cause })? {
            let name = model.name.clone();
            match found_in.get(&name) {
                None => {
                    found_in.insert(name.clone(), root);
                    listing.models.insert(name, model);
                }
                Some(first) => {
                    let fault = Fault::InTwoRoots { first: base_name(first), second: base_name(root) };
                    let unclear = ListedModel {
                        faults: vec![fault],
                        certain: false,
                        ..ListedModel::empty(name.clone(), model.path)
                    };
                    listing.models.insert(name, unclear);
                }
            }
        }
    }
    Ok(listing)
}

/// Whether a name is passed over in silence.
fn ignored(name: &str) -> bool {
    name.starts_with('.') || name.ends_with(".tmp")
}

/// The first of a folder's files that is a model by its name.
fn first_model_file(entries: &[Entry]) -> Option<&str> {
    let is_model = |entry: &&Entry| !entry.metadata.is_dir() && entry.name.ends_with(MODEL_SUFFIX);
    entries.iter().find(is_model).map(|entry| entry.name.as_str())
}

/// Where a model's first version belongs.
fn example(model: &str) -> String {
    format!("{}/1/{MODEL_FILE}", printable(model))
}

fn base_name(root: &Path) -> String {
    root.file_name().map_or_else(|| ".".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// An entry of a folder: its name, where it really is, and what it is.
struct Entry {
    name: String,
    path: PathBuf,
    metadata: Metadata,
}

struct Walker<'a> {
    /// `None` where the root has no canonical name (a container's root under /proc): then every link is refused.
    canonical_root: Option<PathBuf>,
    limits: &'a DirectoryLimits,
}

impl Walker<'_> {
    fn models(&self, root: &Path, listing: &mut Listing) -> io::Result<Vec<ListedModel>> {
        let root = self.canonical_root.as_deref().unwrap_or(root);
        let mut models = Vec::new();
        let entries = self.entries(root, &mut listing.faults)?;
        if let Some(name) = first_model_file(&entries) {
            let model = name.trim_end_matches(MODEL_SUFFIX);
            listing.faults.push(Fault::NoVersion { name: printable(name), example: example(model) });
        }
        for entry in entries {
            if !entry.metadata.is_dir() {
                continue;
            }
            if let Some(reason) = name_fault(&entry.name) {
                listing.faults.push(Fault::BadModelName { name: printable(&entry.name), reason });
            } else if models.len() == self.limits.models {
                listing.faults.push(Fault::TooMany { what: "models", limit: self.limits.models });
                break;
            } else {
                models.push(self.model(entry));
            }
        }
        Ok(models)
    }

    fn model(&self, folder: Entry) -> ListedModel {
        let mut model = ListedModel::empty(folder.name, folder.path);
        let entries = match self.entries(&model.path, &mut model.faults) {
            Ok(entries) => entries,
            Err(cause) => {
                model.faults.push(Fault::Unreadable { name: model.name.clone(), cause: cause.to_string() });
                model.certain = false;
                return model;
            }
        };
        // A settings file that is refused must not be taken for one that is absent.
        model.certain = !model.faults.iter().any(|fault| match fault {
            Fault::Unreadable { .. } => true,
            Fault::BadLink { name } | Fault::Special { name } => [YAML_FILE, PBTXT_FILE].contains(&name.as_str()),
            _ => false,
        });
        let misplaced = first_model_file(&entries).map(printable);
        for entry in entries {
            match entry.name.as_str() {
                YAML_FILE => model.model_yaml = self.small_file(&entry, &mut model),
                PBTXT_FILE => model.config_pbtxt = self.small_file(&entry, &mut model),
                // Labels, notes and whatever else people keep beside their versions.
                _ if !entry.metadata.is_dir() => {}
                name => match version_number(name) {
                    None => model.faults.push(Fault::BadVersionName { name: printable(name) }),
                    Some(_) if model.versions.len() == self.limits.versions_per_model => {
                        let limit = self.limits.versions_per_model;
                        let fault = Fault::TooMany { what: "versions", limit };
                        if model.faults.last() != Some(&fault) {
                            model.faults.push(fault);
                        }
                    }
                    Some(number) => _ = model.versions.insert(number, self.version(entry.path)),
                },
            }
        }
        // Beside versions it may be anything.
        if let Some(name) = misplaced.filter(|_| model.versions.is_empty()) {
            let example = example(&model.name);
            model.faults.push(Fault::NoVersion { name: format!("{}/{name}", model.name), example });
        }
        model
    }

    fn version(&self, path: PathBuf) -> VersionFiles {
        let mut version = VersionFiles { path: path.clone(), files: Vec::new(), faults: Vec::new() };
        self.files(&path, "", 0, &mut version);
        version.files.sort_by(|a, b| a.name.cmp(&b.name));
        version
    }

    fn files(&self, folder: &Path, prefix: &str, depth: usize, version: &mut VersionFiles) {
        let entries = match self.entries(folder, &mut version.faults) {
            Ok(entries) => entries,
            Err(cause) => {
                let name = if prefix.is_empty() { "." } else { prefix.trim_end_matches('/') };
                return version.faults.push(Fault::Unreadable { name: name.to_owned(), cause: cause.to_string() });
            }
        };
        for entry in entries {
            let name = format!("{prefix}{}", entry.name);
            if entry.metadata.is_dir() {
                if depth == self.limits.depth {
                    version
                        .faults
                        .push(Fault::TooMany { what: "folders inside one another", limit: self.limits.depth });
                    return;
                }
                self.files(&entry.path, &format!("{name}/"), depth + 1, version);
            } else if version.files.len() == self.limits.files_per_version {
                version.faults.push(Fault::TooMany { what: "files", limit: self.limits.files_per_version });
                return;
            } else {
                version.files.push(stamp(name, &entry.metadata));
            }
        }
    }

    /// The entries of a folder that are not passed over, links followed, in the order of their names. What can't be
    /// taken becomes a fault; an entry that vanishes meanwhile is none.
    fn entries(&self, folder: &Path, faults: &mut Vec<Fault>) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = match entry.file_name().into_string() {
                Ok(name) if ignored(&name) => continue,
                Ok(name) => name,
                Err(name) => {
                    let name = printable(&name.to_string_lossy());
                    faults.push(Fault::Unreadable { name, cause: "its name is not UTF-8".to_owned() });
                    continue;
                }
            };
            match self.resolve(&entry.path(), &name) {
                Ok(Some((path, metadata))) => entries.push(Entry { name, path, metadata }),
                Ok(None) => {}
                Err(fault) => faults.push(fault),
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Where an entry really is. `None` if it is there no longer.
    fn resolve(&self, path: &Path, name: &str) -> Result<Option<(PathBuf, Metadata)>, Fault> {
        let unreadable = |cause: io::Error| Fault::Unreadable { name: printable(name), cause: cause.to_string() };
        let metadata = match fs::symlink_metadata(path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(unreadable)?,
        };
        let (path, metadata) = if metadata.is_symlink() {
            let target = fs::canonicalize(path).ok().zip(self.canonical_root.as_ref());
            let Some((target, _)) = target.filter(|(target, root)| target.starts_with(root)) else {
                return Err(Fault::BadLink { name: printable(name) });
            };
            let metadata = fs::symlink_metadata(&target).map_err(unreadable)?;
            (target, metadata)
        } else {
            (path.to_owned(), metadata)
        };
        // Opening a pipe or a device could block for ever.
        if metadata.is_dir() || metadata.is_file() {
            Ok(Some((path, metadata)))
        } else {
            Err(Fault::Special { name: printable(name) })
        }
    }

    /// Reads a settings file beside a model.
    fn small_file(&self, entry: &Entry, model: &mut ListedModel) -> Option<Vec<u8>> {
        let name = entry.name.clone();
        model.config_files.push(stamp(name.clone(), &entry.metadata));
        let (got, limit) = (entry.metadata.len(), MAX_SETTINGS_BYTES as u64);
        if got > limit {
            model.faults.push(Fault::TooLong { name, got, limit });
            model.certain = false;
            return None;
        }
        match fs::read(&entry.path) {
            Ok(bytes) => Some(bytes),
            Err(cause) => {
                model.faults.push(Fault::Unreadable { name, cause: cause.to_string() });
                model.certain = false;
                None
            }
        }
    }
}

fn stamp(name: String, metadata: &Metadata) -> FileStamp {
    // Every platform we build for keeps a modification time; without one, the length alone must do.
    let mtime = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
    let ctime = SystemTime::UNIX_EPOCH + Duration::new(seconds, metadata.ctime_nsec() as u32);
    FileStamp { name, len: metadata.len(), mtime, ctime }
}

#[cfg(test)]
mod tests;
