//! Weights that lie beside the model file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path};

use tract_onnx::pb::{GraphProto, ModelProto, TensorProto};

use crate::engine::LoadError;
use crate::engine::onnx::graphs;

/// Checks that every file of weights that a model names is there and inside `directory`, wherever its links lead. The
/// engines hold to the same rule when they read them; here it is told without local paths.
///
/// # Errors
/// `Invalid`, naming the tensor and the location as the file gives it.
pub fn check(proto: &ModelProto, directory: &Path) -> Result<(), LoadError> {
    for tensor in proto.graph.iter().flat_map(graphs).flat_map(tensors) {
        if let Some(location) = location(tensor)
            && let Err(reason) = check_location(directory, location)
        {
            let text = format!("the weights '{}' lie in '{location}', {reason}", tensor.name);
            return Err(LoadError::Invalid(text));
        }
    }
    Ok(())
}

/// Whether any weights lie beside the file.
#[cfg(feature = "onnxruntime")]
pub fn has_any(proto: &ModelProto) -> bool {
    proto.graph.iter().flat_map(graphs).flat_map(tensors).any(|tensor| location(tensor).is_some())
}

/// Bytes of all files of weights beside the model, each counted once; one that can't be looked at counts nothing.
pub fn bytes(proto: &ModelProto, directory: &Path) -> u64 {
    let tensors = proto.graph.iter().flat_map(graphs).flat_map(tensors);
    let locations: BTreeSet<&str> = tensors.filter_map(location).collect();
    let size = |location: &&str| fs::metadata(directory.join(location)).map_or(0, |metadata| metadata.len());
    locations.iter().map(size).fold(0, u64::saturating_add)
}

/// A cause in an engine's words without the folder that it may name.
pub fn without_folder(cause: String, directory: &Path) -> String {
    match directory.canonicalize() {
        Ok(folder) if folder.parent().is_some() => cause.replace(&*folder.to_string_lossy(), "<folder>"),
        _ => cause,
    }
}

fn tensors(graph: &GraphProto) -> impl Iterator<Item = &TensorProto> {
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    graph.initializer.iter().chain(attributes.flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors)))
}

fn location(tensor: &TensorProto) -> Option<&str> {
    tensor.external_data.iter().find(|entry| entry.key == "location").map(|entry| entry.value.as_str())
}

fn check_location(directory: &Path, location: &str) -> Result<(), &'static str> {
    const OUTSIDE: &str = "which is outside the version's folder";
    let inside = |component: Component| matches!(component, Component::Normal(_) | Component::CurDir);
    if location.is_empty() || !Path::new(location).components().all(inside) {
        return Err(OUTSIDE);
    }
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let folder = directory.canonicalize().map_err(|_| "whose folder can't be read")?;
    let file = folder.join(location).canonicalize().map_err(|_| "which is not there")?;
    if !file.starts_with(&folder) {
        return Err(OUTSIDE);
    }
    if file.is_file() { Ok(()) } else { Err("which is not a file") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    use tract_onnx::pb::StringStringEntryProto;

    fn model(location: &str) -> ModelProto {
        let entry = StringStringEntryProto { key: "location".into(), value: location.into() };
        let tensor = TensorProto { name: "w".into(), external_data: vec![entry], ..Default::default() };
        ModelProto { graph: Some(GraphProto { initializer: vec![tensor], ..Default::default() }), ..Default::default() }
    }

    #[test]
    fn weights_stay_inside_the_folder_wherever_links_lead() {
        let root = std::env::temp_dir().join(format!("headgate-external-{}", std::process::id()));
        let folder = root.join("version");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("w.bin"), b"inside").unwrap();
        fs::write(root.join("secret.bin"), b"outside").unwrap();
        symlink("w.bin", folder.join("link.bin")).unwrap();
        symlink("../secret.bin", folder.join("out.bin")).unwrap();
        for inside in ["w.bin", "./w.bin", "link.bin"] {
            assert_eq!(check(&model(inside), &folder), Ok(()), "{inside}");
        }
        let absolute = root.join("secret.bin");
        for outside in ["../secret.bin", "out.bin", absolute.to_str().unwrap(), ""] {
            let text = check(&model(outside), &folder).unwrap_err().to_string();
            assert!(text.contains("outside the version's folder"), "{text}");
        }
        let text = check(&model("gone.bin"), &folder).unwrap_err().to_string();
        assert_eq!(text, "not a valid ONNX model: the weights 'w' lie in 'gone.bin', which is not there");
        fs::remove_dir_all(root).unwrap();
    }
}
