//! Reads the files beside a model into its settings: model.yaml over config.pbtxt, and files of class names.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::registry::config_pbtxt::{self, PbtxtError};
use crate::registry::listing::ListedModel;
use crate::registry::model_config::{MAX_CLASSES, ModelFile, ModelSettings};
use crate::registry::model_yaml;
use crate::yaml::SettingsError;

/// Longest file of class names that is read, in bytes.
pub const MAX_LABEL_FILE_BYTES: u64 = 32 << 20;

/// Why the files beside a model don't give settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelFilesError {
    #[error("model.yaml: {0}")]
    Yaml(SettingsError),
    #[error("config.pbtxt: {0}")]
    Pbtxt(PbtxtError),
    #[error("config.pbtxt: label_filename '{file}' of output '{output}': {reason}")]
    LabelFile { output: String, file: String, reason: LabelFileError },
    #[error("dynamic_batching.preferred_batch_size expects at most max_batch_size, which is {max}, got {preferred}")]
    Preferred { preferred: u32, max: u32 },
}

/// Why a file of class names is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelFileError {
    #[error("expected a file inside the model's folder")]
    Outside,
    #[error("it can't be read: {0}")]
    Unreadable(String),
    #[error("expected UTF-8 text of at most {MAX_LABEL_FILE_BYTES} bytes and {MAX_CLASSES} lines")]
    NotLabels,
}

/// The settings of a listed model. Blocks to read files of class names, where config.pbtxt names any.
///
/// # Errors
/// The first fault, with the file that it is in.
pub fn settings(model: &ListedModel) -> Result<ModelSettings, ModelFilesError> {
    let parse_yaml = |bytes: &Vec<u8>| model_yaml::parse(bytes).map_err(ModelFilesError::Yaml);
    let parse_pbtxt = |bytes: &Vec<u8>| config_pbtxt::parse(&model.name, bytes).map_err(ModelFilesError::Pbtxt);
    let yaml = model.model_yaml.as_ref().map(parse_yaml).transpose()?.unwrap_or_default();
    let pbtxt = model.config_pbtxt.as_ref().map(parse_pbtxt).transpose()?.unwrap_or_default();
    let mut file: ModelFile = yaml.over(pbtxt);
    for (output, name) in std::mem::take(&mut file.label_files) {
        match read_label_file(&model.path, &name) {
            Ok(names) => _ = file.class_labels.insert(output, names),
            Err(reason) => return Err(ModelFilesError::LabelFile { output, file: name, reason }),
        }
    }
    check_sizes(&file)?;
    Ok(file.settings())
}

/// A batch can't be larger than a request may be.
fn check_sizes(file: &ModelFile) -> Result<(), ModelFilesError> {
    let preferred = file.batching.iter().flat_map(|batching| batching.preferred_batch_size.iter().copied()).max();
    match (preferred, file.max_batch_size.filter(|&max| max > 0)) {
        (Some(preferred), Some(max)) if preferred > max => Err(ModelFilesError::Preferred { preferred, max }),
        _ => Ok(()),
    }
}

/// Class names, one a line: line k is class k.
fn read_label_file(folder: &Path, name: &str) -> Result<Vec<String>, LabelFileError> {
    let unreadable = |cause: std::io::Error| LabelFileError::Unreadable(cause.to_string());
    let folder = fs::canonicalize(folder).map_err(unreadable)?;
    let path = fs::canonicalize(folder.join(name)).map_err(unreadable)?;
    if !path.starts_with(&folder) {
        return Err(LabelFileError::Outside);
    }
    if !fs::metadata(&path).map_err(unreadable)?.is_file() {
        return Err(LabelFileError::NotLabels);
    }
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(MAX_LABEL_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| LabelFileError::NotLabels)?;
    let names: Vec<String> = text.lines().map(str::to_owned).collect();
    if text.len() as u64 > MAX_LABEL_FILE_BYTES || names.len() > MAX_CLASSES {
        return Err(LabelFileError::NotLabels);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::directory::{DirectoryLimits, look};

    fn settings_with(files: &[(&str, &str)]) -> Result<ModelSettings, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("repository/m")).unwrap();
        fs::write(dir.path().join("repository/secret.txt"), "secret").unwrap();
        for (name, contents) in files {
            fs::write(dir.path().join("repository/m").join(name), contents).unwrap();
        }
        let listing = look(&[dir.path().join("repository")], &DirectoryLimits::default()).unwrap();
        settings(&listing.models["m"]).map_err(|fault| fault.to_string())
    }

    #[test]
    fn both_files_and_class_names() {
        let pbtxt = r#"max_batch_size: 4 output [ { name: "p" label_filename: "classes.txt" } ]"#;
        let settings = settings_with(&[
            ("config.pbtxt", pbtxt),
            ("model.yaml", "max_batch_size: 2\nclass_labels: {q: [a, b]}"),
            ("classes.txt", "zero\r\none\n"),
        ])
        .unwrap();
        assert_eq!(settings.max_batch_size, Some(2));
        assert_eq!(settings.class_labels["p"], ["zero", "one"]);
        assert_eq!(settings.class_labels["q"], ["a", "b"]);
        assert_eq!(settings_with(&[]).unwrap(), ModelSettings::default());
    }

    #[test]
    fn faults_name_their_file() {
        assert_eq!(
            settings_with(&[("model.yaml", "maxbatch_size: 2")]).unwrap_err(),
            "model.yaml: unknown key 'maxbatch_size', did you mean 'max_batch_size'?"
        );
        assert_eq!(
            settings_with(&[("config.pbtxt", "platform: \"x\"")]).unwrap_err(),
            "config.pbtxt: platform: expected onnxruntime_onnx or tract_onnx, got 'x'"
        );
        let label_file = |name: &str| {
            let pbtxt = format!(r#"output [ {{ name: "p" label_filename: "{name}" }} ]"#);
            settings_with(&[("config.pbtxt", &pbtxt)]).unwrap_err()
        };
        let prefix = |name| format!("config.pbtxt: label_filename '{name}' of output 'p': ");
        for name in ["../secret.txt", "/etc/hostname"] {
            assert_eq!(label_file(name), prefix(name) + "expected a file inside the model's folder");
        }
        assert!(label_file("gone.txt").starts_with(&(prefix("gone.txt") + "it can't be read: ")));
    }
}
