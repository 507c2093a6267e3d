//! Where a library of ONNX Runtime may lie.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// What names the places. Taken from the process by [`Surroundings::of_process`]; a value of its own for tests.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `--onnxruntime-library`: the library or its folder, and then the only place.
    pub configured: Option<PathBuf>,
    /// `ORT_DYLIB_PATH`, as other programs read it; then the only place.
    pub dylib_path: Option<PathBuf>,
    /// Folders with `lib/python3*/site-packages` or `dist-packages` below: virtual environments, the system, the user.
    pub python_roots: Vec<PathBuf>,
    /// Folders of the system's own libraries.
    pub system: Vec<PathBuf>,
}

impl Surroundings {
    pub fn of_process(configured: Option<PathBuf>) -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let environments = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(variable);
        let user = variable("HOME").map(|home| home.join(".local"));
        let python_roots = environments.chain(["/usr/local".into(), "/usr".into()]).chain(user).collect();
        let architecture = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        let system = ["/usr/local/lib".into(), architecture.into(), "/usr/lib64".into(), "/usr/lib".into()].into();
        Self { configured, dylib_path: variable("ORT_DYLIB_PATH"), python_roots, system }
    }

    /// Every place, the first to be tried first, as it is told to an operator.
    pub fn places(&self) -> Vec<PathBuf> {
        if let Some(only) = self.configured.as_ref().or(self.dylib_path.as_ref()) {
            return vec![only.clone()];
        }
        let packages = self.python_roots.iter().flat_map(|root| packages(root));
        packages.chain(self.system.iter().cloned()).collect()
    }

    /// The libraries that are there, the first to be tried first. Reads folders, opens no file.
    pub fn libraries(&self) -> Vec<PathBuf> {
        self.places().iter().flat_map(|place| libraries_at(place)).collect()
    }
}

/// Folders of the package `onnxruntime` below a root, of the newest Python first. Where there is none, one pattern in its
/// place, so that it can be told.
fn packages(root: &Path) -> Vec<PathBuf> {
    let mut found: Vec<(Vec<u64>, PathBuf)> = vec![];
    for python in names(&root.join("lib")).filter(|name| name.starts_with("python3")) {
        for folder in ["site-packages", "dist-packages"] {
            let package = root.join("lib").join(&python).join(folder).join("onnxruntime/capi");
            if package.is_dir() {
                found.push((numbers(&python), package));
            }
        }
    }
    if found.is_empty() {
        return vec![root.join("lib/python3*/site-packages/onnxruntime/capi")];
    }
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, package)| package).collect()
}

/// The place itself if it is a file, else the libraries in the folder, the newest first.
fn libraries_at(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let mut found: Vec<(Vec<u64>, String)> = names(place)
        .filter(|name| {
            name.strip_prefix("libonnxruntime.so").is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
        .map(|name| (numbers(&name), name))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, name)| place.join(name)).collect()
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str().map(str::to_owned))
}

/// The numbers in a name, such as 1, 31 and 1 in `libonnxruntime.so.1.31.1`.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|letter: char| !letter.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Whether two names of files mean one file.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    real(one).is_some_and(|one| real(other) == Some(one)) || one.as_os_str() == OsStr::new(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for python in ["python3.9", "python3.12"] {
            let package = root.path().join("lib").join(python).join("site-packages/onnxruntime/capi");
            fs::create_dir_all(&package).unwrap();
            for name in ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.31.1", "libonnxruntime_providers_shared.so"] {
                fs::write(package.join(name), b"").unwrap();
            }
        }
        root
    }

    #[test]
    fn the_package_of_the_newest_python_and_in_it_the_newest_library_comes_first() {
        let root = root();
        let surroundings = Surroundings { python_roots: vec![root.path().to_owned()], ..Surroundings::default() };
        let found = surroundings.libraries();
        let names: Vec<_> =
            found.iter().map(|path| path.strip_prefix(root.path()).unwrap().display().to_string()).collect();
        let of = |python: &str, version: &str| {
            format!("lib/{python}/site-packages/onnxruntime/capi/libonnxruntime.so.{version}")
        };
        let expected =
            [("python3.12", "1.31.1"), ("python3.12", "1.9.0"), ("python3.9", "1.31.1"), ("python3.9", "1.9.0")];
        assert_eq!(names, expected.map(|(python, version)| of(python, version)));
    }

    #[test]
    fn what_is_configured_is_the_only_place_be_it_a_file_or_a_folder() {
        let root = root();
        let folder = root.path().join("lib/python3.9/site-packages/onnxruntime/capi");
        let file = folder.join("libonnxruntime.so.1.9.0");
        let elsewhere = vec![root.path().to_owned()];
        let with = |configured: &Path| Surroundings {
            configured: Some(configured.to_owned()),
            dylib_path: Some("/elsewhere".into()),
            python_roots: elsewhere.clone(),
            ..Surroundings::default()
        };
        assert_eq!(with(&file).libraries(), std::slice::from_ref(&file));
        assert_eq!(with(&folder).libraries()[0], folder.join("libonnxruntime.so.1.31.1"));
        assert!(with(Path::new("/nowhere")).libraries().is_empty());
        assert_eq!(with(Path::new("/nowhere")).places(), [PathBuf::from("/nowhere")]);
    }

    #[test]
    fn a_root_without_the_package_is_told_as_a_pattern() {
        let surroundings = Surroundings { python_roots: vec!["/nowhere".into()], ..Surroundings::default() };
        assert_eq!(surroundings.places(), [PathBuf::from("/nowhere/lib/python3*/site-packages/onnxruntime/capi")]);
        assert!(surroundings.libraries().is_empty());
    }
}
