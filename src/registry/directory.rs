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
use crate::registry::listing::{Fault, FileStamp, ListedModel, Listing, VersionFiles, version_number};
use crate::yaml::MAX_SETTINGS_BYTES;

/// A model's settings, beside its versions.
pub const YAML_FILE: &str = "model.yaml";
const PBTXT_FILE: &str = "config.pbtxt";

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
        for entry in self.entries(root, &mut listing.faults)? {
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
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn repository(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            put(dir.path(), file);
        }
        dir
    }

    fn put(root: &Path, file: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }

    fn look_at(root: &Path) -> Listing {
        look(&[root.to_owned()], &DirectoryLimits::default()).unwrap()
    }

    fn texts(faults: &[Fault]) -> Vec<String> {
        faults.iter().map(Fault::to_string).collect()
    }

    fn names(version: &VersionFiles) -> Vec<&str> {
        version.files.iter().map(|file| file.name.as_str()).collect()
    }

    #[test]
    fn models_and_versions_are_found_by_name() {
        let dir = repository(&[
            "README.md",
            "digits/1/model.onnx",
            "digits/12/model.onnx",
            "digits/12/examples/a.npz",
            "digits/12/.hidden",
            "digits/12/half.tmp",
            "digits/model.yaml",
            "digits/config.pbtxt",
            "digits/classes.txt",
            "digits/3.tmp/model.onnx",
            ".staging/1/model.onnx",
            "upload.tmp/1/model.onnx",
        ]);
        let listing = look_at(dir.path());
        assert_eq!(listing.models.keys().collect::<Vec<_>>(), ["digits"]);
        assert!(listing.faults.is_empty());
        let digits = &listing.models["digits"];
        assert_eq!(digits.versions.keys().collect::<Vec<_>>(), [&1, &12]);
        assert_eq!(names(&digits.versions[&12]), ["examples/a.npz", "model.onnx"]);
        assert_eq!(digits.versions[&1].files[0].len, "digits/1/model.onnx".len() as u64);
        assert_eq!(digits.model_yaml.as_deref(), Some(b"digits/model.yaml".as_slice()));
        assert_eq!(digits.config_pbtxt.as_deref(), Some(b"digits/config.pbtxt".as_slice()));
        assert_eq!(digits.config_files.len(), 2);
        assert!(digits.certain && digits.faults.is_empty());
    }

    #[test]
    fn folders_with_other_names_are_told() {
        let dir = repository(&["m/01/model.onnx", "m/latest/model.onnx", "m/2/model.onnx", "a@b/1/model.onnx"]);
        let listing = look_at(dir.path());
        assert_eq!(
            texts(&listing.models["m"].faults),
            ["01", "latest"].map(|name| format!(
                "folder '{name}' is not a version: expected a whole number above 0 without leading zeros"
            ))
        );
        assert_eq!(
            texts(&listing.faults),
            ["folder 'a@b' can't be a model: it holds '/', '\\', '@' or a control character"]
        );
    }

    #[test]
    fn links_inside_the_root_work_as_kubernetes_makes_them() {
        let dir = repository(&["..2024_x/m/1/model.onnx", "..2024_x/m/model.yaml"]);
        symlink("..2024_x", dir.path().join("..data")).unwrap();
        symlink("..data/m", dir.path().join("m")).unwrap();
        // A volume mounted at a version's folder.
        put(dir.path(), "n/1/..2024_y/model.onnx");
        symlink("..2024_y", dir.path().join("n/1/..data")).unwrap();
        symlink("..data/model.onnx", dir.path().join("n/1/model.onnx")).unwrap();

        let listing = look_at(dir.path());
        assert_eq!(listing.models.keys().collect::<Vec<_>>(), ["m", "n"]);
        let root = fs::canonicalize(dir.path()).unwrap();
        assert_eq!(listing.models["m"].versions[&1].path, root.join("..2024_x/m/1"));
        assert!(listing.models["m"].model_yaml.is_some());
        assert_eq!(names(&listing.models["n"].versions[&1]), ["model.onnx"]);
        assert!(listing.models.values().all(|model| model.faults.is_empty()));
    }

    #[test]
    fn links_that_lead_out_are_refused_by_name() {
        let outside = repository(&["m/1/model.onnx", "secret"]);
        let dir = repository(&["ok/1/model.onnx", "ok/2/model.onnx"]);
        symlink(outside.path().join("m"), dir.path().join("out")).unwrap();
        symlink("/nowhere", dir.path().join("dangling")).unwrap();
        symlink(outside.path().join("m/1"), dir.path().join("ok/3")).unwrap();
        symlink(outside.path().join("secret"), dir.path().join("ok/2/weights.bin")).unwrap();
        symlink(outside.path().join("secret"), dir.path().join("ok/model.yaml")).unwrap();

        let listing = look_at(dir.path());
        let refused = |name| format!("'{name}' is a symbolic link that leads out of the model repository or nowhere");
        assert_eq!(listing.models.keys().collect::<Vec<_>>(), ["ok"]);
        let mut faults = texts(&listing.faults);
        faults.sort();
        assert_eq!(faults, [refused("dangling"), refused("out")]);
        let ok = &listing.models["ok"];
        assert_eq!(ok.versions.keys().collect::<Vec<_>>(), [&1, &2]);
        let mut faults = texts(&ok.faults);
        faults.sort();
        assert_eq!(faults, [refused("3"), refused("model.yaml")]);
        assert_eq!(texts(&ok.versions[&2].faults), [refused("weights.bin")]);
    }

    #[test]
    fn a_socket_or_a_loop_is_no_file() {
        let dir = repository(&["m/1/model.onnx"]);
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("m/1/socket")).unwrap();
        symlink(".", dir.path().join("m/1/loop")).unwrap();
        let version = &look_at(dir.path()).models["m"].versions[&1];
        assert!(texts(&version.faults).contains(&"'socket' is neither a file nor a folder".to_owned()));
        assert!(texts(&version.faults).contains(&"more than 8 folders inside one another".to_owned()));
    }

    #[test]
    fn every_bound_is_told() {
        let dir = repository(&[
            "a/1/model.onnx",
            "a/1/x",
            "a/1/y",
            "a/2/model.onnx",
            "a/3/model.onnx",
            "b/1/model.onnx",
            "c/1/model.onnx",
        ]);
        let limits = DirectoryLimits { models: 2, versions_per_model: 2, files_per_version: 2, depth: 0 };
        let listing = look(&[dir.path().to_owned()], &limits).unwrap();
        assert_eq!(listing.models.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(texts(&listing.faults), ["more than 2 models"]);
        let a = &listing.models["a"];
        assert_eq!((a.versions.len(), texts(&a.faults)), (2, vec!["more than 2 versions".to_owned()]));
        assert_eq!(texts(&a.versions[&1].faults), ["more than 2 files"]);

        fs::write(dir.path().join("b/model.yaml"), vec![b' '; MAX_SETTINGS_BYTES + 1]).unwrap();
        let b = &look_at(dir.path()).models["b"];
        assert_eq!(texts(&b.faults), ["'model.yaml' has 1048577 bytes, expected at most 1048576"]);
        assert!(!b.certain);
    }

    #[test]
    fn a_model_in_two_roots_is_nobodys() {
        let dir = repository(&["one/m/1/model.onnx", "one/a/1/model.onnx", "two/m/2/model.onnx"]);
        let roots = [dir.path().join("one"), dir.path().join("two")];
        let listing = look(&roots, &DirectoryLimits::default()).unwrap();
        assert_eq!(listing.models.keys().collect::<Vec<_>>(), ["a", "m"]);
        let m = &listing.models["m"];
        assert!(m.versions.is_empty() && !m.certain);
        assert_eq!(texts(&m.faults), ["the model is in two repositories, 'one' and 'two': expected one"]);
    }

    #[test]
    fn a_root_that_cannot_be_read_is_not_an_empty_one() {
        let dir = repository(&[]);
        assert!(look_at(dir.path()).models.is_empty());
        let fault = look(&[dir.path().join("gone")], &DirectoryLimits::default()).unwrap_err();
        assert!(fault.to_string().contains("can't be read"), "{fault}");
    }
}
