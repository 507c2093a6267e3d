//! Version labels: what the file says, and what was moved through the API since.
//!
//! A label moved through the API outlives the value in the file until the file's labels change: then whoever wrote the
//! file has spoken last.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::registry::digest::Digest;

/// A label moved through the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelMove {
    /// Where to; `None` for a label that was taken away.
    pub version: Option<u64>,
    /// [`labels_digest`] of the file at the time of the move.
    pub file: Digest,
}

/// The labels in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    pub versions: BTreeMap<String, u64>,
    /// Moves that the file has overruled since, to be forgotten.
    pub overruled: Vec<String>,
}

/// A digest of the labels in a file: equal for equal labels, however the rest of the file changes.
pub fn labels_digest(file: &BTreeMap<String, u64>) -> Digest {
    let mut text = String::new();
    for (label, version) in file {
        // No label holds a control character, so that this can't be read in two ways.
        text.push_str(&format!("{label}\n{version}\n"));
    }
    Digest::of(text.as_bytes())
}

/// Lays the moves over the file's labels.
pub fn effective_labels(file: &BTreeMap<String, u64>, moves: &BTreeMap<String, LabelMove>) -> Labels {
    let now = labels_digest(file);
    let mut labels = Labels { versions: file.clone(), overruled: Vec::new() };
    for (label, moved) in moves {
        match moved.version {
            _ if moved.file != now => labels.overruled.push(label.clone()),
            Some(version) => _ = labels.versions.insert(label.clone(), version),
            None => _ = labels.versions.remove(label),
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(labels: &[(&str, u64)]) -> BTreeMap<String, u64> {
        labels.iter().map(|(label, version)| ((*label).to_owned(), *version)).collect()
    }

    #[test]
    fn a_move_counts_until_the_files_labels_change() {
        let at_the_time = file(&[("stable", 1), ("canary", 2)]);
        let moved = |version| LabelMove { version, file: labels_digest(&at_the_time) };
        let moves: BTreeMap<_, _> = [("stable".to_owned(), moved(Some(2))), ("canary".to_owned(), moved(None))].into();

        assert_eq!(
            effective_labels(&at_the_time, &moves),
            Labels { versions: file(&[("stable", 2)]), overruled: vec![] }
        );

        let changed = file(&[("stable", 3)]);
        let labels = effective_labels(&changed, &moves);
        assert_eq!(labels.versions, changed);
        assert_eq!(labels.overruled, ["canary", "stable"]);
    }

    #[test]
    fn a_label_the_file_never_had_can_be_moved() {
        let moves = [("test".to_owned(), LabelMove { version: Some(4), file: labels_digest(&file(&[])) })].into();
        assert_eq!(effective_labels(&file(&[]), &moves).versions, file(&[("test", 4)]));
    }

    #[test]
    fn the_digest_tells_labels_apart() {
        assert_ne!(labels_digest(&file(&[("a", 11)])), labels_digest(&file(&[("a1", 1)])));
        assert_ne!(labels_digest(&file(&[("a", 1)])), labels_digest(&file(&[])));
    }
}
