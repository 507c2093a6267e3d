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
fn models_without_a_version_are_told_where_they_belong() {
    let dir = repository(&["iris.onnx", "foo/model.onnx", "bar/1/model.onnx", "bar/notes.onnx"]);
    let listing = look_at(dir.path());
    let told = |name, model| {
        format!(
            "'{name}' lies in no version's folder: expected <root>/<model>/<version>/model.onnx, such as {model}/1/model.onnx"
        )
    };
    assert_eq!(texts(&listing.faults), [told("iris.onnx", "iris")]);
    assert_eq!(texts(&listing.models["foo"].faults), [told("foo/model.onnx", "foo")]);
    assert!(listing.models["bar"].faults.is_empty());
    // The folder of a model in place of the repository's, and that of a version.
    assert_eq!(texts(&look_at(&dir.path().join("bar")).models["1"].faults), [told("1/model.onnx", "1")]);
    assert_eq!(texts(&look_at(&dir.path().join("bar/1")).faults), [told("model.onnx", "model")]);
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
